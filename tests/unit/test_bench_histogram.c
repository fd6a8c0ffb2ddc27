/* client/bench_histogram: percentiles stay within 0.1 % of the sorted values, over the whole range and after merging.
 */
#include "client/bench_histogram.h"
#include "client/tool_random.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static const double PERCENTS[] = {0, 0.1, 1, 10, 25, 50, 75, 90, 95, 99, 99.9, 99.99, 100};
#define PERCENT_COUNT (sizeof PERCENTS / sizeof PERCENTS[0])

static fc_histogram make(void)
{
    fc_histogram h;
    ck_assert_int_eq(fc_histogram_init(&h), FC_OK);
    return h;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Reads back at least the exact value and at most 0.1 % more. */
static void check_against_sorted(const fc_histogram *h, uint64_t *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
    for (size_t i = 0; i < PERCENT_COUNT; i++) {
        size_t rank = (size_t)ceil(PERCENTS[i] / 100 * (double)count * (1 - 1e-12));
        uint64_t exact = values[rank == 0 ? 0 : rank - 1];
        uint64_t read = fc_histogram_percentile_ns(h, PERCENTS[i]);
        ck_assert_msg(read >= exact, "p%g of %zu: %lu < %lu", PERCENTS[i], count, read, exact);
        ck_assert_msg((double)(read - exact) <= 0.001 * (double)exact, "p%g of %zu: %lu > %lu + 0.1 %%", PERCENTS[i],
                      count, read, exact);
    }
    ck_assert_uint_eq(h->min_ns, values[0]);
    ck_assert_uint_eq(h->max_ns, values[count - 1]);
    ck_assert_uint_eq(fc_histogram_percentile_ns(h, 100), values[count - 1]);
}

/* Values spread over a range of magnitudes: 2^low to 2^high. */
static const struct {
    const char *name;
    double low_bits, high_bits;
    size_t count;
} SPREADS[] = {
    {"one value", 20, 20, 1},        {"two values", 5, 30, 2},          {"exact bins", 0, 10.9, 5000},
    {"latencies", 14, 24, 100000},   {"around 2048", 10.9, 11.1, 3000}, {"everything", 0, 39.9, 100000},
    {"one magnitude", 30, 31, 1000},
};

START_TEST(percentiles_are_within_a_thousandth)
{
    fc_random random = fc_random_make(7, (uint64_t)_i);
    fc_histogram h = make();
    size_t count = SPREADS[_i].count;
    uint64_t *values = calloc(count, sizeof *values);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double bits = SPREADS[_i].low_bits + (SPREADS[_i].high_bits - SPREADS[_i].low_bits) * fc_random_unit(&random);
        values[i] = (uint64_t)exp2(bits);
        sum += (double)values[i];
        fc_histogram_record(&h, values[i]);
    }
    ck_assert_uint_eq(h.count, count);
    ck_assert_double_eq_tol(fc_histogram_mean_ns(&h), sum / (double)count, 1e-9 * sum);
    check_against_sorted(&h, values, count);
    free(values);
    fc_histogram_fini(&h);
}
END_TEST

START_TEST(every_bin_reads_back_its_own_values)
{
    /* Around every power of two, where bins change their width. */
    for (unsigned bits = 0; bits < FC_HISTOGRAM_VALUE_BITS; bits++) {
        for (int step = -1; step <= 1; step++) {
            uint64_t value = (uint64_t)((int64_t)1 << bits) + (uint64_t)(int64_t)step;
            fc_histogram h = make();
            fc_histogram_record(&h, value);
            fc_histogram_record(&h, (uint64_t)1 << 45); /* so that the maximum does not hide the bin's end */
            uint64_t read = fc_histogram_percentile_ns(&h, 50);
            ck_assert_uint_ge(read, value);
            ck_assert_uint_le(read - value, value / 1024 + (value < 1024 ? 0 : 1));
            fc_histogram_fini(&h);
        }
    }
}
END_TEST

START_TEST(merging_equals_recording_together)
{
    fc_random random = fc_random_make(3, 1);
    fc_histogram whole = make(), parts[3] = {make(), make(), make()}, merged = make(), empty = make();
    for (int i = 0; i < 3000; i++) {
        uint64_t value = (uint64_t)exp2(40 * fc_random_unit(&random));
        fc_histogram_record(&whole, value);
        fc_histogram_record(&parts[i % 3], value);
    }
    for (int i = 0; i < 3; i++)
        fc_histogram_merge(&merged, &parts[i]);
    fc_histogram_merge(&merged, &empty);
    ck_assert_uint_eq(merged.count, whole.count);
    ck_assert_uint_eq(merged.min_ns, whole.min_ns);
    ck_assert_uint_eq(merged.max_ns, whole.max_ns);
    ck_assert_double_eq_tol(merged.sum_ns, whole.sum_ns, 1e-6 * whole.sum_ns);
    for (size_t i = 0; i < PERCENT_COUNT; i++)
        ck_assert_uint_eq(fc_histogram_percentile_ns(&merged, PERCENTS[i]),
                          fc_histogram_percentile_ns(&whole, PERCENTS[i]));
    fc_histogram_fini(&whole);
    fc_histogram_fini(&merged);
    fc_histogram_fini(&empty);
    for (int i = 0; i < 3; i++)
        fc_histogram_fini(&parts[i]);
}
END_TEST

START_TEST(an_empty_one_and_the_extremes)
{
    fc_histogram h = make();
    ck_assert_uint_eq(fc_histogram_percentile_ns(&h, 50), 0);
    ck_assert_double_eq(fc_histogram_mean_ns(&h), 0);
    fc_histogram_record(&h, 0);
    ck_assert_uint_eq(fc_histogram_percentile_ns(&h, 100), 0);
    fc_histogram_record(&h, UINT64_MAX); /* beyond the range: the maximum is exact all the same */
    ck_assert_uint_eq(h.max_ns, UINT64_MAX);
    ck_assert_uint_eq(fc_histogram_percentile_ns(&h, 100), UINT64_MAX);
    ck_assert_uint_eq(fc_histogram_percentile_ns(&h, 50), 0);
    fc_histogram_fini(&h);
    fc_histogram_fini(&h);
}
END_TEST

START_TEST(percentiles_mean_at_least_that_share)
{
    fc_histogram h = make();
    for (uint64_t i = 1; i <= 1000; i++)
        fc_histogram_record(&h, i);
    ck_assert_uint_eq(fc_histogram_percentile_ns(&h, 50), 500);
    ck_assert_uint_eq(fc_histogram_percentile_ns(&h, 99), 990);
    ck_assert_uint_eq(fc_histogram_percentile_ns(&h, 99.9), 999);
    ck_assert_uint_eq(fc_histogram_percentile_ns(&h, 99.91), 1000);
    ck_assert_uint_eq(fc_histogram_percentile_ns(&h, 0), 1);
    fc_histogram_fini(&h);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_histogram");
    TCase *tests = tcase_create("percentiles");
    tcase_add_loop_test(tests, percentiles_are_within_a_thousandth, 0, sizeof SPREADS / sizeof SPREADS[0]);
    tcase_add_test(tests, every_bin_reads_back_its_own_values);
    tcase_add_test(tests, merging_equals_recording_together);
    tcase_add_test(tests, an_empty_one_and_the_extremes);
    tcase_add_test(tests, percentiles_mean_at_least_that_share);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
