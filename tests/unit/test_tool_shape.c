/* client/tool_shape, ctl_files, ctl_difference, ctl_stats: options and files become requests, answers are compared. */
#include "client/ctl_difference.h"
#include "client/ctl_files.h"
#include "client/ctl_stats.h"
#include "client/tool_shape.h"
#include "proto/half.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static fc_shape_options make_options(int64_t b, int64_t h, int64_t s, int64_t d)
{
    fc_shape_options options;
    fc_shape_options_default(&options);
    options.shape = (fc_arg_ints){.items = {b, h, s, d}, .count = 4};
    return options;
}

START_TEST(options_become_a_request)
{
    static fc_shape shape;
    fc_inputs inputs;
    fc_reason reason;
    flashcore_request request;
    float out[1];
    fc_shape_options options = make_options(2, 6, 5, 16);
    options.kv_heads = 3;
    options.kv_len = (fc_arg_ints){.items = {4, 9}, .count = 2};
    options.dtype = FC_BF16;
    options.layout = FC_BSHD;
    options.causal = FC_CAUSAL_BOTTOM_RIGHT;
    options.window = (fc_arg_ints){.items = {7, 0}, .count = 2};
    options.scale = 0.25;
    options.softcap = 30;
    ck_assert_int_eq(fc_shape_resolve(&options, &shape, &reason), FC_OK);
    ck_assert_uint_eq(fc_shape_q_bytes(&shape), 2 * 6 * 5 * 16 * 2);
    ck_assert_uint_eq(fc_shape_kv_bytes(&shape), 2 * 3 * 9 * 16 * 2);
    ck_assert_uint_eq(fc_shape_lse_count(&shape), 2 * 6 * 5);
    ck_assert_int_eq(fc_inputs_init(&shape, 1, 0, &inputs), FC_OK);
    fc_shape_request(&shape, &inputs, "cpu", out, NULL, &request);
    ck_assert_uint_eq(request.q.shape[1], 5); /* tokens before heads */
    ck_assert_uint_eq(request.q.shape[2], 6);
    ck_assert_uint_eq(request.k.shape[1], 9);
    ck_assert_uint_eq(request.k.shape[2], 3);
    ck_assert_int_eq(request.v.dtype, FLASHCORE_BF16);
    ck_assert_int_eq(request.causal, FLASHCORE_CAUSAL_BOTTOM_RIGHT);
    ck_assert_int_eq(request.window_left, 7);
    ck_assert_int_eq(request.window_right, 0);
    ck_assert_float_eq(request.scale, 0.25f);
    ck_assert_float_eq(request.softcap, 30);
    ck_assert_uint_eq(request.kv_len[0], 4);
    ck_assert_uint_eq(request.kv_len[1], 9);
    ck_assert_str_eq(request.kernel, "cpu");
    fc_inputs_fini(&inputs);
}
END_TEST

START_TEST(full_kv_len_is_not_sent)
{
    static fc_shape shape;
    fc_reason reason;
    fc_shape_options options = make_options(3, 2, 5, 8);
    options.kv_len = (fc_arg_ints){.items = {11}, .count = 1};
    ck_assert_int_eq(fc_shape_resolve(&options, &shape, &reason), FC_OK);
    ck_assert_uint_eq(shape.kv_tokens, 11);
    ck_assert(!shape.has_kv_lens);
}
END_TEST

START_TEST(inputs_are_normal_and_repeat)
{
    static fc_shape shape;
    fc_inputs a, b, c;
    fc_reason reason;
    for (int dtype = 0; dtype < FC_DTYPE_COUNT; dtype++) {
        fc_shape_options options = make_options(1, 3, 101, 8); /* an odd count of pairs */
        options.dtype = dtype;
        ck_assert_int_eq(fc_shape_resolve(&options, &shape, &reason), FC_OK);
        ck_assert_int_eq(fc_inputs_init(&shape, 1, 0, &a), FC_OK);
        ck_assert_int_eq(fc_inputs_init(&shape, 1, 0, &b), FC_OK);
        ck_assert_int_eq(fc_inputs_init(&shape, 1, 1, &c), FC_OK);
        ck_assert_mem_eq(a.q, b.q, fc_shape_q_bytes(&shape));
        ck_assert_mem_eq(a.v, b.v, fc_shape_kv_bytes(&shape));
        ck_assert_mem_ne(a.q, c.q, fc_shape_q_bytes(&shape));
        ck_assert_mem_ne(a.q, a.k, fc_shape_q_bytes(&shape));
        fc_inputs_fini(&a);
        fc_inputs_fini(&b);
        fc_inputs_fini(&c);
    }
}
END_TEST

/* --- files as a problem ---------------------------------------------------------------------------------------- */

typedef struct file {
    fc_dtype dtype;
    uint32_t rank;
    uint64_t shape[4];
} file;

static const struct {
    const char *name;
    file q, k, v;
    fc_layout layout;
    const char *reason; /* NULL: fine */
} FILES[] = {
    {"plain", {FC_F16, 4, {1, 8, 5, 64}}, {FC_F16, 4, {1, 2, 9, 64}}, {FC_F16, 4, {1, 2, 9, 64}}, FC_BHSD, NULL},
    {"bshd", {FC_F32, 4, {1, 5, 8, 64}}, {FC_F32, 4, {1, 9, 2, 64}}, {FC_F32, 4, {1, 9, 2, 64}}, FC_BSHD, NULL},
    {"rank",
     {FC_F16, 3, {8, 5, 64}},
     {FC_F16, 4, {1, 2, 9, 64}},
     {FC_F16, 4, {1, 2, 9, 64}},
     FC_BHSD,
     "--q: shape (8, 5, 64) has 3 dimensions, expected 4: [batch, heads, tokens, head_dim]"},
    {"dtypes",
     {FC_F16, 4, {1, 8, 5, 64}},
     {FC_F32, 4, {1, 2, 9, 64}},
     {FC_F32, 4, {1, 2, 9, 64}},
     FC_BHSD,
     "--k is float32, --q is float16"},
    {"batch",
     {FC_F16, 4, {2, 8, 5, 64}},
     {FC_F16, 4, {1, 2, 9, 64}},
     {FC_F16, 4, {1, 2, 9, 64}},
     FC_BHSD,
     "--k has shape (1, 2, 9, 64), expected the batch and head_dim of --q's (2, 8, 5, 64)"},
    {"head_dim",
     {FC_F16, 4, {1, 8, 5, 64}},
     {FC_F16, 4, {1, 2, 9, 32}},
     {FC_F16, 4, {1, 2, 9, 32}},
     FC_BHSD,
     "head_dim"},
    {"v",
     {FC_F16, 4, {1, 8, 5, 64}},
     {FC_F16, 4, {1, 2, 9, 64}},
     {FC_F16, 4, {1, 2, 8, 64}},
     FC_BHSD,
     "--v has shape (1, 2, 8, 64), expected --k's (1, 2, 9, 64)"},
    {"too large",
     {FC_F16, 4, {0, 8, 1ull << 40, 64}},
     {FC_F16, 4, {0, 2, 9, 64}},
     {FC_F16, 4, {0, 2, 9, 64}},
     FC_BHSD,
     "too large"},
};

static fc_npy_header header_of(const file *f)
{
    fc_npy_header header = {.dtype = f->dtype, .rank = f->rank};
    memcpy(header.shape, f->shape, sizeof f->shape);
    return header;
}

START_TEST(files_belong_together_or_say_why_not)
{
    static fc_shape shape;
    fc_reason reason = {""};
    fc_npy_header q = header_of(&FILES[_i].q), k = header_of(&FILES[_i].k), v = header_of(&FILES[_i].v);
    fc_status st = fc_ctl_files_shape(&q, &k, &v, FILES[_i].layout, &shape, &reason);
    if (FILES[_i].reason != NULL) {
        ck_assert_int_eq(st, FC_INVALID_ARGUMENT);
        ck_assert_msg(strstr(reason.text, FILES[_i].reason) != NULL, "%s", reason.text);
        return;
    }
    ck_assert_msg(st == FC_OK, "%s", reason.text);
    ck_assert_uint_eq(shape.q_heads, 8);
    ck_assert_uint_eq(shape.kv_heads, 2);
    ck_assert_uint_eq(shape.q_len, 5);
    ck_assert_uint_eq(shape.kv_tokens, 9);
}
END_TEST

/* --- differences ----------------------------------------------------------------------------------------------- */

START_TEST(differences_are_measured)
{
    const float a[] = {3, 4, 0, NAN}, b[] = {3, 4.5f, 0, NAN}, zero[4] = {0};
    fc_difference d = fc_difference_of(FC_F32, a, a, 4);
    ck_assert_double_eq(d.largest_absolute, 0);
    ck_assert_uint_eq(d.differing_count, 0);
    d = fc_difference_of(FC_F32, a, b, 4);
    ck_assert_double_eq_tol(d.largest_absolute, 0.5, 1e-12);
    ck_assert_double_eq_tol(d.relative_frobenius, 0.1, 1e-12);
    ck_assert_uint_eq(d.largest_at, 1);
    ck_assert_uint_eq(d.differing_count, 1);
    d = fc_difference_of(FC_F32, a, zero, 4); /* NaN on one side */
    ck_assert(isinf(d.largest_absolute));
    ck_assert(isinf(d.relative_frobenius));
    d = fc_difference_of(FC_F32, zero, b, 3);
    ck_assert(isinf(d.relative_frobenius));
    const float minus_zero[1] = {-0.0f};
    d = fc_difference_of(FC_F32, zero, minus_zero, 1); /* other bits, the same value */
    ck_assert_uint_eq(d.differing_count, 1);
    ck_assert_double_eq(d.largest_absolute, 0);
    const uint16_t x[] = {fc_f16_from_float(1), fc_f16_from_float(2)}, y[] = {fc_f16_from_float(1.25f), x[1]};
    d = fc_difference_of(FC_F16, x, y, 2);
    ck_assert_double_eq_tol(d.largest_absolute, 0.25, 1e-12);
    const uint16_t p[] = {fc_bf16_from_float(1)}, q[] = {fc_bf16_from_float(2)};
    ck_assert_double_eq_tol(fc_difference_of(FC_BF16, p, q, 1).largest_absolute, 1, 1e-12);
    ck_assert_double_eq(fc_difference_of(FC_F32, a, b, 0).relative_frobenius, 0);
}
END_TEST

/* --- counters -------------------------------------------------------------------------------------------------- */

START_TEST(counters_are_shown_in_their_units)
{
    static const struct {
        const char *name;
        double value;
        const char *text;
    } ROWS[] = {{"requests_attend", 1234, "1,234"},
                {"bytes_in", 1572864, "1.50 MiB"},
                {"queued_bytes", 0, "0 B"},
                {"launch_us", 1500, "1.50 ms"},
                {"uptime_s", 2.5, "2.50 s"},
                {"ratio", 0.25, "0.25"},
                {"odd", -1, "-1"},
                {"nan", NAN, "nan"}};
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
        ck_assert_str_eq(fc_ctl_counter_text(ROWS[i].name, ROWS[i].value).text, ROWS[i].text);
}
END_TEST

static char *print_counters(const fc_ctl_counters *counters, bool wants_all)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    fc_ctl_counters_print(counters, wants_all, out);
    fclose(out);
    return text;
}

START_TEST(counters_hide_zeros_and_buckets)
{
    static fc_ctl_counters now;
    fc_ctl_counters_add(&now, "fresh", 0);
    fc_ctl_counters_add(&now, "answers", 300);
    fc_ctl_counters_add(&now, "total_us_le_5", 7);
    fc_ctl_counters_add(&now, "total_us_sum", 20);
    char *text = print_counters(&now, false);
    ck_assert_ptr_nonnull(strstr(text, "answers"));
    ck_assert_ptr_null(strstr(text, "total_us_sum"));
    ck_assert_ptr_null(strstr(text, "fresh"));
    ck_assert_ptr_null(strstr(text, "total_us_le_5"));
    free(text);
    text = print_counters(&now, true);
    ck_assert_ptr_nonnull(strstr(text, "fresh"));
    ck_assert_ptr_nonnull(strstr(text, "total_us_sum"));
    ck_assert_ptr_null(strstr(text, "total_us_le_5"));
    free(text);
    ck_assert_double_eq(fc_ctl_counters_get(&now, "answers", -1), 300);
    ck_assert_double_eq(fc_ctl_counters_get(&now, "answer", -1), -1);
    for (int i = 0; i < 2 * FC_CTL_COUNTERS_MAX; i++)
        fc_ctl_counters_add(&now, "more", 1);
    ck_assert_uint_eq(now.count, FC_CTL_COUNTERS_MAX);
}
END_TEST

START_TEST(counters_end_with_the_latencies_that_were_met)
{
    static fc_ctl_counters now;
    fc_ctl_counters_add(&now, "kernel_us_le_1000", 0);
    fc_ctl_counters_add(&now, "total_us_le_1000", 0);
    fc_ctl_counters_add(&now, "total_us_le_2000", 0);
    char *text = print_counters(&now, false);
    ck_assert_ptr_null(strstr(text, "p99"));
    free(text);
    now.items[2].value = 100;
    text = print_counters(&now, false);
    ck_assert_ptr_nonnull(strstr(text, "  total          1.50 ms      1.90 ms      1.99 ms      2.00 ms\n"));
    ck_assert_ptr_nonnull(strstr(text, "  kernel               -"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool_shape");
    TCase *tests = tcase_create("problems");
    tcase_add_test(tests, options_become_a_request);
    tcase_add_test(tests, full_kv_len_is_not_sent);
    tcase_add_test(tests, inputs_are_normal_and_repeat);
    tcase_add_loop_test(tests, files_belong_together_or_say_why_not, 0, sizeof FILES / sizeof FILES[0]);
    tcase_add_test(tests, differences_are_measured);
    tcase_add_test(tests, counters_are_shown_in_their_units);
    tcase_add_test(tests, counters_hide_zeros_and_buckets);
    tcase_add_test(tests, counters_end_with_the_latencies_that_were_met);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
