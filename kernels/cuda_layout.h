/* Where everything of a launch lies in a lane's two buffers, the pinned one and the device's, and how it gets there. No
 * CUDA here: host code that decides, and copies between host memories.
 *
 *     | heads (cuda_heads.h) | staged inputs | staged outputs | what the device fetches and brings by itself |
 *
 * An offset means the same in both buffers. Every copy starts on 256 bytes. Staged tensors pass through the pinned
 * buffer, packed; the rest of the device's buffer has no use for its pinned twin. Inputs that lie close together in one
 * registered region, in any order, come in one copy, and lie on the device as they lie there; outputs only where
 * nothing at all lies between them, because a copy back writes all it covers.
 *
 * Threads: pure, but for the copying. Memory is the caller's.
 */
#ifndef FC_KERNELS_CUDA_LAYOUT_H
#define FC_KERNELS_CUDA_LAYOUT_H

#include "kernels/engine.h"

typedef enum fc_cuda_way {
    FC_CUDA_STAGED,   /* through the pinned buffer */
    FC_CUDA_DIRECT,   /* the device copies from or to where it lies */
    FC_CUDA_RESIDENT, /* on the device already: kernels use it where it lies */
    FC_CUDA_DROPPED   /* an lse nobody asked for: has a place on the device alone */
} fc_cuda_way;

/* A tensor in the caller's memory, [batch, heads, tokens, row], and its place in the buffers. */
typedef struct fc_cuda_tensor {
    char *base;
    fc_strides strides; /* of the caller's memory */
    int64_t batch, heads, tokens;
    size_t row_bytes, element_bytes;
    fc_memory_place place;
    fc_cuda_way way;
    size_t offset;    /* unless resident */
    size_t run_bytes; /* direct: bytes of the copy that begins with it; 0: it comes or goes with another */
} fc_cuda_tensor;

enum { FC_CUDA_Q, FC_CUDA_K, FC_CUDA_V, FC_CUDA_OUT, FC_CUDA_LSE, FC_CUDA_TENSORS, FC_CUDA_INPUTS = FC_CUDA_OUT };

typedef struct fc_cuda_job {
    fc_cuda_tensor tensors[FC_CUDA_TENSORS];
} fc_cuda_job;

/* Offsets; each part begins where the one before ends. */
typedef struct fc_cuda_layout {
    size_t head_end, inputs_end, outputs_end, end;
} fc_cuda_layout;

/* Bytes rounded up to where the next thing may start. */
size_t fc_cuda_layout_aligned(size_t bytes);

/* What a head takes: segments, and behind them, aligned, their descriptors. */
size_t fc_cuda_layout_head_bytes(uint32_t segment_count, uint32_t descriptor_bytes);

/* What a job adds to that at most: see fc_engine_ops.staging_bytes. */
size_t fc_cuda_layout_job_bytes(const fc_problem *problem, const fc_memory_places *places);

/* Chooses the way and the place of each tensor of each job: out_jobs[job_count]. FC_INTERNAL: a tensor in device memory
 * does not lie as kernels want it. */
fc_status fc_cuda_layout_make(const fc_engine_job *jobs, uint32_t job_count, size_t head_bytes, fc_cuda_job *out_jobs,
                              fc_cuda_layout *out_layout, fc_reason *out_reason);

/* The job as kernels see it: device addresses, and how the tensors lie there. */
fc_tensors fc_cuda_layout_tensors(const fc_cuda_job *job, char *d_buffer);

/* Bytes of the tensor, packed. */
size_t fc_cuda_tensor_bytes(const fc_cuda_tensor *tensor);

/* Is it packed where it lies, in either layout? Then it keeps its order, and any part of it can be copied alone. */
bool fc_cuda_tensor_is_packed(const fc_cuda_tensor *tensor);

/* Copies all of a tensor between the caller's memory and a packed place. */
void fc_cuda_tensor_pack(const fc_cuda_tensor *tensor, char *packed);
void fc_cuda_tensor_unpack(const fc_cuda_tensor *tensor, const char *packed);

#endif
