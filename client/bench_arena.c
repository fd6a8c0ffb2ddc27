/* Tensors that lie in memory shared with the server, of the machine or of its GPU, which nobody here can touch but
 * through copies. */
#include "client/bench_worker_impl.h"
#include "client/flashcore_cuda.h"

#include <stdlib.h>
#include <string.h>

static bool is_on_device(const fc_worker *worker)
{
    return worker->shared->options->path == FC_BENCH_PATH_DEVICE;
}

static bool copy_to(const fc_worker *worker, void *to, const void *from, size_t size_bytes)
{
    if (size_bytes == 0)
        return true;
    if (is_on_device(worker))
        return flashcore_cuda_upload(to, from, size_bytes) == FLASHCORE_OK;
    memcpy(to, from, size_bytes);
    return true;
}

/* What cannot be copied stays what it was, which is no right answer. */
static void copy_from(const fc_worker *worker, void *to, const void *from, size_t size_bytes)
{
    if (size_bytes == 0)
        return;
    if (is_on_device(worker))
        flashcore_cuda_download(to, from, size_bytes);
    else
        memcpy(to, from, size_bytes);
}

static size_t lse_bytes_of(const fc_bench_options *options)
{
    return options->wants_lse ? fc_shape_lse_count(&options->shape) * sizeof(float) : 0;
}

/* Allocations round up to 64. */
static fc_status make_arena(fc_worker *worker, fc_reason *out_reason)
{
    const fc_bench_options *options = worker->shared->options;
    size_t q_bytes = fc_shape_q_bytes(&options->shape), k_bytes = fc_shape_kv_bytes(&options->shape);
    size_t bytes = options->input_count * (q_bytes + 2 * k_bytes + 192) +
                   worker->slot_count * (q_bytes + lse_bytes_of(options) + 128) + 64;
    flashcore_status status = is_on_device(worker)
                                  ? flashcore_cuda_arena_create(worker->client, 0, bytes, &worker->arena)
                                  : flashcore_arena_create(worker->client, 0, bytes, &worker->arena);
    return status == FLASHCORE_OK ? FC_OK
                                  : fc_fail((fc_status)status, out_reason, "--path %s: %.200s",
                                            is_on_device(worker) ? "device" : "arena", flashcore_last_error());
}

/* NULL: it cannot be copied there. There is room. */
static void *move(fc_worker *worker, const void *from, size_t size_bytes)
{
    void *to = flashcore_arena_alloc(worker->arena, size_bytes);
    return to != NULL && copy_to(worker, to, from, size_bytes) ? to : NULL;
}

fc_status fc_worker_move_to_arena(fc_worker *worker, fc_reason *out_reason)
{
    const fc_bench_options *options = worker->shared->options;
    size_t q_bytes = fc_shape_q_bytes(&options->shape), k_bytes = fc_shape_kv_bytes(&options->shape);
    fc_status st = make_arena(worker, out_reason);
    if (st != FC_OK)
        return st;
    worker->own_inputs = calloc(options->input_count, sizeof *worker->own_inputs);
    if (worker->own_inputs == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    for (uint64_t i = 0; i < options->input_count; i++) {
        const fc_inputs *from = &worker->inputs[i];
        fc_inputs *to = &worker->own_inputs[i];
        *to = (fc_inputs){.q = move(worker, from->q, q_bytes),
                          .k = move(worker, from->k, k_bytes),
                          .v = move(worker, from->v, k_bytes)};
        if (to->q == NULL || to->k == NULL || to->v == NULL)
            return fc_fail(FC_INTERNAL, out_reason, "the inputs cannot be copied to the GPU");
    }
    worker->inputs = worker->own_inputs;
    for (size_t i = 0; i < worker->slot_count; i++) {
        fc_slot *slot = &worker->slots[i];
        slot->out = flashcore_arena_alloc(worker->arena, q_bytes);
        slot->lse = options->wants_lse ? flashcore_arena_alloc(worker->arena, lse_bytes_of(options)) : NULL;
    }
    return FC_OK;
}

void fc_worker_show_outputs(const fc_worker *worker, const fc_slot *slot)
{
    const fc_bench_options *options = worker->shared->options;
    if (worker->arena == NULL)
        return;
    copy_to(worker, slot->out, slot->seen_out, fc_shape_q_bytes(&options->shape));
    copy_to(worker, slot->lse, slot->seen_lse, lse_bytes_of(options));
}

void fc_worker_see_outputs(const fc_worker *worker, const fc_slot *slot)
{
    const fc_bench_options *options = worker->shared->options;
    if (worker->arena == NULL)
        return;
    copy_from(worker, slot->seen_out, slot->out, fc_shape_q_bytes(&options->shape));
    copy_from(worker, slot->seen_lse, slot->lse, lse_bytes_of(options));
}
