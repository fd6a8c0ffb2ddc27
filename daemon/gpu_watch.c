/* See gpu_watch.h. NVML's interface is declared here, as its header comes only with the CUDA toolkit. */
#include "daemon/gpu_watch.h"

#include "daemon/clock.h"
#include "daemon/log.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libnvidia-ml.so.1"
#define PERIOD_NS (2 * FC_NS_PER_S)
#define PATIENCE_NS (500 * FC_NS_PER_MS)

enum { NVML_TEMPERATURE_GPU = 0, NVML_CLOCK_SM = 1 };

typedef struct nvml_memory {
    unsigned long long total, free, used;
} nvml_memory;

typedef struct nvml_utilization {
    unsigned gpu, memory;
} nvml_utilization;

/* Each returns 0 when it went well. */
typedef struct nvml {
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error_text)(int);
    int (*by_uuid)(const char *uuid, void **out_device);
    int (*memory)(void *device, nvml_memory *out);
    int (*utilization)(void *device, nvml_utilization *out);
    int (*temperature)(void *device, int sensor, unsigned *out_celsius);
    int (*power)(void *device, unsigned *out_mw);
    int (*clock)(void *device, int which, unsigned *out_mhz);
} nvml;

static const fc_stat READINGS[] = {FC_READING_GPU_MEMORY,  FC_READING_GPU_MEMORY_USED, FC_READING_GPU_BUSY,
                                   FC_READING_GPU_CELSIUS, FC_READING_GPU_POWER,       FC_READING_GPU_CLOCK};
enum { MEMORY, MEMORY_USED, BUSY, CELSIUS, POWER, CLOCK, READING_COUNT };

struct fc_gpu_watch {
    const char *library;
    char uuid[48]; /* as NVML writes it, without "GPU-" */
    pthread_t thread;
    /* The thread writes these and nothing of anybody else's: it may outlive everything but the process. */
    atomic_uint_fast64_t values[READING_COUNT];
    atomic_bool has_read;
    atomic_uint_fast64_t read_ns; /* when the values were read; 0: they never were */
    bool has_warned;              /* loop thread */
    pthread_mutex_t lock;         /* guards the three below */
    pthread_cond_t changed;
    bool is_stopping, has_ended, is_abandoned;
};

static void destroy(fc_gpu_watch *watch)
{
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

static bool find(void *library, const char *name, void *out_function)
{
    *(void **)out_function = dlsym(library, name);
    return *(void **)out_function != NULL;
}

/* What is wrong, or NULL. */
static const char *open_nvml(const char *path, nvml *out)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return dlerror();
    bool is_whole = find(library, "nvmlInit_v2", &out->init) && find(library, "nvmlShutdown", &out->shutdown) &&
                    find(library, "nvmlErrorString", &out->error_text) &&
                    find(library, "nvmlDeviceGetHandleByUUID", &out->by_uuid) &&
                    find(library, "nvmlDeviceGetMemoryInfo", &out->memory) &&
                    find(library, "nvmlDeviceGetUtilizationRates", &out->utilization) &&
                    find(library, "nvmlDeviceGetTemperature", &out->temperature) &&
                    find(library, "nvmlDeviceGetPowerUsage", &out->power) &&
                    find(library, "nvmlDeviceGetClockInfo", &out->clock);
    if (!is_whole)
        return "it lacks a function";
    int error = out->init();
    return error != 0 ? out->error_text(error) : NULL;
}

/* A part of a divided GPU has a name of its own kind. */
static const char *find_device(const fc_gpu_watch *watch, const nvml *n, void **out_device)
{
    char name[64];
    snprintf(name, sizeof name, "GPU-%s", watch->uuid);
    int error = n->by_uuid(name, out_device);
    if (error == 0)
        return NULL;
    snprintf(name, sizeof name, "MIG-%s", watch->uuid);
    return n->by_uuid(name, out_device) == 0 ? NULL : n->error_text(error);
}

static void set(fc_gpu_watch *watch, int reading, bool is_known, uint64_t value)
{
    atomic_store_explicit(&watch->values[reading], is_known ? value : FC_STAT_ABSENT, memory_order_relaxed);
}

static void read_device(fc_gpu_watch *watch, const nvml *n, void *device)
{
    nvml_memory memory = {0};
    nvml_utilization utilization = {0};
    unsigned value = 0;
    bool is_known = n->memory(device, &memory) == 0;
    set(watch, MEMORY, is_known, memory.total);
    set(watch, MEMORY_USED, is_known, memory.used);
    is_known = n->utilization(device, &utilization) == 0;
    set(watch, BUSY, is_known, utilization.gpu);
    is_known = n->temperature(device, NVML_TEMPERATURE_GPU, &value) == 0;
    set(watch, CELSIUS, is_known, value);
    is_known = n->power(device, &value) == 0;
    set(watch, POWER, is_known, value);
    is_known = n->clock(device, NVML_CLOCK_SM, &value) == 0;
    set(watch, CLOCK, is_known, value);
    atomic_store(&watch->read_ns, fc_clock_now_ns());
    atomic_store(&watch->has_read, true);
}

/* Until it is time to read again; false: until it is to end. */
static bool await_turn(fc_gpu_watch *watch)
{
    struct timespec until = fc_clock_timespec(fc_clock_now_ns() + PERIOD_NS);
    pthread_mutex_lock(&watch->lock);
    while (!watch->is_stopping && pthread_cond_timedwait(&watch->changed, &watch->lock, &until) == 0) {
    }
    bool goes_on = !watch->is_stopping;
    pthread_mutex_unlock(&watch->lock);
    return goes_on;
}

static void *watch_main(void *argument)
{
    fc_gpu_watch *watch = argument;
    nvml n = {.init = NULL};
    void *device = NULL;
    const char *why = open_nvml(watch->library, &n);
    bool is_open = why == NULL;
    if (is_open)
        why = find_device(watch, &n, &device);
    if (why != NULL)
        fc_log(FC_LOG_WARN, "gpu_unwatched", fc_log_text("library", watch->library), fc_log_text("why", why));
    atomic_store(&watch->has_read, why != NULL);
    while (why == NULL) {
        read_device(watch, &n, device);
        if (!await_turn(watch))
            break;
    }
    if (is_open)
        n.shutdown();
    pthread_mutex_lock(&watch->lock);
    watch->has_ended = true;
    bool is_abandoned = watch->is_abandoned;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    if (is_abandoned)
        destroy(watch);
    return NULL;
}

/* --- the loop's side ---------------------------------------------------------------------------------------------- */

static void write_uuid(const uint8_t bytes[FC_UUID_BYTES], char out[48])
{
    size_t used = 0;
    for (int i = 0; i < FC_UUID_BYTES; i++)
        used += (size_t)snprintf(out + used, 48 - used, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                                 bytes[i]);
}

fc_status fc_gpu_watch_start(const uint8_t uuid[FC_UUID_BYTES], const char *library, fc_gpu_watch **out_watch)
{
    static const uint8_t none[FC_UUID_BYTES];
    *out_watch = NULL;
    if (memcmp(uuid, none, sizeof none) == 0)
        return FC_OK;
    fc_gpu_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return FC_NO_MEMORY;
    watch->library = library != NULL ? library : LIBRARY;
    write_uuid(uuid, watch->uuid);
    for (int i = 0; i < READING_COUNT; i++)
        atomic_init(&watch->values[i], FC_STAT_ABSENT);
    pthread_mutex_init(&watch->lock, NULL);
    fc_clock_cond_init(&watch->changed);
    if (pthread_create(&watch->thread, NULL, watch_main, watch) != 0) {
        destroy(watch);
        return FC_INTERNAL;
    }
    pthread_setname_np(watch->thread, "gpu-watch");
    *out_watch = watch;
    return FC_OK;
}

void fc_gpu_watch_copy(fc_gpu_watch *watch, fc_stats *stats, uint64_t now_ns)
{
    if (watch == NULL)
        return;
    uint64_t read_ns = atomic_load(&watch->read_ns);
    bool is_stale = read_ns != 0 && fc_clock_elapsed_ns(read_ns, now_ns) >= FC_GPU_WATCH_STALE_NS;
    if (is_stale && !watch->has_warned)
        fc_log(FC_LOG_WARN, "gpu_watch_hangs", fc_log_text("why", "the driver does not answer"));
    watch->has_warned = watch->has_warned || is_stale;
    for (int i = 0; i < READING_COUNT; i++) {
        uint64_t value = atomic_load_explicit(&watch->values[i], memory_order_relaxed);
        fc_stats_set(stats, READINGS[i], is_stale ? FC_STAT_ABSENT : value);
    }
}

bool fc_gpu_watch_has_read(const fc_gpu_watch *watch)
{
    return watch == NULL || atomic_load(&watch->has_read);
}

void fc_gpu_watch_stop(fc_gpu_watch *watch)
{
    if (watch == NULL)
        return;
    struct timespec until = fc_clock_timespec(fc_clock_now_ns() + PATIENCE_NS);
    pthread_t thread = watch->thread;
    pthread_mutex_lock(&watch->lock);
    watch->is_stopping = true;
    pthread_cond_signal(&watch->changed);
    while (!watch->has_ended && pthread_cond_timedwait(&watch->changed, &watch->lock, &until) == 0) {
    }
    bool has_ended = watch->has_ended;
    watch->is_abandoned = !has_ended;
    pthread_mutex_unlock(&watch->lock);
    if (has_ended) {
        pthread_join(thread, NULL);
        destroy(watch);
    } else {
        pthread_detach(thread);
        fc_log(FC_LOG_WARN, "gpu_watch_hangs", fc_log_text("why", "the driver does not answer"));
    }
}
