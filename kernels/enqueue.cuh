/* What every rung's launch wrapper does once it knows its kernel: see cuda_launch.h for what it promises. */
#ifndef FC_KERNELS_ENQUEUE_CUH
#define FC_KERNELS_ENQUEUE_CUH

#include "kernels/cuda_launch.h"

/* The one parameter of every kernel, or the first part of it: fc_launch as the device sees it. */
struct fc_device_launch {
    const fc_segment *segments;
    uint32_t segment_count;
    uint32_t block_count; /* blocks of work; a persistent kernel has fewer blocks in its grid */
    int32_t head_dim;
    char *workspace;
    uint32_t *tickets;
    const char *descriptors;
    fc_segment first_segment; /* segments[0]: where there is but one, nobody has to ask memory for it */
};

typedef void (*fc_device_kernel)(const fc_device_launch launch);

static_assert(FC_F16 == 0 && FC_BF16 == 1 && FC_F32 == 2, "the order of the tables of kernels");

struct fc_grid {
    uint32_t q_tile_rows; /* the kernel's own: the plan has to name the same */
    unsigned blocks, threads;
    size_t dynamic_shared_bytes;
};

/* Of the current device. */
static inline bool fc_device_attribute(enum cudaDeviceAttr attribute, int *out_value)
{
    int device = 0;
    return cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(out_value, attribute, device) == cudaSuccess;
}

/* May a launch begin while the one before it in the stream ends? (Programmatic dependent launch, CUDA C++ Programming
 * Guide.) Only where the device runs machine code that waits for that one by itself, fc_ptx_griddep_wait(): what was
 * compiled for compute capability 9.0, on that. To copies and events it is a launch like any other. */
static inline bool fc_may_follow()
{
#ifdef __CUDA_ARCH_LIST__
    static const int compiled[] = {__CUDA_ARCH_LIST__};
    int major = 0, minor = 0;
    if (!fc_device_attribute(cudaDevAttrComputeCapabilityMajor, &major) ||
        !fc_device_attribute(cudaDevAttrComputeCapabilityMinor, &minor) || major != 9)
        return false;
    for (int capability : compiled) {
        if (capability == 100 * major + 10 * minor)
            return true;
    }
#endif
    return false;
}

/* `argument`: of a kernel whose parameter derives from fc_device_launch, what that adds. */
template <typename Argument>
static inline fc_status fc_enqueue(void (*kernel)(Argument), const fc_grid &grid, const fc_launch *launch,
                                   cudaStream_t stream, Argument argument = {})
{
    if (launch->block_count == 0)
        return FC_OK;
    if (launch->plan.q_tile_rows != grid.q_tile_rows)
        return FC_INTERNAL;
    if (grid.dynamic_shared_bytes > 48 * 1024 &&
        cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)grid.dynamic_shared_bytes) != cudaSuccess)
        return FC_INTERNAL;
    static_cast<fc_device_launch &>(argument) = {launch->d_segments,
                                                 launch->segment_count,
                                                 launch->block_count,
                                                 launch->plan.head_dim,
                                                 static_cast<char *>(launch->d_workspace),
                                                 launch->d_tickets,
                                                 static_cast<const char *>(launch->d_descriptors),
                                                 launch->segments[0]};
    cudaLaunchAttribute follows;
    follows.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    follows.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(grid.blocks);
    config.blockDim = dim3(grid.threads);
    config.dynamicSmemBytes = grid.dynamic_shared_bytes;
    config.stream = stream;
    config.attrs = &follows;
    config.numAttrs = fc_may_follow() ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, argument) == cudaSuccess ? FC_OK : FC_INTERNAL;
}

/* For kernels that come one an element type, in the order of fc_dtype, and do one block of work a block. */
static inline fc_status fc_enqueue_of_dtype(const fc_device_kernel (&kernels)[FC_DTYPE_COUNT], uint32_t q_tile_rows,
                                            unsigned threads, const fc_launch *launch, cudaStream_t stream)
{
    if ((unsigned)launch->plan.dtype >= FC_DTYPE_COUNT)
        return FC_INTERNAL;
    return fc_enqueue(kernels[launch->plan.dtype], {q_tile_rows, launch->block_count, threads, 0}, launch, stream);
}

/* A kernel compiled for one tile shape: a row of a rung's table. */
struct fc_variant {
    int head_dim; /* the widest it does */
    uint32_t q_tile_rows;
    unsigned threads;
    fc_device_kernel kernels[FC_DTYPE_COUNT]; /* in the order of fc_dtype; NULL: not of this type */
    size_t shared_bytes[FC_DTYPE_COUNT];
};

/* For kernels that come in variants, and do one block of work a block. */
template <size_t COUNT>
static inline fc_status fc_enqueue_variant(const fc_variant (&variants)[COUNT], const fc_launch *launch,
                                           cudaStream_t stream)
{
    const fc_plan &plan = launch->plan;
    if (plan.variant >= COUNT || (unsigned)plan.dtype >= FC_DTYPE_COUNT)
        return FC_INTERNAL;
    const fc_variant &variant = variants[plan.variant];
    if (variant.kernels[plan.dtype] == NULL || plan.head_dim > variant.head_dim)
        return FC_INTERNAL;
    return fc_enqueue(variant.kernels[plan.dtype],
                      {variant.q_tile_rows, launch->block_count, variant.threads, variant.shared_bytes[plan.dtype]},
                      launch, stream);
}

#endif
