/* Device arenas end to end, through both libraries, on the fake CUDA engine and a fake driver: the same answers as in
 * messages, whoever dies when. On a real GPU client/examples/attend_cuda.c says the same.
 */
#include "client/flashcore_cuda.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/e2e/side.h"
#include "tests/fake/driver/fake_driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fc_e2e_daemon daemon_under_test;

static const fc_job_spec SPECS[] = {
    {.name = "f16",
     .batch = 1,
     .q_heads = 8,
     .kv_heads = 8,
     .q_len = 64,
     .kv_len = 64,
     .head_dim = 64,
     .dtype = FLASHCORE_F16,
     .wants_lse = true},
    {.name = "bf16 bshd kv_len",
     .batch = 2,
     .q_heads = 4,
     .kv_heads = 2,
     .q_len = 7,
     .kv_len = 40,
     .head_dim = 128,
     .dtype = FLASHCORE_BF16,
     .layout = FLASHCORE_BSHD,
     .causal = FLASHCORE_CAUSAL_BOTTOM_RIGHT,
     .has_kv_lens = true,
     .kv_lens = {3, 40}},
    {.name = "f32 no queries",
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 0,
     .kv_len = 5,
     .head_dim = 8,
     .dtype = FLASHCORE_F32,
     .wants_lse = true},
};
enum { SPEC_COUNT = sizeof SPECS / sizeof SPECS[0], ARENA_BYTES = 1 << 20 };

static void set_up(void)
{
    fc_e2e_start(&daemon_under_test, NULL);
}

static void tear_down(void)
{
    ck_assert_int_eq(fake_driver_live(), 0);
    fc_e2e_stop(&daemon_under_test);
}

static flashcore_client *open_client(void)
{
    const char *url = daemon_under_test.ipc_url;
    return fc_job_client(&url, 1);
}

static flashcore_arena *make_arena(flashcore_client *client)
{
    flashcore_arena *arena;
    flashcore_status status = flashcore_cuda_arena_create(client, 0, ARENA_BYTES, &arena);
    ck_assert_msg(status == FLASHCORE_OK, "%s", flashcore_last_error());
    return arena;
}

/* Where a job's five tensors are put: each in one of two arenas. */
typedef struct where {
    flashcore_arena *device, *host;
    unsigned on_device; /* bit i: q, k, v, out, lse */
} where;

static void *put(void *context, int piece, const void *from, size_t size_bytes)
{
    const where *w = context;
    bool is_device = (w->on_device >> piece & 1) != 0;
    void *to = flashcore_arena_alloc(is_device ? w->device : w->host, size_bytes);
    ck_assert_ptr_nonnull(to);
    if (is_device)
        ck_assert_int_eq(flashcore_cuda_upload(to, from, size_bytes), FLASHCORE_OK);
    else if (size_bytes > 0)
        memcpy(to, from, size_bytes);
    return to;
}

static void fetch(const where *w, int piece, void *to, const void *from, size_t size_bytes)
{
    if ((w->on_device >> piece & 1) != 0)
        ck_assert_int_eq(flashcore_cuda_download(to, from, size_bytes), FLASHCORE_OK);
    else if (size_bytes > 0)
        memcpy(to, from, size_bytes);
}

/* Runs the job there, and brings its outputs home for the check. */
static void attend_there(flashcore_client *client, where *w, fc_job *job)
{
    flashcore_result result;
    fc_job_poison(job);
    flashcore_request request = fc_job_moved(job, put, w);
    ck_assert_msg(flashcore_attend(client, &request, &result) == FLASHCORE_OK, "%s: %s", job->spec.name, result.error);
    fetch(w, 3, job->request.out, request.out, job->out_bytes);
    if (request.lse != NULL)
        fetch(w, 4, job->request.lse, request.lse, job->lse_bytes);
    fc_job_check(job);
}

START_TEST(the_same_answer_wherever_it_lies)
{
    fc_job in_message, there;
    flashcore_client *client = open_client();
    where w = {.device = make_arena(client)};
    ck_assert_int_eq(flashcore_arena_create(client, 0, ARENA_BYTES, &w.host), FLASHCORE_OK);
    fc_job_make(&SPECS[_i], &in_message);
    fc_job_share(&in_message, &there);
    fc_job_attend(client, &in_message, NULL);
    double copied = fc_job_counter(client, "bytes_in");
    for (w.on_device = 1; w.on_device < 32; w.on_device++) {
        attend_there(client, &w, &there);
        ck_assert(fc_job_same_answer(&in_message, &there));
        flashcore_arena_reset(w.device);
        flashcore_arena_reset(w.host);
    }
    ck_assert(fc_job_counter(client, "bytes_in") - copied < 31 * 1000); /* messages without tensors */
    flashcore_arena_destroy(w.device);
    fc_job_wait_counter_down(client, "device_arenas", 0);
    ck_assert(fc_job_counter(client, "device_arena_bytes") == 0);
    flashcore_client_destroy(client); /* the other arena goes with it */
    fc_job_free(&there);
    fc_job_free(&in_message);
}
END_TEST

START_TEST(what_nobody_could_copy_is_refused)
{
    fc_job job;
    flashcore_result result;
    flashcore_client *client = open_client(), *other = open_client();
    where w = {.device = make_arena(client), .on_device = 31};
    fc_job_make(&SPECS[0], &job);
    flashcore_request right = fc_job_moved(&job, put, &w), request = right;
    request.k.data = job.request.k.data;
    ck_assert_int_eq(flashcore_attend(client, &request, &result), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_msg(strncmp(result.error, "k: with a tensor in a device arena", 34) == 0, "%s", result.error);
    request = right;
    request.out = (char *)right.out + 1;
    ck_assert_int_eq(flashcore_attend(client, &request, &result), FLASHCORE_INVALID_ARGUMENT);
    request = right;
    request.lse = (float *)(void *)((char *)flashcore_arena_alloc(w.device, 64));
    request.q.shape[2] = request.k.shape[2] = request.v.shape[2] = 1 << 20;
    ck_assert_int_eq(flashcore_attend(client, &request, &result), FLASHCORE_INVALID_ARGUMENT);
    where others = {.device = make_arena(other), .on_device = 31};
    request = right;
    request.out = flashcore_arena_alloc(others.device, job.out_bytes);
    flashcore_call *call = NULL;
    ck_assert_int_eq(flashcore_submit(client, &request, NULL, NULL, &call), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_ptr_null(call);
    ck_assert_int_eq(flashcore_attend(client, &right, &result), FLASHCORE_OK);
    flashcore_arena_destroy(w.device);
    flashcore_client_destroy(client);
    flashcore_client_destroy(other);
    fc_job_free(&job);
}
END_TEST

START_TEST(past_a_quota_is_too_large)
{
    flashcore_arena *arena = NULL;
    flashcore_info info;
    flashcore_client *client = open_client();
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    ck_assert_uint_eq(info.device_arena_bytes_max, 1u << 30);
    ck_assert_uint_eq(info.device_arena_bytes_per_peer_max, 1u << 28);
    ck_assert_int_eq(flashcore_cuda_arena_create(client, 0, ((size_t)1 << 28) + 1, &arena), FLASHCORE_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(flashcore_last_error(), "device_arena_bytes_per_peer"));
    ck_assert_int_eq(flashcore_cuda_arena_create(client, 0, 0, &arena), FLASHCORE_INVALID_ARGUMENT);
    fake_driver_devices(1); /* the client does not see the server's: what was made is given back */
    ck_assert_int_eq(flashcore_cuda_arena_create(client, 0, 1, &arena), FLASHCORE_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(flashcore_last_error(), "CUDA_VISIBLE_DEVICES"));
    fake_driver_devices(2);
    fc_job_wait_counter_down(client, "device_arenas", 0);
    ck_assert(fc_job_counter(client, "arenas_made") == 1);
    ck_assert_ptr_null(arena);
    flashcore_client_destroy(client);
}
END_TEST

/* Lives on device arenas, until it is killed. */
static void be_a_victim(unsigned number)
{
    fc_job jobs[2];
    flashcore_client *client = open_client();
    (void)number;
    for (int i = 0; i < 2; i++)
        fc_job_make(&SPECS[i], &jobs[i]);
    for (int round = 0;; round++) {
        where w = {.device = make_arena(client), .on_device = 31};
        attend_there(client, &w, &jobs[round % 2]);
        if (round % 3 != 0)
            flashcore_arena_destroy(w.device);
    }
}

START_TEST(owners_killed_at_any_moment_leave_nothing)
{
    fc_side_kill_owners(&daemon_under_test, be_a_victim, "device_arenas", "device_arena_bytes");
    fc_job_expect_service(daemon_under_test.ipc_url);
}
END_TEST

START_TEST(the_load_tester_takes_that_way)
{
    const char *const args[] = {"--url",      daemon_under_test.ipc_url,
                                "--path",     "device",
                                "--verify",   "--lse",
                                "--shape",    "1,2,16,64",
                                "--duration", "0.2",
                                "--warmup",   "0",
                                "-c",         "2",
                                "--quiet",    NULL};
    fc_e2e_run_result run;
    fc_e2e_run("bench_client", args, &run);
    ck_assert_msg(run.exit_code == 0, "%d: %s", run.exit_code, run.err);
    fc_e2e_run_free(&run);
    ck_assert(fc_side_counter(&daemon_under_test, "requests_attend") > 0);
    fc_side_await(&daemon_under_test, "device_arenas", 0, 0);
}
END_TEST

/* Nobody else has that memory: the call says so, and another arena is made with the daemon that takes its place. */
START_TEST(with_the_daemon_goes_the_arena)
{
    fc_job job;
    flashcore_result result;
    set_up();
    flashcore_client *client = open_client();
    where w = {.device = make_arena(client), .on_device = 31};
    fc_job_make(&SPECS[0], &job);
    flashcore_request request = fc_job_moved(&job, put, &w);
    ck_assert_int_eq(flashcore_attend(client, &request, &result), FLASHCORE_OK);
    fc_e2e_kill(&daemon_under_test);
    fc_e2e_restart(&daemon_under_test, NULL);
    while (flashcore_ping(client, 0, NULL) != FLASHCORE_OK)
        continue;
    ck_assert_int_eq(flashcore_attend(client, &request, &result), FLASHCORE_UNREACHABLE);
    ck_assert_msg(strstr(result.error, "make another arena") != NULL, "%s", result.error);
    char byte;
    ck_assert_int_eq(flashcore_cuda_download(&byte, request.out, 1), FLASHCORE_OK); /* it is mapped yet */
    flashcore_arena_destroy(w.device);
    w.device = make_arena(client);
    attend_there(client, &w, &job);
    flashcore_arena_destroy(w.device);
    flashcore_client_destroy(client);
    fc_job_free(&job);
    tear_down();
}
END_TEST

static const struct without_row {
    const char *engine, *why;
    const char *const args[4];
} WITHOUT[] = {
    {"--engine cpu", "the cpu engine has no memory of its own", {NULL}},
    {NULL, "device-arena-bytes is 0", {"--device-arena-bytes", "0", NULL}},
    {NULL, "has no arenas", {"--device-arena-bytes=0", "--arena-bytes=0", NULL}},
};

START_TEST(without_any_it_says_why)
{
    const struct without_row *row = &WITHOUT[_i];
    flashcore_arena *arena;
    flashcore_info info;
    if (row->engine != NULL)
        setenv("FC_TEST_ENGINE_ARGS", row->engine, 1);
    fc_e2e_start(&daemon_under_test, row->args);
    flashcore_client *client = open_client();
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    ck_assert_uint_eq(info.device_arena_bytes_max, 0);
    for (uint32_t i = 0; i < info.feature_count; i++)
        ck_assert_str_ne(info.features[i], "device_arena");
    ck_assert_int_eq(flashcore_cuda_arena_create(client, 0, 4096, &arena), FLASHCORE_UNSUPPORTED);
    ck_assert_msg(strstr(flashcore_last_error(), row->why) != NULL, "%s", flashcore_last_error());
    flashcore_client_destroy(client);
    tear_down();
}
END_TEST

/* Everything here runs on the fakes, whatever engine is asked for. */
static void use_fakes(void)
{
    char words[1024];
    const char *engine = getenv("FC_TEST_ENGINE_ARGS");
    const char *libraries = getenv("LD_LIBRARY_PATH");
    snprintf(words, sizeof words, "%s/tests/driver%s%s", fc_e2e_build_folder(), libraries != NULL ? ":" : "",
             libraries != NULL ? libraries : "");
    setenv("LD_LIBRARY_PATH", words, 1);
    if (engine == NULL || strstr(engine, "fake") == NULL)
        fc_e2e_use_fake_engine("");
}

int main(void)
{
    use_fakes();
    Suite *suite = suite_create("arena_device");
    TCase *serving = fc_e2e_case(suite, "serving");
    tcase_add_checked_fixture(serving, set_up, tear_down);
    tcase_add_loop_test(serving, the_same_answer_wherever_it_lies, 0, SPEC_COUNT);
    tcase_add_test(serving, what_nobody_could_copy_is_refused);
    tcase_add_test(serving, past_a_quota_is_too_large);
    tcase_add_test(serving, owners_killed_at_any_moment_leave_nothing);
    tcase_add_test(serving, the_load_tester_takes_that_way);
    TCase *life = fc_e2e_case(suite, "life");
    tcase_add_test(life, with_the_daemon_goes_the_arena);
    tcase_add_loop_test(life, without_any_it_says_why, 0, sizeof WITHOUT / sizeof WITHOUT[0]);
    return fc_e2e_main(suite);
}
