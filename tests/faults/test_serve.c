/* Serving under a fault: for every function of faults.def and everyone who calls it, the n-th call of a list of
 * requests fails (script.h), or all from there on until the list is through. Each request is answered with a status of
 * the protocol, or its connection is cut; afterwards everything is right again, and nothing stays behind.
 */
#include "tests/faults/script.h"
#include "tests/faults/sweep.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define SETTLE_MS 10000
#define LOOK_MS 5
/* While everything fails for good. */
#define PERSISTENT_REQUEST_MS 1500

static fc_sweep_calls clean_calls;
static fc_trial_holdings before;

static void start(fc_trial *trial)
{
    fc_script_report report;
    fc_trial_clear(trial);
    fc_trial_launch(trial, NULL);
    ck_assert_int_eq(fc_trial_wait_ready(trial), FC_TRIAL_READY);
    /* What is made on first use is there afterwards. */
    for (int i = 0; i < 3; i++) {
        fc_script_run(trial, FC_SCRIPT_REQUEST_MS, &report);
        ck_assert_msg(report.worst == FC_SAID_OK, "without a fault: %s", report.text);
    }
}

/* Back to what a daemon holds that nobody is connected to. */
static bool is_settled(fc_trial *trial, char *out_text, size_t text_bytes)
{
    uint64_t end_us = fc_e2e_end_us(SETTLE_MS);
    fc_trial_holdings now = fc_trial_held(trial);
    while ((now.descriptors > before.descriptors || now.threads > before.threads) && fc_e2e_now_us() < end_us) {
        poll(NULL, 0, LOOK_MS);
        now = fc_trial_held(trial);
    }
    snprintf(out_text, text_bytes, "%u descriptors, %u before; %u threads, %u before", now.descriptors,
             before.descriptors, now.threads, before.threads);
    return now.descriptors <= before.descriptors && now.threads <= before.threads;
}

static fc_verdict judge_after(fc_trial *trial)
{
    static const char *const EMPTY[] = {"arenas", "running", "queued", "replying"};
    char text[200];
    fc_script_report report;
    fc_script_run(trial, FC_SCRIPT_REQUEST_MS, &report);
    if (report.worst != FC_SAID_OK)
        return fc_verdict_make(report.worst == FC_SAID_NOTHING ? FC_OUTCOME_HUNG : FC_OUTCOME_UNWELL, report.text);
    for (size_t i = 0; i < sizeof EMPTY / sizeof EMPTY[0]; i++)
        if (!fc_script_await(trial, EMPTY[i], 0, 0))
            return fc_verdict_make(FC_OUTCOME_LEFT, EMPTY[i]);
    if (!is_settled(trial, text, sizeof text))
        return fc_verdict_make(FC_OUTCOME_LEFT, text);
    return fc_verdict_make(FC_OUTCOME_UNNOTICED, "");
}

/* A daemon that was ended is started again, which has to work. */
static fc_verdict judge_ended(fc_trial *trial, const fc_fault *fault)
{
    fc_verdict v = fc_verdict_of_end(trial, fault, fc_trial_wait_end(trial));
    start(trial); /* where it fails, so does the test */
    return v;
}

/* What nng could not watch it does not let go of. Where that is a connection the daemon knows of, it is counted, and
 * past --leaked-pipes the daemon makes way for another. One that was just accepted nng neither closes nor tells of: a
 * descriptor a failure, seen in process_open_fds.
 */
static bool is_forgotten_by_nng(const fc_trial *trial, const fc_fault *fault, fc_outcome outcome, unsigned injected)
{
    if (outcome != FC_OUTCOME_LEFT || fault->origin != FC_FAULT_BY_NNG)
        return false;
    fc_trial_holdings now = fc_trial_held(trial);
    bool is_new = fault->row == FC_FAULT_ROW_epoll_ctl || fault->row == FC_FAULT_ROW_calloc;
    bool is_accepted = is_new && now.threads <= before.threads && now.descriptors > before.descriptors &&
                       now.descriptors <= before.descriptors + injected;
    return is_accepted || fc_script_await(trial, "pipes_leaked", 1, UINT_MAX);
}

/* nng 1.5 looks at no result of the epoll_ctl() that arms a connection for its next event (nni_posix_pfd_arm()), nor of
 * the fcntl() that makes a new one nonblocking (nni_posix_pfd_init()): nobody reads what comes, and nobody tells the
 * daemon. It lasts as long as that connection does. */
static bool may_lose_events(const fc_fault *fault)
{
    return fault->origin == FC_FAULT_BY_NNG &&
           (fault->row == FC_FAULT_ROW_epoll_ctl || fault->row == FC_FAULT_ROW_fcntl);
}

static fc_verdict judge_alive(fc_trial *trial, const fc_fault *fault, const fc_script_report *during, unsigned injected)
{
    /* Who asks while a fault lasts may have to wait as long. */
    bool may_wait = fault->last != fault->first || may_lose_events(fault);
    if (during->worst == FC_SAID_WRONG || (during->worst == FC_SAID_NOTHING && !may_wait))
        return fc_verdict_make(during->worst == FC_SAID_NOTHING ? FC_OUTCOME_HUNG : FC_OUTCOME_UNWELL, during->text);
    fc_verdict after = judge_after(trial);
    if (is_forgotten_by_nng(trial, fault, after.outcome, injected))
        return fc_verdict_make(FC_OUTCOME_FORGOTTEN, after.text);
    if (!fc_outcome_is_good(after.outcome))
        return after;
    bool is_waited = during->worst == FC_SAID_NOTHING && fault->last == fault->first;
    return fc_verdict_make(injected == 0                 ? FC_OUTCOME_NOT_REACHED
                           : is_waited                   ? FC_OUTCOME_WAITED
                           : during->worst == FC_SAID_OK ? FC_OUTCOME_UNNOTICED
                                                         : FC_OUTCOME_ANSWERED,
                           during->text);
}

static fc_verdict try_fault(fc_trial *trial, const fc_fault *fault)
{
    fc_script_report report;
    fc_trial_arm(trial, fault);
    fc_script_run(trial, fault->last != fault->first ? PERSISTENT_REQUEST_MS : FC_SCRIPT_REQUEST_MS, &report);
    unsigned injected = fc_trial_injected(trial);
    fc_trial_disarm(trial);
    fc_verdict v = {.outcome = FC_OUTCOME_HUNG};
    if (!fc_trial_is_at_end(trial))
        v = judge_alive(trial, fault, &report, injected);
    if (fc_trial_is_at_end(trial))
        return judge_ended(trial, fault);
    if (v.outcome == FC_OUTCOME_FORGOTTEN || !fc_outcome_is_good(v.outcome)) { /* the next one's is a fresh one */
        fc_e2e_kill(&trial->daemon);
        start(trial);
    }
    return v;
}

START_TEST(each_call_while_serving_may_fail)
{
    const fc_sweep sweep = {
        .calls = clean_calls, .calls_most = 400, .from_here_on = fc_sweep_is_whole() ? 2 : 0, .try_fault = try_fault};
    fc_trial trial;
    bool is_called = false;
    for (int origin = 0; origin < FC_FAULT_ORIGIN_COUNT; origin++)
        is_called = is_called || clean_calls[_i][origin] > 0;
    if (!is_called)
        return;
    fc_trial_open(&trial);
    start(&trial);
    before = fc_trial_held(&trial);
    fc_sweep_row(&sweep, &trial, (fc_fault_row)_i);
    ck_assert_int_eq(fc_trial_stop(&trial), 0);
    fc_trial_close(&trial);
}
END_TEST

START_TEST(serving_without_faults_is_counted)
{
    fc_trial trial;
    fc_script_report report;
    fc_trial_open(&trial);
    start(&trial);
    fc_trial_clear(&trial);
    fc_script_run(&trial, FC_SCRIPT_REQUEST_MS, &report);
    ck_assert_msg(report.worst == FC_SAID_OK, "%s", report.text);
    fc_sweep_take_calls(&trial, clean_calls);
    ck_assert_uint_gt(clean_calls[FC_FAULT_ROW_memfd_create][FC_FAULT_BY_DAEMON], 0);
    ck_assert_int_eq(fc_trial_stop(&trial), 0);
    fc_trial_close(&trial);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faults while serving");
    fc_tally_open();
    clean_calls = fc_sweep_share_calls();
    tcase_add_test(fc_e2e_case(suite, "counted"), serving_without_faults_is_counted);
    TCase *sweep = fc_e2e_case(suite, "each call");
    tcase_set_timeout(sweep, fc_sweep_is_whole() ? 3600 : 90);
    tcase_add_loop_test(sweep, each_call_while_serving_may_fail, 0, FC_FAULT_ROW_COUNT);
    int code = fc_e2e_main(suite);
    fc_tally_print("while serving");
    return code;
}
