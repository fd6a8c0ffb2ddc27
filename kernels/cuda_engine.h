/* What the files of the CUDA engine share: the engine itself, its lanes' functions, and how CUDA errors are told.
 *
 * Threads: an fc_engine is written by open alone, but for `is_lost`, which any lane may set; each lane belongs to the
 * thread that opened it, which has the engine's device current from then on.
 */
#ifndef FC_KERNELS_CUDA_ENGINE_H
#define FC_KERNELS_CUDA_ENGINE_H

#include "kernels/engine.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>
#include <stdatomic.h>

/* The driver's functions for memory that can be shared; all NULL where it cannot: cuda_memory.c. */
typedef struct fc_cuda_memory_calls {
    PFN_cuDeviceGetAttribute_v2000 attribute;
    PFN_cuMemGetAllocationGranularity_v10020 granularity;
    PFN_cuMemCreate_v10020 create;
    PFN_cuMemRelease_v10020 release;
    PFN_cuMemExportToShareableHandle_v10020 export_fd;
    PFN_cuMemAddressReserve_v10020 reserve;
    PFN_cuMemAddressFree_v10020 unreserve;
    PFN_cuMemMap_v10020 map;
    PFN_cuMemUnmap_v10020 unmap;
    PFN_cuMemSetAccess_v10020 set_access;
} fc_cuda_memory_calls;

struct fc_engine {
    fc_engine_config config;
    fc_engine_info info;
    fc_cuda_memory_calls memory;
    atomic_bool is_lost; /* the CUDA context is broken for good: nothing on it will run again */
};

/* Fails with the error's name: FC_NO_MEMORY for cudaErrorMemoryAllocation, else FC_INTERNAL. `doing` completes the
 * sentence "cudaErrorX while ...". Also clears the runtime's last error of this thread. */
fc_status fc_cuda_fail(cudaError_t error, const char *doing, fc_reason *out_reason);

/* The same for calls that no lane made: finds out whether the context survived the failure, and says FC_DEVICE_LOST
 * from then on when it has not. */
fc_status fc_cuda_fail_beside(fc_engine *engine, cudaError_t error, const char *doing, fc_reason *out_reason);

/* Says that the context is broken for good. Returns FC_DEVICE_LOST. */
fc_status fc_cuda_lost(fc_reason *out_reason);

/* The ops of engine.h that concern lanes and their memory. */
size_t fc_cuda_staging_bytes(const fc_engine *engine, const fc_problem *problem, const fc_memory_places *places);
fc_status fc_cuda_lane_open(fc_engine *engine, fc_engine_lane **out_lane, fc_reason *out_reason);
void fc_cuda_lane_close(fc_engine_lane *lane);
fc_status fc_cuda_lane_run(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count,
                           fc_engine_timing *out_timing, fc_reason *out_reason);

/* Finds out, once the device is started, whether its memory can be shared: fills engine->memory and what info says of
 * it. FC_OK too where it cannot. */
fc_status fc_cuda_memory_find(fc_engine *engine, fc_reason *out_reason);

/* The ops of engine.h that concern memory. */
fc_status fc_cuda_memory_open(fc_engine *engine, size_t size_bytes, fc_engine_memory *out_memory,
                              fc_reason *out_reason);
void fc_cuda_memory_close(fc_engine *engine, fc_engine_memory *memory);

#endif
