/* See tensor.h. */
#include "tests/gpu/tensor.h"

#include "proto/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POISON = 0xff, GAP_ELEMENTS = 8 }; /* 0xffff and 0xffffffff are NaN in every type */

void tensor_init(tensor *t, device_arena *arena, fc_dtype dtype, arrangement how, const int64_t shape[4])
{
    int64_t row = shape[3] + (how == ARRANGED_WITH_GAPS ? GAP_ELEMENTS : 0);
    *t = (tensor){.dtype = dtype, .batch = shape[0], .heads = shape[1], .tokens = shape[2], .head_dim = shape[3]};
    t->strides = fc_strides_contiguous(how == ARRANGED_BSHD ? FC_BSHD : FC_BHSD, t->heads, t->tokens, row);
    t->bytes = 2 * TENSOR_GUARD_BYTES + (size_t)(t->batch * t->heads * t->tokens * row) * fc_dtype_bytes(dtype);
    t->host = malloc(t->bytes);
    t->device = device_arena_take(arena, t->bytes);
    if (t->host == NULL)
        abort();
    memset(t->host, POISON, t->bytes);
}

void tensor_fini(tensor *t)
{
    free(t->host);
}

void *tensor_elements(const tensor *t)
{
    return t->host + TENSOR_GUARD_BYTES;
}

void *tensor_d_elements(const tensor *t)
{
    return t->device + TENSOR_GUARD_BYTES;
}

static size_t row_at(const tensor *t, int64_t batch, int64_t head, int64_t token)
{
    int64_t element = batch * t->strides.batch + head * t->strides.head + token * t->strides.token;
    return TENSOR_GUARD_BYTES + (size_t)element * fc_dtype_bytes(t->dtype);
}

static void put(fc_dtype dtype, char *to, float value)
{
    uint16_t half = dtype == FC_F16 ? fc_f16_from_float(value) : fc_bf16_from_float(value);
    if (dtype == FC_F32)
        memcpy(to, &value, sizeof value);
    else
        memcpy(to, &half, sizeof half);
}

void tensor_set_row(tensor *t, int64_t batch, int64_t head, int64_t token, float value)
{
    char *row = t->host + row_at(t, batch, head, token);
    for (int64_t d = 0; d < t->head_dim; d++)
        put(t->dtype, row + (size_t)d * fc_dtype_bytes(t->dtype), value);
}

/* In (0, 1). */
static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*state >> 40) + 0.5) * 0x1p-24;
}

static float normal(uint64_t *state)
{
    double radius = sqrt(-2 * log(uniform(state)));
    return (float)(radius * cos(6.283185307179586 * uniform(state)));
}

/* A start for each row, far from its neighbours' (Steele et al., "Fast splittable pseudorandom number generators"). */
static uint64_t state_of(uint64_t seed, int64_t row)
{
    uint64_t x = (seed << 40) + (uint64_t)row * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void fill_row(tensor *t, int64_t row, float spread, unsigned outlier_every, uint64_t seed)
{
    uint64_t state = state_of(seed, row);
    int64_t b = row / (t->heads * t->tokens), h = row / t->tokens % t->heads;
    char *to = t->host + row_at(t, b, h, row % t->tokens);
    for (int64_t d = 0; d < t->head_dim; d++) {
        bool is_outlier = outlier_every > 0 && uniform(&state) * outlier_every < 1;
        float value = spread * normal(&state) * (is_outlier ? 10.0f : 1.0f);
        put(t->dtype, to + (size_t)d * fc_dtype_bytes(t->dtype), value);
    }
}

void tensor_fill(tensor *t, float spread, unsigned outlier_every, uint64_t seed)
{
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < t->batch * t->heads * t->tokens; row++)
        fill_row(t, row, spread, outlier_every, seed);
}

void tensor_upload(const tensor *t)
{
    CUDA_OK(cudaMemcpy(t->device, t->host, t->bytes, cudaMemcpyHostToDevice));
}

void tensor_poison(const tensor *t)
{
    CUDA_OK(cudaMemset(t->device, POISON, t->bytes));
}

void tensor_download(const tensor *t, char *to)
{
    CUDA_OK(cudaMemcpy(to, t->device, t->bytes, cudaMemcpyDeviceToHost));
}

int64_t tensor_stray_bytes(const tensor *t, const char *bytes)
{
    size_t row_bytes = (size_t)t->head_dim * fc_dtype_bytes(t->dtype);
    char *is_element = calloc(1, t->bytes);
    int64_t stray = 0;
    if (is_element == NULL)
        abort();
    for (int64_t row = 0; row < t->batch * t->heads * t->tokens; row++) {
        int64_t b = row / (t->heads * t->tokens), h = row / t->tokens % t->heads;
        memset(is_element + row_at(t, b, h, row % t->tokens), 1, row_bytes);
    }
    for (size_t i = 0; i < t->bytes; i++)
        stray += !is_element[i] && (unsigned char)bytes[i] != POISON;
    free(is_element);
    return stray;
}
