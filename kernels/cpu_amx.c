/* The tile steps on AMX: bf16 tiles of 16 x 32 multiplied into f32 tiles of 16 x 16, softmax on AVX-512 between them.
 *
 * bf16 goes in as it is. An f16 is the exact sum of two bf16 (11 bits of mantissa in 8 + 3), an f32 of three (24 in
 * 8 + 8 + 8, each part rounded to nearest from what the ones before left): `parts`. A product of numbers is then the
 * sum of the products of their parts, all accumulated in f32, smallest first; for f32 the three products below 2^-24 of
 * the largest are left out, the rounding a plain f32 product has too. Six passes of bf16 tiles are still 2.4 times as
 * fast as f32 multiply-adds on two ports.
 *
 * The tile unit treats bf16 subnormals as zero, and a visible infinity in f16 or f32 comes out as NaN, as its parts
 * cancel.
 *
 * Packed layouts, all in tiles of 1 KiB a tile load reads in one go (pair: two neighbours along the summed axis):
 *   q  [group][part][dim / 32][32 rows][32 dims]
 *   k  [part][key / 16][dim / 32][16 dim pairs][16 keys][2]
 *   v  [part][dim / 16][key / 32][16 key pairs][16 dims][2]
 *   P  behind the scores, [part][key / 32][32 rows][32 keys]
 */
#include "kernels/cpu_isa.h"

#ifdef __x86_64__
#include "kernels/cpu_avx512_vector.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TILE_KEYS 256
/* A cache line more than a power of two, or the rows of a group would fall into few sets of L1. */
#define SCORE_STRIDE (TILE_KEYS + 16)
#define TILE_GROUP 32
#define TILE_BYTES 1024
#define TILE_ROW_BYTES 64
#define PARTS_MAX 3

static inline int32_t out_stride(int32_t head_dim)
{
    return (head_dim + 31) / 32 * 32;
}

/* The next bf16 part of two vectors: rounds, and takes away what the part holds. */
static inline __m512i take_part(vf *low, vf *high)
{
    __m512i part = (__m512i)_mm512_cvtne2ps_pbh(*high, *low);
    *low -= (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(part)), 16);
    *high -= (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(part, 1)), 16);
    return part;
}

/* Upper halves of 32 floats. */
static inline __m512i upper_halves(vf low, vf high)
{
    const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25,
                                         23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_permutex2var_epi16((__m512i)low, odd, (__m512i)high);
}

/* Weights as bf16: rounded where one part is all there is, else cut into parts of eight bits, which takes fewer
 * instructions than rounding each and is exact for three. */
static inline void keep_weights(const fc_cpu_step *step, int32_t row, int32_t key, vf p0, vf p1, const int parts)
{
    const ptrdiff_t part_elements = TILE_GROUP * TILE_KEYS;
    uint16_t *to = (uint16_t *)(step->scores + TILE_GROUP * SCORE_STRIDE) + (ptrdiff_t)key * TILE_GROUP + row * 32;
    if (parts == 1) {
        _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(p1, p0));
        return;
    }
    for (int part = 0; part < parts; part++) {
        _mm512_store_si512(to + part * part_elements, upper_halves(p0, p1));
        p0 -= v_from_bits(v_bits(p0) & 0xffff0000u);
        p1 -= v_from_bits(v_bits(p1) & 0xffff0000u);
    }
}

#include "kernels/cpu_softmax.h"

/* --- packing ------------------------------------------------------------------------------------------------------ */

typedef struct strip {
    __m512i part[PARTS_MAX]; /* 32 elements each */
} strip;

/* Elements [dim, dim + 32) of a row, zero past head_dim or where the row is missing. */
static inline strip load_strip(const fc_cpu_rows *rows, int32_t row, int32_t dim, const int parts)
{
    strip s = {{_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()}};
    int32_t left = rows->head_dim - dim;
    if (row >= rows->count || left <= 0)
        return s;
    __mmask32 live = left >= 32 ? 0xffffffffu : (1u << left) - 1u;
    const char *from = (const char *)rows->row[row] + (size_t)dim * (rows->dtype == FC_F32 ? 4 : 2);
    vf low, high;
    if (parts == 1) {
        s.part[0] = _mm512_maskz_loadu_epi16(live, from);
        return s;
    }
    if (parts == 2) {
        __m512i halves = _mm512_maskz_loadu_epi16(live, from);
        low = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
        high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
    } else {
        low = _mm512_maskz_loadu_ps((__mmask16)live, from);
        high = _mm512_maskz_loadu_ps((__mmask16)(live >> 16), from + 64);
    }
    for (int part = 0; part < parts; part++)
        s.part[part] = take_part(&low, &high);
    return s;
}

ALWAYS_INLINE void pack_q(const fc_cpu_rows *rows, void *packed, const int parts)
{
    int32_t dim_count = out_stride(rows->head_dim);
    for (int32_t dim = 0; dim < dim_count; dim += 32) {
        for (int32_t row = 0; row < TILE_GROUP; row++) {
            strip s = load_strip(rows, row, dim, parts);
            for (int part = 0; part < parts; part++)
                _mm512_store_si512((uint16_t *)packed + (part * dim_count + dim) * TILE_GROUP + row * 32, s.part[part]);
        }
    }
}

/* 16 keys x 16 dim pairs change places. */
ALWAYS_INLINE void pack_k(const fc_cpu_rows *rows, void *packed, const int parts)
{
    int32_t dim_count = out_stride(rows->head_dim);
    for (int32_t key = 0; key < (rows->count + 31) / 32 * 32; key += 16) {
        for (int32_t dim = 0; dim < dim_count; dim += 32) {
            __m512 block[PARTS_MAX][16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) {
                strip s = load_strip(rows, key + i, dim, parts);
                for (int part = 0; part < parts; part++)
                    block[part][i] = (__m512)s.part[part];
            }
            for (int part = 0; part < parts; part++) {
                uint16_t *to = (uint16_t *)packed + part * TILE_KEYS * dim_count + key * dim_count + dim * 16;
                transpose_registers(block[part]);
#pragma GCC unroll 16
                for (int i = 0; i < 16; i++)
                    _mm512_store_ps(to + i * 32, block[part][i]);
            }
        }
    }
}

/* Two keys side by side, element by element. */
ALWAYS_INLINE void pack_v(const fc_cpu_rows *rows, void *packed, const int parts)
{
    const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                           37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    int32_t dim_count = out_stride(rows->head_dim);
    for (int32_t key = 0; key < (rows->count + 31) / 32 * 32; key += 2) {
        for (int32_t dim = 0; dim < dim_count; dim += 32) {
            strip even = load_strip(rows, key, dim, parts), odd = load_strip(rows, key + 1, dim, parts);
            for (int part = 0; part < parts; part++) {
                uint16_t *to = (uint16_t *)packed + (part * dim_count + dim) * TILE_KEYS + key * 16;
                _mm512_store_si512(to, _mm512_permutex2var_epi16(even.part[part], first, odd.part[part]));
                _mm512_store_si512(to + 16 * TILE_KEYS,
                                   _mm512_permutex2var_epi16(even.part[part], second, odd.part[part]));
            }
        }
    }
}

/* --- products ----------------------------------------------------------------------------------------------------- */

/* Which part of the left meets which of the right. Neighbours share a part where they can, so that its tiles stay; the
 * last, and largest, is part 0 with itself. */
typedef struct pair {
    int8_t left, right;
} pair;

static const pair score_pairs_1[] = {{0, 0}}, score_pairs_2[] = {{1, 0}, {1, 1}, {0, 1}, {0, 0}},
                  score_pairs_3[] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}};
/* The same for P . V, but that f16's output has no room for low x low, 2^-17 of the result. */
static const pair out_pairs_1[] = {{0, 0}}, out_pairs_2[] = {{1, 0}, {0, 0}, {0, 1}},
                  out_pairs_3[] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}};

/* Operands of one step along the summed axis: tiles of part p at base + p * part_bytes, the second tile (rows 16 to 31,
 * or columns 16 to 31) `second` further. */
typedef struct operand {
    const char *base;
    ptrdiff_t part_bytes, second;
} operand;

/* Tiles 0 to 3 += left (4, 5: rows) x right (6, 7: columns), for pairs [first, end). */
ALWAYS_INLINE void multiply_pairs(operand left, operand right, const pair *pairs, const int first, const int end,
                                  const bool is_tall)
{
#pragma GCC unroll 6
    for (int i = first; i < end; i++) {
        const char *l = left.base + pairs[i].left * left.part_bytes;
        const char *r = right.base + pairs[i].right * right.part_bytes;
        if (i == first || pairs[i].left != pairs[i - 1].left)
            _tile_loadd(4, l, TILE_ROW_BYTES);
        if (i == first || pairs[i].right != pairs[i - 1].right) {
            _tile_loadd(6, r, TILE_ROW_BYTES);
            _tile_loadd(7, r + right.second, TILE_ROW_BYTES);
        }
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (is_tall) {
            if (i == first || pairs[i].left != pairs[i - 1].left)
                _tile_loadd(5, l + left.second, TILE_ROW_BYTES);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
}

/* The small products of all dims first, then the large ones: half the roundings happen where they are small. */
ALWAYS_INLINE void scores(const fc_cpu_step *step, const pair *pairs, const int pair_count, const bool is_tall)
{
    const ptrdiff_t stride = SCORE_STRIDE * sizeof(float);
    ptrdiff_t dim_count = out_stride(step->head_dim), k_block = dim_count * 16 * 2;
    for (int32_t key = step->key_begin; key < step->key_end; key += 32) {
        operand q = {step->q, dim_count * TILE_GROUP * 2, TILE_BYTES};
        operand k = {(const char *)step->k + key / 16 * k_block, dim_count * TILE_KEYS * 2, k_block};
        float *to = step->scores + key;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (ptrdiff_t dim = 0; pair_count > 1 && dim < dim_count; dim += 32) {
            multiply_pairs(q, k, pairs, 0, pair_count - 1, is_tall);
            q.base += 2 * TILE_BYTES;
            k.base += TILE_BYTES;
        }
        q.base = step->q;
        k.base = (const char *)step->k + key / 16 * k_block;
        for (ptrdiff_t dim = 0; dim < dim_count; dim += 32) {
            multiply_pairs(q, k, pairs, pair_count - 1, pair_count, is_tall);
            q.base += 2 * TILE_BYTES;
            k.base += TILE_BYTES;
        }
        _tile_stored(0, to, stride);
        _tile_stored(1, to + 16, stride);
        if (is_tall) {
            _tile_stored(2, to + 16 * SCORE_STRIDE, stride);
            _tile_stored(3, to + 16 * SCORE_STRIDE + 16, stride);
        }
    }
}

ALWAYS_INLINE void accumulate(const fc_cpu_step *step, const pair *pairs, const int pair_count, const bool is_tall)
{
    ptrdiff_t dim_count = out_stride(step->head_dim), stride = dim_count * 4, v_block = TILE_KEYS * 16 * 2;
    const char *weights = (const char *)(step->scores + TILE_GROUP * SCORE_STRIDE);
    for (int32_t dim = 0; dim < dim_count; dim += 32) {
        operand p = {weights + step->key_begin / 32 * 2 * TILE_BYTES, TILE_GROUP * TILE_KEYS * 2, TILE_BYTES};
        operand v = {(const char *)step->v + dim / 16 * v_block + step->key_begin / 32 * TILE_BYTES,
                     dim_count * TILE_KEYS * 2, v_block};
        float *to = step->out + dim;
        _tile_loadd(0, to, stride);
        _tile_loadd(1, to + 16, stride);
        if (is_tall) {
            _tile_loadd(2, to + 16 * dim_count, stride);
            _tile_loadd(3, to + 16 * dim_count + 16, stride);
        }
        for (int32_t key = step->key_begin; key < step->key_end; key += 32) {
            multiply_pairs(p, v, pairs, 0, pair_count, is_tall);
            p.base += 2 * TILE_BYTES;
            v.base += TILE_BYTES;
        }
        _tile_stored(0, to, stride);
        _tile_stored(1, to + 16, stride);
        if (is_tall) {
            _tile_stored(2, to + 16 * dim_count, stride);
            _tile_stored(3, to + 16 * dim_count + 16, stride);
        }
    }
}

/* --- one set of functions per count of parts ---------------------------------------------------------------------- */

#define AMX_FUNCTIONS(n)                                                                                               \
    static void pack_q_##n(const fc_cpu_rows *rows, void *packed)                                                      \
    {                                                                                                                  \
        pack_q(rows, packed, n);                                                                                       \
    }                                                                                                                  \
    static void pack_k_##n(const fc_cpu_rows *rows, void *packed)                                                      \
    {                                                                                                                  \
        pack_k(rows, packed, n);                                                                                       \
    }                                                                                                                  \
    static void pack_v_##n(const fc_cpu_rows *rows, void *packed)                                                      \
    {                                                                                                                  \
        pack_v(rows, packed, n);                                                                                       \
    }                                                                                                                  \
    static void scores_##n(const fc_cpu_step *step)                                                                    \
    {                                                                                                                  \
        if (step->rows > 16)                                                                                           \
            scores(step, score_pairs_##n, sizeof score_pairs_##n / sizeof(pair), true);                                \
        else                                                                                                           \
            scores(step, score_pairs_##n, sizeof score_pairs_##n / sizeof(pair), false);                               \
    }                                                                                                                  \
    static void softmax_##n(const fc_cpu_step *step)                                                                   \
    {                                                                                                                  \
        softmax_rows(step, n, (n) == 3 ? 6 : 5);                                                                       \
    }                                                                                                                  \
    static void accumulate_##n(const fc_cpu_step *step)                                                                \
    {                                                                                                                  \
        if (step->rows > 16)                                                                                           \
            accumulate(step, out_pairs_##n, sizeof out_pairs_##n / sizeof(pair), true);                                \
        else                                                                                                           \
            accumulate(step, out_pairs_##n, sizeof out_pairs_##n / sizeof(pair), false);                               \
    }                                                                                                                  \
    static const fc_cpu_kernels kernels_##n = {.row_step = TILE_GROUP,                                                 \
                                               .key_tile = TILE_KEYS,                                                  \
                                               .key_step = 32,                                                         \
                                               .dim_step = 32,                                                         \
                                               .part_count = n,                                                        \
                                               .packed_bytes = 2,                                                      \
                                               .scores_bytes = TILE_GROUP * (SCORE_STRIDE * 4 + TILE_KEYS * 2 * n),    \
                                               .pack_q = pack_q_##n,                                                   \
                                               .pack_k = pack_k_##n,                                                   \
                                               .pack_v = pack_v_##n,                                                   \
                                               .scores = scores_##n,                                                   \
                                               .softmax = softmax_##n,                                                 \
                                               .accumulate = accumulate_##n,                                           \
                                               .finish = tile_finish,                                                  \
                                               .enter = load_tile_shapes,                                              \
                                               .leave = release_tiles};

/* All eight tiles: 16 rows of 64 bytes. Constant memory, because the intrinsic tells the compiler of 8 bytes only. */
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

static void load_tile_shapes(void)
{
    _tile_loadconfig(&tile_shapes);
}

static void release_tiles(void)
{
    _tile_release();
}

AMX_FUNCTIONS(1)
AMX_FUNCTIONS(2)
AMX_FUNCTIONS(3)

/* --- may we? ------------------------------------------------------------------------------------------------------ */

static bool may_use_tiles;

/* Linux hands out the tile registers on request, for the whole process and for good. */
static void ask_for_tiles(void)
{
    const long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    may_use_tiles = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static bool has_amx_bf16(void)
{
    unsigned a, b, c, d;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
    return (d >> 22 & 1) != 0 && (d >> 24 & 1) != 0;
}

static bool is_supported(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bf16") || !has_amx_bf16())
        return false;
    pthread_once(&once, ask_for_tiles);
    return may_use_tiles;
}

const fc_cpu_isa fc_cpu_isa_amx = {.name = "amx",
                                   .is_supported = is_supported,
                                   .kernels = {[FC_F16] = &kernels_2, [FC_BF16] = &kernels_1, [FC_F32] = &kernels_3}};

#else

static bool is_supported(void)
{
    return false;
}

const fc_cpu_isa fc_cpu_isa_amx = {.name = "amx", .is_supported = is_supported};

#endif
