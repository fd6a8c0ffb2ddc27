/* What flashcore-cuda.so exports: the daemon's entry, and plain functions with which benchmarks (C, or Python through
 * ctypes) plan and launch the same kernels on memory of their own.
 *
 * A launch, from outside: flashcore_plan_make(), then flashcore_problem_segments() with device pointers into a host
 * array of problem->batch segments, flashcore_launch_index() over all of them, copy the array to the device, fill an
 * fc_launch, where plan.descriptor_bytes is not 0 flashcore_launch_describe() and copy that, too,
 * flashcore_kernel_launch(). Any thread.
 */
#ifndef FC_KERNELS_CUDA_API_H
#define FC_KERNELS_CUDA_API_H

#include "kernels/engine.h"

#define FC_EXPORT __attribute__((visibility("default")))

/* FC_ENGINE_SYMBOL: the ops of engine.h. */
FC_EXPORT const fc_engine_ops *flashcore_engine_cuda(void);

/* sizeof of a struct of attention.h by its name, for callers that mirror it; 0: no such struct is passed here. */
FC_EXPORT size_t flashcore_struct_bytes(const char *name);

/* fc_kernel_name() and fc_kernel_variant_count(): rungs are numbered from 0; "unknown" ends them. */
FC_EXPORT const char *flashcore_kernel_name(fc_kernel kernel);
FC_EXPORT uint32_t flashcore_kernel_variant_count(fc_kernel kernel);

/* fc_plan_make(), fc_plan_make_as(), fc_problem_segments() and fc_launch_index() of attention.h. */
FC_EXPORT fc_status flashcore_plan_make(const fc_device *device, fc_kernel wanted, const fc_problem *problem,
                                        fc_plan *out_plan, fc_reason *out_reason);
FC_EXPORT fc_status flashcore_plan_make_as(const fc_device *device, fc_kernel kernel, const fc_plan_wish *wish,
                                           const fc_problem *problem, fc_plan *out_plan, fc_reason *out_reason);
FC_EXPORT void flashcore_problem_segments(const fc_problem *problem, const fc_plan *plan, const fc_tensors *tensors,
                                          fc_segment *out_segments);
FC_EXPORT uint32_t flashcore_launch_index(const fc_plan *plan, fc_segment *segments, uint32_t segment_count);

/* Writes segment_count x plan.descriptor_bytes bytes of descriptors, which launch->descriptors has to lead to, and
 * launch->d_descriptors to a copy on the device. FC_UNSUPPORTED: the kernel wants none; FC_INTERNAL: the driver
 * refused. */
FC_EXPORT fc_status flashcore_launch_describe(const fc_launch *launch, void *out_descriptors);

/* Enqueues launch->plan.kernel on the stream (a cudaStream_t; NULL: the default stream) of the current device and
 * returns. FC_UNSUPPORTED: not a CUDA kernel; FC_INTERNAL: the runtime refused it. */
FC_EXPORT fc_status flashcore_kernel_launch(const fc_launch *launch, void *stream);

#endif
