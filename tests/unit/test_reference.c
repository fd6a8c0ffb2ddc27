/* kernels/reference: against answers worked out by hand, identities of softmax, and masks drawn as pictures. */
#include "kernels/reference.h"
#include "proto/half.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { D = 8, MAX_TOKENS = 8, MAX_HEADS = 4 };

/* A small f32 problem with room for its tensors, all contiguous [batch, heads, tokens, D]. */
typedef struct small {
    fc_problem problem;
    fc_tensors tensors;
    float q[2 * MAX_HEADS * MAX_TOKENS * D], k[2 * MAX_HEADS * MAX_TOKENS * D], v[2 * MAX_HEADS * MAX_TOKENS * D];
    double out[2 * MAX_HEADS * MAX_TOKENS * D], lse[2 * MAX_HEADS * MAX_TOKENS];
} small;

static void small_init(small *s, int32_t batch, int32_t heads, int32_t q_len, int32_t kv_len)
{
    memset(s, 0, sizeof *s);
    s->problem = (fc_problem){.dtype = FC_F32,
                              .batch = batch,
                              .q_heads = heads,
                              .kv_heads = heads,
                              .q_len = q_len,
                              .kv_len = kv_len,
                              .head_dim = D,
                              .window_left = -1,
                              .window_right = -1,
                              .scale = 1};
    s->tensors.q = s->q;
    s->tensors.k = s->k;
    s->tensors.v = s->v;
    s->tensors.q_strides = fc_strides_contiguous(FC_BHSD, heads, q_len, D);
    s->tensors.k_strides = fc_strides_contiguous(FC_BHSD, heads, kv_len, D);
    s->tensors.v_strides = s->tensors.k_strides;
}

static void small_run(small *s)
{
    memset(s->out, 0x7f, sizeof s->out);
    memset(s->lse, 0x7f, sizeof s->lse);
    ck_assert_int_eq(fc_reference_run(&s->problem, &s->tensors, s->out, s->lse), FC_OK);
}

static void fill(float *values, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

/* Two keys with scores 0 and ln 3: weights 1/4 and 3/4, lse = ln 4. */
START_TEST(two_keys_by_hand)
{
    small s;
    small_init(&s, 1, 1, 1, 2);
    s.q[0] = 2;
    s.k[D] = logf(3) / 2;
    s.v[0] = 4;
    s.v[1] = 1;
    s.v[D] = 8;
    s.v[D + 1] = -1;
    small_run(&s);
    ck_assert_double_eq_tol(s.out[0], 7, 1e-6);
    ck_assert_double_eq_tol(s.out[1], -0.5, 1e-6);
    ck_assert_double_eq_tol(s.lse[0], log(4), 1e-6);
    s.problem.scale = 2; /* scores 0 and ln 9 */
    small_run(&s);
    ck_assert_double_eq_tol(s.out[0], 7.6, 1e-6);
    ck_assert_double_eq_tol(s.lse[0], log(10), 1e-6);
}
END_TEST

START_TEST(softcap_bends_the_scores)
{
    small s;
    small_init(&s, 1, 1, 1, 2);
    s.q[0] = 1;
    s.k[D] = 1000;
    s.problem.softcap = 2;
    small_run(&s); /* scores 0 and 2 tanh(500) = 2 */
    ck_assert_double_eq_tol(s.lse[0], log(1 + exp(2)), 1e-9);
    s.k[D] = 1;
    small_run(&s);
    ck_assert_double_eq_tol(s.lse[0], log(1 + exp(2 * tanh(0.5))), 1e-9);
}
END_TEST

/* V = the unit vectors makes out the weights themselves. They sum to 1, and adding the same to every score moves only
 * the lse. */
START_TEST(softmax_ignores_a_common_shift)
{
    small s;
    double before[D], lse;
    small_init(&s, 1, 1, 1, 8);
    fill(s.k, 8 * D, 1);
    fill(s.q, D, 2);
    for (int key = 0; key < 8; key++) {
        s.v[key * D + key] = 1;
        s.k[key * D + 7] = 0;
    }
    s.q[7] = 1;
    small_run(&s);
    memcpy(before, s.out, sizeof before);
    lse = s.lse[0];
    for (int key = 0; key < 8; key++)
        s.k[key * D + 7] = 100;
    small_run(&s);
    double total = 0;
    for (int key = 0; key < 8; key++) {
        ck_assert_double_eq_tol(s.out[key], before[key], 1e-12);
        total += s.out[key];
    }
    ck_assert_double_eq_tol(total, 1, 1e-12);
    ck_assert_double_eq_tol(s.lse[0], lse + 100, 1e-9);
}
END_TEST

START_TEST(large_logits_stay_finite)
{
    small s;
    small_init(&s, 1, 1, 1, 2);
    s.q[0] = 1e4f;
    s.k[0] = 1e4f;
    s.k[D] = -1e4f;
    s.v[0] = 3;
    s.v[D] = 5;
    small_run(&s);
    ck_assert_double_eq_tol(s.out[0], 3, 1e-12);
    ck_assert_double_eq_tol(s.lse[0], 1e8, 1e-3);
}
END_TEST

static const struct mask_row {
    fc_causal causal;
    int64_t left, right;
    int32_t kv_len;      /* of the batch entry; K holds 5 tokens */
    const char *seen[3]; /* one string a query, one letter a key */
} MASK_ROWS[] = {
    {FC_CAUSAL_NONE, -1, -1, 5, {"xxxxx", "xxxxx", "xxxxx"}},
    {FC_CAUSAL_NONE, -1, -1, 3, {"xxx..", "xxx..", "xxx.."}},
    {FC_CAUSAL_NONE, -1, -1, 0, {".....", ".....", "....."}},
    {FC_CAUSAL_TOP_LEFT, -1, -1, 5, {"x....", "xx...", "xxx.."}},
    {FC_CAUSAL_TOP_LEFT, -1, -1, 2, {"x....", "xx...", "xx..."}},
    {FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 5, {"xxx..", "xxxx.", "xxxxx"}},
    {FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 3, {"x....", "xx...", "xxx.."}},
    {FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 2, {".....", "x....", "xx..."}},
    {FC_CAUSAL_BOTTOM_RIGHT, 1, -1, 5, {".xx..", "..xx.", "...xx"}},
    {FC_CAUSAL_BOTTOM_RIGHT, 1, 7, 5, {".xx..", "..xx.", "...xx"}},
    {FC_CAUSAL_TOP_LEFT, 0, -1, 5, {"x....", ".x...", "..x.."}},
    {FC_CAUSAL_NONE, 0, 0, 5, {"..x..", "...x.", "....x"}},
    {FC_CAUSAL_NONE, 1, 1, 5, {".xxx.", "..xxx", "...xx"}},
    {FC_CAUSAL_NONE, -1, 0, 5, {"xxx..", "xxxx.", "xxxxx"}},
    {FC_CAUSAL_NONE, 0, -1, 5, {"..xxx", "...xx", "....x"}},
    {FC_CAUSAL_NONE, 0, 1, 2, {"x....", "xx...", ".x..."}},
};

START_TEST(masks_match_their_pictures)
{
    const struct mask_row *row = &MASK_ROWS[_i];
    uint32_t kv_len = (uint32_t)row->kv_len;
    small s;
    small_init(&s, 1, 1, 3, 5);
    fill(s.q, 3 * D, 3);
    fill(s.k, 5 * D, 4);
    for (int key = 0; key < 5; key++)
        s.v[key * D + key] = 1;
    for (int key = row->kv_len; key < 5; key++)
        s.v[key * D] = s.k[key * D] = NAN;
    s.problem.causal = row->causal;
    s.problem.window_left = row->left;
    s.problem.window_right = row->right;
    s.problem.kv_lens = &kv_len;
    small_run(&s);
    for (int query = 0; query < 3; query++) {
        bool is_empty = strcmp(row->seen[query], ".....") == 0;
        for (int key = 0; key < 5; key++) {
            bool has_weight = s.out[query * D + key] > 0;
            ck_assert_msg(has_weight == (row->seen[query][key] == 'x'), "row %d query %d key %d", _i, query, key);
        }
        ck_assert_int_eq(s.lse[query] == -INFINITY, is_empty);
        ck_assert(is_empty || isfinite(s.lse[query]));
    }
}
END_TEST

/* scale 0: every visible key weighs the same, so each query head averages the V of floor(h * 2 / 4). */
START_TEST(query_heads_share_their_kv_head)
{
    small s;
    small_init(&s, 2, 4, 1, 2);
    s.problem.kv_heads = 2;
    s.problem.scale = 0;
    s.tensors.k_strides = s.tensors.v_strides = fc_strides_contiguous(FC_BHSD, 2, 2, D);
    for (int i = 0; i < 2 * 2 * 2; i++)
        s.v[i * D] = (float)(i / 2); /* 2 * batch + kv_head */
    small_run(&s);
    static const double WANT[8] = {0, 0, 1, 1, 2, 2, 3, 3};
    for (int i = 0; i < 8; i++) {
        ck_assert_double_eq_tol(s.out[i * D], WANT[i], 1e-12);
        ck_assert_double_eq_tol(s.lse[i], log(2), 1e-12);
    }
}
END_TEST

START_TEST(layouts_give_the_same_answer)
{
    small a, b;
    small_init(&a, 1, 2, 3, 4);
    fill(a.q, 2 * 3 * D, 5);
    fill(a.k, 2 * 4 * D, 6);
    fill(a.v, 2 * 4 * D, 7);
    b = a;
    b.tensors.q = b.q;
    b.tensors.k = b.k;
    b.tensors.v = b.v;
    b.tensors.k_strides = b.tensors.v_strides = fc_strides_contiguous(FC_BSHD, 2, 4, D);
    for (int i = 0; i < 2 * 4; i++) {
        memcpy(b.k + (i % 4 * 2 + i / 4) * D, a.k + i * D, D * sizeof(float));
        memcpy(b.v + (i % 4 * 2 + i / 4) * D, a.v + i * D, D * sizeof(float));
    }
    small_run(&a);
    small_run(&b);
    ck_assert_mem_eq(a.out, b.out, sizeof a.out);
    ck_assert_mem_eq(a.lse, b.lse, sizeof a.lse);
}
END_TEST

/* The same numbers as halves, at an odd address. */
START_TEST(halves_are_read_at_any_address)
{
    for (fc_dtype dtype = FC_F16; dtype <= FC_BF16; dtype++) {
        small s;
        unsigned char q[1 + 2 * D], k[1 + 4 * D], v[1 + 4 * D];
        small_init(&s, 1, 1, 1, 2);
        fill(s.q, D, 8);
        fill(s.k, 2 * D, 9);
        fill(s.v, 2 * D, 10);
        for (int i = 0; i < 2 * D; i++) {
            uint16_t half[3] = {0};
            float *values[3] = {&s.q[i], &s.k[i], &s.v[i]};
            for (int t = 0; t < 3; t++) {
                half[t] = dtype == FC_F16 ? fc_f16_from_float(*values[t]) : fc_bf16_from_float(*values[t]);
                *values[t] = dtype == FC_F16 ? fc_f16_to_float(half[t]) : fc_bf16_to_float(half[t]);
            }
            if (i < D)
                memcpy(q + 1 + 2 * i, &half[0], 2);
            memcpy(k + 1 + 2 * i, &half[1], 2);
            memcpy(v + 1 + 2 * i, &half[2], 2);
        }
        small_run(&s);
        double out[D], lse;
        memcpy(out, s.out, sizeof out);
        lse = s.lse[0];
        s.problem.dtype = dtype;
        s.tensors.q = q + 1;
        s.tensors.k = k + 1;
        s.tensors.v = v + 1;
        small_run(&s);
        ck_assert_mem_eq(out, s.out, sizeof out);
        ck_assert_double_eq(lse, s.lse[0]);
    }
}
END_TEST

static const struct compare_row {
    double got[2], want[2], relative, absolute;
} COMPARE_ROWS[] = {
    {{3, 4}, {3, 4}, 0, 0},
    {{0, 0}, {0, 0}, 0, 0},
    {{3, 4.5}, {3, 4}, 0.1, 0.5},
    {{-INFINITY, 4}, {-INFINITY, 4}, 0, 0},
    {{-INFINITY, 5}, {-INFINITY, 4}, 0.25, 1},
    {{INFINITY, 4}, {-INFINITY, 4}, INFINITY, INFINITY},
    {{0, 4}, {-INFINITY, 4}, INFINITY, INFINITY},
    {{-INFINITY, 4}, {0, 4}, INFINITY, INFINITY},
    {{NAN, 4}, {0, 4}, INFINITY, INFINITY},
    {{NAN, 4}, {NAN, 4}, INFINITY, INFINITY},
    {{1, 0}, {0, 0}, INFINITY, 1},
};

START_TEST(errors_are_measured)
{
    const struct compare_row *row = &COMPARE_ROWS[_i];
    fc_reference_error error = fc_reference_compare(row->got, row->want, 2);
    ck_assert_msg(error.relative_frobenius == row->relative, "row %d: %g", _i, error.relative_frobenius);
    ck_assert_msg(error.largest_absolute == row->absolute, "row %d: %g", _i, error.largest_absolute);
}
END_TEST

/* What the fp64 answer rounds to is right; the same with one element off by a little more than it may be is wrong. */
START_TEST(verify_accepts_rounding_and_refuses_more)
{
    small s;
    float out[MAX_HEADS * MAX_TOKENS * D], lse[MAX_HEADS * MAX_TOKENS];
    fc_reason reason;
    small_init(&s, 1, 4, 8, 8);
    fill(s.q, 4 * 8 * D, 11);
    fill(s.k, 4 * 8 * D, 12);
    fill(s.v, 4 * 8 * D, 13);
    s.problem.causal = FC_CAUSAL_TOP_LEFT;
    small_run(&s);
    for (int i = 0; i < 4 * 8 * D; i++)
        out[i] = (float)s.out[i];
    for (int i = 0; i < 4 * 8; i++)
        lse[i] = (float)s.lse[i];
    fc_strides strides = s.tensors.q_strides;
    ck_assert_int_eq(fc_reference_verify(&s.problem, &s.tensors, out, strides, lse, &reason), FC_OK);
    ck_assert_int_eq(fc_reference_verify(&s.problem, &s.tensors, out, strides, NULL, &reason), FC_OK);
    out[77] += 2e-6f;
    ck_assert_int_eq(fc_reference_verify(&s.problem, &s.tensors, out, strides, lse, &reason), FC_INTERNAL);
    ck_assert_ptr_nonnull(strstr(reason.text, "out is wrong"));
    out[77] = NAN;
    ck_assert_int_eq(fc_reference_verify(&s.problem, &s.tensors, out, strides, lse, &reason), FC_INTERNAL);
    out[77] = (float)s.out[77];
    lse[9] += 1e-4f;
    ck_assert_int_eq(fc_reference_verify(&s.problem, &s.tensors, out, strides, lse, &reason), FC_INTERNAL);
    ck_assert_ptr_nonnull(strstr(reason.text, "lse is wrong"));
    ck_assert_int_eq(fc_reference_verify(&s.problem, &s.tensors, out, strides, NULL, &reason), FC_OK);
}
END_TEST

/* A dot product as a kernel with eight lanes sums it. */
static float dot_in_lanes(const float *q, const float *k, int32_t count)
{
    float lanes[8] = {0};
    for (int32_t d = 0; d < count; d++)
        lanes[d % 8] = fmaf(q[d], k[d], lanes[d % 8]);
    for (int width = 4; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lanes[i] += lanes[i + width];
    return lanes[0];
}

/* Of one key and one row the lse is a dot product: which order of its elements errs how much is chance, and none is
 * wrong. */
START_TEST(every_order_of_summation_is_right)
{
    enum { WIDE = 112, PROBLEMS = 5000 };
    float q[WIDE], k[WIDE], v[WIDE];
    unsigned wrong = 0, lucky = 0;
    fc_problem problem = {.dtype = FC_F32,
                          .batch = 1,
                          .q_heads = 1,
                          .kv_heads = 1,
                          .q_len = 1,
                          .kv_len = 1,
                          .head_dim = WIDE,
                          .window_left = -1,
                          .window_right = -1,
                          .scale = 1};
    fc_strides strides = fc_strides_contiguous(FC_BHSD, 1, 1, WIDE);
    fc_tensors tensors = {.q = q, .k = k, .v = v, .q_strides = strides, .k_strides = strides, .v_strides = strides};
    fill(v, WIDE, 3);
    for (uint32_t i = 0; i < PROBLEMS; i++) {
        fc_reason reason;
        double out[WIDE], want;
        fill(q, WIDE, 2 * i);
        fill(k, WIDE, 2 * i + 1);
        float lse = dot_in_lanes(q, k, WIDE);
        wrong += fc_reference_verify(&problem, &tensors, v, strides, &lse, &reason) != FC_OK;
        ck_assert_int_eq(fc_reference_run(&problem, &tensors, out, &want), FC_OK);
        lse = (float)(want + 1e-4);
        lucky += fc_reference_verify(&problem, &tensors, v, strides, &lse, &reason) == FC_OK;
    }
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_eq(lucky, 0);
}
END_TEST

/* The plain implementation errs, but like its element type. */
START_TEST(plain_errs_by_its_element_type)
{
    static const double LIMITS[FC_DTYPE_COUNT] = {[FC_F16] = 1e-3, [FC_BF16] = 8e-3, [FC_F32] = 1e-6};
    enum { TOKENS = 96, WIDE = 64 };
    static uint16_t halves[3][TOKENS * WIDE];
    static float singles[3][TOKENS * WIDE];
    static double want[TOKENS * WIDE], plain[TOKENS * WIDE], want_lse[TOKENS], plain_lse[TOKENS];
    fc_dtype dtype = (fc_dtype)_i;
    for (int t = 0; t < 3; t++) {
        fill(singles[t], TOKENS * WIDE, 20 + (uint32_t)t);
        for (int i = 0; i < TOKENS * WIDE; i++)
            halves[t][i] = dtype == FC_F16 ? fc_f16_from_float(singles[t][i]) : fc_bf16_from_float(singles[t][i]);
    }
    fc_problem problem = {.dtype = dtype,
                          .batch = 1,
                          .q_heads = 1,
                          .kv_heads = 1,
                          .q_len = TOKENS,
                          .kv_len = TOKENS,
                          .head_dim = WIDE,
                          .window_left = -1,
                          .window_right = -1,
                          .scale = 0.125f};
    fc_strides strides = fc_strides_contiguous(FC_BHSD, 1, TOKENS, WIDE);
    bool is_half = dtype != FC_F32;
    fc_tensors tensors = {.q = is_half ? (void *)halves[0] : (void *)singles[0],
                          .k = is_half ? (void *)halves[1] : (void *)singles[1],
                          .v = is_half ? (void *)halves[2] : (void *)singles[2],
                          .q_strides = strides,
                          .k_strides = strides,
                          .v_strides = strides};
    ck_assert_int_eq(fc_reference_run(&problem, &tensors, want, want_lse), FC_OK);
    ck_assert_int_eq(fc_reference_plain(&problem, &tensors, plain, plain_lse), FC_OK);
    double error = fc_reference_compare(plain, want, TOKENS * WIDE).relative_frobenius;
    ck_assert_double_gt(error, LIMITS[dtype] / 100);
    ck_assert_double_lt(error, LIMITS[dtype]);
    ck_assert_double_lt(fc_reference_compare(plain_lse, want_lse, TOKENS).largest_absolute, 2e-6);
}
END_TEST

/* Of 32 rows every fifth from the last one down: 31, 26, ... 1. */
START_TEST(a_sampled_truth_looks_at_its_rows_alone)
{
    small s;
    float out[MAX_HEADS * MAX_TOKENS * D], lse[MAX_HEADS * MAX_TOKENS];
    fc_reference_truth *truth = NULL;
    fc_reference_figures out_figures, lse_figures;
    small_init(&s, 1, 4, 8, 8);
    fill(s.q, 4 * 8 * D, 11);
    fill(s.k, 4 * 8 * D, 12);
    fill(s.v, 4 * 8 * D, 13);
    small_run(&s);
    for (int i = 0; i < 4 * 8 * D; i++)
        out[i] = (float)s.out[i] + (i / D % 5 == 1 ? 0.0f : 1.0f);
    for (int i = 0; i < 4 * 8; i++)
        lse[i] = (float)s.lse[i];
    fc_strides strides = s.tensors.q_strides;
    ck_assert_int_eq(fc_reference_truth_create(&s.problem, &s.tensors, 5, &truth), FC_OK);
    for (int twice = 0; twice < 2; twice++)
        ck_assert_int_eq(fc_reference_truth_judge(truth, out, strides, lse, &out_figures, &lse_figures, NULL), FC_OK);
    ck_assert_double_gt(out_figures.plain.relative_frobenius, 0);
    ck_assert_double_gt(out_figures.norm, 0);
    ck_assert(isfinite(lse_figures.error.largest_absolute));
    out[31 * D] += 1e-4f;
    ck_assert_int_eq(fc_reference_truth_judge(truth, out, strides, lse, &out_figures, NULL, NULL), FC_INTERNAL);
    ck_assert_double_gt(out_figures.error.largest_absolute, 9e-5);
    fc_reference_truth_destroy(truth);
}
END_TEST

START_TEST(nothing_asked_is_nothing_answered)
{
    small s;
    double untouched = 1;
    small_init(&s, 1, 1, 0, 4);
    s.tensors.q = NULL;
    ck_assert_int_eq(fc_reference_run(&s.problem, &s.tensors, &untouched, &untouched), FC_OK);
    s.problem.q_len = 2;
    s.problem.batch = 0;
    ck_assert_int_eq(fc_reference_plain(&s.problem, &s.tensors, &untouched, &untouched), FC_OK);
    ck_assert_int_eq(fc_reference_verify(&s.problem, &s.tensors, NULL, s.tensors.q_strides, NULL, NULL), FC_OK);
    ck_assert_double_eq(untouched, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reference");
    TCase *tests = tcase_create("reference");
    tcase_add_test(tests, two_keys_by_hand);
    tcase_add_test(tests, softcap_bends_the_scores);
    tcase_add_test(tests, softmax_ignores_a_common_shift);
    tcase_add_test(tests, large_logits_stay_finite);
    tcase_add_loop_test(tests, masks_match_their_pictures, 0, sizeof MASK_ROWS / sizeof *MASK_ROWS);
    tcase_add_test(tests, query_heads_share_their_kv_head);
    tcase_add_test(tests, layouts_give_the_same_answer);
    tcase_add_test(tests, halves_are_read_at_any_address);
    tcase_add_loop_test(tests, errors_are_measured, 0, sizeof COMPARE_ROWS / sizeof *COMPARE_ROWS);
    tcase_add_test(tests, verify_accepts_rounding_and_refuses_more);
    tcase_add_test(tests, every_order_of_summation_is_right);
    tcase_add_loop_test(tests, plain_errs_by_its_element_type, 0, FC_DTYPE_COUNT);
    tcase_add_test(tests, a_sampled_truth_looks_at_its_rows_alone);
    tcase_add_test(tests, nothing_asked_is_nothing_answered);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
