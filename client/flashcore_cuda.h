/* flashcore_cuda.h: device arenas for clients of flashcored that have CUDA: libflashcore-client-cuda, beside
 * libflashcore-client, which knows none.
 *
 * It needs no CUDA to be built or loaded: the driver, libcuda.so.1, is looked for when the first arena is made. What
 * flashcore_arena_alloc() gives of a device arena is a device address like those of cudaMalloc(), on the server's GPU:
 * to be filled by kernels and copies of any stream, and complete (cudaStreamSynchronize) before a request names it.
 *
 * Any thread. Usable from C99 and C++. Not after fork(): the driver does not survive it.
 */
#ifndef FLASHCORE_CUDA_H
#define FLASHCORE_CUDA_H

#include "flashcore.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What flashcore_device_arena_create() wants. Never NULL, lives for ever. Its map() answers UNSUPPORTED where there is
 * no driver, or where this process does not see the server's GPU (CUDA_VISIBLE_DEVICES); INTERNAL when the driver
 * refuses. Each mapping holds the device's primary context, the one that the CUDA runtime uses. */
FLASHCORE_API const flashcore_device_mapper *flashcore_cuda_mapper(void);

/* flashcore_device_arena_create() with it: see there. alloc, reset, size and destroy are flashcore_arena_alloc() and
 * its like. */
static inline flashcore_status flashcore_cuda_arena_create(flashcore_client *client, uint32_t url_index,
                                                           size_t size_bytes, flashcore_arena **out_arena)
{
    return flashcore_device_arena_create(client, url_index, size_bytes, flashcore_cuda_mapper(), out_arena);
}

/* For callers without a CUDA runtime of their own: copies into a device arena, or out of it, and returns when the copy
 * is complete. INVALID_ARGUMENT: not all of it lies in one arena that is mapped; INTERNAL: the driver refused. */
FLASHCORE_API flashcore_status flashcore_cuda_upload(void *d_to, const void *from, size_t size_bytes);
FLASHCORE_API flashcore_status flashcore_cuda_download(void *to, const void *d_from, size_t size_bytes);

#ifdef __cplusplus
}
#endif

#endif
