/* The exported names, each one line around what it stands for. */
#include "kernels/cuda_api.h"

#include "kernels/cuda_launch.h"

#include <string.h>

size_t flashcore_struct_bytes(const char *name)
{
    static const struct {
        const char *name;
        size_t bytes;
    } STRUCTS[] = {
        {"fc_problem", sizeof(fc_problem)},     {"fc_tensors", sizeof(fc_tensors)}, {"fc_segment", sizeof(fc_segment)},
        {"fc_plan", sizeof(fc_plan)},           {"fc_device", sizeof(fc_device)},   {"fc_launch", sizeof(fc_launch)},
        {"fc_plan_wish", sizeof(fc_plan_wish)}, {"fc_reason", sizeof(fc_reason)},
    };
    for (size_t i = 0; i < sizeof STRUCTS / sizeof *STRUCTS; i++) {
        if (strcmp(STRUCTS[i].name, name) == 0)
            return STRUCTS[i].bytes;
    }
    return 0;
}

const char *flashcore_kernel_name(fc_kernel kernel)
{
    return fc_kernel_name(kernel);
}

uint32_t flashcore_kernel_variant_count(fc_kernel kernel)
{
    return fc_kernel_variant_count(kernel);
}

fc_status flashcore_plan_make(const fc_device *device, fc_kernel wanted, const fc_problem *problem, fc_plan *out_plan,
                              fc_reason *out_reason)
{
    return fc_plan_make(device, wanted, problem, out_plan, out_reason);
}

fc_status flashcore_plan_make_as(const fc_device *device, fc_kernel kernel, const fc_plan_wish *wish,
                                 const fc_problem *problem, fc_plan *out_plan, fc_reason *out_reason)
{
    return fc_plan_make_as(device, kernel, wish, problem, out_plan, out_reason);
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

fc_status flashcore_launch_describe(const fc_launch *launch, void *out_descriptors)
{
    fc_cuda_describer describer = fc_cuda_describe_find(launch->plan.kernel);
    return describer == NULL ? FC_UNSUPPORTED : describer(launch, out_descriptors);
}

fc_status flashcore_kernel_launch(const fc_launch *launch, void *stream)
{
    fc_cuda_launcher launcher = fc_cuda_launch_find(launch->plan.kernel);
    return launcher == NULL ? FC_UNSUPPORTED : launcher(launch, (cudaStream_t)stream);
}
