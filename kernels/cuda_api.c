/* The exported names, each one line around what it stands for. */
#include "kernels/cuda_api.h"

#include "kernels/cuda_launch.h"

fc_status flashcore_plan_make(const fc_device *device, fc_kernel wanted, const fc_problem *problem, fc_plan *out_plan,
                              fc_reason *out_reason)
{
    return fc_plan_make(device, wanted, problem, out_plan, out_reason);
}

void flashcore_problem_segments(const fc_problem *problem, const fc_plan *plan, const fc_tensors *tensors,
                                fc_segment *out_segments)
{
    fc_problem_segments(problem, plan, tensors, out_segments);
}

uint32_t flashcore_launch_index(const fc_plan *plan, fc_segment *segments, uint32_t segment_count)
{
    return fc_launch_index(plan, segments, segment_count);
}

fc_status flashcore_kernel_launch(const fc_launch *launch, void *stream)
{
    fc_cuda_launcher launcher = fc_cuda_launch_find(launch->plan.kernel);
    return launcher == NULL ? FC_UNSUPPORTED : launcher(launch, (cudaStream_t)stream);
}
