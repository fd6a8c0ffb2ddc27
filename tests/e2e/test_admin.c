/* The admin socket: what it does, that nothing else does it, and that it gets over whatever comes. */
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/e2e/scrape.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct administered {
    fc_e2e_daemon daemon;
    char admin[FC_E2E_PATH_BYTES], config[FC_E2E_PATH_BYTES];
} administered;

static void launch(administered *a)
{
    const char *args[] = {"--admin-socket", a->admin, "--config", a->config, NULL};
    fc_e2e_launch(&a->daemon, args);
    fc_e2e_wait_notify(&a->daemon, "READY=1");
}

static void start(administered *a)
{
    fc_e2e_place(&a->daemon);
    snprintf(a->admin, sizeof a->admin, "%.100s/admin.sock", a->daemon.dir);
    snprintf(a->config, sizeof a->config, "%.100s/conf", a->daemon.dir);
    fc_e2e_write_file(a->config, "queue-requests = 20\n", 20);
    launch(a);
}

/* flashcorectl COMMAND [WORD]; wants this exit code and, in what it says, this text. */
static void want(const administered *a, const char *command, const char *word, int exit_code, const char *text)
{
    fc_e2e_run_result run;
    const char *args[] = {command, "--admin", a->admin, "--timeout", "20", word, NULL};
    fc_e2e_run("flashcorectl", args, &run);
    ck_assert_msg(run.exit_code == exit_code && strstr(run.err, text) != NULL, "%s %s: %d: %s", command,
                  word != NULL ? word : "", run.exit_code, run.err);
    fc_e2e_run_free(&run);
}

/* A URL would not say which daemon is meant: these go to --admin alone. */
START_TEST(urls_are_no_options_of_its_commands)
{
    static const char *const OPTIONS[] = {"--url", "--tls-ca"};
    for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++) {
        char wanted[64];
        fc_e2e_run_result run;
        const char *args[] = {OPTIONS[i], "ipc:///nowhere", "drain", NULL};
        snprintf(wanted, sizeof wanted, "%s is not an option of drain", OPTIONS[i]);
        fc_e2e_run("flashcorectl", args, &run);
        ck_assert_msg(run.exit_code == 2 && strstr(run.err, wanted) != NULL, "%d: %s", run.exit_code, run.err);
        fc_e2e_run_free(&run);
    }
}
END_TEST

START_TEST(drain_ends_the_daemon_well)
{
    administered a;
    start(&a);
    struct stat about;
    ck_assert_int_eq(stat(a.admin, &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777u, 0600);
    fc_job_expect_service(a.daemon.ipc_url);
    want(&a, "drain", "--wait", 0, "");
    ck_assert_int_eq(fc_e2e_wait_exit(&a.daemon, FC_E2E_STOP_MS), 0);
    fc_e2e_wait_log(&a.daemon, "cause=admin", NULL);
    ck_assert_int_ne(access(a.admin, F_OK), 0);
    want(&a, "drain", NULL, 1, "is flashcored running");
    fc_e2e_forget(&a.daemon);
}
END_TEST

START_TEST(reload_says_what_came_of_it)
{
    administered a;
    start(&a);
    fc_e2e_write_file(a.config, "queue-requests = 30\n", 20);
    want(&a, "reload", NULL, 0, "");
    fc_e2e_wait_log(&a.daemon, "option=queue-requests value=30", NULL);
    fc_e2e_write_file(a.config, "queue-requests = -1\n", 20);
    want(&a, "reload", NULL, 1, "queue-requests: expected a count");
    fc_job_expect_service(a.daemon.ipc_url);
    fc_e2e_stop(&a.daemon);
}
END_TEST

START_TEST(words_are_taken_over_or_refused)
{
    administered a;
    size_t at = 0;
    start(&a);
    want(&a, "log-level", "debug", 0, "");
    fc_e2e_wait_log(&a.daemon, "option=log-level value=debug", &at);
    fc_job_expect_service(a.daemon.tcp_url);
    fc_e2e_wait_log(&a.daemon, "event=peer_connected", &at);
    want(&a, "log-level", "loud", 1, "log-level: expected one of error, warn");
    want(&a, "log-level", "info\n", 1, "log-level: expected text, got a control character");
    want(&a, "kernel", "nonsense", 1, "kernel: expected one of auto");
    if (fc_e2e_on_cpu()) {
        want(&a, "kernel", "cpu", 0, "");
        want(&a, "kernel", "fused", 1, "this engine has no fused");
    }
    /* The configuration says otherwise. */
    want(&a, "reload", NULL, 0, "");
    fc_e2e_wait_log(&a.daemon, "option=log-level value=info", &at);
    fc_job_expect_service(a.daemon.ipc_url);
    fc_e2e_stop(&a.daemon);
}
END_TEST

/* Over the sockets of clients nobody administers anything. */
START_TEST(clients_are_not_administrators)
{
    static const char *const ops[] = {"drain", "reload", "log_level", "default_kernel"};
    static const char *const keys[] = {NULL, NULL, "level", "kernel"};
    administered a;
    start(&a);
    for (int way = 0; way < 2; way++) {
        fc_foreign foreign = fc_foreign_open(way == 0 ? a.daemon.ipc_url : a.daemon.tcp_url);
        for (uint64_t i = 0; i < 4; i++) {
            fc_bytes request = {0};
            fc_pack_head(&request, 10 + i, ops[i], keys[i] != NULL ? 1 : 0);
            if (keys[i] != NULL) {
                fc_pack_text(&request, keys[i]);
                fc_pack_text(&request, "auto");
            }
            fc_foreign_expect(&foreign, ops[i], &request, 10 + i, "unauthorized", "admin");
            fc_bytes_fini(&request);
        }
        fc_foreign_close(&foreign);
    }
    fc_job_expect_service(a.daemon.ipc_url);
    fc_e2e_stop(&a.daemon);
}
END_TEST

static int dial(const administered *a)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", a->admin);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Processor time the daemon has had, in clock ticks. */
static unsigned long used_ticks(const administered *a)
{
    char path[FC_E2E_PATH_BYTES];
    unsigned long user = 0, system = 0;
    size_t bytes;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)a->daemon.pid);
    char *stat = fc_e2e_read_file(path, &bytes);
    ck_assert_ptr_nonnull(stat);
    const char *rest = strrchr(stat, ')');
    ck_assert_int_eq(sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
    free(stat);
    return user + system;
}

/* Who comes while there are no descriptors is waited with, not spun on, at either socket. */
START_TEST(without_descriptors_it_waits)
{
    static const struct rlimit NONE = {.rlim_cur = 3, .rlim_max = 3};
    administered a;
    struct rlimit before, low = NONE;
    char metrics[FC_E2E_PATH_BYTES];
    size_t at = 0;
    fc_e2e_place(&a.daemon);
    snprintf(a.admin, sizeof a.admin, "%.100s/admin.sock", a.daemon.dir);
    fc_scrape_address(&a.daemon, metrics);
    fc_e2e_launch(&a.daemon, (const char *[]){"--admin-socket", a.admin, "--metrics", metrics, NULL});
    fc_e2e_wait_notify(&a.daemon, "READY=1");
    ck_assert_int_eq(prlimit(a.daemon.pid, RLIMIT_NOFILE, NULL, &before), 0);
    low.rlim_max = before.rlim_max;
    ck_assert_int_eq(prlimit(a.daemon.pid, RLIMIT_NOFILE, &low, NULL), 0);
    int fds[] = {dial(&a), fc_scrape_dial(metrics)};
    fc_e2e_wait_log(&a.daemon, "event=accept_failed", &at);
    unsigned long ticks = used_ticks(&a);
    fc_e2e_wait_log(&a.daemon, "event=accept_failed", &at); /* a line a second */
    ck_assert_uint_lt(used_ticks(&a) - ticks, (unsigned long)sysconf(_SC_CLK_TCK) / 5);
    ck_assert_int_eq(prlimit(a.daemon.pid, RLIMIT_NOFILE, &before, NULL), 0);
    close(fds[0]);
    close(fds[1]);
    want(&a, "log-level", "debug", 0, "");
    free(fc_scrape_get(metrics, "/healthz", &(int){0}));
    fc_e2e_stop(&a.daemon);
}
END_TEST

/* Garbage, packets that are too long, operations that are not its own, more connections than it keeps. */
START_TEST(it_gets_over_what_comes)
{
    enum { MANY = 40 };
    static char large[8192];
    administered a;
    int fds[MANY];
    fc_bytes hello = {0};
    start(&a);
    fc_pack_head(&hello, 3, "hello", 0);
    for (int i = 0; i < MANY; i++) {
        fds[i] = dial(&a);
        ssize_t sent = send(fds[i], i % 3 == 0 ? (const void *)large : hello.data,
                            i % 3 == 0 ? sizeof large : hello.size - (size_t)(i % 3 - 1), MSG_NOSIGNAL);
        (void)sent; /* it may have hung up */
    }
    for (int i = 0; i < MANY; i++) {
        char reply[2048];
        ssize_t got = recv(fds[i], reply, sizeof reply, 0); /* an answer, or the end */
        ck_assert_int_lt(got, (ssize_t)sizeof reply);
        close(fds[i]);
    }
    fc_bytes_fini(&hello);
    want(&a, "reload", NULL, 0, "");
    fc_job_expect_service(a.daemon.ipc_url);
    fc_e2e_stop(&a.daemon);
}
END_TEST

/* What a killed daemon leaves is in nobody's way; a second one beside a living one is. */
START_TEST(a_dead_ones_socket_is_replaced)
{
    administered a, second;
    start(&a);
    for (int round = 0; round < 2; round++) {
        fc_e2e_kill(&a.daemon);
        ck_assert_int_eq(access(a.admin, F_OK), 0);
        launch(&a);
        want(&a, "log-level", "info", 0, "");
    }
    fc_e2e_place(&second.daemon);
    const char *args[] = {"--admin-socket", a.admin, NULL};
    fc_e2e_launch(&second.daemon, args);
    ck_assert_int_eq(fc_e2e_wait_exit(&second.daemon, FC_E2E_START_MS), 1);
    fc_e2e_wait_log(&second.daemon, "another flashcored serves this socket", NULL);
    fc_e2e_forget(&second.daemon);
    want(&a, "drain", "--wait", 0, "");
    ck_assert_int_eq(fc_e2e_wait_exit(&a.daemon, FC_E2E_STOP_MS), 0);
    fc_e2e_forget(&a.daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admin");
    TCase *tcase = fc_e2e_case(suite, "admin");
    tcase_add_test(tcase, drain_ends_the_daemon_well);
    tcase_add_test(tcase, urls_are_no_options_of_its_commands);
    tcase_add_test(tcase, reload_says_what_came_of_it);
    tcase_add_test(tcase, words_are_taken_over_or_refused);
    tcase_add_test(tcase, clients_are_not_administrators);
    tcase_add_test(tcase, without_descriptors_it_waits);
    tcase_add_test(tcase, it_gets_over_what_comes);
    tcase_add_test(tcase, a_dead_ones_socket_is_replaced);
    return fc_e2e_main(suite);
}
