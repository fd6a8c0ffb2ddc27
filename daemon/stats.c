/* See stats.h. Names made from two lists are put together by the preprocessor: requests_<op>, replies_<status>. */
#include "daemon/stats.h"

#include "daemon/clock.h"

#include <assert.h>
#include <string.h>

static const fc_stat_row ROWS[FC_STAT_COUNT] = {
#define FC_STATS_COUNTER(symbol, name, help) [symbol] = {name, help, FC_STAT_IS_COUNTER},
#define FC_STATS_GAUGE(symbol, name, help) [symbol] = {name, help, FC_STAT_IS_GAUGE},
#define FC_STATS_READING(symbol, name, help) [symbol] = {name, help, FC_STAT_IS_READING},
#include "daemon/stats.def"
#undef FC_STATS_COUNTER
#undef FC_STATS_GAUGE
#undef FC_STATS_READING
};

static const char *const REQUEST_NAMES[FC_OP_COUNT] = {
#define FC_OP_WORD(symbol, name, note) [symbol] = "requests_" name,
#include "proto/vocab.def"
#undef FC_OP_WORD
};

/* Only what travels has a name: replies say wire statuses. */
static const char *const REPLY_NAMES[FC_STATUS_COUNT] = {
#define FC_WIRE_STATUS(symbol, name, text) [symbol] = "replies_" name,
#include "proto/status.def"
#undef FC_WIRE_STATUS
};

static const char *const KERNEL_NAMES[FC_KERNEL_COUNT] = {
#define FC_KERNEL_ROW(symbol, name, engine, idea) [symbol] = "kernel_requests_" name,
#include "kernels/kernel.def"
#undef FC_KERNEL_ROW
};

/* --- histograms --------------------------------------------------------------------------------------------------- */

/* clang-format off */
/* 1 us, below which nothing of interest happens, to 10 s, three a decade: X(name, us). */
#define TIME_BOUNDS(X, name) \
    X(name, 1) X(name, 2) X(name, 5) X(name, 10) X(name, 20) X(name, 50) X(name, 100) X(name, 200) X(name, 500) \
    X(name, 1000) X(name, 2000) X(name, 5000) X(name, 10000) X(name, 20000) X(name, 50000) X(name, 100000) \
    X(name, 200000) X(name, 500000) X(name, 1000000) X(name, 2000000) X(name, 5000000) X(name, 10000000)
/* To FC_BATCH_REQUESTS_MAX. */
#define BATCH_BOUNDS(X, name) \
    X(name, 1) X(name, 2) X(name, 4) X(name, 8) X(name, 16) X(name, 32) X(name, 64) X(name, 128) X(name, 256)
/* clang-format on */

#define TIME_PER_UNIT FC_NS_PER_US
#define BATCH_PER_UNIT 1

#define TIME_BOUND(name, us) us *FC_NS_PER_US,
#define BATCH_BOUND(name, count) count,
static const uint64_t TIME_VALUES[] = {TIME_BOUNDS(TIME_BOUND, )};
static const uint64_t BATCH_VALUES[] = {BATCH_BOUNDS(BATCH_BOUND, )};
_Static_assert(sizeof TIME_VALUES / sizeof TIME_VALUES[0] == FC_HISTOGRAM_BOUNDS_MAX, "TIME has the most bounds");

static const fc_histogram_row HISTOGRAMS[FC_HISTOGRAM_COUNT] = {
#define FC_STATS_HISTOGRAM(symbol, name, bounds, help)                                                                 \
    [symbol] = {name, help, bounds##_VALUES, sizeof bounds##_VALUES / sizeof bounds##_VALUES[0], bounds##_PER_UNIT},
#include "daemon/stats.def"
#undef FC_STATS_HISTOGRAM
};

/* "total_us_le_1" ... "total_us_le_inf", "total_us_sum". */
static const char *const HISTOGRAM_NAMES[FC_HISTOGRAM_COUNT][FC_HISTOGRAM_BOUNDS_MAX + 2] = {
#define BUCKET_NAME(name, bound) name "_le_" #bound,
#define FC_STATS_HISTOGRAM(symbol, name, bounds, help)                                                                 \
    [symbol] = {bounds##_BOUNDS(BUCKET_NAME, name) name "_le_inf", name "_sum"},
#include "daemon/stats.def"
#undef FC_STATS_HISTOGRAM
};

void fc_stats_observe(fc_stats *stats, fc_histogram_id id, uint64_t value)
{
    const fc_histogram_row *row = &HISTOGRAMS[id];
    uint32_t low = 0, high = row->bound_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (value <= row->bounds[middle])
            high = middle;
        else
            low = middle + 1;
    }
    atomic_fetch_add_explicit(&stats->histograms[id].buckets[low], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stats->histograms[id].sum, value, memory_order_relaxed);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

void fc_stats_init(fc_stats *stats, uint64_t now_ns)
{
    memset(stats, 0, sizeof *stats);
    stats->start_ns = now_ns;
    for (int stat = 0; stat < FC_STAT_COUNT; stat++) {
        if (ROWS[stat].kind == FC_STAT_IS_READING)
            fc_stats_set(stats, (fc_stat)stat, FC_STAT_ABSENT);
    }
}

const fc_stat_row *fc_stats_row(fc_stat stat)
{
    assert((unsigned)stat < FC_STAT_COUNT);
    return &ROWS[stat];
}

const fc_histogram_row *fc_stats_histogram_row(fc_histogram_id id)
{
    assert((unsigned)id < FC_HISTOGRAM_COUNT);
    return &HISTOGRAMS[id];
}

const char *fc_stat_name(fc_stat stat)
{
    return (unsigned)stat < FC_STAT_COUNT ? ROWS[stat].name : "unknown";
}

static void append(fc_wire_stats *stats, const char *name, double value)
{
    if (stats->counter_count == FC_COUNTER_MAX)
        return;
    stats->counters[stats->counter_count++] = (fc_wire_counter){.name = fc_wire_text_make(name), .value = value};
}

static double read_value(const atomic_uint_fast64_t *value)
{
    return (double)atomic_load_explicit(value, memory_order_relaxed);
}

static void append_histogram(const fc_stats *stats, fc_histogram_id id, fc_wire_stats *out_stats)
{
    const fc_histogram_row *row = &HISTOGRAMS[id];
    const fc_histogram *histogram = &stats->histograms[id];
    for (uint32_t i = 0; i <= row->bound_count; i++)
        append(out_stats, HISTOGRAM_NAMES[id][i], read_value(&histogram->buckets[i]));
    append(out_stats, HISTOGRAM_NAMES[id][row->bound_count + 1], read_value(&histogram->sum) / (double)row->per_unit);
}

void fc_stats_snapshot(const fc_stats *stats, uint64_t now_ns, fc_wire_stats *out_stats)
{
    out_stats->counter_count = 0;
    append(out_stats, "uptime_s", (double)(now_ns - stats->start_ns) / 1e9);
    for (int op = 0; op < FC_OP_COUNT; op++)
        append(out_stats, REQUEST_NAMES[op], read_value(&stats->requests[op]));
    for (int status = 0; status < FC_STATUS_COUNT; status++) {
        if (REPLY_NAMES[status] != NULL)
            append(out_stats, REPLY_NAMES[status], read_value(&stats->replies[status]));
    }
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++)
        append(out_stats, KERNEL_NAMES[kernel], read_value(&stats->kernel_requests[kernel]));
    for (int stat = 0; stat < FC_STAT_COUNT; stat++) {
        if (ROWS[stat].kind != FC_STAT_IS_READING || fc_stats_get(stats, (fc_stat)stat) != FC_STAT_ABSENT)
            append(out_stats, ROWS[stat].name, read_value(&stats->values[stat]));
    }
    for (int id = 0; id < FC_HISTOGRAM_COUNT; id++)
        append_histogram(stats, (fc_histogram_id)id, out_stats);
}
