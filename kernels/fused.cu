/* fused: attention in registers. "FlashAttention-2" (Dao, 2023) is the algorithm: a warp owns query rows, walks the
 * keys in tiles, and neither logits nor weights ever leave its registers.
 *
 *        keys of a step                     S = Q K^T   accumulators of mma.m16n8k16: lane (g, t) of a warp has rows g
 *      +-----------------+                              and g + 8, columns 2t and 2t + 1 of every 16 x 8
 *      |  K^T  D x keys  |                  P           the weights, rounded: two neighbouring 16 x 8 accumulators are,
 *      +-----------------+                              register by register, the A operand of the next product
 *  +---+-----------------+---------+        O += P V    V is read transposed by ldmatrix
 *  | Q |  S -> P         | O       |
 *  +---+-----------------+---------+        Rows of a warp meet in 4 lanes: two shuffles find a row's largest logit.
 *
 * What keeps the tensor cores busy:
 *   - The products P V of a step are issued among the exponentials of the next one (run_fused()), so that either hides
 *     the other even within a warp; products Q K^T of one warp overlap with the exponentials of the others.
 *   - A row's largest logit is not followed exactly. Weights are relative to a reference, which moves only when a logit
 *     exceeds it by SLACK_LOG2 (as in FlashAttention-4): weights stay below 2^SLACK_LOG2, so nothing overflows, and the
 *     relative precision of a weight does not depend on its size. Whether it moves is one vote a step, no shuffles.
 *   - K and V of later steps are under way (cp.async) while one step is worked on; one barrier a step.
 *   - Tiles that all rows of the warp see entirely know no masks; masks, moved references, softcap and logits too
 *     large for the one-instruction exponent are behind one branch (renew()).
 *
 * Keys may also be shared out: to groups of warps of a block (KEY_WARPS), which meet in shared memory, and to blocks
 * (splits), which meet in the workspace; both add up in a fixed order.
 *
 * K and V rows past the end are zeros in shared memory: 0 x NaN would be NaN.
 */
#include "kernels/cuda_launch.h"
#include "kernels/enqueue.cuh"
#include "kernels/fused_end.cuh"
#include "kernels/fused_shape.cuh"
#include "kernels/fused_softmax.cuh"
#include "kernels/merge.cuh"
#include "kernels/mma_tile.cuh"

namespace
{

using namespace fused;

/* --- copies into shared memory ---------------------------------------------------------------------------------- */

/* Rows [first, first + ROWS) of `from`, zero from row `count` on and in columns from head_dim on. There is a row 0. A
 * thread copies the same piece of every PASS-th row. */
template <typename T, typename S, int ROWS>
__device__ __forceinline__ void copy_rows(uint32_t to, const T *from, int64_t stride, int32_t first, int32_t count,
                                          int head_dim)
{
    using Tile = fc_mma_tile<S::HEAD_DIM>;
    constexpr int PASS = S::THREADS / Tile::PIECES, PASSES = (ROWS + PASS - 1) / PASS;
    static_assert(S::THREADS % Tile::PIECES == 0 && (ROWS % PASS == 0 || ROWS < PASS), "whole passes");
    const int row = threadIdx.x / Tile::PIECES, piece = threadIdx.x % Tile::PIECES;
    const bool is_column = piece * FC_PIECE_ELEMENTS < head_dim;
    const uint32_t bytes = is_column ? FC_PIECE_BYTES : 0;
    if (ROWS < PASS && row >= ROWS)
        return;
    from += is_column ? piece * FC_PIECE_ELEMENTS : 0;
    if (first + ROWS <= count) {
        const T *source = from + (first + row) * stride;
#pragma unroll
        for (int i = 0; i < PASSES; i++) {
            fc_ptx_cp_async_16(to + Tile::offset(row + i * PASS, piece), source, bytes);
            source += PASS * stride;
        }
        return;
    }
#pragma unroll 1
    for (int i = 0; i < PASSES; i++) {
        const int32_t at = first + row + i * PASS;
        fc_ptx_cp_async_16(to + Tile::offset(row + i * PASS, piece), from + min(at, count - 1) * stride,
                           at < count ? bytes : 0);
    }
}

template <typename T, typename S> __device__ void copy_query(uint32_t to, const Block<T> &block)
{
    using Tile = fc_mma_tile<S::HEAD_DIM>;
    const fc_work &work = block.work;
    if (work.segment->packed_heads == 1) {
        copy_rows<T, S, S::ROWS>(to, fc_work_q<T>(work, 0), work.segment->q_token_stride, 0, work.row_count,
                                 block.head_dim);
        return;
    }
#pragma unroll 1
    for (int index = threadIdx.x; index < S::ROWS * Tile::PIECES; index += S::THREADS) {
        const int row = index / Tile::PIECES, piece = index % Tile::PIECES;
        const bool is_column = piece * FC_PIECE_ELEMENTS < block.head_dim;
        const T *source =
            fc_work_q<T>(work, min(row, work.row_count - 1)) + (is_column ? piece * FC_PIECE_ELEMENTS : 0);
        fc_ptx_cp_async_16(to + Tile::offset(row, piece), source,
                           row < work.row_count && is_column ? FC_PIECE_BYTES : 0);
    }
}

/* Group g of copies: K of step g and V of the step before, which are both used in round g. */
template <typename T, typename S>
__device__ __forceinline__ void copy_group(uint32_t shared, const Block<T> &block, int32_t group)
{
    if (group < block.steps)
        copy_rows<T, S, S::STEP>(shared + group % S::STAGES * S::TILE_BYTES, block.k, block.k_stride, group * S::STEP,
                                 block.count, block.head_dim);
    if (group >= 1 && group <= block.steps)
        copy_rows<T, S, S::STEP>(shared + S::V_OFFSET + (group - 1) % S::STAGES * S::TILE_BYTES, block.v,
                                 block.v_stride, (group - 1) * S::STEP, block.count, block.head_dim);
    fc_ptx_cp_async_commit();
}

/* --- products --------------------------------------------------------------------------------------------------- */

/* An operand of 16 rows and 16 columns. */
template <typename S>
__device__ __forceinline__ void get_query(const Query<S> &query, uint32_t shared, fc_mma_lane lane, int m, int column,
                                          uint32_t (&operand)[4])
{
    if constexpr (S::HOLDS_Q) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            operand[i] = query.held[column][m][i];
    } else {
        fc_ptx_ldmatrix_x4(operand, fc_mma_address<S::HEAD_DIM>(shared + S::Q_OFFSET, lane, m, column));
    }
}

template <typename T, typename S>
__device__ __forceinline__ void multiply_keys(const Query<S> &query, uint32_t shared, uint32_t k, const Lane &lane,
                                              Logits<S> &logits)
{
    /* Columns innermost when the query is held: a finished group of keys' largest logits hide behind the next group. */
    constexpr int GROUP = S::HOLDS_Q && S::KEY_STEPS % 2 == 0 ? 2 : S::KEY_STEPS;
#pragma unroll
    for (int first = 0; first < S::KEY_STEPS; first += GROUP) {
#pragma unroll
        for (int column = 0; column < S::COLUMN_STEPS; column++) {
            uint32_t q[S::M][4];
#pragma unroll
            for (int m = 0; m < S::M; m++)
                get_query<S>(query, shared, lane.q, m, column, q[m]);
#pragma unroll
            for (int key = first; key < first + GROUP; key++) {
                uint32_t b[4];
                fc_ptx_ldmatrix_x4(b, fc_mma_address<S::HEAD_DIM>(k, lane.k, key, column));
#pragma unroll
                for (int m = 0; m < S::M; m++) {
                    fc_ptx_mma<T>(logits[m][2 * key], q[m], b[0], b[1]);
                    fc_ptx_mma<T>(logits[m][2 * key + 1], q[m], b[2], b[3]);
                }
            }
        }
    }
}

/* Weights of 16 keys times 16 columns of V. */
template <typename T, typename S>
__device__ __forceinline__ void multiply_values(State<S> &state, uint32_t v, fc_mma_lane lane, int key, int column)
{
    uint32_t b[4];
    fc_ptx_ldmatrix_x4_trans(b, fc_mma_address<S::HEAD_DIM>(v, lane, key, column));
#pragma unroll
    for (int m = 0; m < S::M; m++) {
        fc_ptx_mma<T>(state.out[m][2 * column], state.weights[key][m], b[0], b[1]);
        fc_ptx_mma<T>(state.out[m][2 * column + 1], state.weights[key][m], b[2], b[3]);
    }
}

/* --- a round ---------------------------------------------------------------------------------------------------- */

template <typename T, typename S>
__device__ __forceinline__ void run_values(State<S> &state, uint32_t v, fc_mma_lane lane)
{
#pragma unroll
    for (int key = 0; key < S::KEY_STEPS; key++) {
#pragma unroll
        for (int column = 0; column < S::COLUMN_STEPS; column++)
            multiply_values<T, S>(state, v, lane, key, column);
    }
}

template <typename T, typename S>
__device__ __forceinline__ void run_weights(State<S> &state, float factor, Logits<S> &logits)
{
#pragma unroll
    for (int key = 0; key < S::KEY_STEPS; key++) {
#pragma unroll
        for (int m = 0; m < S::M; m++) {
            weigh<S>(state, factor, logits, m, 2 * key);
            weigh<S>(state, factor, logits, m, 2 * key + 1);
        }
        round_weights<T, S>(state, logits, key);
    }
}

/* Both: products of the step before among the weights of this one. The weights of 16 keys are rounded once the products
 * with those they replace have been issued. */
template <typename T, typename S>
__device__ __forceinline__ void run_fused(State<S> &state, uint32_t v, fc_mma_lane lane, float factor,
                                          Logits<S> &logits)
{
    constexpr int UNITS = 2 * S::M; /* of 16 rows and 8 keys, a step of 16 keys */
#pragma unroll
    for (int key = 0; key < S::KEY_STEPS; key++) {
#pragma unroll
        for (int column = 0; column < S::COLUMN_STEPS; column++) {
            multiply_values<T, S>(state, v, lane, key, column);
#pragma unroll
            for (int unit = column * UNITS / S::COLUMN_STEPS; unit < (column + 1) * UNITS / S::COLUMN_STEPS; unit++)
                weigh<S>(state, factor, logits, unit / 2, 2 * key + unit % 2);
        }
        round_weights<T, S>(state, logits, key);
    }
}

/* --- the kernel --------------------------------------------------------------------------------------------------- */

template <typename S> __device__ void start_state(State<S> &state)
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int n = 0; n < S::HEAD_DIM / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                state.out[m][n][i] = 0.0f;
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            state.reference[m][half] = -INFINITY;
            state.shift[m][half] = state.sum[m][half] = 0.0f;
        }
    }
}

template <typename S> __device__ __forceinline__ void read_query(Query<S> &query, uint32_t shared, fc_mma_lane lane)
{
    if constexpr (S::HOLDS_Q) {
#pragma unroll
        for (int column = 0; column < S::COLUMN_STEPS; column++) {
#pragma unroll
            for (int m = 0; m < S::M; m++)
                fc_ptx_ldmatrix_x4(query.held[column][m],
                                   fc_mma_address<S::HEAD_DIM>(shared + S::Q_OFFSET, lane, m, column));
        }
    }
}

/* Starts the copies of the query and of the first steps, and reads the query as soon as it is there. */
template <typename T, typename S>
__device__ __forceinline__ void start_copies(Query<S> &query, uint32_t shared, const Block<T> &block, const Lane &lane)
{
    copy_query<T, S>(shared + S::Q_OFFSET, block);
    copy_group<T, S>(shared, block, 0);
    if constexpr (S::READS_Q_FIRST) {
        fc_ptx_cp_async_wait<0>();
        __syncthreads();
        read_query<S>(query, shared, lane.q);
        __syncthreads();
    }
    for (int group = 1; group < S::STAGES - 1; group++)
        copy_group<T, S>(shared, block, group);
    if constexpr (S::HOLDS_Q && !S::READS_Q_FIRST) {
        fc_ptx_cp_async_wait<S::STAGES - 2>();
        __syncthreads();
        read_query<S>(query, shared, lane.q);
    }
}

template <typename S> __device__ Lane lane_make(int warp_row, int key_warp)
{
    constexpr int ROW_BYTES = fc_mma_tile<S::HEAD_DIM>::ROW_BYTES;
    Lane lane = {fc_mma_lane_make<S::HEAD_DIM>(true), fc_mma_lane_make<S::HEAD_DIM>(false),
                 fc_mma_lane_make<S::HEAD_DIM>(false)};
    lane.k.row_bytes += key_warp * S::KEYS * ROW_BYTES;
    lane.v.row_bytes += key_warp * S::KEYS * ROW_BYTES;
    lane.q.row_bytes += warp_row * ROW_BYTES;
    return lane;
}

/* Everything of a warp's rows and keys. Round j makes the logits and weights of step j and adds the values of step
 * j - 1. */
template <typename T, typename S>
__device__ __forceinline__ void run_rounds(State<S> &state, uint32_t shared, const Block<T> &block, int warp_row,
                                           int key_warp)
{
    __shared__ Reach reaches[S::THREADS / 32]; /* read again every step: registers are scarce */
    Reach &reach = reaches[threadIdx.x / 32];
    const Lane lane = lane_make<S>(warp_row, key_warp);
    const float factor = fc_softmax_factor(block.scoring);
    const int32_t steps = block.steps;
    Query<S> query;

    start_copies<T, S>(query, shared, block, lane);
    if (threadIdx.x % 32 == 0)
        reach = reach_of_warp<T, S>(block, warp_row, key_warp);
#pragma unroll 1
    for (int32_t step = 0; step <= steps; step++) {
        fc_ptx_cp_async_wait<S::STAGES - 2>();
        __syncthreads();
        copy_group<T, S>(shared, block, step + S::STAGES - 1);
        const uint32_t k = shared + step % S::STAGES * S::TILE_BYTES;
        const uint32_t v = shared + S::V_OFFSET + (step + S::STAGES - 1) % S::STAGES * S::TILE_BYTES;
        bool has_weights = is_within(step - 1, reach.first, reach.count); /* of the step before */
        if (!is_within(step, reach.first, reach.count)) {
            if (has_weights)
                run_values<T, S>(state, v, lane.v);
            continue;
        }
        Logits<S> logits = {};
        multiply_keys<T, S>(query, shared, k, lane, logits);
        const bool is_inner = is_within(step, reach.inner_first, reach.inner_count);
        if (has_outgrown<S>(state, factor, logits) | !is_inner | !reach.is_settled) { /* no branches but this one */
            if (has_weights)
                run_values<T, S>(state, v, lane.v);
            has_weights = false;
            if (block.scoring.softcap > 0.0f)
                cap_logits<S>(block.scoring, logits);
            if (!is_inner)
                mask_logits<S>(block.work, warp_row, block.begin + step * S::STEP + key_warp * S::KEYS, logits);
            const bool is_settled = renew<S>(state, block.scoring, factor, logits);
            __syncwarp(); /* all have read what stands there */
            if (threadIdx.x % 32 == 0)
                reach.is_settled = is_settled;
            __syncwarp();
        }
        if (has_weights)
            run_fused<T, S>(state, v, lane.v, factor, logits);
        else
            run_weights<T, S>(state, factor, logits);
    }
}

template <typename T, typename S>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS_PER_SM)
    fused_kernel(const __grid_constant__ fc_device_launch launch)
{
    __shared__ Block<T> block;
    unsigned char *shared = fc_ptx_dynamic_shared();
    const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0); /* the same in all lanes, for the compiler too */
    const int warp_row = warp % S::ROW_WARPS * S::WARP_ROWS, key_warp = warp / S::ROW_WARPS;
    State<S> state;

    if (warp == 0) {
        const Block<T> made = block_make<T, S>(launch);
        if (threadIdx.x == 0)
            block = made;
    }
    __syncthreads();
    start_state<S>(state);
    if (block.steps > 0)
        run_rounds<T, S>(state, fc_ptx_shared_address(shared), block, warp_row, key_warp);
    gather_sums<S>(state);
    fc_ptx_cp_async_wait<0>();
    __syncthreads(); /* K and V have been read: shared memory is free */
    const bool is_split = block.work.segment->split_count > 1;
    if constexpr (S::KEY_WARPS > 1) {
        leave_parts<S>(shared, state, warp_row, key_warp);
        __syncthreads();
        write_parts<T, S>(shared, launch, block.work, block.scoring);
    } else if (is_split) {
        leave_rows<S>(launch, block.work, state, warp_row);
    } else {
        write_rows<T, S>(shared + warp_row * fc_mma_tile<S::HEAD_DIM>::ROW_BYTES, block.work, block.scoring, state,
                         warp_row, launch.head_dim);
    }
    if (is_split && fc_merge_is_last(launch, block.work))
        fc_merge_rows<T>(launch, block.work, block.scoring);
}

/* --- the table -------------------------------------------------------------------------------------------------- */

struct Variant {
    fc_device_kernel kernels[2]; /* f16, bf16 */
    uint32_t q_tile_rows;
    unsigned threads;
    int head_dim, shared_bytes;
};

template <typename S> constexpr Variant variant_of()
{
    return {
        {fused_kernel<__half, S>, fused_kernel<__nv_bfloat16, S>}, S::ROWS, S::THREADS, S::HEAD_DIM, S::SHARED_BYTES};
}

const Variant VARIANTS[] = {
#define FC_FUSED_ROW(...) variant_of<Shape<__VA_ARGS__>>(),
#include "kernels/fused.def"
#undef FC_FUSED_ROW
};

constexpr uint32_t VARIANT_COUNT = sizeof VARIANTS / sizeof *VARIANTS;

} // namespace

extern "C" fc_status fc_cuda_fused_launch(const fc_launch *launch, cudaStream_t stream)
{
    const fc_plan &plan = launch->plan;
    if (plan.variant >= VARIANT_COUNT || plan.dtype > FC_BF16 || plan.head_dim > VARIANTS[plan.variant].head_dim)
        return FC_INTERNAL;
    const Variant &variant = VARIANTS[plan.variant];
    return fc_enqueue(variant.kernels[plan.dtype],
                      {variant.q_tile_rows, launch->block_count, variant.threads, (size_t)variant.shared_bytes}, launch,
                      stream);
}
