/* What a client counts: latencies, the server's own times, errors and wrong answers.
 *
 * Pure: times come in with each sample. Not thread-safe; a worker guards its own with a lock.
 */
#ifndef FC_CLIENT_BENCH_TALLY_H
#define FC_CLIENT_BENCH_TALLY_H

#include "client/bench_histogram.h"
#include "client/flashcore.h"

#define FC_TALLY_STATUSES (FLASHCORE_BAD_REPLY + 1)

/* The measured stretch of time, after the warm-up. */
typedef struct fc_window {
    uint64_t begin_ns, end_ns;
} fc_window;

/* One request's fate. intended_ns: when it should have been sent (the closed loop: when it was). */
typedef struct fc_sample {
    uint64_t intended_ns, sent_ns, done_ns;
    const flashcore_result *result;
    bool is_wrong;   /* OK, but the answer is not right */
    bool is_checked; /* and it was compared at all */
    bool is_late;    /* OK, but after the request's deadline */
} fc_sample;

/* Sums over the answered requests meant to be sent inside the window, microseconds. */
typedef struct fc_tally_times {
    double wait_us; /* intended to sent */
    double queue_us, copy_in_us, kernel_us, copy_out_us, server_us;
    double client_us; /* intended to received */
    double batch;
} fc_tally_times;

typedef struct fc_tally {
    fc_histogram latency; /* of answered requests meant to be sent inside the window */
    fc_histogram lag;     /* of all of those: sent minus intended */
    fc_tally_times sums;
    uint64_t answered_in_window; /* OK answers that arrived inside the window, whenever sent */
    uint64_t late;               /* of those */
    uint64_t sent_in_window;     /* sends that happened inside the window */
    uint64_t due_in_window;      /* sends the schedule put there; the closed loop: as many as were sent */
    uint64_t last_done_ns;
    /* From the first request on, warm-up included: */
    uint64_t wrong, checked, errors[FC_TALLY_STATUSES];
    char first_error[256], first_wrong[256];
    char kernel[32], device[96]; /* of the latest answer */
} fc_tally;

fc_status fc_tally_init(fc_tally *tally);
void fc_tally_fini(fc_tally *tally);

void fc_tally_add(fc_tally *tally, const fc_window *window, const fc_sample *sample);

/* A send the schedule wanted inside the window and that was never made, because the client was busy till its end. */
void fc_tally_add_unsent(fc_tally *tally, const fc_window *window, uint64_t intended_ns);

void fc_tally_merge(fc_tally *into, const fc_tally *from);

uint64_t fc_tally_error_count(const fc_tally *tally);

/* OK answers a second of the window. When none arrived inside it (answers slower than the window is long): over the
 * time until the last one. */
double fc_tally_rate(const fc_tally *tally, const fc_window *window);

/* Did the clients fall behind their schedule? More than 1 % of the sends due in the window (and more than one a client)
 * did not happen in it. */
bool fc_tally_missed_schedule(const fc_tally *tally, uint64_t client_count);

#endif
