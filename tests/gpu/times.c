/* Kernel times: a CUDA graph holding a linear chain of launches over rotating sets of tensors, divided by their number;
 * the median of many replays. Warm: the sets fit the L2 cache together; cold: they are more than twice as large.
 */
#include "tests/gpu/cases.h"

#include "kernels/cuda_launch.h"
#include "tests/gpu/tensor.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_SETS = 4, MAX_SETS = 128, REPLAYS = 15, CHAIN = 32 };

typedef struct time_row {
    const char *name;
    int32_t batch, q_heads, kv_heads, q_len, kv_len, head_dim;
    fc_dtype dtype;
    fc_causal causal;
} time_row;

/* The first row is the ladder's benchmark problem. */
static const time_row ROWS[] = {
    {"B1 H8 S512 D64 f16", 1, 8, 8, 512, 512, 64, FC_F16, FC_CAUSAL_NONE},
    {"B1 H8 S512 D64 bf16", 1, 8, 8, 512, 512, 64, FC_BF16, FC_CAUSAL_NONE},
    {"B1 H8 S512 D64 f32", 1, 8, 8, 512, 512, 64, FC_F32, FC_CAUSAL_NONE},
    {"B1 H8 S512 D64 f16 causal", 1, 8, 8, 512, 512, 64, FC_F16, FC_CAUSAL_TOP_LEFT},
    {"B1 H8 S128 D64 f16", 1, 8, 8, 128, 128, 64, FC_F16, FC_CAUSAL_NONE},
    {"B1 H8 S2048 D64 f16", 1, 8, 8, 2048, 2048, 64, FC_F16, FC_CAUSAL_NONE},
    {"B1 H8 S512 D128 f16", 1, 8, 8, 512, 512, 128, FC_F16, FC_CAUSAL_NONE},
    {"B2 H32/8 decode Sk4096 D128 f16", 2, 32, 8, 1, 4096, 128, FC_F16, FC_CAUSAL_NONE},
};
enum { ROW_COUNT = sizeof ROWS / sizeof *ROWS, MAX_BATCH = 8 };

/* One set of tensors and the launch over it. */
typedef struct set {
    fc_segment segments[MAX_BATCH];
    fc_launch launch;
} set;

static fc_problem problem_of(const time_row *row)
{
    return (fc_problem){.dtype = row->dtype,
                        .causal = row->causal,
                        .batch = row->batch,
                        .q_heads = row->q_heads,
                        .kv_heads = row->kv_heads,
                        .q_len = row->q_len,
                        .kv_len = row->kv_len,
                        .head_dim = row->head_dim,
                        .window_left = -1,
                        .window_right = -1,
                        .scale = 1 / sqrtf((float)row->head_dim)};
}

static size_t set_bytes(const time_row *row)
{
    size_t q = (size_t)row->batch * (size_t)row->q_heads * (size_t)row->q_len;
    size_t kv = (size_t)row->batch * (size_t)row->kv_heads * (size_t)row->kv_len;
    return 2 * (q + kv) * (size_t)row->head_dim * fc_dtype_bytes(row->dtype) + q * sizeof(float);
}

/* Random tensors, uploaded; the host copies go at once. */
static void *device_tensor(device_arena *arena, fc_dtype dtype, const int64_t shape[4], uint64_t seed)
{
    tensor t;
    tensor_init(&t, arena, dtype, ARRANGED_BHSD, shape);
    if (seed != 0)
        tensor_fill(&t, 1, 0, seed);
    tensor_upload(&t);
    tensor_fini(&t);
    return tensor_d_elements(&t);
}

static void set_init(set *s, device_arena *arena, const time_row *row, const fc_plan *plan, uint64_t seed)
{
    const fc_problem p = problem_of(row);
    const int64_t q_shape[4] = {row->batch, row->q_heads, row->q_len, row->head_dim};
    const int64_t kv_shape[4] = {row->batch, row->kv_heads, row->kv_len, row->head_dim};
    const int64_t lse_shape[4] = {row->batch, row->q_heads, row->q_len, 1};
    fc_strides q_strides = fc_strides_contiguous(FC_BHSD, row->q_heads, row->q_len, row->head_dim);
    fc_strides kv_strides = fc_strides_contiguous(FC_BHSD, row->kv_heads, row->kv_len, row->head_dim);
    fc_tensors t = {.q = device_tensor(arena, row->dtype, q_shape, 3 * seed),
                    .k = device_tensor(arena, row->dtype, kv_shape, 3 * seed + 1),
                    .v = device_tensor(arena, row->dtype, kv_shape, 3 * seed + 2),
                    .out = device_tensor(arena, row->dtype, q_shape, 0),
                    .lse = device_tensor(arena, FC_F32, lse_shape, 0),
                    .q_strides = q_strides,
                    .k_strides = kv_strides,
                    .v_strides = kv_strides,
                    .out_strides = q_strides};
    size_t segments_bytes = (size_t)row->batch * sizeof *s->segments;
    void *d_segments = device_arena_take(arena, segments_bytes);
    fc_problem_segments(&p, plan, &t, s->segments);
    s->launch = (fc_launch){.plan = *plan, .segments = s->segments, .segment_count = (uint32_t)row->batch};
    s->launch.block_count = fc_launch_index(plan, s->segments, s->launch.segment_count);
    s->launch.d_segments = d_segments;
    CUDA_OK(cudaMemcpy(d_segments, s->segments, segments_bytes, cudaMemcpyHostToDevice));
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static cudaGraphExec_t capture_chain(const set *sets, int set_count, int length, cudaStream_t stream)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < length; i++) {
        const fc_launch *launch = &sets[i % set_count].launch;
        if (fc_cuda_launch_find(launch->plan.kernel)(launch, stream) != FC_OK)
            CUDA_OK(cudaPeekAtLastError());
    }
    CUDA_OK(cudaStreamEndCapture(stream, &graph));
    CUDA_OK(cudaGraphInstantiate(&exec, graph, 0));
    CUDA_OK(cudaGraphDestroy(graph));
    return exec;
}

/* Microseconds a launch. */
static double time_chain(const set *sets, int set_count)
{
    int length = set_count > CHAIN ? set_count : CHAIN;
    float ms[REPLAYS];
    cudaStream_t stream;
    cudaEvent_t start, end;
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA_OK(cudaEventCreate(&start));
    CUDA_OK(cudaEventCreate(&end));
    cudaGraphExec_t exec = capture_chain(sets, set_count, length, stream);
    for (int i = -2; i < REPLAYS; i++) {
        CUDA_OK(cudaEventRecord(start, stream));
        CUDA_OK(cudaGraphLaunch(exec, stream));
        CUDA_OK(cudaEventRecord(end, stream));
        CUDA_OK(cudaStreamSynchronize(stream));
        if (i >= 0)
            CUDA_OK(cudaEventElapsedTime(&ms[i], start, end));
    }
    CUDA_OK(cudaGraphExecDestroy(exec));
    CUDA_OK(cudaEventDestroy(start));
    CUDA_OK(cudaEventDestroy(end));
    CUDA_OK(cudaStreamDestroy(stream));
    qsort(ms, REPLAYS, sizeof *ms, by_value);
    return 1000.0 * (double)ms[REPLAYS / 2] / length;
}

static int cold_sets(const time_row *row, size_t l2_bytes)
{
    size_t sets = 22 * l2_bytes / 10 / set_bytes(row) + 1;
    return sets < WARM_SETS ? WARM_SETS : sets > MAX_SETS ? MAX_SETS : (int)sets;
}

typedef struct times {
    double warm_us, cold_us;
} times;

static times time_kernel(const time_row *row, fc_kernel kernel, const struct cudaDeviceProp *properties)
{
    static set sets[MAX_SETS];
    const fc_device device = {.engine = FC_ENGINE_CUDA,
                              .compute_capability = properties->major * 10 + properties->minor,
                              .processor_count = properties->multiProcessorCount};
    const fc_problem p = problem_of(row);
    int count = cold_sets(row, (size_t)properties->l2CacheSize);
    device_arena arena;
    fc_plan plan;
    fc_reason reason;
    if (fc_plan_make(&device, kernel, &p, &plan, &reason) != FC_OK)
        return (times){NAN, NAN};
    device_arena_init(&arena, (size_t)count * (set_bytes(row) + (64 << 10)));
    for (int i = 0; i < count; i++)
        set_init(&sets[i], &arena, row, &plan, (uint64_t)i % 8 + 1); /* 8 different ones are quick to make */
    times t = {.warm_us = time_chain(sets, WARM_SETS), .cold_us = time_chain(sets, count)};
    device_arena_fini(&arena);
    return t;
}

static void write_json(FILE *file, times all[ROW_COUNT][FC_KERNEL_COUNT], const char *device)
{
    fprintf(file, "{\n  \"device\": \"%s\",\n  \"unit\": \"us a launch, median, CUDA graph chain\",\n  \"rows\": [",
            device);
    for (int r = 0; r < ROW_COUNT; r++) {
        fprintf(file, "%s\n    {\"problem\": \"%s\"", r > 0 ? "," : "", ROWS[r].name);
        for (int k = 0; k < FC_KERNEL_COUNT; k++) {
            if (fc_cuda_launch_find((fc_kernel)k) != NULL)
                fprintf(file, ", \"%s\": {\"warm_us\": %.3f, \"cold_us\": %.3f}", fc_kernel_name((fc_kernel)k),
                        all[r][k].warm_us, all[r][k].cold_us);
        }
        fprintf(file, "}");
    }
    fprintf(file, "\n  ]\n}\n");
}

static void print_row(const time_row *row, const times *kernels)
{
    printf("%-34s", row->name);
    for (int k = 0; k < FC_KERNEL_COUNT; k++) {
        if (fc_cuda_launch_find((fc_kernel)k) != NULL)
            printf("  %s %8.2f us warm %8.2f cold (%5.2fx)", fc_kernel_name((fc_kernel)k), kernels[k].warm_us,
                   kernels[k].cold_us, kernels[FC_KERNEL_BASELINE].warm_us / kernels[k].warm_us);
    }
    printf("\n");
    fflush(stdout);
}

int times_run(const char *json_path)
{
    static times all[ROW_COUNT][FC_KERNEL_COUNT];
    struct cudaDeviceProp properties;
    FILE *file;
    CUDA_OK(cudaGetDeviceProperties(&properties, 0));
    printf("%s, L2 %d MiB; (x): against baseline, warm\n", properties.name, properties.l2CacheSize >> 20);
    for (int r = 0; r < ROW_COUNT; r++) {
        for (int k = 0; k < FC_KERNEL_COUNT; k++) {
            if (fc_cuda_launch_find((fc_kernel)k) != NULL)
                all[r][k] = time_kernel(&ROWS[r], (fc_kernel)k, &properties);
        }
        print_row(&ROWS[r], all[r]);
    }
    if (json_path == NULL)
        return 0;
    file = fopen(json_path, "w");
    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", json_path, strerror(errno));
        return 1;
    }
    write_json(file, all, properties.name);
    return fclose(file) == 0 ? 0 : 1;
}
