/* CUDA for test programs: an error ends the program with one line, memory comes from one arena.
 *
 * One thread. */
#ifndef FC_TESTS_GPU_DEVICE_H
#define FC_TESTS_GPU_DEVICE_H

#include <cuda_runtime_api.h>
#include <stddef.h>

/* What the program is doing, for the line it ends with should a call fail. Borrowed until the next call. */
void device_set_activity(const char *activity);

/* Exits unless the call succeeded. */
#define CUDA_OK(call) device_check((call), #call)
void device_check(cudaError_t error, const char *what);

/* One device allocation, handed out in 256-byte aligned pieces and taken back all at once. Exits when it is spent. */
typedef struct device_arena {
    char *d_base;
    size_t bytes, used;
} device_arena;

void device_arena_init(device_arena *arena, size_t bytes);
void device_arena_fini(device_arena *arena);
void *device_arena_take(device_arena *arena, size_t bytes);

#endif
