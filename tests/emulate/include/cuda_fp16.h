/* __half as the kernels use it. Conversions round to nearest even; arithmetic is done in float and rounded once. */
#ifndef EMULATE_CUDA_FP16_H
#define EMULATE_CUDA_FP16_H

#include "small_float.h"

namespace emulate
{

inline float float_of_half(uint16_t half)
{
    /* The exponent moves by 112 by a multiplication, which makes subnormals right too; infinity and NaN get all ones.
     */
    const uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13, sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t finite = __float_as_uint(__uint_as_float(magnitude) * 0x1p112f);
    const uint32_t bits = (half & 0x7c00u) == 0x7c00u ? magnitude | 0x7f800000u : finite;
    return __uint_as_float(bits | sign);
}

inline uint16_t half_of_float(float value)
{
    const uint32_t bits = __float_as_uint(value), magnitude = bits & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u)
        return 0x7fff;
    if (magnitude >= 0x477ff000u) /* 65520 and more */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) /* a subnormal: the unit is 2^-24, the addition rounds */
        return (uint16_t)(sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13));
}

} // namespace emulate

typedef emulate::SmallFloat<emulate::float_of_half, emulate::half_of_float> __half;
typedef emulate::SmallPair<__half> __half2;

static inline float __half2float(__half h)
{
    return h;
}

static inline __half __ushort_as_half(unsigned short bits)
{
    return emulate::small_float_of_bits<__half>(bits);
}

static inline __half2 __floats2half2_rn(float x, float y)
{
    return {x, y};
}

static inline __half2 __float22half2_rn(float2 pair)
{
    return {pair.x, pair.y};
}

static inline float2 __half22float2(__half2 pair)
{
    return pair;
}

#endif
