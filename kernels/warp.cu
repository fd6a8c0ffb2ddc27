/* warp: dot products split over lanes and added up by shuffles; each warp keeps its own rows' softmax to itself.
 *
 * A row of K, of V and of the query is spread over the lanes of a warp, eight columns a lane. With head_dim 64 that
 * takes 8 lanes, so that a warp reads four keys at a time, 16 bytes a lane of f16 (128 columns: two keys; 256: one;
 * others are padded):
 *
 *               lanes 0-7   8-15  16-23  24-31
 *              +----------+------+------+------+    dots: a lane multiplies its eight columns of a key with those of
 *     K, V     |  key 0   |  1   |  2   |  3   |    8 query rows, which it keeps in registers for the whole walk: 8
 *              +----------+------+------+------+    partial sums, of 8 different logits
 *     logits   | rows 0-7 | 0-7  | 0-7  | 0-7  |    logits: the 8 lanes of a key exchange partial sums until each has
 *              +----------+------+------+------+    all of one logit: 4 + 2 + 1 shuffles
 *     out      | 8 rows x 8 columns a lane,    |    out: a lane adds up 8 rows x its eight columns, over every fourth
 *              | one group a key in four       |    key; the groups meet in the end
 *              +-------------------------------+
 *
 * So lane l holds the logit of row l % 8 and key l / 8 of every step, whatever the head_dim. Lanes that agree in l % 8
 * hold parts of the same row: its largest logit and its sum of weights take shuffles among those, and no barrier. Only
 * the weights go through shared memory, since every lane of a key needs all eight of them; that too is a matter of the
 * warp alone. A shuffle adds up lanes only where they hold parts of the same number: the partial sums of one logit, the
 * weights of one row, and in the end the same columns of out from different keys.
 *
 * A block's warps share tiles of K and V in shared memory, two buffers filled by cp.async: row_warps x key_warps of
 * them, which own different rows or different keys of the tile. Those of the same rows and different keys are merged in
 * the end, in their order. Of few rows (decode) a warp keeps 4, and lane l the logit of row l % 4 and key l / 4.
 *
 * Where the plan splits the keys over blocks, the last block of a tile merges what all of them found (merge.cuh).
 *
 * Against vec: a barrier a tile instead of five, sixteen bytes loaded and eight conversions for 64 multiply-adds, and
 * the next tile always under way. What it leaves to the rungs above: the fp32 units do the multiplications.
 */
#include "kernels/cuda_launch.h"
#include "kernels/element.cuh"
#include "kernels/enqueue.cuh"
#include "kernels/merge.cuh"
#include "kernels/softmax.cuh"
#include "kernels/stage.cuh"
#include "kernels/work.cuh"

namespace
{

constexpr int LANES = 32;
constexpr unsigned EVERY_LANE = 0xffffffff;
constexpr int EIGHT = 8; /* columns of a lane */

/* A row of warp.def for one element type. */
template <typename Element, int HEAD_DIM, int WARP_ROWS_, int ROW_WARPS_, int KEY_WARPS_, int KEYS_, int BLOCKS>
struct Tile {
    using T = Element;
    static constexpr int COLUMNS = HEAD_DIM;
    static constexpr int WARP_ROWS = WARP_ROWS_, ROW_WARPS = ROW_WARPS_, KEY_WARPS = KEY_WARPS_, KEYS = KEYS_;
    static constexpr int BLOCKS_PER_SM = BLOCKS;
    static constexpr int ROWS = WARP_ROWS * ROW_WARPS;
    static constexpr int WARPS = ROW_WARPS * KEY_WARPS, THREADS = WARPS * LANES;

    static constexpr int SPREAD = COLUMNS / EIGHT;      /* lanes of a key */
    static constexpr int STEP_KEYS = LANES / WARP_ROWS; /* keys of a step: a logit a lane */
    static constexpr int LANE_KEYS = SPREAD / WARP_ROWS;
    static constexpr int WARP_KEYS = KEYS / KEY_WARPS, STEPS = WARP_KEYS / STEP_KEYS;

    /* A 16-byte piece of a row, and how many of them are a lane's: lanes lie next to each other in each. */
    static constexpr int PIECE = 16 / (int)sizeof(T), PIECES = EIGHT / PIECE;

    static constexpr int STAGE_BYTES = 2 * KEYS * COLUMNS * (int)sizeof(T);
    static constexpr int STAGES = STAGE_BYTES <= 32 * 1024 ? 2 : 1;

    static_assert(SPREAD <= LANES && LANES % SPREAD == 0, "whole keys in a warp");
    static_assert(LANE_KEYS >= 1 && SPREAD % WARP_ROWS == 0, "as many partial sums as lanes to add them up");
    static_assert(STEPS >= 1 && WARP_KEYS % STEP_KEYS == 0 && KEYS % KEY_WARPS == 0, "whole steps");
};

template <typename S> struct Shared {
    struct Stage {
        typename S::T k[S::KEYS * S::COLUMNS], v[S::KEYS * S::COLUMNS];
    };
    union {
        Stage stages[S::STAGES];
        float totals[S::WARPS][S::WARP_ROWS][S::COLUMNS]; /* in the end */
    };
    float weights[S::WARPS][S::WARP_KEYS][S::WARP_ROWS];
    float largest[S::WARPS][S::WARP_ROWS], sums[S::WARPS][S::WARP_ROWS];
};

/* What a thread works on. */
struct Lane {
    int warp;      /* of the block; of its row group, the key_warp-th part of the keys */
    int first_row; /* of the warp, in the tile */
    int first_key; /* of the warp, in a tile of keys */
    int index;
    int part;  /* of a key: which eight columns */
    int group; /* which keys of a step */
};

template <typename S> __device__ Lane lane_of_thread()
{
    Lane lane;
    lane.warp = threadIdx.x / LANES;
    lane.first_row = lane.warp / S::KEY_WARPS * S::WARP_ROWS;
    lane.first_key = lane.warp % S::KEY_WARPS * S::WARP_KEYS;
    lane.index = threadIdx.x % LANES;
    lane.part = lane.index % S::SPREAD;
    lane.group = lane.index / S::SPREAD;
    return lane;
}

/* The online softmax of the row whose logits this lane holds. */
struct Row {
    int32_t begin, end; /* keys it sees; none past q_len */
    float largest;      /* the same in all lanes of the row */
    float sum;          /* of this lane's weights alone */
};

/* The first column of a lane's piece-th piece. */
template <typename S> __device__ int column_of(int part, int piece)
{
    return piece * (S::COLUMNS / S::PIECES) + part * S::PIECE;
}

/* A lane's eight columns of a row of K or V. */
template <typename S> __device__ void read_columns(const typename S::T *row, int part, float (&to)[EIGHT])
{
#pragma unroll
    for (int piece = 0; piece < S::PIECES; piece++) {
        float some[S::PIECE];
        fc_expand<typename S::T>(*reinterpret_cast<const uint4 *>(row + column_of<S>(part, piece)), some);
#pragma unroll
        for (int i = 0; i < S::PIECE; i++)
            to[piece * S::PIECE + i] = some[i];
    }
}

/* A lane's eight columns of the warp's query rows, zero past q_len and head_dim. Place r holds row r ^ part: then the
 * partial sums that lanes exchange stand where they are needed, see add_up(). Every load is of something that exists,
 * so that none has to wait behind a branch. */
template <typename S>
__device__ void load_query(const fc_work &work, Lane lane, int head_dim, float (&query)[S::WARP_ROWS][EIGHT])
{
    using T = typename S::T;
    uint4 bits[S::WARP_ROWS][S::PIECES];
#pragma unroll
    for (int r = 0; r < S::WARP_ROWS; r++) {
        const int row = lane.first_row + (r ^ lane.part % S::WARP_ROWS);
        const T *from = fc_work_q<T>(work, min(row, work.row_count - 1));
#pragma unroll
        for (int piece = 0; piece < S::PIECES; piece++) {
            const int column = column_of<S>(lane.part, piece);
            const bool is_there = row < work.row_count && column < head_dim;
            bits[r][piece] = __ldg(reinterpret_cast<const uint4 *>(from + (column < head_dim ? column : 0)));
            bits[r][piece] = is_there ? bits[r][piece] : make_uint4(0, 0, 0, 0);
        }
    }
#pragma unroll
    for (int r = 0; r < S::WARP_ROWS; r++) {
#pragma unroll
        for (int piece = 0; piece < S::PIECES; piece++) {
            float some[S::PIECE];
            fc_expand<T>(bits[r][piece], some);
#pragma unroll
            for (int i = 0; i < S::PIECE; i++)
                query[r][piece * S::PIECE + i] = some[i];
        }
    }
}

/* Starts copying a tile of keys. */
template <typename S>
__device__ void copy_tile(typename Shared<S>::Stage &stage, const fc_job<typename S::T> &job, int32_t tile)
{
    fc_stage_tile<S::KEYS, S::COLUMNS, S::COLUMNS, S::THREADS>(stage.k, stage.v, job, tile);
}

/* COUNT lanes hold parts of COUNT numbers each: lane l holds a part of number i ^ l in place i. Half of the numbers at
 * a time goes to the lane that keeps them, and in the end lane l has all of number l. Places i and i + half of two
 * lanes that differ by half are the same number, so nothing needs to be picked. */
template <int COUNT> __device__ __forceinline__ float add_up(float *parts)
{
    constexpr int HALF = COUNT / 2;
#pragma unroll
    for (int i = 0; i < HALF; i++)
        parts[i] += __shfl_xor_sync(EVERY_LANE, parts[i + HALF], HALF);
    if constexpr (HALF > 1)
        add_up<HALF>(parts);
    return parts[0];
}

/* The dot product of row lane % WARP_ROWS with key lane / WARP_ROWS of a step. */
template <typename S>
__device__ float dot_product(const typename S::T *keys, Lane lane, const float (&query)[S::WARP_ROWS][EIGHT])
{
    float parts[S::SPREAD];
#pragma unroll
    for (int j = 0; j < S::LANE_KEYS; j++) {
        const int key = lane.group * S::LANE_KEYS + (j ^ lane.part / S::WARP_ROWS);
        float columns[EIGHT];
        read_columns<S>(keys + key * S::COLUMNS, lane.part, columns);
#pragma unroll
        for (int r = 0; r < S::WARP_ROWS; r++) {
            float sum = query[r][0] * columns[0];
#pragma unroll
            for (int i = 1; i < EIGHT; i++)
                sum = fmaf(query[r][i], columns[i], sum);
            parts[j * S::WARP_ROWS + r] = sum;
        }
    }
    return add_up<S::SPREAD>(parts);
}

/* The largest of a row's logits so far, in all of its lanes. What was summed under a smaller one is scaled down. */
template <typename S>
__device__ void update_largest(const fc_scoring &scoring, const float (&logits)[S::STEPS], Row &row,
                               float (&totals)[S::WARP_ROWS][EIGHT])
{
    float largest = row.largest;
#pragma unroll
    for (int step = 0; step < S::STEPS; step++)
        largest = fmaxf(largest, logits[step]);
#pragma unroll
    for (int other = S::WARP_ROWS; other < LANES; other *= 2)
        largest = fmaxf(largest, __shfl_xor_sync(EVERY_LANE, largest, other));
    if (!__any_sync(EVERY_LANE, largest > row.largest))
        return;
    const float rescale = fc_softmax_rescale(scoring, row.largest, largest);
    row.largest = largest;
    row.sum *= rescale;
#pragma unroll
    for (int r = 0; r < S::WARP_ROWS; r++) {
        const float factor = __shfl_sync(EVERY_LANE, rescale, r);
#pragma unroll
        for (int i = 0; i < EIGHT; i++)
            totals[r][i] *= factor;
    }
}

/* This warp's weights of its part of a tile, from K. `first`: the part's first key. */
template <typename S>
__device__ void make_weights(float (&weights)[S::WARP_KEYS][S::WARP_ROWS], const fc_scoring &scoring,
                             const typename S::T *keys, int32_t first, Lane lane,
                             const float (&query)[S::WARP_ROWS][EIGHT], Row &row, float (&totals)[S::WARP_ROWS][EIGHT])
{
    float logits[S::STEPS];
#pragma unroll
    for (int step = 0; step < S::STEPS; step++)
        logits[step] = dot_product<S>(keys + step * S::STEP_KEYS * S::COLUMNS, lane, query);
    if (scoring.softcap > 0.0f) { /* apart from the products: branches between them would keep them apart */
#pragma unroll
        for (int step = 0; step < S::STEPS; step++)
            logits[step] = fc_logit(scoring, logits[step]);
    }
#pragma unroll
    for (int step = 0; step < S::STEPS; step++) {
        const int32_t key = first + step * S::STEP_KEYS + lane.index / S::WARP_ROWS;
        logits[step] = key >= row.begin && key < row.end ? logits[step] : -INFINITY;
    }
    update_largest<S>(scoring, logits, row, totals);
#pragma unroll
    for (int step = 0; step < S::STEPS; step++) {
        const bool is_seen = logits[step] != -INFINITY;
        const float weight = is_seen ? fc_softmax_weight(scoring, logits[step], row.largest) : 0.0f;
        row.sum += weight;
        (&weights[0][0])[step * LANES + lane.index] = weight;
    }
}

/* Adds the weighted values of this warp's part of a tile. */
template <typename S>
__device__ void add_values(const float (&weights)[S::WARP_KEYS][S::WARP_ROWS], const typename S::T *values, Lane lane,
                           float (&totals)[S::WARP_ROWS][EIGHT])
{
#pragma unroll
    for (int i = 0; i < S::STEPS * S::LANE_KEYS; i++) {
        const int key = i / S::LANE_KEYS * S::STEP_KEYS + lane.group * S::LANE_KEYS + i % S::LANE_KEYS;
        float columns[EIGHT];
        read_columns<S>(values + key * S::COLUMNS, lane.part, columns);
#pragma unroll
        for (int r = 0; r < S::WARP_ROWS; r += 4) {
            const float4 four = *reinterpret_cast<const float4 *>(&weights[key][r]);
#pragma unroll
            for (int c = 0; c < EIGHT; c++) {
                totals[r][c] = fmaf(four.x, columns[c], totals[r][c]);
                totals[r + 1][c] = fmaf(four.y, columns[c], totals[r + 1][c]);
                totals[r + 2][c] = fmaf(four.z, columns[c], totals[r + 2][c]);
                totals[r + 3][c] = fmaf(four.w, columns[c], totals[r + 3][c]);
            }
        }
    }
}

/* Adds up what the lanes of this warp hold of the same rows and columns, and leaves it for the block. */
template <typename S>
__device__ void leave_rows(Shared<S> &shared, Lane lane, Row row, float (&totals)[S::WARP_ROWS][EIGHT])
{
#pragma unroll
    for (int other = S::WARP_ROWS; other < LANES; other *= 2)
        row.sum += __shfl_xor_sync(EVERY_LANE, row.sum, other);
    if (lane.index < S::WARP_ROWS) {
        shared.largest[lane.warp][lane.index] = row.largest;
        shared.sums[lane.warp][lane.index] = row.sum;
    }
#pragma unroll
    for (int r = 0; r < S::WARP_ROWS; r++) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
#pragma unroll
            for (int other = S::SPREAD; other < LANES; other *= 2)
                totals[r][i] += __shfl_xor_sync(EVERY_LANE, totals[r][i], other);
        }
        if (lane.group != 0)
            continue;
#pragma unroll
        for (int i = 0; i < EIGHT; i += 4) {
            float *to = &shared.totals[lane.warp][r][column_of<S>(lane.part, i / S::PIECE) + i % S::PIECE];
            *reinterpret_cast<float4 *>(to) =
                make_float4(totals[r][i], totals[r][i + 1], totals[r][i + 2], totals[r][i + 3]);
        }
    }
}

/* Merges the warps' parts of the keys, in their order, and writes the tile's rows or a split's partial results. */
template <typename S>
__device__ void write_rows(const Shared<S> &shared, const fc_device_launch &launch, const fc_scoring &scoring,
                           const fc_work &work)
{
    const int pieces = launch.head_dim / 4;
    for (int i = threadIdx.x; i < work.row_count * pieces; i += S::THREADS) {
        const int row = i / pieces, d = i % pieces * 4;
        const int warp = row / S::WARP_ROWS * S::KEY_WARPS, r = row % S::WARP_ROWS;
        fc_partial_sums all = {-INFINITY, 0.0f};
        float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (int part = 0; part < S::KEY_WARPS; part++)
            all.largest = fmaxf(all.largest, shared.largest[warp + part][r]);
#pragma unroll
        for (int part = 0; part < S::KEY_WARPS; part++) {
            const float rescale = fc_softmax_rescale(scoring, shared.largest[warp + part][r], all.largest);
            all.sum = fmaf(shared.sums[warp + part][r], rescale, all.sum);
            const float *more = &shared.totals[warp + part][r][d];
            total = fc_fma_four(make_float4(more[0], more[1], more[2], more[3]), rescale, total);
        }
        fc_merge_put<typename S::T>(launch, work, scoring, row, d, all, total);
    }
}

template <typename S>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS_PER_SM)
    warp_kernel(const __grid_constant__ fc_device_launch launch)
{
    __shared__ fc_job<typename S::T> job;
    Shared<S> &shared = *reinterpret_cast<Shared<S> *>(fc_ptx_dynamic_shared());
    fc_ptx_griddep_wait();
    const Lane lane = lane_of_thread<S>();
    if (threadIdx.x == 0)
        job = fc_job_make<typename S::T>(launch, S::ROWS, S::KEYS);
    __syncthreads();
    const fc_work &work = job.work;
    const int own_row = lane.first_row + lane.index % S::WARP_ROWS;
    const bool is_real = own_row < work.row_count;
    Row row = {is_real ? fc_work_begin(work, own_row) : 0, is_real ? fc_work_end(work, own_row) : 0, -INFINITY, 0.0f};
    float query[S::WARP_ROWS][EIGHT], totals[S::WARP_ROWS][EIGHT] = {};

    if (job.keys.begin < job.keys.end)
        copy_tile<S>(shared.stages[0], job, job.keys.begin);
    load_query<S>(work, lane, launch.head_dim, query);
    int stage = 0;
    for (int32_t tile = job.keys.begin; tile < job.keys.end; tile += S::KEYS) {
        const typename Shared<S>::Stage &here = shared.stages[stage];
        fc_ptx_cp_async_wait<0>();
        __syncthreads(); /* the tile is there, and nobody reads the one before any more */
        stage = (stage + 1) % S::STAGES;
        if (S::STAGES > 1 && tile + S::KEYS < job.keys.end)
            copy_tile<S>(shared.stages[stage], job, tile + S::KEYS);
        if (lane.first_row < work.row_count) {
            float(&weights)[S::WARP_KEYS][S::WARP_ROWS] = shared.weights[lane.warp];
            make_weights<S>(weights, job.scoring, here.k + lane.first_key * S::COLUMNS, tile + lane.first_key, lane,
                            query, row, totals);
            __syncwarp();
            add_values<S>(weights, here.v + lane.first_key * S::COLUMNS, lane, totals);
        }
        if (S::STAGES == 1 && tile + S::KEYS < job.keys.end) {
            __syncthreads();
            copy_tile<S>(shared.stages[stage], job, tile + S::KEYS);
        }
    }
    __syncthreads();
    leave_rows(shared, lane, row, totals);
    __syncthreads();
    write_rows(shared, launch, job.scoring, work);
    if (work.segment->split_count > 1 && fc_merge_is_last(launch, work))
        fc_merge_rows<typename S::T>(launch, work, job.scoring);
}

template <typename Half, typename Bfloat, typename Float> constexpr fc_variant variant_of()
{
    static_assert(sizeof(Shared<Half>) <= 99 * 1024 && sizeof(Shared<Float>) <= 99 * 1024, "a block of an L4");
    return {Half::COLUMNS,
            Half::ROWS,
            Half::THREADS,
            {warp_kernel<Half>, warp_kernel<Bfloat>, warp_kernel<Float>},
            {sizeof(Shared<Half>), sizeof(Shared<Bfloat>), sizeof(Shared<Float>)}};
}

const fc_variant VARIANTS[] = {
#define FC_WARP_ROW(...)                                                                                               \
    variant_of<Tile<__half, __VA_ARGS__>, Tile<__nv_bfloat16, __VA_ARGS__>, Tile<float, __VA_ARGS__>>(),
#include "kernels/warp.def"
#undef FC_WARP_ROW
};

} // namespace

extern "C" fc_status fc_cuda_warp_launch(const fc_launch *launch, cudaStream_t stream)
{
    return fc_enqueue_variant(VARIANTS, launch, stream);
}
