/* baseline: the rung everything else is measured against. One block a query row, plain loops, online softmax.
 *
 * A block walks the keys its row sees in tiles of one key a thread:
 *
 *     logits    each thread multiplies its key with the query, element after element, straight from global memory
 *     weights   the tile's largest logit updates the row's, each thread turns its logit into a weight
 *     values    each thread owns one pair of columns of V and adds up the weighted rows of the tile; with fewer pairs
 *               than threads, groups of threads take every n-th key and their sums are added in the end
 *
 * What it is slow at, and leaves to the rungs above: 32 neighbouring threads read 32 different rows of K, so every load
 * takes 32 turns at the L1 cache for 4 useful bytes each; nothing read is used for a second query; no warp shuffles, no
 * tensor cores. Keys outside [begin, end) are never read.
 */
#include "kernels/attention_tile.h"
#include "kernels/cuda_launch.h"
#include "kernels/element.cuh"
#include "kernels/enqueue.cuh"
#include "kernels/softmax.cuh"
#include "kernels/work.cuh"

namespace
{

constexpr int THREADS = 128;
constexpr int KEYS = THREADS; /* one key a thread */

static_assert(FC_TILE_BASELINE_Q == 1, "a block keeps one row's sums");
static_assert(FC_HEAD_DIM_MAX / 2 <= THREADS, "every pair of columns needs a thread");

struct Shared {
    float query[FC_HEAD_DIM_MAX];
    float logits[KEYS];
    float weights[KEYS];
    float sums[THREADS];
    float2 columns[THREADS];
};
static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory");

/* The part of V a thread adds up: columns 2 * pair and 2 * pair + 1 of every groups-th key. */
struct Column {
    int pairs, groups, pair, group;
};

__device__ Column column_of_thread(int head_dim)
{
    Column c;
    c.pairs = head_dim / 2;
    c.groups = THREADS / c.pairs;
    c.pair = threadIdx.x % c.pairs;
    c.group = threadIdx.x / c.pairs; /* == groups: left over, idle */
    return c;
}

template <typename T> __device__ void load_query(Shared &shared, const T *q, int head_dim)
{
    if (threadIdx.x < head_dim / 2) {
        const float2 pair = fc_load_pair(q + 2 * threadIdx.x);
        shared.query[2 * threadIdx.x] = pair.x;
        shared.query[2 * threadIdx.x + 1] = pair.y;
    }
}

template <typename T> __device__ float dot_product(const Shared &shared, const T *k, int head_dim)
{
    float sum = 0.0f;
#pragma unroll 4
    for (int d = 0; d < head_dim; d += 2) {
        const float2 pair = fc_load_pair(k + d);
        sum = fmaf(shared.query[d], pair.x, sum);
        sum = fmaf(shared.query[d + 1], pair.y, sum);
    }
    return sum;
}

/* Every thread looks through all of them: reads of one address by all are cheap, and nobody has to be told. */
__device__ float largest_of(const float (&logits)[KEYS])
{
    float largest = -INFINITY;
#pragma unroll 16
    for (int key = 0; key < KEYS; key++)
        largest = fmaxf(largest, logits[key]);
    return largest;
}

template <typename T>
__device__ float2 add_values(const Shared &shared, Column c, const T *v, int64_t v_stride, int key_count, float2 total)
{
    const T *row = v + c.group * v_stride + 2 * c.pair;
#pragma unroll 4
    for (int key = c.group; key < key_count; key += c.groups) {
        const float2 pair = fc_load_pair(row);
        total.x = fmaf(shared.weights[key], pair.x, total.x);
        total.y = fmaf(shared.weights[key], pair.y, total.y);
        row += c.groups * v_stride;
    }
    return total;
}

/* Adds the threads' sums up, always in the same order, and writes the row. */
template <typename T>
__device__ void write_row(Shared &shared, const fc_scoring &scoring, Column c, float largest, T *out, float *lse)
{
    float sum = 0.0f;
    for (int i = 0; i < THREADS; i++)
        sum += shared.sums[i];
    if (c.group == 0) {
        float2 total = shared.columns[c.pair];
        for (int group = 1; group < c.groups; group++) {
            total.x += shared.columns[group * c.pairs + c.pair].x;
            total.y += shared.columns[group * c.pairs + c.pair].y;
        }
        const float inverse = fc_softmax_inverse(sum);
        fc_store_pair(out + 2 * c.pair, make_float2(total.x * inverse, total.y * inverse));
    }
    if (threadIdx.x == 0)
        *lse = fc_softmax_lse(scoring, largest, sum);
}

template <typename T>
__global__ void __launch_bounds__(THREADS) baseline_kernel(const __grid_constant__ fc_device_launch launch)
{
    __shared__ Shared shared;
    fc_ptx_griddep_wait();
    const int head_dim = launch.head_dim;
    const fc_work work = fc_work_find(launch, blockIdx.x, FC_TILE_BASELINE_Q);
    const fc_scoring scoring = fc_scoring_make(work.segment->scale, work.segment->softcap);
    const Column column = column_of_thread(head_dim);
    const int32_t begin = fc_work_begin(work, 0);
    const int32_t end = fc_work_end(work, 0);
    const int64_t k_stride = work.segment->k_token_stride, v_stride = work.segment->v_token_stride;
    const T *k = fc_work_k<T>(work), *v = fc_work_v<T>(work);
    float largest = -INFINITY, sum = 0.0f; /* sum: of this thread's own weights */
    float2 total = make_float2(0.0f, 0.0f);

    load_query(shared, fc_work_q<T>(work, 0), head_dim);
    __syncthreads();
    for (int32_t tile = begin; tile < end; tile += KEYS) {
        const int32_t key = tile + (int32_t)threadIdx.x;
        float logit = -INFINITY;
        if (key < end)
            logit = fc_logit(scoring, dot_product(shared, k + key * k_stride, head_dim));
        shared.logits[threadIdx.x] = logit;
        __syncthreads();

        const float before = largest;
        largest = fmaxf(before, largest_of(shared.logits));
        const float rescale = fc_softmax_rescale(scoring, before, largest);
        const float weight = key < end ? fc_softmax_weight(scoring, logit, largest) : 0.0f;
        sum = fmaf(sum, rescale, weight);
        total.x *= rescale;
        total.y *= rescale;
        shared.weights[threadIdx.x] = weight;
        __syncthreads();

        if (column.group < column.groups)
            total = add_values(shared, column, v + tile * v_stride, v_stride, min(KEYS, end - tile), total);
    }
    shared.sums[threadIdx.x] = sum;
    shared.columns[threadIdx.x] = total;
    __syncthreads();
    write_row(shared, scoring, column, largest, fc_work_out<T>(work, 0), fc_work_lse(work, 0));
}

/* In the order of fc_dtype. */
const fc_device_kernel KERNELS[FC_DTYPE_COUNT] = {baseline_kernel<__half>, baseline_kernel<__nv_bfloat16>,
                                                  baseline_kernel<float>};

} // namespace

extern "C" fc_status fc_cuda_baseline_launch(const fc_launch *launch, cudaStream_t stream)
{
    return fc_enqueue_of_dtype(KERNELS, FC_TILE_BASELINE_Q, THREADS, launch, stream);
}
