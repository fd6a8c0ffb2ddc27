/* Breaks the GPU under a daemon that this library is preloaded into: tests/gpu/broken.py. No part of the product knows
 * of it: a thread of its own waits for a file that FC_BROKEN_ORDER names, and then launches, in the daemon's context,
 * on a stream beside the lanes',
 *
 *     hang 20     blocks that fill every multiprocessor for 20 seconds: what the lanes launch meanwhile does not start
 *     address 0   a store to an address that is nobody's: an error that every later call of the process is told of
 *     trap 0      likewise, by a trap
 *
 * and removes the file. All kernels end by themselves, so that no machine is left with one.
 */
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_AGAIN_NS 2000000
#define BLOCKS_A_PROCESSOR 2 /* of so many threads are all that a multiprocessor holds */
#define THREADS 1024

static __device__ unsigned long long now_ns()
{
    unsigned long long ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

static __global__ void hang(unsigned long long ns)
{
    unsigned long long begin_ns = now_ns();
    while (now_ns() - begin_ns < ns)
        __nanosleep(1000);
}

static __global__ void address(unsigned long long *nobodys)
{
    *nobodys = 1;
}

static __global__ void trap()
{
    asm volatile("trap;");
}

static const char *carry_out(const char *what, double seconds)
{
    cudaDeviceProp properties;
    cudaStream_t stream;
    if (cudaSetDevice(0) != cudaSuccess || cudaGetDeviceProperties(&properties, 0) != cudaSuccess ||
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess)
        return cudaGetErrorName(cudaGetLastError());
    if (strcmp(what, "hang") == 0)
        hang<<<BLOCKS_A_PROCESSOR * properties.multiProcessorCount, THREADS, 0, stream>>>(
            (unsigned long long)(seconds * 1e9));
    else if (strcmp(what, "address") == 0)
        address<<<1, 1, 0, stream>>>((unsigned long long *)0x10);
    else
        trap<<<1, 1, 0, stream>>>();
    return cudaGetErrorName(cudaGetLastError());
}

static void *await_order(void *path)
{
    for (;;) {
        const struct timespec pause = {0, LOOK_AGAIN_NS};
        char what[16];
        double seconds;
        FILE *file = fopen((const char *)path, "r");
        bool is_order = file != NULL && fscanf(file, "%15s %lf", what, &seconds) == 2;
        if (file != NULL)
            fclose(file);
        if (is_order) {
            const char *result = carry_out(what, seconds);
            fprintf(stderr, "broken: %s: %s\n", what, result);
            unlink((const char *)path);
        }
        nanosleep(&pause, NULL);
    }
}

__attribute__((constructor)) static void begin()
{
    pthread_t thread;
    char *path = getenv("FC_BROKEN_ORDER");
    if (path != NULL && pthread_create(&thread, NULL, await_order, path) == 0)
        pthread_detach(thread);
}
