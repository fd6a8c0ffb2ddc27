/* The GPU fails under the daemon, on the fake CUDA engine: every request has one end, and the right one, the daemon
 * exits as its manual says, and clients go on with the one that takes its place.
 */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/e2e/scrape.h"
#include "tests/e2e/side.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALLERS = 16, EXIT_DEVICE_LOST = 4, EXIT_HUNG = 5 };

static const fc_job_spec SMALL = {
    .name = "small", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 8, .kv_len = 8, .head_dim = 16};

/* One request at a time: what runs and what waits is then known. */
static const char *const ONE_LANE[] = {"--lanes", "1", "--batch-requests", "1", NULL};

/* --- orders to the fake ------------------------------------------------------------------------------------------- */

static char orders_path[FC_E2E_PATH_BYTES + 8];

/* What is started from now on takes them there. */
static void take_orders_in(const fc_e2e_daemon *daemon)
{
    snprintf(orders_path, sizeof orders_path, "%.140s/orders", daemon->dir);
    setenv("FAKE_CUDA_ORDERS", orders_path, 1);
}

static void await_taken(void)
{
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    while (access(orders_path, F_OK) == 0)
        ck_assert_msg(fc_e2e_now_us() < end_us, "nobody takes the order");
}

static void order(const char *text)
{
    char path[sizeof orders_path + 8];
    await_taken();
    snprintf(path, sizeof path, "%s.new", orders_path);
    fc_e2e_write_file(path, text, strlen(text));
    ck_assert_int_eq(rename(path, orders_path), 0);
}

/* Launches that hang end now. */
static void end_hanging(void)
{
    char path[sizeof orders_path + 8];
    snprintf(path, sizeof path, "%s.end", orders_path);
    fc_e2e_write_file(path, "", 0);
}

/* --- daemons and callers ------------------------------------------------------------------------------------------ */

static void start(fc_e2e_daemon *daemon, const char *const *args)
{
    fc_e2e_place(daemon);
    take_orders_in(daemon);
    fc_e2e_launch(daemon, args);
    fc_e2e_wait_notify(daemon, "READY=1");
}

/* Another in its place, with nothing wrong. */
static void start_again(fc_e2e_daemon *daemon)
{
    unlink(orders_path);
    fc_e2e_restart(daemon, NULL);
}

typedef struct caller {
    flashcore_client *client;
    flashcore_call *call;
    fc_job job;
} caller;

static caller callers[CALLERS];

/* One connection each, over ipc and tcp by turns, the second ipc one over messages alone. */
static void connect_callers(const fc_e2e_daemon *daemon)
{
    for (int i = 0; i < CALLERS; i++) {
        const char *url = i % 3 == 2 ? daemon->tcp_url : daemon->ipc_url;
        flashcore_options options;
        flashcore_options_init(&options);
        options.urls = &url;
        options.url_count = 1;
        options.path = i % 3 == 1 ? FLASHCORE_PATH_INLINE : FLASHCORE_PATH_AUTO;
        ck_assert_int_eq(flashcore_client_create(&options, &callers[i].client), FLASHCORE_OK);
        ck_assert_int_eq(flashcore_ping(callers[i].client, 0, NULL), FLASHCORE_OK);
        fc_job_make(&SMALL, &callers[i].job);
    }
}

/* Callers 0 to running - 1 one after the other, each in a launch that hangs; then all others, which wait. */
static void hang_and_queue(const fc_e2e_daemon *daemon, int running)
{
    for (int i = 0; i < CALLERS; i++) {
        if (i < running)
            order("hang 0");
        callers[i].call = fc_job_submit(callers[i].client, &callers[i].job);
        if (i < running)
            fc_side_await(daemon, "running", i + 1, i + 1);
    }
    fc_side_await(daemon, "queued", CALLERS - running, CALLERS - running);
}

/* Each call ends once: how many so. */
static void count_ends(int ends[FLASHCORE_BAD_REPLY + 1])
{
    memset(ends, 0, sizeof(int) * (FLASHCORE_BAD_REPLY + 1));
    for (int i = 0; i < CALLERS; i++) {
        flashcore_result result = fc_job_finish(callers[i].call);
        ends[result.status]++;
        if (result.status == FLASHCORE_OK)
            fc_job_check(&callers[i].job);
    }
}

static void expect_service(flashcore_client *client, fc_job *job)
{
    while (flashcore_ping(client, 0, NULL) != FLASHCORE_OK)
        continue;
    fc_job_poison(job);
    fc_job_attend(client, job, NULL);
}

/* The same clients, never told that anything happened. */
static void disconnect_callers(void)
{
    for (int i = 0; i < CALLERS; i++) {
        expect_service(callers[i].client, &callers[i].job);
        flashcore_client_destroy(callers[i].client);
        fc_job_free(&callers[i].job);
    }
}

/* --- a device that is lost ---------------------------------------------------------------------------------------- */

static const struct loss_row {
    const char *order;
    int ok; /* before the one that is lost */
} LOSSES[] = {{"wait 700", 0}, {"copy 719", 1}, {"launch 214", 1}};

START_TEST(what_ran_is_lost_and_what_waited_is_draining)
{
    const struct loss_row *row = &LOSSES[_i];
    fc_e2e_daemon daemon;
    int ends[FLASHCORE_BAD_REPLY + 1];
    start(&daemon, ONE_LANE);
    connect_callers(&daemon);
    hang_and_queue(&daemon, 1);
    order(row->order);
    end_hanging();
    count_ends(ends);
    ck_assert_int_eq(ends[FLASHCORE_OK], row->ok);
    ck_assert_int_eq(ends[FLASHCORE_DEVICE_LOST], 1);
    ck_assert_int_eq(ends[FLASHCORE_DRAINING], CALLERS - 1 - row->ok);
    ck_assert_int_eq(fc_e2e_wait_exit(&daemon, FC_E2E_STOP_MS), EXIT_DEVICE_LOST);
    fc_e2e_wait_log(&daemon, "event=draining cause=device_lost", NULL);
    start_again(&daemon);
    disconnect_callers();
    fc_e2e_stop(&daemon);
}
END_TEST

/* The arena is gone with its daemon. Its memory is still the client's, is sent in messages, and gives way to another
 * arena whenever the client makes one. */
START_TEST(a_client_and_its_arena_go_on)
{
    enum { ARENA_BYTES = 1 << 16 };
    fc_e2e_daemon daemon;
    flashcore_arena *arena;
    flashcore_result result;
    fc_job job;
    start(&daemon, NULL);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    ck_assert_int_eq(flashcore_arena_create(client, 0, ARENA_BYTES, &arena), FLASHCORE_OK);
    fc_job_make(&SMALL, &job);
    for (int round = 0; round < 2; round++) {
        flashcore_request request = job.request;
        request.q.data = memcpy(flashcore_arena_alloc(arena, job.out_bytes), job.request.q.data, job.out_bytes);
        request.out = flashcore_arena_alloc(arena, job.out_bytes);
        order("launch 700");
        ck_assert_int_eq(flashcore_attend(client, &request, &result), FLASHCORE_DEVICE_LOST);
        ck_assert_int_eq(fc_e2e_wait_exit(&daemon, FC_E2E_STOP_MS), EXIT_DEVICE_LOST);
        start_again(&daemon);
        while (flashcore_ping(client, 0, NULL) != FLASHCORE_OK)
            continue;
        ck_assert_int_eq(flashcore_attend(client, &request, &result), FLASHCORE_OK);
        memcpy(job.request.out, request.out, job.out_bytes);
        fc_job_check(&job);
        flashcore_arena_destroy(arena);
        ck_assert_int_eq(flashcore_arena_create(client, 0, ARENA_BYTES, &arena), FLASHCORE_OK);
        ck_assert(fc_side_counter(&daemon, "arenas") >= 1);
    }
    flashcore_arena_destroy(arena);
    flashcore_client_destroy(client);
    fc_job_free(&job);
    fc_e2e_stop(&daemon);
}
END_TEST

/* What never started is sent to the other daemon, by the client itself. */
START_TEST(with_two_urls_only_what_ran_fails)
{
    fc_e2e_daemon broken, whole;
    int ends[FLASHCORE_BAD_REPLY + 1];
    start(&whole, NULL);
    start(&broken, ONE_LANE);
    connect_callers(&broken);
    const char *urls[] = {broken.ipc_url, whole.ipc_url};
    flashcore_client *both = fc_job_client(urls, 2);
    for (uint32_t url = 0; url < 2; url++)
        ck_assert_int_eq(flashcore_ping(both, url, NULL), FLASHCORE_OK);
    order("hang 0");
    callers[0].call = fc_job_submit(callers[0].client, &callers[0].job);
    fc_side_await(&broken, "running", 1, 1);
    for (int i = 1; i < CALLERS; i++)
        callers[i].call = fc_job_submit(both, &callers[i].job); /* to both, by turns */
    fc_side_await(&broken, "queued", 1, CALLERS - 1);
    order("wait 700");
    end_hanging();
    count_ends(ends);
    ck_assert_int_eq(ends[FLASHCORE_DEVICE_LOST], 1);
    ck_assert_int_eq(ends[FLASHCORE_OK], CALLERS - 1);
    ck_assert_int_eq(fc_e2e_wait_exit(&broken, FC_E2E_STOP_MS), EXIT_DEVICE_LOST);
    flashcore_client_destroy(both);
    start_again(&broken);
    disconnect_callers();
    fc_e2e_stop(&broken);
    fc_e2e_stop(&whole);
}
END_TEST

/* A lane that never comes back, and a device that fails meanwhile: the arena's maker is the first to see it. Whose
 * launch took the order, the caller's or the self-test's, is as it happens. */
START_TEST(what_never_returns_from_a_lost_device_is_given_up)
{
    char address[FC_E2E_PATH_BYTES];
    fc_e2e_daemon daemon;
    flashcore_arena *arena = NULL;
    int status = 0;
    fc_e2e_place(&daemon);
    take_orders_in(&daemon);
    fc_scrape_address(&daemon, address);
    const char *args[] = {
        "--lanes", "1", "--batch-requests", "1", "--kernel-timeout", "0", "--drain-timeout", "2s", "--metrics",
        address,   NULL};
    fc_e2e_launch(&daemon, args);
    fc_e2e_wait_notify(&daemon, "READY=1");
    connect_callers(&daemon);
    fc_scrape_await(address, "flashcored_ready", 1);
    order("hang 0");
    callers[0].call = fc_job_submit(callers[0].client, &callers[0].job);
    await_taken();
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    while (fc_side_counter(&daemon, "running") + fc_side_counter(&daemon, "queued") < 1)
        ck_assert(fc_e2e_now_us() < end_us);
    bool is_running = fc_side_counter(&daemon, "running") > 0;
    order("register 700");
    (void)flashcore_arena_create(callers[0].client, 0, 1 << 16, &arena);
    char *page = fc_scrape_get(address, "/readyz", &status);
    ck_assert_int_eq(status, 503);
    ck_assert_msg(strstr(page, "the device failed") != NULL, "%s", page);
    free(page);
    flashcore_result result = fc_job_finish(callers[0].call);
    ck_assert_int_eq(result.status, is_running ? FLASHCORE_DEVICE_LOST : FLASHCORE_DRAINING);
    ck_assert_int_eq(fc_e2e_wait_exit(&daemon, FC_E2E_STOP_MS), EXIT_DEVICE_LOST);
    fc_e2e_wait_log(&daemon, "event=launch_hung", NULL);
    flashcore_arena_destroy(arena);
    start_again(&daemon);
    disconnect_callers();
    fc_e2e_stop(&daemon);
}
END_TEST

/* --- a launch that hangs ------------------------------------------------------------------------------------------ */

static const struct hang_row {
    int running, signal; /* which comes before the timeout */
} HANGS[] = {{2, 0}, {1, SIGTERM}};

/* Time enough for a test to have everything where it wants it. */
static const char *kernel_timeout(void)
{
    static char text[32];
    int ms = fc_e2e_limit_ms(500);
    snprintf(text, sizeof text, "%dms", ms > 1000 ? ms : 1000);
    return text;
}

START_TEST(launches_that_hang_are_given_up)
{
    const struct hang_row *row = &HANGS[_i];
    const char *lanes = row->running == 1 ? "1" : "2";
    const char *args[] = {
        "--lanes", lanes, "--batch-requests", "1", "--kernel-timeout", kernel_timeout(), "--drain-timeout",
        "60s",     NULL};
    fc_e2e_daemon daemon;
    int ends[FLASHCORE_BAD_REPLY + 1];
    size_t at = 0;
    start(&daemon, args);
    connect_callers(&daemon);
    hang_and_queue(&daemon, row->running);
    if (row->signal != 0)
        fc_e2e_signal(&daemon, row->signal);
    count_ends(ends);
    ck_assert_int_eq(ends[FLASHCORE_DEVICE_LOST], row->running);
    ck_assert_int_eq(ends[FLASHCORE_DRAINING], CALLERS - row->running);
    ck_assert_int_eq(fc_e2e_wait_exit(&daemon, FC_E2E_STOP_MS), EXIT_HUNG);
    for (int i = 0; i < row->running; i++) {
        fc_e2e_wait_log(&daemon, "event=launch_hung lane=", &at);
        fc_e2e_wait_log(&daemon, "shape=\"B1 Hq2 Hkv2 Sq8 Sk8 D16\"", &at);
    }
    fc_e2e_wait_log(&daemon, "event=stopped exit=5", &at);
    start_again(&daemon);
    disconnect_callers();
    fc_e2e_stop(&daemon);
}
END_TEST

/* Nobody has asked for anything yet: the daemon's own self-test hangs. */
START_TEST(an_idle_daemon_notices_too)
{
    char address[FC_E2E_PATH_BYTES];
    fc_e2e_daemon daemon;
    fc_e2e_place(&daemon);
    take_orders_in(&daemon);
    fc_scrape_address(&daemon, address);
    order("hang 0");
    const char *args[] = {"--kernel-timeout", kernel_timeout(), "--metrics", address, NULL};
    fc_e2e_launch(&daemon, args);
    fc_e2e_wait_notify(&daemon, "READY=1");
    ck_assert_int_eq(fc_e2e_wait_exit(&daemon, FC_E2E_STOP_MS), EXIT_HUNG);
    fc_e2e_wait_log(&daemon, "event=launch_hung", NULL);
    start_again(&daemon);
    fc_job_expect_service(daemon.ipc_url);
    fc_e2e_stop(&daemon);
}
END_TEST

int main(void)
{
    /* The orders are the fake's alone. Lanes of little memory start and end at once, under sanitizers too. */
    fc_e2e_use_fake_engine("--tensor-bytes 1M --close-timeout 60s");
    Suite *suite = suite_create("loss");
    TCase *lost = fc_e2e_case(suite, "device lost");
    tcase_add_loop_test(lost, what_ran_is_lost_and_what_waited_is_draining, 0, sizeof LOSSES / sizeof LOSSES[0]);
    tcase_add_test(lost, a_client_and_its_arena_go_on);
    tcase_add_test(lost, with_two_urls_only_what_ran_fails);
    tcase_add_test(lost, what_never_returns_from_a_lost_device_is_given_up);
    TCase *hung = fc_e2e_case(suite, "launch hung");
    tcase_add_loop_test(hung, launches_that_hang_are_given_up, 0, sizeof HANGS / sizeof HANGS[0]);
    tcase_add_test(hung, an_idle_daemon_notices_too);
    return fc_e2e_main(suite);
}
