/* What a request costs the GPU and the bus with no service around it: gpu_floors SECONDS B,H,S,D...
 *
 * Of each shape, in the rung its plan chooses, tensors contiguous, host memory pinned, client-clock times:
 *   launch    launch and synchronise, everything on the device already
 *   copy_in, copy_out   one copy and synchronise
 *   stream    one stream: copy in, kernel, copy out, one synchronise
 *   pipeline  four streams doing that; one thread waits for the oldest request and puts the next in its place
 *   kernels   the same without the copies
 *
 * gpu_floors init: times CUDA's own initialisation, prints it, and stays until stdin ends, so that its memory can be
 * looked at.
 *
 * Links flashcore-cuda.so and uses what it exports (kernels/cuda_api.h), with a CUDA runtime of its own.
 */
#include "kernels/cuda_api.h"
#include "tests/bench/floor.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STREAMS = 4 };

static void check(cudaError_t error, const char *what)
{
    if (error != cudaSuccess)
        floor_fail(what, cudaGetErrorName(error));
}

/* --- one stream and its memory ------------------------------------------------------------------------------------ */

typedef struct lane {
    cudaStream_t stream;
    unsigned char *host, *d_tensors; /* q k v, out, lse, one behind the other */
    void *d_rest[4];                 /* segments, descriptors, workspace, tickets */
    fc_segment *segments;
    void *descriptors;
    fc_launch launch;
    size_t in_bytes, out_bytes;
} lane;

/* Device memory with a copy of bytes in it; NULL for none. */
static void *put(lane *l, const void *bytes, size_t count)
{
    void *d_memory = NULL, *pinned = NULL;
    if (count == 0)
        return NULL;
    check(cudaMalloc(&d_memory, count), "device memory");
    check(cudaMallocHost(&pinned, count), "pinned memory");
    memcpy(pinned, bytes, count);
    check(cudaMemcpyAsync(d_memory, pinned, count, cudaMemcpyHostToDevice, l->stream), "copy");
    check(cudaStreamSynchronize(l->stream), "copy");
    check(cudaFreeHost(pinned), "pinned memory");
    return d_memory;
}

static void describe(lane *l)
{
    size_t bytes = (size_t)l->launch.segment_count * l->launch.plan.descriptor_bytes;
    if (bytes == 0)
        return;
    l->descriptors = malloc(bytes);
    if (l->descriptors == NULL || flashcore_launch_describe(&l->launch, l->descriptors) != FC_OK)
        floor_fail("descriptors", "the driver refused to make them");
    l->d_rest[1] = put(l, l->descriptors, bytes);
    l->launch.descriptors = l->descriptors;
    l->launch.d_descriptors = l->d_rest[1];
}

static void open_lane(lane *l, const fc_problem *p, const fc_plan *plan)
{
    size_t segment_bytes = (size_t)p->batch * sizeof *l->segments;
    void *tickets = calloc(plan->ticket_count + 1, sizeof(uint32_t)), *d_memory = NULL, *host = NULL;
    *l = (lane){.in_bytes = floor_q_bytes(p) + 2 * floor_kv_bytes(p), .out_bytes = floor_q_bytes(p)};
    l->segments = malloc(segment_bytes);
    if (tickets == NULL || l->segments == NULL)
        floor_fail("lane", "out of memory");
    check(cudaStreamCreateWithFlags(&l->stream, cudaStreamNonBlocking), "stream");
    check(cudaMalloc(&d_memory, l->in_bytes + l->out_bytes + floor_lse_bytes(p)), "device memory");
    check(cudaMallocHost(&host, l->in_bytes + l->out_bytes), "pinned memory");
    l->d_tensors = d_memory;
    l->host = host;
    floor_fill(l->host, l->in_bytes);
    fc_tensors tensors = floor_tensors(p, l->d_tensors);
    flashcore_problem_segments(p, plan, &tensors, l->segments);
    l->launch = (fc_launch){.plan = *plan, .segments = l->segments, .segment_count = (uint32_t)p->batch};
    l->launch.block_count = flashcore_launch_index(plan, l->segments, (uint32_t)p->batch);
    l->d_rest[0] = put(l, l->segments, segment_bytes);
    l->launch.d_segments = l->d_rest[0];
    describe(l);
    if (plan->workspace_bytes > 0)
        check(cudaMalloc(&l->d_rest[2], plan->workspace_bytes), "workspace");
    l->launch.d_workspace = l->d_rest[2];
    l->launch.workspace_bytes = plan->workspace_bytes;
    l->d_rest[3] = put(l, tickets, plan->ticket_count * sizeof(uint32_t));
    l->launch.d_tickets = l->d_rest[3];
    free(tickets);
}

static void close_lane(lane *l)
{
    check(cudaStreamSynchronize(l->stream), "stream");
    for (int i = 0; i < 4; i++)
        check(cudaFree(l->d_rest[i]), "device memory");
    check(cudaFree(l->d_tensors), "device memory");
    check(cudaFreeHost(l->host), "pinned memory");
    check(cudaStreamDestroy(l->stream), "stream");
    free(l->segments);
    free(l->descriptors);
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

static bool copy_in(lane *l)
{
    return cudaMemcpyAsync(l->d_tensors, l->host, l->in_bytes, cudaMemcpyHostToDevice, l->stream) == cudaSuccess;
}

static bool copy_out(lane *l)
{
    return cudaMemcpyAsync(l->host + l->in_bytes, l->d_tensors + l->in_bytes, l->out_bytes, cudaMemcpyDeviceToHost,
                           l->stream) == cudaSuccess;
}

static bool launch(lane *l)
{
    return flashcore_kernel_launch(&l->launch, l->stream) == FC_OK;
}

static bool finish(lane *l)
{
    return cudaStreamSynchronize(l->stream) == cudaSuccess;
}

static bool step_launch(void *l)
{
    return launch(l) && finish(l);
}

static bool step_copy_in(void *l)
{
    return copy_in(l) && finish(l);
}

static bool step_copy_out(void *l)
{
    return copy_out(l) && finish(l);
}

static bool step_stream(void *l)
{
    return copy_in(l) && launch(l) && copy_out(l) && finish(l);
}

typedef struct pipeline {
    lane *lanes;
    int next;
    bool has_copies;
} pipeline;

/* Waits for the oldest request, and puts the next in its place. */
static bool step_pipeline(void *context)
{
    pipeline *p = context;
    lane *l = &p->lanes[p->next];
    p->next = (p->next + 1) % STREAMS;
    if (!finish(l))
        return false;
    return p->has_copies ? copy_in(l) && launch(l) && copy_out(l) : launch(l);
}

static void print_rate(const char *name, lane *lanes, bool has_copies, double seconds)
{
    pipeline p = {.lanes = lanes, .has_copies = has_copies};
    floor_times times;
    floor_times_init(&times);
    floor_times_take(&times, seconds, step_pipeline, &p);
    for (int i = 0; i < STREAMS; i++)
        finish(&lanes[i]);
    printf("\"%s\": {\"per_second\": %.1f, \"count\": %zu}", name, floor_times_per_second(&times), times.count);
    floor_times_fini(&times);
}

static void print_steps(lane *lanes, double seconds)
{
    static const struct {
        const char *name;
        floor_step step;
    } STEPS[] = {
        {"launch", step_launch}, {"copy_in", step_copy_in}, {"copy_out", step_copy_out}, {"stream", step_stream}};
    for (size_t i = 0; i < sizeof STEPS / sizeof STEPS[0]; i++) {
        floor_times times;
        floor_times_init(&times);
        floor_times_take(&times, seconds, STEPS[i].step, &lanes[0]);
        floor_times_print(STEPS[i].name, &times);
        printf(", ");
        floor_times_fini(&times);
    }
    print_rate("pipeline", lanes, true, seconds);
    printf(", ");
    print_rate("kernels", lanes, false, seconds);
}

static void print_shape(const char *sides, const fc_device *device, double seconds)
{
    lane lanes[STREAMS];
    fc_problem problem;
    fc_plan plan;
    fc_reason reason = {""};
    if (!floor_problem(sides, &problem))
        floor_fail(sides, "not a problem's B,H,S,D");
    if (flashcore_plan_make(device, FC_KERNEL_AUTO, &problem, &plan, &reason) != FC_OK)
        floor_fail(sides, reason.text);
    for (int i = 0; i < STREAMS; i++)
        open_lane(&lanes[i], &problem, &plan);
    printf("\"%s\": {\"kernel\": \"%s\", \"in_bytes\": %zu, \"out_bytes\": %zu, ", sides,
           flashcore_kernel_name(plan.kernel), lanes[0].in_bytes, lanes[0].out_bytes);
    print_steps(lanes, seconds);
    printf("}");
    for (int i = 0; i < STREAMS; i++)
        close_lane(&lanes[i]);
}

/* --- the program -------------------------------------------------------------------------------------------------- */

static int print_init(void)
{
    double start_us = floor_now_us();
    check(cudaSetDevice(0), "device");
    check(cudaFree(NULL), "device");
    printf("{\"cuda_init_s\": %.4f}\n", (floor_now_us() - start_us) / 1e6);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return 0;
}

int main(int argc, char **argv)
{
    struct cudaDeviceProp properties;
    double seconds = argc >= 3 ? strtod(argv[1], NULL) : 0;
    if (argc == 2 && strcmp(argv[1], "init") == 0)
        return print_init();
    if (!(seconds > 0)) {
        fprintf(stderr, "usage: gpu_floors SECONDS B,H,S,D... | gpu_floors init\n");
        return 2;
    }
    check(cudaSetDevice(0), "device");
    check(cudaGetDeviceProperties(&properties, 0), "device");
    const fc_device device = {.engine = FC_ENGINE_CUDA,
                              .compute_capability = 10 * properties.major + properties.minor,
                              .processor_count = properties.multiProcessorCount};
    printf("{\"device\": \"%s\", \"streams\": %d, \"shapes\": {", properties.name, STREAMS);
    for (int i = 2; i < argc; i++) {
        print_shape(argv[i], &device, seconds);
        printf(i + 1 < argc ? ", " : "}}\n");
    }
    return 0;
}
