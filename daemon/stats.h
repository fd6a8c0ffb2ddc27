/* The daemon's counters, gauges and histograms, made from stats.def and from the lists of operations, statuses and
 * kernels.
 *
 * Any thread, no locks: relaxed atomics, so a snapshot may show numbers of slightly different moments. Lives as long as
 * the service that owns it.
 */
#ifndef FC_DAEMON_STATS_H
#define FC_DAEMON_STATS_H

#include "kernels/attention.h"
#include "proto/message.h"

#include <stdatomic.h>

typedef enum fc_stat {
#define FC_STATS_COUNTER(symbol, name, help) symbol,
#define FC_STATS_GAUGE(symbol, name, help) symbol,
#define FC_STATS_READING(symbol, name, help) symbol,
#include "daemon/stats.def"
#undef FC_STATS_COUNTER
#undef FC_STATS_GAUGE
#undef FC_STATS_READING
    FC_STAT_COUNT
} fc_stat;

typedef enum fc_histogram_id {
#define FC_STATS_HISTOGRAM(symbol, name, bounds, help) symbol,
#include "daemon/stats.def"
#undef FC_STATS_HISTOGRAM
    FC_HISTOGRAM_COUNT
} fc_histogram_id;

#define FC_HISTOGRAM_BOUNDS_MAX 22

/* Fixed buckets: value <= bounds[i] falls into the first such, what is above all into one more. */
typedef struct fc_histogram {
    atomic_uint_fast64_t buckets[FC_HISTOGRAM_BOUNDS_MAX + 1]; /* not cumulative */
    atomic_uint_fast64_t sum;
} fc_histogram;

typedef struct fc_stats {
    uint64_t start_ns;
    atomic_uint_fast64_t values[FC_STAT_COUNT];
    atomic_uint_fast64_t requests[FC_OP_COUNT];
    atomic_uint_fast64_t replies[FC_STATUS_COUNT];
    atomic_uint_fast64_t kernel_requests[FC_KERNEL_COUNT]; /* attends that ran, by the rung that ran them */
    fc_histogram histograms[FC_HISTOGRAM_COUNT];
} fc_stats;

/* All zero, readings absent; uptime_s counts from now. */
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

/* The value of a reading that is absent: set it when what was read before can no longer be read. */
#define FC_STAT_ABSENT UINT64_MAX

/* Counts one value: nanoseconds into a histogram of times, requests into one of batches. */
void fc_stats_observe(fc_stats *stats, fc_histogram_id id, uint64_t value);

typedef enum fc_stat_kind { FC_STAT_IS_COUNTER, FC_STAT_IS_GAUGE, FC_STAT_IS_READING } fc_stat_kind;

typedef struct fc_stat_row {
    const char *name, *help;
    fc_stat_kind kind;
} fc_stat_row;

/* A histogram's bounds, rising, in the unit its values are counted in; per_unit of those make one of its name's unit.
 */
typedef struct fc_histogram_row {
    const char *name, *help;
    const uint64_t *bounds;
    uint32_t bound_count;
    uint64_t per_unit;
} fc_histogram_row;

const fc_stat_row *fc_stats_row(fc_stat stat);
const fc_histogram_row *fc_stats_histogram_row(fc_histogram_id id);
const char *fc_stat_name(fc_stat stat); /* "unknown" outside the enum */

/* Writes every number as a wire counter: uptime_s, requests_<op>, replies_<status>, kernel_requests_<kernel>, then the
 * lists of stats.def. A histogram is <name>_le_<bound> for each bucket (values at most that bound and above the one
 * before, not cumulative), <name>_le_inf and <name>_sum, in the unit its name ends in. Names are static strings. */
void fc_stats_snapshot(const fc_stats *stats, uint64_t now_ns, fc_wire_stats *out_stats);

#endif
