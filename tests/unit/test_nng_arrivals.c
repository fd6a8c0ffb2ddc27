/* What half-sent messages hold, as it is told by what nng asks for and gets. */
#include "daemon/nng_arrivals.h"

#include "daemon/clock.h"
#include "daemon/heap.h"

#include <check.h>

enum { FD = 40, OTHER = 41, HEADER = 9, MIB = 1 << 20 };

static void set_up(void)
{
    fc_nng_arrivals_watch(FD);
    fc_nng_arrivals_watch(OTHER);
}

static void tear_down(void)
{
    fc_nng_arrivals_forget(FD);
    fc_nng_arrivals_forget(OTHER);
    ck_assert_uint_eq(fc_nng_arrivals_half_bytes(), 0);
}

static uint64_t half_of(int fd)
{
    uint64_t since_ns;
    return fc_nng_arrivals_half_of(fd, &since_ns);
}

START_TEST(a_message_holds_what_it_was_announced_with_until_it_is_whole)
{
    uint64_t since_ns, still_ns, before_ns = fc_clock_now_ns();
    fc_nng_arrivals_note(FD, HEADER, HEADER);
    ck_assert_uint_eq(half_of(FD), 0);
    fc_nng_arrivals_note(FD, MIB, 0); /* cleared by being asked for, maybe */
    ck_assert_uint_eq(fc_nng_arrivals_half_of(FD, &since_ns), MIB);
    ck_assert_uint_ge(since_ns, before_ns);
    fc_nng_arrivals_note(FD, MIB, 1000);
    fc_nng_arrivals_note(FD, MIB - 1000, 0);
    fc_nng_arrivals_note(OTHER, 5000, 10);
    ck_assert_uint_eq(fc_nng_arrivals_half_of(FD, &still_ns), MIB);
    ck_assert_uint_eq(still_ns, since_ns); /* however it comes */
    ck_assert_uint_eq(fc_nng_arrivals_half_bytes(), MIB + 5000);
    fc_nng_arrivals_note(FD, MIB - 1000, MIB - 1000);
    ck_assert_uint_eq(fc_nng_arrivals_half_of(FD, &since_ns), 0);
    ck_assert_uint_eq(since_ns, 0);
    fc_nng_arrivals_note(FD, HEADER, 0);
    ck_assert_uint_eq(fc_nng_arrivals_half_bytes(), 5000);
    fc_nng_arrivals_note(FD, MIB, MIB); /* at once */
    ck_assert_uint_eq(fc_nng_arrivals_half_bytes(), 5000);
}
END_TEST

/* What is mapped alone is filled by what comes. */
START_TEST(a_very_large_one_holds_what_came_and_a_part_of_the_rest)
{
    const uint64_t whole = 8ull * FC_HEAP_MAPPED_BYTES;
    fc_nng_arrivals_note(FD, whole, 0);
    ck_assert_uint_eq(half_of(FD), FC_HEAP_MAPPED_BYTES);
    fc_nng_arrivals_note(FD, whole, 3 * MIB);
    ck_assert_uint_eq(half_of(FD), FC_HEAP_MAPPED_BYTES + 3 * MIB);
    fc_nng_arrivals_note(FD, whole - 3 * MIB, whole - 4 * MIB);
    ck_assert_uint_eq(half_of(FD), whole);
    fc_nng_arrivals_note(FD, MIB, MIB);
    ck_assert_uint_eq(half_of(FD), 0);
}
END_TEST

START_TEST(small_ones_and_headers_are_not_looked_after)
{
    fc_nng_arrivals_note(FD, HEADER, 0);
    fc_nng_arrivals_note(FD, HEADER, 3);
    fc_nng_arrivals_note(FD, HEADER - 3, HEADER - 3);
    fc_nng_arrivals_note(FD, FC_NNG_ARRIVALS_LEAST_BYTES - 1, 100);
    ck_assert_uint_eq(fc_nng_arrivals_half_bytes(), 0);
    fc_nng_arrivals_note(FD, FC_NNG_ARRIVALS_LEAST_BYTES - 101, FC_NNG_ARRIVALS_LEAST_BYTES - 101);
    fc_nng_arrivals_note(FD, FC_NNG_ARRIVALS_LEAST_BYTES, 4000); /* to its end, however little is left */
    fc_nng_arrivals_note(FD, FC_NNG_ARRIVALS_LEAST_BYTES - 4000, 1);
    ck_assert_uint_eq(fc_nng_arrivals_half_bytes(), FC_NNG_ARRIVALS_LEAST_BYTES);
}
END_TEST

START_TEST(nothing_is_known_of_those_that_are_not_watched)
{
    fc_nng_arrivals_note(FD, MIB, 10);
    fc_nng_arrivals_forget(FD);
    ck_assert_uint_eq(fc_nng_arrivals_half_bytes(), 0);
    fc_nng_arrivals_note(FD, MIB - 10, 10);
    fc_nng_arrivals_note(-1, MIB, 10);
    fc_nng_arrivals_note(1 << 30, MIB, 10);
    fc_nng_arrivals_watch(-1);
    ck_assert_uint_eq(half_of(-1) + half_of(FD) + half_of(1 << 30), 0);
    ck_assert_uint_eq(fc_nng_arrivals_half_bytes(), 0);
    fc_nng_arrivals_watch(FD); /* the next with this number */
    fc_nng_arrivals_note(FD, MIB, 10);
    ck_assert_uint_eq(half_of(FD), MIB);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nng_arrivals");
    TCase *core = tcase_create("core");
    tcase_add_checked_fixture(core, set_up, tear_down);
    tcase_add_test(core, a_message_holds_what_it_was_announced_with_until_it_is_whole);
    tcase_add_test(core, a_very_large_one_holds_what_came_and_a_part_of_the_rest);
    tcase_add_test(core, small_ones_and_headers_are_not_looked_after);
    tcase_add_test(core, nothing_is_known_of_those_that_are_not_watched);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
