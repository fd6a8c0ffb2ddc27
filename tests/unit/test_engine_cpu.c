/* kernels/engine_cpu: the table a lane calls, from open to answers. */
#include "kernels/engine.h"
#include "kernels/reference.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define Q_LEN 20
#define KV_LEN 30
#define HEAD_DIM 16
#define HEADS 2

static float q[HEADS * Q_LEN * HEAD_DIM], k[HEADS * KV_LEN * HEAD_DIM], v[HEADS * KV_LEN * HEAD_DIM];
static float out[3][HEADS * Q_LEN * HEAD_DIM], lse[3][HEADS * Q_LEN];

static void fill(float *values, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

static fc_engine_job make_job(const fc_engine_ops *ops, const fc_engine *engine, int which)
{
    fc_reason reason;
    fc_engine_job job = {.problem = {.dtype = FC_F32,
                                     .causal = FC_CAUSAL_BOTTOM_RIGHT,
                                     .batch = 1,
                                     .q_heads = HEADS,
                                     .kv_heads = HEADS,
                                     .q_len = Q_LEN,
                                     .kv_len = KV_LEN,
                                     .head_dim = HEAD_DIM,
                                     .window_left = -1,
                                     .window_right = -1,
                                     .scale = 0.25f},
                         .tensors = {.q = q, .k = k, .v = v, .out = out[which], .lse = lse[which]}};
    job.tensors.q_strides = fc_strides_contiguous(FC_BHSD, HEADS, Q_LEN, HEAD_DIM);
    job.tensors.k_strides = fc_strides_contiguous(FC_BHSD, HEADS, KV_LEN, HEAD_DIM);
    job.tensors.v_strides = job.tensors.k_strides;
    job.tensors.out_strides = job.tensors.q_strides;
    ck_assert_int_eq(ops->plan(engine, FC_KERNEL_AUTO, &job.problem, &job.plan, &reason), FC_OK);
    ck_assert_int_eq(job.plan.kernel, FC_KERNEL_CPU);
    ck_assert_uint_eq(ops->staging_bytes(engine, &job.problem, NULL), 0);
    return job;
}

START_TEST(a_lane_answers_jobs_together_as_it_does_alone)
{
    const fc_engine_ops *ops = fc_engine_cpu();
    fc_engine_config config = {.thread_count = 2, .lane_segments = 3};
    fc_engine *engine = NULL;
    fc_engine_lane *lane = NULL;
    fc_engine_timing timing = {.kernel_us = -1};
    fc_engine_job jobs[3];
    fc_reason reason;
    fill(q, sizeof q / sizeof *q, 1);
    fill(k, sizeof k / sizeof *k, 2);
    fill(v, sizeof v / sizeof *v, 3);
    memset(out, 0xff, sizeof out);
    memset(lse, 0xff, sizeof lse);
    ck_assert_int_eq(ops->open(&config, &engine, &reason), FC_OK);
    ck_assert_int_eq(ops->lane_open(engine, &lane, &reason), FC_OK);
    for (int i = 0; i < 3; i++)
        jobs[i] = make_job(ops, engine, i);
    jobs[2].tensors.lse = NULL; /* computed and dropped */

    ck_assert_int_eq(ops->lane_run(lane, jobs, 1, &timing, &reason), FC_OK);
    ck_assert(timing.kernel_us >= 0 && timing.copy_in_us == 0 && timing.copy_out_us == 0);
    ck_assert_msg(fc_reference_verify(&jobs[0].problem, &jobs[0].tensors, out[0], jobs[0].tensors.out_strides, lse[0],
                                      &reason) == FC_OK,
                  "%s", reason.text);
    ck_assert_int_eq(ops->lane_run(lane, jobs + 1, 2, &timing, &reason), FC_OK);
    for (int i = 1; i < 3; i++)
        ck_assert_mem_eq(out[i], out[0], sizeof out[0]);
    ck_assert_mem_eq(lse[1], lse[0], sizeof lse[0]);
    for (size_t i = 0; i < sizeof lse[2]; i++)
        ck_assert_uint_eq(((unsigned char *)lse[2])[i], 0xff);
    ops->lane_close(lane);
    ops->close(engine);
}
END_TEST

START_TEST(more_batch_entries_than_the_lane_holds_are_refused)
{
    const fc_engine_ops *ops = fc_engine_cpu();
    fc_engine_config config = {.thread_count = 1, .lane_segments = 2};
    fc_engine *engine = NULL;
    fc_engine_lane *lane = NULL;
    fc_engine_timing timing;
    fc_reason reason = {""};
    ck_assert_int_eq(ops->open(&config, &engine, NULL), FC_OK);
    ck_assert_int_eq(ops->lane_open(engine, &lane, NULL), FC_OK);
    fc_engine_job jobs[3];
    for (int i = 0; i < 3; i++)
        jobs[i] = make_job(ops, engine, i);
    ck_assert_int_eq(ops->lane_run(lane, jobs, 3, &timing, &reason), FC_INTERNAL);
    ck_assert_ptr_nonnull(strstr(reason.text, "2 batch entries"));
    ck_assert_int_eq(ops->lane_run(lane, jobs, 2, &timing, &reason), FC_OK);
    ops->lane_close(lane);
    ops->close(engine);
}
END_TEST

START_TEST(the_engine_describes_itself)
{
    const fc_engine_ops *ops = fc_engine_cpu();
    fc_engine_config config = {.thread_count = 0, .lane_segments = 1};
    fc_engine *engine = NULL;
    fc_engine_info info;
    fc_reason reason = {""};
    ck_assert_uint_eq(ops->abi_version, FC_ENGINE_ABI_VERSION);
    ck_assert_str_eq(ops->name, "cpu");
    ck_assert_int_eq(ops->open(&config, &engine, &reason), FC_OK);
    ops->describe(engine, &info);
    ck_assert_int_eq(strncmp(info.device_name, "cpu: ", 5), 0);
    ck_assert_int_ge(info.device.processor_count, 1);
    ck_assert_int_eq(info.device.engine, FC_ENGINE_CPU);
    ck_assert_uint_eq(info.lane_count, 1);
    ck_assert(info.default_kernel == FC_KERNEL_CPU && info.has_kernel[FC_KERNEL_CPU]);
    ck_assert(!info.has_kernel[FC_KERNEL_BASELINE]);
    ops->close(engine);

    config.thread_count = -1;
    ck_assert_int_eq(ops->open(&config, &engine, &reason), FC_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(reason.text, "-1 threads"));
    ops->close(NULL);
    ops->lane_close(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_cpu");
    TCase *engine = tcase_create("engine");
    tcase_add_test(engine, a_lane_answers_jobs_together_as_it_does_alone);
    tcase_add_test(engine, more_batch_entries_than_the_lane_holds_are_refused);
    tcase_add_test(engine, the_engine_describes_itself);
    suite_add_tcase(suite, engine);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
