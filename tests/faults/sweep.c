/* See sweep.h. */
#include "tests/faults/sweep.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Waits come round as often as they like. */
#define WAITS_MAX 16
/* Of daemon/exit.def. */
#define EXIT_DEVICE_LOST 4

bool fc_sweep_is_whole(void)
{
    return getenv("FC_FAULTS_ALL") != NULL;
}

fc_verdict fc_verdict_make(fc_outcome outcome, const char *text)
{
    fc_verdict v = {.outcome = outcome};
    snprintf(v.text, sizeof v.text, "%s", text);
    return v;
}

bool fc_trial_is_at_end(const fc_trial *trial)
{
    return fc_trial_has_ended(trial) || fc_trial_logged(trial, "cause=device_lost");
}

fc_verdict fc_verdict_of_end(const fc_trial *trial, const fc_fault *fault, int code)
{
    char line[400] = "";
    bool has_reason = fc_trial_reason(trial, line, sizeof line);
    if (code == FC_TRIAL_HUNG)
        return fc_verdict_make(FC_OUTCOME_HUNG, "did not end");
    if (code == EXIT_DEVICE_LOST && fault->origin == FC_FAULT_BY_ENGINE && fc_trial_logged(trial, "cause=device_lost"))
        return fc_verdict_make(FC_OUTCOME_REFUSED, "the device is lost: exit code 4");
    if (code < 0) {
        fc_fault_origin in = fc_trial_died_in(trial);
        bool is_library = fc_fault_is_library(in) && fc_fault_is_library(fault->origin);
        snprintf(line, sizeof line, "signal %d in %s", -code, fc_fault_origin_name(in));
        return fc_verdict_make(is_library ? FC_OUTCOME_ABORTED : FC_OUTCOME_CRASHED, line);
    }
    if (code > 0 && !has_reason && fc_fault_is_library(fault->origin) && fc_trial_logged(trial, "libgomp: "))
        return fc_verdict_make(FC_OUTCOME_ABORTED, "libgomp ended it");
    if (code == 0 || !has_reason) {
        snprintf(line, sizeof line, "exit %d without a reason", code);
        return fc_verdict_make(FC_OUTCOME_SILENT, line);
    }
    return fc_verdict_make(FC_OUTCOME_REFUSED, line);
}

/* --- the sweep ---------------------------------------------------------------------------------------------------- */

fc_sweep_calls fc_sweep_share_calls(void)
{
    return fc_tally_share(sizeof(unsigned[FC_FAULT_ROW_COUNT][FC_FAULT_ORIGIN_COUNT]));
}

void fc_sweep_take_calls(const fc_trial *trial, fc_sweep_calls calls)
{
    for (int row = 0; row < FC_FAULT_ROW_COUNT; row++)
        for (int origin = 0; origin < FC_FAULT_ORIGIN_COUNT; origin++)
            calls[row][origin] = fc_trial_calls(trial, (fc_fault_row)row, (fc_fault_origin)origin);
}

static void show(const fc_trial *trial, const fc_fault *fault, const fc_verdict *v)
{
    const char *error = fault->row < FC_FAULT_ROW_CUDA ? strerrorname_np(fault->error) : "error";
    printf("%-9s %s by %s, call %u%s, %s (%d): %s (at %#lx)\n", fc_outcome_name(v->outcome), fc_fault_name(fault->row),
           fc_fault_origin_name(fault->origin), fault->first, fault->last != fault->first ? " on" : "", error,
           fault->error, v->text, (unsigned long)atomic_load(&trial->page->where));
    fflush(stdout);
}

/* No signal interrupts every call, and no reader is slow for ever. And what nng does about a socket that stays blocking
 * takes the daemon's patience. */
static bool may_persist(const fc_fault *fault)
{
    bool takes_long = fault->row == FC_FAULT_ROW_fcntl && fault->origin == FC_FAULT_BY_NNG;
    return fault->error != EINTR && fault->error != EAGAIN && (fc_sweep_is_whole() || !takes_long);
}

static bool is_bad(const fc_sweep *sweep, fc_trial *trial, const char *pair, const fc_fault *fault)
{
    fc_verdict v = sweep->try_fault(trial, fault);
    fc_tally_add(pair, v.outcome);
    if (!fc_outcome_is_good(v.outcome) || getenv("FC_FAULTS_VERBOSE") != NULL)
        show(trial, fault, &v);
    return !fc_outcome_is_good(v.outcome);
}

static unsigned sweep_error(const fc_sweep *sweep, fc_trial *trial, const char *pair, fc_fault fault, unsigned calls)
{
    unsigned bad = 0;
    for (unsigned n = 1; n <= calls; n++) {
        fault.first = fault.last = n;
        bad += is_bad(sweep, trial, pair, &fault);
        fault.last = UINT_MAX;
        bad += n <= sweep->from_here_on && may_persist(&fault) && is_bad(sweep, trial, pair, &fault);
    }
    return bad;
}

static unsigned sweep_pair(const fc_sweep *sweep, fc_trial *trial, fc_fault_row row, fc_fault_origin origin)
{
    char pair[48];
    unsigned calls = sweep->calls[row][origin], bad = 0;
    bool is_wait = row == FC_FAULT_ROW_epoll_wait || row == FC_FAULT_ROW_epoll_pwait || row == FC_FAULT_ROW_poll;
    unsigned most = !fc_sweep_is_whole() ? 1 : is_wait ? WAITS_MAX : sweep->calls_most;
    snprintf(pair, sizeof pair, "%s/%s", fc_fault_name(row), fc_fault_origin_name(origin));
    bool wants_errors = fc_sweep_is_whole() || row >= FC_FAULT_ROW_CUDA;
    for (int e = 0; fc_fault_error(row, e) != 0 && (e == 0 || wants_errors); e++) {
        fc_fault fault = {.row = row, .origin = origin, .error = fc_fault_error(row, e)};
        bad += sweep_error(sweep, trial, pair, fault, calls < most ? calls : most);
    }
    return bad;
}

void fc_sweep_row(const fc_sweep *sweep, fc_trial *trial, fc_fault_row row)
{
    unsigned bad = 0;
    const char *only = getenv("FC_FAULTS_ONLY");
    if (only != NULL && strcmp(only, fc_fault_name(row)) != 0)
        return;
    /* With the CUDA engine, what is that engine's own: the rest is the same. */
    for (int origin = 0; origin < FC_FAULT_ORIGIN_COUNT; origin++)
        if (fc_e2e_on_cpu() || origin == FC_FAULT_BY_ENGINE)
            bad += sweep_pair(sweep, trial, row, (fc_fault_origin)origin);
    ck_assert_msg(bad == 0, "%s: %u of its failures end badly, see above", fc_fault_name(row), bad);
}
