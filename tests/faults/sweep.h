/* Goes through the failures of one function of faults.def: by everyone who calls it, each call alone, and each with all
 * behind it; and what a trial of one came to.
 *
 * FC_FAULTS_ALL=1 (make faults): every call and every errno; else the first call of each pair of function and caller,
 * and of the CUDA calls every error. FC_FAULTS_VERBOSE=1 shows what came of each; FC_FAULTS_ONLY=send
 * goes through that function alone.
 */
#ifndef FC_TESTS_FAULTS_SWEEP_H
#define FC_TESTS_FAULTS_SWEEP_H

#include "tests/faults/tally.h"
#include "tests/faults/trial.h"

typedef struct fc_verdict {
    fc_outcome outcome;
    char text[512];
} fc_verdict;

fc_verdict fc_verdict_make(fc_outcome outcome, const char *text);

/* Of a daemon that ended, by itself or by that signal, with this code of fc_trial_wait_end(), and was not asked to. */
fc_verdict fc_verdict_of_end(const fc_trial *trial, const fc_fault *fault, int code);

/* Has it ended, or is it about to because its device is lost? */
bool fc_trial_is_at_end(const fc_trial *trial);

bool fc_sweep_is_whole(void);

typedef unsigned (*fc_sweep_calls)[FC_FAULT_ORIGIN_COUNT]; /* by row */

typedef struct fc_sweep {
    fc_sweep_calls calls;  /* in a run without faults */
    unsigned calls_most;   /* of a row by one caller, no more are tried */
    unsigned from_here_on; /* of so many of them also all behind them fail */
    fc_verdict (*try_fault)(fc_trial *trial, const fc_fault *fault);
} fc_sweep;

/* Zeroed, shared with the processes that tests fork. */
fc_sweep_calls fc_sweep_share_calls(void);

/* What the page counts, into calls. */
void fc_sweep_take_calls(const fc_trial *trial, fc_sweep_calls calls);

/* Fails the running test when any came to no good. */
void fc_sweep_row(const fc_sweep *sweep, fc_trial *trial, fc_fault_row row);

#endif
