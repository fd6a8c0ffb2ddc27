/* Ends under a fault: for every function of faults.def and everyone who calls it, the n-th call from SIGTERM on fails,
 * or all from there on. The daemon ends within its limits, having served all there was, and leaves nothing.
 */
#include "tests/faults/script.h"
#include "tests/faults/sweep.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define FORGOTTEN_AFTER_MS 3000

static fc_sweep_calls clean_calls;

static void start(fc_trial *trial)
{
    fc_script_report report;
    fc_trial_clear(trial);
    fc_trial_launch(trial, NULL);
    ck_assert_int_eq(fc_trial_wait_ready(trial), FC_TRIAL_READY);
    fc_script_run_short(trial, &report);
    ck_assert_msg(report.worst == FC_SAID_OK, "without a fault: %s", report.text);
    fc_trial_clear(trial);
}

/* Then it cannot say that it gave up, either: its I/O thread cannot be woken. */
static bool loses_log(const fc_fault *fault)
{
    return fault->row == FC_FAULT_ROW_write && fault->origin == FC_FAULT_BY_DAEMON && fault->last != fault->first;
}

/* libuv's lock of its signal handlers is a byte in a pipe (uv__signal_lock()). */
static bool is_at_signals(const fc_fault *fault)
{
    return fault->origin == FC_FAULT_BY_UV && (fault->row == FC_FAULT_ROW_read || fault->row == FC_FAULT_ROW_write);
}

/* libuv's signal handler forgets a signal when that byte cannot be read: who wants the end asks again, later. */
static int stop(fc_trial *trial, const fc_fault *fault)
{
    struct pollfd end = {.fd = trial->daemon.pid_fd, .events = POLLIN};
    fc_e2e_signal(&trial->daemon, SIGTERM);
    if (is_at_signals(fault) && poll(&end, 1, fc_e2e_limit_ms(FORGOTTEN_AFTER_MS)) == 0) {
        fc_trial_disarm(trial);
        fc_e2e_signal(&trial->daemon, SIGTERM);
    }
    return fc_trial_wait_end(trial);
}

/* What was asked for is an end; how tidy it may be depends on what failed. */
static fc_verdict judge(fc_trial *trial, const fc_fault *fault, int code)
{
    char names[200];
    /* Where the byte cannot be written back, whoever wants the lock next waits for ever. */
    if (code == FC_TRIAL_HUNG && is_at_signals(fault) && fault->row == FC_FAULT_ROW_write)
        return fc_verdict_make(FC_OUTCOME_LOCKED, "libuv's signals");
    if (code < 0)
        return fc_verdict_of_end(trial, fault, code);
    bool gave_up = fc_trial_logged(trial, "event=gave_up");
    if (code != 0 && !gave_up)
        return fc_verdict_make(FC_OUTCOME_SILENT, "ended with a failure");
    if (!gave_up && fc_trial_cuda_live(trial) != 0)
        return fc_verdict_make(FC_OUTCOME_LEFT, "memory or streams on the device");
    bool may_leave = gave_up || fault->row == FC_FAULT_ROW_unlink || loses_log(fault);
    if (!may_leave && fc_trial_leftovers(trial, names, sizeof names) > 0)
        return fc_verdict_make(FC_OUTCOME_LEFT, names);
    return fc_verdict_make(fc_trial_injected(trial) == 0 ? FC_OUTCOME_NOT_REACHED
                           : gave_up                     ? FC_OUTCOME_REFUSED
                                                         : FC_OUTCOME_UNNOTICED,
                           gave_up ? "gave up, and said so" : "");
}

static fc_verdict try_fault(fc_trial *trial, const fc_fault *fault)
{
    start(trial); /* in the folder the one before has left */
    fc_trial_arm(trial, fault);
    fc_verdict v = judge(trial, fault, stop(trial, fault));
    fc_trial_disarm(trial);
    return v;
}

START_TEST(each_call_of_an_end_may_fail)
{
    const fc_sweep sweep = {
        .calls = clean_calls, .calls_most = 200, .from_here_on = fc_sweep_is_whole() ? 4 : 0, .try_fault = try_fault};
    fc_trial trial;
    fc_trial_open(&trial);
    fc_sweep_row(&sweep, &trial, (fc_fault_row)_i);
    fc_trial_close(&trial);
}
END_TEST

START_TEST(an_end_without_faults_is_counted)
{
    fc_trial trial;
    fc_trial_open(&trial);
    start(&trial);
    ck_assert_int_eq(fc_trial_stop(&trial), 0);
    fc_sweep_take_calls(&trial, clean_calls);
    ck_assert_uint_gt(clean_calls[FC_FAULT_ROW_unlink][FC_FAULT_BY_DAEMON], 0);
    fc_trial_close(&trial);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faults at the end");
    fc_tally_open();
    clean_calls = fc_sweep_share_calls();
    tcase_add_test(fc_e2e_case(suite, "counted"), an_end_without_faults_is_counted);
    TCase *sweep = fc_e2e_case(suite, "each call");
    tcase_set_timeout(sweep, fc_sweep_is_whole() ? 3600 : 90);
    tcase_add_loop_test(sweep, each_call_of_an_end_may_fail, 0, FC_FAULT_ROW_COUNT);
    int code = fc_e2e_main(suite);
    fc_tally_print("at the end");
    return code;
}
