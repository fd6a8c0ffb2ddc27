/* The rows of a consumer of `hopper` in its threads' registers: what they see, and what a step's logits do to them.
 *
 * A row's largest logit moves only when a new one is so much larger that weights would leave the half types' range
 * otherwise (FlashAttention-4's idea): weights are relative to an earlier largest logit, up to 2^8, which divides out.
 */
#ifndef FC_KERNELS_HOPPER_ROWS_CUH
#define FC_KERNELS_HOPPER_ROWS_CUH

#include "kernels/hopper_feed.cuh"
#include "kernels/mma_tile.cuh"
#include "kernels/softmax.cuh"

namespace
{

#ifdef FC_PTX_HOPPER

constexpr float WEIGHT_LOG2_MOST = 8.0f; /* of weights, relative to the row's largest logit */

/* A thread's two rows of the 64, GROUP_ROWS / 8 apart. */
constexpr int THREAD_ROWS = 2;

/* Where the thread is: its warpgroup's share of the tile; row and column of its first logit within it. */
struct Place {
    int consumer, row_group, key_group, lane;
    int32_t row; /* of the tile; the other one is 8 below */
    int column;
};

template <typename Shape> __device__ __forceinline__ Place place_of_thread()
{
    Place p;
    p.consumer = __shfl_sync(~0u, (int)threadIdx.x / WARPGROUP - 1, 0); /* the compiler sees: the same in a warp */
    p.row_group = p.consumer % Shape::ROW_GROUPS;
    p.key_group = p.consumer / Shape::ROW_GROUPS;
    p.lane = (int)threadIdx.x % 32;
    p.row = p.row_group * GROUP_ROWS + (int)threadIdx.x / 32 % WARPS * WARP_ROWS + p.lane / 4;
    p.column = p.lane % 4 * 2;
    return p;
}

/* What the thread's rows see and have seen. */
struct Rows {
    int32_t begin[THREAD_ROWS], end[THREAD_ROWS];
    int32_t all_begin, all_end; /* keys that every row of the warpgroup sees */
    float largest[THREAD_ROWS]; /* logits the weights are relative to */
    float sum[THREAD_ROWS];     /* of this thread's weights */
};

/* Rows before the first real one are taken for it. */
__device__ __forceinline__ Rows make_rows(const Item &item, const Place &place)
{
    const int32_t first = item.first_real, first_row = place.row_group * GROUP_ROWS;
    Rows rows;
    for (int i = 0; i < THREAD_ROWS; i++) {
        rows.begin[i] = key_begin(item, max(place.row + 8 * i, first));
        rows.end[i] = key_end(item, max(place.row + 8 * i, first));
        rows.largest[i] = -INFINITY;
        rows.sum[i] = 0.0f;
    }
    rows.all_begin = key_begin(item, first_row + GROUP_ROWS - 1);
    rows.all_end = key_end(item, max(first_row, first));
    return rows;
}

template <int N> __device__ __forceinline__ void keep(float (&values)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        fc_ptx_wgmma_keep(values[i]);
}

/* Weights as a left operand. */
template <typename Shape> using Weights = uint32_t[Shape::KEYS / STEP_COLUMNS][4];

/* Caps the logits where there is a cap, and drops keys that their row does not see; `key`: the step's first. */
template <int N>
__device__ __forceinline__ void cap_and_mask(float (&logits)[N], const fc_scoring &scoring, const Rows &rows,
                                             int32_t key, int column)
{
    if (scoring.softcap > 0.0f) {
#pragma unroll
        for (int i = 0; i < N; i++)
            logits[i] = fc_logit(scoring, logits[i]);
    }
    if (key + 2 * N > rows.all_end) {
        const int32_t end[THREAD_ROWS] = {rows.end[0] - key - column, rows.end[1] - key - column};
#pragma unroll
        for (int i = 0; i < N; i++)
            logits[i] = i / 4 * 8 + i % 2 >= end[i % 4 / 2] ? -INFINITY : logits[i];
    }
    if (key < rows.all_begin) {
        const int32_t begin[THREAD_ROWS] = {rows.begin[0] - key - column, rows.begin[1] - key - column};
#pragma unroll
        for (int i = 0; i < N; i++)
            logits[i] = i / 4 * 8 + i % 2 < begin[i % 4 / 2] ? -INFINITY : logits[i];
    }
}

__device__ __forceinline__ float quad_max(float value)
{
    value = fmaxf(value, __shfl_xor_sync(~0u, value, 1));
    return fmaxf(value, __shfl_xor_sync(~0u, value, 2));
}

__device__ __forceinline__ float quad_sum(float value)
{
    value += __shfl_xor_sync(~0u, value, 1);
    return value + __shfl_xor_sync(~0u, value, 2);
}

/* A row that has seen nothing has no logits but -inf. Rounded for itself: fused with the difference of two shifts that
 * are the same, it would leave of it what rounding lost, and every step multiply the sums with a little less or more
 * than 1. */
__device__ __forceinline__ float shift_of(float largest, float factor)
{
    return largest == -INFINITY ? 0.0f : __fmul_rn(largest, factor);
}

/* What a step's logits do to the rows. */
struct Move {
    float shift[THREAD_ROWS];   /* what the weights are relative to, as a power of two */
    float rescale[THREAD_ROWS]; /* what sums so far are multiplied with */
    bool is_needed;             /* rescale is not 1 for some row of the warp */
};

/* Moves what the rows' weights are relative to, where the step's logits are too large for it. */
template <int N> __device__ __forceinline__ Move move_largest(const float (&logits)[N], float factor, Rows &rows)
{
    float largest[4] = {logits[0], logits[1], logits[2], logits[3]};
    bool moves = false;
    Move move;
#pragma unroll
    for (int i = 4; i < N; i++)
        largest[i % 4] = fmaxf(largest[i % 4], logits[i]);
#pragma unroll
    for (int row = 0; row < THREAD_ROWS; row++) {
        const float before = rows.largest[row], now = quad_max(fmaxf(largest[2 * row], largest[2 * row + 1]));
        const bool is_larger = (now - before) * factor > WEIGHT_LOG2_MOST; /* not where both are -inf */
        const float after = is_larger ? now : before;
        move.shift[row] = shift_of(after, factor);
        move.rescale[row] = before == -INFINITY ? 0.0f : fc_ptx_ex2(shift_of(before, factor) - move.shift[row]);
        if (!is_larger) /* exactly 1, whatever a compiler makes of the difference */
            move.rescale[row] = 1.0f;
        rows.largest[row] = after;
        rows.sum[row] *= move.rescale[row];
        moves = moves || is_larger;
    }
    move.is_needed = __any_sync(~0u, moves);
    return move;
}

/* Logits become weights, which are added to the rows' sums. */
template <int N>
__device__ __forceinline__ void make_weights(float (&logits)[N], float factor, const Move &move, Rows &rows)
{
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < N; i++) {
        logits[i] = fc_softmax_weight_shifted(factor, logits[i], move.shift[i % 4 / 2]);
        sum[i % 4] += logits[i];
    }
    for (int row = 0; row < THREAD_ROWS; row++)
        rows.sum[row] += sum[2 * row] + sum[2 * row + 1];
    keep(logits); /* now, not when they are wanted */
}

template <typename T, typename Shape>
__device__ __forceinline__ void round_weights(const float (&logits)[Shape::KEYS / 2], Weights<Shape> &weights)
{
#pragma unroll
    for (int i = 0; i < Shape::KEYS / 4; i++)
        weights[i / 4][i % 4] = fc_pack_pair<T>(logits[2 * i], logits[2 * i + 1]);
}

template <int N> __device__ __forceinline__ void rescale_values(float (&out)[N], const float (&rescale)[THREAD_ROWS])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        out[i] *= rescale[i % 4 / 2];
}

/* 0: sums of weights are not. The compiler does not know, so what waits for this waits for the weights. Without it they
 * are made after the wait for the product that they should run under (docs/kernel-notes.md). */
__device__ __forceinline__ uint32_t is_negative(const Rows &rows)
{
    return rows.sum[0] + rows.sum[1] < 0.0f;
}

#endif /* FC_PTX_HOPPER */

} // namespace

#endif
