/* Pictures for a terminal. */
#include "client/bench_picture.h"

#include "client/tool_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Beyond this ratio of largest to smallest value a linear axis shows nothing of the small ones. */
#define LOG_AXIS_RATIO 30.0

/* --- percentiles ----------------------------------------------------------------------------------------------- */

static const struct {
    double percent;
    const char *name;
    uint64_t count_min; /* fewer values cannot tell this one from the maximum */
} PERCENTILES[] = {
    {0, "min", 1},   {25, "p25", 4},   {50, "p50", 2},        {75, "p75", 4},           {90, "p90", 10},
    {95, "p95", 20}, {99, "p99", 100}, {99.9, "p99.9", 1000}, {99.99, "p99.99", 10000}, {100, "max", 1},
};
#define PERCENTILE_COUNT (sizeof PERCENTILES / sizeof PERCENTILES[0])

static double value_us(const fc_histogram *latency, size_t i)
{
    uint64_t ns = i == 0 ? latency->min_ns : fc_histogram_percentile_ns(latency, PERCENTILES[i].percent);
    return (double)ns / 1e3;
}

/* Length of a bar. Logarithmic: from half the minimum, so that the minimum too is seen. */
static double bar_share(double us, double min_us, double max_us, bool is_log)
{
    if (!is_log)
        return max_us > 0 ? us / max_us : 0;
    return log(us / (min_us / 2)) / log(max_us / (min_us / 2));
}

void fc_picture_percentiles(const fc_histogram *latency, const fc_canvas *canvas, FILE *out)
{
    if (latency->count == 0)
        return;
    double min_us = (double)latency->min_ns / 1e3, max_us = (double)latency->max_ns / 1e3;
    bool is_log = min_us > 0 && max_us / min_us > LOG_AXIS_RATIO;
    size_t used = 2 + 6 + 2 + 7 + 2; /* blanks, name, blanks, value, blanks */
    size_t columns = canvas->columns > used + 10 ? canvas->columns - used : 10;
    if (columns > 60)
        columns = 60;
    fprintf(out, "Latency by percentile%s\n", is_log ? " (bars on a logarithmic axis)" : "");
    for (size_t i = 0; i < PERCENTILE_COUNT; i++) {
        char bar[FC_BAR_BYTES];
        if (latency->count < PERCENTILES[i].count_min)
            continue;
        double us = value_us(latency, i);
        fc_text_bar(bar_share(us, min_us, max_us, is_log), columns, canvas->is_utf8, bar);
        fprintf(out, "  %6s  %7s  %s\n", PERCENTILES[i].name, fc_text_us(us).text, bar);
    }
}

/* --- progress -------------------------------------------------------------------------------------------------- */

/* OK answers a second since the window began. */
static double rate_so_far(const fc_bench_progress *p)
{
    return p->done_s > 0 ? (double)p->tally->answered_in_window / p->done_s : 0;
}

void fc_picture_progress(const fc_bench_progress *p, const fc_canvas *canvas, FILE *out)
{
    char bar[FC_BAR_BYTES], line[640];
    size_t columns = canvas->columns >= 72 ? 20 : 10;
    double share = p->total_s > 0 ? p->done_s / p->total_s : 0;
    fc_text_bar(share, columns, canvas->is_utf8, bar);
    size_t used =
        (size_t)snprintf(line, sizeof line, "%-10s [%s%*s] ", p->stage, bar,
                         (int)(columns - (fc_text_columns(bar) < columns ? fc_text_columns(bar) : columns)), "");
    if (strcmp(p->stage, "measuring") == 0)
        used += (size_t)snprintf(line + used, sizeof line - used, "%4.1f/%.1f s  %s/s  p50 %s  p99 %s", p->done_s,
                                 p->total_s, fc_text_rate(rate_so_far(p)).text,
                                 fc_text_us((double)fc_histogram_percentile_ns(&p->tally->latency, 50) / 1e3).text,
                                 fc_text_us((double)fc_histogram_percentile_ns(&p->tally->latency, 99) / 1e3).text);
    else if (strcmp(p->stage, "verifying") == 0)
        used += (size_t)snprintf(line + used, sizeof line - used, "input set %.0f of %.0f against the reference",
                                 p->done_s + 1, p->total_s);
    uint64_t errors = p->tally->wrong + fc_tally_error_count(p->tally);
    if (errors > 0)
        snprintf(line + used, sizeof line - used, "  %s failed", fc_text_count(errors).text);
    /* Cut at the width, never inside a character. */
    size_t at = 0;
    for (size_t shown = 0; line[at] != '\0'; at++) {
        shown += ((unsigned char)line[at] & 0xc0u) != 0x80u;
        if (shown > canvas->columns)
            break;
    }
    fprintf(out, "%.*s", (int)at, line);
}
