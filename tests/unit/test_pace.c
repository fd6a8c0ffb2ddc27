/* daemon/pace: how fast work goes, and when those who are refused are to come back. Time is made up. */
#include "daemon/pace.h"

#include "daemon/clock.h"

#include <check.h>
#include <stdlib.h>

#define US FC_NS_PER_US
#define MS FC_NS_PER_MS
#define NEVER UINT64_MAX

/* So many launches of request_count, each taking launch_ns, one every gap_ns; returns when the last ended. */
static uint64_t run(fc_pace *pace, uint64_t from_ns, int count, uint32_t request_count, uint64_t launch_ns,
                    uint64_t gap_ns)
{
    for (int i = 0; i < count; i++) {
        from_ns += gap_ns;
        fc_pace_launch launch = {from_ns - launch_ns, from_ns, request_count, 100 * request_count, 1, true};
        fc_pace_ran(pace, &launch);
    }
    return from_ns;
}

START_TEST(work_goes_as_fast_as_answers_come)
{
    fc_pace pace;
    fc_pace_init(&pace);
    ck_assert_uint_eq(fc_pace_request_ns(&pace), MS);
    ck_assert_uint_eq(fc_pace_launch_ns(&pace), 0);
    /* The lane computes for half the time only; the other half the machine does what else there is to do. */
    run(&pace, MS, 20000, 16, 160 * US, 320 * US);
    ck_assert_uint_ge(fc_pace_request_ns(&pace), 19 * US);
    ck_assert_uint_le(fc_pace_request_ns(&pace), 21 * US);
    ck_assert_uint_ge(fc_pace_launch_ns(&pace), 160 * US);
    ck_assert_uint_le(fc_pace_launch_ns(&pace), 170 * US);
}
END_TEST

/* Without a backlog the time between two launches is nobody's. */
START_TEST(idle_time_does_not_count)
{
    fc_pace pace;
    fc_pace_init(&pace);
    for (uint64_t i = 1; i <= 1000; i++) {
        fc_pace_launch launch = {i * FC_NS_PER_S, i * FC_NS_PER_S + MS, 1, 100, 2, false};
        fc_pace_ran(&pace, &launch);
    }
    ck_assert_uint_ge(fc_pace_request_ns(&pace), MS / 2); /* two lanes */
    ck_assert_uint_le(fc_pace_request_ns(&pace), MS / 2 + MS / 100);
}
END_TEST

START_TEST(one_launch_held_up_does_not_outweigh_hundreds)
{
    fc_pace pace;
    fc_pace_init(&pace);
    uint64_t now_ns = run(&pace, MS, 20000, 16, 160 * US, 320 * US);
    now_ns = run(&pace, now_ns, 1, 16, 100 * MS, 100 * MS);
    ck_assert_uint_le(fc_pace_request_ns(&pace), 45 * US);
    run(&pace, now_ns, 2000, 16, 160 * US, 320 * US);
    ck_assert_uint_le(fc_pace_request_ns(&pace), 24 * US);
    ck_assert_uint_le(fc_pace_launch_ns(&pace), 170 * US);
}
END_TEST

START_TEST(long_launches_are_remembered_for_a_few)
{
    fc_pace pace;
    fc_pace_init(&pace);
    uint64_t now_ns = run(&pace, MS, 100, 1, FC_NS_PER_S, FC_NS_PER_S);
    run(&pace, now_ns, 1, 1, 3 * FC_NS_PER_S, 3 * FC_NS_PER_S);
    ck_assert_uint_le(fc_pace_request_ns(&pace), 1300 * MS);
}
END_TEST

START_TEST(refused_ones_come_back_one_after_the_other)
{
    fc_pace pace;
    fc_pace_init(&pace);
    uint64_t now_ns = run(&pace, MS, 1000, 1, MS, MS), turn_ns = 0, crowded_ns = 0, last_us = 0;
    for (int i = 1; i <= 100; i++) {
        uint64_t wait_us = fc_pace_retry_us(&pace, &turn_ns, 1, NEVER, now_ns);
        ck_assert_uint_ge(wait_us, last_us + 500);
        ck_assert_uint_le(wait_us, (uint64_t)i * 1000);
        last_us = wait_us;
    }
    ck_assert_uint_ge(fc_pace_retry_us(&pace, &crowded_ns, 10, NEVER, now_ns), 5000); /* ten share the lanes */
    ck_assert_uint_ge(fc_pace_retry_us(&pace, &turn_ns, 1, NEVER, now_ns + 50 * MS), last_us - 50000);
    ck_assert_uint_le(fc_pace_retry_us(&pace, &turn_ns, 1, NEVER, now_ns + FC_NS_PER_S), 1000); /* all have come */
}
END_TEST

START_TEST(waits_are_bounded)
{
    fc_pace pace;
    uint64_t turn_ns = 0;
    fc_pace_init(&pace);
    run(&pace, MS, 10000, 256, 10 * US, 10 * US);
    ck_assert_uint_eq(fc_pace_retry_us(&pace, &turn_ns, 1, NEVER, FC_NS_PER_S), FC_PACE_RETRY_US_MIN);
    run(&pace, FC_NS_PER_S, 100, 1, 3600 * FC_NS_PER_S, 3600 * FC_NS_PER_S);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(fc_pace_retry_us(&pace, &turn_ns, UINT32_MAX, NEVER, 2 * FC_NS_PER_S), FC_PACE_RETRY_US_MAX);
}
END_TEST

START_TEST(who_cannot_be_in_time_is_known_at_once)
{
    fc_pace pace;
    fc_pace_init(&pace);
    ck_assert(fc_pace_is_in_time(&pace, 1000000, 1)); /* nothing is known yet */
    run(&pace, MS, 1000, 1, MS, MS);                  /* 100 of cost take 1 ms */
    uint64_t wait_ns = fc_pace_wait_ns(&pace, 10000);
    ck_assert_uint_ge(wait_ns, 99 * MS);
    ck_assert_uint_le(wait_ns, 101 * MS);
    ck_assert(!fc_pace_is_in_time(&pace, 10000, 100 * MS));
    ck_assert(!fc_pace_is_in_time(&pace, 10000, 130 * MS)); /* it would be, but a quarter is kept */
    ck_assert(fc_pace_is_in_time(&pace, 10000, 140 * MS));
    ck_assert(fc_pace_is_in_time(&pace, 0, 1));
    /* Those before took a second; that says little about its own launch. */
    run(&pace, FC_NS_PER_S, 1000, 1000, FC_NS_PER_S, FC_NS_PER_S);
    ck_assert(fc_pace_is_in_time(&pace, 10000, 202 * MS));
    ck_assert(!fc_pace_is_in_time(&pace, 10000, 198 * MS));
    ck_assert_uint_eq(fc_pace_wait_ns(&pace, UINT64_MAX / 2), INT64_MAX);
}
END_TEST

START_TEST(who_cannot_come_leaves_his_turn_to_the_next)
{
    fc_pace pace;
    fc_pace_init(&pace);
    uint64_t now_ns = run(&pace, MS, 1000, 1, MS, MS), turn_ns = 0, last_us = 0;
    for (int i = 0; i < 100; i++)
        last_us = fc_pace_retry_us(&pace, &turn_ns, 1, now_ns + 20 * MS, now_ns);
    ck_assert_uint_ge(last_us, 20000);
    ck_assert_uint_le(last_us, 21000);
    ck_assert_uint_lt(turn_ns, now_ns + 20 * MS);
}
END_TEST

/* --- callers around a queue --------------------------------------------------------------------------------------- */

enum { ROOM = 256, CALLERS_MAX = 16384 };
#define STEP_NS (20 * US) /* of one request */

typedef struct crowd {
    fc_pace pace;
    uint64_t turn_ns, random, queued, refused, answered, idle;
    uint64_t come_ns[CALLERS_MAX]; /* 0: in the queue, or done */
} crowd;

static crowd all;

static void come(crowd *c, uint64_t i, uint64_t now_ns)
{
    c->come_ns[i] = 0;
    if (c->queued < ROOM) {
        c->queued++;
        return;
    }
    c->refused++;
    uint64_t wait_us = fc_pace_retry_us(&c->pace, &c->turn_ns, 1, NEVER, now_ns);
    c->random = c->random * 6364136223846793005u + 1442695040888963407u;
    wait_us += (c->random >> 33) % (wait_us / 2 + 1); /* as the client library does */
    c->come_ns[i] = now_ns + wait_us * US;
}

/* Every caller comes at once; each request takes one step; who is answered comes again, while again is true. */
static void crowd_run(uint64_t callers, uint64_t steps, bool again)
{
    all = (crowd){.random = 1};
    fc_pace_init(&all.pace);
    uint64_t now_ns = run(&all.pace, MS, 10000, 1, STEP_NS, STEP_NS);
    for (uint64_t i = 0; i < callers; i++)
        come(&all, i, now_ns);
    for (uint64_t step = 0; step < steps && all.answered < (again ? steps : callers); step++) {
        now_ns += STEP_NS;
        for (uint64_t i = 0; i < callers; i++)
            if (all.come_ns[i] != 0 && all.come_ns[i] <= now_ns)
                come(&all, i, now_ns);
        if (all.queued == 0) {
            all.idle++;
            continue;
        }
        all.queued--;
        all.answered++;
        fc_pace_launch launch = {now_ns - STEP_NS, now_ns, 1, 100, 1, all.queued > 0};
        fc_pace_ran(&all.pace, &launch);
        uint64_t free = 0; /* the one answered is any that is not outside */
        while (again && all.come_ns[free] != 0)
            free++;
        if (again)
            come(&all, free, now_ns);
    }
}

START_TEST(however_many_ask_few_are_refused_and_nothing_lies_idle)
{
    static const uint64_t CALLERS[] = {300, 1024, 4096, CALLERS_MAX};
    crowd_run(CALLERS[_i], 20000, true);
    ck_assert_uint_eq(all.idle, 0);
    ck_assert_msg(all.refused - (CALLERS[_i] - ROOM) <= all.answered * 3 / 2, "%lu refused, %lu answered",
                  (unsigned long)all.refused, (unsigned long)all.answered);
}
END_TEST

START_TEST(a_burst_is_worked_off_without_gaps)
{
    crowd_run(4096, 100000, false);
    ck_assert_uint_eq(all.answered, 4096);
    ck_assert_msg(all.idle <= 4096 / 5, "%lu steps idle", (unsigned long)all.idle);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pace");
    TCase *core = tcase_create("core");
    tcase_add_test(core, work_goes_as_fast_as_answers_come);
    tcase_add_test(core, idle_time_does_not_count);
    tcase_add_test(core, one_launch_held_up_does_not_outweigh_hundreds);
    tcase_add_test(core, long_launches_are_remembered_for_a_few);
    tcase_add_test(core, refused_ones_come_back_one_after_the_other);
    tcase_add_test(core, waits_are_bounded);
    tcase_add_test(core, who_cannot_be_in_time_is_known_at_once);
    tcase_add_test(core, who_cannot_come_leaves_his_turn_to_the_next);
    suite_add_tcase(suite, core);
    TCase *around = tcase_create("crowd");
    tcase_add_loop_test(around, however_many_ask_few_are_refused_and_nothing_lies_idle, 0, 4);
    tcase_add_test(around, a_burst_is_worked_off_without_gaps);
    suite_add_tcase(suite, around);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
