/* The tile steps on AVX2, FMA and F16C: 16 registers of eight lanes, so a 6 x 2 block and 3 left for operands. */
#include "kernels/cpu_isa.h"

#ifdef __x86_64__
#include <immintrin.h>

#define V_LANES 8
#define TILE_ROWS 6
#define TILE_COLUMNS 2
#define TILE_KEYS 128
#define TILE_GROUP 48
#include "kernels/cpu_vector.h"

static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

/* Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits; a half less makes that the floor, or for a
 * whole x perhaps the number below. */
static inline vf v_floor_fraction(vf x, vf *out_fraction)
{
    vf shifted = (x - 0.5f) + 0x1.8p23f;
    *out_fraction = x - (shifted - 0x1.8p23f);
    return _mm256_blendv_ps(shifted, v_set1(-__builtin_inff()), _mm256_cmp_ps(x, v_set1(-126.0f), _CMP_LT_OQ));
}

static inline vf v_scale(vf p, vf shifted)
{
    vf power = v_from_bits((v_bits(shifted) << 23) + 0x3f800000u);
    vf is_gone = _mm256_cmp_ps(shifted, v_set1(-__builtin_inff()), _CMP_EQ_OQ);
    return _mm256_andnot_ps(is_gone, p * power);
}

static void widen(const void *from, fc_dtype dtype, int32_t count, float *to)
{
    const char *bytes = from;
    if (dtype == FC_F32) {
        memcpy(to, from, (size_t)count * sizeof *to);
        return;
    }
    for (int32_t i = 0; i < count; i += 8) {
        __m128i half = _mm_loadu_si128((const __m128i *)(const void *)(bytes + 2 * (size_t)i));
        vf value = dtype == FC_F16 ? (vf)_mm256_cvtph_ps(half) : (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16);
        v_store(to + i, value);
    }
}

/* To bf16, nearest even; NaN becomes a quiet one. */
static inline __m128i to_bf16(__m256 value)
{
    __m256i bits = _mm256_castps_si256(value);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), is_nan);
    rounded = _mm256_srli_epi32(rounded, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

static void narrow(const float *from, fc_dtype dtype, int32_t count, void *to)
{
    char *bytes = to;
    if (dtype == FC_F32) {
        memcpy(to, from, (size_t)count * sizeof *from);
        return;
    }
    for (int32_t i = 0; i < count; i += 8) {
        __m256 value = v_load(from + i);
        __m128i half = dtype == FC_F16 ? _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT) : to_bf16(value);
        _mm_storeu_si128((__m128i *)(void *)(bytes + 2 * (size_t)i), half);
    }
}

/* 8 x 8: neighbours, then pairs, then halves change places. */
static inline void transpose(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    __m256 row[8], pair[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        row[i] = v_load(from + i * from_stride);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        row[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
        row[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
        row[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
        row[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        v_store(to + i * to_stride, _mm256_permute2f128_ps(row[i], row[i + 4], 0x20));
        v_store(to + (i + 4) * to_stride, _mm256_permute2f128_ps(row[i], row[i + 4], 0x31));
    }
}

#include "kernels/cpu_tile.h"

static bool is_supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

static const fc_cpu_kernels kernels = TILE_KERNELS;

const fc_cpu_isa fc_cpu_isa_avx2 = {
    .name = "avx2", .is_supported = is_supported, .kernels = {&kernels, &kernels, &kernels}};

#else

static bool is_supported(void)
{
    return false;
}

const fc_cpu_isa fc_cpu_isa_avx2 = {.name = "avx2", .is_supported = is_supported};

#endif
