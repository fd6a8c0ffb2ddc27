/* tls+tcp: who gets in and what the others are told, answers, replacing certificates while serving, peers that die. */
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/support/certs.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const fc_job_spec SMALL = {
    .name = "small", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 8, .kv_len = 8, .head_dim = 16};
static const fc_job_spec LARGE = {.name = "large",
                                  .dtype = FLASHCORE_F32,
                                  .batch = 1,
                                  .q_heads = 4,
                                  .kv_heads = 1,
                                  .q_len = 8192,
                                  .kv_len = 4,
                                  .head_dim = 64};

typedef struct secured {
    fc_e2e_daemon daemon;
    fc_certs ours, theirs;
    fc_cert server, client, stranger;
    uint16_t port;
    char url[FC_E2E_PATH_BYTES];
} secured;

/* A daemon that wants certificates of `ours` at a port of its own choice. */
static void start(secured *s)
{
    fc_e2e_place(&s->daemon);
    fc_certs_open(&s->ours, s->daemon.dir, "ours");
    fc_certs_open(&s->theirs, s->daemon.dir, "theirs");
    s->server = fc_certs_issue(&s->ours, "server", "first", 30);
    s->client = fc_certs_issue(&s->ours, "client", "client", 30);
    s->stranger = fc_certs_issue(&s->theirs, "stranger", "stranger", 30);
    const char *args[] = {"--listen",  "tls+tcp://127.0.0.1:0", "--tls-cert",      s->server.cert_path,
                          "--tls-key", s->server.key_path,      "--tls-client-ca", s->ours.ca_path,
                          NULL};
    fc_e2e_launch(&s->daemon, args);
    fc_e2e_wait_notify(&s->daemon, "READY=1");
    char *log = fc_e2e_read_file(s->daemon.log_path, NULL);
    const char *url = strstr(log, "tls+tcp://");
    ck_assert_ptr_nonnull(url);
    s->port = (uint16_t)atoi(strrchr(url, ':') != NULL ? strchr(url + strlen("tls+tcp://"), ':') + 1 : "0");
    free(log);
    ck_assert_uint_ne(s->port, 0);
    snprintf(s->url, sizeof s->url, "tls+tcp://127.0.0.1:%u", (unsigned)s->port);
}

static void stop(secured *s)
{
    fc_e2e_stop(&s->daemon);
    fc_certs_close(&s->ours);
    fc_certs_close(&s->theirs);
}

static flashcore_client *make_client(const secured *s, const char *ca, const fc_cert *cert, uint64_t connect_us)
{
    flashcore_options options;
    flashcore_client *client = NULL;
    const char *url = s->url;
    flashcore_options_init(&options);
    options.urls = &url;
    options.url_count = 1;
    options.tls_ca = ca;
    options.tls_cert = cert != NULL ? cert->cert_path : NULL;
    options.tls_key = cert != NULL ? cert->key_path : NULL;
    if (connect_us != 0)
        options.connect_timeout_us = connect_us;
    ck_assert_msg(flashcore_client_create(&options, &client) == FLASHCORE_OK, "%s", flashcore_last_error());
    return client;
}

START_TEST(answers_are_right)
{
    secured s;
    start(&s);
    flashcore_client *client = make_client(&s, s.ours.ca_path, &s.client, 0);
    enum { CALLS = 6 };
    fc_job jobs[CALLS];
    flashcore_call *calls[CALLS];
    for (int i = 0; i < CALLS; i++) {
        fc_job_make(i % 2 == 0 ? &SMALL : &LARGE, &jobs[i]);
        calls[i] = fc_job_submit(client, &jobs[i]);
    }
    for (int i = 0; i < CALLS; i++) {
        flashcore_result result = fc_job_finish(calls[i]);
        ck_assert_msg(result.status == FLASHCORE_OK, "%s", result.error);
        fc_job_check(&jobs[i]);
        fc_job_free(&jobs[i]);
    }
    flashcore_client_destroy(client);
    stop(&s);
}
END_TEST

START_TEST(strangers_stay_out_and_are_told_why)
{
    secured s;
    start(&s);
    const struct {
        const char *ca;
        const fc_cert *cert;
        const char *why;
    } rows[] = {{s.ours.ca_path, NULL, "certificate"},
                {s.ours.ca_path, &s.stranger, "unknown ca"},
                {s.theirs.ca_path, &s.client, "certificate"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        /* Long enough for some attempts on any machine: a reset may overtake the alert of one. */
        flashcore_client *client = make_client(&s, rows[i].ca, rows[i].cert, (uint64_t)fc_e2e_limit_ms(2000) * 1000u);
        flashcore_status status = flashcore_ping(client, 0, NULL);
        ck_assert_msg(status == FLASHCORE_UNAUTHORIZED && strstr(flashcore_last_error(), rows[i].why) != NULL,
                      "%zu: %s: %s", i, flashcore_status_name(status), flashcore_last_error());
        flashcore_client_destroy(client);
    }
    const char *url = s.daemon.ipc_url;
    flashcore_client *watcher = fc_job_client(&url, 1);
    fc_job_wait_counter(watcher, "tls_refused", 3);
    flashcore_client_destroy(watcher);
    fc_e2e_wait_log(&s.daemon, "tls_refused", NULL);
    stop(&s);
}
END_TEST

/* Says nothing. */
static int connect_to(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Who speaks no TLS, or nothing at all, does no harm, and is not put up with for long. */
START_TEST(others_do_no_harm)
{
    enum { SILENT = 300 }; /* more than may be at their handshake at once */
    secured s;
    start(&s);
    char plain[FC_E2E_PATH_BYTES];
    snprintf(plain, sizeof plain, "tcp://127.0.0.1:%u", (unsigned)s.port);
    int silent[SILENT];
    for (int i = 0; i < SILENT; i++)
        silent[i] = connect_to(s.port);
    /* Nobody waits for them: those who came first make way. */
    flashcore_client *client = make_client(&s, s.ours.ca_path, &s.client, (uint64_t)fc_e2e_limit_ms(5000) * 1000u);
    ck_assert_msg(flashcore_ping(client, 0, NULL) == FLASHCORE_OK, "%s", flashcore_last_error());
    flashcore_client_destroy(client);
    for (int i = 0; i < 50; i++) {
        fc_bytes garbage = {0};
        fc_pack_attend(&garbage, 1);
        close(fc_raw_ask(plain, &garbage));
        fc_bytes_fini(&garbage);
    }
    for (int i = 0; i < SILENT; i++) {
        ck_assert_msg(fc_raw_wait_closed(silent[i], 30000), "%d is still there", i);
        close(silent[i]);
    }
    client = make_client(&s, s.ours.ca_path, &s.client, 0);
    ck_assert_msg(flashcore_ping(client, 0, NULL) == FLASHCORE_OK, "%s", flashcore_last_error());
    flashcore_client_destroy(client);
    stop(&s);
}
END_TEST

static void want_served(const secured *s, const char *name)
{
    char served[64];
    fc_certs_served(s->port, served, sizeof served);
    ck_assert_str_eq(served, name);
}

/* The certificate that is served changes; connections that are there stay, and what is under way on them is answered.
 */
START_TEST(certificates_are_replaced_while_serving)
{
    enum { CALLS = 24 };
    static fc_job jobs[CALLS];
    static flashcore_call *calls[CALLS];
    secured s;
    size_t at = 0;
    start(&s);
    want_served(&s, "first");
    flashcore_client *client = make_client(&s, s.ours.ca_path, &s.client, 0);
    ck_assert_msg(flashcore_ping(client, 0, NULL) == FLASHCORE_OK, "%s", flashcore_last_error());
    double closed = fc_job_counter(client, "pipes_closed");
    for (int i = 0; i < CALLS; i++) {
        fc_job_make(&LARGE, &jobs[i]);
        calls[i] = fc_job_submit(client, &jobs[i]);
        if (i == CALLS / 2) {
            fc_certs_issue(&s.ours, "server", "second", 30);
            fc_e2e_signal(&s.daemon, SIGHUP);
            fc_e2e_wait_log(&s.daemon, "event=reloaded", &at);
        }
    }
    want_served(&s, "second");
    for (int i = 0; i < CALLS; i++) {
        flashcore_result result = fc_job_finish(calls[i]);
        ck_assert_msg(result.status == FLASHCORE_OK, "%d: %s", i, result.error);
        fc_job_free(&jobs[i]);
    }
    ck_assert(fc_job_counter(client, "pipes_closed") == closed);

    /* Files that will not do change nothing. */
    ck_assert_int_eq(chmod(s.server.key_path, 0644), 0);
    fc_certs_issue(&s.ours, "other", "other", 30);
    fc_e2e_signal(&s.daemon, SIGHUP);
    fc_e2e_wait_log(&s.daemon, "event=reload_failed", &at);
    want_served(&s, "second");
    flashcore_client_destroy(client);
    flashcore_client *newcomer = make_client(&s, s.ours.ca_path, &s.client, 0);
    ck_assert_int_eq(flashcore_ping(newcomer, 0, NULL), FLASHCORE_OK);
    flashcore_client_destroy(newcomer);
    stop(&s);
}
END_TEST

/* Peers killed in the middle of large messages either way: nng forgets such connections, the daemon does not. */
START_TEST(killed_peers_are_noticed)
{
    enum { ROUNDS = 6 };
    secured s;
    start(&s);
    const char *url = s.daemon.ipc_url;
    flashcore_client *watcher = fc_job_client(&url, 1);
    for (int i = 0; i < ROUNDS; i++) {
        double asked = fc_job_counter(watcher, "requests_attend");
        const char *args[] = {"--url",      s.url,
                              "--tls-ca",   s.ours.ca_path,
                              "--tls-cert", s.client.cert_path,
                              "--tls-key",  s.client.key_path,
                              "--clients",  "4",
                              "--inflight", "4",
                              "--shape",    "1,8,2048,64",
                              "--kv-len",   "1",
                              "--duration", "60",
                              "--quiet",    NULL};
        pid_t pid = fc_e2e_spawn("bench_client", args, NULL);
        fc_job_wait_counter(watcher, "requests_attend", asked + 8 + 5 * i);
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_int_eq(fc_e2e_reap(pid, FC_E2E_STEP_MS), -SIGKILL);
    }
    /* All are ended, or nng hung on one, which is counted. Either way others are served, and the daemon can leave. */
    uint64_t end_us = fc_e2e_end_us(20000);
    while (fc_job_counter(watcher, "pipes") > 1 && fc_job_counter(watcher, "pipes_leaked") == 0)
        ck_assert_msg(fc_e2e_now_us() < end_us, "connections are neither ended nor counted");
    flashcore_client *client = make_client(&s, s.ours.ca_path, &s.client, 0);
    ck_assert_msg(flashcore_ping(client, 0, NULL) == FLASHCORE_OK, "%s", flashcore_last_error());
    flashcore_client_destroy(client);
    flashcore_client_destroy(watcher);
    stop(&s);
}
END_TEST

/* The load tester, over TLS, verifies. */
START_TEST(tools_speak_tls)
{
    secured s;
    fc_e2e_run_result run;
    start(&s);
    const char *bench[] = {"--url",      s.url,
                           "--tls-ca",   s.ours.ca_path,
                           "--tls-cert", s.client.cert_path,
                           "--tls-key",  s.client.key_path,
                           "--verify",   "--duration",
                           "0.2",        "--warmup",
                           "0",          "--shape",
                           "1,2,64,32",  NULL};
    fc_e2e_run("bench_client", bench, &run);
    ck_assert_msg(run.exit_code == 0, "%s%s", run.out, run.err);
    fc_e2e_run_free(&run);
    const char *ping[] = {"ping", "--url", s.url, "--tls-ca", s.ours.ca_path, "--timeout", "1", NULL};
    fc_e2e_run("flashcorectl", ping, &run);
    ck_assert_int_eq(run.exit_code, 1);
    ck_assert_msg(strstr(run.err, "certificate") != NULL, "%s", run.err);
    fc_e2e_run_free(&run);
    stop(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls");
    TCase *tcase = fc_e2e_case(suite, "tls");
    tcase_add_test(tcase, answers_are_right);
    tcase_add_test(tcase, strangers_stay_out_and_are_told_why);
    tcase_add_test(tcase, others_do_no_harm);
    tcase_add_test(tcase, certificates_are_replaced_while_serving);
    tcase_add_test(tcase, killed_peers_are_noticed);
    tcase_add_test(tcase, tools_speak_tls);
    return fc_e2e_main(suite);
}
