/* What bench_client says at the end, for a program. */
#include "client/bench_report.h"

#include <math.h>

static double percentile_us(const fc_histogram *h, double percent)
{
    return h->count == 0 ? NAN : (double)fc_histogram_percentile_ns(h, percent) / 1e3;
}

static void add_latency(fc_json *json, const fc_bench_outcome *outcome)
{
    const fc_histogram *h = &outcome->total.latency;
    fc_json_number(json, "requests_per_s", fc_tally_rate(&outcome->total, &outcome->window));
    fc_json_number(json, "p50_us", percentile_us(h, 50));
    fc_json_number(json, "p90_us", percentile_us(h, 90));
    fc_json_number(json, "p99_us", percentile_us(h, 99));
    fc_json_number(json, "p999_us", percentile_us(h, 99.9));
    fc_json_number(json, "max_us", h->count == 0 ? NAN : (double)h->max_ns / 1e3);
    fc_json_number(json, "min_us", h->count == 0 ? NAN : (double)h->min_ns / 1e3);
    fc_json_number(json, "mean_us", h->count == 0 ? NAN : fc_histogram_mean_ns(h) / 1e3);
}

static void add_counts(fc_json *json, const fc_bench_options *options, const fc_bench_outcome *outcome)
{
    const fc_tally *t = &outcome->total;
    fc_json_uint(json, "answers", t->latency.count);
    fc_json_uint(json, "wrong_answers", t->wrong);
    if (options->deadline_s > 0)
        fc_json_uint(json, "late_answers", t->late);
    fc_json_uint(json, "verified_answers", options->wants_verify ? t->checked : 0);
    fc_json_uint(json, "error_count", fc_tally_error_count(t));
    fc_json_begin_object(json, "errors");
    for (int i = 0; i < FC_TALLY_STATUSES; i++) {
        if (t->errors[i] > 0)
            fc_json_uint(json, flashcore_status_name((flashcore_status)i), t->errors[i]);
    }
    fc_json_end(json);
    if (t->first_error[0] != '\0')
        fc_json_text(json, "first_error", t->first_error);
    if (t->first_wrong[0] != '\0')
        fc_json_text(json, "first_wrong", t->first_wrong);
    if (outcome->was_interrupted)
        fc_json_bool(json, "interrupted", true);
}

static void add_parts(fc_json *json, const fc_tally *tally)
{
    fc_bench_parts parts = fc_report_parts(tally);
    fc_json_begin_object(json, "mean_parts_us");
    fc_json_number(json, "wait", parts.wait_us);
    fc_json_number(json, "queue", parts.queue_us);
    fc_json_number(json, "copy_in", parts.copy_in_us);
    fc_json_number(json, "kernel", parts.kernel_us);
    fc_json_number(json, "copy_out", parts.copy_out_us);
    fc_json_number(json, "server_rest", parts.server_us);
    fc_json_number(json, "transport", parts.transport_us);
    fc_json_number(json, "total", parts.client_us);
    fc_json_end(json);
    fc_json_number(json, "requests_per_launch", parts.batch);
    fc_json_text(json, "kernel", tally->kernel);
    fc_json_text(json, "device", tally->device);
}

static void add_schedule(fc_json *json, const fc_bench_options *options, const fc_tally *t)
{
    fc_json_begin_object(json, "schedule");
    fc_json_uint(json, "due", t->due_in_window);
    fc_json_uint(json, "sent", t->sent_in_window);
    fc_json_number(json, "late_p99_us", percentile_us(&t->lag, 99));
    fc_json_number(json, "late_max_us", (double)t->lag.max_ns / 1e3);
    fc_json_bool(json, "missed", fc_tally_missed_schedule(t, options->clients));
    fc_json_end(json);
}

static void add_shape(fc_json *json, const fc_bench_options *options)
{
    const fc_shape *s = &options->shape;
    const uint32_t dims[] = {s->batch, s->q_heads, s->q_len, s->head_dim};
    fc_json_begin_list(json, "shape");
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++)
        fc_json_uint(json, NULL, dims[i]);
    fc_json_end(json);
    fc_json_uint(json, "kv_heads", s->kv_heads);
    fc_json_uint(json, "kv_tokens", s->kv_tokens);
    fc_json_text(json, "dtype", fc_dtype_name(s->dtype));
    fc_json_text(json, "layout", fc_layout_name(s->layout));
    fc_json_text(json, "causal", fc_causal_name(s->causal));
    if (s->window_left >= 0 || s->window_right >= 0) {
        fc_json_begin_list(json, "window");
        fc_json_number(json, NULL, (double)s->window_left);
        fc_json_number(json, NULL, (double)s->window_right);
        fc_json_end(json);
    }
    if (s->softcap > 0)
        fc_json_number(json, "softcap", (double)s->softcap);
    fc_json_text(json, "kernel", options->kernel != NULL ? options->kernel : "auto");
}

static void add_config(fc_json *json, const fc_bench_options *options)
{
    char word[16];
    fc_json_begin_object(json, "config");
    fc_json_begin_list(json, "urls");
    for (size_t i = 0; i < options->urls.count; i++)
        fc_json_text(json, NULL, options->urls.items[i]);
    fc_json_end(json);
    fc_args_choice(FC_BENCH_OP_CHOICES, options->op, word, sizeof word);
    fc_json_text(json, "op", word);
    if (options->op == FC_BENCH_ATTEND)
        add_shape(json, options);
    fc_json_uint(json, "clients", options->clients);
    fc_json_uint(json, "inflight", options->inflight);
    fc_json_text(json, "loop", options->rate > 0 ? "open" : "closed");
    if (options->rate > 0) {
        fc_args_choice(FC_ARRIVAL_CHOICES, options->arrival, word, sizeof word);
        fc_json_number(json, "rate_per_s", options->rate);
        fc_json_text(json, "arrival", word);
    }
    fc_json_uint(json, "spin_us", options->spin_us);
    if (options->deadline_s > 0)
        fc_json_number(json, "deadline_s", options->deadline_s);
    fc_json_number(json, "duration_s", options->duration_s);
    fc_json_number(json, "warmup_s", options->warmup_s);
    fc_json_bool(json, "verify", options->wants_verify);
    fc_json_uint(json, "inputs", options->input_count);
    fc_json_uint(json, "seed", options->seed);
    fc_json_text(json, "version", FC_VERSION);
    fc_json_end(json);
}

fc_json *fc_report_json(const fc_bench_options *options, const fc_bench_outcome *outcome)
{
    fc_json *json = fc_json_create();
    add_latency(json, outcome);
    add_counts(json, options, outcome);
    if (options->op == FC_BENCH_ATTEND)
        add_parts(json, &outcome->total);
    if (options->rate > 0)
        add_schedule(json, options, &outcome->total);
    add_config(json, options);
    return json;
}
