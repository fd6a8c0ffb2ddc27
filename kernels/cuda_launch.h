/* The CUDA kernels' launch wrappers, and the table that finds one by its rung.
 *
 * A wrapper enqueues one kernel over launch->d_segments on the stream and returns: it never waits, allocates or reads
 * globals. FC_OK: enqueued (or there was nothing to do). FC_INTERNAL: the runtime refused the launch,
 * cudaGetLastError() says why, nothing was enqueued. Any thread; the launch, its device memory included, must live
 * until the stream has passed it.
 */
#ifndef FC_KERNELS_CUDA_LAUNCH_H
#define FC_KERNELS_CUDA_LAUNCH_H

#include "kernels/attention.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

fc_status fc_cuda_baseline_launch(const fc_launch *launch, cudaStream_t stream);
fc_status fc_cuda_vec_launch(const fc_launch *launch, cudaStream_t stream);
fc_status fc_cuda_warp_launch(const fc_launch *launch, cudaStream_t stream);
fc_status fc_cuda_tc_launch(const fc_launch *launch, cudaStream_t stream);
fc_status fc_cuda_fused_launch(const fc_launch *launch, cudaStream_t stream);
fc_status fc_cuda_hopper_launch(const fc_launch *launch, cudaStream_t stream);

typedef fc_status (*fc_cuda_launcher)(const fc_launch *launch, cudaStream_t stream);

/* NULL: not a CUDA kernel. */
fc_cuda_launcher fc_cuda_launch_find(fc_kernel kernel);

/* Writes what launch->descriptors is to point to and launch->d_descriptors to a copy of, segment_count x
 * plan.descriptor_bytes of host memory, from launch->segments, which hold device pointers. FC_INTERNAL: the driver
 * refused. Any thread, no GPU work. */
typedef fc_status (*fc_cuda_describer)(const fc_launch *launch, void *out_descriptors);

fc_status fc_cuda_hopper_describe(const fc_launch *launch, void *out_descriptors);

/* NULL: the kernel's plans want no descriptors. */
fc_cuda_describer fc_cuda_describe_find(fc_kernel kernel);

#ifdef __cplusplus
}
#endif

#endif
