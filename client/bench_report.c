/* What bench_client says at the end, for a person. */
#include "client/bench_report.h"

#include "client/tool_text.h"

#include <math.h>
#include <string.h>

fc_bench_parts fc_report_parts(const fc_tally *tally)
{
    double count = tally->latency.count > 0 ? (double)tally->latency.count : 1;
    const fc_tally_times *sums = &tally->sums;
    fc_bench_parts parts = {
        .wait_us = sums->wait_us / count,
        .queue_us = sums->queue_us / count,
        .copy_in_us = sums->copy_in_us / count,
        .kernel_us = sums->kernel_us / count,
        .copy_out_us = sums->copy_out_us / count,
        .client_us = sums->client_us / count,
        .batch = sums->batch / count,
    };
    double named_us = parts.queue_us + parts.copy_in_us + parts.kernel_us + parts.copy_out_us;
    double server_us = sums->server_us / count;
    parts.server_us = server_us > named_us ? server_us - named_us : 0;
    parts.transport_us = parts.client_us - parts.wait_us - named_us - parts.server_us;
    return parts;
}

void fc_report_load_text(const fc_bench_options *o, char *out, size_t out_bytes)
{
    char arrival[16] = "";
    size_t used = (size_t)snprintf(out, out_bytes, "%llu client%s x %llu in flight, ", (unsigned long long)o->clients,
                                   o->clients == 1 ? "" : "s", (unsigned long long)o->inflight);
    if (used >= out_bytes)
        return;
    fc_args_choice(FC_ARRIVAL_CHOICES, o->arrival, arrival, sizeof arrival);
    if (o->rate > 0)
        snprintf(out + used, out_bytes - used, "open loop at %g/s, %s arrivals", o->rate, arrival);
    else
        snprintf(out + used, out_bytes - used, "closed loop");
}

static void print_head(const fc_bench_options *o, const fc_bench_outcome *outcome, FILE *out)
{
    char shape[256] = "ping", load[160];
    const fc_tally *t = &outcome->total;
    if (o->op == FC_BENCH_ATTEND)
        fc_shape_text(&o->shape, shape, sizeof shape);
    fc_report_load_text(o, load, sizeof load);
    fprintf(out, "Server    %s%s\n", o->urls.items[0], o->urls.count > 1 ? " and others" : "");
    if (t->kernel[0] != '\0')
        fprintf(out, "Kernel    %s on %s\n", t->kernel, t->device);
    double measured_s = (double)(outcome->window.end_ns - outcome->window.begin_ns) / 1e9;
    fprintf(out, "Problem   %s\nLoad      %s, %.*f s after %g s of warm-up%s\n", shape, load,
            measured_s == floor(measured_s) ? 0 : 1, measured_s, o->warmup_s,
            outcome->was_interrupted ? " (interrupted)" : "");
}

static void print_errors(const fc_tally *tally, FILE *out)
{
    uint64_t count = fc_tally_error_count(tally);
    if (count == 0) {
        fprintf(out, "Errors    none\n");
        return;
    }
    fprintf(out, "Errors    %s:", fc_text_count(count).text);
    for (int i = 0; i < FC_TALLY_STATUSES; i++) {
        if (tally->errors[i] > 0)
            fprintf(out, " %s %s", fc_text_count(tally->errors[i]).text, flashcore_status_name((flashcore_status)i));
    }
    fprintf(out, "%s%s\n", tally->first_error[0] != '\0' ? "; first: " : "", tally->first_error);
}

static void print_counts(const fc_bench_options *o, const fc_bench_outcome *outcome, FILE *out)
{
    const fc_tally *t = &outcome->total;
    double rate = fc_tally_rate(t, &outcome->window);
    fprintf(out, "Answers   %s, %s requests/s", fc_text_count(t->latency.count).text, fc_text_rate(rate).text);
    if (o->op == FC_BENCH_ATTEND) {
        double bytes = rate * (double)(2 * fc_shape_q_bytes(&o->shape) + 2 * fc_shape_kv_bytes(&o->shape));
        fprintf(out, ", %s/s of tensors in and out", fc_text_bytes((uint64_t)bytes).text);
    }
    fputc('\n', out);
    print_errors(t, out);
    if (o->deadline_s > 0)
        fprintf(out, "Late      %s answers came after their deadline\n", fc_text_count(t->late).text);
    if (o->wants_verify && t->wrong == 0)
        fprintf(out, "Verified  %s answers, all right (%llu by the reference, the rest bit for bit)\n",
                fc_text_count(t->checked).text, (unsigned long long)outcome->reference_count);
    else if (o->wants_verify)
        fprintf(out, "WRONG     %s of %s answers; first: %s\n", fc_text_count(t->wrong).text,
                fc_text_count(t->checked).text, t->first_wrong);
    if (o->rate > 0)
        fprintf(out, "Schedule  %s of %s sends made; late by %s at p99, %s at most%s\n",
                fc_text_count(t->sent_in_window).text, fc_text_count(t->due_in_window).text,
                fc_text_us((double)fc_histogram_percentile_ns(&t->lag, 99) / 1e3).text,
                fc_text_us((double)t->lag.max_ns / 1e3).text,
                fc_tally_missed_schedule(t, o->clients) ? "; MISSED: what was never sent is not in the latencies" : "");
}

static void print_latency(const fc_bench_options *o, const fc_histogram *h, const char *line, FILE *out)
{
    static const double PERCENTS[] = {50, 90, 99, 99.9};
    char cells[4][FC_TEXT_BYTES];
    fc_table table;
    for (size_t i = 0; i < 4; i++)
        memcpy(cells[i], fc_text_us((double)fc_histogram_percentile_ns(h, PERCENTS[i]) / 1e3).text, FC_TEXT_BYTES);
    fprintf(out, "\nLatency, %s to client receive\n", o->rate > 0 ? "intended send" : "client send");
    fc_table_init(&table, "rrrrrrr");
    fc_table_heading(&table, "min|mean|p50|p90|p99|p99.9|max");
    fc_table_row(&table, "%s|%s|%s|%s|%s|%s|%s", fc_text_us((double)h->min_ns / 1e3).text,
                 fc_text_us(fc_histogram_mean_ns(h) / 1e3).text, cells[0], cells[1], cells[2], cells[3],
                 fc_text_us((double)h->max_ns / 1e3).text);
    fc_table_print(&table, line, out);
}

static void add_part(fc_table *table, const char *name, double us, const fc_bench_parts *parts, const fc_canvas *canvas)
{
    /* Name, time and share take 44 columns. */
    size_t columns = canvas->columns > 84 ? 40 : canvas->columns > 64 ? canvas->columns - 44 : 20;
    double share = parts->client_us > 0 ? us / parts->client_us : 0;
    char bar[FC_BAR_BYTES];
    fc_text_bar(share, columns > 24 ? 24 : columns, canvas->is_utf8, bar);
    fc_table_row(table, "%s|%s|%.1f %%|%s", name, fc_text_us(us).text, 100 * share, bar);
}

static void print_parts(const fc_bench_options *o, const fc_tally *tally, const fc_canvas *canvas, const char *line,
                        FILE *out)
{
    fc_bench_parts parts = fc_report_parts(tally);
    fc_table table;
    fprintf(out, "\nWhere the mean request's time went (%.2f requests a launch)\n", parts.batch);
    fc_table_init(&table, "lrrl");
    fc_table_heading(&table, "part|mean|share|");
    if (o->rate > 0)
        add_part(&table, "waiting to be sent", parts.wait_us, &parts, canvas);
    add_part(&table, "queue", parts.queue_us, &parts, canvas);
    add_part(&table, "copy in", parts.copy_in_us, &parts, canvas);
    add_part(&table, "kernel", parts.kernel_us, &parts, canvas);
    add_part(&table, "copy out", parts.copy_out_us, &parts, canvas);
    add_part(&table, "rest of the daemon", parts.server_us, &parts, canvas);
    add_part(&table, "transport and encoding", parts.transport_us, &parts, canvas);
    fc_table_row(&table, "all|%s|100.0 %%|", fc_text_us(parts.client_us).text);
    fc_table_print(&table, line, out);
}

void fc_report_print(const fc_bench_options *options, const fc_bench_outcome *outcome, const fc_canvas *canvas,
                     FILE *out)
{
    const char *line = canvas->is_utf8 ? "\xe2\x94\x80" : "-";
    print_head(options, outcome, out);
    print_counts(options, outcome, out);
    if (outcome->total.latency.count == 0)
        return;
    print_latency(options, &outcome->total.latency, line, out);
    if (options->op == FC_BENCH_ATTEND)
        print_parts(options, &outcome->total, canvas, line, out);
    fputc('\n', out);
    fc_picture_percentiles(&outcome->total.latency, canvas, out);
}

bool fc_report_failed(const fc_bench_options *options, const fc_bench_outcome *outcome, FILE *err)
{
    const fc_tally *t = &outcome->total;
    uint64_t errors = fc_tally_error_count(t);
    bool has_missed = options->rate > 0 && !outcome->was_interrupted && fc_tally_missed_schedule(t, options->clients);
    if (t->wrong > 0)
        fprintf(err, "bench_client: %llu wrong answers; first: %s\n", (unsigned long long)t->wrong, t->first_wrong);
    if (errors > 0)
        fprintf(err, "bench_client: %llu requests failed; first: %s\n", (unsigned long long)errors, t->first_error);
    if (has_missed)
        fprintf(err,
                "bench_client: the schedule was missed: %llu of %llu sends happened in their window; the server does "
                "not keep up with %g/s, or --inflight and --clients are too few\n",
                (unsigned long long)t->sent_in_window, (unsigned long long)t->due_in_window, options->rate);
    if (outcome->was_interrupted)
        fprintf(err, "bench_client: interrupted; the figures are of the time until then\n");
    if (t->latency.count == 0)
        fprintf(err, "bench_client: no answer to measure%s\n",
                options->rate > 0 ? ": no request meant for the measured time was answered"
                : errors == 0     ? "; requests take longer than --duration"
                                  : "");
    return t->wrong > 0 || errors > 0 || has_missed || t->latency.count == 0 || outcome->was_interrupted;
}
