/* kernels/cpu: every instruction set the machine has, every mask, layout and awkward length, against the reference. */
#include "kernels/cpu.h"
#include "kernels/reference.h"
#include "proto/half.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_BYTES 192
#define GUARD 0xa5

typedef enum content { NORMAL, LARGE_LOGITS, OUTLIERS } content;

/* One problem and how its tensors lie in memory. */
typedef struct shape {
    const char *name;
    int32_t batch, q_heads, kv_heads, q_len, kv_len, head_dim;
    fc_causal causal;
    int64_t window_left, window_right;
    float softcap;
    fc_layout layout;
    content values;
    int32_t misaligned_bytes;
    uint32_t kv_lens[3]; /* used when kv_lens_count > 0 */
    int32_t kv_lens_count;
} shape;

#define OPEN .window_left = -1, .window_right = -1

/* Lengths sit on, just under and just over the tiles: 128 and 256 keys, groups of 32 and 48 rows, 64 and 32 keys. */
static const shape shapes[] = {
    {"one key", 1, 1, 1, 1, 1, 64, FC_CAUSAL_NONE, OPEN},
    {"no keys", 1, 2, 2, 5, 0, 64, FC_CAUSAL_NONE, OPEN},
    {"no queries", 1, 2, 2, 0, 7, 64, FC_CAUSAL_NONE, OPEN},
    {"narrowest head", 1, 2, 2, 49, 131, 8, FC_CAUSAL_NONE, OPEN},
    {"head of 72", 1, 2, 1, 47, 129, 72, FC_CAUSAL_BOTTOM_RIGHT, OPEN},
    {"head of 24, misaligned", 1, 1, 1, 33, 65, 24, FC_CAUSAL_NONE, OPEN, .misaligned_bytes = 1},
    {"head of 200", 1, 1, 1, 31, 63, 200, FC_CAUSAL_TOP_LEFT, OPEN},
    {"widest head", 1, 2, 1, 50, 257, 256, FC_CAUSAL_NONE, OPEN},
    {"tile less one", 1, 1, 1, 48, 127, 64, FC_CAUSAL_NONE, OPEN},
    {"a tile", 1, 1, 1, 48, 128, 64, FC_CAUSAL_NONE, OPEN},
    {"tile and one", 1, 1, 1, 32, 129, 64, FC_CAUSAL_NONE, OPEN},
    {"two tiles less one", 1, 1, 1, 47, 255, 64, FC_CAUSAL_NONE, OPEN},
    {"two tiles", 1, 1, 1, 64, 256, 128, FC_CAUSAL_TOP_LEFT, OPEN},
    {"two tiles and one", 1, 1, 1, 65, 257, 64, FC_CAUSAL_BOTTOM_RIGHT, OPEN},
    {"113 x 203", 2, 4, 2, 113, 203, 64, FC_CAUSAL_BOTTOM_RIGHT, OPEN, .layout = FC_BSHD},
    {"799 x 3", 1, 2, 2, 799, 3, 128, FC_CAUSAL_NONE, OPEN},
    {"799 x 3, mostly empty rows", 1, 2, 2, 799, 3, 64, FC_CAUSAL_BOTTOM_RIGHT, OPEN},
    {"3 x 799", 1, 2, 1, 3, 799, 128, FC_CAUSAL_TOP_LEFT, OPEN},
    {"decode, group of 8", 2, 8, 1, 1, 519, 128, FC_CAUSAL_BOTTOM_RIGHT, OPEN},
    {"group of 3, few queries", 1, 6, 2, 7, 300, 40, FC_CAUSAL_BOTTOM_RIGHT, OPEN, .layout = FC_BSHD},
    {"window", 1, 2, 2, 300, 300, 64, FC_CAUSAL_NONE, .window_left = 40, .window_right = 9},
    {"window, causal", 1, 2, 2, 200, 333, 64, FC_CAUSAL_TOP_LEFT, .window_left = 3, .window_right = -1},
    {"window of itself", 1, 1, 1, 140, 140, 16, FC_CAUSAL_NONE, .window_left = 0, .window_right = 0},
    {"kv_len per entry", 3, 2, 1, 70, 190, 64, FC_CAUSAL_BOTTOM_RIGHT, OPEN, .kv_lens = {190, 0, 61},
     .kv_lens_count = 3},
    {"kv_len, odd pointers", 3, 2, 2, 33, 150, 72, FC_CAUSAL_NONE, OPEN, .kv_lens = {1, 128, 150}, .kv_lens_count = 3,
     .misaligned_bytes = 3, .layout = FC_BSHD},
    {"softcap", 1, 2, 2, 60, 140, 64, FC_CAUSAL_TOP_LEFT, OPEN, .softcap = 20.0f},
    {"softcap, large logits", 1, 1, 1, 60, 140, 64, FC_CAUSAL_NONE, OPEN, .softcap = 5.0f, .values = LARGE_LOGITS},
    {"large logits", 1, 2, 2, 64, 300, 64, FC_CAUSAL_NONE, OPEN, .values = LARGE_LOGITS},
    {"large logits, causal", 1, 2, 2, 130, 130, 128, FC_CAUSAL_TOP_LEFT, OPEN, .values = LARGE_LOGITS},
    {"outliers", 1, 2, 2, 96, 384, 128, FC_CAUSAL_NONE, OPEN, .values = OUTLIERS},
    {"outliers, causal", 1, 2, 2, 200, 200, 64, FC_CAUSAL_BOTTOM_RIGHT, OPEN, .values = OUTLIERS},
};

#define SHAPE_COUNT ((int)(sizeof shapes / sizeof *shapes))

/* --- tensors ------------------------------------------------------------------------------------------------------ */

/* xorshift64*: the same numbers on every machine. */
static float uniform(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (float)((*state * 2685821657736338717u) >> 40) * 0x1p-24f + 0x1p-25f;
}

static float normal(uint64_t *state)
{
    float radius = sqrtf(-2.0f * logf(uniform(state)));
    return radius * cosf(6.2831853f * uniform(state));
}

static float draw(uint64_t *state, content values)
{
    float value = normal(state);
    if (values == LARGE_LOGITS)
        return value * 12.0f;
    if (values == OUTLIERS && uniform(state) < 0.01f)
        return value * 10.0f;
    return value;
}

static void put(fc_dtype dtype, char *base, int64_t index, float value)
{
    uint16_t half = dtype == FC_F16 ? fc_f16_from_float(value) : fc_bf16_from_float(value);
    if (dtype == FC_F32)
        memcpy(base + index * 4, &value, sizeof value);
    else
        memcpy(base + index * 2, &half, sizeof half);
}

/* A problem with its memory. Tensor bytes are surrounded by guards; outputs start poisoned. */
typedef struct fixture {
    fc_problem problem;
    fc_tensors tensors;
    fc_plan plan;
    fc_segment *segments;
    char *blocks[5]; /* q k v out lse, guards included */
    size_t bytes[5];
    size_t offset[5]; /* of the tensor in its block */
    uint32_t kv_lens[3];
} fixture;

static char *allocate(fixture *f, int which, size_t bytes, size_t misaligned_bytes)
{
    f->bytes[which] = bytes;
    f->offset[which] = GUARD_BYTES + misaligned_bytes;
    f->blocks[which] = malloc(bytes + 2 * GUARD_BYTES + misaligned_bytes);
    ck_assert_ptr_nonnull(f->blocks[which]);
    memset(f->blocks[which], GUARD, bytes + 2 * GUARD_BYTES + misaligned_bytes);
    return f->blocks[which] + f->offset[which];
}

static char *make_tensor(fixture *f, int which, const shape *s, int32_t heads, int32_t tokens, uint64_t *state)
{
    size_t count = (size_t)s->batch * (size_t)heads * (size_t)tokens * (size_t)s->head_dim;
    char *data = allocate(f, which, count * fc_dtype_bytes(f->problem.dtype), (size_t)s->misaligned_bytes);
    for (size_t i = 0; i < count; i++)
        put(f->problem.dtype, data, (int64_t)i, draw(state, which < 2 ? s->values : NORMAL));
    return data;
}

/* What lies at or past kv_len is not a number. */
static void spoil_unused_keys(fixture *f, const shape *s)
{
    const fc_strides strides = f->tensors.k_strides;
    for (int32_t b = 0; b < s->kv_lens_count; b++) {
        for (int64_t head = 0; head < s->kv_heads; head++) {
            for (int64_t token = s->kv_lens[b]; token < s->kv_len; token++) {
                for (int64_t i = 0; i < s->head_dim; i++) {
                    int64_t at = b * strides.batch + head * strides.head + token * strides.token + i;
                    put(f->problem.dtype, (char *)f->tensors.k, at, NAN);
                    put(f->problem.dtype, (char *)f->tensors.v, at, i % 2 ? INFINITY : NAN);
                }
            }
        }
    }
}

static void setup(fixture *f, const shape *s, fc_dtype dtype, uint64_t seed)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    const fc_device device = {.engine = FC_ENGINE_CPU, .processor_count = 2};
    memset(f, 0, sizeof *f);
    memcpy(f->kv_lens, s->kv_lens, sizeof f->kv_lens);
    f->problem = (fc_problem){.dtype = dtype,
                              .causal = s->causal,
                              .batch = s->batch,
                              .q_heads = s->q_heads,
                              .kv_heads = s->kv_heads,
                              .q_len = s->q_len,
                              .kv_len = s->kv_len,
                              .head_dim = s->head_dim,
                              .kv_lens = s->kv_lens_count > 0 ? f->kv_lens : NULL,
                              .window_left = s->window_left,
                              .window_right = s->window_right,
                              .scale = 1.0f / sqrtf((float)s->head_dim),
                              .softcap = s->softcap};
    f->tensors.q = make_tensor(f, 0, s, s->q_heads, s->q_len, &state);
    f->tensors.k = make_tensor(f, 1, s, s->kv_heads, s->kv_len, &state);
    f->tensors.v = make_tensor(f, 2, s, s->kv_heads, s->kv_len, &state);
    size_t rows = (size_t)s->batch * (size_t)s->q_heads * (size_t)s->q_len;
    f->tensors.out = allocate(f, 3, rows * (size_t)s->head_dim * fc_dtype_bytes(dtype), (size_t)s->misaligned_bytes);
    f->tensors.lse = (float *)(void *)allocate(f, 4, rows * sizeof(float), 0);
    f->tensors.q_strides = fc_strides_contiguous(s->layout, s->q_heads, s->q_len, s->head_dim);
    f->tensors.k_strides = fc_strides_contiguous(s->layout, s->kv_heads, s->kv_len, s->head_dim);
    f->tensors.v_strides = f->tensors.k_strides;
    f->tensors.out_strides = f->tensors.q_strides;
    spoil_unused_keys(f, s);
    ck_assert_int_eq(fc_plan_make(&device, FC_KERNEL_CPU, &f->problem, &f->plan, NULL), FC_OK);
    f->segments = calloc((size_t)s->batch, sizeof *f->segments);
    ck_assert_ptr_nonnull(f->segments);
    fc_problem_segments(&f->problem, &f->plan, &f->tensors, f->segments);
}

static void teardown(fixture *f)
{
    for (int i = 0; i < 5; i++)
        free(f->blocks[i]);
    free(f->segments);
}

static void poison_outputs(fixture *f)
{
    memset(f->blocks[3] + f->offset[3], 0xff, f->bytes[3]);
    memset(f->blocks[4] + f->offset[4], 0xff, f->bytes[4]);
}

static void assert_guards(const fixture *f, const char *what)
{
    for (int which = 0; which < 5; which++) {
        for (size_t i = 0; i < f->offset[which]; i++)
            ck_assert_msg((unsigned char)f->blocks[which][i] == GUARD, "%s: wrote before tensor %d", what, which);
        for (size_t i = 0; i < GUARD_BYTES; i++)
            ck_assert_msg((unsigned char)f->blocks[which][f->offset[which] + f->bytes[which] + i] == GUARD,
                          "%s: wrote behind tensor %d", what, which);
    }
}

static fc_cpu *open_cpu(fc_cpu_isa_id isa, int32_t threads)
{
    fc_cpu_config config = {.isa = isa, .thread_count = threads};
    fc_cpu *cpu = NULL;
    ck_assert_int_eq(fc_cpu_create(&config, &cpu), FC_OK);
    return cpu;
}

static void run_segments(fc_cpu *cpu, const fc_plan *plan, const fc_segment *segments, uint32_t count)
{
    fc_launch launch = {.plan = *plan, .segments = segments, .d_segments = segments, .segment_count = count};
    ck_assert_int_eq(fc_cpu_run(cpu, &launch), FC_OK);
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

START_TEST(every_isa_agrees_with_the_reference)
{
    fc_cpu_isa_id isa = (fc_cpu_isa_id)_i;
    if (!fc_cpu_isa_is_supported(isa))
        return;
    fc_cpu *cpu = open_cpu(isa, 2);
    for (int i = 0; i < SHAPE_COUNT; i++) {
        for (int dtype = 0; dtype < FC_DTYPE_COUNT; dtype++) {
            fixture f;
            fc_reason reason = {""};
            char what[120];
            snprintf(what, sizeof what, "%s, %s, %s", fc_cpu_isa_name(isa), fc_dtype_name((fc_dtype)dtype),
                     shapes[i].name);
            setup(&f, &shapes[i], (fc_dtype)dtype, (uint64_t)i + 1);
            poison_outputs(&f);
            run_segments(cpu, &f.plan, f.segments, (uint32_t)shapes[i].batch);
            assert_guards(&f, what);
            fc_status st = fc_reference_verify(&f.problem, &f.tensors, f.tensors.out, f.tensors.out_strides,
                                               f.tensors.lse, &reason);
            ck_assert_msg(st == FC_OK, "%s: %s", what, reason.text);
            teardown(&f);
        }
    }
    fc_cpu_destroy(cpu);
}
END_TEST

static void run_fixture(fixture *f, fc_cpu *cpu)
{
    poison_outputs(f);
    run_segments(cpu, &f->plan, f->segments, (uint32_t)f->problem.batch);
}

static void assert_same_outputs(const fixture *f, const char *out, const char *lse, const char *what)
{
    ck_assert_msg(memcmp(f->blocks[3] + f->offset[3], out, f->bytes[3]) == 0, "%s: out differs", what);
    ck_assert_msg(memcmp(f->blocks[4] + f->offset[4], lse, f->bytes[4]) == 0, "%s: lse differs", what);
}

static char *copy_of(const fixture *f, int which)
{
    char *copy = malloc(f->bytes[which] + 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, f->blocks[which] + f->offset[which], f->bytes[which]);
    return copy;
}

/* How many threads there are, and so how rows fall into blocks, changes no bit; nor does running again. */
START_TEST(threads_and_repeats_change_no_bit)
{
    static const shape fixed[] = {
        {"causal", 2, 6, 2, 330, 330, 64, FC_CAUSAL_TOP_LEFT, OPEN},
        {"few queries of a wide group", 1, 16, 1, 11, 700, 72, FC_CAUSAL_BOTTOM_RIGHT, OPEN},
        {"window, softcap", 1, 3, 3, 257, 301, 128, FC_CAUSAL_NONE, .window_left = 60, .window_right = 7, .softcap = 9},
    };
    static const int32_t threads[] = {1, 2, 3, 16};
    fc_cpu_isa_id isa = (fc_cpu_isa_id)_i;
    if (!fc_cpu_isa_is_supported(isa))
        return;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        for (int dtype = 0; dtype < FC_DTYPE_COUNT; dtype++) {
            fixture f;
            setup(&f, &fixed[i], (fc_dtype)dtype, 77);
            char *out = NULL, *lse = NULL;
            for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
                fc_cpu *cpu = open_cpu(isa, threads[t]);
                for (int repeat = 0; repeat < 2; repeat++) {
                    run_fixture(&f, cpu);
                    if (out == NULL) {
                        out = copy_of(&f, 3);
                        lse = copy_of(&f, 4);
                    }
                    assert_same_outputs(&f, out, lse, fixed[i].name);
                }
                fc_cpu_destroy(cpu);
            }
            free(out);
            free(lse);
            teardown(&f);
        }
    }
}
END_TEST

#define COMPANY 63

/* A segment alone, and among 63 others of other lengths, heads, scales and masks. */
START_TEST(company_changes_no_bit)
{
    static const shape subject = {"subject", 1, 4, 2, 75, 210, 64, FC_CAUSAL_BOTTOM_RIGHT, OPEN};
    fc_cpu_isa_id isa = (fc_cpu_isa_id)_i;
    if (!fc_cpu_isa_is_supported(isa))
        return;
    fc_cpu *cpu = open_cpu(isa, 2);
    for (int dtype = 0; dtype < FC_DTYPE_COUNT; dtype++) {
        fixture f, others[COMPANY];
        fc_segment together[COMPANY + 1];
        setup(&f, &subject, (fc_dtype)dtype, 5);
        run_fixture(&f, cpu);
        char *out = copy_of(&f, 3), *lse = copy_of(&f, 4);
        for (int i = 0; i < COMPANY; i++) {
            shape other = {"company", 1, 1 + i % 3, 1, 1 + i * 37 % 190, i * 53 % 300, 64, FC_CAUSAL_NONE, OPEN};
            other.causal = (fc_causal)(i % FC_CAUSAL_COUNT);
            other.softcap = i % 5 == 0 ? 3.0f : 0.0f;
            setup(&others[i], &other, (fc_dtype)dtype, (uint64_t)i);
            poison_outputs(&others[i]);
            together[i < 20 ? i : i + 1] = others[i].segments[0];
        }
        together[20] = f.segments[0];
        poison_outputs(&f);
        run_segments(cpu, &f.plan, together, COMPANY + 1);
        assert_same_outputs(&f, out, lse, fc_cpu_isa_name(isa));
        free(out);
        free(lse);
        for (int i = 0; i < COMPANY; i++)
            teardown(&others[i]);
        teardown(&f);
    }
    fc_cpu_destroy(cpu);
}
END_TEST

/* Keys a mask hides may be anything, K's rows even where other queries of the tile see them. */
START_TEST(what_no_query_sees_may_be_nan)
{
    static const shape windowed = {"window",         1, 2, 2, 40, 400, 64, FC_CAUSAL_TOP_LEFT, .window_left = 10,
                                   .window_right = 0};
    fc_cpu_isa_id isa = (fc_cpu_isa_id)_i;
    if (!fc_cpu_isa_is_supported(isa))
        return;
    fc_cpu *cpu = open_cpu(isa, 1);
    for (int dtype = 0; dtype < FC_DTYPE_COUNT; dtype++) {
        fixture f;
        setup(&f, &windowed, (fc_dtype)dtype, 9);
        run_fixture(&f, cpu);
        char *out = copy_of(&f, 3), *lse = copy_of(&f, 4);
        for (int64_t head = 0; head < 2; head++) {
            for (int64_t i = 0; i < 64; i++) {
                /* Key 39 is seen by the last query alone. */
                put((fc_dtype)dtype, (char *)f.tensors.k, head * f.tensors.k_strides.head + 39 * 64 + i, NAN);
                for (int64_t token = 300; token < 400; token++)
                    put((fc_dtype)dtype, (char *)f.tensors.k, head * f.tensors.k_strides.head + token * 64 + i, NAN);
            }
        }
        run_fixture(&f, cpu);
        size_t row_bytes = 64 * fc_dtype_bytes((fc_dtype)dtype);
        for (size_t head = 0; head < 2; head++) {
            ck_assert_mem_eq(f.blocks[3] + f.offset[3] + head * 40 * row_bytes, out + head * 40 * row_bytes,
                             39 * row_bytes);
            ck_assert_mem_eq(f.tensors.lse + head * 40, (float *)(void *)lse + head * 40, 39 * sizeof(float));
            ck_assert(isnan(f.tensors.lse[head * 40 + 39]));
        }
        free(out);
        free(lse);
        teardown(&f);
    }
    fc_cpu_destroy(cpu);
}
END_TEST

START_TEST(rows_without_keys_give_zero_and_minus_infinity)
{
    static const shape ahead = {"more queries than keys", 1, 1, 1, 90, 30, 64, FC_CAUSAL_BOTTOM_RIGHT, OPEN};
    fc_cpu_isa_id isa = (fc_cpu_isa_id)_i;
    if (!fc_cpu_isa_is_supported(isa))
        return;
    fc_cpu *cpu = open_cpu(isa, 2);
    fixture f;
    setup(&f, &ahead, FC_F32, 3);
    run_fixture(&f, cpu);
    const float *out = f.tensors.out;
    for (int row = 0; row < 90; row++) {
        ck_assert_int_eq(isinf(f.tensors.lse[row]) && f.tensors.lse[row] < 0, row < 60);
        for (int i = 0; i < 64 && row < 60; i++)
            ck_assert(out[row * 64 + i] == 0.0f);
    }
    teardown(&f);
    fc_cpu_destroy(cpu);
}
END_TEST

/* lse may be NULL; logits far beyond 2^24 and a scale of zero stay in range. */
START_TEST(extremes_stay_finite)
{
    static const shape small = {"small", 1, 1, 1, 40, 70, 64, FC_CAUSAL_NONE, OPEN};
    static const float scales[] = {0.0f, 1e-30f, 1e9f, 1e30f};
    fc_cpu_isa_id isa = (fc_cpu_isa_id)_i;
    if (!fc_cpu_isa_is_supported(isa))
        return;
    fc_cpu *cpu = open_cpu(isa, 1);
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        fixture f;
        setup(&f, &small, FC_F32, 11);
        f.segments[0].scale = scales[i];
        run_fixture(&f, cpu);
        char *out = copy_of(&f, 3);
        for (int at = 0; at < 40 * 64; at++)
            ck_assert(isfinite(((float *)f.tensors.out)[at]));
        for (int row = 0; row < 40; row++)
            ck_assert(isfinite(f.tensors.lse[row]) && (i > 0 || fabsf(f.tensors.lse[row] - logf(70)) < 1e-6f));
        f.segments[0].lse = NULL;
        run_fixture(&f, cpu);
        ck_assert_mem_eq(f.tensors.out, out, f.bytes[3]);
        free(out);
        teardown(&f);
    }
    fc_cpu_destroy(cpu);
}
END_TEST

START_TEST(wishes_are_checked)
{
    fc_cpu *cpu = NULL;
    fc_cpu_config config = {.isa = FC_CPU_BEST, .thread_count = 0};
    ck_assert_int_eq(fc_cpu_create(&config, &cpu), FC_INVALID_ARGUMENT);
    config.thread_count = FC_CPU_THREADS_MAX + 1;
    ck_assert_int_eq(fc_cpu_create(&config, &cpu), FC_INVALID_ARGUMENT);
    ck_assert_ptr_null(cpu);
    ck_assert(fc_cpu_isa_is_supported(FC_CPU_PORTABLE));
    ck_assert(fc_cpu_isa_is_supported(fc_cpu_isa_best()));
    ck_assert(!fc_cpu_isa_is_supported(FC_CPU_ISA_COUNT));
    ck_assert_str_eq(fc_cpu_isa_name(FC_CPU_AVX2), "avx2");
    ck_assert_str_eq(fc_cpu_isa_name(FC_CPU_ISA_COUNT), "unknown");
    config.thread_count = 1;
    for (int isa = 0; isa < FC_CPU_ISA_COUNT; isa++) {
        config.isa = (fc_cpu_isa_id)isa;
        if (!fc_cpu_isa_is_supported(config.isa))
            ck_assert_int_eq(fc_cpu_create(&config, &cpu), FC_UNSUPPORTED);
    }
    fc_cpu_destroy(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cpu");
    TCase *answers = tcase_create("answers");
    tcase_set_timeout(answers, 180);
    tcase_add_loop_test(answers, every_isa_agrees_with_the_reference, 0, FC_CPU_ISA_COUNT);
    tcase_add_loop_test(answers, what_no_query_sees_may_be_nan, 0, FC_CPU_ISA_COUNT);
    tcase_add_loop_test(answers, rows_without_keys_give_zero_and_minus_infinity, 0, FC_CPU_ISA_COUNT);
    tcase_add_loop_test(answers, extremes_stay_finite, 0, FC_CPU_ISA_COUNT);
    suite_add_tcase(suite, answers);
    TCase *invariance = tcase_create("invariance");
    tcase_set_timeout(invariance, 180);
    tcase_add_loop_test(invariance, threads_and_repeats_change_no_bit, 0, FC_CPU_ISA_COUNT);
    tcase_add_loop_test(invariance, company_changes_no_bit, 0, FC_CPU_ISA_COUNT);
    tcase_add_test(invariance, wishes_are_checked);
    suite_add_tcase(suite, invariance);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
