/* See ctl_view.h. */
#include "client/ctl_view.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MAX 64
#define GAUGE_COLUMNS 20

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static double rate(const fc_ctl_counters *now, const fc_ctl_counters *earlier, double elapsed_s, const char *name)
{
    if (earlier == NULL)
        return 0;
    double change = fc_ctl_counters_get(now, name, 0) - fc_ctl_counters_get(earlier, name, 0);
    return change > 0 ? change / elapsed_s : 0;
}

/* What all counters that begin so add up to, a second. */
static double rate_of_all(const fc_ctl_counters *now, const fc_ctl_counters *earlier, double elapsed_s,
                          const char *beginning)
{
    double sum = 0;
    for (size_t i = 0; i < now->count; i++) {
        if (strncmp(now->items[i].name, beginning, strlen(beginning)) == 0)
            sum += rate(now, earlier, elapsed_s, now->items[i].name);
    }
    return sum;
}

typedef struct bucket {
    double bound, count;
} bucket;

/* The buckets of a histogram in their order, which is that of the reply. */
static size_t collect(const fc_ctl_counters *now, const fc_ctl_counters *earlier, const char *name,
                      bucket out[BUCKETS_MAX], double *out_total)
{
    size_t count = 0, name_bytes = strlen(name);
    *out_total = 0;
    for (size_t i = 0; i < now->count && count < BUCKETS_MAX; i++) {
        const char *key = now->items[i].name;
        if (strncmp(key, name, name_bytes) != 0 || strncmp(key + name_bytes, "_le_", 4) != 0)
            continue;
        double before = earlier != NULL ? fc_ctl_counters_get(earlier, key, 0) : 0;
        out[count] = (bucket){strtod(key + name_bytes + 4, NULL), fmax(now->items[i].value - before, 0)};
        *out_total += out[count++].count;
    }
    return count;
}

double fc_ctl_quantile(const fc_ctl_counters *now, const fc_ctl_counters *earlier, const char *name, double q)
{
    bucket buckets[BUCKETS_MAX];
    double total, below = 0, low = 0;
    size_t count = collect(now, earlier, name, buckets, &total);
    if (!(total > 0))
        return -1;
    for (size_t i = 0; i < count; i++) {
        double bound = buckets[i].bound;
        if (buckets[i].count > 0 && below + buckets[i].count >= q * total)
            return isinf(bound) ? low : low + (bound - low) * fmax(q * total - below, 0) / buckets[i].count;
        below += buckets[i].count;
        if (!isinf(bound))
            low = bound;
    }
    return low;
}

/* --- pieces ------------------------------------------------------------------------------------------------------ */

static void remember(fc_ctl_history *history, double value)
{
    if (history->count == FC_CTL_HISTORY_MAX)
        memmove(history->values, history->values + 1, (--history->count) * sizeof history->values[0]);
    history->values[history->count++] = value;
}

void fc_ctl_view_note(fc_ctl_view *view, const fc_ctl_counters *now, const fc_ctl_counters *earlier, double elapsed_s)
{
    remember(&view->requests, rate(now, earlier, elapsed_s, "requests_attend"));
    remember(&view->received, rate(now, earlier, elapsed_s, "received_bytes"));
    remember(&view->sent, rate(now, earlier, elapsed_s, "sent_bytes"));
}

/* A column a value, an eighth of a block the least there is to see. */
static void put_history(const fc_ctl_history *history, bool is_utf8, FILE *out)
{
    static const char *const EIGHTHS[] = {" ",
                                          "\xe2\x96\x81",
                                          "\xe2\x96\x82",
                                          "\xe2\x96\x83",
                                          "\xe2\x96\x84",
                                          "\xe2\x96\x85",
                                          "\xe2\x96\x86",
                                          "\xe2\x96\x87",
                                          "\xe2\x96\x88"};
    static const char ASCII[] = " .:-=+*#@";
    double most = 0;
    for (size_t i = 0; i < history->count; i++)
        most = fmax(most, history->values[i]);
    for (size_t i = 0; i < history->count; i++) {
        double share = most > 0 ? history->values[i] / most : 0;
        size_t height = share > 0 ? (size_t)fmax(1, round(share * 8)) : 0;
        if (is_utf8)
            fputs(EIGHTHS[height], out);
        else
            fputc(ASCII[height], out);
    }
}

static void put_gauge(double value, double most, bool is_utf8, FILE *out)
{
    char bar[FC_BAR_BYTES];
    fc_text_bar(most > 0 ? value / most : 0, GAUGE_COLUMNS, is_utf8, bar);
    fprintf(out, "[%s%*s]", bar, (int)(GAUGE_COLUMNS - fc_text_columns(bar)), "");
}

/* Of a histogram of times; nothing is known within its first bucket, nor above its last bound. */
static fc_text quantile_text(const fc_ctl_counters *now, const fc_ctl_counters *earlier, const char *name, double q)
{
    double us = fc_ctl_quantile(now, earlier, name, q);
    static const fc_text none = {"-"}, least = {"< 1 us"}, most = {"> 10 s"};
    if (us < 0)
        return none;
    return us < 1 ? least : us >= 1e7 ? most : fc_text_us(us);
}

/* Adds "busy 12/s" and the like, breaking the line before column 80. */
typedef struct list {
    FILE *out;
    size_t columns; /* 0: nothing yet */
} list;

static void add(list *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(list *l, const char *format, ...)
{
    char text[80];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t columns = fc_text_columns(text);
    if (l->columns > 0 && l->columns + 2 + columns > FC_CTL_VIEW_COLUMNS) {
        fprintf(l->out, "\n            ");
        l->columns = 12;
    } else if (l->columns > 0) {
        fputs("  ", l->out);
        l->columns += 2;
    }
    fputs(text, l->out);
    l->columns += columns;
}

/* --- parts of the screen ----------------------------------------------------------------------------------------- */

static void put_rates(const fc_ctl_view *view, FILE *out)
{
    const struct {
        const char *title;
        const fc_ctl_history *history;
        bool is_bytes;
    } rows[] = {{"requests", &view->requests, false}, {"in", &view->received, true}, {"out", &view->sent, true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const fc_ctl_history *history = rows[i].history;
        double last = history->count > 0 ? history->values[history->count - 1] : 0;
        char text[FC_TEXT_BYTES + 4];
        snprintf(text, sizeof text, "%s/s",
                 rows[i].is_bytes ? fc_text_bytes((uint64_t)last).text : fc_text_rate(last).text);
        fprintf(out, "  %-9s %13s  ", rows[i].title, text);
        put_history(history, view->is_utf8, out);
        fputc('\n', out);
    }
}

void fc_ctl_view_latencies(const fc_ctl_counters *now, const fc_ctl_counters *earlier, FILE *out)
{
    static const struct {
        const char *title, *name;
    } rows[] = {{"total", "total_us"},   {"queue", "queue_us"},       {"copy in", "copy_in_us"},
                {"kernel", "kernel_us"}, {"copy out", "copy_out_us"}, {"reply", "reply_us"}};
    fprintf(out, "\n  %-9s %12s %12s %12s %12s\n", "", "p50", "p90", "p99", "p99.9");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        fprintf(out, "  %-9s %12s %12s %12s %12s\n", rows[i].title, quantile_text(now, earlier, rows[i].name, 0.5).text,
                quantile_text(now, earlier, rows[i].name, 0.9).text,
                quantile_text(now, earlier, rows[i].name, 0.99).text,
                quantile_text(now, earlier, rows[i].name, 0.999).text);
}

static void put_load(const fc_ctl_view *view, const fc_ctl_counters *now, const fc_ctl_counters *earlier,
                     double elapsed_s, FILE *out)
{
    double queued = fc_ctl_counters_get(now, "queued", 0), limit = fc_ctl_counters_get(now, "queue_limit", 0);
    double launches = rate(now, earlier, elapsed_s, "launches");
    double busy = rate(now, earlier, elapsed_s, "launch_us") / 1e6, lanes = fc_ctl_counters_get(now, "lanes", 0);
    fprintf(out, "\n  %-9s ", "queue");
    put_gauge(queued, limit, view->is_utf8, out);
    fprintf(out, " %s of %s, %s\n", fc_text_count((uint64_t)queued).text, fc_text_count((uint64_t)limit).text,
            fc_ctl_counter_text("bytes", fc_ctl_counters_get(now, "queued_bytes", 0)).text);
    fprintf(out, "  %-9s ", "lanes");
    put_gauge(busy, lanes, view->is_utf8, out);
    fprintf(out, " %.0f %% of %.0f at work", lanes > 0 ? fmin(100 * busy / lanes, 100) : 0, lanes);
    if (launches > 0)
        fprintf(out, ", %.1f requests a launch", rate(now, earlier, elapsed_s, "launched_requests") / launches);
    fputc('\n', out);
}

static void put_device(const fc_ctl_view *view, const fc_ctl_counters *now, FILE *out)
{
    double busy = fc_ctl_counters_get(now, "gpu_utilization_percent", -1);
    double used = fc_ctl_counters_get(now, "gpu_memory_used_bytes", -1);
    if (busy < 0 && used < 0)
        return;
    list l = {out, 34};
    fprintf(out, "  %-9s ", "GPU");
    put_gauge(busy, 100, view->is_utf8, out);
    if (busy >= 0)
        add(&l, "%.0f %%", busy);
    if (used >= 0)
        add(&l, "%s of %s", fc_text_bytes((uint64_t)used).text,
            fc_ctl_counter_text("bytes", fc_ctl_counters_get(now, "gpu_memory_bytes", 0)).text);
    if (fc_ctl_counters_get(now, "gpu_temperature_celsius", -1) >= 0)
        add(&l, "%.0f C", fc_ctl_counters_get(now, "gpu_temperature_celsius", 0));
    if (fc_ctl_counters_get(now, "gpu_power_mw", -1) >= 0)
        add(&l, "%.0f W", fc_ctl_counters_get(now, "gpu_power_mw", 0) / 1e3);
    fputc('\n', out);
}

static void put_who(const fc_ctl_counters *now, FILE *out)
{
    list l = {out, 12};
    fprintf(out, "  %-9s ", "now");
    add(&l, "%.0f running", fc_ctl_counters_get(now, "running", 0));
    add(&l, "%.0f being answered", fc_ctl_counters_get(now, "replying", 0));
    add(&l, "%.0f connections", fc_ctl_counters_get(now, "pipes", 0));
    add(&l, "%.0f local", fc_ctl_counters_get(now, "local", 0));
    add(&l, "%.0f arenas of %s", fc_ctl_counters_get(now, "arenas", 0),
        fc_ctl_counter_text("bytes", fc_ctl_counters_get(now, "arena_bytes", 0)).text);
    fputc('\n', out);
}

/* Each counter that begins so and moved: its name's rest and rate. */
static void put_changes(const fc_ctl_counters *now, const fc_ctl_counters *earlier, double elapsed_s, const char *title,
                        const char *beginning, FILE *out)
{
    list l = {out, 12};
    fprintf(out, "  %-9s ", title);
    for (size_t i = 0; i < now->count; i++) {
        const char *name = now->items[i].name;
        double per_s = rate(now, earlier, elapsed_s, name);
        if (strncmp(name, beginning, strlen(beginning)) == 0 && per_s > 0)
            add(&l, "%s %s/s", name + strlen(beginning), fc_text_rate(per_s).text);
    }
    if (l.columns == 12)
        fputc('-', out);
    fputc('\n', out);
}

/* What should stand at zero and does not. */
static void put_troubles(const fc_ctl_counters *now, FILE *out)
{
    static const char *const names[] = {"launches_failed", "lost_replies", "pipes_cut",    "pipes_leaked",
                                        "undecodable",     "dropped",      "probes_failed"};
    list l = {out, 12};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        double value = fc_ctl_counters_get(now, names[i], 0);
        if (value > 0 && l.columns == 12)
            fprintf(out, "  %-9s ", "trouble");
        if (value > 0)
            add(&l, "%s %s", names[i], fc_text_count((uint64_t)value).text);
    }
    if (l.columns > 12)
        fputs(" since start\n", out);
}

static const char *state_of(const fc_ctl_counters *now)
{
    double ready = fc_ctl_counters_get(now, "ready", -1);
    if (fc_ctl_counters_get(now, "draining", 0) > 0)
        return "draining";
    return ready < 0 ? "" : ready > 0 ? "ready" : "NOT READY";
}

void fc_ctl_view_screen(const fc_ctl_view *view, const fc_ctl_counters *now, const fc_ctl_counters *earlier,
                        double elapsed_s, FILE *out)
{
    fc_text up = fc_text_us(fc_ctl_counters_get(now, "uptime_s", 0) * 1e6);
    fprintf(out, "  flashcored %.16s at %.44s\n", view->version, view->url);
    fprintf(out, "  %.50s%s%s, up %s\n\n", view->device, state_of(now)[0] != '\0' ? ", " : "", state_of(now), up.text);
    put_rates(view, out);
    fc_ctl_view_latencies(now, earlier, out);
    put_load(view, now, earlier, elapsed_s, out);
    put_device(view, now, out);
    put_who(now, out);
    put_changes(now, earlier, elapsed_s, "replies", "replies_", out);
    put_changes(now, earlier, elapsed_s, "kernels", "kernel_requests_", out);
    put_troubles(now, out);
}

void fc_ctl_view_line(const fc_ctl_counters *now, const fc_ctl_counters *earlier, double elapsed_s, FILE *out)
{
    double refused = rate_of_all(now, earlier, elapsed_s, "replies_") - rate(now, earlier, elapsed_s, "replies_ok");
    fprintf(out, "requests/s %s  p50 %s  p99 %s  queued %s  running %s  not ok/s %s  in/s %s  out/s %s\n",
            fc_text_rate(rate(now, earlier, elapsed_s, "requests_attend")).text,
            quantile_text(now, earlier, "total_us", 0.5).text, quantile_text(now, earlier, "total_us", 0.99).text,
            fc_text_count((uint64_t)fc_ctl_counters_get(now, "queued", 0)).text,
            fc_text_count((uint64_t)fc_ctl_counters_get(now, "running", 0)).text, fc_text_rate(refused).text,
            fc_text_bytes((uint64_t)rate(now, earlier, elapsed_s, "received_bytes")).text,
            fc_text_bytes((uint64_t)rate(now, earlier, elapsed_s, "sent_bytes")).text);
}
