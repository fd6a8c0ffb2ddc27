/* A whole run. */
#include "client/bench_run.h"

#include "client/bench_verify.h"
#include "client/bench_worker.h"
#include "client/tool_clock.h"
#include "client/tool_server.h"

#include <stdlib.h>

/* From the gate's opening to the first send: every thread is awake by then. */
#define HEAD_START_NS (FC_NS_PER_S / 50)
#define SHOW_NS (FC_NS_PER_S / 4)
#define LOOK_NS (FC_NS_PER_S / 20)

static volatile atomic_bool was_interrupted;

void fc_bench_interrupt(void)
{
    atomic_store(&was_interrupted, true);
}

typedef struct run {
    const fc_bench_options *options;
    fc_bench_show show;
    void *show_context;
    fc_inputs *inputs; /* [options->input_count] */
    fc_bench_shared shared;
    fc_worker **workers; /* [worker_count] */
    uint32_t worker_count;
} run;

static void show_stage(const run *r, const char *stage, double done_s, double total_s, const fc_tally *tally)
{
    fc_bench_progress progress = {
        .stage = stage, .done_s = done_s, .total_s = total_s, .tally = tally, .window = &r->shared.window};
    if (r->show != NULL)
        r->show(r->show_context, &progress);
}

/* --- before the load ------------------------------------------------------------------------------------------- */

static fc_status make_inputs(run *r, fc_reason *out_reason)
{
    const fc_bench_options *options = r->options;
    r->inputs = calloc(options->input_count, sizeof *r->inputs);
    if (r->inputs == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    for (uint64_t i = 0; i < options->input_count && options->op == FC_BENCH_ATTEND; i++) {
        if (fc_inputs_init(&options->shape, options->seed, i, &r->inputs[i]) != FC_OK)
            return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for %llu input sets",
                           (unsigned long long)options->input_count);
    }
    return FC_OK;
}

static fc_status fail_call(const fc_bench_options *options, flashcore_status status, const char *what,
                           const char *error, fc_reason *out_reason)
{
    return fc_fail((fc_status)status, out_reason, "%s%s: %s: %s", options->urls.items[0],
                   options->urls.count > 1 ? ", ..." : "", what, fc_server_error(status, error));
}

static fc_status ping_all(const fc_bench_options *options, flashcore_client *client, fc_reason *out_reason)
{
    double us;
    for (uint32_t url = 0; url < options->urls.count; url++) {
        flashcore_status status = flashcore_ping(client, url, &us);
        if (status != FLASHCORE_OK)
            return fc_server_fail(options->urls.items[url], status, flashcore_last_error(), out_reason);
    }
    return FC_OK;
}

/* Sends every input set once, so that the reference runs now and not while latencies are taken. */
static fc_status verify_inputs(run *r, flashcore_client *client, void *out, float *lse, fc_tally *tally,
                               fc_reason *out_reason)
{
    const fc_bench_options *options = r->options;
    for (uint64_t i = 0; i < options->input_count && !was_interrupted; i++) {
        flashcore_request request;
        flashcore_result result;
        fc_reason why = {""};
        show_stage(r, "verifying", (double)i, (double)options->input_count, tally);
        fc_shape_request(&options->shape, &r->inputs[i], options->kernel, out, lse, &request);
        flashcore_status status = flashcore_attend(client, &request, &result);
        if (status != FLASHCORE_OK)
            return fail_call(options, status, "the first request failed", result.error, out_reason);
        fc_status st = fc_verifier_check(r->shared.verifier, i, result.kernel, result.device, out, lse, &why);
        if (st != FC_OK && st != FC_INTERNAL)
            return fc_fail(st, out_reason, "%s", why.text[0] != '\0' ? why.text : fc_status_text(st));
        if (st != FC_OK)
            snprintf(result.error, sizeof result.error, "%s", why.text);
        fc_sample sample = {.result = &result, .is_checked = true, .is_wrong = st != FC_OK};
        fc_tally_add(tally, &r->shared.window, &sample);
    }
    return FC_OK;
}

/* Sends one request, so that what would be refused every time is told at once. */
static fc_status try_one(const run *r, flashcore_client *client, void *out, float *lse, fc_reason *out_reason)
{
    flashcore_request request;
    flashcore_result result;
    fc_shape_request(&r->options->shape, &r->inputs[0], r->options->kernel, out, lse, &request);
    switch (flashcore_attend(client, &request, &result)) {
    case FLASHCORE_INVALID_ARGUMENT:
    case FLASHCORE_UNSUPPORTED:
    case FLASHCORE_TOO_LARGE:
    case FLASHCORE_UNAUTHORIZED:
        return fail_call(r->options, result.status, "the first request failed", result.error, out_reason);
    default:
        return FC_OK; /* a failure that may pass is for the load to count */
    }
}

/* Is every server there, and are its answers right? Works with a client of its own. */
static fc_status look_first(run *r, fc_tally *tally, fc_reason *out_reason)
{
    const fc_bench_options *options = r->options;
    flashcore_client *client = NULL;
    void *out = NULL;
    float *lse = NULL;
    fc_server_manner manner = {.timeout_s = options->timeout_s, .inflight_max = 1, .path = FLASHCORE_PATH_INLINE};
    fc_status st = fc_server_open(&options->urls, &options->tls, &manner, &client, out_reason);
    if (st != FC_OK)
        return st;
    st = ping_all(options, client, out_reason);
    if (st != FC_OK || options->op != FC_BENCH_ATTEND)
        goto destroy_client;
    if (options->wants_verify)
        st = fc_verifier_create(&options->shape, r->inputs, options->input_count, &r->shared.verifier, out_reason);
    if (st != FC_OK)
        goto destroy_client;
    out = malloc(fc_shape_q_bytes(&options->shape) + 1);
    lse = options->wants_lse ? malloc(fc_shape_lse_count(&options->shape) * sizeof *lse + 1) : NULL;
    if (out == NULL || (options->wants_lse && lse == NULL))
        st = fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    else if (options->wants_verify)
        st = verify_inputs(r, client, out, lse, tally, out_reason);
    else
        st = try_one(r, client, out, lse, out_reason);
    free(out);
    free(lse);
destroy_client:
    flashcore_client_destroy(client);
    return st;
}

/* --- the load -------------------------------------------------------------------------------------------------- */

static fc_status create_workers(run *r, fc_reason *out_reason)
{
    r->workers = calloc(r->options->clients, sizeof *r->workers);
    if (r->workers == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    for (uint32_t i = 0; i < r->options->clients; i++) {
        fc_status st = fc_worker_create(&r->shared, i, &r->workers[i], out_reason);
        if (st != FC_OK)
            return st;
        r->worker_count++;
    }
    return FC_OK;
}

static fc_status start_workers(run *r, fc_reason *out_reason)
{
    for (uint32_t i = 0; i < r->worker_count; i++) {
        if (fc_worker_start(r->workers[i]) == FC_OK)
            continue;
        fc_gate_open(&r->shared.gate, true);
        while (i-- > 0)
            fc_worker_join(r->workers[i]);
        return fc_fail(FC_IO, out_reason, "no thread for client %u of %u", i + 1, r->worker_count);
    }
    fc_gate_await(&r->shared.gate, r->worker_count);
    fc_bench_shared *shared = &r->shared;
    shared->start_ns = fc_clock_now_ns() + HEAD_START_NS;
    shared->window.begin_ns = shared->start_ns + (uint64_t)(r->options->warmup_s * 1e9);
    shared->window.end_ns = shared->window.begin_ns + (uint64_t)(r->options->duration_s * 1e9);
    fc_gate_open(&shared->gate, false);
    return FC_OK;
}

/* Adding up takes the workers' locks, so it happens only when somebody watches. */
static void show_load(const run *r, uint64_t now_ns)
{
    const fc_window *window = &r->shared.window;
    fc_tally tally;
    if (r->show == NULL || fc_tally_init(&tally) != FC_OK)
        return;
    for (uint32_t i = 0; i < r->worker_count; i++)
        fc_worker_add_to(r->workers[i], &tally);
    if (now_ns < window->begin_ns)
        show_stage(r, "warming up", now_ns < r->shared.start_ns ? 0 : (double)(now_ns - r->shared.start_ns) / 1e9,
                   r->options->warmup_s, &tally);
    else
        show_stage(r, "measuring", (double)(now_ns - window->begin_ns) / 1e9, r->options->duration_s, &tally);
    fc_tally_fini(&tally);
}

static void await_end(run *r, fc_bench_outcome *outcome)
{
    uint64_t shown_ns = 0;
    for (;;) {
        uint64_t now_ns = fc_clock_now_ns();
        if (now_ns >= r->shared.window.end_ns)
            break;
        if (was_interrupted) {
            outcome->was_interrupted = true;
            outcome->window.end_ns = now_ns > outcome->window.begin_ns ? now_ns : outcome->window.begin_ns;
            break;
        }
        if (now_ns >= shown_ns + SHOW_NS) {
            show_load(r, now_ns);
            shown_ns = now_ns;
        }
        uint64_t look_ns = now_ns + LOOK_NS;
        fc_clock_sleep_until(look_ns < r->shared.window.end_ns ? look_ns : r->shared.window.end_ns);
    }
    if (outcome->was_interrupted)
        atomic_store(&r->shared.is_stopped, true);
    show_stage(r, "waiting for the last answers", 1, 1, &outcome->total);
}

static fc_status run_load(run *r, fc_bench_outcome *outcome, fc_reason *out_reason)
{
    fc_status st = create_workers(r, out_reason);
    if (st == FC_OK)
        st = start_workers(r, out_reason);
    if (st != FC_OK)
        return st;
    outcome->window = r->shared.window;
    await_end(r, outcome);
    for (uint32_t i = 0; i < r->worker_count; i++) {
        fc_worker_join(r->workers[i]);
        fc_worker_add_to(r->workers[i], &outcome->total);
    }
    return FC_OK;
}

static void free_run(run *r)
{
    for (uint32_t i = 0; r->workers != NULL && i < r->worker_count; i++)
        fc_worker_destroy(r->workers[i]);
    free(r->workers);
    fc_verifier_destroy(r->shared.verifier);
    for (uint64_t i = 0; r->inputs != NULL && i < r->options->input_count; i++)
        fc_inputs_fini(&r->inputs[i]);
    free(r->inputs);
    fc_gate_fini(&r->shared.gate);
}

fc_status fc_bench_run(const fc_bench_options *options, fc_bench_show show, void *show_context,
                       fc_bench_outcome *out_outcome, fc_reason *out_reason)
{
    run r = {.options = options, .show = show, .show_context = show_context};
    fc_bench_outcome outcome = {.was_interrupted = false};
    if (fc_tally_init(&outcome.total) != FC_OK)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    fc_gate_init(&r.shared.gate);
    r.shared.options = options;
    fc_status st = make_inputs(&r, out_reason);
    r.shared.inputs = r.inputs;
    if (st == FC_OK)
        st = look_first(&r, &outcome.total, out_reason);
    if (st == FC_OK)
        st = run_load(&r, &outcome, out_reason);
    if (st == FC_OK && r.shared.verifier != NULL)
        outcome.reference_count = fc_verifier_reference_count(r.shared.verifier);
    free_run(&r);
    if (st != FC_OK) {
        fc_tally_fini(&outcome.total);
        return st;
    }
    *out_outcome = outcome;
    return FC_OK;
}
