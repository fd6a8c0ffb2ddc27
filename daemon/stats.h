/* The daemon's counters and gauges, made from stats.def and from the lists of operations and statuses.
 *
 * Any thread, no locks: relaxed atomics, so a snapshot may show numbers of slightly different moments. Lives as long as
 * the service that owns it.
 */
#ifndef FC_DAEMON_STATS_H
#define FC_DAEMON_STATS_H

#include "proto/message.h"

#include <stdatomic.h>

typedef enum fc_stat {
#define FC_STATS_COUNTER(symbol, name, help) symbol,
#define FC_STATS_GAUGE(symbol, name, help) symbol,
#include "daemon/stats.def"
#undef FC_STATS_COUNTER
#undef FC_STATS_GAUGE
    FC_STAT_COUNT
} fc_stat;

typedef struct fc_stats {
    uint64_t start_ns;
    atomic_uint_fast64_t values[FC_STAT_COUNT];
    atomic_uint_fast64_t requests[FC_OP_COUNT];
    atomic_uint_fast64_t replies[FC_STATUS_COUNT];
} fc_stats;

/* All zero but the start time, which uptime_s counts from. */
void fc_stats_init(fc_stats *stats, uint64_t now_ns);

static inline void fc_stats_add(fc_stats *stats, fc_stat stat, uint64_t amount)
{
    atomic_fetch_add_explicit(&stats->values[stat], amount, memory_order_relaxed);
}

static inline void fc_stats_sub(fc_stats *stats, fc_stat stat, uint64_t amount)
{
    atomic_fetch_sub_explicit(&stats->values[stat], amount, memory_order_relaxed);
}

static inline void fc_stats_set(fc_stats *stats, fc_stat stat, uint64_t value)
{
    atomic_store_explicit(&stats->values[stat], value, memory_order_relaxed);
}

static inline uint64_t fc_stats_get(const fc_stats *stats, fc_stat stat)
{
    return atomic_load_explicit(&stats->values[stat], memory_order_relaxed);
}

const char *fc_stat_name(fc_stat stat); /* "unknown" outside the enum */

/* Writes every number as a wire counter: uptime_s, requests_<op>, replies_<status>, then the lists of stats.def. Names
 * are static strings. */
void fc_stats_snapshot(const fc_stats *stats, uint64_t now_ns, fc_wire_stats *out_stats);

#endif
