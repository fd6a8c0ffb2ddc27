/* See pinned_pool.h. First fit: what was given back last is near the front, and in the processor's caches. */
#include "daemon/pinned_pool.h"

#include "daemon/arena.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct fc_pinned_pool {
    fc_arena_memory memory;
    size_t step_count;
    pthread_mutex_t lock; /* guards the next */
    size_t lent_count;
    uint32_t *runs; /* of the step a piece begins with: how many it has; 0 of free ones, and inside pieces */
};

static size_t steps_of(size_t size_bytes)
{
    return size_bytes / FC_PINNED_POOL_STEP_BYTES + (size_bytes % FC_PINNED_POOL_STEP_BYTES != 0);
}

fc_status fc_pinned_pool_open(const fc_engine_ops *ops, fc_engine *engine, size_t size_bytes, fc_pinned_pool **out_pool,
                              fc_reason *out_reason)
{
    size_t steps = steps_of(size_bytes);
    fc_pinned_pool *pool = calloc(1, sizeof *pool);
    uint32_t *runs = steps <= UINT32_MAX ? calloc(steps + 1, sizeof *runs) : NULL;
    fc_status st = FC_NO_MEMORY;
    if (pool == NULL || runs == NULL)
        fc_fail(st, out_reason, "a pool of %zu bytes", size_bytes);
    else
        st = fc_arena_memory_open(steps * FC_PINNED_POOL_STEP_BYTES, &pool->memory, out_reason);
    if (st != FC_OK)
        goto free_pool;
    st = fc_arena_memory_register(&pool->memory, ops, engine, out_reason);
    if (st != FC_OK)
        goto close_memory;
    close(pool->memory.fd);
    pool->memory.fd = -1;
    pool->step_count = steps;
    pool->runs = runs;
    pthread_mutex_init(&pool->lock, NULL);
    *out_pool = pool;
    return FC_OK;
close_memory:
    fc_arena_memory_close(&pool->memory, false);
free_pool:
    free(runs);
    free(pool);
    return st;
}

void fc_pinned_pool_close(fc_pinned_pool *pool)
{
    if (pool == NULL)
        return;
    fc_arena_memory_close(&pool->memory, false);
    pthread_mutex_destroy(&pool->lock);
    free(pool->runs);
    free(pool);
}

/* The first of `wanted` free steps in a row; step_count: there are none. */
static size_t find_free(const fc_pinned_pool *pool, size_t wanted)
{
    size_t begin = 0;
    for (size_t i = 0; i < pool->step_count;) {
        if (pool->runs[i] != 0)
            begin = i += pool->runs[i];
        else if (++i - begin == wanted)
            return begin;
    }
    return pool->step_count;
}

void *fc_pinned_pool_take(fc_pinned_pool *pool, size_t size_bytes)
{
    size_t wanted = steps_of(size_bytes);
    void *piece = NULL;
    pthread_mutex_lock(&pool->lock);
    size_t begin =
        wanted > 0 && wanted <= pool->step_count - pool->lent_count ? find_free(pool, wanted) : pool->step_count;
    if (begin < pool->step_count) {
        pool->runs[begin] = (uint32_t)wanted;
        pool->lent_count += wanted;
        piece = pool->memory.base + begin * FC_PINNED_POOL_STEP_BYTES;
    }
    pthread_mutex_unlock(&pool->lock);
    return piece;
}

void fc_pinned_pool_give_back(fc_pinned_pool *pool, void *piece)
{
    size_t begin = (size_t)((uint8_t *)piece - pool->memory.base) / FC_PINNED_POOL_STEP_BYTES;
    pthread_mutex_lock(&pool->lock);
    pool->lent_count -= pool->runs[begin];
    pool->runs[begin] = 0;
    pthread_mutex_unlock(&pool->lock);
}

fc_memory_place fc_pinned_pool_place(const fc_pinned_pool *pool)
{
    return pool->memory.place;
}

size_t fc_pinned_pool_lent_bytes(fc_pinned_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    size_t lent = pool->lent_count * FC_PINNED_POOL_STEP_BYTES;
    pthread_mutex_unlock(&pool->lock);
    return lent;
}
