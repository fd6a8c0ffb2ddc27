/* A layer of a real model (examples/minilm) through flashcorectl and the daemon. The model's own float32 output sets
 * the tolerance: flashcored may err twice what the model errs against double precision.
 */
#include "client/tool_npy.h"
#include "kernels/reference.h"
#include "proto/half.h"
#include "tests/e2e/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "examples/minilm/"
#define BATCH 2
#define HEADS 12
#define TOKENS 15
#define HEAD_DIM 32
#define COUNT (BATCH * HEADS * TOKENS * HEAD_DIM)

static const uint32_t KV_LENS[BATCH] = {15, 8};
static const uint64_t SHAPE[4] = {BATCH, HEADS, TOKENS, HEAD_DIM};
static const char *const NAMES[4] = {"q", "k", "v", "expected"};

static fc_e2e_daemon daemon_under_test;
static fc_npy files[4];

static void load(const char *path, fc_dtype dtype, fc_npy *out_npy)
{
    fc_reason reason;
    ck_assert_msg(fc_npy_load(path, out_npy, &reason) == FC_OK, "%s", reason.text);
    ck_assert_int_eq(out_npy->header.dtype, dtype);
    ck_assert_uint_eq(out_npy->header.rank, 4);
    ck_assert_mem_eq(out_npy->header.shape, SHAPE, sizeof SHAPE);
}

static void set_up(void)
{
    for (int i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, FOLDER "%s.npy", NAMES[i]);
        load(path, FC_F32, &files[i]);
    }
    fc_e2e_start(&daemon_under_test, NULL);
}

static void tear_down(void)
{
    for (int i = 0; i < 4; i++)
        free(files[i].data);
    fc_e2e_stop(&daemon_under_test);
}

static fc_problem make_problem(fc_dtype dtype)
{
    return (fc_problem){.dtype = dtype,
                        .batch = BATCH,
                        .q_heads = HEADS,
                        .kv_heads = HEADS,
                        .q_len = TOKENS,
                        .kv_len = TOKENS,
                        .head_dim = HEAD_DIM,
                        .kv_lens = KV_LENS,
                        .window_left = -1,
                        .window_right = -1,
                        .scale = 1.0f / sqrtf(HEAD_DIM)};
}

static fc_tensors make_tensors(const void *q, const void *k, const void *v)
{
    fc_strides strides = fc_strides_contiguous(FC_BHSD, HEADS, TOKENS, HEAD_DIM);
    return (fc_tensors){.q = q,
                        .k = k,
                        .v = v,
                        .q_strides = strides,
                        .k_strides = strides,
                        .v_strides = strides,
                        .out_strides = strides};
}

/* Runs flashcorectl attend on the three files in this folder; the output lies beside them. */
static void attend(const char *folder, char out_path[FC_E2E_PATH_BYTES * 2])
{
    char paths[3][FC_E2E_PATH_BYTES * 2];
    fc_e2e_run_result run;
    for (int i = 0; i < 3; i++)
        snprintf(paths[i], sizeof paths[i], "%s%s.npy", folder, NAMES[i]);
    snprintf(out_path, FC_E2E_PATH_BYTES * 2, "%s/out.npy", daemon_under_test.dir);
    const char *const args[] = {"--url",  daemon_under_test.ipc_url,
                                "attend", "--q",
                                paths[0], "--k",
                                paths[1], "--v",
                                paths[2], "--kv-len",
                                "15,8",   "-o",
                                out_path, NULL};
    fc_e2e_run("flashcorectl", args, &run);
    ck_assert_msg(run.exit_code == 0, "%s", run.err);
    fc_e2e_run_free(&run);
}

static double *widen(const float *values)
{
    double *wide = malloc(COUNT * sizeof *wide);
    ck_assert_ptr_nonnull(wide);
    for (int i = 0; i < COUNT; i++)
        wide[i] = (double)values[i];
    return wide;
}

START_TEST(the_daemon_is_as_exact_as_the_model)
{
    static double exact[COUNT], lse[BATCH * HEADS * TOKENS];
    char out_path[FC_E2E_PATH_BYTES * 2];
    fc_npy out;
    fc_problem problem = make_problem(FC_F32);
    fc_tensors tensors = make_tensors(files[0].data, files[1].data, files[2].data);
    attend(FOLDER, out_path);
    load(out_path, FC_F32, &out);
    ck_assert_int_eq(fc_reference_run(&problem, &tensors, exact, lse), FC_OK);
    double *of_model = widen(files[3].data), *of_daemon = widen(out.data);
    fc_reference_error model = fc_reference_compare(of_model, exact, COUNT);
    fc_reference_error daemon = fc_reference_compare(of_daemon, exact, COUNT);
    ck_assert_msg(model.relative_frobenius < 1e-6, "the example's own files are off by %g", model.relative_frobenius);
    ck_assert_msg(daemon.relative_frobenius <= 2 * model.relative_frobenius &&
                      daemon.largest_absolute <= 2 * model.largest_absolute,
                  "errors %g and %g, the model's %g and %g", daemon.relative_frobenius, daemon.largest_absolute,
                  model.relative_frobenius, model.largest_absolute);
    free(of_model);
    free(of_daemon);
    free(out.data);
}
END_TEST

/* The same layer in half precision, by the ordinary tolerance. */
START_TEST(the_layer_is_right_in_half_precision)
{
    static uint16_t halves[3][COUNT];
    char folder[FC_E2E_PATH_BYTES * 2], out_path[FC_E2E_PATH_BYTES * 2], path[FC_E2E_PATH_BYTES * 3];
    fc_reason reason;
    fc_npy out;
    snprintf(folder, sizeof folder, "%s/", daemon_under_test.dir);
    for (int i = 0; i < 3; i++) {
        for (int at = 0; at < COUNT; at++)
            halves[i][at] = fc_f16_from_float(((const float *)files[i].data)[at]);
        snprintf(path, sizeof path, "%s%s.npy", folder, NAMES[i]);
        ck_assert_msg(fc_npy_save(path, FC_F16, 4, SHAPE, halves[i], &reason) == FC_OK, "%s", reason.text);
    }
    attend(folder, out_path);
    load(out_path, FC_F16, &out);
    fc_problem problem = make_problem(FC_F16);
    fc_tensors tensors = make_tensors(halves[0], halves[1], halves[2]);
    ck_assert_msg(fc_reference_verify(&problem, &tensors, out.data, tensors.out_strides, NULL, &reason) == FC_OK, "%s",
                  reason.text);
    free(out.data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *tcase = fc_e2e_case(suite, "minilm");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, the_daemon_is_as_exact_as_the_model);
    tcase_add_test(tcase, the_layer_is_right_in_half_precision);
    return fc_e2e_main(suite);
}
