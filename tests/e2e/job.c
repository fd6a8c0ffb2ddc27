#include "tests/e2e/job.h"

#include "proto/half.h"
#include "tests/e2e/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_BYTES 256
#define GUARD 0xa5
#define POISON 0xff /* NaN in every dtype */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* About normal: the sum of four uniforms, variance 1. */
static float random_normal(uint64_t *state)
{
    uint64_t bits = next_random(state);
    float sum = 0.0f;
    for (int i = 0; i < 4; i++, bits >>= 16)
        sum += (float)(bits & 0xffffu) / 65536.0f - 0.5f;
    return sum * 1.7320508f;
}

static void store(uint8_t *data, flashcore_dtype dtype, size_t index, float value)
{
    uint16_t half = dtype == FLASHCORE_F16 ? fc_f16_from_float(value) : fc_bf16_from_float(value);
    if (dtype == FLASHCORE_F32)
        memcpy(data + 4 * index, &value, 4);
    else
        memcpy(data + 2 * index, &half, 2);
}

static uint64_t heads_at(const flashcore_tensor *tensor, flashcore_layout layout)
{
    return tensor->shape[layout == FLASHCORE_BHSD ? 1 : 2];
}

static uint64_t tokens_at(const flashcore_tensor *tensor, flashcore_layout layout)
{
    return tensor->shape[layout == FLASHCORE_BHSD ? 2 : 1];
}

/* live_tokens: per batch entry, tokens past it are NaN; NULL: all live. */
static uint8_t *make_tensor(const fc_job_spec *spec, flashcore_tensor *tensor, uint64_t heads, uint64_t tokens,
                            const uint32_t *live_tokens, uint64_t *seed, float magnitude)
{
    bool is_bhsd = spec->layout == FLASHCORE_BHSD;
    uint64_t shape[4] = {spec->batch, is_bhsd ? heads : tokens, is_bhsd ? tokens : heads, spec->head_dim};
    size_t count = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
    size_t element = spec->dtype == FLASHCORE_F32 ? 4 : 2;
    uint8_t *data = malloc(count * element + 1);
    ck_assert_ptr_nonnull(data);
    memcpy(tensor->shape, shape, sizeof shape);
    tensor->dtype = spec->dtype;
    tensor->data = data;
    for (size_t i = 0; i < count; i++) {
        uint64_t row = i / spec->head_dim;
        uint64_t token = is_bhsd ? row % tokens : row / heads % tokens;
        uint64_t entry = row / (heads * tokens);
        bool is_live = live_tokens == NULL || token < live_tokens[entry];
        store(data, spec->dtype, i, is_live ? magnitude * random_normal(seed) : NAN);
    }
    return data;
}

static void make_outputs(fc_job *job)
{
    const fc_job_spec *spec = &job->spec;
    size_t rows = (size_t)spec->batch * spec->q_heads * spec->q_len;
    job->out_bytes = rows * spec->head_dim * (spec->dtype == FLASHCORE_F32 ? 4 : 2);
    job->lse_bytes = spec->wants_lse ? rows * sizeof(float) : 0;
    job->out_block = malloc(job->out_bytes + 2 * GUARD_BYTES);
    job->lse_block = malloc(job->lse_bytes + 2 * GUARD_BYTES);
    ck_assert(job->out_block != NULL && job->lse_block != NULL);
    job->request.out = job->out_block + GUARD_BYTES;
    job->request.lse = spec->wants_lse ? (float *)(void *)(job->lse_block + GUARD_BYTES) : NULL;
    fc_job_poison(job);
}

void fc_job_make(const fc_job_spec *spec, fc_job *out_job)
{
    memset(out_job, 0, sizeof *out_job);
    out_job->spec = *spec;
    fc_job_spec *own = &out_job->spec;
    flashcore_request *request = &out_job->request;
    flashcore_request_init(request);
    const uint32_t *live = own->has_kv_lens ? own->kv_lens : NULL;
    float magnitude = own->magnitude > 0.0f ? own->magnitude : 1.0f;
    uint64_t seed = own->seed * 7919u + 1u;
    out_job->q = make_tensor(own, &request->q, own->q_heads, own->q_len, NULL, &seed, magnitude);
    out_job->k = make_tensor(own, &request->k, own->kv_heads, own->kv_len, live, &seed, magnitude);
    out_job->v = make_tensor(own, &request->v, own->kv_heads, own->kv_len, live, &seed, 1.0f);
    request->layout = own->layout;
    request->causal = own->causal;
    if (own->has_window) {
        request->window_left = own->window_left;
        request->window_right = own->window_right;
    }
    if (own->has_scale)
        request->scale = own->scale;
    request->softcap = own->softcap;
    request->kv_len = live;
    request->kernel = own->kernel;
    request->deadline_us = own->deadline_us;
    make_outputs(out_job);
}

void fc_job_share(const fc_job *inputs, fc_job *out_job)
{
    *out_job = *inputs;
    out_job->q = out_job->k = out_job->v = NULL;
    if (inputs->request.kv_len != NULL)
        out_job->request.kv_len = out_job->spec.kv_lens;
    make_outputs(out_job);
}

static size_t tensor_bytes(const flashcore_tensor *tensor)
{
    size_t bytes = tensor->dtype == FLASHCORE_F32 ? 4 : 2;
    for (int i = 0; i < 4; i++)
        bytes *= tensor->shape[i];
    return bytes;
}

flashcore_request fc_job_moved(const fc_job *job, fc_job_put put, void *context)
{
    flashcore_request request = job->request;
    flashcore_tensor *inputs[] = {&request.q, &request.k, &request.v};
    for (int i = 0; i < 3; i++)
        inputs[i]->data = put(context, i, inputs[i]->data, tensor_bytes(inputs[i]));
    request.out = put(context, 3, request.out, job->out_bytes);
    if (request.lse != NULL)
        request.lse = put(context, 4, request.lse, job->lse_bytes);
    return request;
}

static void *put_in_arena(void *arena, int piece, const void *from, size_t size)
{
    void *to = flashcore_arena_alloc(arena, size);
    (void)piece;
    ck_assert_ptr_nonnull(to);
    if (size > 0)
        memcpy(to, from, size);
    return to;
}

flashcore_request fc_job_in_arena(const fc_job *job, flashcore_arena *arena)
{
    return fc_job_moved(job, put_in_arena, arena);
}

static void poison_block(uint8_t *block, size_t bytes)
{
    memset(block, GUARD, GUARD_BYTES);
    memset(block + GUARD_BYTES, POISON, bytes);
    memset(block + GUARD_BYTES + bytes, GUARD, GUARD_BYTES);
}

void fc_job_poison(fc_job *job)
{
    poison_block(job->out_block, job->out_bytes);
    poison_block(job->lse_block, job->lse_bytes);
}

void fc_job_free(fc_job *job)
{
    free(job->q);
    free(job->k);
    free(job->v);
    free(job->out_block);
    free(job->lse_block);
    memset(job, 0, sizeof *job);
}

static bool guards_are_whole(const uint8_t *block, size_t bytes)
{
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        if (block[i] != GUARD || block[GUARD_BYTES + bytes + i] != GUARD)
            return false;
    }
    return true;
}

bool fc_job_is_right(const fc_job *job, fc_reason *out_reason)
{
    const fc_job_spec *spec = &job->spec;
    const flashcore_request *request = &job->request;
    fc_problem problem = {
        .dtype = (fc_dtype)spec->dtype,
        .causal = (fc_causal)spec->causal,
        .batch = (int32_t)spec->batch,
        .q_heads = (int32_t)spec->q_heads,
        .kv_heads = (int32_t)spec->kv_heads,
        .q_len = (int32_t)spec->q_len,
        .kv_len = (int32_t)spec->kv_len,
        .head_dim = (int32_t)spec->head_dim,
        .kv_lens = request->kv_len,
        .window_left = request->window_left,
        .window_right = request->window_right,
        .scale = spec->has_scale ? spec->scale : 1.0f / sqrtf((float)spec->head_dim),
        .softcap = spec->softcap,
    };
    fc_layout layout = (fc_layout)spec->layout;
    fc_tensors tensors = {
        .q = request->q.data,
        .k = request->k.data,
        .v = request->v.data,
        .q_strides = fc_strides_contiguous(layout, (int64_t)heads_at(&request->q, spec->layout),
                                           (int64_t)tokens_at(&request->q, spec->layout), spec->head_dim),
        .k_strides = fc_strides_contiguous(layout, (int64_t)heads_at(&request->k, spec->layout),
                                           (int64_t)tokens_at(&request->k, spec->layout), spec->head_dim),
    };
    tensors.v_strides = tensors.k_strides;
    tensors.out_strides = tensors.q_strides;
    if (!guards_are_whole(job->out_block, job->out_bytes) || !guards_are_whole(job->lse_block, job->lse_bytes)) {
        fc_fail(FC_INTERNAL, out_reason, "wrote outside the output");
        return false;
    }
    return fc_reference_verify(&problem, &tensors, request->out, tensors.q_strides, request->lse, out_reason) == FC_OK;
}

void fc_job_check(const fc_job *job)
{
    fc_reason reason = {""};
    bool is_right = fc_job_is_right(job, &reason);
    ck_assert_msg(is_right, "%s: %s", job->spec.name != NULL ? job->spec.name : "request", reason.text);
}

bool fc_job_same_answer(const fc_job *a, const fc_job *b)
{
    return a->out_bytes == b->out_bytes && a->lse_bytes == b->lse_bytes &&
           memcmp(a->request.out, b->request.out, a->out_bytes) == 0 &&
           (a->lse_bytes == 0 || memcmp(a->request.lse, b->request.lse, a->lse_bytes) == 0);
}

flashcore_client *fc_job_client(const char *const *urls, size_t count)
{
    flashcore_options options;
    flashcore_client *client = NULL;
    flashcore_options_init(&options);
    options.urls = urls;
    options.url_count = count;
    options.timeout_us = (uint64_t)fc_e2e_limit_ms(60000) * 1000u;
    options.connect_timeout_us = (uint64_t)fc_e2e_limit_ms(5000) * 1000u;
    flashcore_status status = flashcore_client_create(&options, &client);
    ck_assert_msg(status == FLASHCORE_OK, "client: %s", flashcore_last_error());
    return client;
}

void fc_job_attend(flashcore_client *client, fc_job *job, flashcore_result *out_result)
{
    flashcore_result result;
    flashcore_status status = flashcore_attend(client, &job->request, &result);
    ck_assert_msg(status == FLASHCORE_OK, "%s: %s: %s", job->spec.name != NULL ? job->spec.name : "request",
                  flashcore_status_name(status), result.error);
    fc_job_check(job);
    if (out_result != NULL)
        *out_result = result;
}

void fc_job_expect_service(const char *url)
{
    fc_job_spec spec = {
        .name = "health check", .batch = 1, .q_heads = 2, .kv_heads = 1, .q_len = 5, .kv_len = 9, .head_dim = 16};
    fc_job job;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_job_make(&spec, &job);
    fc_job_attend(client, &job, NULL);
    flashcore_client_destroy(client);
    fc_job_free(&job);
}

typedef struct counter_search {
    const char *name;
    double value;
} counter_search;

static void match_counter(void *context, const char *name, double value)
{
    counter_search *search = context;
    if (strcmp(search->name, name) == 0)
        search->value = value;
}

flashcore_status fc_job_look(flashcore_client *client, const char *name, double *value)
{
    counter_search search = {.name = name, .value = *value};
    flashcore_status status = flashcore_stats(client, 0, match_counter, &search);
    *value = search.value;
    return status;
}

double fc_job_counter(flashcore_client *client, const char *name)
{
    double value = 0;
    flashcore_status status = fc_job_look(client, name, &value);
    ck_assert_msg(status == FLASHCORE_OK, "stats: %s: %s", flashcore_status_name(status), flashcore_last_error());
    return value;
}

static void wait_counter(flashcore_client *client, const char *name, double least, double most)
{
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    double value = fc_job_counter(client, name);
    while (value < least || value > most) {
        ck_assert_msg(fc_e2e_now_us() < end_us, "%s is %g, not %g to %g", name, value, least, most);
        value = fc_job_counter(client, name);
    }
}

void fc_job_wait_counter(flashcore_client *client, const char *name, double at_least)
{
    wait_counter(client, name, at_least, INFINITY);
}

void fc_job_wait_counter_down(flashcore_client *client, const char *name, double at_most)
{
    wait_counter(client, name, 0, at_most);
}

flashcore_result fc_job_finish(flashcore_call *call)
{
    flashcore_result result;
    flashcore_status status = flashcore_wait(call, UINT64_MAX, &result);
    ck_assert_int_eq(status, result.status);
    flashcore_call_release(call);
    return result;
}

flashcore_call *fc_job_submit(flashcore_client *client, fc_job *job)
{
    flashcore_call *call = NULL;
    flashcore_status status = flashcore_submit(client, &job->request, NULL, NULL, &call);
    ck_assert_msg(status == FLASHCORE_OK, "submit: %s: %s", flashcore_status_name(status), flashcore_last_error());
    return call;
}

/* The slowest rung there is: a quick GPU would need a request beyond the daemon's limits to be busy for long. */
static const char *slowest_kernel(flashcore_client *client)
{
    flashcore_info info;
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    for (uint32_t i = 0; i < info.kernel_count; i++) {
        if (strcmp(info.kernels[i], "baseline") == 0)
            return "baseline";
    }
    return NULL;
}

fc_job_spec fc_job_long_spec(const char *url, double launch_us)
{
    fc_job_spec spec = {.name = "long",
                        .dtype = FLASHCORE_F16,
                        .batch = 1,
                        .q_heads = 8,
                        .kv_heads = 1,
                        .q_len = 128,
                        .kv_len = 128,
                        .head_dim = 64};
    flashcore_client *client = fc_job_client(&url, 1);
    spec.kernel = slowest_kernel(client);
    for (;;) {
        fc_job job;
        flashcore_result result;
        fc_job_make(&spec, &job);
        flashcore_status status = flashcore_attend(client, &job.request, &result);
        ck_assert_msg(status == FLASHCORE_OK, "%s", result.error);
        fc_job_free(&job);
        /* Work grows with the square of the length. The whole launch counts: a fake GPU's own clock may stand still. */
        if ((result.server_total_us - result.queue_us) * 2 > launch_us || spec.q_len >= 16384)
            break;
        spec.q_len *= 2;
        spec.kv_len *= 2;
    }
    flashcore_client_destroy(client);
    return spec;
}
