/* Loads of WMMA fragments from shared memory. nvcuda::wmma has them, but for bf16 nvcc 13.0 forgets that the address is
 * one of shared memory, and four generic loads take the place of one LDSM. So bf16 gets the instruction by name. The
 * rules of ptx.cuh hold here, too.
 */
#ifndef FC_KERNELS_PTX_WMMA_CUH
#define FC_KERNELS_PTX_WMMA_CUH

#include "kernels/ptx.cuh"

#include <cstring>
#include <mma.h>

/* The fragment's 16 x 16 elements from `from` on, rows (of row_major; else columns) `pitch` elements apart; 32-byte
 * aligned. */
template <typename Use, typename Layout>
static __device__ __forceinline__ void fc_ptx_wmma_load(nvcuda::wmma::fragment<Use, 16, 16, 16, __half, Layout> &to,
                                                        const __half *from, int pitch)
{
    nvcuda::wmma::load_matrix_sync(to, from, (unsigned)pitch);
}

typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::row_major>
    fc_ptx_wmma_left;
typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::row_major>
    fc_ptx_wmma_right_by_rows;
typedef nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::col_major>
    fc_ptx_wmma_right_by_columns;

static __device__ __forceinline__ void fc_ptx_wmma_load(fc_ptx_wmma_left &to, const __nv_bfloat16 *from, int pitch)
{
    uint32_t bits[4];
    asm volatile("wmma.load.a.sync.aligned.row.m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;"
                 : "=r"(bits[0]), "=r"(bits[1]), "=r"(bits[2]), "=r"(bits[3])
                 : "r"(fc_ptx_shared_address(from)), "r"(pitch)
                 : "memory");
    static_assert(sizeof to.x == sizeof bits, "the instruction's registers are the fragment");
    memcpy(to.x, bits, sizeof bits);
}

static __device__ __forceinline__ void fc_ptx_wmma_load(fc_ptx_wmma_right_by_rows &to, const __nv_bfloat16 *from,
                                                        int pitch)
{
    uint32_t bits[4];
    asm volatile("wmma.load.b.sync.aligned.row.m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;"
                 : "=r"(bits[0]), "=r"(bits[1]), "=r"(bits[2]), "=r"(bits[3])
                 : "r"(fc_ptx_shared_address(from)), "r"(pitch)
                 : "memory");
    static_assert(sizeof to.x == sizeof bits, "the instruction's registers are the fragment");
    memcpy(to.x, bits, sizeof bits);
}

static __device__ __forceinline__ void fc_ptx_wmma_load(fc_ptx_wmma_right_by_columns &to, const __nv_bfloat16 *from,
                                                        int pitch)
{
    uint32_t bits[4];
    asm volatile("wmma.load.b.sync.aligned.col.m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;"
                 : "=r"(bits[0]), "=r"(bits[1]), "=r"(bits[2]), "=r"(bits[3])
                 : "r"(fc_ptx_shared_address(from)), "r"(pitch)
                 : "memory");
    static_assert(sizeof to.x == sizeof bits, "the instruction's registers are the fragment");
    memcpy(to.x, bits, sizeof bits);
}

#endif
