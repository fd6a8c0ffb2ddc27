/* daemon/lanes: a launch that hangs is given up when it has taken longer than it may, not before; its requests end
 * once, and what it may still write to is left alone.
 */
#include "daemon/clock.h"
#include "daemon/lanes.h"
#include "daemon/probe.h"
#include "tests/support/service_bench.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_NS (30 * FC_NS_PER_S)

static void open_with_lanes(service_bench *b, uint32_t lanes)
{
    service_bench_prepare(b);
    b->engine.lane_count = lanes;
    fc_service_config config = service_bench_config(b);
    service_bench_open_with(b, &config);
    fake_engine_hold(&b->engine);
}

/* What a launch of that many of the bench's requests may take. */
static uint64_t patience_ns(uint32_t requests)
{
    const fc_lanes lanes = {.is_cpu = true};
    double multiplications = 2.0 * SERVICE_BENCH_B * SERVICE_BENCH_H * SERVICE_BENCH_S * SERVICE_BENCH_S;
    return fc_lanes_patience_ns(&lanes, requests * multiplications * SERVICE_BENCH_D, TIMEOUT_NS);
}

/* When the launch began that is under way longest. A lane that has begun it may take a moment to say so. */
static uint64_t running_since_ns(const service_bench *b)
{
    uint64_t now_ns;
    fc_service_pulse pulse;
    do {
        sched_yield();
        now_ns = fc_clock_now_ns();
        fc_service_pulse_look(b->service, now_ns, &pulse);
    } while (pulse.longest_launch_ns == 0);
    return now_ns - pulse.longest_launch_ns;
}

static void expect_once(service_bench *b, int box, fc_status status)
{
    service_bench_expect(b, box, status);
    ck_assert_uint_eq(b->boxes[box].answer_count, 1);
}

static const struct {
    bool is_cpu;
    double multiplications;
    uint64_t timeout_s, patience_s;
} PATIENCE[] = {
    {false, 0, 30, 30},        {true, 0, 1, 1},
    {false, 1e10, 30, 31},     {true, 1e10, 30, 1030},
    {false, 3.5e13, 30, 3530}, {true, 3.5e13, 1, 3500001},
    {false, 1e8, 3600, 3600},  {true, 1e300, 1, INT64_MAX / FC_NS_PER_S},
};

START_TEST(long_launches_may_take_longer)
{
    fc_lanes lanes = {.is_cpu = PATIENCE[_i].is_cpu};
    uint64_t ns = fc_lanes_patience_ns(&lanes, PATIENCE[_i].multiplications, PATIENCE[_i].timeout_s * FC_NS_PER_S);
    ck_assert_uint_eq(ns / FC_NS_PER_S, PATIENCE[_i].patience_s);
}
END_TEST

START_TEST(given_up_when_it_has_taken_longer_than_it_may)
{
    service_bench b;
    open_with_lanes(&b, 1);
    service_bench_attend(&b, 0, 7);
    fake_engine_await_launches(&b.engine, 1);
    for (int i = 1; i < 6; i++)
        service_bench_attend(&b, i, 7 + (uint64_t)i);
    uint64_t late_ns = running_since_ns(&b) + patience_ns(1) + 1;
    fc_service_watch(b.service, TIMEOUT_NS, late_ns - 1);
    fc_service_watch(b.service, 0, UINT64_MAX);
    for (int i = 0; i < 6; i++)
        ck_assert(!reply_box_is_answered(&b.boxes[i]));
    ck_assert(!fc_service_has_given_up(b.service));
    ck_assert_double_eq(service_bench_counter(&b, 20, "draining"), 0);
    fc_service_watch(b.service, TIMEOUT_NS, late_ns);
    expect_once(&b, 0, FC_DEVICE_LOST);
    for (int i = 1; i < 6; i++)
        expect_once(&b, i, FC_DRAINING);
    service_bench_attend(&b, 7, 30);
    expect_once(&b, 7, FC_DRAINING);
    fc_service_watch(b.service, TIMEOUT_NS, UINT64_MAX); /* once is enough */
    ck_assert(fc_service_has_given_up(b.service));
    ck_assert(fc_service_is_idle(b.service));
    ck_assert_int_eq(atomic_load(&b.events[FC_EVENT_LAUNCH_HUNG]), 1);
    ck_assert_double_eq(service_bench_counter(&b, 20, "launches_hung"), 1);
    ck_assert_double_eq(service_bench_counter(&b, 20, "launches_failed"), 1);
    ck_assert_double_eq(service_bench_counter(&b, 20, "launched_requests"), 1);
    ck_assert_double_eq(service_bench_counter(&b, 20, "device_lost"), 1);
    ck_assert_double_eq(service_bench_counter(&b, 20, "running"), 0);
    service_bench_close(&b);
}
END_TEST

/* It writes its outputs after all, into memory that is still there, and nobody hears of it. */
START_TEST(a_launch_that_comes_back_changes_nothing)
{
    service_bench b;
    open_with_lanes(&b, 1);
    for (int i = 0; i < 3; i++) {
        service_bench_attend(&b, i, 7);
        fake_engine_await_launches(&b.engine, 1);
    }
    fc_service_watch(b.service, TIMEOUT_NS, UINT64_MAX);
    expect_once(&b, 0, FC_DEVICE_LOST);
    service_bench_attend(&b, 0, 8); /* the same request's memory, while the launch is still at it */
    expect_once(&b, 0, FC_DRAINING);
    fake_engine_release_all(&b.engine);
    fc_service_stop(b.service);
    ck_assert_uint_eq(b.boxes[0].answer_count, 1);
    ck_assert_int_eq(b.boxes[0].reply.status, FC_DRAINING);
    ck_assert_ptr_nonnull(memchr(b.boxes[0].abandoned[1], FAKE_ENGINE_FILL, 64));
    ck_assert_uint_eq(fake_engine_launch_count(&b.engine), 1);
    service_bench_close(&b);
}
END_TEST

static void *let_go(void *context)
{
    fake_engine_release_all(context);
    return NULL;
}

/* It ends in the moment it is given up: the caller has one end, whichever. */
START_TEST(who_answers_is_decided_once)
{
    enum { ROUNDS = 60 };
    int given_up = 0;
    for (int i = 0; i < ROUNDS; i++) {
        service_bench b;
        pthread_t thread;
        open_with_lanes(&b, 1);
        service_bench_attend(&b, 0, 7);
        (void)running_since_ns(&b);
        ck_assert_int_eq(pthread_create(&thread, NULL, let_go, &b.engine), 0);
        for (int turns = i % 20; turns > 0; turns--)
            sched_yield();
        fc_service_watch(b.service, TIMEOUT_NS, UINT64_MAX);
        pthread_join(thread, NULL);
        expect_once(&b, 0, fc_service_has_given_up(b.service) ? FC_DEVICE_LOST : FC_OK);
        given_up += fc_service_has_given_up(b.service);
        fc_service_stop(b.service);
        ck_assert_uint_eq(b.boxes[0].answer_count, 1);
        service_bench_close(&b);
    }
    printf("%d of %d given up\n", given_up, ROUNDS);
}
END_TEST

/* The other lane goes on, and is given up by itself, or because there is no more time. */
START_TEST(each_lane_for_itself)
{
    service_bench b;
    open_with_lanes(&b, 2);
    service_bench_attend(&b, 0, 7);
    fake_engine_await_launches(&b.engine, 1);
    uint64_t first_ns = running_since_ns(&b);
    while (fc_clock_now_ns() == first_ns)
        continue;
    service_bench_attend(&b, 1, 8);
    fake_engine_await_launches(&b.engine, 2);
    fc_service_watch(b.service, TIMEOUT_NS, first_ns + patience_ns(1) + 1);
    expect_once(&b, 0, FC_DEVICE_LOST);
    ck_assert(!reply_box_is_answered(&b.boxes[1]));
    ck_assert(!fc_service_is_idle(b.service));
    if (_i == 0) {
        fc_service_give_up(b.service, first_ns); /* a clock read before the launch began */
        expect_once(&b, 1, FC_DEVICE_LOST);
        fc_service_give_up(b.service, fc_clock_now_ns());
        ck_assert_double_eq(service_bench_counter(&b, 20, "launches_hung"), 2);
        ck_assert_double_lt(service_bench_counter(&b, 21, "launch_us"), 1e9);
    } else {
        fake_engine_release_all(&b.engine);
        expect_once(&b, 1, FC_OK);
    }
    service_bench_close(&b);
}
END_TEST

/* Nobody asks for anything, and it is noticed all the same. The self-test's memory is as little used again. */
START_TEST(the_self_test_may_be_what_hangs)
{
    service_bench b;
    fc_probe *probe;
    fc_probe_view view;
    open_with_lanes(&b, 2);
    ck_assert_int_eq(fc_probe_create(b.service, &probe), FC_OK);
    fc_probe_send(probe, fc_clock_now_ns());
    fake_engine_await_launches(&b.engine, 1);
    (void)running_since_ns(&b);
    fc_service_give_up(b.service, fc_clock_now_ns());
    fc_probe_look(probe, &view);
    ck_assert(!view.is_under_way);
    ck_assert_int_eq(view.status, FC_DEVICE_LOST);
    fc_probe_send(probe, fc_clock_now_ns());
    ck_assert_double_eq(service_bench_counter(&b, 20, "replies_draining"), 0);
    fc_probe_look(probe, &view);
    ck_assert(!view.is_under_way);
    service_bench_close(&b);
    fc_probe_destroy(probe);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lanes");
    TCase *tests = tcase_create("lanes");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, long_launches_may_take_longer, 0, sizeof PATIENCE / sizeof PATIENCE[0]);
    tcase_add_test(tests, given_up_when_it_has_taken_longer_than_it_may);
    tcase_add_test(tests, a_launch_that_comes_back_changes_nothing);
    tcase_add_test(tests, who_answers_is_decided_once);
    tcase_add_loop_test(tests, each_lane_for_itself, 0, 2);
    tcase_add_test(tests, the_self_test_may_be_what_hangs);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
