/* An engine for tests: computes nothing, holds every launch until it is let go, and fails when told to. What it was
 * given can be looked at, so a test sees which requests shared a launch, and decides when it ends. Of registered
 * and device memory it keeps book: no region may be left at the end, and every job has to say of each tensor where it
 * lies.
 */
#ifndef FC_TESTS_FAKE_ENGINE_H
#define FC_TESTS_FAKE_ENGINE_H

#include "kernels/engine.h"

#include <pthread.h>

#define FAKE_LAUNCHES_MAX 256
#define FAKE_REGIONS_MAX 256

typedef struct fake_region {
    const void *base;
    size_t size_bytes;
    bool is_device;
} fake_region;

typedef struct fake_engine {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t lane_count;  /* what describe says */
    size_t staging_bytes; /* what each job needs */
    size_t launch_bytes;  /* what describe says */
    fc_status lane_open_status;
    fc_status launch_status; /* of launches from now on */
    bool answers_v;          /* out is v's first bytes, as one key alone would have it, instead of the fill */
    bool holds;              /* launches wait for fake_engine_release() */
    bool holds_register;     /* so does memory_register, for fake_engine_hold_register(, false) */
    bool is_registering;     /* it waits */
    uint32_t released_count;
    uint32_t launch_count; /* begun so far */
    uint32_t ended_count;
    uint32_t job_counts[FAKE_LAUNCHES_MAX]; /* jobs of each launch begun */
    uint32_t open_lane_count;
    fc_status register_status; /* of memory_register from now on */
    fake_region regions[FAKE_REGIONS_MAX];
    uint32_t region_count;
    fc_status memory_status;  /* of memory_open from now on */
    uint32_t misplaced_count; /* jobs that said of a tensor that it lies where it does not */
} fake_engine;

void fake_engine_init(fake_engine *engine);
void fake_engine_fini(fake_engine *engine);

/* The table; the fake_engine itself is the fc_engine. Jobs get every byte of out set to FAKE_ENGINE_FILL, lse to 1. */
#define FAKE_ENGINE_FILL 0x5a
const fc_engine_ops *fake_engine_ops(void);

static inline fc_engine *fake_engine_handle(fake_engine *engine)
{
    return (fc_engine *)(void *)engine;
}

void fake_engine_hold(fake_engine *engine);                    /* from now on launches wait */
void fake_engine_release(fake_engine *engine, uint32_t count); /* lets that many more end */
void fake_engine_release_all(fake_engine *engine);             /* and holds no more */
void fake_engine_set_launch_status(fake_engine *engine, fc_status status);
void fake_engine_await_launches(fake_engine *engine, uint32_t count); /* until that many have begun */
uint32_t fake_engine_launch_count(fake_engine *engine);               /* begun so far */
void fake_engine_hold_register(fake_engine *engine, bool holds);
void fake_engine_await_register(fake_engine *engine); /* until it waits */
void fake_engine_set_register_status(fake_engine *engine, fc_status status);
uint32_t fake_engine_region_count(fake_engine *engine);
void fake_engine_set_memory_status(fake_engine *engine, fc_status status);

/* "Device" memory comes in such pieces; nobody can use its addresses but the engine. */
#define FAKE_ENGINE_GRANULE 16384

#endif
