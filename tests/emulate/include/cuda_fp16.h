/* __half as the kernels use it. Conversions round to nearest even; arithmetic is done in float and rounded once. */
#ifndef EMULATE_CUDA_FP16_H
#define EMULATE_CUDA_FP16_H

#include "cuda_runtime.h"

namespace emulate
{

static inline float float_of_half(uint16_t half)
{
    /* The exponent moves by 112 by a multiplication, which makes subnormals right too; infinity and NaN get all ones.
     */
    const uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13, sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t finite = __float_as_uint(__uint_as_float(magnitude) * 0x1p112f);
    const uint32_t bits = (half & 0x7c00u) == 0x7c00u ? magnitude | 0x7f800000u : finite;
    return __uint_as_float(bits | sign);
}

static inline uint16_t half_of_float(float value)
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

struct __half {
    uint16_t bits;
    __half() = default;
    __half(float value) : bits(emulate::half_of_float(value))
    {
    }
    operator float() const
    {
        return emulate::float_of_half(bits);
    }
};
typedef __half half;

struct alignas(4) __half2 {
    __half x, y;
    __half2() = default;
    __half2(__half a, __half b) : x(a), y(b)
    {
    }
};
typedef __half2 half2;

static inline float __half2float(__half h)
{
    return emulate::float_of_half(h.bits);
}

static inline __half __float2half_rn(float f)
{
    return __half(f);
}

static inline __half __float2half(float f)
{
    return __half(f);
}

static inline unsigned short __half_as_ushort(__half h)
{
    return h.bits;
}

static inline __half __ushort_as_half(unsigned short bits)
{
    __half h;
    h.bits = bits;
    return h;
}

static inline __half2 __floats2half2_rn(float x, float y)
{
    return __half2(__half(x), __half(y));
}

static inline __half2 __float22half2_rn(float2 pair)
{
    return __floats2half2_rn(pair.x, pair.y);
}

static inline float2 __half22float2(__half2 pair)
{
    return make_float2(__half2float(pair.x), __half2float(pair.y));
}

static inline __half2 __halves2half2(__half x, __half y)
{
    return __half2(x, y);
}

static inline __half2 make_half2(__half x, __half y)
{
    return __half2(x, y);
}

static inline __half2 __half2half2(__half x)
{
    return __half2(x, x);
}

static inline __half2 __float2half2_rn(float x)
{
    return __half2(__half(x), __half(x));
}

static inline __half __low2half(__half2 pair)
{
    return pair.x;
}

static inline __half __high2half(__half2 pair)
{
    return pair.y;
}

static inline float __low2float(__half2 pair)
{
    return pair.x;
}

static inline float __high2float(__half2 pair)
{
    return pair.y;
}

static inline __half2 __hmul2(__half2 a, __half2 b)
{
    return __floats2half2_rn((float)a.x * (float)b.x, (float)a.y * (float)b.y);
}

static inline __half2 __hadd2(__half2 a, __half2 b)
{
    return __floats2half2_rn((float)a.x + (float)b.x, (float)a.y + (float)b.y);
}

static inline __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
    return __floats2half2_rn(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y));
}

#endif
