/* Names the rungs, checks problems and cuts them into segments: the host side that every kernel stands on. Pure
 * functions: no I/O, no clock, no allocation, no device. Plans are made in plan.c.
 */
#include "kernels/attention.h"

#include <string.h>

typedef struct kernel_row {
    const char *name, *idea;
    fc_engine_kind engine;
} kernel_row;

static const kernel_row KERNELS[FC_KERNEL_COUNT] = {
#define FC_KERNEL_ROW(symbol, name, engine, idea) [symbol] = {name, idea, engine},
#include "kernels/kernel.def"
#undef FC_KERNEL_ROW
};

static bool is_kernel(fc_kernel kernel)
{
    return (unsigned)kernel < FC_KERNEL_COUNT;
}

const char *fc_kernel_name(fc_kernel kernel)
{
    if (kernel == FC_KERNEL_AUTO)
        return "auto";
    return is_kernel(kernel) ? KERNELS[kernel].name : "unknown";
}

const char *fc_kernel_idea(fc_kernel kernel)
{
    if (kernel == FC_KERNEL_AUTO)
        return "the fastest that fits";
    return is_kernel(kernel) ? KERNELS[kernel].idea : "unknown";
}

fc_engine_kind fc_kernel_engine(fc_kernel kernel)
{
    return is_kernel(kernel) ? KERNELS[kernel].engine : FC_ENGINE_CPU;
}

bool fc_kernel_from_name(const char *name, size_t name_bytes, fc_kernel *out_kernel)
{
    for (int i = 0; i <= FC_KERNEL_AUTO; i++) {
        if (i == FC_KERNEL_COUNT)
            continue;
        const char *candidate = fc_kernel_name((fc_kernel)i);
        if (strlen(candidate) == name_bytes && memcmp(candidate, name, name_bytes) == 0) {
            *out_kernel = (fc_kernel)i;
            return true;
        }
    }
    return false;
}

/* --- the problem ------------------------------------------------------------------------------------------------ */

static fc_status check_words(const fc_problem *problem, fc_reason *out_reason)
{
    if ((unsigned)problem->dtype >= FC_DTYPE_COUNT)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "q.dtype: not an element type of this server");
    if ((unsigned)problem->causal >= FC_CAUSAL_COUNT)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "causal: not one of none, top_left, bottom_right");
    return FC_OK;
}

/* Every stride, index and byte offset of a tensor of these sides fits int64, even at 8 bytes an element. */
static bool is_addressable(int32_t batch, int32_t heads, int32_t tokens, int32_t head_dim)
{
    int64_t product = (int64_t)(batch > 0 ? batch : 1) * heads; /* an empty batch has strides, too */
    return !__builtin_mul_overflow(product, (int64_t)tokens, &product) &&
           !__builtin_mul_overflow(product, (int64_t)head_dim, &product) && product <= INT64_MAX / 8;
}

static fc_status check_shape(const fc_problem *p, fc_reason *out_reason)
{
    if (p->batch < 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "q.shape: the batch is %d", (int)p->batch);
    if (p->q_len < 0 || p->q_len > FC_TOKENS_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "q.shape: %d tokens; 0 to %d are possible", (int)p->q_len,
                       FC_TOKENS_MAX);
    if (p->kv_len < 0 || p->kv_len > FC_TOKENS_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "k.shape: %d tokens; 0 to %d are possible", (int)p->kv_len,
                       FC_TOKENS_MAX);
    if (p->q_heads < 1)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "q.shape: %d heads; at least one is needed", (int)p->q_heads);
    if (p->kv_heads < 1)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "k.shape: %d heads; at least one is needed", (int)p->kv_heads);
    if (p->q_heads % p->kv_heads != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "q.shape: %d heads are no multiple of the %d heads of k",
                       (int)p->q_heads, (int)p->kv_heads);
    if (p->head_dim < 1)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "q.shape: head_dim is %d", (int)p->head_dim);
    if (p->head_dim % FC_HEAD_DIM_STEP != 0 || p->head_dim > FC_HEAD_DIM_MAX)
        return fc_fail(FC_UNSUPPORTED, out_reason, "q.shape: head_dim is %d; multiples of %d up to %d are supported",
                       (int)p->head_dim, FC_HEAD_DIM_STEP, FC_HEAD_DIM_MAX);
    if (!is_addressable(p->batch, p->q_heads, p->q_len, p->head_dim))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "q.shape: more elements than 64 bits can address");
    if (!is_addressable(p->batch, p->kv_heads, p->kv_len, p->head_dim))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "k.shape: more elements than 64 bits can address");
    return FC_OK;
}

static fc_status check_numbers(const fc_problem *p, fc_reason *out_reason)
{
    if (!__builtin_isfinite(p->scale) || p->scale < 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "scale: %g; a finite number >= 0 is needed", (double)p->scale);
    if (!__builtin_isfinite(p->softcap) || p->softcap < 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "softcap: %g; a finite number >= 0 is needed (0 turns it off)",
                       (double)p->softcap);
    if (p->window_left < -1 || p->window_right < -1)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "window: [%lld, %lld]; each end is -1 (open) or a key count",
                       (long long)p->window_left, (long long)p->window_right);
    return FC_OK;
}

static fc_status check_kv_lens(const fc_problem *problem, fc_reason *out_reason)
{
    if (problem->kv_lens == NULL)
        return FC_OK;
    for (int32_t b = 0; b < problem->batch; b++) {
        if (problem->kv_lens[b] > (uint32_t)problem->kv_len)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kv_len: entry %d is %lu, but k has %d tokens", (int)b,
                           (unsigned long)problem->kv_lens[b], (int)problem->kv_len);
    }
    return FC_OK;
}

fc_status fc_problem_check(const fc_problem *problem, fc_reason *out_reason)
{
    fc_status st = check_words(problem, out_reason);
    if (st == FC_OK)
        st = check_shape(problem, out_reason);
    if (st == FC_OK)
        st = check_numbers(problem, out_reason);
    if (st == FC_OK)
        st = check_kv_lens(problem, out_reason);
    return st;
}

fc_strides fc_strides_contiguous(fc_layout layout, int64_t heads, int64_t tokens, int64_t head_dim)
{
    fc_strides strides = {.batch = heads * tokens * head_dim, .head = tokens * head_dim, .token = head_dim};
    if (layout == FC_BSHD) {
        strides.head = head_dim;
        strides.token = heads * head_dim;
    }
    return strides;
}

/* --- segments --------------------------------------------------------------------------------------------------- */

static const void *at(const void *base, int64_t element, size_t element_bytes)
{
    return base == NULL ? NULL : (const char *)base + element * (int64_t)element_bytes;
}

/* Turns causal and window into the two offsets. The position of row i is i + position; a window side wider than any
 * sequence is as good as open, and cutting it there keeps the sums small. */
static void set_interval(const fc_problem *problem, fc_segment *segment)
{
    const int64_t widest = 4 * (int64_t)FC_TOKENS_MAX;
    int64_t position = problem->causal == FC_CAUSAL_TOP_LEFT ? 0 : (int64_t)segment->kv_len - segment->q_len;
    int64_t left = problem->window_left > widest ? widest : problem->window_left;
    int64_t right = problem->window_right > widest ? widest : problem->window_right;
    if (problem->causal != FC_CAUSAL_NONE)
        right = 0; /* as narrow as any window to the right can be */
    segment->key_begin_offset = left < 0 ? -FC_OFFSET_OPEN : position - left;
    segment->key_end_offset = right < 0 ? FC_OFFSET_OPEN : position + right + 1;
}

void fc_problem_segments(const fc_problem *problem, const fc_plan *plan, const fc_tensors *tensors,
                         fc_segment *out_segments)
{
    size_t bytes = fc_dtype_bytes(problem->dtype);
    int64_t lse_batch_stride = (int64_t)problem->q_heads * problem->q_len;
    for (int32_t b = 0; b < problem->batch; b++) {
        out_segments[b] = (fc_segment){
            .q = at(tensors->q, b * tensors->q_strides.batch, bytes),
            .k = at(tensors->k, b * tensors->k_strides.batch, bytes),
            .v = at(tensors->v, b * tensors->v_strides.batch, bytes),
            .out = (void *)at(tensors->out, b * tensors->out_strides.batch, bytes),
            .lse = (float *)at(tensors->lse, b * lse_batch_stride, sizeof(float)),
            .q_head_stride = tensors->q_strides.head,
            .q_token_stride = tensors->q_strides.token,
            .k_head_stride = tensors->k_strides.head,
            .k_token_stride = tensors->k_strides.token,
            .v_head_stride = tensors->v_strides.head,
            .v_token_stride = tensors->v_strides.token,
            .out_head_stride = tensors->out_strides.head,
            .out_token_stride = tensors->out_strides.token,
            .lse_head_stride = problem->q_len,
            .q_heads = problem->q_heads,
            .kv_heads = problem->kv_heads,
            .q_len = problem->q_len,
            .kv_len = problem->kv_lens != NULL ? (int32_t)problem->kv_lens[b] : problem->kv_len,
            .scale = problem->scale,
            .softcap = problem->softcap,
            .packed_heads = plan->packed_heads,
            .split_count = plan->split_count,
        };
        set_interval(problem, &out_segments[b]);
    }
}

/* Tiles of one segment: what its blocks are, but for the splits. */
static uint64_t tiles_of(const fc_plan *plan, const fc_segment *s)
{
    uint64_t rows = (uint64_t)s->q_len * (uint64_t)s->packed_heads;
    return (uint64_t)(s->q_heads / s->packed_heads) * ((rows + plan->q_tile_rows - 1) / plan->q_tile_rows);
}

uint32_t fc_launch_index(const fc_plan *plan, fc_segment *segments, uint32_t segment_count)
{
    const uint64_t most = INT32_MAX; /* a CUDA grid's x extent */
    const uint64_t partial_bytes = FC_PARTIAL_FLOATS((uint64_t)plan->head_dim) * sizeof(float);
    uint64_t total = 0, tickets = 0, workspace = 0;
    for (uint32_t i = 0; i < segment_count; i++) {
        fc_segment *s = &segments[i];
        uint64_t tiles = tiles_of(plan, s), blocks;
        s->first_block = (uint32_t)total;
        s->first_ticket = (uint32_t)tickets;
        s->workspace_offset = workspace;
        if (__builtin_mul_overflow(tiles, (uint64_t)s->split_count, &blocks) || blocks > most)
            return UINT32_MAX;
        total += blocks;
        if (total > most)
            return UINT32_MAX;
        if (s->split_count > 1) {
            tickets += tiles;
            workspace += s->split_count * (uint64_t)s->q_heads * (uint64_t)s->q_len * partial_bytes;
        }
    }
    return (uint32_t)total;
}
