/* The tables from rung to launch wrapper and describer. */
#include "kernels/cuda_launch.h"

static const fc_cuda_launcher LAUNCHERS[FC_KERNEL_COUNT] = {
    [FC_KERNEL_BASELINE] = fc_cuda_baseline_launch, [FC_KERNEL_VEC] = fc_cuda_vec_launch,
    [FC_KERNEL_WARP] = fc_cuda_warp_launch,         [FC_KERNEL_TC] = fc_cuda_tc_launch,
    [FC_KERNEL_FUSED] = fc_cuda_fused_launch,       [FC_KERNEL_HOPPER] = fc_cuda_hopper_launch,
};

fc_cuda_launcher fc_cuda_launch_find(fc_kernel kernel)
{
    return (unsigned)kernel < FC_KERNEL_COUNT ? LAUNCHERS[kernel] : NULL;
}

static const fc_cuda_describer DESCRIBERS[FC_KERNEL_COUNT] = {
    [FC_KERNEL_HOPPER] = fc_cuda_hopper_describe,
};

fc_cuda_describer fc_cuda_describe_find(fc_kernel kernel)
{
    return (unsigned)kernel < FC_KERNEL_COUNT ? DESCRIBERS[kernel] : NULL;
}
