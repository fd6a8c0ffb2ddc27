/* Every limit and every contradiction a request can have: the status, and the key its reason names. */
#include "daemon/admission.h"
#include "daemon/clock.h"
#include "daemon/queue.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const fc_admission_limits LIMITS = {.tensor_bytes = 1000, .tokens = 50, .head_dim = 128, .batch_entries = 4};

static fc_wire_tensor tensor(fc_dtype dtype, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    fc_wire_tensor t = {.dtype = dtype, .rank = 4, .shape = {a, b, c, d}};
    t.data_bytes = (size_t)(a * b * c * d) * fc_dtype_bytes(dtype);
    return t;
}

/* [2, 4, 3, 8] against [2, 2, 5, 8], f16, bhsd: admissible. */
static fc_wire_attend good(void)
{
    fc_wire_attend attend = {.layout = FC_BHSD, .window_left = -1, .window_right = 7};
    attend.q = tensor(FC_F16, 2, 4, 3, 8);
    attend.k = attend.v = tensor(FC_F16, 2, 2, 5, 8);
    return attend;
}

START_TEST(a_good_request_becomes_its_problem)
{
    fc_reason reason = {""};
    fc_problem problem;
    fc_wire_attend attend = good();
    attend.causal = FC_CAUSAL_BOTTOM_RIGHT;
    attend.softcap = 2.5f;
    for (int layout = 0; layout < FC_LAYOUT_COUNT; layout++) {
        attend.layout = (fc_layout)layout;
        if (attend.layout == FC_BSHD) {
            attend.q = tensor(FC_F16, 2, 3, 4, 8);
            attend.k = attend.v = tensor(FC_F16, 2, 5, 2, 8);
        }
        ck_assert_int_eq(fc_admission_problem(&attend, &LIMITS, &problem, &reason), FC_OK);
        ck_assert_int_eq(problem.dtype, FC_F16);
        ck_assert_int_eq(problem.causal, FC_CAUSAL_BOTTOM_RIGHT);
        ck_assert_int_eq(problem.batch, 2);
        ck_assert_int_eq(problem.q_heads, 4);
        ck_assert_int_eq(problem.kv_heads, 2);
        ck_assert_int_eq(problem.q_len, 3);
        ck_assert_int_eq(problem.kv_len, 5);
        ck_assert_int_eq(problem.head_dim, 8);
        ck_assert_int_eq(problem.window_left, -1);
        ck_assert_int_eq(problem.window_right, 7);
        ck_assert_ptr_null(problem.kv_lens);
        ck_assert_float_eq(problem.softcap, 2.5f);
        ck_assert_float_eq(problem.scale, 1.0f / sqrtf(8.0f));
        ck_assert_int_eq(fc_problem_check(&problem, &reason), FC_OK);
    }
    attend.has_scale = true;
    attend.scale = 0.0f;
    ck_assert_int_eq(fc_admission_problem(&attend, &LIMITS, &problem, &reason), FC_OK);
    ck_assert_float_eq(problem.scale, 0.0f);
}
END_TEST

typedef enum fault {
    GOOD,
    K_DTYPE,
    V_DTYPE,
    K_BATCH,
    K_HEAD_DIM,
    V_TOKENS,
    V_HEADS,
    KV_LEN_COUNT,
    Q_BYTES,
    K_BYTES,
    V_BYTES,
    Q_TOKENS,
    K_TOKENS,
    HEAD_DIM,
    BATCH,
} fault;

static void spoil(fc_wire_attend *attend, fault what)
{
    switch (what) {
    case GOOD:
        return;
    case K_DTYPE:
        attend->k = attend->v = tensor(FC_BF16, 2, 2, 5, 8);
        return;
    case V_DTYPE:
        attend->v.dtype = FC_BF16;
        return;
    case K_BATCH:
        attend->k = attend->v = tensor(FC_F16, 1, 2, 5, 8);
        return;
    case K_HEAD_DIM:
        attend->k = attend->v = tensor(FC_F16, 2, 2, 5, 16);
        return;
    case V_TOKENS:
        attend->v = tensor(FC_F16, 2, 2, 6, 8);
        return;
    case V_HEADS:
        attend->v = tensor(FC_F16, 2, 4, 5, 8);
        return;
    case KV_LEN_COUNT:
        attend->has_kv_len = true;
        attend->kv_len_count = 3;
        return;
    case Q_BYTES:
        attend->q = tensor(FC_F16, 2, 10, 4, 8);
        return;
    case K_BYTES: /* one byte past is enough */
        attend->k.data_bytes = 1001;
        return;
    case V_BYTES:
        attend->v.data_bytes = 1001;
        return;
    case Q_TOKENS:
        attend->q = tensor(FC_F16, 1, 1, 51, 8);
        attend->k = attend->v = tensor(FC_F16, 1, 1, 1, 8);
        return;
    case K_TOKENS:
        attend->q = tensor(FC_F16, 1, 1, 1, 8);
        attend->k = attend->v = tensor(FC_F16, 1, 1, 51, 8);
        return;
    case HEAD_DIM:
        attend->q = attend->k = attend->v = tensor(FC_F16, 1, 1, 1, 136);
        return;
    case BATCH:
        attend->q = attend->k = attend->v = tensor(FC_F16, 5, 1, 1, 8);
        return;
    }
}

START_TEST(every_fault_is_named)
{
    static const struct {
        fault what;
        fc_status status;
        const char *names; /* the reason holds this */
    } rows[] = {
        {GOOD, FC_OK, ""},
        {K_DTYPE, FC_INVALID_ARGUMENT, "k.dtype"},
        {V_DTYPE, FC_INVALID_ARGUMENT, "v.dtype"},
        {K_BATCH, FC_INVALID_ARGUMENT, "k.shape"},
        {K_HEAD_DIM, FC_INVALID_ARGUMENT, "k.shape"},
        {V_TOKENS, FC_INVALID_ARGUMENT, "v.shape"},
        {V_HEADS, FC_INVALID_ARGUMENT, "v.shape"},
        {KV_LEN_COUNT, FC_INVALID_ARGUMENT, "kv_len"},
        {Q_BYTES, FC_TOO_LARGE, "q.data: 1280 bytes; the limit tensor_bytes is 1000"},
        {K_BYTES, FC_TOO_LARGE, "k.data"},
        {V_BYTES, FC_TOO_LARGE, "v.data"},
        {Q_TOKENS, FC_TOO_LARGE, "q.shape: 51 tokens; the limit tokens is 50"},
        {K_TOKENS, FC_TOO_LARGE, "k.shape"},
        {HEAD_DIM, FC_TOO_LARGE, "head_dim is 136; the limit head_dim is 128"},
        {BATCH, FC_TOO_LARGE, "batch_entries is 4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_reason reason = {""};
        fc_problem problem;
        fc_wire_attend attend = good();
        spoil(&attend, rows[i].what);
        fc_status st = fc_admission_problem(&attend, &LIMITS, &problem, &reason);
        ck_assert_msg(st == rows[i].status && strstr(reason.text, rows[i].names) != NULL, "row %zu: %s, \"%s\"", i,
                      fc_status_name(st), reason.text);
    }
}
END_TEST

START_TEST(limits_hold_to_the_last)
{
    fc_reason reason = {""};
    fc_problem problem;
    fc_wire_attend attend = good();
    attend.q = attend.k = attend.v = tensor(FC_F16, 4, 1, 50, 0); /* head_dim 0 is not admission's business */
    ck_assert_int_eq(fc_admission_problem(&attend, &LIMITS, &problem, &reason), FC_OK);
    ck_assert_int_eq(fc_problem_check(&problem, &reason), FC_INVALID_ARGUMENT);
    attend.q = attend.k = attend.v = tensor(FC_F16, 1, 1, 1, 128);
    ck_assert_int_eq(fc_admission_problem(&attend, &LIMITS, &problem, &reason), FC_OK);
    /* Wider than any setting allows: the problem's own check says unsupported. */
    attend.q = attend.k = attend.v = tensor(FC_F16, 1, 1, 1, 264);
    ck_assert_int_eq(fc_admission_problem(&attend, &LIMITS, &problem, &reason), FC_OK);
    ck_assert_int_eq(fc_problem_check(&problem, &reason), FC_UNSUPPORTED);
    /* Shapes that hold nothing can still be absurd: no arithmetic overflows. */
    attend.q = attend.k = attend.v = tensor(FC_F16, 0, INT32_MAX, 50, 8);
    ck_assert_int_eq(fc_admission_problem(&attend, &LIMITS, &problem, &reason), FC_OK);
}
END_TEST

START_TEST(kernels_by_name)
{
    static const fc_engine_info info = {.has_kernel = {[FC_KERNEL_BASELINE] = true, [FC_KERNEL_VEC] = true},
                                        .default_kernel = FC_KERNEL_VEC};
    static const struct {
        const char *name;
        fc_kernel default_kernel, kernel;
        fc_status status;
    } rows[] = {
        {NULL, FC_KERNEL_AUTO, FC_KERNEL_AUTO, FC_OK},
        {NULL, FC_KERNEL_BASELINE, FC_KERNEL_BASELINE, FC_OK},
        {"auto", FC_KERNEL_BASELINE, FC_KERNEL_BASELINE, FC_OK},
        {"vec", FC_KERNEL_BASELINE, FC_KERNEL_VEC, FC_OK},
        {"cpu", FC_KERNEL_AUTO, FC_KERNEL_CPU, FC_OK}, /* the plan will say why not */
        {"", FC_KERNEL_AUTO, FC_KERNEL_AUTO, FC_INVALID_ARGUMENT},
        {"vecx", FC_KERNEL_AUTO, FC_KERNEL_AUTO, FC_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_reason reason = {""};
        fc_kernel kernel = FC_KERNEL_COUNT;
        fc_wire_text name = {.text = rows[i].name, .bytes = rows[i].name != NULL ? strlen(rows[i].name) : 0};
        ck_assert_int_eq(fc_admission_kernel(name, rows[i].default_kernel, &info, &kernel, &reason), rows[i].status);
        if (rows[i].status == FC_OK)
            ck_assert_int_eq(kernel, rows[i].kernel);
        else
            ck_assert_msg(strstr(reason.text, "auto, baseline, vec") != NULL &&
                              strstr(reason.text, rows[i].name != NULL ? rows[i].name : "") != NULL,
                          "%s", reason.text);
    }
    char names[10];
    fc_admission_kernel_list(&info, names, sizeof names);
    ck_assert_str_eq(names, "auto, bas");
}
END_TEST

START_TEST(deadlines_never_wrap)
{
    static const struct {
        uint64_t received_ns, deadline_us, expected_ns;
    } rows[] = {
        {5, 0, FC_NEVER_NS},
        {5, 1, 1005},
        {5, UINT64_MAX, FC_NEVER_NS},
        {1000, UINT64_MAX / FC_NS_PER_US, FC_NEVER_NS},
        {UINT64_MAX - 1000, 2, FC_NEVER_NS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        ck_assert_uint_eq(fc_admission_deadline(rows[i].received_ns, rows[i].deadline_us), rows[i].expected_ns);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admission");
    TCase *entry = tcase_create("entry");
    tcase_add_test(entry, a_good_request_becomes_its_problem);
    tcase_add_test(entry, every_fault_is_named);
    tcase_add_test(entry, limits_hold_to_the_last);
    tcase_add_test(entry, kernels_by_name);
    tcase_add_test(entry, deadlines_never_wrap);
    suite_add_tcase(suite, entry);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
