/* flashcorectl stats --watch as it is used: on a terminal, which has to be as before afterwards, and into a pipe. */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#define TEXT_BYTES (1 << 20)
#define ENTER "\x1b[?1049h"
#define LEAVE "\x1b[?25h\x1b[?1049l"

static fc_e2e_daemon daemon_under_test;

static void set_up(void)
{
    fc_e2e_start(&daemon_under_test, NULL);
}

static void tear_down(void)
{
    fc_job_expect_service(daemon_under_test.ipc_url);
    fc_e2e_stop(&daemon_under_test);
}

typedef struct terminal {
    int fd;
    pid_t pid;
    struct termios before;
    char *text; /* everything that was written to it */
    size_t bytes;
} terminal;

static void open_terminal(terminal *t, const char *interval)
{
    char program[FC_E2E_PATH_BYTES];
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    int inner;
    snprintf(program, sizeof program, "%s/flashcorectl", fc_e2e_build_folder());
    *t = (terminal){.text = calloc(1, TEXT_BYTES)};
    ck_assert_ptr_nonnull(t->text);
    ck_assert_int_eq(openpty(&t->fd, &inner, NULL, NULL, &size), 0);
    ck_assert_int_eq(tcgetattr(inner, &t->before), 0);
    t->pid = fork();
    ck_assert_int_ge(t->pid, 0);
    if (t->pid == 0) {
        close(t->fd);
        login_tty(inner);
        execl(program, program, "--url", daemon_under_test.ipc_url, "stats", "--watch", "--interval", interval,
              (char *)NULL);
        _exit(127);
    }
    /* inner stays open here, so that reading does not fail when the program has ended. */
}

static void await_text(terminal *t, const char *part)
{
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    while (strstr(t->text, part) == NULL) {
        struct pollfd readable = {.fd = t->fd, .events = POLLIN};
        ck_assert_msg(fc_e2e_now_us() < end_us, "no \"%s\" on the terminal, but ... %s", part,
                      t->text + (t->bytes > 1000 ? t->bytes - 1000 : 0));
        if (poll(&readable, 1, 100) != 1)
            continue;
        ssize_t bytes = read(t->fd, t->text + t->bytes, TEXT_BYTES - 1 - t->bytes);
        ck_assert_int_gt(bytes, 0);
        t->bytes += (size_t)bytes;
    }
}

static void expect_as_before(terminal *t)
{
    struct termios after;
    await_text(t, LEAVE);
    ck_assert_int_eq(tcgetattr(t->fd, &after), 0);
    ck_assert_uint_eq(after.c_lflag, t->before.c_lflag);
    ck_assert_uint_eq(after.c_iflag, t->before.c_iflag);
    close(t->fd);
    free(t->text);
}

static const struct {
    const char *name, *keys;
    int signal, exit_code;
} ENDS[] = {
    {"the key q", "xq", 0, 0},
    {"control-C", "\x03", 0, -SIGINT},
    {"a signal", "", SIGTERM, -SIGTERM},
    {"the terminal goes", "", SIGHUP, -SIGHUP},
};

START_TEST(the_terminal_is_as_before)
{
    terminal t;
    open_terminal(&t, "0.05");
    await_text(&t, ENTER);
    await_text(&t, "q ends it");
    ck_assert_int_eq(write(t.fd, ENDS[_i].keys, strlen(ENDS[_i].keys)), (ssize_t)strlen(ENDS[_i].keys));
    if (ENDS[_i].signal != 0)
        kill(t.pid, ENDS[_i].signal);
    ck_assert_msg(fc_e2e_reap(t.pid, FC_E2E_STOP_MS) == ENDS[_i].exit_code, "%s", ENDS[_i].name);
    expect_as_before(&t);
}
END_TEST

/* The daemon ends and another begins under the view: it says so, goes on, and ends by q even so. */
START_TEST(it_outlives_the_daemon)
{
    terminal t;
    open_terminal(&t, "0.05");
    await_text(&t, "q ends it");
    fc_e2e_signal(&daemon_under_test, SIGTERM);
    ck_assert_int_eq(fc_e2e_wait_exit(&daemon_under_test, FC_E2E_STOP_MS), 0);
    await_text(&t, "no connection to ipc://");
    fc_e2e_restart(&daemon_under_test, NULL);
    t.bytes = 0;
    memset(t.text, 0, TEXT_BYTES);
    await_text(&t, "q ends it");
    ck_assert_int_eq(write(t.fd, "q", 1), 1);
    ck_assert_int_eq(fc_e2e_reap(t.pid, FC_E2E_STOP_MS), 0);
    expect_as_before(&t);
}
END_TEST

START_TEST(a_pipe_gets_a_line_a_look)
{
    fc_e2e_run_result run;
    fc_e2e_run("flashcorectl",
               (const char *const[]){"--url", daemon_under_test.ipc_url, "stats", "--watch", "--count", "3",
                                     "--interval", "0.05", NULL},
               &run);
    ck_assert_msg(run.exit_code == 0, "%s", run.err);
    int lines = 0;
    for (const char *line = run.out; *line != '\0'; line = strchr(line, '\n') + 1, lines++)
        ck_assert_msg(strncmp(line, "requests/s ", 11) == 0 && strchr(line, '\n') != NULL, "%s", line);
    ck_assert_int_eq(lines, 3);
    ck_assert_ptr_null(strchr(run.out, '\x1b'));
    fc_e2e_run_free(&run);
    fc_e2e_run("flashcorectl", (const char *const[]){"--url", "ipc:///nowhere", "stats", "--watch", NULL}, &run);
    ck_assert_int_eq(run.exit_code, 1);
    fc_e2e_run_free(&run);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watch");
    TCase *cases = fc_e2e_case(suite, "watch");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_loop_test(cases, the_terminal_is_as_before, 0, (int)(sizeof ENDS / sizeof ENDS[0]));
    tcase_add_test(cases, it_outlives_the_daemon);
    tcase_add_test(cases, a_pipe_gets_a_line_a_look);
    return fc_e2e_main(suite);
}
