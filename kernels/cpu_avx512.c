/* The tile steps on AVX-512: 32 registers of sixteen lanes, so a 6 x 4 block: 24 sums, 4 of K or V, a broadcast. Per
 * step of depth 10 loads feed 24 multiply-adds (12 cycles on two ports), half of what the load ports can do. */
#include "kernels/cpu_isa.h"

#ifdef __x86_64__
#include "kernels/cpu_avx512_vector.h"

#define TILE_ROWS 6
#define TILE_COLUMNS 4
#define TILE_KEYS 128
#define TILE_GROUP 48
#include "kernels/cpu_tile.h"

static bool is_supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

static const fc_cpu_kernels kernels = TILE_KERNELS;

const fc_cpu_isa fc_cpu_isa_avx512 = {
    .name = "avx512", .is_supported = is_supported, .kernels = {&kernels, &kernels, &kernels}};

#else

static bool is_supported(void)
{
    return false;
}

const fc_cpu_isa fc_cpu_isa_avx512 = {.name = "avx512", .is_supported = is_supported};

#endif
