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
 *   - A row's largest logit is not followed. Weights are relative to a reference, which moves only when those of a
 *     step outgrow it (FlashAttention-4 lets them, up to a bound, too): they stay far below what the type holds, and
 *     the relative precision of a weight does not depend on its size. Whether one did the sum of the step's weights
 *     tells, one vote a step; the step is then done again, from Q K^T.
 *   - K and V of later steps are under way (cp.async) while one step is worked on, their copies started behind a step's
 *     products; one barrier for one or two steps, none where a warp's keys are its own.
 *   - Tiles that all rows of the warp see entirely know no masks; masks, moved references, softcap and logits too
 *     large for the one-instruction exponent are behind one branch.
 *
 * Keys may also be shared out: to groups of warps of a block (KEY_WARPS), which meet in shared memory, and to blocks
 * (splits), which meet in the workspace; both add up in a fixed order.
 *
 * K and V rows past the end are zeros in shared memory: 0 x NaN would be NaN.
 */
#include "kernels/cuda_launch.h"
#include "kernels/enqueue.cuh"
#include "kernels/fused_copy.cuh"
#include "kernels/fused_end.cuh"
#include "kernels/fused_shape.cuh"
#include "kernels/fused_softmax.cuh"
#include "kernels/merge.cuh"
#include "kernels/mma_tile.cuh"

namespace
{

using namespace fused;

/* --- products --------------------------------------------------------------------------------------------------- */

/* An operand of 16 rows and 16 columns. */
template <typename S>
__device__ __forceinline__ void get_query(const Query<S> &query, uint32_t lane, int m, int column,
                                          uint32_t (&operand)[4])
{
    if constexpr (S::HOLDS_Q) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            operand[i] = query.held[column][m][i];
    } else {
        fc_ptx_ldmatrix_x4(operand, fc_mma_address<S::HEAD_DIM>(lane, m, column));
    }
}

/* logits += Q K^T, which are 0 before. */
template <typename T, typename S>
__device__ __forceinline__ void multiply_keys(const Query<S> &query, uint32_t q, uint32_t k, Logits<S> &logits)
{
    /* Columns innermost when the query is held: a finished group of keys hides behind the next group. */
    constexpr int GROUP = S::HOLDS_Q && S::KEY_STEPS % 2 == 0 ? 2 : S::KEY_STEPS;
    /* A product waits for the one before it into the same sum; where a warp has few sums, odd columns get their own. */
    constexpr bool HAS_ODD = S::M * S::N <= 2;
    Logits<S> odd = {};
#pragma unroll
    for (int first = 0; first < S::KEY_STEPS; first += GROUP) {
#pragma unroll
        for (int column = 0; column < S::COLUMN_STEPS; column++) {
            Logits<S> &sums = HAS_ODD && column % 2 == 1 ? odd : logits;
            uint32_t a[S::M][4];
#pragma unroll
            for (int m = 0; m < S::M; m++)
                get_query<S>(query, q, m, column, a[m]);
#pragma unroll
            for (int key = first; key < first + GROUP; key++) {
                uint32_t b[4];
                fc_ptx_ldmatrix_x4(b, fc_mma_address<S::HEAD_DIM>(k, key, column));
#pragma unroll
                for (int m = 0; m < S::M; m++) {
                    fc_ptx_mma<T>(sums[m][2 * key], a[m], b[0], b[1]);
                    fc_ptx_mma<T>(sums[m][2 * key + 1], a[m], b[2], b[3]);
                }
            }
        }
    }
    if constexpr (HAS_ODD) {
#pragma unroll
        for (int n = 0; n < S::N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                logits[0][n][i] += odd[0][n][i];
        }
    }
}

/* The logits of a step once more: weights, of no use as it turned out, have taken their places. */
template <typename T, typename S>
__device__ __forceinline__ void repeat_keys(const Query<S> &query, uint32_t q, uint32_t k, Logits<S> &logits,
                                            Sums<S> &sums)
{
    clear<S>(logits, sums);
    multiply_keys<T, S>(query, q, k, logits);
}

/* Weights of 16 keys times 16 columns of V. */
template <typename T, typename S>
__device__ __forceinline__ void multiply_values(State<S> &state, uint32_t v, int key, int column)
{
    uint32_t b[4];
    fc_ptx_ldmatrix_x4_trans(b, fc_mma_address<S::HEAD_DIM>(v, key, column));
#pragma unroll
    for (int m = 0; m < S::M; m++) {
        fc_ptx_mma<T>(state.out[m][2 * column], state.weights[key][m], b[0], b[1]);
        fc_ptx_mma<T>(state.out[m][2 * column + 1], state.weights[key][m], b[2], b[3]);
    }
}

/* --- a round ---------------------------------------------------------------------------------------------------- */

template <typename T, typename S> __device__ __forceinline__ void run_values(State<S> &state, uint32_t v)
{
#pragma unroll
    for (int key = 0; key < S::KEY_STEPS; key++) {
#pragma unroll
        for (int column = 0; column < S::COLUMN_STEPS; column++)
            multiply_values<T, S>(state, v, key, column);
    }
}

template <typename T, typename S>
__device__ __forceinline__ void run_weights(State<S> &state, Sums<S> &sums, float factor, Logits<S> &logits)
{
#pragma unroll
    for (int key = 0; key < S::KEY_STEPS; key++) {
#pragma unroll
        for (int m = 0; m < S::M; m++) {
            weigh<S>(state, sums, factor, logits, m, 2 * key);
            weigh<S>(state, sums, factor, logits, m, 2 * key + 1);
        }
        round_weights<T, S>(state, logits, key);
    }
}

/* Both: products of the step before among the weights of this one. The weights of 16 keys are rounded once the products
 * with those they replace have been issued. */
template <typename T, typename S>
__device__ __forceinline__ void run_fused(State<S> &state, Sums<S> &sums, uint32_t v, float factor, Logits<S> &logits)
{
    constexpr int UNITS = 2 * S::M; /* of 16 rows and 8 keys, a step of 16 keys */
#pragma unroll
    for (int key = 0; key < S::KEY_STEPS; key++) {
#pragma unroll
        for (int column = 0; column < S::COLUMN_STEPS; column++) {
            multiply_values<T, S>(state, v, key, column);
#pragma unroll
            for (int unit = column * UNITS / S::COLUMN_STEPS; unit < (column + 1) * UNITS / S::COLUMN_STEPS; unit++)
                weigh<S>(state, sums, factor, logits, unit / 2, 2 * key + unit % 2);
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

template <typename S> __device__ __forceinline__ void read_query(Query<S> &query, uint32_t q)
{
    if constexpr (S::HOLDS_Q) {
#pragma unroll
        for (int column = 0; column < S::COLUMN_STEPS; column++) {
#pragma unroll
            for (int m = 0; m < S::M; m++)
                fc_ptx_ldmatrix_x4(query.held[column][m], fc_mma_address<S::HEAD_DIM>(q, m, column));
        }
    }
}

/* Starts the copies of the query and of the first stages. A query that has to be read first is. */
template <typename T, typename S>
__device__ __forceinline__ void start_copies(Query<S> &query, Copies<T> &copies, uint32_t shared, const Block<T> &block,
                                             uint32_t q)
{
    copy_query<T, S>(shared + S::Q_OFFSET, block);
    copy_first<T, S>(copies, block);
    if constexpr (S::READS_Q_FIRST) {
        fc_ptx_cp_async_wait<0>();
        __syncthreads();
        read_query<S>(query, q);
        __syncthreads();
    }
#pragma unroll
    for (int stage = 1; stage < S::STAGES - 1; stage++)
        copy_stage<T, S>(copies, block, stage * S::STEPS, stage * S::STAGE_BYTES);
}

/* Waits for the query where nothing else does, and reads it as soon as it is there. */
template <typename S> __device__ __forceinline__ void await_query(Query<S> &query, uint32_t q)
{
    constexpr bool IS_READ_HERE = S::HOLDS_Q && !S::READS_Q_FIRST;
    if constexpr (IS_READ_HERE || S::COPIES_ALONE) {
        fc_ptx_cp_async_wait<S::STAGES - 2>();
        __syncthreads();
    }
    if constexpr (IS_READ_HERE) {
        read_query<S>(query, q);
        if constexpr (S::COPIES_ALONE)
            __syncthreads(); /* V comes to where it was, and its copies wait for no other warp */
    }
}

template <typename S> __device__ Lane lane_make(uint32_t shared, int warp_row, int key_warp)
{
    constexpr int ROW_BYTES = fc_mma_tile<S::HEAD_DIM>::ROW_BYTES;
    const uint32_t by_rows = fc_mma_lane<S::HEAD_DIM>(false), keys = key_warp * S::KEYS * ROW_BYTES;
    return {fc_ptx_keep(shared + fc_mma_lane<S::HEAD_DIM>(true) + keys),
            fc_ptx_keep(shared + S::V_OFFSET + by_rows + keys), shared + S::Q_OFFSET + by_rows + warp_row * ROW_BYTES};
}

/* Everything of a warp's rows and keys. Step j makes its own logits and weights, and adds the values of step j - 1. */
template <typename T, typename S>
__device__ __forceinline__ void run_steps(State<S> &state, uint32_t shared, const Block<T> &block, int warp_row,
                                          int key_warp)
{
    const Lane lane = lane_make<S>(shared, warp_row, key_warp);
    const float factor = fc_softmax_factor(block.scoring);
    const int32_t steps = block.steps;
    Copies<T> copies = copies_make<T, S>(shared, block, key_warp);
    Query<S> query;

    start_copies<T, S>(query, copies, shared, block, lane.q);
    const Reach reach = reach_of_warp<T, S>(block, warp_row, key_warp);
    await_query<S>(query, lane.q);
    bool is_settled = false; /* logits are dot products, and every row that sees a key has a reference near 0 */
    uint32_t stage = 0;      /* bytes to the stage */
#pragma unroll 1
    for (int32_t step = 0; step <= steps; step++) {
        const bool is_first = step % S::STEPS == 0;
        const uint32_t tile = stage + step % S::STEPS * S::TILE_BYTES;
        const uint32_t before = stage == 0 ? (S::STAGES - 1) * S::STAGE_BYTES : stage - S::STAGE_BYTES;
        if (is_first)
            await_copies<S, S::STAGES - 2>();
        if (step % S::STEPS == S::STEPS - 1)
            stage = stage == (S::STAGES - 1) * S::STAGE_BYTES ? 0 : stage + S::STAGE_BYTES;
        const int32_t ahead = step + (S::STAGES - 1) * S::STEPS;
        const bool has_weights = is_within(step - 1, reach.first, reach.count); /* of the step before */
        if (!is_within(step, reach.first, reach.count)) {
            if (is_first)
                copy_stage<T, S>(copies, block, ahead, before);
            if (has_weights)
                run_values<T, S>(state, lane.v + tile);
            continue;
        }
        Logits<S> logits = {};
        Sums<S> sums = {};
        multiply_keys<T, S>(query, lane.q, lane.k + tile, logits);
        if (is_first) /* behind the products, which then wait for no copy's address */
            copy_stage<T, S>(copies, block, ahead, before);
        const bool is_inner = is_within(step, reach.inner_first, reach.inner_count);
        if (is_inner && is_settled) { /* a step before has settled it, so there are weights */
            run_fused<T, S>(state, sums, lane.v + tile, factor, logits);
            if (!has_outgrown<S>(sums)) {
                add_sums<S>(state, sums);
                continue;
            }
            repeat_keys<T, S>(query, lane.q, lane.k + tile, logits, sums);
        } else if (has_weights) {
            run_values<T, S>(state, lane.v + tile);
        }
        if (block.scoring.softcap > 0.0f)
            cap_logits<S>(block.scoring, logits);
        if (!is_inner)
            mask_logits<S>(block.work, warp_row, block.begin + step * S::STEP + key_warp * S::KEYS, logits);
        is_settled = renew<S>(state, block.scoring, factor, logits, has_weights);
        run_weights<T, S>(state, sums, factor, logits);
        add_sums<S>(state, sums);
    }
}

/* Blocks of segments with so many queries let the next launch in before they are over. */
constexpr int32_t FOLLOWED_FROM = 64;

template <typename T, typename S>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS_PER_SM)
    fused_kernel(const __grid_constant__ fc_device_launch launch)
{
    __shared__ Block<T> block;
    unsigned char *shared = fc_ptx_dynamic_shared();
    const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0); /* the same in all lanes, for the compiler too */
    const int warp_row = warp % S::ROW_WARPS * S::WARP_ROWS, key_warp = warp / S::ROW_WARPS;
    State<S> state;

    if (warp == 0)
        block_make<T, S>(block, launch);
    __syncthreads();
    fc_ptx_griddep_wait();
    start_state<S>(state);
    if (block.steps > 0)
        run_steps<T, S>(state, fc_ptx_shared_address(shared), block, warp_row, key_warp);
    const bool is_split = block.work.segment->split_count > 1;
    /* Not sooner, and not where queries are few: the next launch's blocks would settle two an SM on those that are done
     * first, and where memory is what a launch waits for that shows. */
    if (!is_split && block.work.segment->q_len >= FOLLOWED_FROM)
        fc_ptx_griddep_launch_dependents();
    gather_sums<S>(state);
    fc_ptx_cp_async_wait<0>();
    __syncthreads(); /* K and V have been read: shared memory is free */
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

template <typename S> constexpr fc_variant variant_of()
{
    return {S::HEAD_DIM,
            S::ROWS,
            S::THREADS,
            {fused_kernel<__half, S>, fused_kernel<__nv_bfloat16, S>},
            {S::SHARED_BYTES, S::SHARED_BYTES}};
}

const fc_variant VARIANTS[] = {
#define FC_FUSED_ROW(...) variant_of<Shape<__VA_ARGS__>>(),
#include "kernels/fused.def"
#undef FC_FUSED_ROW
};

} // namespace

extern "C" fc_status fc_cuda_fused_launch(const fc_launch *launch, cudaStream_t stream)
{
    return fc_enqueue_variant(VARIANTS, launch, stream);
}
