/* Exact scaled-dot-product attention: what is asked (problem), how it will be done (plan), what a launch runs over
 * (segments). Every kernel, on the CPU and on the GPU, stands on these structs alone.
 *
 * The meaning: s = scale * (q . k); softcap > 0: s = softcap * tanh(s / softcap); masked keys drop out; p = softmax(s);
 * out = p . v; lse = ln sum exp(s). Query head h reads kv head floor(h * kv_heads / q_heads). Arithmetic is fp32. A row
 * that sees no key gives out = 0 and lse = -inf.
 *
 * Masks: causal, window and kv_len together always leave query i one interval of keys,
 *     [ max(0, i + key_begin_offset), min(kv_len, i + key_end_offset) )
 * so kernels know nothing of causal modes: fc_problem_segments() turns the words into the two offsets.
 *
 * Batch invariance: everything that shapes the arithmetic of a request (kernel, variant, split count) is in its own
 * plan, made from its own problem; a launch over many segments only decides which block does what.
 *
 * Pure values and pure host functions: any thread. No libc beyond <string.h> and snprintf, no CUDA.
 */
#ifndef FC_KERNELS_ATTENTION_H
#define FC_KERNELS_ATTENTION_H

#include "proto/status.h"
#include "proto/vocab.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FC_HEAD_DIM_MAX 256
#define FC_HEAD_DIM_STEP 8
/* Longest sequence a segment can have: positions and offsets then stay far inside int64, indices inside int32. */
#define FC_TOKENS_MAX 0x3fffffff

typedef enum fc_engine_kind { FC_ENGINE_CPU, FC_ENGINE_CUDA } fc_engine_kind;

typedef enum fc_kernel {
#define FC_KERNEL_ROW(symbol, name, engine, idea) symbol,
#include "kernels/kernel.def"
#undef FC_KERNEL_ROW
    FC_KERNEL_COUNT,
    FC_KERNEL_AUTO /* a wish only: no plan and no reply ever holds it */
} fc_kernel;

/* "auto" for FC_KERNEL_AUTO, "unknown" outside the enum. Static string. */
const char *fc_kernel_name(fc_kernel kernel);
const char *fc_kernel_idea(fc_kernel kernel);
fc_engine_kind fc_kernel_engine(fc_kernel kernel);
bool fc_kernel_from_name(const char *name, size_t name_bytes, fc_kernel *out_kernel); /* knows "auto" too */

/* What one request asks for. Lengths in tokens. */
typedef struct fc_problem {
    fc_dtype dtype;
    fc_causal causal;
    int32_t batch, q_heads, kv_heads, q_len, kv_len, head_dim;
    const uint32_t *kv_lens;           /* [batch], each <= kv_len; NULL: kv_len for all. Borrowed. */
    int64_t window_left, window_right; /* keys before and after the query's position; -1: open */
    float scale;                       /* finite, >= 0 */
    float softcap;                     /* finite, >= 0; 0: off */
} fc_problem;

/* Checks the whole problem, pointers excepted. FC_INVALID_ARGUMENT or FC_UNSUPPORTED (head_dim), with a reason that
 * names the field as the wire does. */
fc_status fc_problem_check(const fc_problem *problem, fc_reason *out_reason);

/* Elements from one index to the next along batch, head and token; head_dim is contiguous. */
typedef struct fc_strides {
    int64_t batch, head, token;
} fc_strides;

/* The strides of a contiguous tensor in either layout. */
fc_strides fc_strides_contiguous(fc_layout layout, int64_t heads, int64_t tokens, int64_t head_dim);

/* One request's memory. CPU kernels take any alignment; CUDA kernels want 16-byte aligned bases and strides that are
 * multiples of FC_HEAD_DIM_STEP elements. lse: f32 [batch, q_heads, q_len] contiguous, never NULL. */
typedef struct fc_tensors {
    const void *q, *k, *v;
    void *out;
    float *lse;
    fc_strides q_strides, k_strides, v_strides, out_strides;
} fc_tensors;

/* One batch entry of one request: the unit every launch is made of. Strides in elements. Read by device code. */
typedef struct fc_segment {
    const void *q, *k, *v;
    void *out;
    float *lse; /* [q_heads, q_len] */
    int64_t q_head_stride, q_token_stride;
    int64_t k_head_stride, k_token_stride;
    int64_t v_head_stride, v_token_stride;
    int64_t out_head_stride, out_token_stride;
    int64_t lse_head_stride;
    int64_t key_begin_offset, key_end_offset; /* the interval above; open ends are -/+ FC_OFFSET_OPEN */
    int32_t q_heads, kv_heads, q_len, kv_len;
    float scale, softcap;
    int32_t packed_heads;      /* query heads that share a tile, see fc_plan; divides q_heads / kv_heads */
    uint32_t split_count;      /* parts the keys are cut into, >= 1; from the plan */
    uint32_t first_block;      /* this segment's first block in the launch; fc_launch_index() fills these three */
    uint32_t first_ticket;     /* and its first ticket, */
    uint64_t workspace_offset; /* and where its partial results begin in the launch's workspace, in bytes */
} fc_segment;

#define FC_OFFSET_OPEN ((int64_t)1 << 40)

/* How a problem will be run: fixed by the problem and the device alone.
 *
 * A tile is q_tile_rows rows of one (batch entry, group of packed_heads query heads that read the same kv head). Row r
 * of the group is query token r / packed_heads of head r % packed_heads: with few queries and many heads a head (decode
 * under GQA) they fill one tile, and later rows still see later keys. packed_heads is 1 where nothing is packed.
 *
 * With split_count > 1 a block does one part of a tile's keys and leaves a partial result in the workspace; whichever
 * block of the tile draws the last ticket merges them, always in the same order.
 */
typedef struct fc_plan {
    fc_kernel kernel;
    fc_dtype dtype;
    int32_t head_dim;
    uint32_t variant;       /* which compiled variant of the kernel; its meaning is the kernel's */
    uint32_t q_tile_rows;   /* rows a block works on, >= 1 */
    int32_t packed_heads;   /* >= 1 */
    uint32_t split_count;   /* >= 1 */
    uint32_t ticket_count;  /* of this request's launch's d_tickets: a tile each with splits; for drawing work */
    size_t workspace_bytes; /* device scratch this request adds to its launch; 0 without splits */
    uint32_t
        descriptor_bytes; /* a segment, of the launch's d_descriptors; a multiple of 64; 0: the kernel wants none */
} fc_plan;

/* What a plan may depend on besides the problem. */
typedef struct fc_device {
    fc_engine_kind engine;
    int32_t compute_capability; /* 89, 90, ...; 0 for the CPU */
    int32_t processor_count;    /* SMs, or threads */
} fc_device;

/* Is the kernel one of the device's engine, and the device one of the kernel's? */
bool fc_kernel_runs_on(fc_kernel kernel, const fc_device *device);

/* What a kernel can do, for people; fc_plan_make() asks the same table. Every head_dim that is a multiple of
 * head_dim_step, up to head_dim_most. */
typedef struct fc_kernel_limits {
    int32_t capability_least, capability_most; /* compute capabilities; 0 on the CPU; most: INT32_MAX: none too new */
    uint32_t dtypes;                           /* bit 1 << fc_dtype each */
    int32_t head_dim_step, head_dim_most;
} fc_kernel_limits;

fc_kernel_limits fc_kernel_limits_of(fc_kernel kernel);

/* What auto means on a device: its one kernel, or FC_KERNEL_AUTO where that depends on the problem. FC_KERNEL_COUNT:
 * no kernel runs there. */
fc_kernel fc_kernel_default(const fc_device *device);

/* What the members of one launch may need together. No plan alone needs more. */
#define FC_LAUNCH_WORKSPACE_BYTES_MAX ((size_t)32 << 20)
#define FC_LAUNCH_TICKETS_MAX 4096

/* Most that a segment has of descriptors. */
#define FC_DESCRIPTOR_BYTES_MAX 512

/* Chooses: the kernel (wanted, or for FC_KERNEL_AUTO the one that was measured fastest on such problems) and everything
 * that shapes its arithmetic, from the problem and the device alone. FC_UNSUPPORTED: the wanted kernel cannot do this
 * problem; the reason says why, and which can. Checks the problem first. */
fc_status fc_plan_make(const fc_device *device, fc_kernel wanted, const fc_problem *problem, fc_plan *out_plan,
                       fc_reason *out_reason);

/* How many compiled variants a kernel has: plans name them 0 to that less one. */
uint32_t fc_kernel_variant_count(fc_kernel kernel);

/* What tests and tuning want of a plan in place of what fc_plan_make() would choose. */
typedef struct fc_plan_wish {
    int32_t variant;      /* -1: as chosen */
    uint32_t split_count; /* 0: as chosen */
    int32_t packed_heads; /* 0: as chosen */
} fc_plan_wish;

/* fc_plan_make() with wishes, never for FC_KERNEL_AUTO. FC_UNSUPPORTED, too: the variant or the kernel cannot do the
 * problem that way. The daemon never calls it: wishes would make an answer depend on more than its problem. */
fc_status fc_plan_make_as(const fc_device *device, fc_kernel kernel, const fc_plan_wish *wish,
                          const fc_problem *problem, fc_plan *out_plan, fc_reason *out_reason);

/* May requests with these plans share a launch? Packing and splits may differ: segments carry their own. */
bool fc_plan_can_share(const fc_plan *a, const fc_plan *b);

/* Writes one segment per batch entry: out_segments[problem->batch]. */
void fc_problem_segments(const fc_problem *problem, const fc_plan *plan, const fc_tensors *tensors,
                         fc_segment *out_segments);

/* Partial results of one row: head_dim sums of weighted values, the largest logit, the sum of weights; all f32. Two
 * more keep every row 16-byte aligned. */
#define FC_PARTIAL_FLOATS(head_dim) ((head_dim) + 4)

/* Everything a launch needs. segments and d_segments hold the same segment_count entries, for the host and for the
 * kernel (the same pointer on the CPU). The rest of the memory only where the plans ask for it, else NULL. */
typedef struct fc_launch {
    fc_plan plan; /* of any member: they can share */
    const fc_segment *segments;
    const fc_segment *d_segments;
    uint32_t segment_count;
    uint32_t block_count;
    void *d_workspace;         /* the sum of the requests' workspace_bytes; 256-byte aligned; may hold anything */
    size_t workspace_bytes;    /* how large it is */
    uint32_t *d_tickets;       /* the sum of the requests' ticket_counts; all 0 before the launch and again after it */
    const void *descriptors;   /* segment_count x descriptor_bytes, made by the kernel's own host function */
    const void *d_descriptors; /* a copy of them for the kernel, 64-byte aligned */
} fc_launch;

/* Numbers the blocks and cuts the workspace: fills first_block, first_ticket and workspace_offset of each segment and
 * returns the total of blocks,
 *     q_heads / packed_heads x ceil(q_len x packed_heads / q_tile_rows) x split_count
 * a segment. Segments without queries get none. UINT32_MAX: more than a launch can hold. */
uint32_t fc_launch_index(const fc_plan *plan, fc_segment *segments, uint32_t segment_count);

#ifdef __cplusplus
}
#endif

#endif
