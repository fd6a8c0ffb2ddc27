/* See fixture.h. */
#include "tests/gpu/fixture.h"

#include "kernels/attention_mask.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static fc_tensors host_tensors(const fixture *f)
{
    return (fc_tensors){.q = tensor_elements(&f->q),
                        .k = tensor_elements(&f->k),
                        .v = tensor_elements(&f->v),
                        .q_strides = f->q.strides,
                        .k_strides = f->k.strides,
                        .v_strides = f->v.strides,
                        .out_strides = f->out.strides};
}

fc_tensors fixture_device_tensors(const fixture *f)
{
    fc_tensors t = host_tensors(f);
    t.q = tensor_d_elements(&f->q);
    t.k = tensor_d_elements(&f->k);
    t.v = tensor_d_elements(&f->v);
    t.out = tensor_d_elements(&f->out);
    t.lse = tensor_d_elements(&f->lse);
    return t;
}

/* Fills K and V rows that no query of their batch entry sees with NaN and infinity, in turn. */
static void spoil_unseen(fixture *f)
{
    const fc_problem *p = &f->problem;
    const fc_plan plan = {.packed_heads = 1, .split_count = 1};
    fc_tensors t = host_tensors(f);
    fc_segment segments[CASE_BATCH_MAX];
    fc_problem_segments(p, &plan, &t, segments);
    for (int64_t i = 0; i < (int64_t)p->batch * p->kv_heads * p->kv_len; i++) {
        int64_t b = i / ((int64_t)p->kv_heads * p->kv_len), h = i / p->kv_len % p->kv_heads, key = i % p->kv_len;
        bool is_seen =
            p->q_len > 0 && key >= fc_key_begin(&segments[b], 0) && key < fc_key_end(&segments[b], p->q_len - 1);
        if (is_seen)
            continue;
        tensor_set_row(&f->k, b, h, key, key % 2 == 0 ? NAN : INFINITY);
        tensor_set_row(&f->v, b, h, key, key % 2 == 0 ? INFINITY : NAN);
    }
}

static void take_tensors(fixture *f, device_arena *arena)
{
    const fc_problem *p = &f->problem;
    const int64_t q_shape[4] = {p->batch, p->q_heads, p->q_len, p->head_dim};
    const int64_t kv_shape[4] = {p->batch, p->kv_heads, p->kv_len, p->head_dim};
    const int64_t lse_shape[4] = {p->batch, p->q_heads, p->q_len, 1};
    tensor_init(&f->q, arena, p->dtype, f->what.how, q_shape);
    tensor_init(&f->k, arena, p->dtype, f->what.how, kv_shape);
    tensor_init(&f->v, arena, p->dtype, f->what.how, kv_shape);
    tensor_init(&f->out, arena, p->dtype, f->what.how, q_shape);
    tensor_init(&f->lse, arena, FC_F32, ARRANGED_BHSD, lse_shape);
    tensor_init(&f->scratch_out, arena, p->dtype, f->what.how, q_shape);
    tensor_init(&f->scratch_lse, arena, FC_F32, ARRANGED_BHSD, lse_shape);
}

void fixture_init(fixture *f, device_arena *arena, const gpu_case *what, uint64_t seed)
{
    f->what = *what;
    f->problem = what->problem;
    for (int32_t b = 0; b < CASE_BATCH_MAX; b++)
        f->kv_lens[b] = (uint32_t)(b == 0 ? f->problem.kv_len : f->problem.kv_len * (3 - b) / 3);
    if (what->has_kv_lens)
        f->problem.kv_lens = f->kv_lens;
    arena->used = 0;
    take_tensors(f, arena);
    tensor_fill(&f->q, what->q_spread, what->outlier_every, 3 * seed);
    tensor_fill(&f->k, 1, what->outlier_every, 3 * seed + 1);
    tensor_fill(&f->v, 1, 0, 3 * seed + 2);
    spoil_unseen(f);
    tensor_upload(&f->q);
    tensor_upload(&f->k);
    tensor_upload(&f->v);
    fc_tensors t = host_tensors(f);
    if (fc_reference_truth_create(&f->problem, &t, what->row_step, &f->truth) != FC_OK) {
        fprintf(stderr, "no memory for the reference\n");
        exit(3);
    }
}

void fixture_fini(fixture *f)
{
    tensor *all[] = {&f->q, &f->k, &f->v, &f->out, &f->lse, &f->scratch_out, &f->scratch_lse};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_fini(all[i]);
    fc_reference_truth_destroy(f->truth);
}
