/* client/bench_tally: what counts inside the window, how the rate is taken, when a schedule is missed. */
#include "client/bench_tally.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull
static const fc_window WINDOW = {.begin_ns = 1000 * MS, .end_ns = 2000 * MS};

static fc_tally make(void)
{
    fc_tally tally;
    ck_assert_int_eq(fc_tally_init(&tally), FC_OK);
    return tally;
}

static void add(fc_tally *tally, uint64_t intended_ms, uint64_t sent_ms, uint64_t done_ms, flashcore_status status)
{
    flashcore_result result = {.status = status, .error = "why", .kernel = "cpu", .queue_us = 10, .batch = 2};
    fc_sample sample = {
        .intended_ns = intended_ms * MS, .sent_ns = sent_ms * MS, .done_ns = done_ms * MS, .result = &result};
    fc_tally_add(tally, &WINDOW, &sample);
}

/* One sample each, and what it counts towards. */
static const struct {
    const char *name;
    uint64_t intended_ms, sent_ms, done_ms;
    uint64_t latency_count, answered, sent, due;
} SAMPLES[] = {
    {"inside", 1100, 1100, 1200, 1, 1, 1, 1},
    {"warm-up", 100, 100, 200, 0, 0, 0, 0},
    {"sent in the warm-up, answered inside", 990, 990, 1010, 0, 1, 0, 0},
    {"answered after the end", 1990, 1990, 2010, 1, 0, 1, 1},
    {"meant inside, sent after the end", 1990, 2010, 2020, 1, 0, 0, 1},
    {"meant in the warm-up, sent inside", 990, 1010, 1020, 0, 1, 1, 0},
    {"at the begin", 1000, 1000, 1001, 1, 1, 1, 1},
    {"at the end", 2000, 2000, 2001, 0, 0, 0, 0},
};

START_TEST(the_window_decides_what_counts)
{
    fc_tally tally = make();
    add(&tally, SAMPLES[_i].intended_ms, SAMPLES[_i].sent_ms, SAMPLES[_i].done_ms, FLASHCORE_OK);
    ck_assert_uint_eq(tally.latency.count, SAMPLES[_i].latency_count);
    ck_assert_uint_eq(tally.answered_in_window, SAMPLES[_i].answered);
    ck_assert_uint_eq(tally.sent_in_window, SAMPLES[_i].sent);
    ck_assert_uint_eq(tally.due_in_window, SAMPLES[_i].due);
    fc_tally_fini(&tally);
}
END_TEST

START_TEST(answers_behind_their_deadline_are_told_apart)
{
    fc_tally a = make(), b = make();
    flashcore_result result = {.status = FLASHCORE_OK};
    fc_sample sample = {.intended_ns = 1100 * MS, .sent_ns = 1100 * MS, .done_ns = 1200 * MS, .result = &result};
    fc_tally_add(&a, &WINDOW, &sample);
    sample.is_late = true;
    fc_tally_add(&a, &WINDOW, &sample);
    fc_tally_add(&b, &WINDOW, &sample);
    fc_tally_merge(&a, &b);
    ck_assert_uint_eq(a.answered_in_window, 3);
    ck_assert_uint_eq(a.late, 2);
    fc_tally_fini(&a);
    fc_tally_fini(&b);
}
END_TEST

START_TEST(latency_counts_from_the_intended_send)
{
    fc_tally tally = make();
    add(&tally, 1100, 1400, 1500, FLASHCORE_OK);
    ck_assert_uint_eq(tally.latency.max_ns, 400 * MS);
    ck_assert_uint_eq(tally.lag.max_ns, 300 * MS);
    ck_assert_double_eq_tol(tally.sums.wait_us, 300e3, 1e-6);
    ck_assert_double_eq_tol(tally.sums.client_us, 400e3, 1e-6);
    fc_tally_fini(&tally);
}
END_TEST

START_TEST(errors_count_by_status_from_the_start_and_give_no_latency)
{
    fc_tally a = make(), b = make();
    add(&a, 100, 100, 200, FLASHCORE_BUSY);
    add(&a, 1100, 1100, 1200, FLASHCORE_OK);
    add(&b, 1100, 1100, 1200, FLASHCORE_BUSY);
    add(&b, 1100, 1100, 1200, (flashcore_status)99); /* no status of ours: a reply that makes no sense */
    fc_tally_merge(&a, &b);
    ck_assert_uint_eq(a.errors[FLASHCORE_BUSY], 2);
    ck_assert_uint_eq(a.errors[FLASHCORE_BAD_REPLY], 1);
    ck_assert_uint_eq(fc_tally_error_count(&a), 3);
    ck_assert_str_eq(a.first_error, "why");
    ck_assert_uint_eq(a.latency.count, 1);
    ck_assert_uint_eq(a.answered_in_window, 1);
    fc_tally_fini(&a);
    fc_tally_fini(&b);
}
END_TEST

START_TEST(wrong_answers_count_and_keep_their_reason)
{
    fc_tally a = make(), b = make();
    flashcore_result result = {.status = FLASHCORE_OK, .error = "element 3"};
    fc_sample sample = {.intended_ns = 1, .sent_ns = 1, .done_ns = 2, .result = &result, .is_checked = true};
    fc_tally_add(&b, &WINDOW, &sample);
    sample.is_wrong = true;
    fc_tally_add(&b, &WINDOW, &sample);
    fc_tally_merge(&a, &b);
    ck_assert_uint_eq(a.wrong, 1);
    ck_assert_uint_eq(a.checked, 2);
    ck_assert_str_eq(a.first_wrong, "element 3");
    ck_assert_uint_eq(fc_tally_error_count(&a), 0);
    fc_tally_fini(&a);
    fc_tally_fini(&b);
}
END_TEST

START_TEST(the_rate_is_answers_over_the_window)
{
    fc_tally tally = make();
    ck_assert_double_eq(fc_tally_rate(&tally, &WINDOW), 0);
    add(&tally, 1500, 1500, 3000, FLASHCORE_OK); /* slower than the window: over the time until it came */
    ck_assert_double_eq_tol(fc_tally_rate(&tally, &WINDOW), 0.5, 1e-9);
    for (uint64_t i = 0; i < 10; i++)
        add(&tally, 1100, 1100, 1200 + i, FLASHCORE_OK);
    ck_assert_double_eq_tol(fc_tally_rate(&tally, &WINDOW), 10, 1e-9);
    fc_tally_fini(&tally);
}
END_TEST

static const struct {
    const char *name;
    uint64_t sent, unsent, clients;
    bool missed;
} SCHEDULES[] = {
    {"nothing due", 0, 0, 1, false},     {"all sent", 1000, 0, 1, false},   {"1 % late", 990, 10, 1, false},
    {"more than 1 %", 989, 11, 1, true}, {"one a client", 10, 4, 4, false}, {"more than that", 10, 5, 4, true},
};

START_TEST(a_schedule_is_missed_beyond_a_hundredth)
{
    fc_tally tally = make();
    for (uint64_t i = 0; i < SCHEDULES[_i].sent; i++)
        add(&tally, 1500, 1500, 1501, FLASHCORE_OK);
    for (uint64_t i = 0; i < SCHEDULES[_i].unsent; i++)
        fc_tally_add_unsent(&tally, &WINDOW, 1900 * MS);
    fc_tally_add_unsent(&tally, &WINDOW, 2000 * MS); /* outside: nobody's duty */
    ck_assert_int_eq(fc_tally_missed_schedule(&tally, SCHEDULES[_i].clients), SCHEDULES[_i].missed);
    fc_tally_fini(&tally);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_tally");
    TCase *tests = tcase_create("counts");
    tcase_add_loop_test(tests, the_window_decides_what_counts, 0, sizeof SAMPLES / sizeof SAMPLES[0]);
    tcase_add_test(tests, answers_behind_their_deadline_are_told_apart);
    tcase_add_test(tests, latency_counts_from_the_intended_send);
    tcase_add_test(tests, errors_count_by_status_from_the_start_and_give_no_latency);
    tcase_add_test(tests, wrong_answers_count_and_keep_their_reason);
    tcase_add_test(tests, the_rate_is_answers_over_the_window);
    tcase_add_loop_test(tests, a_schedule_is_missed_beyond_a_hundredth, 0, sizeof SCHEDULES / sizeof SCHEDULES[0]);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
