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

fc_status fc_cuda_baseline_launch(const fc_launch *launch, cudaStream_t stream)
{
    return launch->block_count == 0 ? FC_OK : fake_stream_launch(stream, launch);
}

fc_status fc_cuda_vec_launch(const fc_launch *launch, cudaStream_t stream)
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

/* A block of a real kernel finds its segment by first_block: the numbers have to be those of fc_launch_index(). */
static bool is_numbered(const fc_launch *launch, const fc_segment *segments)
{
    uint64_t next = 0;
    for (uint32_t i = 0; i < launch->segment_count; i++) {
        uint64_t tiles = ((uint64_t)segments[i].q_len + launch->plan.q_tile_rows - 1) / launch->plan.q_tile_rows;
        if (segments[i].first_block != next)
            return false;
        next += tiles * (uint64_t)segments[i].q_heads * segments[i].split_count;
    }
    return next == launch->block_count;
}

cudaError_t fake_kernel_run(const fc_launch *launch)
{
    const fc_segment *segments =
        fake_device_bytes(launch->d_segments, launch->segment_count * sizeof *launch->d_segments);
    cudaError_t error = cudaSuccess;
    if (segments == NULL)
        return cudaErrorIllegalAddress;
    if (!is_numbered(launch, segments))
        return cudaErrorLaunchFailure;
    for (uint32_t i = 0; i < launch->segment_count && error == cudaSuccess; i++)
        error = run_segment(launch, &segments[i]);
    return error;
}
