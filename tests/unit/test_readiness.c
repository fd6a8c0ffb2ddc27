/* daemon/readiness, probe and slow_log: when a server is worth asking, what its self-test finds, which requests are
 * called slow.
 */
#include "daemon/clock.h"
#include "daemon/readiness.h"
#include "daemon/slow_log.h"
#include "tests/support/service_bench.h"

#include <check.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define S FC_NS_PER_S
#define TIMEOUT_NS (10 * S)
#define NOW_NS (1000 * S)

/* --- the verdict -------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    fc_readiness_view view;
    const char *why; /* NULL: ready */
} VERDICTS[] = {
    {"just started", {.pulse = {.ran_ns = 0}}, "starting: no attention has finished yet"},
    {"just ran", {.pulse = {.ran_ns = NOW_NS}}, NULL},
    {"idle, not too long", {.pulse = {.ran_ns = NOW_NS - TIMEOUT_NS + 1}}, NULL},
    {"idle too long",
     {.pulse = {.ran_ns = NOW_NS - TIMEOUT_NS}},
     "no attention has finished for 10.0 s; the self-test is refused"},
    {"hangs before the lane",
     {.pulse = {.ran_ns = NOW_NS - 12 * S}, .probe = {.is_under_way = true, .since_ns = NOW_NS - 10 * S}},
     "no attention has finished for 12.0 s; the self-test waits"},
    {"draining", {.pulse = {.is_draining = true, .ran_ns = NOW_NS}}, "draining"},
    {"the device is lost",
     {.pulse = {.is_draining = true, .is_device_lost = true, .ran_ns = NOW_NS}},
     "the device failed; the server is about to restart"},
    {"a long launch", {.pulse = {.ran_ns = NOW_NS, .longest_launch_ns = TIMEOUT_NS - 1}}, NULL},
    {"one lane of several hangs",
     {.pulse = {.ran_ns = NOW_NS, .longest_launch_ns = TIMEOUT_NS}},
     "a lane has been at one launch for 10.0 s"},
    {"test passed", {.pulse = {.ran_ns = NOW_NS - S}, .probe = {.ended_ns = NOW_NS - S, .status = FC_OK}}, NULL},
    {"test failed",
     {.pulse = {.ran_ns = NOW_NS - 3 * S}, .probe = {.ended_ns = NOW_NS - S, .status = FC_INTERNAL}},
     "the self-test failed: internal"},
    {"others went well since",
     {.pulse = {.ran_ns = NOW_NS}, .probe = {.ended_ns = NOW_NS - S, .status = FC_INTERNAL}},
     NULL},
    {"no room for a test",
     {.pulse = {.ran_ns = NOW_NS - 3 * S}, .probe = {.ended_ns = NOW_NS - S, .status = FC_BUSY}},
     NULL},
    {"no room for long",
     {.pulse = {.ran_ns = NOW_NS - 11 * S}, .probe = {.ended_ns = NOW_NS - S, .status = FC_BUSY}},
     "no attention has finished for 11.0 s; the self-test is refused"},
    {"computes wrongly",
     {.pulse = {.ran_ns = NOW_NS}, .probe = {.ended_ns = NOW_NS - S, .status = FC_BAD_REPLY}},
     "the self-test's answer is wrong"},
};

START_TEST(the_verdict_names_its_reason)
{
    fc_readiness readiness = {.asked_ns = 1};
    fc_reason reason = {""};
    fc_readiness_step(&readiness, &VERDICTS[_i].view, TIMEOUT_NS, NOW_NS);
    bool is_ready = fc_readiness_judge(&readiness, &VERDICTS[_i].view, TIMEOUT_NS, NOW_NS, &reason);
    ck_assert_msg(is_ready == (VERDICTS[_i].why == NULL), "%s: %s", VERDICTS[_i].name, reason.text);
    if (!is_ready)
        ck_assert_str_eq(reason.text, VERDICTS[_i].why);
}
END_TEST

static const struct {
    const char *name;
    fc_readiness_view view;
    uint64_t asked_ns;
    bool wants_probe;
} STEPS[] = {
    {"at once", {.pulse = {.ran_ns = 0}}, 0, true},
    {"not twice at once", {.pulse = {.ran_ns = 0}}, NOW_NS - S, false},
    {"still nothing", {.pulse = {.ran_ns = 0}}, NOW_NS - 2 * S, true},
    {"others run", {.pulse = {.ran_ns = NOW_NS - S}}, 0, false},
    {"nobody runs", {.pulse = {.ran_ns = NOW_NS - 2 * S}}, NOW_NS - 9 * S, true},
    {"nobody runs, just asked", {.pulse = {.ran_ns = NOW_NS - 2 * S}}, NOW_NS - S, false},
    {"one is under way", {.pulse = {.ran_ns = 1}, .probe = {.is_under_way = true}}, NOW_NS - 9 * S, false},
    {"draining", {.pulse = {.is_draining = true}}, 0, false},
    {"a wrong answer is tried again",
     {.pulse = {.ran_ns = NOW_NS}, .probe = {.ended_ns = NOW_NS - S, .status = FC_BAD_REPLY}},
     NOW_NS - 3 * S,
     true},
};

START_TEST(it_tests_when_nobody_else_does)
{
    fc_readiness readiness = {.asked_ns = STEPS[_i].asked_ns};
    ck_assert_msg(fc_readiness_step(&readiness, &STEPS[_i].view, TIMEOUT_NS, NOW_NS) == STEPS[_i].wants_probe, "%s",
                  STEPS[_i].name);
}
END_TEST

/* --- the self-test ------------------------------------------------------------------------------------------------ */

static fc_probe_view await_end(const fc_probe *probe)
{
    fc_probe_view view;
    do {
        sched_yield();
        fc_probe_look(probe, &view);
    } while (view.is_under_way);
    return view;
}

START_TEST(it_goes_through_a_lane_and_into_no_statistics)
{
    static const char *const untouched[] = {"requests_attend", "launches", "total_us_sum",
                                            "dropped",         "queued",   "running"};
    service_bench b;
    fc_probe *probe = NULL;
    fc_probe_view view;
    service_bench_prepare(&b);
    b.engine.answers_v = true;
    fc_service_config config = service_bench_config(&b);
    service_bench_open_with(&b, &config);
    ck_assert_int_eq(fc_probe_create(b.service, &probe), FC_OK);
    fc_probe_look(probe, &view);
    ck_assert(!view.is_under_way && view.ended_ns == 0);
    fake_engine_hold(&b.engine);
    uint64_t before_ns = fc_clock_now_ns();
    fc_probe_send(probe, before_ns);
    fc_probe_send(probe, before_ns + 1);
    fake_engine_await_launches(&b.engine, 1);
    fc_probe_look(probe, &view);
    ck_assert(view.is_under_way && view.since_ns == before_ns);
    ck_assert_double_eq(service_bench_counter(&b, 1, "running"), 0);
    fc_service_pulse pulse;
    fc_service_pulse_look(b.service, fc_clock_now_ns() + 5 * S, &pulse);
    ck_assert(pulse.ran_ns == 0 && pulse.longest_launch_ns > 4 * S && !pulse.is_draining);
    fake_engine_release(&b.engine, 1);
    view = await_end(probe);
    ck_assert_int_eq(view.status, FC_OK);
    ck_assert(view.ended_ns >= before_ns);
    ck_assert_uint_eq(fake_engine_launch_count(&b.engine), 1);
    fc_service_pulse_look(b.service, fc_clock_now_ns(), &pulse);
    ck_assert(pulse.ran_ns >= before_ns && pulse.longest_launch_ns == 0);
    ck_assert_double_eq(service_bench_counter(&b, 2, "replies_ok"), 1); /* to box 1 */
    for (size_t i = 0; i < sizeof untouched / sizeof untouched[0]; i++)
        ck_assert_msg(service_bench_counter(&b, 3 + (int)i, untouched[i]) == 0, "%s", untouched[i]);
    service_bench_close(&b);
    fc_probe_destroy(probe);
}
END_TEST

static const struct {
    const char *name;
    bool answers_v;
    fc_status launch_status, wanted;
} OUTCOMES[] = {
    {"right", true, FC_OK, FC_OK},
    {"wrong bits", false, FC_OK, FC_BAD_REPLY},
    {"fails", true, FC_INTERNAL, FC_INTERNAL},
    {"no memory", true, FC_NO_MEMORY, FC_INTERNAL},
    {"gone", true, FC_DEVICE_LOST, FC_DEVICE_LOST},
};

START_TEST(it_tells_what_it_found)
{
    service_bench b;
    fc_probe *probe = NULL;
    service_bench_prepare(&b);
    b.engine.answers_v = OUTCOMES[_i].answers_v;
    fc_service_config config = service_bench_config(&b);
    service_bench_open_with(&b, &config);
    fake_engine_set_launch_status(&b.engine, OUTCOMES[_i].launch_status);
    ck_assert_int_eq(fc_probe_create(b.service, &probe), FC_OK);
    fc_probe_send(probe, 1);
    ck_assert_int_eq(await_end(probe).status, OUTCOMES[_i].wanted);
    fc_service_drain(b.service);
    fc_probe_send(probe, 2);
    ck_assert_int_eq(await_end(probe).status, FC_DRAINING);
    ck_assert(fc_service_is_idle(b.service));
    service_bench_close(&b);
    fc_probe_destroy(probe);
}
END_TEST

/* --- the slow ----------------------------------------------------------------------------------------------------- */

START_TEST(a_flood_of_slow_requests_is_thinned_out)
{
    fc_slow_log log;
    uint64_t left_out = 99;
    fc_slow_log_init(&log, 1);
    for (int i = 0; i < FC_SLOW_LOG_PER_S; i++) {
        ck_assert(fc_log_gate_pass(&log.gate, NOW_NS + (uint64_t)i, &left_out));
        ck_assert_uint_eq(left_out, 0);
    }
    for (int i = 0; i < 1000; i++)
        ck_assert(!fc_log_gate_pass(&log.gate, NOW_NS + S - 1, &left_out));
    ck_assert(fc_log_gate_pass(&log.gate, NOW_NS + S, &left_out));
    ck_assert_uint_eq(left_out, 1000);
    ck_assert(fc_log_gate_pass(&log.gate, NOW_NS + S, &left_out));
    ck_assert_uint_eq(left_out, 0);
    ck_assert(fc_log_gate_pass(&log.gate, NOW_NS, &left_out)); /* a time noted earlier by another thread */
    fc_slow_log_fini(&log);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("readiness");
    TCase *cases = tcase_create("readiness");
    tcase_add_loop_test(cases, the_verdict_names_its_reason, 0, (int)(sizeof VERDICTS / sizeof VERDICTS[0]));
    tcase_add_loop_test(cases, it_tests_when_nobody_else_does, 0, (int)(sizeof STEPS / sizeof STEPS[0]));
    tcase_add_test(cases, it_goes_through_a_lane_and_into_no_statistics);
    tcase_add_loop_test(cases, it_tells_what_it_found, 0, (int)(sizeof OUTCOMES / sizeof OUTCOMES[0]));
    tcase_add_test(cases, a_flood_of_slow_requests_is_thinned_out);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
