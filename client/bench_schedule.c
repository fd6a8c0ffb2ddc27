/* Intended send times. */
#include "client/bench_schedule.h"

fc_schedule fc_schedule_make(fc_arrival arrival, double rate_per_s, uint32_t client, uint32_t client_count,
                             uint64_t seed, uint64_t start_ns)
{
    return (fc_schedule){
        .arrival = arrival,
        .start_ns = start_ns,
        .interval_ns = 1e9 / rate_per_s * client_count,
        .phase = (double)client / client_count,
        .random = fc_random_make(seed, client),
    };
}

uint64_t fc_schedule_next_ns(fc_schedule *schedule)
{
    /* Constant times are multiplied out, not added up: no drift over millions of sends. */
    if (schedule->arrival == FC_ARRIVAL_CONSTANT)
        schedule->offset_ns = ((double)schedule->index + schedule->phase) * schedule->interval_ns;
    else
        schedule->offset_ns -= log(fc_random_unit(&schedule->random)) * schedule->interval_ns;
    schedule->index++;
    return schedule->start_ns + (uint64_t)schedule->offset_ns;
}
