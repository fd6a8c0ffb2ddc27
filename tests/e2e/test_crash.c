/* Either side dies without a word. A client killed in the middle of its requests, a peer that never reads its reply, a
 * daemon killed and started again under its clients, a second daemon on a living one's socket.
 *
 * Run as `test_crash --client URL` this program is the client that gets killed.
 */
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOLD_US 300000.0
#define VICTIM_QUEUED 4

static const fc_job_spec SMALL = {
    .name = "small", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 8, .kv_len = 8, .head_dim = 16};

static char *const *victim_args; /* URL, tokens */

/* Submits one long request and some behind it, and waits to be killed. A test only so that Check's assertions work. */
START_TEST(be_the_victim)
{
    static fc_job jobs[1 + VICTIM_QUEUED];
    fc_job_spec spec = {.dtype = FLASHCORE_F16, .batch = 1, .q_heads = 8, .kv_heads = 1, .head_dim = 64};
    const char *url = victim_args[0];
    spec.q_len = spec.kv_len = (uint32_t)atoi(victim_args[1]);
    flashcore_client *client = fc_job_client(&url, 1);
    for (int i = 0; i < 1 + VICTIM_QUEUED; i++) {
        fc_job_make(i == 0 ? &spec : &SMALL, &jobs[i]);
        (void)fc_job_submit(client, &jobs[i]);
    }
    for (;;)
        pause();
}
END_TEST

static int run_victim(char *const *args)
{
    Suite *suite = suite_create("victim");
    victim_args = args;
    tcase_add_test(fc_e2e_case(suite, "victim"), be_the_victim);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_SILENT);
    srunner_free(runner);
    return EXIT_FAILURE;
}

/* Starts the victim and kills it with its requests where they should be. False: the long one ended before that. */
static bool kill_a_client(flashcore_client *watcher, const char *url, uint32_t tokens_count)
{
    char tokens[16], self[FC_E2E_PATH_BYTES];
    snprintf(tokens, sizeof tokens, "%u", tokens_count);
    ssize_t bytes = readlink("/proc/self/exe", self, sizeof self - 1);
    ck_assert_int_gt(bytes, 0);
    self[bytes] = '\0';
    double replied = fc_job_counter(watcher, "replies_ok"), asked = 0;
    double dropped = fc_job_counter(watcher, "dropped");
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STOP_MS);
    pid_t pid = fc_e2e_spawn(self, (const char *const[]){"--client", url, tokens, NULL}, NULL);
    /* replies_ok counts the questions asked here too. */
    while (fc_job_counter(watcher, "queued") < VICTIM_QUEUED &&
           fc_job_counter(watcher, "replies_ok") - replied - (asked += 2) < VICTIM_QUEUED) {
        ck_assert_msg(fc_e2e_now_us() < end_us, "the victim sends nothing");
    }
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(fc_e2e_reap(pid, FC_E2E_STEP_MS), -SIGKILL);
    fc_job_wait_counter_down(watcher, "queued", 0);
    return fc_job_counter(watcher, "dropped") == dropped + VICTIM_QUEUED;
}

START_TEST(a_client_killed_mid_request_harms_nobody)
{
    static const char *const args[] = {"--lanes", "1", "--batch-requests", "1", NULL};
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, args);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_job_spec spec = fc_job_long_spec(url, HOLD_US);
    for (int killed = 0, attempt = 0; killed < 3; attempt++) {
        ck_assert_msg(attempt < 24, "the victim's requests never waited long enough to see them");
        if (kill_a_client(client, killed % 2 == 0 ? daemon.ipc_url : daemon.tcp_url, spec.q_len))
            killed++;
        else if (spec.q_len < 16384)
            spec.q_len += spec.q_len / 2;
        fc_job_expect_service(daemon.ipc_url);
        fc_job_wait_counter_down(client, "running", 0);
    }
    ck_assert(fc_job_counter(client, "dropped") + fc_job_counter(client, "launched_requests") ==
              fc_job_counter(client, "requests_attend"));
    fc_job_wait_counter_down(client, "pipes", 1);
    flashcore_client_destroy(client);
    fc_e2e_stop(&daemon);
}
END_TEST

/* Large replies half sent when their reader dies: Debian's nng loses such connections, the daemon must not care, and
 * has its pinned memory back. */
START_TEST(readers_that_die_harm_nobody)
{
    enum { READERS = 8, BYTES = 4 << 20 };
    fc_e2e_daemon daemon;
    fc_bytes request = {0};
    int fds[READERS];
    if (_i >= 2)
        fc_e2e_use_fake_engine("");
    fc_e2e_start(&daemon, NULL);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_pack_large_attend(&request, 1, BYTES);
    for (int i = 0; i < READERS; i++)
        fds[i] = fc_raw_ask(_i % 2 == 0 ? daemon.ipc_url : daemon.tcp_url, &request);
    fc_job_wait_counter(client, "launched_requests", READERS);
    fc_job_wait_counter_down(client, "running", 0);
    for (int i = 0; i < READERS; i++)
        close(fds[i]);
    fc_job_expect_service(daemon.ipc_url);
    fc_job_expect_service(daemon.tcp_url);
    ck_assert_int_eq(fc_job_counter(client, "pinned_messages") > 0, !fc_e2e_on_cpu());
    fc_job_wait_counter_down(client, "pinned_message_bytes", 0);
    fc_bytes_fini(&request);
    flashcore_client_destroy(client);
    fc_e2e_stop(&daemon);
}
END_TEST

/* --- the daemon dies --------------------------------------------------------------------------------------------- */

/* Until it works again. What was under way when the connection broke may say so once or twice. */
static void attend_until_ok(flashcore_client *client)
{
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    fc_job job;
    flashcore_result result;
    fc_job_make(&SMALL, &job);
    while (flashcore_attend(client, &job.request, &result) != FLASHCORE_OK) {
        ck_assert_msg(result.status == FLASHCORE_CONNECTION_LOST || result.status == FLASHCORE_UNREACHABLE, "%s: %s",
                      flashcore_status_name(result.status), result.error);
        ck_assert_msg(fc_e2e_now_us() < end_us, "the client never found the new daemon: %s", result.error);
    }
    fc_job_check(&job);
    fc_job_free(&job);
}

START_TEST(a_client_outlives_its_daemon)
{
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, NULL);
    const char *url = _i == 0 ? daemon.ipc_url : daemon.tcp_url;
    flashcore_client *client = fc_job_client(&url, 1);
    attend_until_ok(client);
    for (int round = 0; round < 2; round++) {
        fc_e2e_kill(&daemon);
        ck_assert_int_eq(access(daemon.ipc_path, F_OK), 0); /* the stale file it has to get over */
        fc_e2e_restart(&daemon, NULL);
        attend_until_ok(client);
    }
    flashcore_client_destroy(client);
    fc_e2e_stop(&daemon);
}
END_TEST

/* Kills the daemon while the request runs, and starts another. False: the answer came first. */
static bool kill_under_a_request(fc_e2e_daemon *daemon, flashcore_client *client, const fc_job_spec *spec)
{
    fc_job job;
    fc_job_make(spec, &job);
    double received = fc_job_counter(client, "requests_attend");
    flashcore_call *call = fc_job_submit(client, &job);
    fc_job_wait_counter(client, "requests_attend", received + 1);
    fc_e2e_kill(daemon);
    flashcore_result result = fc_job_finish(call);
    fc_job_free(&job);
    fc_e2e_restart(daemon, NULL);
    if (result.status == FLASHCORE_OK)
        return false;
    ck_assert_msg(result.status == FLASHCORE_CONNECTION_LOST, "%s: %s", flashcore_status_name(result.status),
                  result.error);
    attend_until_ok(client);
    ck_assert_msg(fc_job_counter(client, "requests_attend") <= 3, "the lost request was sent again");
    return true;
}

/* A request that may have started is reported, at once, never repeated. */
START_TEST(a_request_on_a_dying_daemon_is_reported)
{
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, NULL);
    const char *url = _i == 0 ? daemon.ipc_url : daemon.tcp_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_job_spec spec = fc_job_long_spec(url, HOLD_US);
    for (int attempt = 0; !kill_under_a_request(&daemon, client, &spec); attempt++) {
        ck_assert_msg(attempt < 5, "the request always ended first");
        spec.q_len += spec.q_len / 2;
    }
    flashcore_client_destroy(client);
    fc_e2e_stop(&daemon);
}
END_TEST

START_TEST(nobody_at_home_is_unreachable)
{
    fc_e2e_daemon daemon;
    flashcore_options options;
    flashcore_client *client;
    flashcore_result result;
    fc_job job;
    fc_e2e_place(&daemon);
    const char *urls[] = {daemon.ipc_url, daemon.tcp_url};
    flashcore_options_init(&options);
    options.urls = urls;
    options.url_count = 2;
    options.connect_timeout_us = 50000;
    ck_assert_int_eq(flashcore_client_create(&options, &client), FLASHCORE_OK);
    fc_job_make(&SMALL, &job);
    ck_assert_int_eq(flashcore_attend(client, &job.request, &result), FLASHCORE_UNREACHABLE);
    ck_assert_str_ne(result.error, "");
    fc_job_free(&job);
    flashcore_client_destroy(client);
    fc_e2e_forget(&daemon);
}
END_TEST

/* --- two daemons ------------------------------------------------------------------------------------------------- */

START_TEST(a_living_socket_is_left_alone)
{
    fc_e2e_daemon first, second;
    fc_e2e_start(&first, NULL);
    const char *url = _i == 0 ? first.ipc_url : first.tcp_url;
    flashcore_client *client = fc_job_client(&url, 1);
    attend_until_ok(client);
    for (int attempt = 0; attempt < 3; attempt++) {
        fc_e2e_place(&second);
        if (_i == 0)
            snprintf(second.ipc_url, sizeof second.ipc_url, "%s", first.ipc_url);
        else
            snprintf(second.tcp_url, sizeof second.tcp_url, "%s", first.tcp_url);
        fc_e2e_launch(&second, NULL);
        int code = fc_e2e_wait_exit(&second, FC_E2E_START_MS);
        ck_assert_msg(code > 0 && code < 126, "the second daemon ended with %d", code);
        fc_e2e_wait_log(&second, url + 6, NULL);
        fc_e2e_forget(&second);
        attend_until_ok(client);
        fc_job_expect_service(url);
    }
    flashcore_client_destroy(client);
    fc_e2e_stop(&first);
}
END_TEST

/* The file of a daemon that was killed is replaced; a file that is no socket is not ours to remove. */
START_TEST(only_dead_sockets_are_replaced)
{
    fc_e2e_daemon daemon;
    fc_e2e_place(&daemon);
    fc_e2e_write_file(daemon.ipc_path, "keep me", 7);
    fc_e2e_launch(&daemon, NULL);
    int code = fc_e2e_wait_exit(&daemon, FC_E2E_START_MS);
    ck_assert_msg(code > 0 && code < 126, "ended with %d", code);
    char *kept = fc_e2e_read_file(daemon.ipc_path, NULL);
    ck_assert_ptr_nonnull(kept);
    ck_assert_str_eq(kept, "keep me");
    free(kept);
    unlink(daemon.ipc_path);
    fc_e2e_restart(&daemon, NULL);
    fc_e2e_kill(&daemon);
    ck_assert_int_eq(access(daemon.ipc_path, F_OK), 0);
    fc_e2e_restart(&daemon, NULL);
    fc_job_expect_service(daemon.ipc_url);
    fc_e2e_stop(&daemon);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--client") == 0)
        return run_victim(argv + 2);
    Suite *suite = suite_create("crash");
    TCase *clients = fc_e2e_case(suite, "clients");
    tcase_add_test(clients, a_client_killed_mid_request_harms_nobody);
    tcase_add_loop_test(clients, readers_that_die_harm_nobody, 0, 4);
    TCase *daemons = fc_e2e_case(suite, "daemons");
    tcase_add_loop_test(fc_e2e_case(suite, "restarts"), a_client_outlives_its_daemon, 0, 2);
    tcase_add_loop_test(daemons, a_request_on_a_dying_daemon_is_reported, 0, 2);
    tcase_add_test(daemons, nobody_at_home_is_unreachable);
    tcase_add_loop_test(daemons, a_living_socket_is_left_alone, 0, 2);
    tcase_add_test(daemons, only_dead_sockets_are_replaced);
    return fc_e2e_main(suite);
}
