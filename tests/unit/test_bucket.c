/* So many a second, and as many at once after a second of quiet. */
#include "daemon/bucket.h"

#include "daemon/clock.h"

#include <check.h>

enum { MANY = 100000 };

/* How many of `tries` at intervals of gap_ns go through. */
static int count(fc_bucket *bucket, uint64_t per_second, uint64_t from_ns, uint64_t gap_ns, int tries)
{
    int taken = 0;
    for (int i = 0; i < tries; i++) {
        uint64_t wait_ns = 0;
        uint64_t now_ns = from_ns + (uint64_t)i * gap_ns;
        if (fc_bucket_take(bucket, per_second, now_ns, &wait_ns)) {
            taken++;
            ck_assert_uint_eq(wait_ns, 0);
        } else {
            ck_assert_uint_gt(wait_ns, 0);
            ck_assert_uint_le(wait_ns, FC_NS_PER_S / per_second + 1);
        }
    }
    return taken;
}

START_TEST(a_burst_and_then_the_rate)
{
    static const struct {
        const char *name;
        uint64_t per_second;
        uint64_t gap_ns;
        int tries, taken;
    } rows[] = {
        {"all at once", 10, 0, 100, 10},
        {"as fast as it may be", 10, FC_NS_PER_S / 10, 100, 100},
        {"twice as fast, for ten seconds", 10, FC_NS_PER_S / 20, 200, 109},
        {"one a second", 1, FC_NS_PER_S / 2, 20, 10},
        {"the most there is", 1000000000, 0, MANY, MANY},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_bucket bucket = {.full_ns = 0};
        int taken = count(&bucket, rows[i].per_second, 5 * FC_NS_PER_S, rows[i].gap_ns, rows[i].tries);
        ck_assert_msg(taken == rows[i].taken, "%s: %d", rows[i].name, taken);
    }
}
END_TEST

START_TEST(quiet_fills_it_and_no_more)
{
    fc_bucket bucket = {.full_ns = 0};
    ck_assert_int_eq(count(&bucket, 10, 0, 0, 50), 10);
    ck_assert_int_eq(count(&bucket, 10, FC_NS_PER_S / 2, 0, 50), 5);
    ck_assert_int_eq(count(&bucket, 10, 100 * FC_NS_PER_S, 0, 50), 10);
}
END_TEST

START_TEST(who_waits_as_told_gets_through)
{
    fc_bucket bucket = {.full_ns = 0};
    uint64_t now_ns = 7, wait_ns = 0;
    for (int i = 0; i < 1000; i++) {
        if (!fc_bucket_take(&bucket, 3, now_ns, &wait_ns)) {
            now_ns += wait_ns;
            ck_assert(fc_bucket_take(&bucket, 3, now_ns, &wait_ns));
        }
    }
    /* A thousand at three a second, three of them at once. */
    ck_assert_uint_ge(now_ns, 332 * FC_NS_PER_S);
    ck_assert_uint_le(now_ns, 334 * FC_NS_PER_S);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bucket");
    TCase *core = tcase_create("core");
    tcase_add_test(core, a_burst_and_then_the_rate);
    tcase_add_test(core, quiet_fills_it_and_no_more);
    tcase_add_test(core, who_waits_as_told_gets_through);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
