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
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __cluster_dims__(...)
/* One block runs at a time, in one OS thread; nothing else in the program is thread_local (see memory.cpp). */
#define __shared__ static thread_local

/* --- vector types ----------------------------------------------------------------------------------------------- */

#define EMULATE_VECTORS(type, name, align2, align4)                                                                    \
    struct name##1                                                                                                     \
    {                                                                                                                  \
        type x;                                                                                                        \
    };                                                                                                                 \
    struct alignas(align2) name##2                                                                                     \
    {                                                                                                                  \
        type x, y;                                                                                                     \
    };                                                                                                                 \
    struct name##3                                                                                                     \
    {                                                                                                                  \
        type x, y, z;                                                                                                  \
    };                                                                                                                 \
    struct alignas(align4) name##4                                                                                     \
    {                                                                                                                  \
        type x, y, z, w;                                                                                               \
    };                                                                                                                 \
    static inline name##1 make_##name##1(type x)                                                                       \
    {                                                                                                                  \
        return {x};                                                                                                    \
    }                                                                                                                  \
    static inline name##2 make_##name##2(type x, type y)                                                               \
    {                                                                                                                  \
        return {x, y};                                                                                                 \
    }                                                                                                                  \
    static inline name##3 make_##name##3(type x, type y, type z)                                                       \
    {                                                                                                                  \
        return {x, y, z};                                                                                              \
    }                                                                                                                  \
    static inline name##4 make_##name##4(type x, type y, type z, type w)                                               \
    {                                                                                                                  \
        return {x, y, z, w};                                                                                           \
    }

EMULATE_VECTORS(float, float, 8, 16)
EMULATE_VECTORS(int, int, 8, 16)
EMULATE_VECTORS(unsigned, uint, 8, 16)
EMULATE_VECTORS(short, short, 4, 8)
EMULATE_VECTORS(unsigned short, ushort, 4, 8)
EMULATE_VECTORS(signed char, char, 2, 4)
EMULATE_VECTORS(unsigned char, uchar, 2, 4)
EMULATE_VECTORS(long long, longlong, 16, 16)
EMULATE_VECTORS(unsigned long long, ulonglong, 16, 16)
EMULATE_VECTORS(double, double, 16, 16)

struct thread_index3 {
    unsigned x, y, z;
};

extern thread_index3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

/* --- meetings --------------------------------------------------------------------------------------------------- */

static inline void __syncthreads()
{
    emulate::barrier_wait(0, emulate::block_threads(), "__syncthreads");
}

int __syncthreads_or(int predicate);
int __syncthreads_and(int predicate);
int __syncthreads_count(int predicate);

void __syncwarp(unsigned mask = 0xffffffffu);
unsigned __ballot_sync(unsigned mask, int predicate);
int __any_sync(unsigned mask, int predicate);
int __all_sync(unsigned mask, int predicate);
unsigned __reduce_add_sync(unsigned mask, unsigned value);
unsigned __reduce_min_sync(unsigned mask, unsigned value);
unsigned __reduce_max_sync(unsigned mask, unsigned value);
int __reduce_add_sync(unsigned mask, int value);
int __reduce_min_sync(unsigned mask, int value);
int __reduce_max_sync(unsigned mask, int value);
unsigned __reduce_and_sync(unsigned mask, unsigned value);
unsigned __reduce_or_sync(unsigned mask, unsigned value);
unsigned __reduce_xor_sync(unsigned mask, unsigned value);
unsigned __match_any_sync(unsigned mask, unsigned value);

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

#define EMULATE_LOAD(name)                                                                                             \
    template <typename T> static inline T name(const T *from)                                                          \
    {                                                                                                                  \
        emulate::check_global(from, sizeof(T), #name);                                                                 \
        return *from;                                                                                                  \
    }
#define EMULATE_STORE(name)                                                                                            \
    template <typename T> static inline void name(T *to, T value)                                                      \
    {                                                                                                                  \
        emulate::check_global(to, sizeof(T), #name);                                                                   \
        *to = value;                                                                                                   \
    }
EMULATE_LOAD(__ldcg)
EMULATE_LOAD(__ldca)
EMULATE_LOAD(__ldcs)
EMULATE_LOAD(__ldcv)
EMULATE_LOAD(__ldlu)
EMULATE_STORE(__stcg)
EMULATE_STORE(__stcs)
EMULATE_STORE(__stwb)
EMULATE_STORE(__stwt)

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

template <typename T, typename U> static inline T atomicExch(T *to, U value)
{
    const T before = *to;
    *to = (T)value;
    return before;
}

template <typename T> static inline T atomicCAS(T *to, T expected, T value)
{
    const T before = *to;
    if (before == expected)
        *to = value;
    return before;
}

template <typename T> static inline T atomicMax(T *to, T value)
{
    const T before = *to;
    *to = before < value ? value : before;
    return before;
}

template <typename T> static inline T atomicMin(T *to, T value)
{
    const T before = *to;
    *to = value < before ? value : before;
    return before;
}

static inline void __threadfence()
{
}

static inline void __threadfence_block()
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

static inline int __float_as_int(float value)
{
    return (int)__float_as_uint(value);
}

static inline float __uint_as_float(unsigned bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float __int_as_float(int bits)
{
    return __uint_as_float((unsigned)bits);
}

static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

static inline float __fdividef(float a, float b)
{
    return a / b;
}

static inline float __frcp_rn(float x)
{
    return 1.0f / x;
}

/* Macros: the C library declares functions of these names. */
#define __expf(x) expf(x)
#define __exp2f(x) exp2f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)

static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

static inline float __fadd_rn(float a, float b)
{
    return a + b;
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)(((uint64_t)a * b) >> 32);
}

static inline int __mulhi(int a, int b)
{
    return (int)(((int64_t)a * b) >> 32);
}

static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    const uint64_t bytes = (uint64_t)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++)
        result |= (unsigned)(bytes >> ((selector >> (4 * i) & 7) * 8) & 0xff) << (8 * i);
    return result;
}

#define __builtin_assume(condition) ((void)0)
[[noreturn]] static inline void __trap()
{
    emulate::fail("__trap()");
}

#endif
