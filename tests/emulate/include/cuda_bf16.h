/* __nv_bfloat16 as the kernels use it: see cuda_fp16.h. */
#ifndef EMULATE_CUDA_BF16_H
#define EMULATE_CUDA_BF16_H

#include "proto/half.h"

#include "small_float.h"

namespace emulate
{

inline float float_of_bfloat(uint16_t bits)
{
    return fc_bf16_to_float(bits);
}

inline uint16_t bfloat_of_float(float value)
{
    return fc_bf16_from_float(value);
}

} // namespace emulate

typedef emulate::SmallFloat<emulate::float_of_bfloat, emulate::bfloat_of_float> __nv_bfloat16;
typedef emulate::SmallPair<__nv_bfloat16> __nv_bfloat162;

static inline float __bfloat162float(__nv_bfloat16 b)
{
    return b;
}

static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return emulate::small_float_of_bits<__nv_bfloat16>(bits);
}

static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {x, y};
}

static inline __nv_bfloat162 __float22bfloat162_rn(float2 pair)
{
    return {pair.x, pair.y};
}

static inline float2 __bfloat1622float2(__nv_bfloat162 pair)
{
    return pair;
}

#endif
