/* kernels/attention: problems are refused with the right word, masks become the right interval, blocks add up. */
#include "kernels/attention.h"
#include "kernels/attention_mask.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const fc_device CPU = {.engine = FC_ENGINE_CPU, .processor_count = 2};
static const fc_device L4 = {.engine = FC_ENGINE_CUDA, .compute_capability = 89, .processor_count = 58};
static const fc_device TURING = {.engine = FC_ENGINE_CUDA, .compute_capability = 75, .processor_count = 40};

static fc_problem good_problem(void)
{
    return (fc_problem){.dtype = FC_F16,
                        .causal = FC_CAUSAL_NONE,
                        .batch = 2,
                        .q_heads = 8,
                        .kv_heads = 2,
                        .q_len = 5,
                        .kv_len = 7,
                        .head_dim = 64,
                        .window_left = -1,
                        .window_right = -1,
                        .scale = 0.125f};
}

/* One field set to a value. */
typedef enum field {
    BATCH,
    Q_HEADS,
    KV_HEADS,
    Q_LEN,
    KV_LEN,
    HEAD_DIM,
    LEFT,
    RIGHT,
    SCALE,
    SOFTCAP,
    DTYPE,
    CAUSAL
} field;

static void set_field(fc_problem *p, field which, double value)
{
    switch (which) {
    case BATCH:
        p->batch = (int32_t)value;
        return;
    case Q_HEADS:
        p->q_heads = (int32_t)value;
        return;
    case KV_HEADS:
        p->kv_heads = (int32_t)value;
        return;
    case Q_LEN:
        p->q_len = (int32_t)value;
        return;
    case KV_LEN:
        p->kv_len = (int32_t)value;
        return;
    case HEAD_DIM:
        p->head_dim = (int32_t)value;
        return;
    case LEFT:
        p->window_left = (int64_t)value;
        return;
    case RIGHT:
        p->window_right = (int64_t)value;
        return;
    case SCALE:
        p->scale = (float)value;
        return;
    case SOFTCAP:
        p->softcap = (float)value;
        return;
    case DTYPE:
        p->dtype = (fc_dtype)(int)value;
        return;
    case CAUSAL:
        p->causal = (fc_causal)(int)value;
        return;
    }
}

static const struct check_row {
    field which;
    double value;
    fc_status status;
    const char *key; /* the reason starts with it */
} CHECK_ROWS[] = {
    {BATCH, 0, FC_OK, NULL},
    {BATCH, -1, FC_INVALID_ARGUMENT, "q.shape:"},
    {BATCH, 2147483647, FC_OK, NULL},
    {Q_HEADS, 0, FC_INVALID_ARGUMENT, "q.shape:"},
    {Q_HEADS, 7, FC_INVALID_ARGUMENT, "q.shape:"},
    {Q_HEADS, 2, FC_OK, NULL},
    {KV_HEADS, 0, FC_INVALID_ARGUMENT, "k.shape:"},
    {KV_HEADS, -2, FC_INVALID_ARGUMENT, "k.shape:"},
    {KV_HEADS, 16, FC_INVALID_ARGUMENT, "q.shape:"},
    {Q_LEN, 0, FC_OK, NULL},
    {Q_LEN, -1, FC_INVALID_ARGUMENT, "q.shape:"},
    {Q_LEN, FC_TOKENS_MAX, FC_OK, NULL},
    {Q_LEN, FC_TOKENS_MAX + 1.0, FC_INVALID_ARGUMENT, "q.shape:"},
    {KV_LEN, 0, FC_OK, NULL},
    {KV_LEN, -1, FC_INVALID_ARGUMENT, "k.shape:"},
    {KV_LEN, FC_TOKENS_MAX + 1.0, FC_INVALID_ARGUMENT, "k.shape:"},
    {HEAD_DIM, 8, FC_OK, NULL},
    {HEAD_DIM, 256, FC_OK, NULL},
    {HEAD_DIM, 264, FC_UNSUPPORTED, "q.shape:"},
    {HEAD_DIM, 12, FC_UNSUPPORTED, "q.shape:"},
    {HEAD_DIM, 0, FC_INVALID_ARGUMENT, "q.shape:"},
    {HEAD_DIM, -8, FC_INVALID_ARGUMENT, "q.shape:"},
    {LEFT, -2, FC_INVALID_ARGUMENT, "window:"},
    {LEFT, 0, FC_OK, NULL},
    {RIGHT, -2, FC_INVALID_ARGUMENT, "window:"},
    {RIGHT, 9e18, FC_OK, NULL},
    {SCALE, 0, FC_OK, NULL},
    {SCALE, -1, FC_INVALID_ARGUMENT, "scale:"},
    {SCALE, NAN, FC_INVALID_ARGUMENT, "scale:"},
    {SCALE, INFINITY, FC_INVALID_ARGUMENT, "scale:"},
    {SOFTCAP, 30, FC_OK, NULL},
    {SOFTCAP, -30, FC_INVALID_ARGUMENT, "softcap:"},
    {SOFTCAP, NAN, FC_INVALID_ARGUMENT, "softcap:"},
    {DTYPE, FC_DTYPE_COUNT, FC_INVALID_ARGUMENT, "q.dtype:"},
    {CAUSAL, FC_CAUSAL_COUNT, FC_INVALID_ARGUMENT, "causal:"},
};

START_TEST(a_bad_field_is_named)
{
    const struct check_row *row = &CHECK_ROWS[_i];
    fc_problem problem = good_problem();
    fc_reason reason = {""};
    fc_plan plan;
    set_field(&problem, row->which, row->value);
    ck_assert_msg(fc_problem_check(&problem, &reason) == row->status, "row %d: %s", _i, reason.text);
    ck_assert_int_eq(fc_plan_make(&CPU, FC_KERNEL_AUTO, &problem, &plan, NULL), row->status);
    if (row->key != NULL)
        ck_assert_msg(strncmp(reason.text, row->key, strlen(row->key)) == 0, "row %d: %s", _i, reason.text);
}
END_TEST

START_TEST(sizes_beyond_64_bits_are_refused)
{
    fc_problem problem = good_problem();
    fc_reason reason;
    problem.batch = INT32_MAX;
    problem.q_len = FC_TOKENS_MAX;
    ck_assert_int_eq(fc_problem_check(&problem, &reason), FC_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(reason.text, "q.shape"));
    problem.q_len = 1;
    problem.kv_len = FC_TOKENS_MAX;
    ck_assert_int_eq(fc_problem_check(&problem, &reason), FC_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(reason.text, "k.shape"));
    problem.batch = 0; /* no elements, but strides all the same */
    problem.kv_heads = problem.q_heads = INT32_MAX;
    problem.q_len = problem.kv_len = FC_TOKENS_MAX;
    problem.head_dim = 256;
    ck_assert_int_eq(fc_problem_check(&problem, &reason), FC_INVALID_ARGUMENT);
}
END_TEST

START_TEST(kv_len_is_held_to_the_tokens_of_k)
{
    uint32_t kv_lens[2] = {7, 0};
    fc_problem problem = good_problem();
    fc_reason reason;
    problem.kv_lens = kv_lens;
    ck_assert_int_eq(fc_problem_check(&problem, NULL), FC_OK);
    kv_lens[1] = 8;
    ck_assert_int_eq(fc_problem_check(&problem, &reason), FC_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(reason.text, "kv_len: entry 1 is 8"));
    kv_lens[1] = UINT32_MAX;
    ck_assert_int_eq(fc_problem_check(&problem, NULL), FC_INVALID_ARGUMENT);
}
END_TEST

START_TEST(kernel_names_survive_the_round_trip)
{
    fc_kernel kernel = FC_KERNEL_COUNT;
    for (int i = 0; i < FC_KERNEL_COUNT; i++) {
        const char *name = fc_kernel_name((fc_kernel)i);
        ck_assert(fc_kernel_from_name(name, strlen(name), &kernel));
        ck_assert_int_eq(kernel, i);
        ck_assert_str_ne(fc_kernel_idea((fc_kernel)i), "unknown");
    }
    ck_assert(fc_kernel_from_name("auto", 4, &kernel));
    ck_assert_int_eq(kernel, FC_KERNEL_AUTO);
    ck_assert(!fc_kernel_from_name("unknown", 7, &kernel));
    ck_assert(!fc_kernel_from_name("base", 4, &kernel));
    ck_assert(!fc_kernel_from_name("", 0, &kernel));
    ck_assert_str_eq(fc_kernel_name(FC_KERNEL_COUNT), "unknown");
    ck_assert_str_eq(fc_kernel_name((fc_kernel)-1), "unknown");
}
END_TEST

START_TEST(a_plan_needs_a_kernel_of_the_device)
{
    fc_problem problem = good_problem();
    fc_plan plan;
    fc_reason reason;
    ck_assert_int_eq(fc_plan_make(&CPU, FC_KERNEL_AUTO, &problem, &plan, NULL), FC_OK);
    ck_assert_int_eq(plan.kernel, FC_KERNEL_CPU);
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_AUTO, &problem, &plan, NULL), FC_OK);
    ck_assert_int_eq(fc_kernel_engine(plan.kernel), FC_ENGINE_CUDA);
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_BASELINE, &problem, &plan, NULL), FC_OK);
    ck_assert_int_eq(plan.kernel, FC_KERNEL_BASELINE);
    ck_assert_int_eq(plan.dtype, FC_F16);
    ck_assert_int_eq(plan.head_dim, 64);
    ck_assert_uint_eq(plan.split_count, 1);
    ck_assert_int_eq(fc_plan_make(&CPU, FC_KERNEL_VEC, &problem, &plan, &reason), FC_UNSUPPORTED);
    ck_assert_str_eq(reason.text, "kernel: vec does not run on this server's device; cpu does");
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_CPU, &problem, &plan, NULL), FC_UNSUPPORTED);
    ck_assert_int_eq(fc_plan_make(&TURING, FC_KERNEL_AUTO, &problem, &plan, NULL), FC_UNSUPPORTED);
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_COUNT, &problem, &plan, NULL), FC_INVALID_ARGUMENT);
}
END_TEST

START_TEST(a_wish_no_kernel_can_meet_is_refused)
{
    const fc_plan_wish none = {.variant = -1}, beyond = {.variant = (int32_t)fc_kernel_variant_count(FC_KERNEL_VEC)};
    const fc_problem p = good_problem();
    fc_plan chosen, wished;
    fc_reason reason;
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_VEC, &p, &chosen, &reason), FC_OK);
    ck_assert_int_eq(fc_plan_make_as(&L4, FC_KERNEL_VEC, &none, &p, &wished, &reason), FC_OK);
    ck_assert(fc_plan_can_share(&chosen, &wished));
    ck_assert_int_eq(fc_plan_make_as(&L4, FC_KERNEL_VEC, &beyond, &p, &wished, &reason), FC_UNSUPPORTED);
    ck_assert_int_eq(fc_plan_make_as(&L4, FC_KERNEL_AUTO, &none, &p, &wished, &reason), FC_INVALID_ARGUMENT);
    ck_assert_uint_eq(fc_kernel_variant_count(FC_KERNEL_COUNT), 0);
}
END_TEST

START_TEST(only_like_plans_share)
{
    fc_problem problem = good_problem();
    fc_plan a, b;
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_VEC, &problem, &a, NULL), FC_OK);
    problem.q_len = 900;
    problem.causal = FC_CAUSAL_TOP_LEFT;
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_VEC, &problem, &b, NULL), FC_OK);
    ck_assert(fc_plan_can_share(&a, &b));
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_BASELINE, &problem, &b, NULL), FC_OK);
    ck_assert(!fc_plan_can_share(&a, &b));
    problem.head_dim = 72;
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_VEC, &problem, &b, NULL), FC_OK);
    ck_assert(!fc_plan_can_share(&a, &b));
    problem.head_dim = 64;
    problem.dtype = FC_BF16;
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_VEC, &problem, &b, NULL), FC_OK);
    ck_assert(!fc_plan_can_share(&a, &b));
}
END_TEST

/* The mask as PROTOCOL.md words it: position, causal, window, kv_len; nothing shared with the code under test. */
static bool sees(const fc_problem *p, int64_t kv_len, int64_t row, int64_t key)
{
    int64_t position = p->causal == FC_CAUSAL_TOP_LEFT ? row : row + kv_len - p->q_len;
    if (key >= kv_len)
        return false;
    if (p->causal != FC_CAUSAL_NONE && key > position)
        return false;
    if (p->window_left >= 0 && position - key > p->window_left)
        return false;
    if (p->window_right >= 0 && key - position > p->window_right)
        return false;
    return true;
}

static const int64_t WINDOWS[] = {-1, 0, 1, 3, 100, INT64_MAX};
enum { WINDOW_COUNT = sizeof WINDOWS / sizeof *WINDOWS };

static void check_interval(const fc_problem *problem, const fc_segment *segment)
{
    for (int32_t row = 0; row < problem->q_len; row++) {
        for (int32_t key = 0; key < problem->kv_len; key++) {
            bool is_seen = key >= fc_key_begin(segment, row) && key < fc_key_end(segment, row);
            ck_assert_msg(is_seen == sees(problem, segment->kv_len, row, key),
                          "causal %d window [%lld, %lld] q_len %d kv_len %d row %d key %d", problem->causal,
                          (long long)problem->window_left, (long long)problem->window_right, problem->q_len,
                          segment->kv_len, row, key);
        }
        ck_assert_int_ge(fc_key_begin(segment, row), 0);
        ck_assert_int_le(fc_key_end(segment, row), segment->kv_len);
    }
}

START_TEST(every_mask_is_the_interval_of_its_words)
{
    static const int32_t LENGTHS[] = {0, 1, 4, 9};
    fc_problem problem = good_problem();
    fc_plan plan;
    fc_segment segments[2];
    uint32_t kv_lens[2];
    problem.causal = (fc_causal)_i;
    for (int shape = 0; shape < 16; shape++) {
        problem.q_len = LENGTHS[shape % 4];
        problem.kv_len = LENGTHS[shape / 4];
        kv_lens[0] = (uint32_t)problem.kv_len;
        kv_lens[1] = (uint32_t)problem.kv_len / 2;
        problem.kv_lens = kv_lens;
        for (int w = 0; w < WINDOW_COUNT * WINDOW_COUNT; w++) {
            problem.window_left = WINDOWS[w % WINDOW_COUNT];
            problem.window_right = WINDOWS[w / WINDOW_COUNT];
            ck_assert_int_eq(fc_plan_make(&CPU, FC_KERNEL_AUTO, &problem, &plan, NULL), FC_OK);
            fc_problem_segments(&problem, &plan, &(fc_tensors){0}, segments);
            check_interval(&problem, &segments[0]);
            check_interval(&problem, &segments[1]);
        }
    }
}
END_TEST

START_TEST(segments_point_at_their_batch_entry)
{
    fc_problem problem = good_problem();
    fc_plan plan;
    fc_segment s[2];
    char q[1], k[1], v[1], out[1];
    float lse[1];
    fc_tensors tensors = {
        .q = q,
        .k = k,
        .v = v,
        .out = out,
        .lse = lse,
        .q_strides = fc_strides_contiguous(FC_BHSD, 8, 5, 64),
        .k_strides = fc_strides_contiguous(FC_BSHD, 2, 7, 64),
        .v_strides = fc_strides_contiguous(FC_BSHD, 2, 7, 64),
        .out_strides = fc_strides_contiguous(FC_BSHD, 8, 5, 64),
    };
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_VEC, &problem, &plan, NULL), FC_OK);
    fc_problem_segments(&problem, &plan, &tensors, s);
    ck_assert_int_eq((const char *)s[1].q - q, 8 * 5 * 64 * 2);
    ck_assert_int_eq((const char *)s[1].k - k, 2 * 7 * 64 * 2);
    ck_assert_int_eq((char *)s[1].out - out, 8 * 5 * 64 * 2);
    ck_assert_int_eq((char *)s[1].lse - (char *)lse, 8 * 5 * 4);
    ck_assert_int_eq(s[1].q_head_stride, 5 * 64);
    ck_assert_int_eq(s[1].q_token_stride, 64);
    ck_assert_int_eq(s[1].k_head_stride, 64);
    ck_assert_int_eq(s[1].k_token_stride, 2 * 64);
    ck_assert_int_eq(s[1].out_token_stride, 8 * 64);
    ck_assert_int_eq(s[1].lse_head_stride, 5);
    tensors.lse = NULL;
    fc_problem_segments(&problem, &plan, &tensors, s);
    ck_assert_ptr_null(s[1].lse);
}
END_TEST

START_TEST(blocks_are_numbered_without_gaps)
{
    fc_plan plan = {.q_tile_rows = 16, .head_dim = 8};
    fc_segment s[4] = {
        {.q_heads = 8, .q_len = 16, .packed_heads = 1, .split_count = 1},
        {.q_heads = 8, .q_len = 0, .packed_heads = 1, .split_count = 2},
        {.q_heads = 2, .q_len = 17, .packed_heads = 1, .split_count = 3},
        {.q_heads = 1, .q_len = 1, .packed_heads = 1, .split_count = 1},
    };
    ck_assert_uint_eq(fc_launch_index(&plan, s, 4), 8 + 0 + 12 + 1);
    ck_assert_uint_eq(s[0].first_block, 0);
    ck_assert_uint_eq(s[1].first_block, 8);
    ck_assert_uint_eq(s[2].first_block, 8);
    ck_assert_uint_eq(s[3].first_block, 20);
    ck_assert_uint_eq(fc_launch_index(&plan, s, 0), 0);
}
END_TEST

START_TEST(packed_heads_share_tiles)
{
    fc_plan plan = {.q_tile_rows = 16, .head_dim = 8};
    fc_segment s[2] = {
        {.q_heads = 32, .q_len = 1, .packed_heads = 4, .split_count = 1},  /* 8 packs of 4 rows */
        {.q_heads = 32, .q_len = 5, .packed_heads = 16, .split_count = 2}, /* 2 packs of 80 rows, 5 tiles each */
    };
    ck_assert_uint_eq(fc_launch_index(&plan, s, 2), 8 + 2 * 5 * 2);
    ck_assert_uint_eq(s[1].first_block, 8);
}
END_TEST

START_TEST(splits_get_tickets_and_workspace)
{
    const uint64_t row = FC_PARTIAL_FLOATS(8) * sizeof(float);
    fc_plan plan = {.q_tile_rows = 16, .head_dim = 8};
    fc_segment s[4] = {
        {.q_heads = 2, .q_len = 17, .packed_heads = 1, .split_count = 3},
        {.q_heads = 8, .q_len = 16, .packed_heads = 1, .split_count = 1},
        {.q_heads = 8, .q_len = 1, .packed_heads = 4, .split_count = 2},
        {.q_heads = 1, .q_len = 1, .packed_heads = 1, .split_count = 2},
    };
    ck_assert_uint_eq(fc_launch_index(&plan, s, 4), 12 + 8 + 4 + 2);
    ck_assert_uint_eq(s[0].first_ticket, 0);
    ck_assert_uint_eq(s[2].first_ticket, 4);
    ck_assert_uint_eq(s[3].first_ticket, 4 + 2);
    ck_assert_uint_eq(s[0].workspace_offset, 0);
    ck_assert_uint_eq(s[2].workspace_offset, 3 * 2 * 17 * row);
    ck_assert_uint_eq(s[3].workspace_offset, (3 * 2 * 17 + 2 * 8) * row);
}
END_TEST

START_TEST(a_launch_too_large_is_said_so)
{
    fc_plan plan = {.q_tile_rows = 1};
    fc_segment s[2] = {
        {.q_heads = 1, .q_len = FC_TOKENS_MAX, .packed_heads = 1, .split_count = 1},
        {.q_heads = 1, .q_len = FC_TOKENS_MAX, .packed_heads = 1, .split_count = 1},
    };
    ck_assert_uint_eq(fc_launch_index(&plan, s, 2), 2u * FC_TOKENS_MAX);
    s[1].q_heads = 2;
    ck_assert_uint_eq(fc_launch_index(&plan, s, 2), UINT32_MAX);
    s[1].q_heads = INT32_MAX;
    s[1].split_count = UINT32_MAX;
    ck_assert_uint_eq(fc_launch_index(&plan, s, 2), UINT32_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attention");
    TCase *tests = tcase_create("attention");
    tcase_add_loop_test(tests, a_bad_field_is_named, 0, sizeof CHECK_ROWS / sizeof *CHECK_ROWS);
    tcase_add_test(tests, sizes_beyond_64_bits_are_refused);
    tcase_add_test(tests, kv_len_is_held_to_the_tokens_of_k);
    tcase_add_test(tests, kernel_names_survive_the_round_trip);
    tcase_add_test(tests, a_plan_needs_a_kernel_of_the_device);
    tcase_add_test(tests, a_wish_no_kernel_can_meet_is_refused);
    tcase_add_test(tests, only_like_plans_share);
    tcase_add_loop_test(tests, every_mask_is_the_interval_of_its_words, 0, FC_CAUSAL_COUNT);
    tcase_add_test(tests, segments_point_at_their_batch_entry);
    tcase_add_test(tests, blocks_are_numbered_without_gaps);
    tcase_add_test(tests, packed_heads_share_tiles);
    tcase_add_test(tests, splits_get_tickets_and_workspace);
    tcase_add_test(tests, a_launch_too_large_is_said_so);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
