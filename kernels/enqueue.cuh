/* What every rung's launch wrapper does once it knows its kernel: see cuda_launch.h for what it promises. */
#ifndef FC_KERNELS_ENQUEUE_CUH
#define FC_KERNELS_ENQUEUE_CUH

#include "kernels/cuda_launch.h"

typedef void (*fc_device_kernel)(const fc_segment *segments, uint32_t segment_count, int head_dim);

static_assert(FC_F16 == 0 && FC_BF16 == 1 && FC_F32 == 2, "the order of the tables of kernels");

/* kernels: one an element type, in the order of fc_dtype. q_tile_tokens: the kernel's, which the plan has to name. */
static inline fc_status fc_enqueue(const fc_device_kernel (&kernels)[FC_DTYPE_COUNT], uint32_t q_tile_tokens,
                                   unsigned threads, const fc_launch *launch, cudaStream_t stream)
{
    if (launch->block_count == 0)
        return FC_OK;
    if ((unsigned)launch->plan.dtype >= FC_DTYPE_COUNT || launch->plan.q_tile_tokens != q_tile_tokens)
        return FC_INTERNAL;
    const fc_segment *segments = launch->d_segments;
    uint32_t segment_count = launch->segment_count;
    int head_dim = launch->plan.head_dim;
    void *arguments[] = {&segments, &segment_count, &head_dim};
    const cudaError_t error =
        cudaLaunchKernel(kernels[launch->plan.dtype], dim3(launch->block_count), dim3(threads), arguments, 0, stream);
    return error == cudaSuccess ? FC_OK : FC_INTERNAL;
}

#endif
