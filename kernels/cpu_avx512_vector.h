/* The vector operations kernels/cpu_tile.h asks for, on AVX-512 F, BW, VL and DQ: shared by cpu_avx512.c and cpu_amx.c.
 * Everything here is static.
 */
#ifndef FC_KERNELS_CPU_AVX512_VECTOR_H
#define FC_KERNELS_CPU_AVX512_VECTOR_H

#include "kernels/cpu_isa.h"

#include <immintrin.h>

#define V_LANES 16
#include "kernels/cpu_vector.h"

static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

/* scalef takes the floor of its exponent itself, so x stands for n. */
static inline vf v_floor_fraction(vf x, vf *out_fraction)
{
    *out_fraction = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    return x;
}

static inline vf v_scale(vf p, vf x)
{
    return _mm512_scalef_ps(p, x);
}

static inline void widen(const void *from, fc_dtype dtype, int32_t count, float *to)
{
    const char *bytes = from;
    if (dtype == FC_F32) {
        for (int32_t i = 0; i < count; i += 8)
            _mm256_storeu_ps(to + i, _mm256_loadu_ps((const void *)(bytes + 4 * (size_t)i)));
        return;
    }
    for (int32_t i = 0; i < count; i += 8) {
        __m128i half = _mm_loadu_si128((const __m128i *)(const void *)(bytes + 2 * (size_t)i));
        __m256 value = dtype == FC_F16 ? _mm256_cvtph_ps(half)
                                       : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
        _mm256_storeu_ps(to + i, value);
    }
}

/* To bf16, nearest even; NaN becomes a quiet one. Not vcvtneps2bf16, which flushes subnormals and is an extension. */
static inline __m256i to_bf16(__m512 value)
{
    __m512i bits = _mm512_castps_si512(value);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    rounded = _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

/* Sixteen at a time while they last. */
static inline void narrow(const float *from, fc_dtype dtype, int32_t count, void *to)
{
    char *bytes = to;
    for (int32_t i = 0; i < count; i += 16) {
        __m512 value = _mm512_loadu_ps(from + i);
        __mmask16 live = count - i >= 16 ? 0xffff : 0xff;
        if (dtype == FC_F32)
            _mm512_mask_storeu_ps(bytes + 4 * (size_t)i, live, value);
        else if (dtype == FC_F16)
            _mm256_mask_storeu_epi16(bytes + 2 * (size_t)i, live, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
        else
            _mm256_mask_storeu_epi16(bytes + 2 * (size_t)i, live, to_bf16(value));
    }
}

/* 16 x 16: neighbours, pairs, then 128-bit quarters twice change places. */
static inline void transpose_registers(__m512 row[16])
{
    __m512 other[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        other[i] = _mm512_unpacklo_ps(row[i], row[i + 1]);
        other[i + 1] = _mm512_unpackhi_ps(row[i], row[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        row[i] = _mm512_shuffle_ps(other[i], other[i + 2], 0x44);
        row[i + 1] = _mm512_shuffle_ps(other[i], other[i + 2], 0xee);
        row[i + 2] = _mm512_shuffle_ps(other[i + 1], other[i + 3], 0x44);
        row[i + 3] = _mm512_shuffle_ps(other[i + 1], other[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        other[i] = _mm512_shuffle_f32x4(row[i], row[i + 4], 0x88);
        other[i + 4] = _mm512_shuffle_f32x4(row[i], row[i + 4], 0xdd);
        other[i + 8] = _mm512_shuffle_f32x4(row[i + 8], row[i + 12], 0x88);
        other[i + 12] = _mm512_shuffle_f32x4(row[i + 8], row[i + 12], 0xdd);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        row[i] = _mm512_shuffle_f32x4(other[i], other[i + 8], 0x88);
        row[i + 8] = _mm512_shuffle_f32x4(other[i], other[i + 8], 0xdd);
    }
}

static inline void transpose(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    __m512 row[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        row[i] = v_load(from + i * from_stride);
    transpose_registers(row);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        v_store(to + i * to_stride, row[i]);
}

#endif
