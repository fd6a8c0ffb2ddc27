/* The instructions C++ has no word for: one small function each, nothing else. For sm_80 and later.
 *
 * Shared memory is named by its 32-bit address in the shared window, as the instructions take it. Semantics are those
 * of the PTX ISA manual, section by section; what is said here is what callers need to keep in mind.
 *
 * This file is what a machine without a GPU replaces to run the kernels (tests/emulate), so kernels hold no inline PTX
 * of their own, and reach dynamic shared memory through fc_ptx_dynamic_shared() alone.
 */
#ifndef FC_KERNELS_PTX_CUH
#define FC_KERNELS_PTX_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

/* 2^x, 2 units in the last place; results below 2^-126 are 0. */
static __device__ __forceinline__ float fc_ptx_ex2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1 / x, 1 unit in the last place; exact for 1. */
static __device__ __forceinline__ float fc_ptx_rcp(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Lets the stream's next launch start, as far as there is room beside this one, once every block of this grid has come
 * here or is over. */
static __device__ __forceinline__ void fc_ptx_griddep_launch_dependents()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Waits until the stream's earlier launches are over and what they wrote can be read. Before, a thread, unless it has
 * heard from one that waited, may read what copies brought, segments and descriptors, and nothing else of the device's
 * memory, and write none. */
static __device__ __forceinline__ void fc_ptx_griddep_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The block's dynamic shared memory, 1024-byte aligned. */
static __device__ __forceinline__ unsigned char *fc_ptx_dynamic_shared()
{
    extern __shared__ __align__(1024) unsigned char dynamic_shared[];
    return dynamic_shared;
}

/* The address of something in shared memory, as the functions below want it. */
static __device__ __forceinline__ uint32_t fc_ptx_shared_address(const void *pointer)
{
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

/* x, of which the compiler cannot know how it was made: it keeps the register instead of making x anew at every use. */
static __device__ __forceinline__ uint32_t fc_ptx_keep(uint32_t x)
{
    asm volatile("" : "+r"(x));
    return x;
}

/* atomicInc(): counts up from 0 to `last`, then starts again; returns what was there. Releases what this thread knows
 * of (behind a barrier: what its block has written) and acquires what those before it released. */
static __device__ __forceinline__ uint32_t fc_ptx_draw(uint32_t *counter, uint32_t last)
{
    uint32_t drawn;
    asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(drawn) : "l"(counter), "r"(last) : "memory");
    return drawn;
}

/* --- copies from global to shared memory ------------------------------------------------------------------------ */

/* 16 bytes, past the L1 cache; only the first `bytes` (0 to 16) are read, the rest become 0. With bytes == 0 `from`
 * must still be an address that exists. What is near may come to the L2 cache with it. */
static __device__ __forceinline__ void fc_ptx_cp_async_16(uint32_t to, const void *from, uint32_t bytes)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

/* Closes this thread's group of copies; empty groups count too. */
static __device__ __forceinline__ void fc_ptx_cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most PENDING of this thread's latest groups are under way. Other threads see the data after a barrier.
 */
template <int PENDING> static __device__ __forceinline__ void fc_ptx_cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* --- matrices of 16-bit elements -------------------------------------------------------------------------------- */

/* Four 8x8 matrices, one a register. Lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned). Lane l
 * gets of each matrix elements (l / 4, 2 * (l % 4)) and the next one in the row. */
static __device__ __forceinline__ void fc_ptx_ldmatrix_x4(uint32_t (&to)[4], uint32_t row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

/* The same of the transposed matrices: elements (2 * (l % 4), l / 4) and the one below it. */
static __device__ __forceinline__ void fc_ptx_ldmatrix_x4_trans(uint32_t (&to)[4], uint32_t row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

/* d += a b, of 16x16 and 16x8, fp32 sums. T is the type of a and b; g = lane / 4, t = lane % 4:
 *     a: rows g, g + 8, g, g + 8 at columns 2t, 2t, 2t + 8, 2t + 8 (and the next column, in the upper half)
 *     b: rows 2t, 2t + 8 (and the next row) at column g
 *     d: rows g, g, g + 8, g + 8 at columns 2t, 2t + 1, 2t, 2t + 1 */
template <typename T>
static __device__ __forceinline__ void fc_ptx_mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
__device__ __forceinline__ void fc_ptx_mma<__half>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void fc_ptx_mma<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                                          uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
