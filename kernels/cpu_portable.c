/* The tile steps for any machine: four lanes in the compiler's vector types, no instruction set assumed. */
#include "kernels/cpu_isa.h"
#include "proto/half.h"

#define V_LANES 4
#define TILE_ROWS 4
#define TILE_COLUMNS 2
#define TILE_KEYS 128
#define TILE_GROUP 48
#include "kernels/cpu_vector.h"

static inline vf v_fma(vf a, vf b, vf c)
{
    return a * b + c;
}

static inline vf v_max(vf a, vf b)
{
    return v_select(a > b, a, b);
}

/* Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits; a half less makes that the floor, or for a
 * whole x perhaps the number below. */
static inline vf v_floor_fraction(vf x, vf *out_fraction)
{
    vf shifted = (x - 0.5f) + 0x1.8p23f;
    *out_fraction = x - (shifted - 0x1.8p23f);
    return v_select(x < -126.0f, v_set1(-__builtin_inff()), shifted);
}

static inline vf v_scale(vf p, vf shifted)
{
    vf power = v_from_bits((v_bits(shifted) << 23) + 0x3f800000u);
    return v_select(shifted == v_set1(-__builtin_inff()), (vf){0}, p * power);
}

static void widen(const void *from, fc_dtype dtype, int32_t count, float *to)
{
    if (dtype == FC_F32) {
        memcpy(to, from, (size_t)count * sizeof *to);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, (const char *)from + (size_t)i * sizeof half, sizeof half);
        to[i] = dtype == FC_F16 ? fc_f16_to_float(half) : fc_bf16_to_float(half);
    }
}

static void narrow(const float *from, fc_dtype dtype, int32_t count, void *to)
{
    if (dtype == FC_F32) {
        memcpy(to, from, (size_t)count * sizeof *from);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        uint16_t half = dtype == FC_F16 ? fc_f16_from_float(from[i]) : fc_bf16_from_float(from[i]);
        memcpy((char *)to + (size_t)i * sizeof half, &half, sizeof half);
    }
}

static inline void transpose(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    for (int64_t i = 0; i < V_LANES; i++)
        for (int64_t j = 0; j < V_LANES; j++)
            to[i * to_stride + j] = from[j * from_stride + i];
}

#include "kernels/cpu_tile.h"

static bool is_supported(void)
{
    return true;
}

static const fc_cpu_kernels kernels = TILE_KERNELS;

const fc_cpu_isa fc_cpu_isa_portable = {
    .name = "portable", .is_supported = is_supported, .kernels = {&kernels, &kernels, &kernels}};
