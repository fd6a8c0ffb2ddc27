/* See floor.h. */
#include "tests/bench/floor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double floor_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

void floor_fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* --- times -------------------------------------------------------------------------------------------------------- */

void floor_times_init(floor_times *times)
{
    *times = (floor_times){.capacity = 1024};
    times->us = malloc(times->capacity * sizeof *times->us);
    if (times->us == NULL)
        floor_fail("times", "out of memory");
}

void floor_times_fini(floor_times *times)
{
    free(times->us);
}

void floor_times_add(floor_times *times, double us)
{
    if (times->count == FLOOR_TIMES_MAX)
        return;
    if (times->count == times->capacity) {
        double *more = realloc(times->us, 2 * times->capacity * sizeof *more);
        if (more == NULL)
            floor_fail("times", "out of memory");
        times->us = more;
        times->capacity *= 2;
    }
    times->us[times->count++] = us;
}

void floor_times_merge(floor_times *into, const floor_times *from)
{
    for (size_t i = 0; i < from->count; i++)
        floor_times_add(into, from->us[i]);
}

double floor_times_per_second(const floor_times *times)
{
    double sum_us = 0;
    for (size_t i = 0; i < times->count; i++)
        sum_us += times->us[i];
    return sum_us > 0 ? (double)times->count / sum_us * 1e6 : 0;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const floor_times *times, size_t percent)
{
    return times->count == 0 ? 0 : times->us[(times->count - 1) * percent / 100];
}

void floor_times_print(const char *name, floor_times *times)
{
    qsort(times->us, times->count, sizeof *times->us, by_size);
    printf("\"%s\": {\"p50_us\": %.2f, \"p90_us\": %.2f, \"p99_us\": %.2f, \"count\": %zu}", name,
           percentile(times, 50), percentile(times, 90), percentile(times, 99), times->count);
}

static double timed(floor_step step, void *context)
{
    double start_us = floor_now_us();
    if (!step(context))
        floor_fail("floors", "a step failed");
    return floor_now_us() - start_us;
}

void floor_times_take(floor_times *times, double seconds, floor_step step, void *context)
{
    double begin_us = floor_now_us() + seconds * 1e5;
    do
        timed(step, context);
    while (floor_now_us() < begin_us);
    begin_us = floor_now_us();
    do
        floor_times_add(times, timed(step, context));
    while (floor_now_us() < begin_us + seconds * 1e6);
}

/* --- the problem -------------------------------------------------------------------------------------------------- */

bool floor_problem(const char *sides, fc_problem *out_problem)
{
    int batch, heads, tokens, head_dim, end = 0;
    if (sscanf(sides, "%d,%d,%d,%d%n", &batch, &heads, &tokens, &head_dim, &end) != 4 || sides[end] != '\0')
        return false;
    *out_problem = (fc_problem){.dtype = FC_F16,
                                .causal = FC_CAUSAL_NONE,
                                .batch = batch,
                                .q_heads = heads,
                                .kv_heads = heads,
                                .q_len = tokens,
                                .kv_len = tokens,
                                .head_dim = head_dim,
                                .window_left = -1,
                                .window_right = -1,
                                .scale = 1 / sqrtf((float)head_dim)};
    return batch > 0 && heads > 0 && tokens > 0 && fc_problem_check(out_problem, NULL) == FC_OK;
}

static size_t half_bytes(const fc_problem *p, int32_t heads, int32_t tokens)
{
    return sizeof(uint16_t) * (size_t)p->batch * (size_t)heads * (size_t)tokens * (size_t)p->head_dim;
}

size_t floor_q_bytes(const fc_problem *problem)
{
    return half_bytes(problem, problem->q_heads, problem->q_len);
}

size_t floor_kv_bytes(const fc_problem *problem)
{
    return half_bytes(problem, problem->kv_heads, problem->kv_len);
}

size_t floor_lse_bytes(const fc_problem *p)
{
    return sizeof(float) * (size_t)p->batch * (size_t)p->q_heads * (size_t)p->q_len;
}

fc_tensors floor_tensors(const fc_problem *p, unsigned char *at)
{
    fc_strides q = fc_strides_contiguous(FC_BHSD, p->q_heads, p->q_len, p->head_dim);
    fc_strides k = fc_strides_contiguous(FC_BHSD, p->kv_heads, p->kv_len, p->head_dim);
    size_t q_bytes = floor_q_bytes(p), kv_bytes = floor_kv_bytes(p);
    return (fc_tensors){.q = at,
                        .k = at + q_bytes,
                        .v = at + q_bytes + kv_bytes,
                        .out = at + q_bytes + 2 * kv_bytes,
                        .lse = (float *)(void *)(at + 2 * q_bytes + 2 * kv_bytes),
                        .q_strides = q,
                        .k_strides = k,
                        .v_strides = k,
                        .out_strides = q};
}

/* Between 0.25 and 2 in size, both signs: kernels take the same time over any numbers. */
void floor_fill(void *inputs, size_t bytes)
{
    uint32_t state = 1;
    unsigned char *at = inputs;
    for (size_t i = 0; i + 1 < bytes; i += 2) {
        state = state * 1664525u + 1013904223u;
        uint16_t half = (uint16_t)(0x3400u + (state >> 16 & 0x0bffu) + (state >> 31 << 15));
        memcpy(at + i, &half, sizeof half);
    }
}
