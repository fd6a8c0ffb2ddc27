/* CUDA's language for a C++ compiler: qualifiers, vector types, what a thread knows of itself, warp intrinsics. The
 * compiler gets it before any kernel file, as nvcc does with its own. */
#ifndef EMULATE_CUDA_RUNTIME_H
#define EMULATE_CUDA_RUNTIME_H

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "cuda_runtime_api.h"
#include "tests/emulate/machine.h"

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
/* One block runs at a time, in one OS thread; nothing else in the program is thread_local (see memory.cpp). */
#define __shared__ static thread_local

namespace emulate
{

cudaError_t launch(const cudaLaunchConfig_t &config, const void *kernel, KernelCall call, const void *argument);

} // namespace emulate

/* Runs to the end at once. The kernel's parameter begins with a struct fc_device_launch. */
template <typename Argument>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Argument),
                                             const Argument &argument)
{
    const auto call = [](const void *function, const void *given) {
        reinterpret_cast<void (*)(Argument)>(const_cast<void *>(function))(*static_cast<const Argument *>(given));
    };
    return emulate::launch(*config, reinterpret_cast<const void *>(kernel), call, &argument);
}

/* --- vector types ----------------------------------------------------------------------------------------------- */

struct alignas(8) float2 {
    float x, y;
};

struct alignas(16) float4 {
    float x, y, z, w;
};

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}

static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

struct thread_index3 {
    unsigned x, y, z;
};

extern thread_index3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

/* --- meetings --------------------------------------------------------------------------------------------------- */

static inline void __syncthreads()
{
    emulate::barrier_wait(0, emulate::block_threads(), "__syncthreads");
}

void __syncwarp(unsigned mask = 0xffffffffu);
unsigned __ballot_sync(unsigned mask, int predicate);
int __any_sync(unsigned mask, int predicate);
int __all_sync(unsigned mask, int predicate);
unsigned __reduce_add_sync(unsigned mask, unsigned value);
unsigned __reduce_max_sync(unsigned mask, unsigned value);
int __reduce_add_sync(unsigned mask, int value);
int __reduce_max_sync(unsigned mask, int value);

namespace emulate
{

enum class Shuffle { INDEX, UP, DOWN, XOR };

/* The 64 bits that the lane the shuffle names holds; the own ones where it names none of the segment. Reading a lane
 * outside the mask is an error here: hardware gives anything. */
uint64_t shuffle(unsigned mask, uint64_t own, Shuffle kind, unsigned by, unsigned width);

template <typename T> static inline T shuffle_value(unsigned mask, T value, Shuffle kind, unsigned by, unsigned width)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "what a shuffle can move");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = shuffle(mask, bits, kind, by, width);
    memcpy(static_cast<void *>(&value), &bits, sizeof value);
    return value;
}

} // namespace emulate

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32)
{
    return emulate::shuffle_value(mask, value, emulate::Shuffle::INDEX, (unsigned)lane, (unsigned)width);
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    return emulate::shuffle_value(mask, value, emulate::Shuffle::UP, by, (unsigned)width);
}

template <typename T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    return emulate::shuffle_value(mask, value, emulate::Shuffle::DOWN, by, (unsigned)width);
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32)
{
    return emulate::shuffle_value(mask, value, emulate::Shuffle::XOR, (unsigned)by, (unsigned)width);
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

template <typename T> static inline T __ldg(const T *from)
{
    emulate::check_global(from, sizeof(T), "__ldg");
    return *from;
}

template <typename T> static inline T __ldcg(const T *from)
{
    emulate::check_global(from, sizeof(T), "__ldcg");
    return *from;
}

static inline size_t __cvta_generic_to_shared(const void *pointer)
{
    return emulate::shared_address(pointer, "__cvta_generic_to_shared");
}

/* Threads take turns only where they wait, so these are atomic as they stand, and fences have nothing to order. */
template <typename T, typename U> static inline T atomicAdd(T *to, U value)
{
    const T before = *to;
    *to = before + (T)value;
    return before;
}

static inline unsigned atomicInc(unsigned *to, unsigned limit)
{
    const unsigned before = *to;
    *to = before >= limit ? 0 : before + 1;
    return before;
}

static inline void __threadfence()
{
}

/* --- arithmetic ------------------------------------------------------------------------------------------------- */

#define EMULATE_MIN_MAX(type)                                                                                          \
    static inline type min(type a, type b)                                                                             \
    {                                                                                                                  \
        return b < a ? b : a;                                                                                          \
    }                                                                                                                  \
    static inline type max(type a, type b)                                                                             \
    {                                                                                                                  \
        return a < b ? b : a;                                                                                          \
    }
EMULATE_MIN_MAX(int)
EMULATE_MIN_MAX(unsigned)
EMULATE_MIN_MAX(long)
EMULATE_MIN_MAX(unsigned long)
EMULATE_MIN_MAX(long long)
EMULATE_MIN_MAX(unsigned long long)

static inline float min(float a, float b)
{
    return fminf(a, b);
}

static inline float max(float a, float b)
{
    return fmaxf(a, b);
}

static inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

#endif
