/* See fake_engine.h. */
#include "tests/support/fake_engine.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const fc_device DEVICE = {.engine = FC_ENGINE_CPU, .processor_count = 1};

/* What makes an address one of the device. */
static const uintptr_t DEVICE_BIAS = (uintptr_t)1 << 60;

static fake_engine *fake_of(const fc_engine *engine)
{
    return (fake_engine *)(uintptr_t)engine;
}

void fake_engine_init(fake_engine *engine)
{
    *engine = (fake_engine){.lane_count = 1};
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->changed, NULL);
}

void fake_engine_fini(fake_engine *engine)
{
    assert(engine->open_lane_count == 0);
    assert(engine->region_count == 0);
    assert(engine->misplaced_count == 0);
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->lock);
}

static void change(fake_engine *engine)
{
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->lock);
}

void fake_engine_hold(fake_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->holds = true;
    engine->released_count = engine->launch_count;
    change(engine);
}

void fake_engine_release(fake_engine *engine, uint32_t count)
{
    pthread_mutex_lock(&engine->lock);
    engine->released_count += count;
    change(engine);
}

void fake_engine_release_all(fake_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->holds = false;
    change(engine);
}

void fake_engine_set_launch_status(fake_engine *engine, fc_status status)
{
    pthread_mutex_lock(&engine->lock);
    engine->launch_status = status;
    change(engine);
}

void fake_engine_hold_register(fake_engine *engine, bool holds)
{
    pthread_mutex_lock(&engine->lock);
    engine->holds_register = holds;
    change(engine);
}

void fake_engine_await_register(fake_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    while (!engine->is_registering)
        pthread_cond_wait(&engine->changed, &engine->lock);
    pthread_mutex_unlock(&engine->lock);
}

void fake_engine_set_register_status(fake_engine *engine, fc_status status)
{
    pthread_mutex_lock(&engine->lock);
    engine->register_status = status;
    pthread_mutex_unlock(&engine->lock);
}

void fake_engine_set_memory_status(fake_engine *engine, fc_status status)
{
    pthread_mutex_lock(&engine->lock);
    engine->memory_status = status;
    pthread_mutex_unlock(&engine->lock);
}

uint32_t fake_engine_region_count(fake_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    uint32_t count = engine->region_count;
    pthread_mutex_unlock(&engine->lock);
    return count;
}

void fake_engine_await_launches(fake_engine *engine, uint32_t count)
{
    pthread_mutex_lock(&engine->lock);
    while (engine->launch_count < count)
        pthread_cond_wait(&engine->changed, &engine->lock);
    pthread_mutex_unlock(&engine->lock);
}

uint32_t fake_engine_launch_count(fake_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    uint32_t count = engine->launch_count;
    pthread_mutex_unlock(&engine->lock);
    return count;
}

static fc_status open_engine(const fc_engine_config *config, fc_engine **out_engine, fc_reason *out_reason)
{
    (void)config;
    (void)out_engine;
    return fc_fail(FC_UNSUPPORTED, out_reason, "a fake engine is made by its test");
}

static void close_engine(fc_engine *engine)
{
    (void)engine;
}

static void describe(const fc_engine *engine, fc_engine_info *out_info)
{
    *out_info = (fc_engine_info){
        .device = DEVICE,
        .device_name = "fake",
        .has_kernel = {[FC_KERNEL_CPU] = true},
        .default_kernel = FC_KERNEL_CPU,
        .lane_count = fake_of(engine)->lane_count,
        .launch_bytes = fake_of(engine)->launch_bytes,
        .memory_granule_bytes = FAKE_ENGINE_GRANULE,
        .device_uuid = "fake device 012",
    };
}

static fc_status plan(const fc_engine *engine, fc_kernel wanted, const fc_problem *problem, fc_plan *out_plan,
                      fc_reason *out_reason)
{
    (void)engine;
    return fc_plan_make(&DEVICE, wanted, problem, out_plan, out_reason);
}

static size_t staging_bytes(const fc_engine *engine, const fc_problem *problem, const fc_memory_places *places)
{
    (void)problem;
    (void)places;
    return fake_of(engine)->staging_bytes;
}

static fc_status memory_register(fc_engine *engine, void *base, size_t size_bytes, fc_reason *out_reason)
{
    fake_engine *fake = fake_of(engine);
    pthread_mutex_lock(&fake->lock);
    fake->is_registering = fake->holds_register;
    pthread_cond_broadcast(&fake->changed);
    while (fake->holds_register)
        pthread_cond_wait(&fake->changed, &fake->lock);
    fake->is_registering = false;
    fc_status st = fake->register_status;
    if (st == FC_OK) {
        assert(fake->region_count < FAKE_REGIONS_MAX);
        fake->regions[fake->region_count++] = (fake_region){base, size_bytes, false};
    }
    pthread_mutex_unlock(&fake->lock);
    return st == FC_OK ? FC_OK : fc_fail(st, out_reason, "told to fail");
}

static void remove_region(fake_engine *fake, const void *base)
{
    uint32_t i = 0;
    pthread_mutex_lock(&fake->lock);
    while (i < fake->region_count && fake->regions[i].base != base)
        i++;
    assert(i < fake->region_count);
    fake->regions[i] = fake->regions[--fake->region_count];
    pthread_mutex_unlock(&fake->lock);
}

static void memory_unregister(fc_engine *engine, void *base)
{
    remove_region(fake_of(engine), base);
}

static void *biased(void *memory)
{
    return (void *)((uintptr_t)memory + DEVICE_BIAS);
}

/* Where a tensor's bytes really are. */
static void *real_of(const void *tensor)
{
    uintptr_t address = (uintptr_t)tensor;
    return (void *)(address >= DEVICE_BIAS ? address - DEVICE_BIAS : address);
}

static fc_status memory_open(fc_engine *engine, size_t size_bytes, fc_engine_memory *out_memory, fc_reason *out_reason)
{
    fake_engine *fake = fake_of(engine);
    size_t whole_bytes = (size_bytes + FAKE_ENGINE_GRANULE - 1) / FAKE_ENGINE_GRANULE * FAKE_ENGINE_GRANULE;
    pthread_mutex_lock(&fake->lock);
    fc_status st = fake->memory_status;
    pthread_mutex_unlock(&fake->lock);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "told to fail");
    int fd = memfd_create("fake-device", MFD_CLOEXEC);
    assert(fd >= 0 && ftruncate(fd, (off_t)whole_bytes) == 0);
    void *base = mmap(NULL, whole_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert(base != MAP_FAILED);
    *out_memory = (fc_engine_memory){.d_base = biased(base), .size_bytes = whole_bytes, .fd = fd};
    pthread_mutex_lock(&fake->lock);
    assert(fake->region_count < FAKE_REGIONS_MAX);
    fake->regions[fake->region_count++] = (fake_region){out_memory->d_base, whole_bytes, true};
    pthread_mutex_unlock(&fake->lock);
    return FC_OK;
}

static void memory_close(fc_engine *engine, fc_engine_memory *memory)
{
    remove_region(fake_of(engine), memory->d_base);
    munmap(real_of(memory->d_base), memory->size_bytes);
    if (memory->fd >= 0)
        close(memory->fd);
    *memory = (fc_engine_memory){.fd = -1};
}

/* A tensor is where its place says: inside a region that is registered, or in none. */
static bool is_in_place(const fake_engine *fake, const void *tensor, size_t bytes, fc_memory_place place)
{
    const char *begin = tensor;
    if (bytes == 0)
        return true; /* it may stand behind the last byte of its region */
    for (uint32_t i = 0; i < fake->region_count; i++) {
        const char *region = fake->regions[i].base;
        if (begin < region || begin >= region + fake->regions[i].size_bytes)
            continue;
        bool is_told = fake->regions[i].is_device ? place.kind == FC_MEMORY_DEVICE
                                                  : place.kind == FC_MEMORY_REGISTERED && place.region == region;
        return is_told && bytes <= fake->regions[i].size_bytes - (size_t)(begin - region);
    }
    return place.kind == FC_MEMORY_HOST;
}

static bool is_job_in_place(const fake_engine *fake, const fc_engine_job *job)
{
    const fc_problem *p = &job->problem;
    size_t q_rows = (size_t)p->batch * (size_t)p->q_heads * (size_t)p->q_len;
    size_t kv_rows = (size_t)p->batch * (size_t)p->kv_heads * (size_t)p->kv_len;
    size_t row_bytes = (size_t)p->head_dim * fc_dtype_bytes(p->dtype);
    const fc_tensors *t = &job->tensors;
    return is_in_place(fake, t->q, q_rows * row_bytes, job->places.q) &&
           is_in_place(fake, t->k, kv_rows * row_bytes, job->places.k) &&
           is_in_place(fake, t->v, kv_rows * row_bytes, job->places.v) &&
           is_in_place(fake, t->out, q_rows * row_bytes, job->places.out) &&
           is_in_place(fake, t->lse, q_rows * sizeof(float), job->places.lse);
}

static fc_status lane_open(fc_engine *engine, fc_engine_lane **out_lane, fc_reason *out_reason)
{
    fake_engine *fake = fake_of(engine);
    pthread_mutex_lock(&fake->lock);
    fc_status st = fake->lane_open_status;
    fake->open_lane_count += st == FC_OK;
    pthread_mutex_unlock(&fake->lock);
    *out_lane = (fc_engine_lane *)(void *)fake;
    return st == FC_OK ? FC_OK : fc_fail(st, out_reason, "told to fail");
}

static void lane_close(fc_engine_lane *lane)
{
    fake_engine *fake = (fake_engine *)(void *)lane;
    pthread_mutex_lock(&fake->lock);
    fake->open_lane_count--;
    pthread_mutex_unlock(&fake->lock);
}

static fc_status lane_run(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count,
                          fc_engine_timing *out_timing, fc_reason *out_reason)
{
    fake_engine *fake = (fake_engine *)(void *)lane;
    pthread_mutex_lock(&fake->lock);
    uint32_t number = fake->launch_count++;
    if (number < FAKE_LAUNCHES_MAX)
        fake->job_counts[number] = job_count;
    pthread_cond_broadcast(&fake->changed);
    while (fake->holds && fake->ended_count >= fake->released_count)
        pthread_cond_wait(&fake->changed, &fake->lock);
    fake->ended_count++;
    fc_status st = fake->launch_status;
    for (uint32_t i = 0; i < job_count; i++)
        fake->misplaced_count += !is_job_in_place(fake, &jobs[i]);
    pthread_mutex_unlock(&fake->lock);
    for (uint32_t i = 0; i < job_count && st == FC_OK; i++) {
        const fc_problem *p = &jobs[i].problem;
        size_t rows = (size_t)p->batch * (size_t)p->q_heads * (size_t)p->q_len;
        static const float one = 1.0f;
        size_t out_bytes = rows * (size_t)p->head_dim * fc_dtype_bytes(p->dtype);
        if (fake->answers_v)
            memcpy(real_of(jobs[i].tensors.out), real_of(jobs[i].tensors.v), out_bytes);
        else
            memset(real_of(jobs[i].tensors.out), FAKE_ENGINE_FILL, out_bytes);
        for (size_t row = 0; row < rows && jobs[i].tensors.lse != NULL; row++)
            memcpy((char *)real_of(jobs[i].tensors.lse) + row * sizeof one, &one, sizeof one);
    }
    *out_timing = (fc_engine_timing){.copy_in_us = 1, .kernel_us = 2, .copy_out_us = 3};
    return st == FC_OK ? FC_OK : fc_fail(st, out_reason, "told to fail");
}

static const fc_engine_ops OPS = {
    .abi_version = FC_ENGINE_ABI_VERSION,
    .name = "fake",
    .open = open_engine,
    .close = close_engine,
    .describe = describe,
    .plan = plan,
    .staging_bytes = staging_bytes,
    .memory_register = memory_register,
    .memory_unregister = memory_unregister,
    .memory_open = memory_open,
    .memory_close = memory_close,
    .lane_open = lane_open,
    .lane_close = lane_close,
    .lane_run = lane_run,
};

const fc_engine_ops *fake_engine_ops(void)
{
    return &OPS;
}
