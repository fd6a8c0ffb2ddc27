/* One client of the load: a thread, a flashcore_client of its own, and what it counted.
 *
 * Life: create, start, (the run sets the times and opens the gate,) the thread sends until the window ends or the run
 * is stopped, waits for what is under way, ends; join, destroy. The main thread may look at the counts at any time.
 */
#ifndef FC_CLIENT_BENCH_WORKER_H
#define FC_CLIENT_BENCH_WORKER_H

#include "client/bench_options.h"
#include "client/bench_tally.h"
#include "client/bench_verify.h"

#include <pthread.h>
#include <stdatomic.h>

/* Where workers wait, connected, until all of them are and the run has set the times. */
typedef struct fc_gate {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    uint32_t waiting_count;
    enum { FC_GATE_SHUT, FC_GATE_OPEN, FC_GATE_CANCELLED } state;
} fc_gate;

void fc_gate_init(fc_gate *gate);
void fc_gate_fini(fc_gate *gate);
void fc_gate_await(fc_gate *gate, uint32_t waiting_count); /* returns when that many wait */
void fc_gate_open(fc_gate *gate, bool is_cancelled);       /* lets everybody go on, or go home */

/* What the workers of one run share. */
typedef struct fc_bench_shared {
    const fc_bench_options *options;
    const fc_inputs *inputs; /* [options->input_count] */
    fc_verifier *verifier;   /* NULL: answers are not checked */
    fc_gate gate;
    /* Set before the gate opens. */
    uint64_t start_ns; /* first send, the warm-up's begin */
    fc_window window;
    atomic_bool is_stopped; /* send no more */
} fc_bench_shared;

typedef struct fc_worker fc_worker;

/* Borrows shared for its life. FC_NO_MEMORY or what creating the client says. */
fc_status fc_worker_create(fc_bench_shared *shared, uint32_t index, fc_worker **out_worker, fc_reason *out_reason);
void fc_worker_destroy(fc_worker *worker); /* not while its thread runs; NULL is fine */

/* Starts the thread, which connects and waits at the gate. FC_IO: there is no thread. */
fc_status fc_worker_start(fc_worker *worker);
void fc_worker_join(fc_worker *worker);

/* Adds what the worker has counted so far to total. Any thread. */
void fc_worker_add_to(fc_worker *worker, fc_tally *total);

#endif
