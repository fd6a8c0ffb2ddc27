/* See stats.h. Names made from two lists are put together by the preprocessor: requests_<op>, replies_<status>. */
#include "daemon/stats.h"

#include <string.h>

static const char *const NAMES[FC_STAT_COUNT] = {
#define FC_STATS_COUNTER(symbol, name, help) [symbol] = name,
#define FC_STATS_GAUGE(symbol, name, help) [symbol] = name,
#include "daemon/stats.def"
#undef FC_STATS_COUNTER
#undef FC_STATS_GAUGE
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

void fc_stats_init(fc_stats *stats, uint64_t now_ns)
{
    memset(stats, 0, sizeof *stats);
    stats->start_ns = now_ns;
}

const char *fc_stat_name(fc_stat stat)
{
    return (unsigned)stat < FC_STAT_COUNT ? NAMES[stat] : "unknown";
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
    for (int stat = 0; stat < FC_STAT_COUNT; stat++)
        append(out_stats, NAMES[stat], read_value(&stats->values[stat]));
}
