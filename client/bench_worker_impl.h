/* What bench_worker.c and bench_worker_async.c share: the worker's insides. Nobody else includes this. */
#ifndef FC_CLIENT_BENCH_WORKER_IMPL_H
#define FC_CLIENT_BENCH_WORKER_IMPL_H

#include "client/bench_worker.h"

/* How long a worker sleeps at most before it looks whether it has been told to stop. */
#define FC_WORKER_LOOK_NS 100000000ull

typedef struct fc_slot fc_slot;

struct fc_worker {
    fc_bench_shared *shared;
    uint32_t index;
    flashcore_client *client;
    flashcore_arena *arena;  /* --path arena and device: of all inputs and outputs; else NULL */
    const fc_inputs *inputs; /* [options->input_count]: shared->inputs, or own_inputs */
    fc_inputs *own_inputs;   /* pointers into the arena */
    pthread_t thread;

    /* The thread's own. */
    fc_schedule schedule;
    uint64_t sent_count;
    fc_slot *slots; /* [slot_count], one a request under way */
    size_t slot_count;

    pthread_mutex_t tally_lock;
    fc_tally tally;

    /* Callbacks, on the library's threads, hand slots back through this. */
    pthread_mutex_t ended_lock;
    pthread_cond_t has_ended; /* on CLOCK_MONOTONIC */
    fc_slot *ended;           /* list by next */
};

/* One request: the memory it needs, and its fate. */
struct fc_slot {
    fc_worker *worker;
    fc_slot *next; /* in the free or the ended list */
    flashcore_request request;
    flashcore_call *call;
    size_t input;
    void *out;      /* where the server puts it: seen_out, or in the arena */
    float *lse;     /* likewise; NULL: not asked for */
    void *seen_out; /* ours, where it is checked; after fc_worker_see_outputs() */
    float *seen_lse;
    uint64_t intended_ns, sent_ns, done_ns;
    flashcore_result result;
};

/* Points slot's request at the next input set, and poisons its output where answers are checked. */
void fc_worker_prepare(fc_worker *worker, fc_slot *slot);

/* Checks and counts a slot whose times and result are there. */
void fc_worker_count(fc_worker *worker, fc_slot *slot);

/* When the next request is meant to go out: the schedule's next time, or now_ns in the closed loop. */
uint64_t fc_worker_next_send_ns(fc_worker *worker, uint64_t now_ns);

/* Has sending ended at that time? */
bool fc_worker_is_over(const fc_worker *worker, uint64_t time_ns);

/* Counts the sends the schedule still holds for the window, starting with intended_ns. */
void fc_worker_count_unsent(fc_worker *worker, uint64_t intended_ns);

/* bench_arena.c: moves inputs and outputs into an arena, of the kind that --path says. */
fc_status fc_worker_move_to_arena(fc_worker *worker, fc_reason *out_reason);

/* Copies a slot's outputs from where they are seen to where the server puts them, and back. */
void fc_worker_show_outputs(const fc_worker *worker, const fc_slot *slot);
void fc_worker_see_outputs(const fc_worker *worker, const fc_slot *slot);

/* Sends with up to slot_count requests under way, until the end, and waits for all of them. */
void fc_worker_run_async(fc_worker *worker);

#endif
