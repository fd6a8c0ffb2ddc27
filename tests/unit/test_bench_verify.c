/* client/bench_verify: right answers pass, every kind of wrong one is caught. */
#include "client/bench_verify.h"

#include "kernels/reference.h"
#include "proto/half.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS = 2 };

typedef struct bench {
    fc_shape shape;
    fc_inputs inputs[INPUTS];
    fc_verifier *verifier;
    uint16_t *out[INPUTS]; /* right answers, f16 */
    float *lse[INPUTS];
    size_t out_count, lse_count;
} bench;

/* What an honest server answers: the plain implementation's result. */
static void answer(bench *b, size_t input)
{
    const fc_shape *s = &b->shape;
    fc_problem problem = {.dtype = s->dtype,
                          .causal = s->causal,
                          .batch = (int32_t)s->batch,
                          .q_heads = (int32_t)s->q_heads,
                          .kv_heads = (int32_t)s->kv_heads,
                          .q_len = (int32_t)s->q_len,
                          .kv_len = (int32_t)s->kv_tokens,
                          .head_dim = (int32_t)s->head_dim,
                          .window_left = -1,
                          .window_right = -1,
                          .scale = (float)(1 / sqrt((double)s->head_dim))};
    fc_strides q = fc_strides_contiguous(s->layout, s->q_heads, s->q_len, s->head_dim);
    fc_strides kv = fc_strides_contiguous(s->layout, s->kv_heads, s->kv_tokens, s->head_dim);
    fc_tensors tensors = {.q = b->inputs[input].q,
                          .k = b->inputs[input].k,
                          .v = b->inputs[input].v,
                          .q_strides = q,
                          .k_strides = kv,
                          .v_strides = kv};
    double *out = calloc(b->out_count, sizeof *out), *lse = calloc(b->lse_count, sizeof *lse);
    ck_assert_int_eq(fc_reference_plain(&problem, &tensors, out, lse), FC_OK);
    for (size_t i = 0; i < b->out_count; i++)
        b->out[input][i] = fc_f16_from_float((float)out[i]);
    for (size_t i = 0; i < b->lse_count; i++)
        b->lse[input][i] = (float)lse[i];
    free(out);
    free(lse);
}

static void open_bench(bench *b)
{
    fc_shape_options options;
    fc_reason reason;
    fc_shape_options_default(&options);
    options.shape = (fc_arg_ints){.items = {1, 2, 9, 16}, .count = 4};
    options.causal = FC_CAUSAL_TOP_LEFT;
    ck_assert_int_eq(fc_shape_resolve(&options, &b->shape, &reason), FC_OK);
    b->out_count = fc_shape_q_count(&b->shape);
    b->lse_count = fc_shape_lse_count(&b->shape);
    for (size_t i = 0; i < INPUTS; i++) {
        ck_assert_int_eq(fc_inputs_init(&b->shape, 1, i, &b->inputs[i]), FC_OK);
        b->out[i] = calloc(b->out_count, sizeof *b->out[i]);
        b->lse[i] = calloc(b->lse_count, sizeof *b->lse[i]);
        answer(b, i);
    }
    ck_assert_int_eq(fc_verifier_create(&b->shape, b->inputs, INPUTS, &b->verifier, &reason), FC_OK);
}

static void close_bench(bench *b)
{
    fc_verifier_destroy(b->verifier);
    for (size_t i = 0; i < INPUTS; i++) {
        fc_inputs_fini(&b->inputs[i]);
        free(b->out[i]);
        free(b->lse[i]);
    }
}

static fc_status check(bench *b, size_t input, const char *kernel, fc_reason *reason)
{
    return fc_verifier_check(b->verifier, input, kernel, "device", b->out[input], b->lse[input], reason);
}

START_TEST(right_answers_pass_and_meet_the_reference_once)
{
    bench b;
    fc_reason reason;
    open_bench(&b);
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < INPUTS; i++)
            ck_assert_int_eq(check(&b, i, "cpu", &reason), FC_OK);
    }
    ck_assert_uint_eq(fc_verifier_reference_count(b.verifier), INPUTS);
    /* Another kernel may round differently: it meets the reference itself. */
    b.out[0][5] ^= 1;
    ck_assert_int_eq(check(&b, 0, "vec", &reason), FC_OK);
    ck_assert_int_eq(check(&b, 0, "vec", &reason), FC_OK);
    ck_assert_uint_eq(fc_verifier_reference_count(b.verifier), INPUTS + 1);
    close_bench(&b);
}
END_TEST

START_TEST(one_other_bit_later_is_caught)
{
    bench b;
    fc_reason reason;
    open_bench(&b);
    ck_assert_int_eq(check(&b, 0, "cpu", &reason), FC_OK);
    b.out[0][b.out_count - 1] ^= 1;
    ck_assert_int_eq(check(&b, 0, "cpu", &reason), FC_INTERNAL);
    ck_assert_ptr_nonnull(strstr(reason.text, "element 287 of 288"));
    b.out[0][b.out_count - 1] ^= 1;
    ck_assert_int_eq(check(&b, 0, "cpu", &reason), FC_OK);
    b.lse[0][0] = nextafterf(b.lse[0][0], 100);
    ck_assert_int_eq(check(&b, 0, "cpu", &reason), FC_INTERNAL);
    ck_assert_ptr_nonnull(strstr(reason.text, "lse"));
    close_bench(&b);
}
END_TEST

/* A first answer that is wrong is caught by the reference, and is never what later ones are held to. */
START_TEST(a_wrong_first_answer_is_caught)
{
    static const char *const WAYS[] = {"one element", "NaN", "poison", "another input's", "all zero", "wrong lse"};
    bench b;
    fc_reason reason;
    open_bench(&b);
    uint16_t *right = malloc(b.out_count * sizeof *right);
    memcpy(right, b.out[0], b.out_count * sizeof *right);
    switch (_i) {
    case 0:
        b.out[0][17] = fc_f16_from_float(fc_f16_to_float(b.out[0][17]) + 0.5f);
        break;
    case 1:
        b.out[0][17] = 0x7e00;
        break;
    case 2:
        memset(b.out[0], 0xff, b.out_count * sizeof *right);
        break;
    case 3:
        memcpy(b.out[0], b.out[1], b.out_count * sizeof *right);
        break;
    case 4:
        memset(b.out[0], 0, b.out_count * sizeof *right);
        break;
    default:
        b.lse[0][3] += 0.01f;
        break;
    }
    ck_assert_msg(check(&b, 0, "cpu", &reason) == FC_INTERNAL, "%s passed", WAYS[_i]);
    ck_assert_str_ne(reason.text, "");
    ck_assert_int_eq(check(&b, 0, "cpu", &reason), FC_INTERNAL);
    memcpy(b.out[0], right, b.out_count * sizeof *right);
    answer(&b, 0);
    ck_assert_int_eq(check(&b, 0, "cpu", &reason), FC_OK);
    free(right);
    close_bench(&b);
}
END_TEST

START_TEST(a_problem_the_reference_cannot_do_is_refused)
{
    bench b;
    fc_verifier *verifier = NULL;
    fc_reason reason;
    open_bench(&b);
    b.shape.head_dim = 17;
    ck_assert_int_ne(fc_verifier_create(&b.shape, b.inputs, INPUTS, &verifier, &reason), FC_OK);
    ck_assert_ptr_null(verifier);
    ck_assert_str_ne(reason.text, "");
    b.shape.head_dim = 16;
    close_bench(&b);
    fc_verifier_destroy(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_verify");
    TCase *tests = tcase_create("answers");
    tcase_add_test(tests, right_answers_pass_and_meet_the_reference_once);
    tcase_add_test(tests, one_other_bit_later_is_caught);
    tcase_add_loop_test(tests, a_wrong_first_answer_is_caught, 0, 6);
    tcase_add_test(tests, a_problem_the_reference_cannot_do_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
