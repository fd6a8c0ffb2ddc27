/* SIGTERM and SIGINT: what runs is answered, what never started is told so and goes elsewhere, no reply is lost, exit
 * 0.
 */
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#define CUT_SHORT 3 /* the exit code of a drain that did not get to its end */
#define HOLD_US (fc_e2e_limit_ms(400) * 1000.0)

static const fc_job_spec SMALL = {
    .name = "small", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 8, .kv_len = 8, .head_dim = 16};

static void end_well(fc_e2e_daemon *daemon)
{
    int code = fc_e2e_wait_exit(daemon, FC_E2E_STOP_MS);
    ck_assert_msg(code == 0, "the daemon ended with %d", code);
    ck_assert_msg(access(daemon->ipc_path, F_OK) != 0, "the socket file was left behind");
    fc_e2e_forget(daemon);
}

START_TEST(an_idle_daemon_stops_at_once)
{
    static const int signals[] = {SIGTERM, SIGINT};
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, NULL);
    fc_job_expect_service(daemon.ipc_url);
    const char *url = daemon.ipc_url;
    flashcore_client *bystander = fc_job_client(&url, 1);
    double round_trip_us;
    ck_assert_int_eq(flashcore_ping(bystander, 0, &round_trip_us), FLASHCORE_OK);
    fc_e2e_signal(&daemon, signals[_i]);
    fc_e2e_wait_notify(&daemon, "STOPPING=1");
    end_well(&daemon);
    flashcore_client_destroy(bystander);
}
END_TEST

/* One lane, one request a launch: the long one runs, the rest has not started. */
START_TEST(what_runs_is_answered_and_what_waits_is_told)
{
    enum { QUEUED = 6 };
    static const char *const args[] = {"--lanes", "1", "--batch-requests", "1", "--drain-timeout", "60s", NULL};
    fc_e2e_daemon daemon;
    fc_job hold, jobs[QUEUED];
    flashcore_call *calls[QUEUED];
    fc_e2e_start(&daemon, args);
    const char *url = _i == 0 ? daemon.ipc_url : daemon.tcp_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_job_spec spec = fc_job_long_spec(url, HOLD_US);
    fc_job_make(&spec, &hold);
    flashcore_call *held = fc_job_submit(client, &hold);
    fc_job_wait_counter(client, "running", 1);
    for (int i = 0; i < QUEUED; i++) {
        fc_job_make(&SMALL, &jobs[i]);
        calls[i] = fc_job_submit(client, &jobs[i]);
    }
    fc_job_wait_counter(client, "queued", QUEUED);
    fc_e2e_signal(&daemon, SIGTERM);
    for (int i = 0; i < QUEUED; i++) {
        flashcore_result result = fc_job_finish(calls[i]);
        ck_assert_msg(result.status == FLASHCORE_DRAINING, "%d: %s: %s", i, flashcore_status_name(result.status),
                      result.error);
        fc_job_free(&jobs[i]);
    }
    ck_assert_msg(flashcore_wait(held, 0, NULL) == FLASHCORE_TIMED_OUT, "the waiting were told only after the running");
    flashcore_result result = fc_job_finish(held);
    ck_assert_msg(result.status == FLASHCORE_OK, "running: %s: %s", flashcore_status_name(result.status), result.error);
    end_well(&daemon);
    fc_job_free(&hold);
    flashcore_client_destroy(client);
}
END_TEST

/* Replies of 8 MiB, many of them under way when the signal comes: each call ends with a right answer or with
 * `draining`, none with a broken connection. */
START_TEST(no_large_reply_is_lost)
{
    enum { CALLS = 12 };
    static const fc_job_spec spec = {.name = "8 MiB",
                                     .dtype = FLASHCORE_F32,
                                     .batch = 1,
                                     .q_heads = 4,
                                     .kv_heads = 1,
                                     .q_len = 8192,
                                     .kv_len = 4,
                                     .head_dim = 64};
    static const char *const args[] = {"--lanes", "1", "--batch-requests", "1", "--drain-timeout", "60s", NULL};
    fc_e2e_daemon daemon;
    fc_job hold, jobs[CALLS];
    flashcore_call *calls[CALLS];
    int ok_count = 0;
    fc_e2e_start(&daemon, args);
    const char *url = _i % 2 == 0 ? daemon.ipc_url : daemon.tcp_url;
    const char *const url_of_watcher = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1), *watcher = fc_job_client(&url_of_watcher, 1);
    fc_job_spec hold_spec = fc_job_long_spec(url_of_watcher, HOLD_US * 2);
    fc_job_make(&hold_spec, &hold);
    double launched = fc_job_counter(watcher, "launched_requests");
    double received = fc_job_counter(watcher, "requests_attend");
    flashcore_call *held = fc_job_submit(watcher, &hold);
    fc_job_wait_counter(watcher, "running", 1);
    for (int i = 0; i < CALLS; i++) {
        fc_job_make(&spec, &jobs[i]);
        calls[i] = fc_job_submit(client, &jobs[i]);
    }
    /* All have arrived; the signal comes with the first, then the fourth, then the seventh reply hardly on its way. */
    fc_job_wait_counter(watcher, "requests_attend", received + 1 + CALLS);
    fc_job_wait_counter(watcher, "launched_requests", launched + 2 + _i / 2 * 3);
    fc_e2e_signal(&daemon, SIGTERM);
    for (int i = 0; i < CALLS; i++) {
        flashcore_result result = fc_job_finish(calls[i]);
        ck_assert_msg(result.status == FLASHCORE_OK || result.status == FLASHCORE_DRAINING, "%d: %s: %s", i,
                      flashcore_status_name(result.status), result.error);
        if (result.status == FLASHCORE_OK && ok_count++ == 0)
            fc_job_check(&jobs[i]);
        if (result.status == FLASHCORE_OK)
            ck_assert_int_eq(memcmp(jobs[i].request.out, jobs[0].request.out, jobs[0].out_bytes), 0);
    }
    ck_assert_int_ge(ok_count, 1);
    ck_assert_int_eq(fc_job_finish(held).status, FLASHCORE_OK);
    fc_job_free(&hold);
    end_well(&daemon);
    for (int i = 0; i < CALLS; i++)
        fc_job_free(&jobs[i]);
    flashcore_client_destroy(client);
    flashcore_client_destroy(watcher);
}
END_TEST

/* Calls go on without a pause over two URLs; one daemon is told to stop: the other takes over, no call fails. */
START_TEST(another_daemon_takes_over)
{
    enum { CALLS = 48, BEFORE = 16 };
    static const char *const args[] = {"--lanes", "1", "--drain-timeout", "60s", NULL};
    static fc_job jobs[CALLS];
    static flashcore_call *calls[CALLS];
    fc_e2e_daemon leaving, staying;
    fc_job hold;
    int answered_by_staying = 0;
    fc_e2e_start(&leaving, args);
    fc_e2e_start(&staying, args);
    const char *urls[] = {leaving.ipc_url, staying.tcp_url};
    flashcore_client *client = fc_job_client(urls, 2), *watcher = fc_job_client(urls, 1);
    fc_job_spec spec = fc_job_long_spec(urls[0], HOLD_US);
    fc_job_make(&spec, &hold);
    flashcore_call *held = fc_job_submit(watcher, &hold);
    fc_job_wait_counter(watcher, "running", 1);
    for (int i = 0; i < CALLS; i++) {
        if (i == BEFORE)
            fc_e2e_signal(&leaving, SIGTERM);
        fc_job_make(&SMALL, &jobs[i]);
        calls[i] = fc_job_submit(client, &jobs[i]);
    }
    for (int i = 0; i < CALLS; i++) {
        flashcore_result result = fc_job_finish(calls[i]);
        ck_assert_msg(result.status == FLASHCORE_OK, "%d: %s: %s", i, flashcore_status_name(result.status),
                      result.error);
        fc_job_check(&jobs[i]);
        fc_job_free(&jobs[i]);
        answered_by_staying += result.url_index == 1;
    }
    ck_assert_int_ge(answered_by_staying, BEFORE / 2);
    ck_assert_int_eq(fc_job_finish(held).status, FLASHCORE_OK);
    fc_job_free(&hold);
    end_well(&leaving);
    fc_job jobs_after;
    fc_job_make(&SMALL, &jobs_after);
    fc_job_attend(client, &jobs_after, NULL);
    fc_job_free(&jobs_after);
    flashcore_client_destroy(watcher);
    flashcore_client_destroy(client);
    fc_e2e_stop(&staying);
}
END_TEST

/* A running request outlasts --drain-timeout, or a second signal comes: the daemon leaves all the same, soon. */
START_TEST(patience_has_an_end)
{
    static const char *const timeouts[] = {"10ms", "60s"};
    const char *const args[] = {"--lanes", "1", "--drain-timeout", timeouts[_i], "--close-timeout", "500ms", NULL};
    fc_e2e_daemon daemon;
    fc_job hold;
    fc_e2e_start(&daemon, args);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_job_spec spec = fc_job_long_spec(url, HOLD_US * 2);
    fc_job_make(&spec, &hold);
    flashcore_call *held = fc_job_submit(client, &hold);
    fc_job_wait_counter(client, "running", 1);
    fc_e2e_signal(&daemon, SIGTERM);
    if (_i == 1) {
        fc_e2e_wait_notify(&daemon, "STOPPING=1"); /* two at once would count as one */
        fc_e2e_signal(&daemon, SIGTERM);
    }
    ck_assert_int_eq(fc_e2e_wait_exit(&daemon, FC_E2E_STOP_MS), CUT_SHORT);
    flashcore_result result = fc_job_finish(held);
    ck_assert_int_ne(result.status, FLASHCORE_TIMED_OUT);
    flashcore_client_destroy(client);
    fc_job_free(&hold);
    fc_e2e_forget(&daemon);
}
END_TEST

/* A peer that never reads its large reply does not keep the daemon from leaving. */
START_TEST(a_deaf_peer_keeps_nobody)
{
    enum { BYTES = 8 << 20 };
    static const char *const args[] = {"--drain-timeout", "500ms", "--close-timeout", "500ms", NULL};
    bool is_ipc = _i == 0;
    fc_e2e_daemon daemon;
    fc_bytes request = {0};
    fc_e2e_start(&daemon, args);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_pack_head(&request, 1, "attend", 3);
    fc_pack_tensor(&request, "q", "f32", (uint64_t[]){1, 1, BYTES / 128, 32}, BYTES);
    fc_pack_tensor(&request, "k", "f32", (uint64_t[]){1, 1, 1, 32}, 128);
    fc_pack_tensor(&request, "v", "f32", (uint64_t[]){1, 1, 1, 32}, 128);
    int fd = fc_raw_connect(is_ipc ? daemon.ipc_url : daemon.tcp_url);
    ck_assert_int_ge(fd, 0);
    fc_raw_greet(fd);
    fc_raw_send_frame(fd, is_ipc, request.data, request.size);
    fc_job_wait_counter(client, "launched_requests", 1);
    fc_job_wait_counter_down(client, "running", 0);
    fc_e2e_signal(&daemon, SIGTERM);
    ck_assert_int_eq(fc_e2e_wait_exit(&daemon, FC_E2E_STOP_MS), CUT_SHORT);
    close(fd);
    fc_bytes_fini(&request);
    flashcore_client_destroy(client);
    fc_e2e_forget(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("drain");
    TCase *tcase = fc_e2e_case(suite, "drain");
    tcase_add_loop_test(tcase, an_idle_daemon_stops_at_once, 0, 2);
    tcase_add_loop_test(tcase, what_runs_is_answered_and_what_waits_is_told, 0, 2);
    tcase_add_loop_test(tcase, no_large_reply_is_lost, 0, 6);
    tcase_add_test(tcase, another_daemon_takes_over);
    tcase_add_loop_test(tcase, patience_has_an_end, 0, 2);
    tcase_add_loop_test(tcase, a_deaf_peer_keeps_nobody, 0, 2);
    return fc_e2e_main(suite);
}
