/* Online softmax, once for every rung: from dot products to logits, weights, and the natural-log LSE.
 *
 * Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018): keep the largest logit so far and the sum
 * of exp(logit - largest); when a larger one comes, multiply what was summed by exp(old - new).
 *
 * A logit here lacks its last factor: the score is logit * multiplier. Without softcap the logit is the dot product and
 * the multiplier the scale; with softcap they are tanh(...) and softcap. So the difference of two logits is taken
 * exactly where it matters and multiplied once, by multiplier * log2(e), for the base-2 exponent.
 *
 * Masked keys take no part: callers give them weight 0 themselves, never a logit of -inf to exponentiate. The largest
 * logit of a row that has seen nothing is -inf, its sum 0.
 */
#ifndef FC_KERNELS_SOFTMAX_CUH
#define FC_KERNELS_SOFTMAX_CUH

#include "kernels/ptx.cuh"

#include <cfloat>
#include <cmath>

struct fc_scoring {
    float scale, softcap;
    float multiplier, multiplier_log2;
};

static __device__ __forceinline__ fc_scoring fc_scoring_make(float scale, float softcap)
{
    const float log2_of_e = 1.44269504f;
    fc_scoring scoring;
    scoring.scale = scale;
    scoring.softcap = softcap;
    scoring.multiplier = softcap > 0.0f ? softcap : scale;
    /* Held finite: 0 * inf would make a NaN of the largest logit's own weight. */
    scoring.multiplier_log2 = fminf(scoring.multiplier * log2_of_e, FLT_MAX);
    return scoring;
}

static __device__ __forceinline__ float fc_logit(const fc_scoring &scoring, float dot)
{
    return scoring.softcap > 0.0f ? tanhf(dot * scoring.scale / scoring.softcap) : dot;
}

/* exp(score - largest score) of a key that is seen. */
static __device__ __forceinline__ float fc_softmax_weight(const fc_scoring &scoring, float logit, float largest)
{
    return fc_ptx_ex2((logit - largest) * scoring.multiplier_log2);
}

/* What sums kept under the largest logit `before` are multiplied with now that it is `after` >= before. */
static __device__ __forceinline__ float fc_softmax_rescale(const fc_scoring &scoring, float before, float after)
{
    return before == -INFINITY ? 0.0f : fc_softmax_weight(scoring, before, after);
}

/* The same in one multiply-add: the weight relative to a logit whose shift this is. The rounding of the shift is common
 * to all weights that use it, so it cancels; against weights made the other way it is below 2^-14 while the shift is
 * below FC_SOFTMAX_SHIFT_MOST, and callers go the other way beyond (subtract first, shift 0). A masked logit may be
 * -inf here: shifts are finite and factors are not 0, so its weight is 0. */
#define FC_SOFTMAX_SHIFT_MOST 1024.0f

static __device__ __forceinline__ float fc_softmax_factor(const fc_scoring &scoring)
{
    return fmaxf(scoring.multiplier_log2, FLT_MIN);
}

static __device__ __forceinline__ float fc_softmax_weight_shifted(float factor, float logit, float shift)
{
    return fc_ptx_ex2(fmaf(logit, factor, -shift));
}

/* What the weighted sum of V is multiplied with in the end; 0 for a row that saw nothing. */
static __device__ __forceinline__ float fc_softmax_inverse(float sum)
{
    return sum > 0.0f ? 1.0f / sum : 0.0f;
}

static __device__ __forceinline__ float fc_softmax_lse(const fc_scoring &scoring, float largest, float sum)
{
    return sum > 0.0f ? fmaf(largest, scoring.multiplier, logf(sum)) : -INFINITY;
}

#endif
