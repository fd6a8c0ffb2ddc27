/* See metrics.h. */
#include "daemon/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 64

/* A name's ending in the statistics, the base unit's in the metric, and the factor between them. */
typedef struct unit {
    const char *ending, *base;
    double factor;
} unit;

static const unit UNITS[] = {{"_us", "_seconds", 1e-6},
                             {"_percent", "_ratio", 1e-2},
                             {"_mw", "_watts", 1e-3},
                             {"_mhz", "_hertz", 1e6},
                             {"", "", 1}};

static const unit *unit_of(const char *name)
{
    size_t bytes = strlen(name);
    const unit *u = UNITS;
    for (;; u++) {
        size_t ending_bytes = strlen(u->ending);
        if (bytes > ending_bytes && strcmp(name + bytes - ending_bytes, u->ending) == 0)
            return u;
    }
}

/* "launch_us" becomes "flashcored_launch_seconds" and what is put behind it. */
static void make_name(const char *name, const char *behind, char out[NAME_BYTES])
{
    const unit *u = unit_of(name);
    int stem_bytes = (int)(strlen(name) - strlen(u->ending));
    snprintf(out, NAME_BYTES, "flashcored_%.*s%s%s", stem_bytes, name, u->base, behind);
}

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static uint64_t read_value(const atomic_uint_fast64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void number(FILE *out, const char *name, double value)
{
    fprintf(out, "%s %.15g\n", name, value);
}

/* --- families with a label ---------------------------------------------------------------------------------------- */

static void put_label(FILE *out, const char *key, const char *value, const char *behind)
{
    fprintf(out, "%s=\"", key);
    for (; *value != '\0'; value++) {
        if (*value == '\n')
            fputs("\\n", out);
        else
            fprintf(out, "%s%c", *value == '"' || *value == '\\' ? "\\" : "", *value);
    }
    fprintf(out, "\"%s", behind);
}

static void put_about(FILE *out, const fc_metrics_about *about)
{
    head(out, "flashcored_build_info", "gauge", "Always 1; version, engine and device are labels.");
    fputs("flashcored_build_info{", out);
    put_label(out, "version", about->version, ",");
    put_label(out, "engine", about->engine, ",");
    put_label(out, "device", about->device, "} 1\n");
}

static void put_labelled(FILE *out, const char *name, const char *label, const char *word,
                         const atomic_uint_fast64_t *value)
{
    fprintf(out, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, word, read_value(value));
}

static void put_lists(FILE *out, const fc_stats *stats)
{
    head(out, "flashcored_requests_total", "counter", "Requests received, by operation.");
    for (int op = 0; op < FC_OP_COUNT; op++)
        put_labelled(out, "flashcored_requests_total", "op", fc_op_name((fc_op)op), &stats->requests[op]);
    head(out, "flashcored_replies_total", "counter", "Replies given, by status.");
    for (int status = 0; status < FC_STATUS_COUNT; status++) {
        if (fc_status_on_wire((fc_status)status) == (fc_status)status)
            put_labelled(out, "flashcored_replies_total", "status", fc_status_name((fc_status)status),
                         &stats->replies[status]);
    }
    head(out, "flashcored_kernel_requests_total", "counter", "Attends that ran, by the kernel that ran them.");
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++)
        put_labelled(out, "flashcored_kernel_requests_total", "kernel", fc_kernel_name((fc_kernel)kernel),
                     &stats->kernel_requests[kernel]);
}

/* --- stats.def ---------------------------------------------------------------------------------------------------- */

/* The table's help is half a sentence. */
static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
    char sentence[256];
    snprintf(sentence, sizeof sentence, "%c%s.", help[0] >= 'a' && help[0] <= 'z' ? help[0] - 'a' + 'A' : help[0],
             help + 1);
    head(out, name, type, sentence);
}

static void put_stat(FILE *out, const fc_stats *stats, fc_stat stat)
{
    const fc_stat_row *row = fc_stats_row(stat);
    uint64_t value = fc_stats_get(stats, stat);
    char name[NAME_BYTES];
    if (row->kind == FC_STAT_IS_READING && value == FC_STAT_ABSENT)
        return;
    make_name(row->name, row->kind == FC_STAT_IS_COUNTER ? "_total" : "", name);
    put_head(out, name, row->kind == FC_STAT_IS_COUNTER ? "counter" : "gauge", row->help);
    double factor = unit_of(row->name)->factor;
    if (factor == 1)
        fprintf(out, "%s %" PRIu64 "\n", name, value); /* exact */
    else
        number(out, name, (double)value * factor);
}

static void put_histogram(FILE *out, const fc_stats *stats, fc_histogram_id id)
{
    const fc_histogram_row *row = fc_stats_histogram_row(id);
    const fc_histogram *histogram = &stats->histograms[id];
    double factor = unit_of(row->name)->factor / (double)row->per_unit;
    uint64_t below = 0;
    char name[NAME_BYTES];
    make_name(row->name, "", name);
    put_head(out, name, "histogram", row->help);
    for (uint32_t i = 0; i < row->bound_count; i++) {
        below += read_value(&histogram->buckets[i]);
        fprintf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)row->bounds[i] * factor, below);
    }
    below += read_value(&histogram->buckets[row->bound_count]);
    fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, below);
    fprintf(out, "%s_sum %.15g\n%s_count %" PRIu64 "\n", name, (double)read_value(&histogram->sum) * factor, name,
            below);
}

/* --- the process -------------------------------------------------------------------------------------------------- */

static void put_process(FILE *out, const fc_metrics_about *about, const fc_process_stats *process)
{
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"process_cpu_seconds_total", "counter", "User and system CPU time.", process->cpu_seconds},
        {"process_virtual_memory_bytes", "gauge", "Virtual memory size.", (double)process->virtual_bytes},
        {"process_resident_memory_bytes", "gauge", "Resident memory size.", (double)process->resident_bytes},
        {"process_open_fds", "gauge", "Open file descriptors.", (double)process->open_fds},
        {"process_max_fds", "gauge", "How many there may be.", (double)process->max_fds},
        {"process_start_time_seconds", "gauge", "When the process started, since 1970.", about->start_time_s},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        head(out, rows[i].name, rows[i].type, rows[i].help);
        number(out, rows[i].name, rows[i].value);
    }
}

fc_status fc_metrics_render(const fc_stats *stats, const fc_metrics_about *about, const fc_process_stats *process,
                            char **out_text, size_t *out_bytes)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL)
        return FC_NO_MEMORY;
    put_about(out, about);
    put_lists(out, stats);
    for (int stat = 0; stat < FC_STAT_COUNT; stat++)
        put_stat(out, stats, (fc_stat)stat);
    for (int id = 0; id < FC_HISTOGRAM_COUNT; id++)
        put_histogram(out, stats, (fc_histogram_id)id);
    put_process(out, about, process);
    bool is_whole = ferror(out) == 0;
    if (fclose(out) != 0 || !is_whole) {
        free(text);
        return FC_NO_MEMORY;
    }
    *out_text = text;
    *out_bytes = bytes;
    return FC_OK;
}
