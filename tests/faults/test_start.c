/* Starts under a fault: for every function of faults.def and everyone who calls it, the n-th call of a start fails. The
 * daemon ends with a status and one line that says why, leaving nothing, or comes up and serves as ever.
 *
 * FC_FAULTS_ALL=1 (make faults): every n and every errno; else the first call of each pair, alone and with all behind
 * it. FC_FAULTS_VERBOSE=1 shows what came of each.
 */
#include "tests/faults/script.h"
#include "tests/faults/tally.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of so many of the first calls also all behind them fail. */
#define FROM_HERE_ON 16

static bool wants_all(void)
{
    return getenv("FC_FAULTS_ALL") != NULL;
}

/* How often each was called in a start without faults, found once. */
static unsigned (*clean_calls)[FC_FAULT_ORIGIN_COUNT];

typedef struct verdict {
    fc_outcome outcome;
    char text[512];
} verdict;

static verdict verdict_make(fc_outcome outcome, const char *text)
{
    verdict v = {.outcome = outcome};
    snprintf(v.text, sizeof v.text, "%s", text);
    return v;
}

static bool has_word(const fc_trial *trial, const char *word)
{
    char *log = fc_trial_log(trial);
    bool has = log != NULL && strstr(log, word) != NULL;
    free(log);
    return has;
}

/* Of a daemon that ended by itself. */
static verdict judge_end(const fc_trial *trial, const fc_fault *fault, int code)
{
    char line[400] = "";
    bool has_reason = fc_trial_reason(trial, line, sizeof line);
    if (code == FC_TRIAL_HUNG)
        return verdict_make(FC_OUTCOME_HUNG, "did not end");
    if (code < 0) {
        fc_fault_origin in = fc_trial_died_in(trial);
        snprintf(line, sizeof line, "signal %d in %s", -code, fc_fault_origin_name(in));
        return verdict_make(fc_fault_is_library(in) && fc_fault_is_library(fault->origin) ? FC_OUTCOME_ABORTED
                                                                                          : FC_OUTCOME_CRASHED,
                            line);
    }
    if (code > 0 && !has_reason && fc_fault_is_library(fault->origin) && has_word(trial, "libgomp: "))
        return verdict_make(FC_OUTCOME_ABORTED, "libgomp ended it");
    if (code == 0 || !has_reason) {
        snprintf(line, sizeof line, "exit %d without a reason", code);
        return verdict_make(FC_OUTCOME_SILENT, line);
    }
    return verdict_make(FC_OUTCOME_REFUSED, line);
}

static verdict judge_up(fc_trial *trial, const fc_fault *fault)
{
    fc_script_report report;
    bool is_injected = fc_trial_injected(trial) > 0;
    fc_trial_disarm(trial);
    fc_script_run_short(trial, &report);
    bool has_ended = fc_trial_has_ended(trial);
    int code = fc_trial_stop(trial);
    if (has_ended)
        return judge_end(trial, fault, code);
    if (report.worst != FC_SAID_OK)
        return verdict_make(report.worst == FC_SAID_NOTHING ? FC_OUTCOME_HUNG : FC_OUTCOME_UNWELL, report.text);
    if (code == FC_TRIAL_HUNG)
        return verdict_make(FC_OUTCOME_HUNG, "served, did not end");
    if (code != 0)
        return verdict_make(code < 0 ? FC_OUTCOME_CRASHED : FC_OUTCOME_SILENT, "served, ended badly");
    return verdict_make(is_injected ? FC_OUTCOME_UNNOTICED : FC_OUTCOME_NOT_REACHED, "");
}

/* A lock file that cannot be locked may be another's, and a file that cannot be removed stays: both stop nobody. */
static bool may_leave(const fc_fault *fault)
{
    return fault->row == FC_FAULT_ROW_flock || fault->row == FC_FAULT_ROW_fstat || fault->row == FC_FAULT_ROW_stat ||
           fault->row == FC_FAULT_ROW_unlink;
}

static verdict start_once(fc_trial *trial, const fc_fault *fault)
{
    fc_trial_clear(trial);
    fc_trial_arm(trial, fault);
    fc_trial_launch(trial, NULL);
    fc_trial_state state = fc_trial_wait_ready(trial);
    if (state == FC_TRIAL_READY)
        return judge_up(trial, fault);
    if (state == FC_TRIAL_ENDED)
        return judge_end(trial, fault, fc_trial_wait_end(trial));
    fc_e2e_kill(&trial->daemon);
    return verdict_make(FC_OUTCOME_HUNG, "neither ready nor ended");
}

/* One that was killed, or gave up, had no time to tidy: what it leaves must not be in the next one's way. */
static verdict try_start(fc_trial *trial, const fc_fault *fault)
{
    static const fc_fault NONE = {.first = UINT_MAX, .last = UINT_MAX};
    char names[200];
    verdict v = start_once(trial, fault);
    if (!fc_outcome_is_good(v.outcome))
        return v;
    if (v.outcome == FC_OUTCOME_ABORTED || strncmp(v.text, "what=", 5) == 0 || may_leave(fault)) {
        verdict next = start_once(trial, &NONE);
        if (next.outcome != FC_OUTCOME_NOT_REACHED)
            return verdict_make(FC_OUTCOME_LEFT, next.text);
    }
    return fc_trial_leftovers(trial, names, sizeof names) > 0 ? verdict_make(FC_OUTCOME_LEFT, names) : v;
}

static void show(const fc_trial *trial, const fc_fault *fault, const verdict *v)
{
    printf("%-9s %s by %s, call %u%s, %s: %s (at %#lx)\n", fc_outcome_name(v->outcome), fc_fault_name(fault->row),
           fc_fault_origin_name(fault->origin), fault->first, fault->last != fault->first ? " on" : "",
           strerrorname_np(fault->error), v->text, (unsigned long)atomic_load(&trial->page->where));
    fflush(stdout);
}

static bool is_bad(fc_trial *trial, const char *pair, const fc_fault *fault)
{
    verdict v = try_start(trial, fault);
    fc_tally_add(pair, v.outcome);
    if (!fc_outcome_is_good(v.outcome) || getenv("FC_FAULTS_VERBOSE") != NULL)
        show(trial, fault, &v);
    return !fc_outcome_is_good(v.outcome);
}

/* No signal interrupts every call. And what nng does about a socket that stays blocking takes the daemon's patience. */
static bool may_persist(const fc_fault *fault)
{
    bool takes_long = fault->row == FC_FAULT_ROW_fcntl && fault->origin == FC_FAULT_BY_NNG;
    return fault->error != EINTR && (wants_all() || !takes_long);
}

/* The n-th call alone, and it and all behind it. */
static unsigned sweep_error(fc_trial *trial, const char *pair, fc_fault fault, unsigned calls)
{
    unsigned bad = 0;
    for (unsigned n = 1; n <= calls; n++) {
        fault.first = fault.last = n;
        bad += is_bad(trial, pair, &fault);
        fault.last = UINT_MAX;
        bad += n <= FROM_HERE_ON && may_persist(&fault) && is_bad(trial, pair, &fault);
    }
    return bad;
}

static void sweep_pair(fc_trial *trial, fc_fault_row row, fc_fault_origin origin)
{
    unsigned calls = clean_calls[row][origin], bad = 0;
    char pair[48];
    snprintf(pair, sizeof pair, "%s/%s", fc_fault_name(row), fc_fault_origin_name(origin));
    /* Waits come round as often as they like. */
    bool is_wait = row == FC_FAULT_ROW_epoll_wait || row == FC_FAULT_ROW_epoll_pwait || row == FC_FAULT_ROW_poll;
    calls = !wants_all() ? 1 : is_wait && calls > FROM_HERE_ON ? FROM_HERE_ON : calls;
    for (int e = 0; fc_fault_error(row, e) != 0 && (e == 0 || wants_all()); e++)
        bad +=
            sweep_error(trial, pair, (fc_fault){.row = row, .origin = origin, .error = fc_fault_error(row, e)}, calls);
    ck_assert_msg(bad == 0, "%s: %u of its failures end badly, see above", pair, bad);
}

START_TEST(each_call_of_a_start_may_fail)
{
    fc_trial trial;
    fc_trial_open(&trial);
    for (int origin = 0; origin < FC_FAULT_ORIGIN_COUNT; origin++)
        if (clean_calls[_i][origin] > 0)
            sweep_pair(&trial, (fc_fault_row)_i, (fc_fault_origin)origin);
    fc_trial_close(&trial);
}
END_TEST

START_TEST(a_start_without_faults_is_counted)
{
    fc_trial trial;
    fc_trial_open(&trial);
    fc_trial_launch(&trial, NULL);
    ck_assert_int_eq(fc_trial_wait_ready(&trial), FC_TRIAL_READY);
    for (int row = 0; row < FC_FAULT_ROW_COUNT; row++)
        for (int origin = 0; origin < FC_FAULT_ORIGIN_COUNT; origin++)
            clean_calls[row][origin] = fc_trial_calls(&trial, (fc_fault_row)row, (fc_fault_origin)origin);
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
    clean_calls = fc_tally_share(sizeof *clean_calls * FC_FAULT_ROW_COUNT);
    tcase_add_test(fc_e2e_case(suite, "counted"), a_start_without_faults_is_counted);
    TCase *sweep = fc_e2e_case(suite, "each call");
    tcase_set_timeout(sweep, wants_all() ? 3600 : 90);
    tcase_add_loop_test(sweep, each_call_of_a_start_may_fail, 0, FC_FAULT_ROW_COUNT);
    int code = fc_e2e_main(suite);
    fc_tally_print("at the start");
    return code;
}
