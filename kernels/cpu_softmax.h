/* The online-softmax step over a group's scores, and what it needs of mathematics: written once over vectors, compiled
 * per instruction set. Everything here is static.
 *
 * The including file has defined V_LANES, included kernels/cpu_vector.h, and then defined
 *   TILE_KEYS                 keys of a tile
 *   v_fma(a, b, c)            a * b + c
 *   v_max(a, b)               the larger; b where either is NaN
 *   v_scale_fraction(x, &f)   splits x = n + f, n whole, |f| <= 1/2
 *   v_scale(p, n)             p * 2^n for what v_scale_fraction() returned; 0 where that underflows or x was -inf; NaN
 *                             where x was
 *   narrow(from, dtype, count, to)          f32 to dtype, count a multiple of 8, any alignment of `to`
 *   keep_weights(step, row, key, p, parts)  stores one vector of P where accumulate() wants it; parts is a constant
 *   out_stride(head_dim)                    floats from one row of out to the next
 */
#ifndef FC_KERNELS_CPU_SOFTMAX_H
#define FC_KERNELS_CPU_SOFTMAX_H

#include "kernels/cpu_isa.h"
#include "kernels/cpu_vector.h"

_Static_assert(FC_CPU_SUM_LANES % V_LANES == 0, "a row's sum holds whole vectors");

/* --- exponential and tanh ------------------------------------------------------------------------------------------
 * 2^f on [-1/2, 1/2]: minimax (Remez, weighted for relative error), 2e-9 before rounding of the coefficients. The
 * constant term is exactly 1, so that a row of one key has weight 1. */
static inline vf exp2_small(vf f)
{
    vf p = v_set1(0x1.41d334p-13f);
    p = v_fma(p, f, v_set1(0x1.5f456ap-10f));
    p = v_fma(p, f, v_set1(0x1.3b2dbcp-7f));
    p = v_fma(p, f, v_set1(0x1.c6aed4p-5f));
    p = v_fma(p, f, v_set1(0x1.ebfbdap-3f));
    p = v_fma(p, f, v_set1(0x1.62e430p-1f));
    return v_fma(p, f, v_set1(1.0f));
}

static inline vf exp2_vector(vf x)
{
    vf f;
    vf split = v_scale_fraction(x, &f);
    return v_scale(exp2_small(f), split);
}

/* Odd series near 0 (where the quotient would cancel), 1 - 2 / (e^2x + 1) elsewhere. */
static inline vf tanh_vector(vf x)
{
    vi sign = v_bits(x) & (int32_t)0x80000000;
    vf magnitude = v_from_bits(v_bits(x) & 0x7fffffff);
    vf z = x * x;
    vf series = v_fma(z, v_set1(-5.70498872745e-3f), v_set1(2.06390887954e-2f));
    series = v_fma(series, z, v_set1(-5.37397155531e-2f));
    series = v_fma(series, z, v_set1(1.33314422036e-1f));
    series = v_fma(series, z, v_set1(-3.33332819422e-1f));
    series = v_fma(series * z, x, x);
    /* Capped where tanh is 1 in f32 already; the cap keeps e^2x finite. A NaN passes through v_max's second operand. */
    vf capped = -v_max(v_set1(-20.0f), -magnitude);
    vf quotient = 1.0f - 2.0f / (exp2_vector(capped * 2.8853900817779268f) + 1.0f);
    quotient = v_from_bits(v_bits(quotient) | sign);
    return v_select(magnitude < 0.625f, series, quotient);
}

/* --- the online-softmax step ---------------------------------------------------------------------------------------
 */

static inline float largest(vf value)
{
    float lanes[V_LANES] __attribute__((aligned(64)));
    v_store(lanes, value);
    float best = lanes[0];
    for (int i = 1; i < V_LANES; i++)
        best = lanes[i] > best ? lanes[i] : best;
    return best;
}

/* All ones in the lanes of keys [begin, end), for the vector that starts at `key`. */
static inline vi seen_lanes(int32_t key, int32_t begin, int32_t end)
{
    vi index = v_lane_index() + key;
    return (index >= begin) & (index < end);
}

/* Raw scores to base-2 exponents; with softcap in place, else only the largest needs the factor. Returns the largest
 * exponent of the row. */
static inline __attribute__((always_inline)) float row_largest(const fc_cpu_step *step, float *scores, int32_t begin,
                                                               int32_t end, const bool is_masked)
{
    vf best = v_set1(-__builtin_inff());
    const float inner = step->scaling->inner;
    for (int32_t key = step->key_begin; key < step->key_end; key += V_LANES) {
        vf s = v_load(scores + key);
        if (inner != 0.0f)
            s = tanh_vector(s * inner) * step->scaling->factor;
        else
            s = s * step->scaling->factor;
        v_store(scores + key, s);
        if (is_masked)
            s = v_select(seen_lanes(key, begin, end), s, v_set1(-__builtin_inff()));
        best = v_max(s, best);
    }
    return largest(best);
}

/* Folds a rise of the running maximum into what was summed under the old one. */
static inline void rescale_row(float old_max, float new_max, float *sums, float *out, int32_t dim)
{
    vf factor = exp2_vector(v_set1(old_max - new_max));
    for (int32_t i = 0; i < FC_CPU_SUM_LANES; i += V_LANES)
        v_store(sums + i, v_load(sums + i) * factor);
    for (int32_t i = 0; i < dim; i += V_LANES)
        v_store(out + i, v_load(out + i) * factor);
}

static inline __attribute__((always_inline)) void row_softmax(const fc_cpu_step *step, int32_t row, const int parts,
                                                              const bool is_masked)
{
    float *scores = step->scores + (ptrdiff_t)row * TILE_KEYS;
    float *sums = step->row_sum + (ptrdiff_t)row * FC_CPU_SUM_LANES;
    int32_t dim = out_stride(step->head_dim);
    int32_t begin = is_masked ? step->row_begin[row] - step->first_key : 0;
    int32_t end = is_masked ? step->row_end[row] - step->first_key : 0;
    float old_max = step->row_max[row];
    float new_max = row_largest(step, scores, begin, end, is_masked);
    if (new_max > old_max) {
        if (old_max > -__builtin_inff())
            rescale_row(old_max, new_max, sums, step->out + (ptrdiff_t)row * dim, dim);
        step->row_max[row] = new_max;
    } else {
        new_max = old_max;
    }
    /* Nothing but -inf so far: any finite maximum gives the zeros that are due. */
    vf base = v_set1(new_max > -__builtin_inff() ? new_max : 0.0f);
    vf sum = v_load(sums);
    for (int32_t key = step->key_begin; key < step->key_end; key += V_LANES) {
        vf p = exp2_vector(v_load(scores + key) - base);
        if (is_masked)
            p = v_select(seen_lanes(key, begin, end), p, (vf){0});
        sum += p;
        keep_weights(step, row, key, p, parts);
    }
    v_store(sums, sum);
}

static inline __attribute__((always_inline)) void softmax_rows(const fc_cpu_step *step, const int parts)
{
    for (int32_t row = 0; row < step->rows; row++) {
        if (step->is_masked)
            row_softmax(step, row, parts, true);
        else
            row_softmax(step, row, parts, false);
    }
}

static void tile_finish(const float *out, float inverse_sum, fc_dtype dtype, int32_t head_dim, void *to)
{
    float row[FC_HEAD_DIM_MAX] __attribute__((aligned(64)));
    for (int32_t i = 0; i < head_dim; i += V_LANES)
        v_store(row + i, v_load(out + i) * inverse_sum);
    narrow(row, dtype, head_dim, to);
}

#endif
