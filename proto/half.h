/* float to and from the two 16-bit formats, round to nearest even, in plain C: the slow, obviously right version that
 * the reference, the load tester and the tests use. NaN stays NaN (quiet). Pure functions, any thread.
 */
#ifndef FC_PROTO_HALF_H
#define FC_PROTO_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t fc_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float fc_float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float fc_bf16_to_float(uint16_t half)
{
    return fc_float_from_bits((uint32_t)half << 16);
}

static inline uint16_t fc_bf16_from_float(float value)
{
    uint32_t bits = fc_float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x0040u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float fc_f16_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t mantissa = half & 0x3ffu;
    if (exponent == 0x1fu)
        return fc_float_from_bits(sign | 0x7f800000u | (mantissa << 13) | (mantissa != 0 ? 0x00400000u : 0u));
    if (exponent != 0)
        return fc_float_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    /* Subnormal: mantissa * 2^-24, exact in float. */
    float magnitude = (float)mantissa * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
}

static inline uint16_t fc_f16_from_float(float value)
{
    uint32_t bits = fc_float_bits(value);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude <
        0x38800000u) { /* below 2^-14: adding 0.5 aligns the float's last bit with 2^-24 and rounds to even */
        float aligned = fc_float_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (fc_float_bits(aligned) - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

#endif
