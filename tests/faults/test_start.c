/* Starts under a fault: for every function of faults.def and everyone who calls it, the n-th call of a start fails, or
 * all from there on. The daemon ends with a status and one line that says why, leaving nothing, or comes up and serves
 * as ever.
 */
#include "tests/faults/script.h"
#include "tests/faults/sweep.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static fc_sweep_calls clean_calls;

static fc_verdict judge_up(fc_trial *trial, const fc_fault *fault)
{
    char reason[300];
    fc_script_report report;
    bool is_injected = fc_trial_injected(trial) > 0;
    fc_trial_disarm(trial);
    fc_script_run_short(trial, &report);
    if (fc_trial_is_at_end(trial))
        return fc_verdict_of_end(trial, fault, fc_trial_wait_end(trial));
    int code = fc_trial_stop(trial);
    if (report.worst != FC_SAID_OK)
        return fc_verdict_make(report.worst == FC_SAID_NOTHING ? FC_OUTCOME_HUNG : FC_OUTCOME_UNWELL, report.text);
    if (code == FC_TRIAL_HUNG)
        return fc_verdict_make(FC_OUTCOME_HUNG, "served, did not end");
    if (code < 0)
        return fc_verdict_make(FC_OUTCOME_CRASHED, "served, ended badly");
    if (fc_trial_logged(trial, "event=gave_up") && fc_trial_reason(trial, reason, sizeof reason))
        return fc_verdict_make(FC_OUTCOME_REFUSED, reason); /* at the end, whatever its code */
    if (code != 0)
        return fc_verdict_make(FC_OUTCOME_SILENT, "served, ended badly");
    return fc_verdict_make(is_injected ? FC_OUTCOME_UNNOTICED : FC_OUTCOME_NOT_REACHED, "");
}

/* A lock file that cannot be locked may be another's, and a file that cannot be removed stays: both stop nobody. */
static bool may_leave(const fc_fault *fault)
{
    return fault->row == FC_FAULT_ROW_flock || fault->row == FC_FAULT_ROW_fstat || fault->row == FC_FAULT_ROW_stat ||
           fault->row == FC_FAULT_ROW_unlink;
}

static fc_verdict start_once(fc_trial *trial, const fc_fault *fault)
{
    fc_trial_clear(trial);
    fc_trial_arm(trial, fault);
    fc_trial_launch(trial, NULL);
    fc_trial_state state = fc_trial_wait_ready(trial);
    if (state == FC_TRIAL_READY)
        return judge_up(trial, fault);
    if (state == FC_TRIAL_ENDED)
        return fc_verdict_of_end(trial, fault, fc_trial_wait_end(trial));
    fc_e2e_kill(&trial->daemon);
    return fc_verdict_make(FC_OUTCOME_HUNG, "neither ready nor ended");
}

/* One that was killed, or gave up, had no time to tidy: what it leaves must not be in the next one's way. */
static fc_verdict try_start(fc_trial *trial, const fc_fault *fault)
{
    static const fc_fault NONE = {.first = UINT_MAX, .last = UINT_MAX};
    char names[200];
    fc_verdict v = start_once(trial, fault);
    if (!fc_outcome_is_good(v.outcome))
        return v;
    if (v.outcome == FC_OUTCOME_ABORTED || strncmp(v.text, "what=", 5) == 0 || may_leave(fault)) {
        fc_verdict next = start_once(trial, &NONE);
        if (next.outcome != FC_OUTCOME_NOT_REACHED)
            return fc_verdict_make(FC_OUTCOME_LEFT, next.text);
    }
    if (fc_trial_cuda_live(trial) != 0)
        return fc_verdict_make(FC_OUTCOME_LEFT, "memory or streams on the device");
    return fc_trial_leftovers(trial, names, sizeof names) > 0 ? fc_verdict_make(FC_OUTCOME_LEFT, names) : v;
}

START_TEST(each_call_of_a_start_may_fail)
{
    const fc_sweep sweep = {.calls = clean_calls, .calls_most = 2000, .from_here_on = 16, .try_fault = try_start};
    fc_trial trial;
    fc_trial_open(&trial);
    fc_sweep_row(&sweep, &trial, (fc_fault_row)_i);
    fc_trial_close(&trial);
}
END_TEST

START_TEST(a_start_without_faults_is_counted)
{
    fc_trial trial;
    fc_trial_open(&trial);
    fc_trial_launch(&trial, NULL);
    ck_assert_int_eq(fc_trial_wait_ready(&trial), FC_TRIAL_READY);
    fc_sweep_take_calls(&trial, clean_calls);
    ck_assert_uint_gt(clean_calls[FC_FAULT_ROW_calloc][FC_FAULT_BY_DAEMON], 0);
    ck_assert_uint_gt(clean_calls[FC_FAULT_ROW_socket][FC_FAULT_BY_NNG], 0);
    ck_assert_int_eq(fc_trial_stop(&trial), 0);
    fc_trial_close(&trial);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faults at the start");
    fc_tally_open();
    clean_calls = fc_sweep_share_calls();
    tcase_add_test(fc_e2e_case(suite, "counted"), a_start_without_faults_is_counted);
    TCase *sweep = fc_e2e_case(suite, "each call");
    tcase_set_timeout(sweep, fc_sweep_is_whole() ? 3600 : 90);
    tcase_add_loop_test(sweep, each_call_of_a_start_may_fail, 0, FC_FAULT_ROW_COUNT);
    int code = fc_e2e_main(suite);
    fc_tally_print("at the start");
    return code;
}
