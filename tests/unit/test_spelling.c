/* proto/spelling: distances worked out by hand. */
#include "proto/spelling.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

static const struct {
    const char *name, *typed;
    size_t distance;
} ROWS[] = {
    {"kernel", "kernel", 0}, {"kernel", "kernal", 1}, {"kernel", "kerne", 1}, {"kernel", "kkernel", 1},
    {"lanes", "alens", 3},   {"", "abc", 3},          {"abc", "", 3},         {"sitting", "kitten", 3},
};

START_TEST(a_distance_is_the_fewest_edits)
{
    ck_assert_uint_eq(fc_spelling_distance(ROWS[_i].name, ROWS[_i].typed), ROWS[_i].distance);
}
END_TEST

START_TEST(what_is_too_long_is_no_slip)
{
    char typed[65];
    for (size_t i = 0; i < 64; i++)
        typed[i] = 'a';
    typed[64] = '\0';
    ck_assert_uint_eq(fc_spelling_distance("a", typed), SIZE_MAX);
    typed[63] = '\0';
    ck_assert_uint_eq(fc_spelling_distance("a", typed), 62);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spelling");
    TCase *tests = tcase_create("distances");
    tcase_add_loop_test(tests, a_distance_is_the_fewest_edits, 0, sizeof ROWS / sizeof ROWS[0]);
    tcase_add_test(tests, what_is_too_long_is_no_slip);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
