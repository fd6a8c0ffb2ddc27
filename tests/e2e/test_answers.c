/* Every dtype, layout, mask and odd shape goes through the shipped client and daemon, over ipc and tcp, with every
 * kernel the daemon offers, and comes back right by the reference.
 */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* dtype and layout are looped over; seeds come from the row. */
static const fc_job_spec ROWS[] = {
    {.name = "one of everything", .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 1, .kv_len = 1, .head_dim = 8},
    {.name = "square", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 64, .kv_len = 64, .head_dim = 64},
    {.name = "odd lengths", .batch = 2, .q_heads = 3, .kv_heads = 3, .q_len = 37, .kv_len = 61, .head_dim = 40},
    {.name = "tile edge minus", .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 63, .kv_len = 127, .head_dim = 32},
    {.name = "tile edge plus", .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 65, .kv_len = 129, .head_dim = 32},
    {.name = "widest head", .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 9, .kv_len = 33, .head_dim = 256},
    {.name = "head 248", .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 5, .kv_len = 17, .head_dim = 248},
    {.name = "gqa",
     .batch = 2,
     .q_heads = 6,
     .kv_heads = 2,
     .q_len = 19,
     .kv_len = 23,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "mqa decode", .batch = 3, .q_heads = 8, .kv_heads = 1, .q_len = 1, .kv_len = 130, .head_dim = 128},
    {.name = "no queries",
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 1,
     .q_len = 0,
     .kv_len = 7,
     .head_dim = 16,
     .wants_lse = true},
    {.name = "no keys",
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 1,
     .q_len = 5,
     .kv_len = 0,
     .head_dim = 16,
     .wants_lse = true},
    {.name = "no batch",
     .batch = 0,
     .q_heads = 2,
     .kv_heads = 1,
     .q_len = 5,
     .kv_len = 3,
     .head_dim = 16,
     .wants_lse = true},
    {.name = "lse",
     .batch = 2,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 17,
     .kv_len = 29,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "top left",
     .causal = FLASHCORE_CAUSAL_TOP_LEFT,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 70,
     .kv_len = 70,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "top left, fewer keys",
     .causal = FLASHCORE_CAUSAL_TOP_LEFT,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 1,
     .q_len = 33,
     .kv_len = 12,
     .head_dim = 24,
     .wants_lse = true},
    {.name = "bottom right",
     .causal = FLASHCORE_CAUSAL_BOTTOM_RIGHT,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 20,
     .kv_len = 75,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "bottom right, empty first rows",
     .causal = FLASHCORE_CAUSAL_BOTTOM_RIGHT,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 40,
     .kv_len = 13,
     .head_dim = 32,
     .wants_lse = true},
    {.name = "window",
     .has_window = true,
     .window_left = 5,
     .window_right = 2,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 50,
     .kv_len = 50,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "window of one key",
     .has_window = true,
     .window_left = 0,
     .window_right = 0,
     .batch = 1,
     .q_heads = 1,
     .kv_heads = 1,
     .q_len = 21,
     .kv_len = 34,
     .head_dim = 16,
     .wants_lse = true},
    {.name = "window open to the right",
     .has_window = true,
     .window_left = 3,
     .window_right = -1,
     .batch = 1,
     .q_heads = 1,
     .kv_heads = 1,
     .q_len = 31,
     .kv_len = 31,
     .head_dim = 16,
     .wants_lse = true},
    {.name = "causal window",
     .causal = FLASHCORE_CAUSAL_TOP_LEFT,
     .has_window = true,
     .window_left = 7,
     .window_right = -1,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 1,
     .q_len = 66,
     .kv_len = 66,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "kv_len over NaN",
     .has_kv_lens = true,
     .kv_lens = {9, 0, 31},
     .batch = 3,
     .q_heads = 2,
     .kv_heads = 1,
     .q_len = 11,
     .kv_len = 31,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "kv_len, bottom right",
     .causal = FLASHCORE_CAUSAL_BOTTOM_RIGHT,
     .has_kv_lens = true,
     .kv_lens = {40, 12},
     .batch = 2,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 16,
     .kv_len = 64,
     .head_dim = 32,
     .wants_lse = true},
    {.name = "kv_len, window",
     .has_kv_lens = true,
     .kv_lens = {25, 50},
     .has_window = true,
     .window_left = 4,
     .window_right = 4,
     .batch = 2,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 30,
     .kv_len = 50,
     .head_dim = 32,
     .wants_lse = true},
    {.name = "softcap",
     .softcap = 5.0f,
     .magnitude = 3.0f,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 24,
     .kv_len = 40,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "scale",
     .has_scale = true,
     .scale = 0.37f,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 24,
     .kv_len = 40,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "scale 0",
     .has_scale = true,
     .scale = 0.0f,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 24,
     .kv_len = 40,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "large logits",
     .magnitude = 12.0f,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 160,
     .kv_len = 80,
     .head_dim = 64,
     .wants_lse = true},
    {.name = "all at once",
     .causal = FLASHCORE_CAUSAL_BOTTOM_RIGHT,
     .has_window = true,
     .window_left = 20,
     .window_right = -1,
     .has_kv_lens = true,
     .kv_lens = {45, 33},
     .has_scale = true,
     .scale = 0.2f,
     .softcap = 9.0f,
     .batch = 2,
     .q_heads = 4,
     .kv_heads = 2,
     .q_len = 27,
     .kv_len = 45,
     .head_dim = 72,
     .wants_lse = true},
};
#define ROW_COUNT (sizeof ROWS / sizeof *ROWS)

static bool does_dtype(const char *kernel, int dtype)
{
    fc_kernel rung;
    ck_assert(fc_kernel_from_name(kernel, strlen(kernel), &rung));
    return (fc_kernel_limits_of(rung).dtypes & (1u << dtype)) != 0;
}

/* The answer, or the words for a kernel that does not do this dtype. */
static void attend_by_name(flashcore_client *client, fc_job *job)
{
    flashcore_result result;
    if (does_dtype(job->spec.kernel, (int)job->spec.dtype)) {
        fc_job_attend(client, job, &result);
        ck_assert_str_eq(result.kernel, job->spec.kernel);
        ck_assert_uint_ge(result.batch, 1);
        return;
    }
    ck_assert_int_eq(flashcore_attend(client, &job->request, &result), FLASHCORE_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(result.error, job->spec.kernel));
}

static void run_row(flashcore_client *client, const fc_job_spec *row, const char *kernel, uint32_t seed)
{
    for (int dtype = FLASHCORE_F16; dtype <= FLASHCORE_F32; dtype++) {
        for (int layout = FLASHCORE_BHSD; layout <= FLASHCORE_BSHD; layout++) {
            fc_job_spec spec = *row;
            fc_job job;
            char name[160];
            snprintf(name, sizeof name, "%s, dtype %d, layout %d, kernel %s", row->name, dtype, layout, kernel);
            spec.name = name;
            spec.dtype = (flashcore_dtype)dtype;
            spec.layout = (flashcore_layout)layout;
            spec.seed = seed * 16 + (uint32_t)dtype * 2 + (uint32_t)layout;
            spec.kernel = kernel;
            fc_job_make(&spec, &job);
            attend_by_name(client, &job);
            fc_job_free(&job);
        }
    }
}

static void run_rows(const char *url)
{
    flashcore_client *client = fc_job_client(&url, 1);
    flashcore_info info;
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    ck_assert_uint_ge(info.kernel_count, 1);
    for (uint32_t i = 0; i < info.kernel_count; i++) {
        for (size_t row = 0; row < ROW_COUNT; row++)
            run_row(client, &ROWS[row], info.kernels[i], (uint32_t)row);
    }
    flashcore_client_destroy(client);
}

START_TEST(every_row_is_right_over_ipc)
{
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, NULL);
    run_rows(daemon.ipc_url);
    fc_e2e_stop(&daemon);
}
END_TEST

START_TEST(every_row_is_right_over_tcp)
{
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, NULL);
    run_rows(daemon.tcp_url);
    fc_e2e_stop(&daemon);
}
END_TEST

/* The benchmark problem, with the kernel the daemon chooses; and what a result says beside the numbers. */
START_TEST(the_benchmark_problem_is_right)
{
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, NULL);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_job_spec spec = {.name = "benchmark problem",
                        .dtype = FLASHCORE_F16,
                        .batch = 1,
                        .q_heads = 8,
                        .kv_heads = 8,
                        .q_len = 512,
                        .kv_len = 512,
                        .head_dim = 64};
    fc_job job, again;
    flashcore_result result;
    flashcore_info info;
    fc_job_make(&spec, &job);
    fc_job_make(&spec, &again);
    fc_job_attend(client, &job, &result);
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    ck_assert_str_eq(result.device, info.device);
    ck_assert_str_ne(result.kernel, "auto");
    ck_assert(result.kernel_us > 0 && result.queue_us >= 0 && result.copy_in_us >= 0 && result.copy_out_us >= 0);
    ck_assert(result.server_total_us >=
              result.queue_us + result.copy_in_us + result.kernel_us + result.copy_out_us - 1.0);
    ck_assert(result.client_total_us >= result.server_total_us);
    fc_job_attend(client, &again, NULL);
    ck_assert_msg(fc_job_same_answer(&job, &again), "two runs of one request differ");
    fc_job_free(&job);
    fc_job_free(&again);
    flashcore_client_destroy(client);
    fc_e2e_stop(&daemon);
}
END_TEST

/* Replies and requests far past any socket buffer: 8 MiB out, over 16 MiB in. */
START_TEST(large_tensors_are_right)
{
    static const fc_job_spec spec = {.name = "8 MiB tensors",
                                     .dtype = FLASHCORE_F32,
                                     .batch = 64,
                                     .q_heads = 4,
                                     .kv_heads = 4,
                                     .q_len = 32,
                                     .kv_len = 32,
                                     .head_dim = 256,
                                     .wants_lse = true};
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, NULL);
    const char *urls[] = {daemon.ipc_url, daemon.tcp_url};
    for (int i = 0; i < 2; i++) {
        flashcore_client *client = fc_job_client(&urls[i], 1);
        fc_job job;
        fc_job_make(&spec, &job);
        fc_job_attend(client, &job, NULL);
        fc_job_free(&job);
        flashcore_client_destroy(client);
    }
    fc_e2e_stop(&daemon);
}
END_TEST

/* What this daemon cannot or will not do is said with the key at fault, and leaves out alone. */
START_TEST(refusals_name_the_key)
{
    static const struct {
        fc_job_spec spec;
        flashcore_status status;
        const char *key;
    } rows[] = {
        {{.batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 2, .kv_len = 2, .head_dim = 12},
         FLASHCORE_UNSUPPORTED,
         "head_dim"},
        {{.batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 2, .kv_len = 2, .head_dim = 264},
         FLASHCORE_UNSUPPORTED,
         "head_dim"},
        {{.batch = 1, .q_heads = 3, .kv_heads = 2, .q_len = 2, .kv_len = 2, .head_dim = 8},
         FLASHCORE_INVALID_ARGUMENT,
         "heads"},
        {{.has_scale = true,
          .scale = -1.0f,
          .batch = 1,
          .q_heads = 1,
          .kv_heads = 1,
          .q_len = 2,
          .kv_len = 2,
          .head_dim = 8},
         FLASHCORE_INVALID_ARGUMENT,
         "scale"},
        {{.has_scale = true,
          .scale = INFINITY,
          .batch = 1,
          .q_heads = 1,
          .kv_heads = 1,
          .q_len = 2,
          .kv_len = 2,
          .head_dim = 8},
         FLASHCORE_INVALID_ARGUMENT,
         "scale"},
        {{.softcap = -2.0f, .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 2, .kv_len = 2, .head_dim = 8},
         FLASHCORE_INVALID_ARGUMENT,
         "softcap"},
        {{.softcap = NAN, .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 2, .kv_len = 2, .head_dim = 8},
         FLASHCORE_INVALID_ARGUMENT,
         "softcap"},
        {{.has_window = true,
          .window_left = -2,
          .batch = 1,
          .q_heads = 1,
          .kv_heads = 1,
          .q_len = 2,
          .kv_len = 2,
          .head_dim = 8},
         FLASHCORE_INVALID_ARGUMENT,
         "window"},
        {{.has_kv_lens = true,
          .kv_lens = {3},
          .batch = 1,
          .q_heads = 1,
          .kv_heads = 1,
          .q_len = 2,
          .kv_len = 2,
          .head_dim = 8},
         FLASHCORE_INVALID_ARGUMENT,
         "kv_len"},
        {{.kernel = "magic", .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 2, .kv_len = 2, .head_dim = 8},
         FLASHCORE_INVALID_ARGUMENT,
         "kernel"},
    };
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, NULL);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fc_job job;
        flashcore_result result;
        fc_job_make(&rows[i].spec, &job);
        flashcore_status status = flashcore_attend(client, &job.request, &result);
        ck_assert_msg(status == rows[i].status, "row %zu: %s: %s", i, flashcore_status_name(status), result.error);
        ck_assert_msg(strstr(result.error, rows[i].key) != NULL, "row %zu: %s does not name %s", i, result.error,
                      rows[i].key);
        for (size_t byte = 0; byte < job.out_bytes; byte++)
            ck_assert_msg(((const uint8_t *)job.request.out)[byte] == 0xff, "row %zu: out was written", i);
        fc_job_free(&job);
    }
    flashcore_client_destroy(client);
    fc_e2e_stop(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("answers");
    TCase *tcase = fc_e2e_case(suite, "answers");
    tcase_add_test(tcase, every_row_is_right_over_ipc);
    tcase_add_test(tcase, every_row_is_right_over_tcp);
    tcase_add_test(tcase, the_benchmark_problem_is_right);
    tcase_add_test(tcase, large_tensors_are_right);
    tcase_add_test(tcase, refusals_name_the_key);
    return fc_e2e_main(suite);
}
