/* One client of the load: its life, and the loop with one request under way, which uses the library's synchronous calls
 * as most callers do. More than one: bench_worker_async.c.
 */
#include "client/bench_worker_impl.h"

#include "client/tool_clock.h"
#include "client/tool_server.h"

#include <stdlib.h>
#include <string.h>

/* --- what both loops use --------------------------------------------------------------------------------------- */

void fc_worker_prepare(fc_worker *worker, fc_slot *slot)
{
    const fc_bench_options *options = worker->shared->options;
    /* Clients start at different sets, so that launches hold different requests. */
    slot->input = (size_t)((worker->index + worker->sent_count++) % options->input_count);
    const fc_inputs *inputs = &worker->inputs[slot->input];
    fc_shape_request(&options->shape, inputs, options->kernel, slot->out, slot->lse, &slot->request);
    slot->request.deadline_us = (uint64_t)(options->deadline_s * 1e6);
    /* An answer that never arrived must not look like the one before it. 0xff...: NaN in every dtype. */
    if (worker->shared->verifier != NULL) {
        memset(slot->seen_out, 0xff, fc_shape_q_bytes(&options->shape));
        if (slot->seen_lse != NULL)
            memset(slot->seen_lse, 0xff, fc_shape_lse_count(&options->shape) * sizeof *slot->seen_lse);
        fc_worker_show_outputs(worker, slot);
    }
}

void fc_worker_count(fc_worker *worker, fc_slot *slot)
{
    fc_sample sample = {
        .intended_ns = slot->intended_ns, .sent_ns = slot->sent_ns, .done_ns = slot->done_ns, .result = &slot->result};
    uint64_t deadline_ns = (uint64_t)(worker->shared->options->deadline_s * 1e9);
    sample.is_late = deadline_ns > 0 && slot->done_ns - slot->sent_ns > deadline_ns;
    if (slot->result.status == FLASHCORE_OK && worker->shared->verifier != NULL) {
        fc_reason reason = {""};
        fc_worker_see_outputs(worker, slot);
        fc_status st = fc_verifier_check(worker->shared->verifier, slot->input, slot->result.kernel,
                                         slot->result.device, slot->seen_out, slot->seen_lse, &reason);
        sample.is_checked = true;
        sample.is_wrong = st != FC_OK;
        if (st != FC_OK)
            snprintf(slot->result.error, sizeof slot->result.error, "%s",
                     reason.text[0] != '\0' ? reason.text : fc_status_text(st));
    }
    pthread_mutex_lock(&worker->tally_lock);
    fc_tally_add(&worker->tally, &worker->shared->window, &sample);
    pthread_mutex_unlock(&worker->tally_lock);
}

uint64_t fc_worker_next_send_ns(fc_worker *worker, uint64_t now_ns)
{
    return worker->shared->options->rate > 0 ? fc_schedule_next_ns(&worker->schedule) : now_ns;
}

bool fc_worker_is_over(const fc_worker *worker, uint64_t time_ns)
{
    return time_ns >= worker->shared->window.end_ns ||
           atomic_load_explicit(&worker->shared->is_stopped, memory_order_relaxed);
}

void fc_worker_count_unsent(fc_worker *worker, uint64_t intended_ns)
{
    const fc_window *window = &worker->shared->window;
    if (worker->shared->options->rate == 0 || atomic_load(&worker->shared->is_stopped))
        return;
    pthread_mutex_lock(&worker->tally_lock);
    for (; intended_ns < window->end_ns; intended_ns = fc_schedule_next_ns(&worker->schedule))
        fc_tally_add_unsent(&worker->tally, window, intended_ns);
    pthread_mutex_unlock(&worker->tally_lock);
}

/* --- one request at a time ------------------------------------------------------------------------------------- */

static void call_server(fc_worker *worker, fc_slot *slot)
{
    const fc_bench_options *options = worker->shared->options;
    if (options->op == FC_BENCH_ATTEND) {
        flashcore_attend(worker->client, &slot->request, &slot->result);
        return;
    }
    double us = 0;
    uint32_t url = (uint32_t)((worker->index + worker->sent_count++) % options->urls.count);
    slot->result = (flashcore_result){.status = flashcore_ping(worker->client, url, &us), .batch = 1};
    if (slot->result.status != FLASHCORE_OK)
        snprintf(slot->result.error, sizeof slot->result.error, "%s", flashcore_last_error());
}

static void run_sync(fc_worker *worker)
{
    fc_slot *slot = &worker->slots[0];
    for (;;) {
        uint64_t now_ns = fc_clock_now_ns();
        uint64_t intended_ns = fc_worker_next_send_ns(worker, now_ns);
        while (intended_ns > now_ns && !fc_worker_is_over(worker, intended_ns)) {
            uint64_t look_ns = now_ns + FC_WORKER_LOOK_NS;
            fc_clock_sleep_until(intended_ns < look_ns ? intended_ns : look_ns);
            now_ns = fc_clock_now_ns();
        }
        if (fc_worker_is_over(worker, now_ns) || fc_worker_is_over(worker, intended_ns)) {
            fc_worker_count_unsent(worker, intended_ns);
            return;
        }
        if (worker->shared->options->op == FC_BENCH_ATTEND)
            fc_worker_prepare(worker, slot);
        slot->sent_ns = fc_clock_now_ns();
        /* The closed loop means to send when it is ready to. */
        slot->intended_ns = worker->shared->options->rate > 0 ? intended_ns : slot->sent_ns;
        call_server(worker, slot);
        slot->done_ns = fc_clock_now_ns();
        fc_worker_count(worker, slot);
        /* A server that is gone fails calls in microseconds: do not spin on it. */
        if (slot->result.status == FLASHCORE_UNREACHABLE || slot->result.status == FLASHCORE_CONNECTION_LOST)
            fc_clock_sleep_until(fc_clock_now_ns() + FC_NS_PER_S / 100);
    }
}

/* --- the gate -------------------------------------------------------------------------------------------------- */

void fc_gate_init(fc_gate *gate)
{
    *gate = (fc_gate){.state = FC_GATE_SHUT};
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
}

void fc_gate_fini(fc_gate *gate)
{
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->lock);
}

void fc_gate_await(fc_gate *gate, uint32_t waiting_count)
{
    pthread_mutex_lock(&gate->lock);
    while (gate->waiting_count < waiting_count)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

void fc_gate_open(fc_gate *gate, bool is_cancelled)
{
    pthread_mutex_lock(&gate->lock);
    gate->state = is_cancelled ? FC_GATE_CANCELLED : FC_GATE_OPEN;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

/* False: go home. */
static bool pass_gate(fc_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->waiting_count++;
    pthread_cond_broadcast(&gate->changed);
    while (gate->state == FC_GATE_SHUT)
        pthread_cond_wait(&gate->changed, &gate->lock);
    bool is_open = gate->state == FC_GATE_OPEN;
    pthread_mutex_unlock(&gate->lock);
    return is_open;
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static void *run_thread(void *context)
{
    fc_worker *worker = context;
    const fc_bench_options *options = worker->shared->options;
    /* Connect before the clock starts; whether it worked, the requests will tell. */
    for (uint32_t url = 0; url < options->urls.count; url++)
        flashcore_ping(worker->client, url, &(double){0});
    if (!pass_gate(&worker->shared->gate))
        return NULL;
    if (options->rate > 0)
        worker->schedule = fc_schedule_make((fc_arrival)options->arrival, options->rate, worker->index,
                                            (uint32_t)options->clients, options->seed, worker->shared->start_ns);
    else
        fc_clock_sleep_until(worker->shared->start_ns);
    if (worker->slot_count == 1)
        run_sync(worker);
    else
        fc_worker_run_async(worker);
    return NULL;
}

static fc_status create_slots(fc_worker *worker)
{
    const fc_bench_options *options = worker->shared->options;
    worker->slots = calloc(options->inflight, sizeof *worker->slots);
    if (worker->slots == NULL)
        return FC_NO_MEMORY;
    worker->slot_count = (size_t)options->inflight;
    size_t out_bytes = options->op == FC_BENCH_ATTEND ? fc_shape_q_bytes(&options->shape) : 0;
    for (size_t i = 0; i < worker->slot_count; i++) {
        fc_slot *slot = &worker->slots[i];
        slot->worker = worker;
        slot->out = slot->seen_out = malloc(out_bytes + 1);
        slot->lse = slot->seen_lse =
            options->wants_lse ? malloc(fc_shape_lse_count(&options->shape) * sizeof *slot->lse + 1) : NULL;
        if (slot->out == NULL || (options->wants_lse && slot->lse == NULL))
            return FC_NO_MEMORY;
    }
    return FC_OK;
}

static fc_status open_client(fc_worker *worker, fc_reason *out_reason)
{
    const fc_bench_options *options = worker->shared->options;
    bool is_inline = options->path == FC_BENCH_PATH_INLINE;
    fc_server_manner manner = {.timeout_s = options->timeout_s,
                               .inflight_max = (uint32_t)options->inflight,
                               .path = is_inline ? FLASHCORE_PATH_INLINE : FLASHCORE_PATH_AUTO,
                               .spin_us = options->spin_us};
    return fc_server_open(&options->urls, &options->tls, &manner, &worker->client, out_reason);
}

fc_status fc_worker_create(fc_bench_shared *shared, uint32_t index, fc_worker **out_worker, fc_reason *out_reason)
{
    fc_worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    worker->shared = shared;
    worker->index = index;
    worker->inputs = shared->inputs;
    pthread_mutex_init(&worker->tally_lock, NULL);
    pthread_mutex_init(&worker->ended_lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&worker->has_ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    fc_status st = FC_OK;
    if (fc_tally_init(&worker->tally) != FC_OK || create_slots(worker) != FC_OK)
        st = fc_fail(FC_NO_MEMORY, out_reason, "out of memory for %u clients", index + 1);
    else
        st = open_client(worker, out_reason);
    bool uses_arena = shared->options->path == FC_BENCH_PATH_ARENA || shared->options->path == FC_BENCH_PATH_DEVICE;
    if (st == FC_OK && uses_arena && shared->options->op == FC_BENCH_ATTEND)
        st = fc_worker_move_to_arena(worker, out_reason);
    if (st != FC_OK) {
        fc_worker_destroy(worker);
        return st;
    }
    *out_worker = worker;
    return FC_OK;
}

void fc_worker_destroy(fc_worker *worker)
{
    if (worker == NULL)
        return;
    flashcore_arena_destroy(worker->arena);
    flashcore_client_destroy(worker->client);
    free(worker->own_inputs);
    for (size_t i = 0; i < worker->slot_count; i++) {
        free(worker->slots[i].seen_out);
        free(worker->slots[i].seen_lse);
    }
    free(worker->slots);
    fc_tally_fini(&worker->tally);
    pthread_cond_destroy(&worker->has_ended);
    pthread_mutex_destroy(&worker->ended_lock);
    pthread_mutex_destroy(&worker->tally_lock);
    free(worker);
}

fc_status fc_worker_start(fc_worker *worker)
{
    return pthread_create(&worker->thread, NULL, run_thread, worker) == 0 ? FC_OK : FC_IO;
}

void fc_worker_join(fc_worker *worker)
{
    pthread_join(worker->thread, NULL);
}

void fc_worker_add_to(fc_worker *worker, fc_tally *total)
{
    pthread_mutex_lock(&worker->tally_lock);
    fc_tally_merge(total, &worker->tally);
    pthread_mutex_unlock(&worker->tally_lock);
}
