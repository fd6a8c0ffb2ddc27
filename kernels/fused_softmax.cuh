/* The steps of the rung `fused` between its two products: masks, references, weights. Only fused.cu includes this. */
#ifndef FC_KERNELS_FUSED_SOFTMAX_CUH
#define FC_KERNELS_FUSED_SOFTMAX_CUH

#include "kernels/fused_shape.cuh"

namespace fused
{

/* A lane's weights of one step and row stay below this together, or the reference moves: far below f16's 65504, and
 * random logits hardly ever exceed the first step's largest by 5.5. */
constexpr float SUM_MOST = 256.0f;

/* This lane's largest logits of its rows. */
template <typename S> __device__ __forceinline__ void find_largest(const Logits<S> &logits, float (&largest)[S::M][2])
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            largest[m][half] = -INFINITY;
#pragma unroll
            for (int n = 0; n < S::N; n++)
                largest[m][half] = fmaxf(largest[m][half], fmaxf(logits[m][n][2 * half], logits[m][n][2 * half + 1]));
        }
    }
}

/* Sums of this lane's weights of one step. */
template <typename S> using Sums = float[S::M][2];

/* Does some row of the warp have a weight too large for the reference, or one that is no number? */
template <typename S> __device__ __forceinline__ bool has_outgrown(const Sums<S> &sums)
{
    bool has = false;
#pragma unroll
    for (int m = 0; m < S::M; m++)
        has |= !(sums[m][0] <= SUM_MOST) | !(sums[m][1] <= SUM_MOST);
    return __any_sync(0xffffffff, has);
}

template <typename S> __device__ __forceinline__ void clear(Logits<S> &logits, Sums<S> &sums)
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
        sums[m][0] = sums[m][1] = 0.0f;
#pragma unroll
        for (int n = 0; n < S::N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                logits[m][n][i] = 0.0f;
        }
    }
}

template <typename S> __device__ __forceinline__ void add_sums(State<S> &state, const Sums<S> &sums)
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
        state.sum[m][0] += sums[m][0];
        state.sum[m][1] += sums[m][1];
    }
}

/* Logits that a row does not see become -inf. first_key: of this warp's tile. */
template <typename S>
__device__ void mask_logits(const fc_work &work, int warp_row, int32_t first_key, Logits<S> &logits)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int32_t row = min(warp_row + m * 16 + half * 8 + lane / 4, work.row_count - 1);
            const int32_t begin = fc_work_begin(work, row) - first_key, end = fc_work_end(work, row) - first_key;
#pragma unroll
            for (int n = 0; n < S::N; n++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int32_t key = n * 8 + lane % 4 * 2 + i;
                    if (key < begin || key >= end)
                        logits[m][n][2 * half + i] = -INFINITY;
                }
            }
        }
    }
}

template <typename S> __device__ void cap_logits(const fc_scoring &scoring, Logits<S> &logits)
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int n = 0; n < S::N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                logits[m][n][i] = fc_logit(scoring, logits[m][n][i]);
        }
    }
}

template <typename S> __device__ __forceinline__ void subtract(Logits<S> &logits, const float (&base)[S::M][2])
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int n = 0; n < S::N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                logits[m][n][i] -= base[m][i / 2];
        }
    }
}

template <typename S> __device__ __forceinline__ void rescale_sums(State<S> &state, const float (&rescale)[S::M][2])
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            state.sum[m][half] *= rescale[m][half];
#pragma unroll
            for (int n = 0; n < S::HEAD_DIM / 8; n++) {
                state.out[m][n][2 * half] *= rescale[m][half];
                state.out[m][n][2 * half + 1] *= rescale[m][half];
            }
        }
    }
}

/* Moves the references of a warp's rows to their largest logits and rescales what was summed relative to the old ones,
 * if anything was. Far from 0 the logits become differences here, exactly, and every step comes this way. Returns
 * whether the warp is settled. */
template <typename S>
__device__ bool renew(State<S> &state, const fc_scoring &scoring, float factor, Logits<S> &logits, bool has_sums)
{
    float rescale[S::M][2], base[S::M][2], after[S::M][2];
    bool is_settled = !(scoring.softcap > 0.0f), is_far = false;
    find_largest<S>(logits, after);
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = after[m][half];
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 2));
            largest = fmaxf(largest, state.reference[m][half]);
            const bool is_none = largest == -INFINITY;
            const bool is_row_far = !is_none && fabsf(largest * factor) > FC_SOFTMAX_SHIFT_MOST;
            rescale[m][half] = fc_softmax_rescale(scoring, state.reference[m][half], largest);
            base[m][half] = is_row_far ? largest : 0.0f;
            state.reference[m][half] = largest;
            state.shift[m][half] = is_none || is_row_far ? 0.0f : largest * factor;
            is_settled = is_settled && !is_none && !is_row_far;
            is_far |= is_row_far;
        }
    }
    if (__any_sync(0xffffffff, is_far))
        subtract<S>(logits, base);
    if (has_sums)
        rescale_sums<S>(state, rescale);
    return __all_sync(0xffffffff, is_settled);
}

/* The weights of 16 rows and 8 keys, in place of their logits. */
template <typename S>
__device__ __forceinline__ void weigh(const State<S> &state, Sums<S> &sums, float factor, Logits<S> &logits, int m,
                                      int n)
{
    float(&four)[4] = logits[m][n];
#pragma unroll
    for (int i = 0; i < 4; i++)
        four[i] = fc_softmax_weight_shifted(factor, four[i], state.shift[m][i / 2]);
    sums[m][0] += four[0] + four[1];
    sums[m][1] += four[2] + four[3];
}

/* Rounds the weights of 16 keys: the operands of their product with V. */
template <typename T, typename S>
__device__ __forceinline__ void round_weights(State<S> &state, const Logits<S> &logits, int key)
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float(&four)[4] = logits[m][2 * key + i / 2];
            state.weights[key][m][i] = fc_pack_pair<T>(four[i % 2 * 2], four[i % 2 * 2 + 1]);
        }
    }
}

} // namespace fused

#endif
