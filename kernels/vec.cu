/* vec: K and V come 16 bytes at a time, and each piece serves several queries once it is in registers.
 *
 * A block owns 16 query rows of one head and walks the keys they see in tiles of 128:
 *
 *                128 keys                                    logits: a thread owns 2 keys x 8 rows; per 8 elements of
 *             +-----------------+                            head_dim it loads 16 bytes of either key and 8 rows of the
 *    16 rows  | logits, weights |                            query from shared memory, for 128 multiply-adds
 *             +-----------------+
 *             |  V  128 x D     |  -> out 16 x D             values: a thread owns 8 columns x 4 rows; per key it loads
 *             +-----------------+                            16 bytes of V and 4 weights, for 32 multiply-adds
 *
 * With head_dim 64 the values need 32 threads a key, so four groups of threads take every fourth key; their sums meet
 * at the end, always in the same order. Any multiple of 8 up to 256 fits: the fewer columns, the more groups.
 *
 * Against baseline: 1/4 of the load instructions for the same bytes, 1/16 of the bytes. What it leaves to the rungs
 * above: the tile's largest logits go through shared memory, not shuffles; multiplications run on the fp32 units.
 * Keys outside the rows' union of [begin, end) are never read.
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
constexpr int ROWS = FC_TILE_VEC_Q;
constexpr int KEYS = 128;
constexpr int BLOCKS_PER_SM = 3; /* leaves a thread 168 registers: with 128 it spills */
constexpr int EIGHT = 8;         /* elements of one 16-byte piece of a half type */

/* A thread's part of the logits. */
constexpr int LOGIT_KEYS = 2;
constexpr int LOGIT_ROWS = 8;
constexpr int KEY_SLOTS = KEYS / LOGIT_KEYS;

/* A thread's part of the output. */
constexpr int VALUE_ROWS = 4;
constexpr int VALUE_ROW_GROUPS = ROWS / VALUE_ROWS;

/* The search for the largest logit of a row. */
constexpr int SEARCHERS = THREADS / ROWS;

/* Words from one key's 16 logits to the next key's: a multiple of 4 for 16-byte accesses, and odd in those, so that
 * eight neighbouring keys lie in different banks. */
constexpr int PITCH = ROWS + 4;

static_assert(KEY_SLOTS * (ROWS / LOGIT_ROWS) == THREADS, "logit tiles cover 128 x 16");
static_assert(THREADS / (FC_HEAD_DIM_MAX / EIGHT) >= VALUE_ROW_GROUPS, "every column of every row has a thread");
static_assert(FC_HEAD_DIM_STEP == EIGHT, "rows are whole 16-byte pieces");
static_assert(KEY_SLOTS <= KEYS, "sums fit where the logits were");

struct Shared {
    float query[ROWS][FC_HEAD_DIM_MAX]; /* in the end: the groups' sums, [groups][ROWS][head_dim] */
    float logits[KEYS][PITCH];          /* then weights; in the end: the threads' sums of weights */
    float found[SEARCHERS][ROWS];
    float largest[ROWS];
    float rescale[ROWS];
    float inverse[ROWS];
    int32_t begin[ROWS], end[ROWS]; /* keys each row sees; none past q_len */
};
static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory");

/* Which columns, rows and keys of a tile a thread adds values up for. Groups differ in keys. */
struct Share {
    int pieces; /* of 8 columns in a row of V */
    int groups;
    int piece, first_row, group;
};

__device__ Share share_of_thread(int head_dim)
{
    Share s;
    s.pieces = head_dim / EIGHT;
    s.groups = THREADS / s.pieces / VALUE_ROW_GROUPS;
    s.piece = threadIdx.x % s.pieces;
    s.first_row = threadIdx.x / s.pieces % VALUE_ROW_GROUPS * VALUE_ROWS;
    s.group = threadIdx.x / s.pieces / VALUE_ROW_GROUPS; /* >= groups: left over, idle */
    return s;
}

__device__ void put_eight(float *to, const float (&from)[EIGHT])
{
    reinterpret_cast<float4 *>(to)[0] = make_float4(from[0], from[1], from[2], from[3]);
    reinterpret_cast<float4 *>(to)[1] = make_float4(from[4], from[5], from[6], from[7]);
}

__device__ void get_eight(const float *from, float (&to)[EIGHT])
{
    const float4 low = reinterpret_cast<const float4 *>(from)[0], high = reinterpret_cast<const float4 *>(from)[1];
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

/* The query tile, zero past q_len, and what each row sees. */
template <typename T> __device__ void load_rows(Shared &shared, const fc_work &work, int head_dim)
{
    const int pieces = head_dim / EIGHT;
    for (int i = threadIdx.x; i < ROWS * pieces; i += THREADS) {
        const int row = i / pieces, d = i % pieces * EIGHT;
        float eight[EIGHT] = {};
        if (row < work.row_count)
            fc_load_eight(fc_work_q<T>(work, row) + d, eight);
        put_eight(&shared.query[row][d], eight);
    }
    if (threadIdx.x < ROWS) {
        const int32_t row = (int32_t)threadIdx.x;
        const bool is_real = row < work.row_count;
        shared.begin[row] = is_real ? fc_work_begin(work, row) : 0;
        shared.end[row] = is_real ? fc_work_end(work, row) : 0;
        shared.largest[threadIdx.x] = -INFINITY;
    }
}

/* Dot products of two rows of K with eight rows of the query. */
template <typename T>
__device__ void dot_products(const float (*query)[FC_HEAD_DIM_MAX], const T *const (&k)[LOGIT_KEYS], int head_dim,
                             float (&dots)[LOGIT_KEYS][LOGIT_ROWS])
{
#pragma unroll 1
    for (int d = 0; d < head_dim; d += EIGHT) {
        float keys[LOGIT_KEYS][EIGHT], row[EIGHT];
        for (int j = 0; j < LOGIT_KEYS; j++)
            fc_load_eight(k[j] + d, keys[j]);
#pragma unroll
        for (int r = 0; r < LOGIT_ROWS; r++) {
            get_eight(&query[r][d], row);
#pragma unroll
            for (int i = 0; i < EIGHT; i++) {
                for (int j = 0; j < LOGIT_KEYS; j++)
                    dots[j][r] = fmaf(row[i], keys[j][i], dots[j][r]);
            }
        }
    }
}

/* This thread's logits, -inf where the row does not see the key, in registers and in shared memory. Threads whose key
 * is past the end work on the last one, which is there to be read, and drop what they get. */
template <typename T>
__device__ void make_logits(Shared &shared, const fc_scoring &scoring, const T *k, int64_t k_stride, int32_t tile,
                            int32_t end, int head_dim, float (&logits)[LOGIT_KEYS][LOGIT_ROWS])
{
    const int slot = threadIdx.x % KEY_SLOTS, first_row = threadIdx.x / KEY_SLOTS * LOGIT_ROWS;
    const T *rows[LOGIT_KEYS];
    for (int j = 0; j < LOGIT_KEYS; j++) {
        rows[j] = k + min(tile + slot + j * KEY_SLOTS, end - 1) * k_stride;
        for (int r = 0; r < LOGIT_ROWS; r++)
            logits[j][r] = 0.0f;
    }
    dot_products(&shared.query[first_row], rows, head_dim, logits);
    for (int j = 0; j < LOGIT_KEYS; j++) {
        const int32_t key = tile + slot + j * KEY_SLOTS;
#pragma unroll
        for (int r = 0; r < LOGIT_ROWS; r++) {
            const bool is_seen = key >= shared.begin[first_row + r] && key < shared.end[first_row + r];
            logits[j][r] = is_seen ? fc_logit(scoring, logits[j][r]) : -INFINITY;
        }
        put_eight(&shared.logits[slot + j * KEY_SLOTS][first_row], logits[j]);
    }
}

/* Finds each row's largest logit so far, and what it does to the sums. Between barriers of the caller. */
__device__ void update_largest(Shared &shared, const fc_scoring &scoring)
{
    const int row = threadIdx.x % ROWS, searcher = threadIdx.x / ROWS;
    float largest = -INFINITY;
#pragma unroll
    for (int key = searcher; key < KEYS; key += SEARCHERS)
        largest = fmaxf(largest, shared.logits[key][row]);
    shared.found[searcher][row] = largest;
    __syncthreads();
    if (threadIdx.x < ROWS) {
        const float before = shared.largest[row];
        largest = before;
        for (int i = 0; i < SEARCHERS; i++)
            largest = fmaxf(largest, shared.found[i][row]);
        shared.rescale[row] = fc_softmax_rescale(scoring, before, largest);
        shared.largest[row] = largest;
    }
}

/* Turns this thread's logits into weights for everybody, and adds them to its own sums. */
__device__ void make_weights(Shared &shared, const fc_scoring &scoring, float (&logits)[LOGIT_KEYS][LOGIT_ROWS],
                             float (&sums)[LOGIT_ROWS])
{
    const int slot = threadIdx.x % KEY_SLOTS, first_row = threadIdx.x / KEY_SLOTS * LOGIT_ROWS;
    float largest[LOGIT_ROWS], rescale[LOGIT_ROWS];
    get_eight(&shared.largest[first_row], largest);
    get_eight(&shared.rescale[first_row], rescale);
#pragma unroll
    for (int r = 0; r < LOGIT_ROWS; r++) {
        sums[r] *= rescale[r];
        for (int j = 0; j < LOGIT_KEYS; j++) {
            const bool is_seen = logits[j][r] != -INFINITY;
            logits[j][r] = is_seen ? fc_softmax_weight(scoring, logits[j][r], largest[r]) : 0.0f;
            sums[r] += logits[j][r];
        }
    }
    for (int j = 0; j < LOGIT_KEYS; j++)
        put_eight(&shared.logits[slot + j * KEY_SLOTS][first_row], logits[j]);
}

/* Adds this thread's columns of the tile's weighted values to its totals. */
template <typename T>
__device__ void add_values(const Shared &shared, Share s, const T *v, int64_t v_stride, int key_count,
                           float (&totals)[VALUE_ROWS][EIGHT])
{
    const T *from = v + s.group * v_stride + s.piece * EIGHT;
#pragma unroll
    for (int r = 0; r < VALUE_ROWS; r++) {
        for (int i = 0; i < EIGHT; i++)
            totals[r][i] *= shared.rescale[s.first_row + r];
    }
#pragma unroll 4
    for (int key = s.group; key < key_count; key += s.groups) {
        float values[EIGHT];
        fc_load_eight(from, values);
        const float4 weights = *reinterpret_cast<const float4 *>(&shared.logits[key][s.first_row]);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            totals[0][i] = fmaf(weights.x, values[i], totals[0][i]);
            totals[1][i] = fmaf(weights.y, values[i], totals[1][i]);
            totals[2][i] = fmaf(weights.z, values[i], totals[2][i]);
            totals[3][i] = fmaf(weights.w, values[i], totals[3][i]);
        }
        from += s.groups * v_stride;
    }
}

/* Where a group leaves its totals of one row: the query is no longer needed. */
__device__ float *group_totals(Shared &shared, int group, int row, int head_dim)
{
    return &shared.query[0][0] + (group * ROWS + row) * head_dim;
}

__device__ void leave_totals(Shared &shared, Share s, int head_dim, const float (&sums)[LOGIT_ROWS],
                             const float (&totals)[VALUE_ROWS][EIGHT])
{
    put_eight(&shared.logits[threadIdx.x % KEY_SLOTS][threadIdx.x / KEY_SLOTS * LOGIT_ROWS], sums);
    if (s.group >= s.groups)
        return;
#pragma unroll
    for (int r = 0; r < VALUE_ROWS; r++)
        put_eight(group_totals(shared, s.group, s.first_row + r, head_dim) + s.piece * EIGHT, totals[r]);
}

/* Adds the rows' weights up, always in the same order, and writes their LSE. */
__device__ void finish_sums(Shared &shared, const fc_scoring &scoring, const fc_work &work)
{
    const int row = threadIdx.x;
    if (row >= work.row_count)
        return;
    float sum = 0.0f;
    for (int slot = 0; slot < KEY_SLOTS; slot++)
        sum += shared.logits[slot][row];
    shared.inverse[row] = fc_softmax_inverse(sum);
    *fc_work_lse(work, row) = fc_softmax_lse(scoring, shared.largest[row], sum);
}

template <typename T> __device__ void write_rows(Shared &shared, Share s, const fc_work &work, int head_dim)
{
    for (int i = threadIdx.x; i < work.row_count * s.pieces; i += THREADS) {
        const int row = i / s.pieces, d = i % s.pieces * EIGHT;
        float total[EIGHT] = {}, more[EIGHT];
        for (int group = 0; group < s.groups; group++) {
            get_eight(group_totals(shared, group, row, head_dim) + d, more);
            for (int j = 0; j < EIGHT; j++)
                total[j] += more[j];
        }
        for (int j = 0; j < EIGHT; j++)
            total[j] *= shared.inverse[row];
        fc_store_eight(fc_work_out<T>(work, row) + d, total);
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) vec_kernel(const __grid_constant__ fc_device_launch launch)
{
    __shared__ __align__(16) Shared shared;
    fc_ptx_griddep_wait();
    const int head_dim = launch.head_dim;
    const fc_work work = fc_work_find(launch, blockIdx.x, FC_TILE_VEC_Q);
    const fc_scoring scoring = fc_scoring_make(work.segment->scale, work.segment->softcap);
    const Share share = share_of_thread(head_dim);
    /* Later rows see later keys: the tile's keys lie between the first row's first and the last row's last. */
    const int32_t begin = fc_work_begin(work, 0);
    const int32_t end = fc_work_end(work, work.row_count - 1);
    const int64_t k_stride = work.segment->k_token_stride, v_stride = work.segment->v_token_stride;
    const T *k = fc_work_k<T>(work), *v = fc_work_v<T>(work);
    float sums[LOGIT_ROWS] = {}, totals[VALUE_ROWS][EIGHT] = {};

    load_rows<T>(shared, work, head_dim);
    __syncthreads();
    for (int32_t tile = begin; tile < end; tile += KEYS) {
        float logits[LOGIT_KEYS][LOGIT_ROWS];
        make_logits(shared, scoring, k, k_stride, tile, end, head_dim, logits);
        __syncthreads();
        update_largest(shared, scoring);
        __syncthreads();
        make_weights(shared, scoring, logits, sums);
        __syncthreads();
        if (share.group < share.groups)
            add_values(shared, share, v + tile * v_stride, v_stride, min(KEYS, end - tile), totals);
        __syncthreads();
    }
    leave_totals(shared, share, head_dim, sums, totals);
    __syncthreads();
    finish_sums(shared, scoring, work);
    __syncthreads();
    write_rows<T>(shared, share, work, head_dim);
}

/* In the order of fc_dtype. */
const fc_device_kernel KERNELS[FC_DTYPE_COUNT] = {vec_kernel<__half>, vec_kernel<__nv_bfloat16>, vec_kernel<float>};

} // namespace

extern "C" fc_status fc_cuda_vec_launch(const fc_launch *launch, cudaStream_t stream)
{
    return fc_enqueue_of_dtype(KERNELS, FC_TILE_VEC_Q, THREADS, launch, stream);
}
