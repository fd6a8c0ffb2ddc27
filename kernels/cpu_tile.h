/* The steps of a tile in f32, written once over vectors and compiled per instruction set: packing, the register-blocked
 * product, the online-softmax step. Everything here is static.
 *
 * The including file has defined V_LANES, included kernels/cpu_vector.h, and then defined
 *   TILE_ROWS x TILE_COLUMNS  the micro-kernel's register block, rows x vectors
 *   TILE_KEYS, TILE_GROUP     keys of a tile, rows of a group (multiples of the block)
 *   v_fma(a, b, c)            a * b + c
 *   v_max(a, b)               the larger; b where either is NaN
 *   v_scale_fraction(x, &f)   splits x = n + f, n whole, |f| <= 1/2
 *   v_scale(p, x)             p * 2^n for the same n; 0 where that underflows or x is -inf; NaN where x is
 *   widen(from, dtype, count, to), narrow(from, dtype, count, to)   count a multiple of 8, any alignment of 16-bit data
 *   transpose(from, from_stride, to, to_stride)                     V_LANES x V_LANES floats
 *
 * Packed f32 layouts, P = TILE_COLUMNS * V_LANES:
 *   q  [row][padded head_dim]
 *   k  [key / P][padded head_dim][P]: a panel is what the micro-kernel streams, P keys side by side
 *   v  [dim / P][key][P], the last panel narrower
 */
#ifndef FC_KERNELS_CPU_TILE_H
#define FC_KERNELS_CPU_TILE_H

#include "kernels/cpu_isa.h"
#include "kernels/cpu_vector.h"

#define TILE_PANEL (TILE_COLUMNS * V_LANES)

_Static_assert(TILE_KEYS % TILE_PANEL == 0, "a tile holds whole panels");
_Static_assert(TILE_GROUP % TILE_ROWS == 0, "a group holds whole register blocks");
_Static_assert(FC_CPU_SUM_LANES % V_LANES == 0, "a row's sum holds whole vectors");

static inline int32_t padded_dim(int32_t head_dim)
{
    return (head_dim + V_LANES - 1) / V_LANES * V_LANES;
}

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

/* --- packing -------------------------------------------------------------------------------------------------------
 */

/* One row in f32, zero up to padded_dim. */
static inline void pack_row(const fc_cpu_rows *rows, int32_t row, float *to)
{
    widen(rows->row[row], rows->dtype, rows->head_dim, to);
    for (int32_t i = rows->head_dim; i < padded_dim(rows->head_dim); i++)
        to[i] = 0.0f;
}

static void tile_pack_q(const fc_cpu_rows *rows, void *packed)
{
    float *to = packed;
    int32_t dim = padded_dim(rows->head_dim);
    for (int32_t row = 0; row < rows->count; row++)
        pack_row(rows, row, to + (ptrdiff_t)row * dim);
    memset(to + (ptrdiff_t)rows->count * dim, 0, (size_t)(TILE_GROUP - rows->count) * (size_t)dim * sizeof *to);
}

static void tile_pack_k(const fc_cpu_rows *rows, void *packed)
{
    float *to = packed;
    float strip[V_LANES * FC_HEAD_DIM_MAX] __attribute__((aligned(64)));
    int32_t dim = padded_dim(rows->head_dim);
    for (int32_t key = 0; key < TILE_KEYS; key += V_LANES) {
        float *panel = to + (ptrdiff_t)(key / TILE_PANEL) * dim * TILE_PANEL + key % TILE_PANEL;
        for (int32_t lane = 0; lane < V_LANES; lane++) {
            if (key + lane < rows->count)
                pack_row(rows, key + lane, strip + lane * dim);
            else
                memset(strip + lane * dim, 0, (size_t)dim * sizeof *strip);
        }
        for (int32_t d = 0; d < dim; d += V_LANES)
            transpose(strip + d, dim, panel + (ptrdiff_t)d * TILE_PANEL, TILE_PANEL);
    }
}

static void tile_pack_v(const fc_cpu_rows *rows, void *packed)
{
    float *to = packed;
    float row[FC_HEAD_DIM_MAX] __attribute__((aligned(64)));
    int32_t dim = padded_dim(rows->head_dim);
    for (int32_t key = 0; key < TILE_KEYS; key++) {
        if (key < rows->count)
            pack_row(rows, key, row);
        else if (key == rows->count)
            memset(row, 0, sizeof row);
        for (int32_t first = 0; first < dim; first += TILE_PANEL) {
            int32_t width = dim - first < TILE_PANEL ? dim - first : TILE_PANEL;
            memcpy(to + (ptrdiff_t)first * TILE_KEYS + (ptrdiff_t)key * width, row + first,
                   (size_t)width * sizeof *row);
        }
    }
}

/* --- the micro-kernel ----------------------------------------------------------------------------------------------
 * c[TILE_ROWS][columns vectors] = (or +=) a[TILE_ROWS][depth] . b[depth][columns vectors]; one sum per element, in
 * order of depth, so that a row's result does not depend on the block it is computed in. */
typedef struct product {
    const float *a, *b;
    float *c;
    int64_t a_stride, b_stride, c_stride;
    int32_t depth;
} product;

static inline __attribute__((always_inline)) void multiply_block(const product *p, const int columns, const bool adds)
{
    vf sum[TILE_ROWS][TILE_COLUMNS];
    const float *a = p->a, *b = p->b;
    const int64_t a_stride = p->a_stride, b_stride = p->b_stride;
#pragma GCC unroll 8
    for (int r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 4
        for (int j = 0; j < columns; j++)
            sum[r][j] = adds ? v_load(p->c + r * p->c_stride + j * V_LANES) : (vf){0};
    for (int32_t d = 0; d < p->depth; d++, b += b_stride) {
        vf right[TILE_COLUMNS];
#pragma GCC unroll 4
        for (int j = 0; j < columns; j++)
            right[j] = v_load(b + j * V_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; r++) {
            vf left = v_set1(a[r * a_stride + d]);
#pragma GCC unroll 4
            for (int j = 0; j < columns; j++)
                sum[r][j] = v_fma(left, right[j], sum[r][j]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 4
        for (int j = 0; j < columns; j++)
            v_store(p->c + r * p->c_stride + j * V_LANES, sum[r][j]);
}

/* columns < TILE_COLUMNS only for the last panel of V. */
static void add_narrow(const product *p, int32_t columns)
{
    switch (columns) {
    case 1:
        multiply_block(p, 1, true);
        break;
    case 2:
        multiply_block(p, 2, true);
        break;
#if TILE_COLUMNS > 2
    case 3:
        multiply_block(p, 3, true);
        break;
#endif
    default:
        multiply_block(p, TILE_COLUMNS, true);
        break;
    }
}

static void tile_scores(const fc_cpu_step *step)
{
    int32_t dim = padded_dim(step->head_dim);
    for (int32_t key = step->key_begin; key < step->key_end; key += TILE_PANEL) {
        for (int32_t row = 0; row < step->rows; row += TILE_ROWS) {
            product p = {.a = (const float *)step->q + (ptrdiff_t)row * dim,
                         .a_stride = dim,
                         .b = (const float *)step->k + (ptrdiff_t)key * dim,
                         .b_stride = TILE_PANEL,
                         .c = step->scores + (ptrdiff_t)row * TILE_KEYS + key,
                         .c_stride = TILE_KEYS,
                         .depth = step->head_dim};
            multiply_block(&p, TILE_COLUMNS, false);
        }
    }
}

static void tile_accumulate(const fc_cpu_step *step)
{
    int32_t dim = padded_dim(step->head_dim);
    for (int32_t first = 0; first < dim; first += TILE_PANEL) {
        int32_t width = dim - first < TILE_PANEL ? dim - first : TILE_PANEL;
        for (int32_t row = 0; row < step->rows; row += TILE_ROWS) {
            product p = {.a = step->scores + (ptrdiff_t)row * TILE_KEYS + step->key_begin,
                         .a_stride = TILE_KEYS,
                         .b =
                             (const float *)step->v + (ptrdiff_t)first * TILE_KEYS + (ptrdiff_t)step->key_begin * width,
                         .b_stride = width,
                         .c = step->out + (ptrdiff_t)row * dim + first,
                         .c_stride = dim,
                         .depth = step->key_end - step->key_begin};
            add_narrow(&p, width / V_LANES);
        }
    }
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

static inline __attribute__((always_inline)) void row_softmax(const fc_cpu_step *step, int32_t row,
                                                              const bool is_masked)
{
    float *scores = step->scores + (ptrdiff_t)row * TILE_KEYS;
    float *sums = step->row_sum + (ptrdiff_t)row * FC_CPU_SUM_LANES;
    int32_t dim = padded_dim(step->head_dim);
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
        v_store(scores + key, p);
    }
    v_store(sums, sum);
}

static void tile_softmax(const fc_cpu_step *step)
{
    for (int32_t row = 0; row < step->rows; row++) {
        if (step->is_masked)
            row_softmax(step, row, true);
        else
            row_softmax(step, row, false);
    }
}

static void tile_finish(const float *out, float inverse_sum, fc_dtype dtype, int32_t head_dim, void *to)
{
    float row[FC_HEAD_DIM_MAX] __attribute__((aligned(64)));
    for (int32_t i = 0; i < padded_dim(head_dim); i += V_LANES)
        v_store(row + i, v_load(out + i) * inverse_sum);
    narrow(row, dtype, head_dim, to);
}

#define TILE_KERNELS                                                                                                   \
    {                                                                                                                  \
        .row_step = TILE_GROUP, .key_tile = TILE_KEYS, .key_step = TILE_PANEL, .dim_step = V_LANES, .part_count = 1,   \
        .packed_bytes = sizeof(float), .pack_q = tile_pack_q, .pack_k = tile_pack_k, .pack_v = tile_pack_v,            \
        .scores = tile_scores, .softmax = tile_softmax, .accumulate = tile_accumulate, .finish = tile_finish           \
    }

#endif
