/* A tile in f32: packing and the register-blocked product, written once over vectors and compiled per instruction set;
 * brings kernels/cpu_softmax.h along. Everything here is static.
 *
 * The including file has defined V_LANES, included kernels/cpu_vector.h, and then defined
 *   TILE_ROWS x TILE_COLUMNS  the micro-kernel's register block, rows x vectors
 *   TILE_KEYS, TILE_GROUP     keys of a tile, rows of a group (multiples of the block)
 *   v_fma, v_max, v_floor_fraction, v_scale, narrow   as kernels/cpu_softmax.h says
 *   widen(from, dtype, count, to)               to f32, count a multiple of 8, any alignment of `from`
 *   transpose(from, from_stride, to, to_stride) V_LANES x V_LANES floats
 *
 * Packed layouts, P = TILE_COLUMNS * V_LANES:
 *   q  [row][padded head_dim]
 *   k  [key / P][padded head_dim][P]: a panel is what the micro-kernel streams, P keys side by side
 *   v  [dim / P][key][P], the last panel narrower
 */
#ifndef FC_KERNELS_CPU_TILE_H
#define FC_KERNELS_CPU_TILE_H

#include "kernels/cpu_isa.h"
#include "kernels/cpu_vector.h"

#define TILE_PANEL (TILE_COLUMNS * V_LANES)
/* A cache line more than a power of two, or the rows of a group would fall into few sets of L1. */
#define SCORE_STRIDE (TILE_KEYS + 16)

_Static_assert(TILE_KEYS % TILE_PANEL == 0, "a tile holds whole panels");
_Static_assert(TILE_GROUP % TILE_ROWS == 0, "a group holds whole register blocks");

static inline int32_t padded_dim(int32_t head_dim)
{
    return (head_dim + V_LANES - 1) / V_LANES * V_LANES;
}

static inline int32_t out_stride(int32_t head_dim)
{
    return padded_dim(head_dim);
}

static inline void keep_weights(const fc_cpu_step *step, int32_t row, int32_t key, vf p0, vf p1, const int parts)
{
    float *to = step->scores + (ptrdiff_t)row * SCORE_STRIDE + key;
    (void)parts;
    v_store(to, p0);
    v_store(to + V_LANES, p1);
}

#include "kernels/cpu_softmax.h"

/* --- packing ------------------------------------------------------------------------------------------------------ */

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

/* Keys a tile packs: the live ones, zeros up to the end of their panel. */
static inline int32_t packed_keys(const fc_cpu_rows *rows)
{
    return (rows->count + TILE_PANEL - 1) / TILE_PANEL * TILE_PANEL;
}

static void tile_pack_k(const fc_cpu_rows *rows, void *packed)
{
    float *to = packed;
    float strip[V_LANES * FC_HEAD_DIM_MAX] __attribute__((aligned(64)));
    int32_t dim = padded_dim(rows->head_dim);
    for (int32_t key = 0; key < packed_keys(rows); key += V_LANES) {
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
    for (int32_t key = 0; key < packed_keys(rows); key++) {
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

ALWAYS_INLINE void multiply_block(const product *p, const int columns, const bool adds)
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
                         .c = step->scores + (ptrdiff_t)row * SCORE_STRIDE + key,
                         .c_stride = SCORE_STRIDE,
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
            product p = {.a = step->scores + (ptrdiff_t)row * SCORE_STRIDE + step->key_begin,
                         .a_stride = SCORE_STRIDE,
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

static void tile_softmax(const fc_cpu_step *step)
{
    softmax_rows(step, 1, 6);
}

#define TILE_KERNELS                                                                                                   \
    {                                                                                                                  \
        .row_step = TILE_GROUP, .key_tile = TILE_KEYS, .key_step = TILE_PANEL, .dim_step = V_LANES, .part_count = 1,   \
        .packed_bytes = sizeof(float), .scores_bytes = TILE_GROUP * SCORE_STRIDE * sizeof(float),                      \
        .pack_q = tile_pack_q, .pack_k = tile_pack_k, .pack_v = tile_pack_v, .scores = tile_scores,                    \
        .softmax = tile_softmax, .accumulate = tile_accumulate, .finish = tile_finish                                  \
    }

#endif
