/* See cuda_bench.h. */
#include "tests/support/cuda_bench.h"

#include "kernels/reference.h"
#include "proto/half.h"

#include <check.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *symbol(void *object, const char *name)
{
    void *address = dlsym(object, name);
    if (address == NULL) {
        fprintf(stderr, "no %s: %s\n", name, dlerror());
        exit(EXIT_FAILURE);
    }
    return address;
}

cuda_fake cuda_fake_load(const char *file)
{
    cuda_fake fake;
    const char *build = getenv("FC_TEST_BUILD");
    char path[512];
    snprintf(path, sizeof path, "%s/tests/%s", build != NULL ? build : "build", file);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(EXIT_FAILURE);
    }
    fc_engine_entry entry;
    *(void **)&entry = symbol(object, FC_ENGINE_SYMBOL);
    fake.ops = entry();
    *(void **)&fake.break_call = symbol(object, "fake_cuda_fail");
    *(void **)&fake.live = symbol(object, "fake_cuda_live");
    *(void **)&fake.holders = symbol(object, "fake_cuda_holders");
    *(void **)&fake.machine = symbol(object, "fake_cuda_machine");
    *(void **)&fake.reset = symbol(object, "fake_cuda_reset");
    *(void **)&fake.launches = symbol(object, "fake_cuda_launches");
    *(void **)&fake.pending = symbol(object, "fake_cuda_pending");
    *(void **)&fake.copied = symbol(object, "fake_cuda_copied");
    *(void **)&fake.allocate = symbol(object, "fake_cuda_allocate");
    *(void **)&fake.release = symbol(object, "fake_cuda_release");
    return fake;
}

static void *odd_memory(made_job *made, size_t bytes)
{
    unsigned char *memory = malloc(bytes + 1);
    ck_assert_ptr_nonnull(memory);
    memset(memory, 0xee, bytes + 1);
    made->memory[made->count++] = memory;
    return memory + 1;
}

static void *random_tensor(made_job *made, fc_dtype dtype, size_t count, uint32_t seed)
{
    unsigned char *bytes = odd_memory(made, count * fc_dtype_bytes(dtype));
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        float value = (float)(seed >> 8) * 0x1p-22f - 2.0f;
        uint16_t half = dtype == FC_F16 ? fc_f16_from_float(value) : fc_bf16_from_float(value);
        if (dtype == FC_F32)
            memcpy(bytes + 4 * i, &value, 4);
        else
            memcpy(bytes + 2 * i, &half, 2);
    }
    return bytes;
}

/* Strided: rows lie twice as far apart as they have to. */
static fc_strides strides_of(const job_row *row, int32_t heads, int32_t tokens)
{
    return fc_strides_contiguous(row->layout, heads, tokens, row->is_strided ? 2 * row->head_dim : row->head_dim);
}

void make_job(made_job *made, const job_row *row, fc_kernel kernel, const cuda_fake *fake, fc_engine *engine)
{
    int wide = row->is_strided ? 2 : 1;
    size_t q_count = (size_t)(wide * row->batch * row->q_heads * row->q_len * row->head_dim);
    size_t kv_count = (size_t)(wide * row->batch * row->kv_heads * row->kv_len * row->head_dim);
    memset(made, 0, sizeof *made);
    for (int i = 0; i < 4; i++)
        made->kv_lens[i] = (uint32_t)(row->kv_len * (i + 1) / 4);
    fc_problem *p = &made->job.problem;
    *p = (fc_problem){.dtype = row->dtype,
                      .causal = row->causal,
                      .batch = row->batch,
                      .q_heads = row->q_heads,
                      .kv_heads = row->kv_heads,
                      .q_len = row->q_len,
                      .kv_len = row->kv_len,
                      .head_dim = row->head_dim,
                      .kv_lens = row->has_kv_lens ? made->kv_lens : NULL,
                      .window_left = row->left,
                      .window_right = row->right,
                      .scale = 1 / sqrtf((float)row->head_dim),
                      .softcap = row->softcap};
    fc_tensors *t = &made->job.tensors;
    *t = (fc_tensors){.q = random_tensor(made, row->dtype, q_count, 1),
                      .k = random_tensor(made, row->dtype, kv_count, 2),
                      .v = random_tensor(made, row->dtype, kv_count, 3),
                      .out = odd_memory(made, q_count * fc_dtype_bytes(row->dtype)),
                      .q_strides = strides_of(row, row->q_heads, row->q_len),
                      .k_strides = strides_of(row, row->kv_heads, row->kv_len),
                      .v_strides = strides_of(row, row->kv_heads, row->kv_len),
                      .out_strides = strides_of(row, row->q_heads, row->q_len)};
    if (row->wants_lse)
        t->lse = odd_memory(made, (size_t)(row->batch * row->q_heads * row->q_len) * sizeof(float));
    ck_assert_int_eq(fake->ops->plan(engine, kernel, p, &made->job.plan, NULL), FC_OK);
}

void free_job(made_job *made)
{
    for (int i = 0; i < made->count; i++)
        free(made->memory[i]);
}

void check_answer(const fc_engine_job *j, int row)
{
    fc_reason reason = {""};
    fc_status st =
        fc_reference_verify(&j->problem, &j->tensors, j->tensors.out, j->tensors.out_strides, j->tensors.lse, &reason);
    ck_assert_msg(st == FC_OK, "row %d: %s", row, reason.text);
}

fc_status rig_open(rig *r, const cuda_fake *fake, const fc_engine_config *config, fc_reason *out_reason)
{
    memset(r, 0, sizeof *r);
    fc_status st = fake->ops->open(config, &r->engine, out_reason);
    if (st != FC_OK)
        return st;
    st = fake->ops->lane_open(r->engine, &r->lane, out_reason);
    if (st != FC_OK) {
        fake->ops->close(r->engine);
        memset(r, 0, sizeof *r);
    }
    return st;
}

void rig_close(rig *r, const cuda_fake *fake)
{
    fake->ops->lane_close(r->lane);
    fake->ops->close(r->engine);
}
