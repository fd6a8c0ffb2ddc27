/* Metrics and health of the shipped daemon, asked for over HTTP by the patient and by the ill-mannered. */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/e2e/scrape.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static fc_e2e_daemon daemon_under_test;
static char address[FC_E2E_PATH_BYTES];

static void set_up(void)
{
    const char *args[] = {"--metrics", address, NULL};
    fc_e2e_place(&daemon_under_test);
    fc_scrape_address(&daemon_under_test, address);
    fc_e2e_launch(&daemon_under_test, args);
    fc_e2e_wait_notify(&daemon_under_test, "READY=1");
}

static void tear_down(void)
{
    fc_job_expect_service(daemon_under_test.ipc_url);
    fc_e2e_stop(&daemon_under_test);
}

static char *scrape(void)
{
    int status = 0;
    char *answer = fc_scrape_get(address, "/metrics", &status);
    ck_assert_int_eq(status, 200);
    return answer;
}

static double value_of(const char *sample)
{
    char *answer = scrape();
    double value = fc_scrape_value(answer, sample);
    free(answer);
    return value;
}

/* --- what is told ------------------------------------------------------------------------------------------------- */

START_TEST(requests_are_counted_and_timed)
{
    static const char *const attends[] = {
        "flashcored_requests_total{op=\"attend\"}", "flashcored_total_seconds_count",
        "flashcored_queue_seconds_count",           "flashcored_reply_seconds_count",
        "flashcored_launched_requests_total",       "flashcored_batch_requests_sum",
    };
    enum { JOBS = 5 };
    double before[sizeof attends / sizeof attends[0]];
    for (size_t i = 0; i < sizeof attends / sizeof attends[0]; i++)
        before[i] = value_of(attends[i]);
    for (int i = 0; i < JOBS; i++)
        fc_job_expect_service(i % 2 == 0 ? daemon_under_test.ipc_url : daemon_under_test.tcp_url);
    /* A reply is counted as sent a moment after its client has it. */
    for (size_t i = 0; i < sizeof attends / sizeof attends[0]; i++) {
        fc_scrape_await(address, attends[i], before[i] + JOBS);
        ck_assert_double_eq(value_of(attends[i]), before[i] + JOBS);
    }
    ck_assert(value_of("flashcored_total_seconds_sum") > 0);
    ck_assert(value_of("flashcored_kernel_seconds_sum") > 0);
    ck_assert(value_of("flashcored_total_seconds_sum") >= value_of("flashcored_queue_seconds_sum"));
    ck_assert(value_of("flashcored_received_bytes_total") > 0);
    ck_assert(value_of("process_resident_memory_bytes") > 1e6);
    ck_assert_double_eq(value_of("flashcored_draining"), 0);
}
END_TEST

START_TEST(connections_are_counted_by_their_way_in)
{
    const char *urls[] = {daemon_under_test.ipc_url, daemon_under_test.tcp_url};
    flashcore_client *clients[2];
    for (int i = 0; i < 2; i++) {
        clients[i] = fc_job_client(&urls[i], 1);
        ck_assert_int_eq(flashcore_ping(clients[i], 0, NULL), FLASHCORE_OK);
    }
    fc_scrape_await(address, "flashcored_pipes", 1);
    ck_assert_double_eq(value_of("flashcored_pipes_tcp"), 1);
    flashcore_client_destroy(clients[1]);
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    while (value_of("flashcored_pipes_tcp") > 0)
        ck_assert(fc_e2e_now_us() < end_us);
    flashcore_client_destroy(clients[0]);
}
END_TEST

/* A limit of clients' is none of the self-test's. */
START_TEST(it_stays_ready_whatever_clients_may_do)
{
    const char *args[] = {
        "--metrics", address, "--ready-timeout", "1s", "--requests-per-second", "1", "--inflight-per-peer", "1", NULL};
    fc_e2e_stop(&daemon_under_test);
    fc_e2e_place(&daemon_under_test);
    fc_scrape_address(&daemon_under_test, address);
    fc_e2e_launch(&daemon_under_test, args);
    fc_e2e_wait_notify(&daemon_under_test, "READY=1");
    fc_scrape_await(address, "flashcored_probes_total", 6);
    ck_assert_double_eq(value_of("flashcored_probes_failed_total"), 0);
    ck_assert_double_eq(value_of("flashcored_ready"), 1);
}
END_TEST

/* What a scrape tells is in docs/metrics.md, by name; the tests run in the repository's root. */
START_TEST(every_metric_is_documented)
{
    char *page = fc_e2e_read_file("docs/metrics.md", NULL), *answer = scrape(), *save = NULL;
    int count = 0;
    ck_assert_ptr_nonnull(page);
    for (char *line = strtok_r(answer, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char name[64], type[32], row[128];
        if (sscanf(line, "# TYPE %63s %31s", name, type) != 2)
            continue;
        snprintf(row, sizeof row, "| `%s` | %s |", name, type);
        ck_assert_msg(strstr(page, row) != NULL, "%s is not in docs/metrics.md: run `make docs`", name);
        count++;
    }
    ck_assert_int_gt(count, 30);
    free(page);
    free(answer);
}
END_TEST

START_TEST(it_is_healthy)
{
    static const struct {
        const char *path;
        int status;
    } rows[] = {{"/healthz", 200}, {"/metrics?a=b", 200}, {"/", 404}, {"/metrics/", 404}, {"/../etc/passwd", 404}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int status = 0;
        free(fc_scrape_get(address, rows[i].path, &status));
        ck_assert_msg(status == rows[i].status, "%s: %d", rows[i].path, status);
    }
}
END_TEST

static void await_ready(int status, const char *text)
{
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    for (int found = 0; found != status;) {
        char *answer = fc_scrape_get(address, "/readyz", &found);
        ck_assert_msg(found == 200 || found == 503, "%s", answer);
        if (found == status)
            ck_assert_msg(strstr(answer, text) != NULL, "no \"%s\" in %s", text, answer);
        ck_assert_msg(found == status || fc_e2e_now_us() < end_us, "%s", answer);
        free(answer);
    }
}

/* It finds out by itself whether it computes, and does not count that as a request. */
START_TEST(it_is_ready_once_it_has_computed)
{
    await_ready(200, "ready\n");
    ck_assert_double_eq(value_of("flashcored_requests_total{op=\"attend\"}"), 0);
    ck_assert_double_eq(value_of("flashcored_launches_total"), 0);
    ck_assert(value_of("flashcored_probes_total") >= 1);
    ck_assert_double_eq(value_of("flashcored_probes_failed_total"), 0);
    ck_assert_double_eq(value_of("flashcored_ready"), 1);
}
END_TEST

/* The one lane is at a long launch: not ready after ready-timeout, ready again afterwards; and not while draining. */
START_TEST(it_is_not_ready_while_the_lane_is_stuck_or_draining)
{
    static const char *const args[] = {"--metrics", NULL, "--ready-timeout", "1s", "--drain-timeout", "300s", NULL};
    fc_e2e_daemon other;
    char kept[sizeof address];
    const char *with_address[sizeof args / sizeof args[0]];
    memcpy(with_address, args, sizeof args);
    memcpy(kept, address, sizeof address);
    fc_e2e_place(&other);
    fc_scrape_address(&other, address);
    with_address[1] = address;
    fc_e2e_launch(&other, with_address);
    fc_e2e_wait_notify(&other, "READY=1");
    fc_job_spec spec = fc_job_long_spec(other.ipc_url, 4e6); /* at least half of it: ready-timeout twice */
    fc_job job;
    const char *url = other.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    fc_job_make(&spec, &job);
    flashcore_call *call = fc_job_submit(client, &job);
    fc_scrape_await(address, "flashcored_running", 1);
    await_ready(503, " for "); /* of the lane, or of the self-test behind it */
    ck_assert_int_eq(fc_job_finish(call).status, FLASHCORE_OK);
    await_ready(200, "ready\n");

    call = fc_job_submit(client, &job);
    fc_scrape_await(address, "flashcored_running", 1);
    fc_e2e_signal(&other, SIGTERM);
    fc_scrape_await(address, "flashcored_draining", 1);
    await_ready(503, "draining\n");
    ck_assert_int_eq(fc_job_finish(call).status, FLASHCORE_OK);
    ck_assert_int_eq(fc_e2e_wait_exit(&other, FC_E2E_STOP_MS), 0);
    flashcore_client_destroy(client);
    fc_job_free(&job);
    fc_e2e_forget(&other);
    memcpy(address, kept, sizeof address);
}
END_TEST

/* With everything called slow, a request's line says where its time went; a reload turns it off. */
START_TEST(slow_requests_are_logged)
{
    static const char *const args[] = {"--slow-request", "1us", NULL};
    static const char *const keys[] = {" queue_us=", " copy_in_us=", " kernel_us=", " copy_out_us=", " reply_us=",
                                       " batch=",    " kernel=",     " dtype=",     " shape=\"B",    " peer="};
    fc_e2e_daemon other;
    size_t offset = 0;
    fc_e2e_start(&other, args);
    fc_job_expect_service(other.ipc_url);
    fc_e2e_wait_log(&other, "event=slow_request ", &offset);
    fc_e2e_wait_log(&other, " kernel_us=", &offset);
    char *log = fc_e2e_read_file(other.log_path, NULL);
    const char *line = strstr(log, " kernel_us=");
    while (line > log && line[-1] != '\n')
        line--;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *found = strstr(line, keys[i]);
        ck_assert_msg(found != NULL && found < strchr(line, '\n'), "no \"%s\" in %s", keys[i], line);
    }
    free(log);
    fc_e2e_stop(&other);
}
END_TEST

START_TEST(it_serves_on_a_port_too)
{
    static const char *const args[] = {"--metrics", "127.0.0.1:0", NULL};
    fc_e2e_daemon other;
    char port_address[64];
    int status = 0;
    fc_e2e_start(&other, args);
    char *log = fc_e2e_read_file(other.log_path, NULL), *place = strstr(log, " metrics=127.0.0.1:");
    ck_assert_msg(place != NULL && sscanf(place, " metrics=%63s", port_address) == 1, "%s", log);
    free(log);
    free(fc_scrape_get(port_address, "/healthz", &status));
    ck_assert_int_eq(status, 200);
    fc_e2e_stop(&other);
}
END_TEST

START_TEST(an_address_for_everybody_has_to_be_wished_for)
{
    static const struct {
        const char *args[5], *part;
    } rows[] = {
        {{"--metrics", "0.0.0.0:0"}, "--insecure-metrics"},
        {{"--metrics", "[::]:0"}, "--insecure-metrics"},
        {{"--metrics", "nowhere"}, "expected 127.0.0.1:PORT"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_e2e_run_result run;
        fc_e2e_run("flashcored", rows[i].args, &run);
        ck_assert_int_eq(run.exit_code, 2);
        ck_assert_msg(strstr(run.err, rows[i].part) != NULL, "%s", run.err);
        fc_e2e_run_free(&run);
    }
    static const char *const wished[] = {"--metrics", "0.0.0.0:0", "--insecure-metrics", NULL};
    fc_e2e_daemon other;
    fc_e2e_start(&other, wished);
    fc_e2e_stop(&other);
}
END_TEST

/* A second daemon at the same address says so and ends; the first one's socket stays. */
START_TEST(an_address_that_is_taken_is_an_error)
{
    const char *args[] = {"--metrics", address, NULL};
    fc_e2e_daemon other;
    int status = 0;
    fc_e2e_place(&other);
    fc_e2e_launch(&other, args);
    ck_assert_int_eq(fc_e2e_wait_exit(&other, FC_E2E_STOP_MS), 1);
    fc_e2e_wait_log(&other, "reason=\"metrics: ", NULL);
    fc_e2e_forget(&other);
    free(fc_scrape_get(address, "/healthz", &status));
    ck_assert_int_eq(status, 200);
}
END_TEST

/* --- the ill-mannered --------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *text;
    bool stays; /* without an end to its request: it waits, and is cut */
} RUDE[] = {
    {"nothing", "", true},
    {"half a line", "GET /met", true},
    {"half a head", "GET /metrics HTTP/1.1\r\nHost: x\r\nA: ", true},
    {"a body that never comes", "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n", false},
    {"an endless chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", false},
    {"a negative length", "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", false},
    {"another protocol", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", true},
    {"no version", "GET /metrics\r\n\r\n", false},
    {"a method of its own", "BREW /metrics HTTP/1.1\r\nHost: x\r\n\r\n", false},
    {"a bare line feed", "GET /metrics HTTP/1.1\nHost: x\n\n", false},
};

START_TEST(the_rude_do_not_disturb)
{
    enum { EACH = 20 };
    for (int i = 0; i < EACH; i++) {
        int fd = fc_scrape_dial(address);
        struct linger hard = {.l_onoff = 1};
        ck_assert_int_ge(fd, 0);
        send(fd, RUDE[_i].text, strlen(RUDE[_i].text), MSG_NOSIGNAL);
        if (i % 4 == 0 && !RUDE[_i].stays)
            free(fc_scrape_read_all(fd));
        else if (i % 4 == 1)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), close(fd);
        else
            close(fd);
    }
    ck_assert(value_of("flashcored_lanes") > 0);
}
END_TEST

START_TEST(a_huge_head_is_refused)
{
    static char filler[1 << 20];
    int fd = fc_scrape_dial(address);
    memset(filler, 'a', sizeof filler);
    memcpy(filler, "GET /metrics HTTP/1.1\r\nX: ", 26);
    send(fd, filler, sizeof filler, MSG_NOSIGNAL | MSG_DONTWAIT);
    char *answer = fc_scrape_read_all(fd);
    ck_assert_msg(answer[0] == '\0' || strncmp(answer, "HTTP/1.1 4", 10) == 0, "%.200s", answer);
    free(answer);
}
END_TEST

/* More silent connections than there is room for: they are cut after a while, and who asks then is answered. Attention
 * goes on meanwhile. */
START_TEST(many_silent_connections_are_outlived)
{
    enum { SILENT = 40 }; /* 32 are served at once */
    int fds[SILENT];
    double before = value_of("process_open_fds");
    for (int i = 0; i < SILENT; i++) {
        fds[i] = fc_scrape_dial(address);
        ck_assert_int_ge(fds[i], 0);
        send(fds[i], "GET /", 5, MSG_NOSIGNAL);
    }
    fc_job_expect_service(daemon_under_test.ipc_url);
    free(fc_scrape_read_all(fds[0])); /* until it is cut */
    ck_assert_int_eq(value_of("flashcored_lanes") > 0, true);
    for (int i = 1; i < SILENT; i++)
        close(fds[i]);
    ck_assert(value_of("process_open_fds") < before + 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *told = fc_e2e_case(suite, "told");
    tcase_add_checked_fixture(told, set_up, tear_down);
    tcase_add_test(told, requests_are_counted_and_timed);
    tcase_add_test(told, connections_are_counted_by_their_way_in);
    tcase_add_test(told, it_stays_ready_whatever_clients_may_do);
    tcase_add_test(told, every_metric_is_documented);
    tcase_add_test(told, it_is_healthy);
    tcase_add_test(told, it_is_ready_once_it_has_computed);
    tcase_add_test(told, it_is_not_ready_while_the_lane_is_stuck_or_draining);
    tcase_add_test(told, slow_requests_are_logged);
    tcase_add_test(told, it_serves_on_a_port_too);
    tcase_add_test(told, an_address_for_everybody_has_to_be_wished_for);
    tcase_add_test(told, an_address_that_is_taken_is_an_error);
    TCase *rude = fc_e2e_case(suite, "the ill-mannered");
    tcase_add_checked_fixture(rude, set_up, tear_down);
    tcase_add_loop_test(rude, the_rude_do_not_disturb, 0, (int)(sizeof RUDE / sizeof RUDE[0]));
    tcase_add_test(rude, a_huge_head_is_refused);
    tcase_add_test(rude, many_silent_connections_are_outlived);
    return fc_e2e_main(suite);
}
