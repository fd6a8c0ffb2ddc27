/* The CUDA engine as the daemon sees it: picks the device, says what it is, plans for it. Its lanes are in cuda_lane.c.
 */
#include "kernels/cuda_engine.h"

#include "kernels/cuda_api.h"
#include "kernels/cuda_launch.h"
#include "kernels/cuda_targets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* While one lane answers, the others keep the copy engines and the kernels busy. */
enum { LANE_COUNT = 4, LEAST_CAPABILITY = 80 };

/* Copies of one launch run after each other, so what shares it waits for all of it, and lanes that take all there is
 * leave each other nothing to overlap with. 16 clients with 2 MiB each on an H100: 17,000 requests/s where a launch
 * takes what there is (6 of them), 22,800 with at most 4, 27,400 with at most 2; a launch alone costs some 30 us, as
 * much as copying 2 MiB. */
#define LAUNCH_BYTES ((size_t)5 << 20)

fc_status fc_cuda_fail(cudaError_t error, const char *doing, fc_reason *out_reason)
{
    (void)cudaGetLastError();
    return fc_fail(error == cudaErrorMemoryAllocation ? FC_NO_MEMORY : FC_INTERNAL, out_reason, "%s while %s",
                   cudaGetErrorName(error), doing);
}

/* Errors of the device itself come back from every call until the process ends; this one waits for nothing that runs.
 */
fc_status fc_cuda_fail_beside(fc_engine *engine, cudaError_t error, const char *doing, fc_reason *out_reason)
{
    size_t free_bytes, total_bytes;
    fc_status st = fc_cuda_fail(error, doing, out_reason);
    if (cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess)
        return st;
    (void)cudaGetLastError();
    atomic_store(&engine->is_lost, true);
    return FC_DEVICE_LOST;
}

/* Is there a driver, and one that this runtime can work with? */
static fc_status check_driver(fc_reason *out_reason)
{
    int driver = 0, runtime = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        return fc_fail(FC_UNSUPPORTED, out_reason, "no NVIDIA driver is installed");
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess || driver / 1000 < runtime / 1000)
        return fc_fail(FC_UNSUPPORTED, out_reason, "the NVIDIA driver is too old: it knows CUDA %d.%d, %d.0 is needed",
                       driver / 1000, driver % 1000 / 10, runtime / 1000);
    return FC_OK;
}

static fc_status check_index(int32_t index, fc_reason *out_reason)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorMemoryAllocation)
        return fc_cuda_fail(error, "looking for devices", out_reason);
    if (error != cudaSuccess || count == 0) {
        (void)cudaGetLastError();
        return fc_fail(FC_UNSUPPORTED, out_reason, "no usable NVIDIA GPU (%s)",
                       cudaGetErrorName(error == cudaSuccess ? cudaErrorNoDevice : error));
    }
    if (index < 0 || index >= count)
        return fc_fail(FC_UNSUPPORTED, out_reason, "no device %d: there %s %d, numbered from 0", (int)index,
                       count == 1 ? "is" : "are", count);
    return FC_OK;
}

/* Reads the device's properties into the engine's own words. */
static fc_status describe_device(int32_t index, fc_engine_info *out_info, fc_reason *out_reason)
{
    struct cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, index);
    if (error != cudaSuccess)
        return fc_cuda_fail(error, "reading the device's properties", out_reason);
    *out_info = (fc_engine_info){
        .device = {.engine = FC_ENGINE_CUDA,
                   .compute_capability = properties.major * 10 + properties.minor,
                   .processor_count = properties.multiProcessorCount},
        .device_bytes = properties.totalGlobalMem,
        .default_kernel = FC_KERNEL_COUNT,
        .lane_count = LANE_COUNT,
        .launch_bytes = LAUNCH_BYTES,
    };
    snprintf(out_info->device_name, sizeof out_info->device_name, "%.*s", (int)sizeof out_info->device_name - 1,
             properties.name);
    memcpy(out_info->device_uuid, properties.uuid.bytes, sizeof out_info->device_uuid);
    if (out_info->device.compute_capability < LEAST_CAPABILITY)
        return fc_fail(FC_UNSUPPORTED, out_reason, "%s has compute capability %d.%d; %d.%d or newer is needed",
                       out_info->device_name, properties.major, properties.minor, LEAST_CAPABILITY / 10,
                       LEAST_CAPABILITY % 10);
    if (!fc_cuda_targets_run_on(out_info->device.compute_capability))
        return fc_fail(FC_UNSUPPORTED, out_reason, "%s has compute capability %d.%d; this engine was built for %s",
                       out_info->device_name, properties.major, properties.minor, fc_cuda_targets());
    return FC_OK;
}

/* Which rungs were built in and run here, and what auto makes of them. */
static void list_kernels(fc_engine_info *info)
{
    for (int i = 0; i < FC_KERNEL_COUNT; i++)
        info->has_kernel[i] =
            fc_cuda_launch_find((fc_kernel)i) != NULL && fc_kernel_runs_on((fc_kernel)i, &info->device);
    /* Elsewhere it compiles to a trap: a build for other targets has everything else. */
    if (!fc_cuda_targets_are_specific_to(info->device.compute_capability))
        info->has_kernel[FC_KERNEL_HOPPER] = false;
    info->default_kernel = fc_kernel_default(&info->device);
}

static fc_status engine_open(const fc_engine_config *config, fc_engine **out_engine, fc_reason *out_reason)
{
    fc_engine *engine;
    cudaError_t error;
    fc_status st = check_driver(out_reason);
    if (st == FC_OK)
        st = check_index(config->device_index, out_reason);
    if (st != FC_OK)
        return st;
    engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "no memory for the engine");
    engine->config = *config;
    st = describe_device(config->device_index, &engine->info, out_reason);
    if (st != FC_OK)
        goto free_engine;
    list_kernels(&engine->info);
    /* Whoever waits, sleeps: lanes stay awake by themselves for as long as they were told. */
    error = cudaInitDevice(config->device_index, cudaDeviceScheduleBlockingSync, cudaInitDeviceFlagsAreValid);
    if (error != cudaSuccess) {
        st = fc_cuda_fail(error, "starting the device", out_reason);
        goto free_engine;
    }
    st = fc_cuda_memory_find(engine, out_reason);
    if (st != FC_OK)
        goto free_engine;
    *out_engine = engine;
    return FC_OK;
free_engine:
    free(engine);
    return st;
}

/* The context stays: it is the process's, and its end is the device's end of it. */
static void engine_close(fc_engine *engine)
{
    free(engine);
}

static void engine_describe(const fc_engine *engine, fc_engine_info *out_info)
{
    *out_info = engine->info;
}

/* The highest rung of the ladder that is here and can do the problem. */
static fc_status plan_second_best(const fc_engine *engine, const fc_problem *problem, fc_plan *out_plan,
                                  fc_reason *out_reason)
{
    for (int kernel = FC_KERNEL_COUNT - 1; kernel >= 0; kernel--) {
        if (engine->info.has_kernel[kernel] &&
            fc_plan_make(&engine->info.device, (fc_kernel)kernel, problem, out_plan, out_reason) == FC_OK)
            return FC_OK;
    }
    return fc_fail(FC_UNSUPPORTED, out_reason, "kernel: this engine was built without one for this problem");
}

static fc_status engine_plan(const fc_engine *engine, fc_kernel wanted, const fc_problem *problem, fc_plan *out_plan,
                             fc_reason *out_reason)
{
    fc_plan plan;
    fc_status st = fc_plan_make(&engine->info.device, wanted, problem, &plan, out_reason);
    if (st == FC_OK && !engine->info.has_kernel[plan.kernel])
        st = wanted == FC_KERNEL_AUTO
                 ? plan_second_best(engine, problem, &plan, out_reason)
                 : fc_fail(FC_UNSUPPORTED, out_reason, "kernel: this engine was built without %s for this GPU",
                           fc_kernel_name(wanted));
    if (st == FC_OK)
        *out_plan = plan;
    return st;
}

fc_status fc_cuda_lost(fc_reason *out_reason)
{
    return fc_fail(FC_DEVICE_LOST, out_reason, "the GPU failed earlier; the server has to be restarted");
}

/* The caller's thread may never have talked to the device. */
static fc_status memory_register(fc_engine *engine, void *base, size_t size_bytes, fc_reason *out_reason)
{
    cudaError_t error;
    if (atomic_load(&engine->is_lost))
        return fc_cuda_lost(out_reason);
    error = cudaSetDevice(engine->config.device_index);
    if (error == cudaSuccess)
        error = cudaHostRegister(base, size_bytes, cudaHostRegisterDefault);
    return error == cudaSuccess ? FC_OK : fc_cuda_fail_beside(engine, error, "registering memory", out_reason);
}

static void memory_unregister(fc_engine *engine, void *base)
{
    (void)cudaSetDevice(engine->config.device_index);
    (void)cudaHostUnregister(base);
    (void)cudaGetLastError();
}

static const fc_engine_ops OPS = {
    .abi_version = FC_ENGINE_ABI_VERSION,
    .name = "cuda",
    .open = engine_open,
    .close = engine_close,
    .describe = engine_describe,
    .plan = engine_plan,
    .staging_bytes = fc_cuda_staging_bytes,
    .memory_register = memory_register,
    .memory_unregister = memory_unregister,
    .lane_open = fc_cuda_lane_open,
    .lane_close = fc_cuda_lane_close,
    .lane_run = fc_cuda_lane_run,
    .memory_open = fc_cuda_memory_open,
    .memory_close = fc_cuda_memory_close,
};

const fc_engine_ops *flashcore_engine_cuda(void)
{
    return &OPS;
}
