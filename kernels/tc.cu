/* tc: tensor cores for both matrix products, through WMMA, CUDA C++'s own words for them (nvcuda::wmma).
 *
 * A warp owns 16 query rows and takes warp_keys keys of every tile; a block's warps are row_warps x key_warps of them
 * (kernels/tc.def). With 32 keys and head_dim 64, in fragments of 16 x 16:
 *
 *                K^T  64 x 32           V  32 x 64
 *               +------+------+      +------------+
 *               |  ............... shared memory, two buffers filled by cp.async, rows 16 bytes apart from a
 *               +------+------+      +------------+          multiple of 128: no bank is asked twice
 *     +-------+ +------+------+      +------------+
 *     | Q 16  | | S  16 x 32  |  ->  | out 16 x 64|
 *     | x 64  | | fragments   |  P   | fragments  |
 *     +-------+ +------+------+      +------------+
 *     registers        |   ^
 *                      v   |  the warp's strip of shared memory: S in fp32, then P in the inputs' type, in place
 *
 * Which element of a fragment a lane holds is WMMA's secret. So S goes through shared memory, where two lanes own each
 * row, half of the keys each: mask, largest logit (one shuffle), weights, their sum. P comes back as a left operand.
 * The strip is the warp's own, so that takes no barrier of the block, and out never leaves its registers: for scaling
 * it when a row's largest logit grows, a lane has to know the row of each of its elements, and learns it once, by
 * loading a matrix whose elements are their own row numbers into a fragment of the same kind.
 *
 * Warps with the same rows and different keys merge in the end, through shared memory, in the order of the keys; so do
 * blocks, where the plan splits the keys over them (merge.cuh).
 *
 * Against warp: the multiplications cost next to nothing, what remains are the round trip of S and P and waiting. That
 * is what the next rung takes away, by knowing the layout of its fragments (mma.sync instead of WMMA).
 */
#include "kernels/cuda_launch.h"
#include "kernels/element.cuh"
#include "kernels/enqueue.cuh"
#include "kernels/merge.cuh"
#include "kernels/ptx_wmma.cuh"
#include "kernels/softmax.cuh"
#include "kernels/stage.cuh"
#include "kernels/work.cuh"

namespace
{

namespace wmma = nvcuda::wmma;

constexpr int LANES = 32;
constexpr unsigned EVERY_LANE = 0xffffffff;
constexpr int EIGHT = 8;
constexpr int SIDE = 16; /* of a fragment */
constexpr int STAGES = 2;

/* A row of tc.def for one element type. */
template <typename Element, int HEAD_DIM, int ROW_WARPS_, int KEY_WARPS_, int WARP_KEYS_, int BLOCKS> struct Tile {
    using T = Element;
    static constexpr int COLUMNS = HEAD_DIM, COLUMN_FRAGMENTS = COLUMNS / SIDE;
    static constexpr int ROW_WARPS = ROW_WARPS_, KEY_WARPS = KEY_WARPS_, BLOCKS_PER_SM = BLOCKS;
    static constexpr int WARP_KEYS = WARP_KEYS_, KEY_FRAGMENTS = WARP_KEYS / SIDE;
    static constexpr int ROWS = SIDE * ROW_WARPS, KEYS = WARP_KEYS * KEY_WARPS;
    static constexpr int WARPS = ROW_WARPS * KEY_WARPS, THREADS = WARPS * LANES;

    /* Elements from a row to the next. 16 bytes more than a multiple of 128: eight rows lie in different banks. */
    static constexpr int PITCH = COLUMNS + 8, STRIP_PITCH = WARP_KEYS + 4, TOTALS_PITCH = COLUMNS + 4;

    /* Wider queries would leave no registers to the output. */
    static constexpr bool KEEPS_QUERY = COLUMNS <= 128;
    static constexpr int QUERY_FRAGMENTS = KEEPS_QUERY ? COLUMN_FRAGMENTS : 1;
    static constexpr int LANE_KEYS = WARP_KEYS / 2; /* logits of a lane */

    using Left = wmma::fragment<wmma::matrix_a, SIDE, SIDE, SIDE, T, wmma::row_major>;
    using KeysRight = wmma::fragment<wmma::matrix_b, SIDE, SIDE, SIDE, T, wmma::col_major>;
    using ValuesRight = wmma::fragment<wmma::matrix_b, SIDE, SIDE, SIDE, T, wmma::row_major>;

    static_assert(COLUMNS % SIDE == 0 && WARP_KEYS % SIDE == 0, "whole fragments");
    static_assert(LANE_KEYS % EIGHT == 0, "weights are written 16 bytes at a time");
};

using Sums = wmma::fragment<wmma::accumulator, SIDE, SIDE, SIDE, float>;
static_assert(Sums::num_elements * 4 <= 32 && SIDE <= 16, "a lane's rows fit a register");

/* The query, and the warps' strips: in the same place once the query is in registers. */
template <typename S, bool KEEPS_QUERY> struct Rows {
    union {
        typename S::T query[S::ROWS * S::PITCH];
        float strips[S::WARPS][SIDE * S::STRIP_PITCH];
    };
};

template <typename S> struct Rows<S, false> {
    typename S::T query[S::ROWS * S::PITCH];
    float strips[S::WARPS][SIDE * S::STRIP_PITCH];
};

template <typename S> struct Shared {
    struct Stage {
        typename S::T k[S::KEYS * S::PITCH], v[S::KEYS * S::PITCH];
    };
    union {
        Stage stages[STAGES];
        float totals[S::WARPS][SIDE * S::TOTALS_PITCH]; /* in the end */
    };
    Rows<S, S::KEEPS_QUERY> rows;
    float largest[S::WARPS][SIDE], sums[S::WARPS][SIDE];
    fc_partial_sums all[S::ROWS];
};

/* What a thread works on. In softmax, rows of the warp and halves of its keys. */
struct Lane {
    int warp;      /* of the block; of its row group, the key_warp-th part of the keys */
    int first_row; /* of the warp, in the tile */
    int first_key; /* of the warp, in a tile of keys */
    int row, half;
};

template <typename S> __device__ Lane lane_of_thread()
{
    Lane lane;
    lane.warp = threadIdx.x / LANES;
    lane.first_row = lane.warp / S::KEY_WARPS * SIDE;
    lane.first_key = lane.warp % S::KEY_WARPS * S::WARP_KEYS;
    lane.row = threadIdx.x % SIDE;
    lane.half = threadIdx.x % LANES / SIDE;
    return lane;
}

/* The online softmax of the row this lane owns half of. */
struct Row {
    int32_t begin, end; /* keys it sees; none past q_len */
    float largest;      /* the same in both lanes */
    float sum;          /* of this lane's weights alone */
};

/* Starts copying the query tile, zero past q_len and head_dim. */
template <typename S> __device__ void copy_query(typename S::T *to, const fc_work &work, int head_dim)
{
    using T = typename S::T;
    constexpr int PIECES = S::COLUMNS / EIGHT;
    for (int i = threadIdx.x; i < S::ROWS * PIECES; i += S::THREADS) {
        const int row = i / PIECES, column = i % PIECES * EIGHT;
        const bool is_there = row < work.row_count && column < head_dim;
        const T *from = is_there ? fc_work_q<T>(work, row) + column : fc_work_q<T>(work, 0);
        fc_ptx_cp_async_16(fc_ptx_shared_address(to + row * S::PITCH + column), from, is_there ? 16 : 0);
    }
    fc_ptx_cp_async_commit();
}

/* Starts copying a tile of keys. */
template <typename S>
__device__ void copy_tile(typename Shared<S>::Stage &stage, const fc_job<typename S::T> &job, int32_t tile)
{
    fc_stage_tile<S::KEYS, S::COLUMNS, S::PITCH, S::THREADS>(stage.k, stage.v, job, tile);
}

/* The rows, within their fragment, of the elements of Sums that this lane holds: four bits each, since registers are
 * short. */
template <typename S> __device__ uint32_t learn_rows(float *strip, Lane lane)
{
    Sums rows;
    uint32_t learnt = 0;
    for (int column = lane.half; column < SIDE; column += 2)
        strip[lane.row * S::STRIP_PITCH + column] = (float)lane.row;
    __syncwarp();
    wmma::load_matrix_sync(rows, strip, S::STRIP_PITCH, wmma::mem_row_major);
#pragma unroll
    for (int i = 0; i < Sums::num_elements; i++)
        learnt |= (uint32_t)rows.x[i] << 4 * i;
    __syncwarp();
    return learnt;
}

/* Dot products of the warp's rows with its keys of a tile, into its strip. */
template <typename S>
__device__ void make_logits(float *strip, const typename S::T *query,
                            const typename S::Left (&kept)[S::QUERY_FRAGMENTS], const typename S::T *keys)
{
    Sums dots[S::KEY_FRAGMENTS];
#pragma unroll
    for (int n = 0; n < S::KEY_FRAGMENTS; n++)
        wmma::fill_fragment(dots[n], 0.0f);
#pragma unroll
    for (int d = 0; d < S::COLUMN_FRAGMENTS; d++) {
        typename S::Left left;
        if constexpr (!S::KEEPS_QUERY)
            fc_ptx_wmma_load(left, query + d * SIDE, S::PITCH);
#pragma unroll
        for (int n = 0; n < S::KEY_FRAGMENTS; n++) {
            typename S::KeysRight right;
            fc_ptx_wmma_load(right, keys + n * SIDE * S::PITCH + d * SIDE, S::PITCH);
            wmma::mma_sync(dots[n], S::KEEPS_QUERY ? kept[d % S::QUERY_FRAGMENTS] : left, right, dots[n]);
        }
    }
#pragma unroll
    for (int n = 0; n < S::KEY_FRAGMENTS; n++)
        wmma::store_matrix_sync(strip + n * SIDE, dots[n], S::STRIP_PITCH, wmma::mem_row_major);
}

/* A lane's logits from the strip, -inf where its row does not see the key. `first`: the lane's first key. */
template <typename S>
__device__ void read_logits(const float *strip, const fc_scoring &scoring, Lane lane, const Row &row, int32_t first,
                            bool sees_all, float (&logits)[S::LANE_KEYS])
{
    const float *from = strip + lane.row * S::STRIP_PITCH + lane.half * S::LANE_KEYS;
#pragma unroll
    for (int i = 0; i < S::LANE_KEYS; i += 4) {
        const float4 four = *reinterpret_cast<const float4 *>(from + i);
        logits[i] = four.x, logits[i + 1] = four.y, logits[i + 2] = four.z, logits[i + 3] = four.w;
    }
    if (scoring.softcap > 0.0f) {
#pragma unroll
        for (int i = 0; i < S::LANE_KEYS; i++)
            logits[i] = fc_logit(scoring, logits[i]);
    }
    if (!sees_all) {
#pragma unroll
        for (int i = 0; i < S::LANE_KEYS; i++)
            logits[i] = first + i >= row.begin && first + i < row.end ? logits[i] : -INFINITY;
    }
}

/* Logits to weights, in place; the row's largest logit and sum take note. What earlier sums are to be scaled with. */
template <typename S>
__device__ float make_weights(const fc_scoring &scoring, Row &row, bool sees_all, float (&logits)[S::LANE_KEYS])
{
    const float before = row.largest;
#pragma unroll
    for (int i = 0; i < S::LANE_KEYS; i++)
        row.largest = fmaxf(row.largest, logits[i]);
    row.largest = fmaxf(row.largest, __shfl_xor_sync(EVERY_LANE, row.largest, SIDE));
    const float rescale = fc_softmax_rescale(scoring, before, row.largest);
    row.sum *= rescale;
#pragma unroll
    for (int i = 0; i < S::LANE_KEYS; i++) {
        const bool is_seen = sees_all || logits[i] != -INFINITY;
        logits[i] = is_seen ? fc_softmax_weight(scoring, logits[i], row.largest) : 0.0f;
        row.sum += logits[i];
    }
    return rescale;
}

/* The strip's logits become weights of the inputs' type, in place. */
template <typename S>
__device__ float turn_strip(float *strip, const fc_scoring &scoring, Lane lane, Row &row, int32_t first, bool sees_all)
{
    using T = typename S::T;
    float logits[S::LANE_KEYS];
    read_logits<S>(strip, scoring, lane, row, first + lane.half * S::LANE_KEYS, sees_all, logits);
    const float rescale = make_weights<S>(scoring, row, sees_all, logits);
    T *to = reinterpret_cast<T *>(strip + lane.row * S::STRIP_PITCH) + lane.half * S::LANE_KEYS;
    __syncwarp(); /* all of a row is read before any of it is written */
#pragma unroll
    for (int i = 0; i < S::LANE_KEYS; i += EIGHT) {
        const float eight[EIGHT] = {logits[i],     logits[i + 1], logits[i + 2], logits[i + 3],
                                    logits[i + 4], logits[i + 5], logits[i + 6], logits[i + 7]};
        fc_store_eight(to + i, eight);
    }
    return rescale;
}

template <typename S> __device__ void rescale_totals(float factor, uint32_t rows, Sums (&totals)[S::COLUMN_FRAGMENTS])
{
#pragma unroll
    for (int i = 0; i < Sums::num_elements; i++) {
        const float own = __shfl_sync(EVERY_LANE, factor, rows >> 4 * i & 15);
#pragma unroll
        for (int n = 0; n < S::COLUMN_FRAGMENTS; n++)
            totals[n].x[i] *= own;
    }
}

template <typename S>
__device__ void add_values(const float *strip, const typename S::T *values, Sums (&totals)[S::COLUMN_FRAGMENTS])
{
    const typename S::T *weights = reinterpret_cast<const typename S::T *>(strip);
#pragma unroll
    for (int key = 0; key < S::WARP_KEYS; key += SIDE) {
        typename S::Left left;
        fc_ptx_wmma_load(left, weights + key, S::STRIP_PITCH * (int)(sizeof(float) / sizeof(typename S::T)));
#pragma unroll
        for (int n = 0; n < S::COLUMN_FRAGMENTS; n++) {
            typename S::ValuesRight right;
            fc_ptx_wmma_load(right, values + key * S::PITCH + n * SIDE, S::PITCH);
            wmma::mma_sync(totals[n], left, right, totals[n]);
        }
    }
}

/* Brings what the warps of the same rows have summed under one largest logit, and leaves it for the block. */
template <typename S>
__device__ void leave_rows(Shared<S> &shared, const fc_scoring &scoring, Lane lane, Row row, uint32_t rows,
                           Sums (&totals)[S::COLUMN_FRAGMENTS])
{
    row.sum += __shfl_xor_sync(EVERY_LANE, row.sum, SIDE);
    if (lane.half == 0) {
        shared.largest[lane.warp][lane.row] = row.largest;
        shared.sums[lane.warp][lane.row] = row.sum;
    }
    __syncthreads();
    const int warp = lane.warp / S::KEY_WARPS * S::KEY_WARPS; /* the first of these rows */
    float largest = -INFINITY;
#pragma unroll
    for (int part = 0; part < S::KEY_WARPS; part++)
        largest = fmaxf(largest, shared.largest[warp + part][lane.row]);
    rescale_totals<S>(fc_softmax_rescale(scoring, row.largest, largest), rows, totals);
#pragma unroll
    for (int n = 0; n < S::COLUMN_FRAGMENTS; n++)
        wmma::store_matrix_sync(&shared.totals[lane.warp][n * SIDE], totals[n], S::TOTALS_PITCH, wmma::mem_row_major);
}

/* The rows' sums over all warps' keys. */
template <typename S> __device__ void finish_sums(Shared<S> &shared, const fc_scoring &scoring)
{
    const int row = threadIdx.x, warp = row / SIDE * S::KEY_WARPS;
    if (row >= S::ROWS)
        return;
    fc_partial_sums all = {-INFINITY, 0.0f};
    for (int part = 0; part < S::KEY_WARPS; part++)
        all.largest = fmaxf(all.largest, shared.largest[warp + part][row % SIDE]);
    for (int part = 0; part < S::KEY_WARPS; part++)
        all.sum = fmaf(shared.sums[warp + part][row % SIDE],
                       fc_softmax_rescale(scoring, shared.largest[warp + part][row % SIDE], all.largest), all.sum);
    shared.all[row] = all;
}

/* Writes the tile's rows, or a split's partial results. */
template <typename S>
__device__ void write_rows(const Shared<S> &shared, const fc_device_launch &launch, const fc_scoring &scoring,
                           const fc_work &work)
{
    const int pieces = launch.head_dim / 4;
    for (int i = threadIdx.x; i < work.row_count * pieces; i += S::THREADS) {
        const int row = i / pieces, d = i % pieces * 4, warp = row / SIDE * S::KEY_WARPS;
        float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (int part = 0; part < S::KEY_WARPS; part++) {
            const float *more = &shared.totals[warp + part][row % SIDE * S::TOTALS_PITCH + d];
            total = fc_fma_four(total, 1.0f, make_float4(more[0], more[1], more[2], more[3]));
        }
        fc_merge_put<typename S::T>(launch, work, scoring, row, d, shared.all[row], total);
    }
}

/* The warp's part of one tile of keys. */
template <typename S>
__device__ void do_tile(Shared<S> &shared, const typename Shared<S>::Stage &stage, const fc_scoring &scoring, Lane lane,
                        Row &row, int32_t first, const typename S::Left (&kept)[S::QUERY_FRAGMENTS], uint32_t rows,
                        Sums (&totals)[S::COLUMN_FRAGMENTS])
{
    float *strip = shared.rows.strips[lane.warp];
    if (!__any_sync(EVERY_LANE, row.begin < first + S::WARP_KEYS && row.end > first))
        return;
    const bool sees_all = __all_sync(EVERY_LANE, row.begin <= first && row.end >= first + S::WARP_KEYS);
    make_logits<S>(strip, shared.rows.query + lane.first_row * S::PITCH, kept, stage.k + lane.first_key * S::PITCH);
    __syncwarp();
    const float rescale = turn_strip<S>(strip, scoring, lane, row, first, sees_all);
    __syncwarp();
    if (__any_sync(EVERY_LANE, rescale != 1.0f))
        rescale_totals<S>(rescale, rows, totals);
    add_values<S>(strip, stage.v + lane.first_key * S::PITCH, totals);
}

template <typename S>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS_PER_SM)
    tc_kernel(const __grid_constant__ fc_device_launch launch)
{
    __shared__ fc_job<typename S::T> job;
    Shared<S> &shared = *reinterpret_cast<Shared<S> *>(fc_ptx_dynamic_shared());
    fc_ptx_griddep_wait();
    const Lane lane = lane_of_thread<S>();
    if (threadIdx.x == 0)
        job = fc_job_make<typename S::T>(launch, S::ROWS, S::KEYS);
    __syncthreads();
    const fc_work &work = job.work;
    const int own_row = lane.first_row + lane.row;
    const bool is_real = own_row < work.row_count;
    Row row = {is_real ? fc_work_begin(work, own_row) : 0, is_real ? fc_work_end(work, own_row) : 0, -INFINITY, 0.0f};
    typename S::Left query[S::QUERY_FRAGMENTS];
    Sums totals[S::COLUMN_FRAGMENTS];

    copy_query<S>(shared.rows.query, work, launch.head_dim);
    if (job.keys.begin < job.keys.end)
        copy_tile<S>(shared.stages[0], job, job.keys.begin);
    else
        fc_ptx_cp_async_commit();
    fc_ptx_cp_async_wait<1>();
    __syncthreads();
    if constexpr (S::KEEPS_QUERY) {
#pragma unroll
        for (int d = 0; d < S::COLUMN_FRAGMENTS; d++)
            fc_ptx_wmma_load(query[d], shared.rows.query + lane.first_row * S::PITCH + d * SIDE, S::PITCH);
        __syncthreads(); /* the strips lie where the query was */
    }
    const uint32_t rows = learn_rows<S>(shared.rows.strips[lane.warp], lane);
#pragma unroll
    for (int n = 0; n < S::COLUMN_FRAGMENTS; n++)
        wmma::fill_fragment(totals[n], 0.0f);

    int stage = 0;
    for (int32_t tile = job.keys.begin; tile < job.keys.end; tile += S::KEYS) {
        const typename Shared<S>::Stage &here = shared.stages[stage];
        fc_ptx_cp_async_wait<0>();
        __syncthreads(); /* the tile is there, and nobody reads the one before any more */
        stage = (stage + 1) % STAGES;
        if (tile + S::KEYS < job.keys.end)
            copy_tile<S>(shared.stages[stage], job, tile + S::KEYS);
        do_tile<S>(shared, here, job.scoring, lane, row, tile + lane.first_key, query, rows, totals);
    }
    __syncthreads();
    leave_rows(shared, job.scoring, lane, row, rows, totals);
    __syncthreads();
    finish_sums(shared, job.scoring);
    __syncthreads();
    write_rows(shared, launch, job.scoring, work);
    if (work.segment->split_count > 1 && fc_merge_is_last(launch, work))
        fc_merge_rows<typename S::T>(launch, work, job.scoring);
}

template <typename Half, typename Bfloat> constexpr fc_variant variant_of()
{
    static_assert(sizeof(Shared<Half>) <= 99 * 1024, "a block of an L4");
    static_assert(sizeof(Shared<Half>) == sizeof(Shared<Bfloat>), "one figure for both");
    return {Half::COLUMNS,
            Half::ROWS,
            Half::THREADS,
            {tc_kernel<Half>, tc_kernel<Bfloat>},
            {sizeof(Shared<Half>), sizeof(Shared<Half>)}};
}

const fc_variant VARIANTS[] = {
#define FC_TC_ROW(...) variant_of<Tile<__half, __VA_ARGS__>, Tile<__nv_bfloat16, __VA_ARGS__>>(),
#include "kernels/tc.def"
#undef FC_TC_ROW
};

} // namespace

extern "C" fc_status fc_cuda_tc_launch(const fc_launch *launch, cudaStream_t stream)
{
    return fc_enqueue_variant(VARIANTS, launch, stream);
}
