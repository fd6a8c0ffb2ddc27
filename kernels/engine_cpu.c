/* The engine that is always there: one lane, the `cpu` kernel behind it, no staging, no device. */
#include "kernels/cpu.h"
#include "kernels/engine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct fc_engine {
    fc_engine_config config;
    fc_engine_info info;
};

struct fc_engine_lane {
    fc_cpu *cpu;
    fc_segment *segments; /* [segment_capacity] */
    uint32_t segment_capacity;
};

/* --- the engine --------------------------------------------------------------------------------------------------- */

/* Processors this process may run on, at least 1. */
static int32_t count_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count;
}

/* What the machine calls its processor; "unknown processor" where /proc does not say. */
static void read_model_name(char *out_name, size_t name_bytes)
{
    char line[256];
    snprintf(out_name, name_bytes, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || value == NULL)
            continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = '\0';
        snprintf(out_name, name_bytes, "%s", value);
        break;
    }
    fclose(file);
}

static void fill_info(fc_engine *engine)
{
    char model[64];
    int32_t threads = engine->config.thread_count;
    fc_cpu_isa_id isa = fc_cpu_isa_best();
    fc_engine_info *info = &engine->info;
    read_model_name(model, sizeof model);
    snprintf(info->device_name, sizeof info->device_name, "cpu: %s, %s%s, %d thread%s", model,
             isa == FC_CPU_AMX ? "avx512+" : "", fc_cpu_isa_name(isa), (int)threads, threads == 1 ? "" : "s");
    info->device = (fc_device){.engine = FC_ENGINE_CPU, .compute_capability = 0, .processor_count = threads};
    info->has_kernel[FC_KERNEL_CPU] = true;
    info->default_kernel = fc_kernel_default(&info->device);
    info->lane_count = 1;
    snprintf(info->memory_why, sizeof info->memory_why, "the cpu engine has no memory of its own");
}

static fc_status cpu_open(const fc_engine_config *config, fc_engine **out_engine, fc_reason *out_reason)
{
    if (config->thread_count < 0 || config->thread_count > FC_CPU_THREADS_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%d threads; 1 to %d are possible, 0 means all",
                       (int)config->thread_count, FC_CPU_THREADS_MAX);
    fc_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "no memory for the cpu engine");
    engine->config = *config;
    if (engine->config.thread_count == 0) {
        int32_t processors = count_processors();
        engine->config.thread_count = processors < FC_CPU_THREADS_MAX ? processors : FC_CPU_THREADS_MAX;
    }
    fill_info(engine);
    *out_engine = engine;
    return FC_OK;
}

static void cpu_close(fc_engine *engine)
{
    free(engine);
}

static void cpu_describe(const fc_engine *engine, fc_engine_info *out_info)
{
    *out_info = engine->info;
}

static fc_status cpu_plan(const fc_engine *engine, fc_kernel wanted, const fc_problem *problem, fc_plan *out_plan,
                          fc_reason *out_reason)
{
    return fc_plan_make(&engine->info.device, wanted, problem, out_plan, out_reason);
}

static size_t cpu_staging_bytes(const fc_engine *engine, const fc_problem *problem, const fc_memory_places *places)
{
    (void)engine;
    (void)problem;
    (void)places;
    return 0;
}

/* Registered or not, memory is read where it lies. */
static fc_status cpu_memory_register(fc_engine *engine, void *base, size_t size_bytes, fc_reason *out_reason)
{
    (void)engine;
    (void)base;
    (void)size_bytes;
    (void)out_reason;
    return FC_OK;
}

static void cpu_memory_unregister(fc_engine *engine, void *base)
{
    (void)engine;
    (void)base;
}

/* --- the lane ----------------------------------------------------------------------------------------------------- */

static void cpu_lane_close(fc_engine_lane *lane)
{
    if (lane == NULL)
        return;
    fc_cpu_destroy(lane->cpu);
    free(lane->segments);
    free(lane);
}

static fc_status cpu_lane_open(fc_engine *engine, fc_engine_lane **out_lane, fc_reason *out_reason)
{
    fc_cpu_config config = {.isa = FC_CPU_BEST, .thread_count = engine->config.thread_count};
    fc_engine_lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "no memory for a cpu lane");
    lane->segment_capacity = engine->config.lane_segments > 0 ? engine->config.lane_segments : 1;
    lane->segments = calloc(lane->segment_capacity, sizeof *lane->segments);
    if (lane->segments == NULL || fc_cpu_create(&config, &lane->cpu) != FC_OK) {
        cpu_lane_close(lane);
        return fc_fail(FC_NO_MEMORY, out_reason, "no memory for a cpu lane");
    }
    *out_lane = lane;
    return FC_OK;
}

static fc_status fill_segments(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count, uint32_t *out_count,
                               fc_reason *out_reason)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < job_count; i++) {
        uint32_t batch = (uint32_t)jobs[i].problem.batch;
        if (batch > lane->segment_capacity - count)
            return fc_fail(FC_INTERNAL, out_reason,
                           "a launch of more than the %u batch entries the lane was opened for",
                           (unsigned)lane->segment_capacity);
        fc_problem_segments(&jobs[i].problem, &jobs[i].plan, &jobs[i].tensors, lane->segments + count);
        count += batch;
    }
    *out_count = count;
    return FC_OK;
}

static double microseconds_between(const struct timespec *from, const struct timespec *to)
{
    return (double)(to->tv_sec - from->tv_sec) * 1e6 + (double)(to->tv_nsec - from->tv_nsec) * 1e-3;
}

static fc_status cpu_lane_run(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count,
                              fc_engine_timing *out_timing, fc_reason *out_reason)
{
    struct timespec start, end;
    fc_launch launch = {.plan = jobs[0].plan, .segments = lane->segments, .d_segments = lane->segments};
    fc_status st = fill_segments(lane, jobs, job_count, &launch.segment_count, out_reason);
    if (st != FC_OK)
        return st;
    clock_gettime(CLOCK_MONOTONIC, &start);
    st = fc_cpu_run(lane->cpu, &launch);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "no memory for the working set of a launch");
    *out_timing = (fc_engine_timing){.kernel_us = microseconds_between(&start, &end)};
    return FC_OK;
}

const fc_engine_ops *fc_engine_cpu(void)
{
    static const fc_engine_ops ops = {
        .abi_version = FC_ENGINE_ABI_VERSION,
        .name = "cpu",
        .open = cpu_open,
        .close = cpu_close,
        .describe = cpu_describe,
        .plan = cpu_plan,
        .staging_bytes = cpu_staging_bytes,
        .memory_register = cpu_memory_register,
        .memory_unregister = cpu_memory_unregister,
        .lane_open = cpu_lane_open,
        .lane_close = cpu_lane_close,
        .lane_run = cpu_lane_run,
    };
    return &ops;
}
