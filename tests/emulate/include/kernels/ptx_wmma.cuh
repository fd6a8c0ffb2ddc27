/* kernels/ptx_wmma.cuh for the emulator, whose fragments load one way whatever the type. */
#ifndef FC_KERNELS_PTX_WMMA_CUH
#define FC_KERNELS_PTX_WMMA_CUH

#include "kernels/ptx.cuh"

#include <mma.h>

template <typename Use, typename T, typename Layout>
static __device__ __forceinline__ void fc_ptx_wmma_load(nvcuda::wmma::fragment<Use, 16, 16, 16, T, Layout> &to,
                                                        const T *from, int pitch)
{
    fc_ptx_shared_address(from); /* fails where it is none */
    nvcuda::wmma::load_matrix_sync(to, from, (unsigned)pitch);
}

#endif
