/* The launch wrappers of the fake: they put the launch on the stream, and when its time comes the reference answers it
 * from what lies in "device" memory, segment by segment.
 */
#include "kernels/attention_mask.h"
#include "kernels/cuda_launch.h"
#include "kernels/reference.h"
#include "proto/half.h"
#include "tests/fake/fake_state.h"

#include <stdlib.h>
#include <string.h>

#define FAKE_RUNG(rung)                                                                                                \
    fc_status fc_cuda_##rung##_launch(const fc_launch *launch, cudaStream_t stream)                                    \
    {                                                                                                                  \
        return launch->block_count == 0 ? FC_OK : fake_stream_launch(stream, launch);                                  \
    }
#define FAKE_DESCRIBER(rung)                                                                                           \
    fc_status fc_cuda_##rung##_describe(const fc_launch *launch, void *out_descriptors)                                \
    {                                                                                                                  \
        return fake_kernel_describe(launch, out_descriptors);                                                          \
    }
FAKE_RUNG(baseline)
FAKE_RUNG(vec)
FAKE_RUNG(fused)
FAKE_RUNG(hopper)
FAKE_DESCRIBER(hopper)

fc_status fc_cuda_warp_launch(const fc_launch *launch, cudaStream_t stream)
{
    return launch->block_count == 0 ? FC_OK : fake_stream_launch(stream, launch);
}

fc_status fc_cuda_tc_launch(const fc_launch *launch, cudaStream_t stream)
{
    return launch->block_count == 0 ? FC_OK : fake_stream_launch(stream, launch);
}

/* Rows first to first + count of all heads of a segment: rows that see the same keys [begin, end). */
typedef struct band {
    const fc_segment *segment;
    fc_dtype dtype;
    int32_t head_dim, first, count, begin, end;
} band;

static void *element(fc_dtype dtype, const void *d_base, int64_t index)
{
    return (char *)d_base + index * (int64_t)fc_dtype_bytes(dtype);
}

static void store(fc_dtype dtype, void *to, double value)
{
    float single = (float)value;
    uint16_t half = dtype == FC_F16 ? fc_f16_from_float(single) : fc_bf16_from_float(single);
    if (dtype == FC_F32)
        memcpy(to, &single, sizeof single);
    else
        memcpy(to, &half, sizeof half);
}

/* The bytes of the rows [first, first + count) of a tensor's heads, all of which have to be in device memory. */
static void *rows_of(const band *b, const void *d_base, int64_t head_stride, int64_t token_stride, int32_t heads,
                     int32_t first, int32_t count)
{
    void *d_first = element(b->dtype, d_base, first * token_stride);
    int64_t last = (heads - 1) * head_stride + (count - 1) * token_stride + b->head_dim;
    return count == 0 ? NULL : fake_device_bytes(d_first, (size_t)last * fc_dtype_bytes(b->dtype));
}

static cudaError_t write_band(const band *b, const double *out, const double *lse)
{
    const fc_segment *s = b->segment;
    char *to = rows_of(b, s->out, s->out_head_stride, s->out_token_stride, s->q_heads, b->first, b->count);
    int64_t last_lse = (s->q_heads - 1) * s->lse_head_stride + b->count;
    float *to_lse = fake_device_bytes(s->lse + b->first, (size_t)last_lse * sizeof(float));
    if (to == NULL || to_lse == NULL)
        return cudaErrorIllegalAddress;
    for (int64_t i = 0; i < (int64_t)s->q_heads * b->count; i++) {
        int64_t h = i / b->count, t = i % b->count;
        to_lse[h * s->lse_head_stride + t] = (float)lse[i];
        for (int32_t d = 0; d < b->head_dim; d++) {
            int64_t index = h * s->out_head_stride + t * s->out_token_stride + d;
            store(b->dtype, element(b->dtype, to, index), out[i * b->head_dim + d]);
        }
    }
    return cudaSuccess;
}

static cudaError_t run_band(const band *b)
{
    const fc_segment *s = b->segment;
    int32_t kv_len = b->end > b->begin ? b->end - b->begin : 0;
    fc_problem problem = {.dtype = b->dtype,
                          .batch = 1,
                          .q_heads = s->q_heads,
                          .kv_heads = s->kv_heads,
                          .q_len = b->count,
                          .kv_len = kv_len,
                          .head_dim = b->head_dim,
                          .window_left = -1,
                          .window_right = -1,
                          .scale = s->scale,
                          .softcap = s->softcap};
    fc_tensors tensors = {
        .q = rows_of(b, s->q, s->q_head_stride, s->q_token_stride, s->q_heads, b->first, b->count),
        .k = rows_of(b, s->k, s->k_head_stride, s->k_token_stride, s->kv_heads, b->begin, kv_len),
        .v = rows_of(b, s->v, s->v_head_stride, s->v_token_stride, s->kv_heads, b->begin, kv_len),
        .q_strides = {.head = s->q_head_stride, .token = s->q_token_stride},
        .k_strides = {.head = s->k_head_stride, .token = s->k_token_stride},
        .v_strides = {.head = s->v_head_stride, .token = s->v_token_stride},
    };
    size_t rows = (size_t)s->q_heads * (size_t)b->count;
    double *out = malloc((rows * (size_t)b->head_dim + rows) * sizeof *out);
    cudaError_t error = cudaErrorMemoryAllocation;
    if (tensors.q == NULL || (kv_len > 0 && (tensors.k == NULL || tensors.v == NULL)))
        error = cudaErrorIllegalAddress;
    else if (out != NULL && fc_reference_run(&problem, &tensors, out, out + rows * (size_t)b->head_dim) == FC_OK)
        error = write_band(b, out, out + rows * (size_t)b->head_dim);
    free(out);
    return error;
}

static cudaError_t run_segment(const fc_launch *launch, const fc_segment *s)
{
    cudaError_t error = cudaSuccess;
    band b = {.segment = s, .dtype = launch->plan.dtype, .head_dim = launch->plan.head_dim};
    for (int32_t row = 0; row < s->q_len && error == cudaSuccess; row += b.count) {
        b.first = row;
        b.begin = fc_key_begin(s, row);
        b.end = fc_key_end(s, row);
        for (b.count = 1; row + b.count < s->q_len; b.count++) {
            if (fc_key_begin(s, row + b.count) != b.begin || fc_key_end(s, row + b.count) != b.end)
                break;
        }
        error = run_band(&b);
    }
    return error;
}

/* Tiles of a segment: what its blocks are, but for the splits. */
static uint64_t count_tiles(const fc_launch *launch, const fc_segment *s)
{
    uint64_t rows = (uint64_t)s->q_len * (uint64_t)s->packed_heads, tile = launch->plan.q_tile_rows;
    return (uint64_t)(s->q_heads / s->packed_heads) * ((rows + tile - 1) / tile);
}

/* What the segments of a launch need, counted one after the other. */
typedef struct needs {
    uint64_t blocks, tickets, workspace_bytes;
} needs;

/* A block of a real kernel finds its segment by first_block, its ticket and its place in the workspace by what else the
 * segment says: the numbers have to be those of fc_launch_index(). */
static bool is_numbered(const fc_launch *launch, const fc_segment *segments, needs *out_needs)
{
    needs n = {0};
    for (uint32_t i = 0; i < launch->segment_count; i++) {
        const fc_segment *s = &segments[i];
        uint64_t tiles = count_tiles(launch, s), rows = (uint64_t)s->q_heads * (uint64_t)s->q_len;
        uint64_t row_bytes = FC_PARTIAL_FLOATS((uint64_t)launch->plan.head_dim) * sizeof(float);
        if (s->first_block != n.blocks || s->split_count < 1 || s->q_heads / s->kv_heads % s->packed_heads != 0)
            return false;
        if (s->split_count > 1 && (s->first_ticket != n.tickets || s->workspace_offset != n.workspace_bytes))
            return false;
        n.blocks += tiles * s->split_count;
        n.tickets += s->split_count > 1 ? tiles : 0;
        n.workspace_bytes += s->split_count > 1 ? s->split_count * rows * row_bytes : 0;
    }
    *out_needs = n;
    return n.blocks == launch->block_count;
}

/* Tickets at 0, as they will be again; a workspace that is large enough, and holds nothing of use afterwards. */
static bool has_split_memory(const fc_launch *launch, const needs *n)
{
    const uint32_t *tickets = fake_device_bytes(launch->d_tickets, n->tickets * sizeof *tickets);
    void *workspace = fake_device_bytes(launch->d_workspace, n->workspace_bytes);
    if (n->tickets == 0)
        return true;
    if (tickets == NULL || workspace == NULL || n->workspace_bytes > launch->workspace_bytes)
        return false;
    for (uint64_t i = 0; i < n->tickets; i++) {
        if (tickets[i] != 0)
            return false;
    }
    memset(workspace, 0xff, n->workspace_bytes);
    return true;
}

/* What the fake's descriptors hold of a segment. */
typedef struct label {
    const void *q, *k, *v;
} label;

static label label_of(const fc_segment *s)
{
    return (label){s->q, s->k, s->v};
}

fc_status fake_kernel_describe(const fc_launch *launch, void *out_descriptors)
{
    for (uint32_t i = 0; i < launch->segment_count; i++) {
        label mine = label_of(&launch->segments[i]);
        memcpy((char *)out_descriptors + (size_t)i * launch->plan.descriptor_bytes, &mine, sizeof mine);
    }
    return FC_OK;
}

static bool has_descriptors(const fc_launch *launch, const fc_segment *segments)
{
    size_t each = launch->plan.descriptor_bytes;
    const char *descriptors = fake_device_bytes(launch->d_descriptors, launch->segment_count * each);
    const char *of_host = launch->descriptors;
    for (uint32_t i = 0; each > 0 && i < launch->segment_count; i++) {
        label mine = label_of(&segments[i]);
        if (descriptors == NULL || of_host == NULL || memcmp(descriptors + i * each, &mine, sizeof mine) != 0 ||
            memcmp(of_host + i * each, &mine, sizeof mine) != 0)
            return false;
    }
    return true;
}

void fake_kernel_abandon(const fc_launch *launch)
{
    uint32_t *tickets = launch->d_tickets != NULL ? fake_device_bytes(launch->d_tickets, sizeof *tickets) : NULL;
    if (tickets != NULL)
        *tickets = 1;
}

cudaError_t fake_kernel_run(const fc_launch *launch)
{
    const fc_segment *segments =
        fake_device_bytes(launch->d_segments, launch->segment_count * sizeof *launch->d_segments);
    cudaError_t error = cudaSuccess;
    needs n;
    if (segments == NULL)
        return cudaErrorIllegalAddress;
    if (!has_descriptors(launch, segments))
        return cudaErrorIllegalAddress;
    if (!is_numbered(launch, segments, &n) || !has_split_memory(launch, &n))
        return cudaErrorLaunchFailure;
    for (uint32_t i = 0; i < launch->segment_count && error == cudaSuccess; i++)
        error = run_segment(launch, &segments[i]);
    return error;
}
