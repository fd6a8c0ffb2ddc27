/* See device.h. */
#include "tests/gpu/device.h"

#include <stdio.h>
#include <stdlib.h>

static const char *current_activity = "starting";

void device_set_activity(const char *activity)
{
    current_activity = activity;
}

void device_check(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    printf("FAIL %s: %s: %s\n", current_activity, what, cudaGetErrorString(error));
    exit(3);
}

void device_arena_init(device_arena *arena, size_t bytes)
{
    arena->bytes = bytes;
    arena->used = 0;
    CUDA_OK(cudaMalloc((void **)&arena->d_base, bytes));
}

void device_arena_fini(device_arena *arena)
{
    CUDA_OK(cudaFree(arena->d_base));
}

void *device_arena_take(device_arena *arena, size_t bytes)
{
    size_t place = arena->used;
    arena->used += (bytes + 255) / 256 * 256;
    if (arena->used <= arena->bytes)
        return arena->d_base + place;
    fprintf(stderr, "the test's device arena of %zu bytes is too small\n", arena->bytes);
    exit(3);
}
