/* What the files of the CUDA engine share: the engine itself, its lanes' functions, and how CUDA errors are told.
 *
 * Threads: an fc_engine is written by open alone, but for `is_lost`, which any lane may set; each lane belongs to the
 * thread that opened it, which has the engine's device current from then on.
 */
#ifndef FC_KERNELS_CUDA_ENGINE_H
#define FC_KERNELS_CUDA_ENGINE_H

#include "kernels/engine.h"

#include <cuda_runtime_api.h>
#include <stdatomic.h>

struct fc_engine {
    fc_engine_config config;
    fc_engine_info info;
    atomic_bool is_lost; /* the CUDA context is broken for good: nothing on it will run again */
};

/* Fails with the error's name: FC_NO_MEMORY for cudaErrorMemoryAllocation, else FC_INTERNAL. `doing` completes the
 * sentence "cudaErrorX while ...". Also clears the runtime's last error of this thread. */
fc_status fc_cuda_fail(cudaError_t error, const char *doing, fc_reason *out_reason);

/* Says that the context is broken for good. Returns FC_DEVICE_LOST. */
fc_status fc_cuda_lost(fc_reason *out_reason);

/* The ops of engine.h that concern lanes and their memory. */
size_t fc_cuda_staging_bytes(const fc_engine *engine, const fc_problem *problem, const fc_memory_places *places);
fc_status fc_cuda_lane_open(fc_engine *engine, fc_engine_lane **out_lane, fc_reason *out_reason);
void fc_cuda_lane_close(fc_engine_lane *lane);
fc_status fc_cuda_lane_run(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count,
                           fc_engine_timing *out_timing, fc_reason *out_reason);

#endif
