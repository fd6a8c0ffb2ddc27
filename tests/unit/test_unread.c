/* daemon/unread: whose unread replies are cut, and when. */
#include "daemon/unread.h"

#include <check.h>
#include <stdlib.h>

enum { SLOTS = 84 };

static const struct {
    const char *name;
    uint32_t replies[3]; /* of three owners, */
    uint32_t others;     /* and of so many others, one each */
    bool is_wanted;
    uint64_t patience_ns[3];
} ROWS[] = {
    {"alone, and room for all", {1, 0, 0}, 0, false, {UINT64_MAX, UINT64_MAX, UINT64_MAX}},
    {"half of all is none too many", {42, 0, 0}, 0, false, {UINT64_MAX, UINT64_MAX, UINT64_MAX}},
    {"one has more than half", {43, 0, 0}, 0, false, {FC_UNREAD_SHORT_NS, UINT64_MAX, UINT64_MAX}},
    {"one has all but a reply", {83, 1, 0}, 0, true, {FC_UNREAD_SHORT_NS, FC_UNREAD_AFTER_NS, FC_UNREAD_AFTER_NS}},
    {"two share them", {30, 30, 1}, 0, false, {FC_UNREAD_SHORT_NS, FC_UNREAD_SHORT_NS, UINT64_MAX}},
    {"many do", {4, 1, 0}, 40, false, {FC_UNREAD_SHORT_NS, UINT64_MAX, UINT64_MAX}},
    {"others need them, but not for these",
     {10, 5, 1},
     0,
     true,
     {FC_UNREAD_AFTER_NS, FC_UNREAD_AFTER_NS, FC_UNREAD_AFTER_NS}},
};

START_TEST(whose_and_when)
{
    fc_unread unread;
    fc_unread_init(&unread, SLOTS, ROWS[_i].is_wanted);
    for (uint64_t owner = 0; owner < 3; owner++)
        for (uint32_t k = 0; k < ROWS[_i].replies[owner]; k++)
            fc_unread_add(&unread, owner + 1, 1);
    for (uint32_t k = 0; k < ROWS[_i].others; k++)
        fc_unread_add(&unread, k + 100, 1);
    fc_unread_add(&unread, 1000, 0); /* one that reads counts for nothing */
    for (uint64_t owner = 0; owner < 3; owner++)
        ck_assert_msg(fc_unread_patience_ns(&unread, owner + 1) == ROWS[_i].patience_ns[owner], "%s: owner %d",
                      ROWS[_i].name, (int)owner);
    fc_unread_fini(&unread);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unread");
    TCase *core = tcase_create("core");
    tcase_add_loop_test(core, whose_and_when, 0, (int)(sizeof ROWS / sizeof ROWS[0]));
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
