/* __half as the kernels use it. Conversions round to nearest even; arithmetic is done in float and rounded once. */
#ifndef EMULATE_CUDA_FP16_H
#define EMULATE_CUDA_FP16_H

#include "proto/half.h"

#include "small_float.h"

namespace emulate
{

inline float float_of_half(uint16_t half)
{
    return fc_f16_to_float(half);
}

inline uint16_t half_of_float(float value)
{
    return fc_f16_from_float(value);
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
