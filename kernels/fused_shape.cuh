/* What the rung `fused` is made of: a row of fused.def at compile time, a block's work, and what a warp holds. Only
 * fused.cu includes this. */
#ifndef FC_KERNELS_FUSED_SHAPE_CUH
#define FC_KERNELS_FUSED_SHAPE_CUH

#include "kernels/merge.cuh"
#include "kernels/mma_tile.cuh"
#include "kernels/softmax.cuh"
#include "kernels/work.cuh"

namespace fused
{

/* What a block of an L4 may have. */
constexpr int SHARED_BYTES_MAX = 99 * 1024;

/* Static shared memory, rounded up to what dynamic shared memory is aligned to. */
constexpr int STATIC_BYTES = 1024;

/* A row of fused.def and what follows from it. */
template <int HEAD_DIM_, int WARP_ROWS_, int ROW_WARPS_, int KEY_WARPS_, int KEYS_, int STEPS_, int STAGES_,
          int HOLDS_Q_, int BLOCKS_PER_SM_>
struct Shape {
    static constexpr int HEAD_DIM = HEAD_DIM_, KEYS = KEYS_, STEPS = STEPS_, STAGES = STAGES_;
    static constexpr int WARP_ROWS = WARP_ROWS_, ROW_WARPS = ROW_WARPS_, KEY_WARPS = KEY_WARPS_;
    static constexpr bool HOLDS_Q = HOLDS_Q_ != 0;
    static constexpr int BLOCKS_PER_SM = BLOCKS_PER_SM_;
    static constexpr int THREADS = 32 * ROW_WARPS * KEY_WARPS;
    static constexpr int ROWS = WARP_ROWS * ROW_WARPS; /* of a block */
    static constexpr int STEP = KEYS * KEY_WARPS;      /* keys of a block's step */

    /* Where a warp's keys are nobody else's, it copies them itself and waits for no other. */
    static constexpr bool COPIES_ALONE = ROW_WARPS == 1;
    static constexpr int COPY_THREADS = COPIES_ALONE ? 32 : THREADS;
    static constexpr int COPY_ROWS = COPIES_ALONE ? KEYS : STEP; /* of a step */

    /* In units of the operands: rows and keys by 16 and 8, columns by 16. */
    static constexpr int M = WARP_ROWS / 16, N = KEYS / 8, KEY_STEPS = KEYS / 16, COLUMN_STEPS = HEAD_DIM / 16;

    /* Shared memory: K and V of STAGES stages of STEPS steps each, then the query. One that is held lies where the last
     * V does, which comes late; where it is too large for that, behind the first K, and has to be read before anything
     * else comes. */
    static constexpr int TILE_BYTES = STEP * HEAD_DIM * 2, STAGE_BYTES = STEPS * TILE_BYTES;
    static constexpr int Q_BYTES = ROWS * HEAD_DIM * 2;
    static constexpr int V_OFFSET = STAGES * STAGE_BYTES, STAGES_BYTES = 2 * STAGES * STAGE_BYTES;
    static constexpr bool READS_Q_FIRST =
        HOLDS_Q && STAGES_BYTES - STAGE_BYTES + Q_BYTES > SHARED_BYTES_MAX - STATIC_BYTES;
    static constexpr int Q_OFFSET = READS_Q_FIRST ? STAGE_BYTES : STAGES_BYTES - (HOLDS_Q ? STAGE_BYTES : 0);
    /* In the end: sums of every key warp, then every key warp's part of the output. */
    static constexpr int PART_PITCH = HEAD_DIM + 8; /* floats: spreads rows over the banks */
    static constexpr int PARTS_OFFSET = KEY_WARPS * ROWS * (int)sizeof(fc_partial_sums);
    static constexpr int END_BYTES = KEY_WARPS == 1 ? Q_BYTES : PARTS_OFFSET + KEY_WARPS * ROWS * PART_PITCH * 4;

    static constexpr int most(int a, int b)
    {
        return a > b ? a : b;
    }
    static constexpr int SHARED_BYTES = most(most(STAGES_BYTES, Q_OFFSET + Q_BYTES), END_BYTES);

    static_assert(WARP_ROWS % 16 == 0 && KEYS % 16 == 0 && HEAD_DIM % 32 == 0, "whole operands");
    static_assert(STAGES >= 2, "one to read, one to fill");
    static_assert(!COPIES_ALONE || STEPS == 1, "nothing to share a barrier");
    static_assert(!READS_Q_FIRST || STEPS == 1, "no V in the first group of copies");
    static_assert(SHARED_BYTES <= SHARED_BYTES_MAX - STATIC_BYTES, "runs on an L4");
    static_assert(THREADS * BLOCKS_PER_SM <= 1024, "leaves a thread 64 registers");
};

/* What a block works on. It lies in shared memory: what is needed rarely, or once a step, takes no registers. */
template <typename T> struct Block {
    fc_segment segment;
    fc_work work;
    fc_scoring scoring;
    const T *k, *v; /* of the block's first key */
    int64_t k_stride, v_stride;
    int32_t begin, count; /* its keys */
    int32_t steps;
    int32_t head_dim;
};

/* For one warp; the others see it behind a barrier. */
template <typename T, typename S> __device__ void block_make(Block<T> &block, const fc_device_launch &launch)
{
    fc_work_get_segment(block.segment, launch, blockIdx.x);
    const fc_work work = fc_work_make_any(block.segment, blockIdx.x - block.segment.first_block, S::ROWS);
    /* Later rows see later keys: the tile's keys lie between the first row's first and the last row's last. */
    const int32_t begin = fc_work_begin(work, 0);
    const int32_t end = max(begin, fc_work_end(work, work.row_count - 1));
    const uint32_t steps = (uint32_t)(end - begin + S::STEP - 1) / S::STEP, splits = work.segment->split_count;
    const uint32_t each = splits == 1 ? steps : steps / splits, more = steps - each * splits;
    /* The first parts take the rest, one step each. */
    const int32_t first = (int32_t)(work.split * each + min(work.split, more));
    const int32_t last = (int32_t)(first + each + (work.split < more ? 1 : 0));
    if (threadIdx.x % 32 != 0)
        return;
    block.work = work;
    block.scoring = fc_scoring_make(work.segment->scale, work.segment->softcap);
    block.begin = begin + first * S::STEP;
    block.count = min(end - block.begin, (last - first) * S::STEP);
    block.steps = last - first;
    block.k_stride = work.segment->k_token_stride;
    block.v_stride = work.segment->v_token_stride;
    block.k = fc_work_k<T>(work) + block.begin * block.k_stride;
    block.v = fc_work_v<T>(work) + block.begin * block.v_stride;
    block.head_dim = launch.head_dim;
}

/* The steps in which some row of the warp sees some of its keys: [first, first + count); and those in which all rows
 * see all of them. The same in all lanes, for the compiler too: in uniform registers. */
struct Reach {
    int32_t first, inner_first;
    uint32_t count, inner_count;
};

/* A number that all lanes have alike, so that the compiler knows. */
__device__ __forceinline__ int32_t uniform(int32_t number)
{
    return __shfl_sync(0xffffffff, number, 0);
}

template <typename T, typename S> __device__ Reach reach_of_warp(const Block<T> &block, int row, int key_warp)
{
    const fc_work &work = block.work;
    const int32_t first_row = min(row, work.row_count - 1);
    const int32_t last_row = min(row + S::WARP_ROWS, work.row_count) - 1;
    const int32_t origin = block.begin + key_warp * S::KEYS; /* of this warp's keys in step 0 */
    const int32_t begin = fc_work_begin(work, first_row) - origin, end = fc_work_end(work, last_row) - origin;
    const int32_t all_begin = fc_work_begin(work, last_row) - origin, all_end = fc_work_end(work, first_row) - origin;
    /* Step j has keys [j * STEP, j * STEP + KEYS) from the origin on. */
    const int32_t first = begin < S::KEYS ? 0 : (begin - S::KEYS) / S::STEP + 1;
    const int32_t after = min(block.steps, end <= 0 ? 0 : (end - 1) / S::STEP + 1);
    const int32_t inner_first = all_begin <= 0 ? 0 : (all_begin - 1) / S::STEP + 1;
    const int32_t inner_after = all_end < S::KEYS ? 0 : (all_end - S::KEYS) / S::STEP + 1;
    const bool has_keys = row < work.row_count && begin < end;
    return {uniform(first), uniform(inner_first), (uint32_t)uniform(has_keys ? max(after - first, 0) : 0),
            (uint32_t)uniform(has_keys ? max(inner_after - inner_first, 0) : 0)};
}

__device__ bool is_within(int32_t step, int32_t first, uint32_t count)
{
    return (uint32_t)(step - first) < count;
}

/* What a warp holds through all steps. Rows: [m][half] is row 16 m + 8 half + lane / 4. */
template <typename S> struct State {
    float out[S::M][S::HEAD_DIM / 8][4];
    uint32_t weights[S::KEY_STEPS][S::M][4]; /* of the step before, as operands */
    float reference[S::M][2];                /* the logit that weights and sums are relative to; -inf: none yet */
    float shift[S::M][2];                    /* the same times the factor; 0 where logits come relative to it */
    float sum[S::M][2];                      /* of this lane's weights */
};

template <typename S> struct Query {
    uint32_t held[S::HOLDS_Q ? S::COLUMN_STEPS : 1][S::M][4];
};

/* Where the lane's rows of operands are in the first tiles of K, V and Q: addresses. */
struct Lane {
    uint32_t k, v, q;
};

template <typename S> using Logits = float[S::M][S::N][4];

} // namespace fused

#endif
