/* A whole run: inputs, a look whether the server is there and right, the workers, their sums. One run at a time. */
#ifndef FC_CLIENT_BENCH_RUN_H
#define FC_CLIENT_BENCH_RUN_H

#include "client/bench_options.h"
#include "client/bench_tally.h"

typedef struct fc_bench_outcome {
    fc_tally total;
    fc_window window;         /* ends early when the run was interrupted */
    uint64_t reference_count; /* answers compared with the reference */
    bool was_interrupted;
} fc_bench_outcome;

/* What the run is doing, for a line on a terminal. */
typedef struct fc_bench_progress {
    const char *stage; /* "verifying", "warming up", "measuring" */
    double done_s, total_s;
    const fc_tally *tally; /* so far */
    const fc_window *window;
} fc_bench_progress;

/* Called on the run's thread about four times a second. */
typedef void (*fc_bench_show)(void *context, const fc_bench_progress *progress);

/* Runs; show may be NULL. FC_OK even when answers failed or were wrong: the tally tells. Otherwise nothing was measured
 * and the reason says why: FC_UNREACHABLE and the like, FC_NO_MEMORY, FC_IO. On FC_OK the caller ends
 * out_outcome->total with fc_tally_fini(). */
fc_status fc_bench_run(const fc_bench_options *options, fc_bench_show show, void *show_context,
                       fc_bench_outcome *out_outcome, fc_reason *out_reason);

/* Ends the run under way early, as at the window's end. Safe in a signal handler. */
void fc_bench_interrupt(void);

#endif
