/* One table of shapes, one of conditions, every element type and head_dim: each combination runs on each CUDA kernel
 * and is held against the reference. Besides the answer, a case checks that
 *   - nothing outside the output's elements was written (guard bands, gaps between rows), and every element was;
 *   - keys that no query may see can be NaN or infinite;
 *   - a second run gives the same bits;
 *   - so does a run as one of 64 segments in a launch.
 */
#include "tests/gpu/cases.h"

#include "kernels/attention_mask.h"
#include "kernels/cuda_launch.h"
#include "kernels/reference.h"
#include "tests/gpu/tensor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMPANY = 64, MAX_BATCH = 4, ARENA_MIB = 512, PRINTED_FAILURES = 25 };

static const fc_dtype DTYPES[] = {FC_F16, FC_BF16, FC_F32};
static const int32_t HEAD_DIMS[] = {8, 64, 72, 128, 256};

typedef struct shape_row {
    int32_t batch, q_heads, kv_heads, q_len, kv_len;
    arrangement how;
    bool is_small;
} shape_row;

/* vec's tiles are 16 queries by 128 keys, baseline's 1 by 128. */
static const shape_row SHAPES[] = {
    {2, 4, 2, 0, 5, ARRANGED_BSHD, true},          {2, 4, 1, 1, 1, ARRANGED_BHSD, true},
    {1, 2, 2, 1, 0, ARRANGED_BHSD, true},          {2, 4, 2, 15, 127, ARRANGED_BSHD, true},
    {1, 3, 3, 16, 128, ARRANGED_WITH_GAPS, false}, {2, 4, 1, 17, 129, ARRANGED_BHSD, true},
    {2, 6, 2, 113, 203, ARRANGED_BSHD, false},     {1, 2, 1, 799, 3, ARRANGED_WITH_GAPS, false},
    {3, 2, 2, 1, 700, ARRANGED_WITH_GAPS, false},  {1, 2, 1, 1023, 1024, ARRANGED_BHSD, false},
};

typedef struct condition_row {
    const char *name;
    fc_causal causal;
    int64_t left, right;
    float scale; /* 0: 1 / sqrt(head_dim); -1: 0 */
    float softcap, q_spread;
    unsigned outlier_every;
    bool has_kv_lens, is_small;
} condition_row;

static const condition_row CONDITIONS[] = {
    {"full", FC_CAUSAL_NONE, -1, -1, 0, 0, 1, 0, false, true},
    {"kv_len", FC_CAUSAL_NONE, -1, -1, 0, 0, 1, 0, true, false},
    {"top_left", FC_CAUSAL_TOP_LEFT, -1, -1, 0, 0, 1, 0, false, false},
    {"bottom_right kv_len", FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 0, 0, 1, 0, true, true},
    {"window", FC_CAUSAL_NONE, 7, 3, 0, 0, 1, 0, true, true},
    {"causal window", FC_CAUSAL_TOP_LEFT, 20, -1, 0, 0, 1, 0, false, false},
    {"softcap", FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 0, 5, 4, 0, false, false},
    {"large logits", FC_CAUSAL_NONE, -1, -1, 0, 0, 100, 0, false, false},
    {"outliers", FC_CAUSAL_NONE, -1, -1, 0, 0, 1, 200, false, false},
    {"scale 0", FC_CAUSAL_BOTTOM_RIGHT, -1, -1, -1, 0, 1, 0, false, false},
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* Everything of one combination. */
typedef struct fixture {
    fc_problem problem;
    const shape_row *shape;
    const condition_row *condition;
    uint32_t kv_lens[MAX_BATCH];
    tensor q, k, v, out, lse, scratch_out, scratch_lse;
    fc_segment *d_segments;
} fixture;

typedef struct tally {
    int run, failed;
} tally;

static void set_problem(fixture *f, fc_dtype dtype, int32_t head_dim)
{
    const shape_row *s = f->shape;
    const condition_row *c = f->condition;
    for (int i = 0; i < MAX_BATCH; i++)
        f->kv_lens[i] = (uint32_t)(i == 0 ? s->kv_len : s->kv_len * (3 - i) / 3); /* all, 2/3, 1/3, none */
    f->problem = (fc_problem){.dtype = dtype,
                              .causal = c->causal,
                              .batch = s->batch,
                              .q_heads = s->q_heads,
                              .kv_heads = s->kv_heads,
                              .q_len = s->q_len,
                              .kv_len = s->kv_len,
                              .head_dim = head_dim,
                              .kv_lens = c->has_kv_lens ? f->kv_lens : NULL,
                              .window_left = c->left,
                              .window_right = c->right,
                              .scale = c->scale < 0 ? 0 : 1 / sqrtf((float)head_dim),
                              .softcap = c->softcap};
}

/* Fills K and V rows that no query of their batch entry sees with NaN and infinity, in turn. */
static void spoil_unseen(fixture *f, const fc_segment *segments)
{
    const fc_problem *p = &f->problem;
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

static fc_tensors device_tensors(const fixture *f)
{
    fc_tensors t = host_tensors(f);
    t.q = tensor_d_elements(&f->q);
    t.k = tensor_d_elements(&f->k);
    t.v = tensor_d_elements(&f->v);
    t.out = tensor_d_elements(&f->out);
    t.lse = tensor_d_elements(&f->lse);
    return t;
}

static void fixture_init(fixture *f, device_arena *arena, uint64_t seed)
{
    const fc_problem *p = &f->problem;
    const int64_t q_shape[4] = {p->batch, p->q_heads, p->q_len, p->head_dim};
    const int64_t kv_shape[4] = {p->batch, p->kv_heads, p->kv_len, p->head_dim};
    const int64_t lse_shape[4] = {p->batch, p->q_heads, p->q_len, 1};
    const fc_plan plan = {.split_count = 1};
    fc_segment segments[MAX_BATCH];
    arena->used = 0;
    tensor_init(&f->q, arena, p->dtype, f->shape->how, q_shape);
    tensor_init(&f->k, arena, p->dtype, f->shape->how, kv_shape);
    tensor_init(&f->v, arena, p->dtype, f->shape->how, kv_shape);
    tensor_init(&f->out, arena, p->dtype, f->shape->how, q_shape);
    tensor_init(&f->lse, arena, FC_F32, ARRANGED_BHSD, lse_shape);
    tensor_init(&f->scratch_out, arena, p->dtype, f->shape->how, q_shape);
    tensor_init(&f->scratch_lse, arena, FC_F32, ARRANGED_BHSD, lse_shape);
    f->d_segments = device_arena_take(arena, (COMPANY + MAX_BATCH) * sizeof *f->d_segments);
    tensor_fill(&f->q, f->condition->q_spread, f->condition->outlier_every, 3 * seed);
    tensor_fill(&f->k, 1, f->condition->outlier_every, 3 * seed + 1);
    tensor_fill(&f->v, 1, 0, 3 * seed + 2);
    fc_tensors t = device_tensors(f);
    fc_problem_segments(p, &plan, &t, segments);
    spoil_unseen(f, segments);
    tensor_upload(&f->q);
    tensor_upload(&f->k);
    tensor_upload(&f->v);
}

static void fixture_fini(fixture *f)
{
    tensor *all[] = {&f->q, &f->k, &f->v, &f->out, &f->lse, &f->scratch_out, &f->scratch_lse};
    for (size_t i = 0; i < COUNT(all); i++)
        tensor_fini(all[i]);
}

/* --- one kernel on one fixture ---------------------------------------------------------------------------------- */

/* Downloads of out and lse, guards included. */
typedef struct answer {
    char *out, *lse;
} answer;

static answer answer_make(const fixture *f)
{
    answer a = {malloc(f->out.bytes), malloc(f->lse.bytes)};
    if (a.out == NULL || a.lse == NULL)
        abort();
    return a;
}

static void answer_free(answer a)
{
    free(a.out);
    free(a.lse);
}

/* A segment of the company: fewer queries of the same tensors, answered into scratch memory that nobody looks at. */
static fc_segment stranger(const fixture *f, const fc_segment *like, int index)
{
    fc_segment s = *like;
    int32_t fewer = 1 + index * 5 % 40;
    s.q_len = s.q_len < fewer ? s.q_len : fewer;
    s.out = tensor_d_elements(&f->scratch_out);
    s.lse = tensor_d_elements(&f->scratch_lse);
    return s;
}

/* Runs the problem's segments, alone or in company, over poisoned outputs. */
static void run_kernel(const fixture *f, const fc_plan *plan, bool in_company, answer to)
{
    fc_segment mine[MAX_BATCH], all[COMPANY + MAX_BATCH];
    uint32_t count = 0, batch = (uint32_t)f->problem.batch;
    fc_tensors t = device_tensors(f);
    fc_problem_segments(&f->problem, plan, &t, mine);
    for (uint32_t b = 0; b < batch; b++) {
        uint32_t before = in_company ? (b + 1) * 17 - b : 0;
        while (count < before)
            all[count] = stranger(f, &mine[count % batch], (int)count), count++;
        all[count++] = mine[b];
    }
    while (in_company && count < COMPANY)
        all[count] = stranger(f, &mine[count % batch], (int)count), count++;
    fc_launch launch = {.plan = *plan, .segments = all, .d_segments = f->d_segments, .segment_count = count};
    launch.block_count = fc_launch_index(plan, all, count);
    CUDA_OK(cudaMemcpy(f->d_segments, all, count * sizeof *all, cudaMemcpyHostToDevice));
    tensor_poison(&f->out);
    tensor_poison(&f->lse);
    if (fc_cuda_launch_find(plan->kernel)(&launch, NULL) != FC_OK)
        CUDA_OK(cudaPeekAtLastError());
    CUDA_OK(cudaDeviceSynchronize());
    tensor_download(&f->out, to.out);
    tensor_download(&f->lse, to.lse);
}

static bool same_bits(const fixture *f, answer a, answer b)
{
    return memcmp(a.out, b.out, f->out.bytes) == 0 && memcmp(a.lse, b.lse, f->lse.bytes) == 0;
}

/* What is wrong with the kernel's answers; NULL: nothing. */
static const char *judge(const fixture *f, const fc_plan *plan, answer first, answer again, fc_reason *reason)
{
    fc_tensors t = host_tensors(f);
    run_kernel(f, plan, false, first);
    if (!tensor_gaps_are_poison(&f->out, first.out) || !tensor_gaps_are_poison(&f->lse, first.lse))
        return "wrote outside its output";
    if (fc_reference_verify(&f->problem, &t, first.out + TENSOR_GUARD_BYTES, f->out.strides,
                            (const float *)(const void *)(first.lse + TENSOR_GUARD_BYTES), reason) != FC_OK)
        return reason->text;
    run_kernel(f, plan, false, again);
    if (!same_bits(f, first, again))
        return "a second run differs";
    run_kernel(f, plan, true, again);
    return same_bits(f, first, again) ? NULL : "a run in company differs";
}

static void test_kernel(const fixture *f, const fc_device *device, fc_kernel kernel, tally *t)
{
    const fc_problem *p = &f->problem;
    fc_plan plan;
    fc_reason reason = {""};
    answer first = answer_make(f), again = answer_make(f);
    const char *wrong = reason.text;
    if (fc_plan_make(device, kernel, p, &plan, &reason) == FC_OK)
        wrong = judge(f, &plan, first, again, &reason);
    t->run++;
    t->failed += wrong != NULL;
    if (wrong != NULL && t->failed <= PRINTED_FAILURES)
        printf("FAIL %s %s head_dim %d, %dx%d/%d heads, %d x %d, %s: %s\n", fc_kernel_name(kernel),
               fc_dtype_name(p->dtype), p->head_dim, p->batch, p->q_heads, p->kv_heads, p->q_len, p->kv_len,
               f->condition->name, wrong);
    answer_free(first);
    answer_free(again);
}

/* --- the table -------------------------------------------------------------------------------------------------- */

static fc_device device_at_hand(void)
{
    struct cudaDeviceProp properties;
    CUDA_OK(cudaGetDeviceProperties(&properties, 0));
    return (fc_device){.engine = FC_ENGINE_CUDA,
                       .compute_capability = properties.major * 10 + properties.minor,
                       .processor_count = properties.multiProcessorCount};
}

static void run_combination(fixture *f, device_arena *arena, const fc_device *device, tally *t)
{
    fixture_init(f, arena, (uint64_t)t->run + 1);
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++) {
        if (fc_cuda_launch_find((fc_kernel)kernel) != NULL)
            test_kernel(f, device, (fc_kernel)kernel, t);
    }
    fixture_fini(f);
}

int cases_run(bool is_small)
{
    size_t combinations = COUNT(DTYPES) * COUNT(HEAD_DIMS) * COUNT(SHAPES) * COUNT(CONDITIONS);
    const fc_device device = device_at_hand();
    device_arena arena;
    tally t = {0, 0};
    device_arena_init(&arena, (size_t)ARENA_MIB << 20);
    for (size_t i = 0; i < combinations; i++) {
        fixture f = {0};
        size_t rest = i;
        f.condition = &CONDITIONS[rest % COUNT(CONDITIONS)], rest /= COUNT(CONDITIONS);
        f.shape = &SHAPES[rest % COUNT(SHAPES)], rest /= COUNT(SHAPES);
        int32_t head_dim = HEAD_DIMS[rest % COUNT(HEAD_DIMS)];
        if (is_small && !(f.shape->is_small && f.condition->is_small && head_dim >= 64))
            continue;
        set_problem(&f, DTYPES[rest / COUNT(HEAD_DIMS)], head_dim);
        run_combination(&f, &arena, &device, &t);
    }
    device_arena_fini(&arena);
    printf("%d kernel cases, %d failed\n", t.run, t.failed);
    return t.failed;
}
