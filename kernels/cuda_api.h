/* What flashcore-cuda.so exports: the daemon's entry, and four plain functions with which benchmarks (C, or Python
 * through ctypes) plan and launch the same kernels on memory of their own.
 *
 * A launch, from outside: flashcore_plan_make(), then flashcore_problem_segments() with device pointers into a host
 * array of problem->batch segments, flashcore_launch_index() over all of them, copy the array to the device, fill an
 * fc_launch, flashcore_kernel_launch(). Any thread.
 */
#ifndef FC_KERNELS_CUDA_API_H
#define FC_KERNELS_CUDA_API_H

#include "kernels/engine.h"

#define FC_EXPORT __attribute__((visibility("default")))

/* FC_ENGINE_SYMBOL: the ops of engine.h. */
FC_EXPORT const fc_engine_ops *flashcore_engine_cuda(void);

/* fc_plan_make(), fc_problem_segments() and fc_launch_index() of attention.h. */
FC_EXPORT fc_status flashcore_plan_make(const fc_device *device, fc_kernel wanted, const fc_problem *problem,
                                        fc_plan *out_plan, fc_reason *out_reason);
FC_EXPORT void flashcore_problem_segments(const fc_problem *problem, const fc_plan *plan, const fc_tensors *tensors,
                                          fc_segment *out_segments);
FC_EXPORT uint32_t flashcore_launch_index(const fc_plan *plan, fc_segment *segments, uint32_t segment_count);

/* Enqueues launch->plan.kernel on the stream (a cudaStream_t; NULL: the default stream) of the current device and
 * returns. FC_UNSUPPORTED: not a CUDA kernel; FC_INTERNAL: the runtime refused it. */
FC_EXPORT fc_status flashcore_kernel_launch(const fc_launch *launch, void *stream);

#endif
