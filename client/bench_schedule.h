/* When requests are meant to be sent in the open loop, whatever happened to the ones before: a client that waited for a
 * slow answer is late, and its latencies are counted from these times, so that a stall shows in every request it held
 * up (Gil Tene's "coordinated omission").
 *
 * Pure: times come in and go out, no clock. One thread a schedule.
 */
#ifndef FC_CLIENT_BENCH_SCHEDULE_H
#define FC_CLIENT_BENCH_SCHEDULE_H

#include "client/tool_random.h"

#include <stdint.h>

#define FC_ARRIVAL_CHOICES "constant|poisson"
typedef enum fc_arrival { FC_ARRIVAL_CONSTANT, FC_ARRIVAL_POISSON } fc_arrival;

typedef struct fc_schedule {
    fc_arrival arrival;
    uint64_t start_ns;
    double interval_ns; /* mean time between sends */
    double offset_ns;   /* of the next send from the start */
    uint64_t index;     /* of the next send */
    double phase;       /* constant: the first send comes this many intervals after the start */
    fc_random random;   /* poisson */
} fc_schedule;

/* Sends of one client of client_count, which together make rate_per_s > 0. Constant: the clients' sends interleave
 * evenly. Poisson: exponential gaps, independent from client to client; the same seed gives the same times. */
fc_schedule fc_schedule_make(fc_arrival arrival, double rate_per_s, uint32_t client, uint32_t client_count,
                             uint64_t seed, uint64_t start_ns);

/* The next intended send, never before the one before it. */
uint64_t fc_schedule_next_ns(fc_schedule *schedule);

#endif
