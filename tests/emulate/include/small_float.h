/* What __half and __nv_bfloat16 have in common: 16 bits, a way to float and one back, and pairs of them. */
#ifndef EMULATE_SMALL_FLOAT_H
#define EMULATE_SMALL_FLOAT_H

#include "cuda_runtime.h"

namespace emulate
{

template <float (*WIDEN)(uint16_t), uint16_t (*NARROW)(float)> struct SmallFloat {
    uint16_t bits;
    SmallFloat() = default;
    SmallFloat(float value) : bits(NARROW(value))
    {
    }
    operator float() const
    {
        return WIDEN(bits);
    }
};

template <typename T> struct alignas(4) SmallPair {
    T x, y;
    SmallPair() = default;
    SmallPair(float a, float b) : x(a), y(b)
    {
    }
    operator float2() const
    {
        return make_float2(x, y);
    }
};

template <typename T> static inline T small_float_of_bits(unsigned short bits)
{
    T small;
    small.bits = bits;
    return small;
}

} // namespace emulate

#endif
