/* The online-softmax step over a group's scores, and what it needs of mathematics: written once over vectors, compiled
 * per instruction set. Everything here is static.
 *
 * The including file has defined V_LANES, included kernels/cpu_vector.h, and then defined
 *   SCORE_STRIDE              floats from one row of scores to the next
 *   v_fma(a, b, c)            a * b + c
 *   v_max(a, b)               the larger; b where either is NaN
 *   v_floor_fraction(x, &f)   splits x = n + f, n whole, 0 <= f <= 1, and returns something that stands for n
 *   v_scale(p, n)             p * 2^n for that something; 0 where it underflows or x was -inf; NaN where x was
 *   transpose(from, from_stride, to, to_stride)   V_LANES x V_LANES floats
 *   narrow(from, dtype, count, to)     f32 to dtype, count a multiple of 8, any alignment of `to`
 *   keep_weights(step, row, key, p0, p1, parts)   stores two vectors of P where accumulate() wants them
 *   out_stride(head_dim)               floats from one row of out to the next
 */
#ifndef FC_KERNELS_CPU_SOFTMAX_H
#define FC_KERNELS_CPU_SOFTMAX_H

#include "kernels/cpu_isa.h"
#include "kernels/cpu_vector.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define MINUS_INFINITY (-__builtin_inff())

_Static_assert(FC_CPU_SUM_LANES % V_LANES == 0, "a row's sum holds whole vectors");

/* --- exponential and tanh ----------------------------------------------------------------------------------------- */

/* 2^f on [0, 1]: minimax for the relative error (Remez) with the constant held at 1, so that a row's largest score has
 * weight 1. Degree 6: 4e-9 before rounding, degree 5: 1.5e-7 of either sign, for weights that bf16 rounds anyway. */
ALWAYS_INLINE vf exp2_fraction(vf f, const int degree)
{
    vf p;
    if (degree == 5) {
        p = v_set1(0x1.f0ca80p-10f);
        p = v_fma(p, f, v_set1(0x1.2598fep-7f));
        p = v_fma(p, f, v_set1(0x1.c968a0p-5f));
        p = v_fma(p, f, v_set1(0x1.ebd7d2p-3f));
        p = v_fma(p, f, v_set1(0x1.62e4b8p-1f));
    } else {
        p = v_set1(0x1.cacdf6p-13f);
        p = v_fma(p, f, v_set1(0x1.451814p-10f));
        p = v_fma(p, f, v_set1(0x1.3d3bd4p-7f));
        p = v_fma(p, f, v_set1(0x1.c68510p-5f));
        p = v_fma(p, f, v_set1(0x1.ebfd6cp-3f));
        p = v_fma(p, f, v_set1(0x1.62e42cp-1f));
    }
    return v_fma(p, f, v_set1(1.0f));
}

ALWAYS_INLINE vf exp2_vector(vf x, const int degree)
{
    vf f;
    vf whole = v_floor_fraction(x, &f);
    return v_scale(exp2_fraction(f, degree), whole);
}

/* Odd series near 0 (where the quotient would cancel), 1 - 2 / (e^2x + 1) elsewhere. */
static inline vf tanh_vector(vf x)
{
    vu sign = v_bits(x) & 0x80000000u;
    vf magnitude = v_from_bits(v_bits(x) & 0x7fffffffu);
    vf z = x * x;
    vf series = v_fma(z, v_set1(-5.70498872745e-3f), v_set1(2.06390887954e-2f));
    series = v_fma(series, z, v_set1(-5.37397155531e-2f));
    series = v_fma(series, z, v_set1(1.33314422036e-1f));
    series = v_fma(series, z, v_set1(-3.33332819422e-1f));
    series = v_fma(series * z, x, x);
    /* Capped where tanh is 1 in f32 already; the cap keeps e^2x finite. A NaN passes through v_max's second operand. */
    vf capped = -v_max(v_set1(-20.0f), -magnitude);
    vf quotient = 1.0f - 2.0f / (exp2_vector(capped * 2.8853900817779268f, 6) + 1.0f);
    quotient = v_from_bits(v_bits(quotient) | sign);
    return v_select(magnitude < 0.625f, series, quotient);
}

/* --- the step ------------------------------------------------------------------------------------------------------
 * Row by row the largest score; then, for V_LANES rows at a time, the new running maxima; then row by row the weights.
 * So no row waits for its own horizontal maximum. */

/* Which keys a row sees, counted from the tile's first. */
typedef struct span {
    int32_t begin, end;
} span;

static inline span row_span(const fc_cpu_step *step, int32_t row)
{
    return (span){step->row_begin[row] - step->first_key, step->row_end[row] - step->first_key};
}

/* All ones in the lanes of the vector at `key` that the row sees. */
static inline vi seen_lanes(int32_t key, span seen)
{
    vi index = v_lane_index() + key;
    return (index >= seen.begin) & (index < seen.end);
}

/* Keys [key, key + V_LANES) are all seen: what nearly every vector of a masked group turns out to be. */
static inline bool sees_all(int32_t key, span seen)
{
    return key >= seen.begin && key + V_LANES <= seen.end;
}

/* s = softcap * tanh(...), in place and in log2 units. */
static void cap_scores(const fc_cpu_step *step)
{
    for (int32_t row = 0; row < step->rows; row++) {
        float *scores = step->scores + (ptrdiff_t)row * SCORE_STRIDE;
        for (int32_t key = step->key_begin; key < step->key_end; key += V_LANES)
            v_store(scores + key, tanh_vector(v_load(scores + key) * step->scaling->inner) * step->scaling->factor);
    }
}

/* The largest score of each lane. */
ALWAYS_INLINE vf row_best(const fc_cpu_step *step, int32_t row, const bool is_masked)
{
    const float *scores = step->scores + (ptrdiff_t)row * SCORE_STRIDE;
    const int32_t end = step->key_end;
    vf best0 = v_set1(MINUS_INFINITY), best1 = best0;
    if (!is_masked) {
        for (int32_t key = step->key_begin; key < end; key += 2 * V_LANES) {
            best0 = v_max(v_load(scores + key), best0);
            best1 = v_max(v_load(scores + key + V_LANES), best1);
        }
        return v_max(best0, best1);
    }
    span seen = row_span(step, row);
    for (int32_t key = step->key_begin; key < end; key += V_LANES) {
        vf s = v_load(scores + key);
        if (!sees_all(key, seen))
            s = v_select(seen_lanes(key, seen), s, v_set1(MINUS_INFINITY));
        best0 = v_max(s, best0);
    }
    return best0;
}

/* Folds a rise of the running maximum into what was summed under the old one. */
static void rescale_row(const fc_cpu_step *step, int32_t row, float factor)
{
    float *sums = step->row_sum + (ptrdiff_t)row * FC_CPU_SUM_LANES;
    int32_t stride = out_stride(step->head_dim);
    float *out = step->out + (ptrdiff_t)row * stride;
    for (int32_t i = 0; i < FC_CPU_SUM_LANES; i += V_LANES)
        v_store(sums + i, v_load(sums + i) * factor);
    for (int32_t i = 0; i < stride; i += V_LANES)
        v_store(out + i, v_load(out + i) * factor);
}

/* Raises the running maxima of rows [first, first + V_LANES), rescales what has to be, and writes to base what is to be
 * taken from each row's scaled scores. */
ALWAYS_INLINE void raise_maxima(const fc_cpu_step *step, int32_t first, float factor, const bool is_masked, float *base)
{
    float best[V_LANES * V_LANES] __attribute__((aligned(64))), turned[V_LANES * V_LANES] __attribute__((aligned(64)));
    float rescale[V_LANES] __attribute__((aligned(64)));
    int32_t count = step->rows - first < V_LANES ? step->rows - first : V_LANES;
    for (int32_t i = 0; i < V_LANES; i++)
        v_store(best + i * V_LANES, i < count ? row_best(step, first + i, is_masked) : v_set1(MINUS_INFINITY));
    transpose(best, V_LANES, turned, V_LANES);
    vf largest = v_load(turned);
    for (int32_t i = 1; i < V_LANES; i++)
        largest = v_max(v_load(turned + i * V_LANES), largest);
    vf old_max = v_load(step->row_max + first);
    vf new_max = v_max(largest * factor, old_max);
    v_store(step->row_max + first, new_max);
    /* Nothing but -inf so far: any finite number gives the zeros that are due. */
    v_store(base, v_select(new_max == MINUS_INFINITY, (vf){0}, new_max));
    vi has_risen = (new_max > old_max) & (old_max > MINUS_INFINITY);
    v_store(rescale, v_select(has_risen, exp2_vector(old_max - new_max, 6), v_set1(1.0f)));
    for (int32_t i = 0; i < count; i++) {
        if (rescale[i] != 1.0f)
            rescale_row(step, first + i, rescale[i]);
    }
}

/* One vector of weights, 2^(s * factor - base). The product is rounded by itself, as it was in base: then the largest
 * score has weight 1 exactly, whatever its size. */
ALWAYS_INLINE vf weights_of(const float *scores, vf factor, vf base, const int degree)
{
    return exp2_vector(v_load(scores) * factor - base, degree);
}

ALWAYS_INLINE void row_weights(const fc_cpu_step *step, int32_t row, vf factor, vf base, const int parts,
                               const int degree, const bool is_masked)
{
    const float *scores = step->scores + (ptrdiff_t)row * SCORE_STRIDE;
    float *sums = step->row_sum + (ptrdiff_t)row * FC_CPU_SUM_LANES;
    const int32_t end = step->key_end;
    const span seen = is_masked ? row_span(step, row) : (span){0, 0};
    vf sum = v_load(sums);
    for (int32_t key = step->key_begin; key < end; key += 2 * V_LANES) {
        vf p0 = weights_of(scores + key, factor, base, degree);
        vf p1 = weights_of(scores + key + V_LANES, factor, base, degree);
        if (is_masked && !sees_all(key, seen))
            p0 = v_select(seen_lanes(key, seen), p0, (vf){0});
        if (is_masked && !sees_all(key + V_LANES, seen))
            p1 = v_select(seen_lanes(key + V_LANES, seen), p1, (vf){0});
        sum += p0;
        sum += p1;
        keep_weights(step, row, key, p0, p1, parts);
    }
    v_store(sums, sum);
}

ALWAYS_INLINE void softmax_group(const fc_cpu_step *step, const int parts, const int degree, const bool is_masked)
{
    float factor = step->scaling->inner == 0.0f ? step->scaling->factor : 1.0f;
    for (int32_t first = 0; first < step->rows; first += V_LANES) {
        float base[V_LANES] __attribute__((aligned(64)));
        raise_maxima(step, first, factor, is_masked, base);
        for (int32_t row = first; row < step->rows && row < first + V_LANES; row++)
            row_weights(step, row, v_set1(factor), v_set1(base[row - first]), parts, degree, is_masked);
    }
}

ALWAYS_INLINE void softmax_rows(const fc_cpu_step *step, const int parts, const int degree)
{
    if (step->scaling->inner != 0.0f)
        cap_scores(step);
    if (step->is_masked)
        softmax_group(step, parts, degree, true);
    else
        softmax_group(step, parts, degree, false);
}

/* --- the end of a group ------------------------------------------------------------------------------------------- */

/* ln of a normal number >= 1 (Cephes' logf: the mantissa in [sqrt(1/2), sqrt(2)), ln 2 in two parts); NaN for NaN. */
static inline vf log_vector(vf x)
{
    vi exponent = (vi)(v_bits(x) - 0x3f3504f3u) >> 23;
    vf f = v_from_bits(v_bits(x) - ((vu)exponent << 23)) - 1.0f;
    vf n = __builtin_convertvector(exponent, vf);
    vf p = v_set1(7.0376836292e-2f);
    p = v_fma(p, f, v_set1(-1.1514610310e-1f));
    p = v_fma(p, f, v_set1(1.1676998740e-1f));
    p = v_fma(p, f, v_set1(-1.2420140846e-1f));
    p = v_fma(p, f, v_set1(1.4249322787e-1f));
    p = v_fma(p, f, v_set1(-1.6668057665e-1f));
    p = v_fma(p, f, v_set1(2.0000714765e-1f));
    p = v_fma(p, f, v_set1(-2.4999993993e-1f));
    p = v_fma(p, f, v_set1(3.3333331174e-1f));
    vf square = f * f;
    vf low = v_fma(p * f, square, n * -2.12194440e-4f);
    low = v_fma(square, v_set1(-0.5f), low);
    vf value = v_fma(n, v_set1(0.693359375f), f + low);
    return v_select(x == x, value, x);
}

/* The sums of V_LANES rows' lanes, one row a lane. */
static inline vf sum_rows(const float *row_sum)
{
    float turned[V_LANES * V_LANES] __attribute__((aligned(64)));
    vf sum = {0};
    for (int32_t part = 0; part < FC_CPU_SUM_LANES; part += V_LANES) {
        transpose(row_sum + part, FC_CPU_SUM_LANES, turned, V_LANES);
        for (int32_t i = 0; i < V_LANES; i++)
            sum += v_load(turned + i * V_LANES);
    }
    return sum;
}

static void finish_row(const float *out, float inverse, fc_dtype dtype, int32_t head_dim, void *to)
{
    float row[FC_HEAD_DIM_MAX] __attribute__((aligned(64)));
    for (int32_t i = 0; i < head_dim; i += V_LANES)
        v_store(row + i, v_load(out + i) * inverse);
    narrow(row, dtype, head_dim, to);
}

static void tile_finish(const fc_cpu_result *result)
{
    int32_t stride = out_stride(result->head_dim);
    float unit = (float)result->max_unit, unit_rest = (float)(result->max_unit - (double)unit);
    for (int32_t first = 0; first < result->rows; first += V_LANES) {
        float inverse[V_LANES] __attribute__((aligned(64)));
        vf sum = sum_rows(result->row_sum + (ptrdiff_t)first * FC_CPU_SUM_LANES);
        vf row_max = v_load(result->row_max + first);
        vi is_empty = sum == 0.0f;
        vf lse = v_fma(row_max, v_set1(unit), v_fma(row_max, v_set1(unit_rest), log_vector(sum)));
        v_store(result->lse + first, v_select(is_empty, v_set1(MINUS_INFINITY), lse));
        v_store(inverse, v_select(is_empty, (vf){0}, 1.0f / sum));
        for (int32_t row = first; row < result->rows && row < first + V_LANES; row++)
            finish_row(result->out + (ptrdiff_t)row * stride, inverse[row - first], result->dtype, result->head_dim,
                       result->to[row]);
    }
}

#endif
