/* SIGTERM and SIGINT: what runs is answered, what never started is told so and goes elsewhere, no reply is lost, exit
 * 0. And a signal that comes before all that.
 */
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/held.h"
#include "tests/e2e/job.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CUT_SHORT 3 /* the exit code of a drain that did not get to its end */

static const fc_job_spec SMALL = {
    .name = "small", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 8, .kv_len = 8, .head_dim = 16};

static void want_good_end(fc_e2e_daemon *daemon)
{
    int code = fc_e2e_wait_exit(daemon, FC_E2E_STOP_MS);
    ck_assert_msg(code == 0, "the daemon ended with %d", code);
    ck_assert_msg(access(daemon->ipc_path, F_OK) != 0, "the socket file was left behind");
}

static void end_well(fc_e2e_daemon *daemon)
{
    want_good_end(daemon);
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

/* From when it would no longer end it until the daemon says that it serves, or has ended. */
static void hang_up_all_the_while(const fc_e2e_daemon *daemon)
{
    struct pollfd news[] = {{.fd = daemon->notify_fd, .events = POLLIN}, {.fd = daemon->pid_fd, .events = POLLIN}};
    unsigned long long caught = 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)daemon->pid);
    while (poll(news, 2, 0) == 0) {
        if ((caught & 1u << (SIGHUP - 1)) != 0) {
            fc_e2e_signal(daemon, SIGHUP);
            continue;
        }
        char *status = fc_e2e_read_file(path, NULL);
        const char *mask = status != NULL ? strstr(status, "SigCgt:") : NULL;
        caught = mask != NULL ? strtoull(mask + 7, NULL, 16) : 0;
        free(status);
    }
    fc_e2e_signal(daemon, SIGHUP); /* one that comes for sure, however slow this was */
}

/* As a supervisor may ask for it that has just written the configuration. */
START_TEST(a_reload_asked_for_while_it_starts_comes_later)
{
    fc_e2e_daemon daemon;
    for (int i = 0; i < 3; i++) {
        fc_e2e_place(&daemon);
        fc_e2e_launch(&daemon, NULL);
        hang_up_all_the_while(&daemon);
        fc_e2e_wait_notify(&daemon, "READY=1");
        fc_e2e_wait_notify(&daemon, "RELOADING=1");
        fc_job_expect_service(daemon.ipc_url);
        fc_e2e_stop(&daemon);
    }
}
END_TEST

/* What ran when the drain began is answered, and then the daemon ends. */
static void want_good_end_of_lane(fc_held *held)
{
    flashcore_result result = fc_job_finish(held->call);
    ck_assert_msg(result.status == FLASHCORE_OK, "running: %s: %s", flashcore_status_name(result.status), result.error);
    held->call = NULL;
    want_good_end(&held->daemon);
}

/* One lane, one request a launch: the long one runs, the rest has not started. */
static bool look_at_a_drain(fc_held *held, const void *context)
{
    enum { QUEUED = 6 };
    fc_job jobs[QUEUED];
    flashcore_call *calls[QUEUED];
    flashcore_result results[QUEUED];
    (void)context;
    for (int i = 0; i < QUEUED; i++) {
        fc_job_make(&SMALL, &jobs[i]);
        calls[i] = fc_job_submit(held->client, &jobs[i]);
    }
    bool is_seen = fc_held_wait(held, "queued", QUEUED);
    fc_e2e_signal(&held->daemon, SIGTERM);
    for (int i = 0; i < QUEUED; i++) {
        results[i] = fc_job_finish(calls[i]);
        fc_job_free(&jobs[i]);
    }
    is_seen = is_seen && fc_held_lane(held); /* then the waiting were told before the running was done */
    for (int i = 0; is_seen && i < QUEUED; i++)
        ck_assert_msg(results[i].status == FLASHCORE_DRAINING, "%d: %s: %s", i,
                      flashcore_status_name(results[i].status), results[i].error);
    want_good_end_of_lane(held);
    return is_seen;
}

START_TEST(what_runs_is_answered_and_what_waits_is_told)
{
    static const char *const args[] = {"--batch-requests", "1", "--drain-timeout", "60s", NULL};
    fc_held_run(args, _i, look_at_a_drain, NULL);
}
END_TEST

/* A client that connects while the daemon drains is told so, and may go elsewhere; its connection does not just break.
 */
static bool look_at_a_late_client(fc_held *held, const void *context)
{
    fc_job early, late;
    flashcore_result result;
    (void)context;
    fc_job_make(&SMALL, &early);
    flashcore_call *waiting = fc_job_submit(held->client, &early);
    bool is_seen = fc_held_wait(held, "queued", 1);
    fc_e2e_signal(&held->daemon, SIGTERM);
    result = fc_job_finish(waiting); /* told: the drain has begun */
    is_seen = is_seen && fc_held_lane(held);
    for (int i = 0; is_seen && i < 2; i++) {
        const char *url = i == 0 ? held->daemon.ipc_url : held->daemon.tcp_url;
        flashcore_client *client = fc_job_client(&url, 1);
        fc_job_make(&SMALL, &late);
        result = fc_job_finish(fc_job_submit(client, &late));
        flashcore_client_destroy(client);
        fc_job_free(&late);
        is_seen = fc_held_lane(held);
        if (is_seen)
            ck_assert_msg(result.status == FLASHCORE_DRAINING, "%s: %s: %s", url, flashcore_status_name(result.status),
                          result.error);
    }
    fc_job_free(&early);
    want_good_end_of_lane(held);
    return is_seen;
}

START_TEST(who_comes_late_is_told)
{
    static const char *const args[] = {"--batch-requests", "1", "--drain-timeout", "60s", NULL};
    fc_held_run(args, _i, look_at_a_late_client, NULL);
}
END_TEST

/* Clients that come all the while, each with one call. */
typedef struct caller {
    pthread_t thread;
    const char *url;
    flashcore_path path;
    const atomic_bool *is_over;
    flashcore_result lost; /* status OK: none was */
} caller;

static bool is_lost(flashcore_status status)
{
    return status != FLASHCORE_OK && status != FLASHCORE_DRAINING && status != FLASHCORE_UNREACHABLE;
}

static void *come_and_go(void *argument)
{
    caller *c = argument;
    fc_job job;
    flashcore_options options;
    fc_job_make(&SMALL, &job);
    flashcore_options_init(&options);
    options.urls = &c->url;
    options.url_count = 1;
    options.path = c->path;
    options.connect_timeout_us = 1000;
    while (!atomic_load(c->is_over) && c->lost.status == FLASHCORE_OK) {
        flashcore_client *client;
        flashcore_result result;
        if (flashcore_client_create(&options, &client) != FLASHCORE_OK)
            break;
        if (is_lost(flashcore_attend(client, &job.request, &result)))
            c->lost = result;
        flashcore_client_destroy(client);
    }
    fc_job_free(&job);
    return NULL;
}

/* Whoever comes at the very end finds nobody, or is told: a request that was sent is not lost. Over messages, the local
 * channel and TCP. */
START_TEST(nobody_is_hung_up_on)
{
    enum { CALLERS = 4, SERVED = 20 };
    fc_e2e_daemon daemon;
    caller callers[CALLERS];
    atomic_bool is_over = false;
    fc_e2e_start(&daemon, NULL);
    const char *const urls[] = {daemon.ipc_url, daemon.ipc_url, daemon.tcp_url};
    flashcore_client *watcher = fc_job_client(urls, 1);
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.url = urls[_i % 3],
                              .path = _i % 3 == 1 ? FLASHCORE_PATH_AUTO : FLASHCORE_PATH_INLINE,
                              .is_over = &is_over};
        ck_assert_int_eq(pthread_create(&callers[i].thread, NULL, come_and_go, &callers[i]), 0);
    }
    fc_job_wait_counter(watcher, "requests_attend", SERVED);
    fc_e2e_signal(&daemon, SIGTERM);
    int code = fc_e2e_wait_exit(&daemon, FC_E2E_STOP_MS);
    atomic_store(&is_over, true);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i].thread, NULL);
    for (int i = 0; i < CALLERS; i++)
        ck_assert_msg(callers[i].lost.status == FLASHCORE_OK, "%s: %s", urls[_i % 3], callers[i].lost.error);
    ck_assert_int_eq(code, 0);
    flashcore_client_destroy(watcher);
    fc_e2e_forget(&daemon);
}
END_TEST

/* Replies of 8 MiB, many of them under way when the signal comes: each call ends with a right answer or with
 * `draining`, none with a broken connection. context: how many launches after which the signal comes. */
static bool look_at_large_replies(fc_held *held, const void *context)
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
    fc_job jobs[CALLS];
    flashcore_call *calls[CALLS];
    int ok_count = 0, first_ok = 0;
    const char *const url = held->daemon.ipc_url; /* the watcher's: its connection carries nothing large */
    flashcore_client *watcher = fc_job_client(&url, 1);
    double launched = fc_job_counter(watcher, "launched_requests"),
           received = fc_job_counter(watcher, "requests_attend");
    fc_job_make(&spec, &jobs[0]);
    for (int i = 0; i < CALLS; i++) {
        if (i > 0)
            fc_job_share(&jobs[0], &jobs[i]);
        calls[i] = fc_job_submit(held->client, &jobs[i]);
    }
    fc_job_wait_counter(watcher, "requests_attend", received + CALLS); /* all have arrived */
    fc_job_wait_counter(watcher, "launched_requests", launched + 1 + *(const int *)context);
    fc_e2e_signal(&held->daemon, SIGTERM);
    for (int i = 0; i < CALLS; i++) {
        flashcore_result result = fc_job_finish(calls[i]);
        ck_assert_msg(result.status == FLASHCORE_OK || result.status == FLASHCORE_DRAINING, "%d: %s: %s", i,
                      flashcore_status_name(result.status), result.error);
        if (result.status == FLASHCORE_OK && ok_count++ == 0) {
            fc_job_check(&jobs[i]);
            first_ok = i; /* connections take turns: it need not be the first that was sent */
        }
        if (result.status == FLASHCORE_OK)
            ck_assert_msg(fc_job_same_answer(&jobs[i], &jobs[first_ok]), "%d: another answer", i);
    }
    ck_assert_int_ge(ok_count, 1);
    want_good_end_of_lane(held);
    for (int i = CALLS - 1; i >= 0; i--)
        fc_job_free(&jobs[i]);
    flashcore_client_destroy(watcher);
    return true;
}

START_TEST(no_large_reply_is_lost)
{
    static const int launches[] = {1, 1, 5, 5};
    static const char *const args[] = {"--batch-requests", "1", "--drain-timeout", "60s", NULL};
    fc_held_run(args, _i % 2, look_at_large_replies, &launches[_i]);
}
END_TEST

/* Calls go on without a pause over two URLs; one daemon is told to stop: the other takes over, no call fails. */
static bool look_at_a_takeover(fc_held *leaving, const void *context)
{
    enum { CALLS = 48, BEFORE = 16 };
    static fc_job jobs[CALLS];
    static flashcore_call *calls[CALLS];
    const fc_e2e_daemon *staying = context;
    int answered_by_staying = 0;
    const char *urls[] = {leaving->daemon.ipc_url, staying->tcp_url};
    flashcore_client *client = fc_job_client(urls, 2);
    double round_trip_us; /* connected to both */
    ck_assert_int_eq(flashcore_ping(client, 0, &round_trip_us), FLASHCORE_OK);
    ck_assert_int_eq(flashcore_ping(client, 1, &round_trip_us), FLASHCORE_OK);
    for (int i = 0; i < CALLS; i++) {
        if (i == BEFORE)
            fc_e2e_signal(&leaving->daemon, SIGTERM);
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
    ck_assert_int_eq(fc_job_finish(leaving->call).status, FLASHCORE_OK);
    leaving->call = NULL;
    want_good_end(&leaving->daemon);
    fc_job after;
    fc_job_make(&SMALL, &after);
    fc_job_attend(client, &after, NULL);
    fc_job_free(&after);
    flashcore_client_destroy(client);
    return true;
}

START_TEST(another_daemon_takes_over)
{
    static const char *const args[] = {"--drain-timeout", "60s", NULL};
    fc_e2e_daemon staying;
    fc_e2e_start(&staying, NULL);
    fc_held_run(args, 0, look_at_a_takeover, &staying);
    fc_e2e_stop(&staying);
}
END_TEST

/* A running request outlasts --drain-timeout, or a second signal comes: the daemon leaves all the same, soon. */
static bool look_at_impatience(fc_held *held, const void *context)
{
    fc_e2e_signal(&held->daemon, SIGTERM);
    if (context != NULL) {
        fc_e2e_wait_notify(&held->daemon, "STOPPING=1"); /* two at once would count as one */
        fc_e2e_signal(&held->daemon, SIGTERM);
    }
    int code = fc_e2e_wait_exit(&held->daemon, FC_E2E_STOP_MS);
    flashcore_result result = fc_job_finish(held->call);
    held->call = NULL;
    if (code == 0 && result.status == FLASHCORE_OK)
        return false; /* it was done before that */
    ck_assert_int_eq(code, CUT_SHORT);
    ck_assert_int_ne(result.status, FLASHCORE_TIMED_OUT);
    return true;
}

START_TEST(patience_has_an_end)
{
    static const char *const timeouts[] = {"10ms", "60s"};
    const char *const args[] = {"--drain-timeout", timeouts[_i], "--close-timeout", "500ms", NULL};
    fc_held_run(args, 0, look_at_impatience, _i == 1 ? timeouts : NULL);
}
END_TEST

/* A peer that never reads its large reply does not keep the daemon from leaving. */
START_TEST(a_deaf_peer_keeps_nobody)
{
    enum { BYTES = 8 << 20 };
    static const char *const args[] = {"--drain-timeout", "500ms", "--close-timeout", "500ms", NULL};
    fc_e2e_daemon daemon;
    fc_bytes request = {0};
    fc_e2e_start(&daemon, args);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_pack_large_attend(&request, 1, BYTES);
    int fd = fc_raw_ask(_i == 0 ? daemon.ipc_url : daemon.tcp_url, &request);
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

/* A slow reader gets its whole reply: the daemon stays until the last byte has left, then goes. */
START_TEST(a_slow_reader_gets_its_reply)
{
    enum { BYTES = 8 << 20, PATIENCE_MS = 700 };
    static const char *const args[] = {"--drain-timeout", "60s", NULL};
    fc_e2e_daemon daemon;
    fc_bytes request = {0};
    fc_e2e_start(&daemon, args);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_pack_large_attend(&request, 1, BYTES);
    int fd = fc_raw_ask(_i == 0 ? daemon.ipc_url : daemon.tcp_url, &request);
    fc_job_wait_counter(client, "launched_requests", 1);
    fc_job_wait_counter_down(client, "running", 0);
    flashcore_client_destroy(client);
    fc_e2e_signal(&daemon, SIGTERM);
    /* Nothing may happen for a while: the reply has not been read. */
    struct pollfd ended = {.fd = daemon.pid_fd, .events = POLLIN};
    ck_assert_msg(poll(&ended, 1, PATIENCE_MS) == 0, "the daemon left before its reply did");
    size_t got = fc_raw_read_all(fd);
    ck_assert_msg(got > BYTES, "%zu bytes of the reply came", got);
    close(fd);
    end_well(&daemon);
    fc_bytes_fini(&request);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("drain");
    TCase *tcase = fc_e2e_case(suite, "drain");
    tcase_add_loop_test(tcase, an_idle_daemon_stops_at_once, 0, 2);
    tcase_add_test(tcase, a_reload_asked_for_while_it_starts_comes_later);
    tcase_add_loop_test(tcase, what_runs_is_answered_and_what_waits_is_told, 0, 2);
    tcase_add_loop_test(tcase, who_comes_late_is_told, 0, 2);
    tcase_add_loop_test(tcase, nobody_is_hung_up_on, 0, 6);
    tcase_add_loop_test(tcase, no_large_reply_is_lost, 0, 4);
    tcase_add_test(tcase, another_daemon_takes_over);
    tcase_add_loop_test(tcase, patience_has_an_end, 0, 2);
    tcase_add_loop_test(tcase, a_deaf_peer_keeps_nobody, 0, 2);
    tcase_add_loop_test(tcase, a_slow_reader_gets_its_reply, 0, 2);
    return fc_e2e_main(suite);
}
