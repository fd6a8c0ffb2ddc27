/* client/bench_schedule: intended send times have the rate asked for, interleave, repeat with the seed, never go back.
 */
#include "client/bench_schedule.h"

#include <check.h>
#include <stdlib.h>

#define START 5000000000ull

START_TEST(constant_clients_interleave_evenly)
{
    /* 4 clients at 1000/s together: client c sends at c ms, c + 4 ms, ... */
    for (uint32_t client = 0; client < 4; client++) {
        fc_schedule s = fc_schedule_make(FC_ARRIVAL_CONSTANT, 1000, client, 4, 1, START);
        for (uint64_t i = 0; i < 100; i++)
            ck_assert_uint_eq(fc_schedule_next_ns(&s), START + (i * 4 + client) * 1000000);
    }
}
END_TEST

START_TEST(constant_times_do_not_drift)
{
    fc_schedule s = fc_schedule_make(FC_ARRIVAL_CONSTANT, 3, 0, 1, 1, START); /* 333,333,333.3 ns */
    uint64_t last = 0;
    for (int i = 0; i <= 3000000; i++)
        last = fc_schedule_next_ns(&s);
    ck_assert_uint_ge(last, START + 1000000 * 1000000000ull - 1000);
    ck_assert_uint_le(last, START + 1000000 * 1000000000ull + 1000);
}
END_TEST

START_TEST(poisson_gaps_are_exponential)
{
    fc_schedule s = fc_schedule_make(FC_ARRIVAL_POISSON, 2000, 1, 4, 9, START); /* one client's mean gap: 2 ms */
    double sum = 0, squares = 0;
    uint64_t before = START, over_mean = 0;
    enum { COUNT = 200000 };
    for (int i = 0; i < COUNT; i++) {
        uint64_t next = fc_schedule_next_ns(&s);
        ck_assert_uint_ge(next, before);
        double gap = (double)(next - before) / 2e6;
        sum += gap;
        squares += gap * gap;
        over_mean += gap > 1;
        before = next;
    }
    double mean = sum / COUNT, variance = squares / COUNT - mean * mean;
    ck_assert_double_eq_tol(mean, 1, 0.01);
    ck_assert_double_eq_tol(variance, 1, 0.03);
    ck_assert_double_eq_tol((double)over_mean / COUNT, 0.3679, 0.005); /* 1/e */
}
END_TEST

START_TEST(the_seed_decides)
{
    fc_schedule a = fc_schedule_make(FC_ARRIVAL_POISSON, 100, 0, 2, 1, START);
    fc_schedule same = fc_schedule_make(FC_ARRIVAL_POISSON, 100, 0, 2, 1, START);
    fc_schedule other_seed = fc_schedule_make(FC_ARRIVAL_POISSON, 100, 0, 2, 2, START);
    fc_schedule other_client = fc_schedule_make(FC_ARRIVAL_POISSON, 100, 1, 2, 1, START);
    int equal_seed = 0, equal_client = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t time_ns = fc_schedule_next_ns(&a);
        ck_assert_uint_eq(fc_schedule_next_ns(&same), time_ns);
        equal_seed += fc_schedule_next_ns(&other_seed) == time_ns;
        equal_client += fc_schedule_next_ns(&other_client) == time_ns;
    }
    ck_assert_int_eq(equal_seed, 0);
    ck_assert_int_eq(equal_client, 0);
}
END_TEST

/* Streams are no shifted copies of one another. */
START_TEST(random_streams_do_not_overlap)
{
    enum { COUNT = 2000 };
    static uint64_t first[COUNT];
    fc_random a = fc_random_make(1, 0);
    for (int i = 0; i < COUNT; i++)
        first[i] = fc_random_bits(&a);
    for (uint64_t stream = 1; stream < 8; stream++) {
        fc_random b = fc_random_make(1, stream);
        uint64_t bits = fc_random_bits(&b);
        for (int i = 0; i < COUNT; i++)
            ck_assert_uint_ne(bits, first[i]);
    }
}
END_TEST

START_TEST(normals_have_mean_0_and_variance_1)
{
    fc_random random = fc_random_make(4, 4);
    double sum = 0, squares = 0, product = 0;
    enum { COUNT = 100000 };
    for (int i = 0; i < COUNT; i++) {
        double a, b;
        fc_random_normals(&random, &a, &b);
        sum += a + b;
        squares += a * a + b * b;
        product += a * b;
    }
    ck_assert_double_eq_tol(sum / (2 * COUNT), 0, 0.01);
    ck_assert_double_eq_tol(squares / (2 * COUNT), 1, 0.02);
    ck_assert_double_eq_tol(product / COUNT, 0, 0.02);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_schedule");
    TCase *tests = tcase_create("times");
    tcase_add_test(tests, constant_clients_interleave_evenly);
    tcase_add_test(tests, constant_times_do_not_drift);
    tcase_add_test(tests, poisson_gaps_are_exponential);
    tcase_add_test(tests, the_seed_decides);
    tcase_add_test(tests, random_streams_do_not_overlap);
    tcase_add_test(tests, normals_have_mean_0_and_variance_1);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
