/* What flashcored says of itself, how it takes wrong options and config lines, and what SIGHUP changes. */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define USAGE 2

static char config_dir[FC_E2E_PATH_BYTES], config_path[FC_E2E_PATH_BYTES * 2];

static void make_config(const char *text)
{
    snprintf(config_dir, sizeof config_dir, "/tmp/flashcored-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(config_dir));
    snprintf(config_path, sizeof config_path, "%s/test.conf", config_dir);
    fc_e2e_write_file(config_path, text, strlen(text));
}

static void remove_config(void)
{
    unlink(config_path);
    rmdir(config_dir);
}

/* --- show and exit ----------------------------------------------------------------------------------------------- */

START_TEST(it_says_what_it_is)
{
    static const struct {
        const char *args[4];
        const char *parts[8];
    } rows[] = {
        {{"--version"}, {"flashcored " FC_VERSION}},
        {{"-V"}, {"flashcored " FC_VERSION}},
        {{"--help"},
         {"--listen", "--kernel", "--engine", "--queue-requests", "--drain-timeout", "--config", "Exit status"}},
        {{"-h"}, {"--listen"}},
        {{"--list-kernels"}, {"cpu", "baseline", "vec"}},
        {{"--check-config"}, {"listen", "queue-requests", "256", "default"}},
        {{"--check-config", "--queue-requests", "7"}, {"queue-requests", "7", "command line"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fc_e2e_run_result run;
        fc_e2e_run("flashcored", rows[i].args, &run);
        ck_assert_msg(run.exit_code == 0, "%s: exit code %d: %s", rows[i].args[0], run.exit_code, run.err);
        for (size_t part = 0; rows[i].parts[part] != NULL; part++)
            ck_assert_msg(strstr(run.out, rows[i].parts[part]) != NULL, "%s: no \"%s\" in:\n%s", rows[i].args[0],
                          rows[i].parts[part], run.out);
        fc_e2e_run_free(&run);
    }
}
END_TEST

/* What --check-config prints is itself a config file that means the same. */
START_TEST(a_checked_config_can_be_used_as_one)
{
    fc_e2e_run_result first, second;
    make_config("queue-requests = 11\ntensor-bytes = 8M\nlisten = ipc:///tmp/x.sock\nlisten = tcp://127.0.0.1:5555\n"
                "drain-timeout = 1500ms\nkernel = cpu\nengine = cpu\n");
    const char *const args[] = {"--check-config", "--config", config_path, NULL};
    fc_e2e_run("flashcored", args, &first);
    ck_assert_msg(first.exit_code == 0, "%s", first.err);
    fc_e2e_write_file(config_path, first.out, first.out_bytes);
    fc_e2e_run("flashcored", args, &second);
    ck_assert_msg(second.exit_code == 0, "%s", second.err);
    /* Only who set it differs: cut that off. */
    char *texts[] = {first.out, second.out};
    for (int i = 0; i < 2; i++) {
        for (char *mark = strchr(texts[i], ';'); mark != NULL; mark = strchr(mark, ';')) {
            while (*mark != '\n' && *mark != '\0')
                *mark++ = ' ';
        }
    }
    char *first_line = strtok(first.out, " \n"), *rest = second.out;
    for (; first_line != NULL; first_line = strtok(NULL, " \n")) {
        rest = strstr(rest, first_line);
        ck_assert_msg(rest != NULL, "%s is missing from the second print", first_line);
        rest += strlen(first_line);
    }
    ck_assert_ptr_nonnull(strstr(second.out, "queue-requests"));
    fc_e2e_run_free(&first);
    fc_e2e_run_free(&second);
    remove_config();
}
END_TEST

/* --- refusals ---------------------------------------------------------------------------------------------------- */

START_TEST(a_wrong_flag_is_refused)
{
    static const struct {
        const char *args[6];
        const char *part; /* of what is said, on standard error */
    } rows[] = {
        {{"--frobnicate"}, "frobnicate"},
        {{"--queue-requests"}, "queue-requests"},
        {{"--queue-requests", "many"}, "queue-requests"},
        {{"--queue-requests", "0"}, "queue-requests"},
        {{"--queue-requests", "-1"}, "queue-requests"},
        {{"--queue-requests", "99999999999999999999"}, "queue-requests"},
        {{"--queue-requests", ""}, "queue-requests"},
        {{"--tensor-bytes", "1Q"}, "tensor-bytes"},
        {{"--tensor-bytes", "16777216T"}, "tensor-bytes"},
        {{"--drain-timeout", "5"}, "drain-timeout"},
        {{"--drain-timeout", "-1s"}, "drain-timeout"},
        {{"--engine", "tpu"}, "engine"},
        {{"--kernel", "magic"}, "kernel"},
        {{"--log-level", "loud"}, "log-level"},
        {{"--socket-mode", "0999"}, "socket-mode"},
        {{"--listen", "udp://x"}, "listen"},
        {{"--listen", "nonsense"}, "listen"},
        {{"--version=yes"}, "version"},
        {{"stray"}, "stray"},
        {{"--config", "/nonexistent/x.conf"}, "/nonexistent/x.conf"},
        {{"--engine", "cpu", "--kernel", "vec"}, "kernel"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fc_e2e_run_result run;
        fc_e2e_run("flashcored", rows[i].args, &run);
        ck_assert_msg(run.exit_code == USAGE, "row %zu (%s): exit code %d: %s", i, rows[i].args[0], run.exit_code,
                      run.err);
        ck_assert_msg(strstr(run.err, rows[i].part) != NULL, "row %zu: \"%s\" does not name %s", i, run.err,
                      rows[i].part);
        fc_e2e_run_free(&run);
    }
}
END_TEST

/* Every wrong line is named by file and number, with what was expected. */
START_TEST(a_wrong_config_line_is_refused)
{
    static const struct {
        const char *text;
        int line; /* 0: right */
        const char *part;
    } rows[] = {
        {"", 0, ""},
        {"# nothing\n\n; nothing\n", 0, ""},
        {"queue-requests = 5\n", 0, ""},
        {"queue-requests=5\nlog-level = debug ; chatty\n", 0, ""},
        {"queue-requests = lots\n", 1, "queue-requests"},
        {"# first\n\nqueue-requests = 0\n", 3, "queue-requests"},
        {"log-level = info\nqueue-request = 5\n", 2, "queue-requests"},
        {"log-level\n", 1, ""},
        {"log-level = info\n= 5\n", 2, ""},
        {"engine = gpu\n", 1, "engine"},
        {"tensor-bytes = 12 parsecs\n", 1, "tensor-bytes"},
        {"config = /etc/other.conf\n", 1, "config"},
        {"version = yes\n", 1, "version"},
        {"drain-timeout = 10\n", 1, "drain-timeout"},
        {"[section\n", 1, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fc_e2e_run_result run;
        char place[FC_E2E_PATH_BYTES * 2 + 16];
        make_config(rows[i].text);
        snprintf(place, sizeof place, "%s:%d: ", config_path, rows[i].line);
        fc_e2e_run("flashcored", (const char *const[]){"--check-config", "--config", config_path, NULL}, &run);
        ck_assert_msg(run.exit_code == (rows[i].line == 0 ? 0 : USAGE), "row %zu: exit code %d: %s", i, run.exit_code,
                      run.err);
        ck_assert_msg(rows[i].line == 0 || strstr(run.err, place) != NULL, "row %zu: no \"%s\" in: %s", i, place,
                      run.err);
        ck_assert_msg(strstr(run.err, rows[i].part) != NULL, "row %zu: no \"%s\" in: %s", i, rows[i].part, run.err);
        fc_e2e_run_free(&run);
        remove_config();
    }
}
END_TEST

/* A kernel the engine lacks is no reason to serve with another one. */
START_TEST(a_missing_kernel_is_listed)
{
    fc_e2e_run_result run;
    fc_e2e_run("flashcored", (const char *const[]){"--engine", "cpu", "--kernel", "baseline", NULL}, &run);
    ck_assert_int_ne(run.exit_code, 0);
    ck_assert_msg(strstr(run.err, "baseline") != NULL && strstr(run.err, "cpu") != NULL, "%s", run.err);
    fc_e2e_run_free(&run);
    fc_e2e_run("flashcored",
               (const char *const[]){"--engine", "cuda", "--cuda-engine", "/nonexistent.so", "--listen",
                                     "ipc:///tmp/flashcored-test-never.sock", NULL},
               &run);
    ck_assert_int_ne(run.exit_code, 0);
    ck_assert_msg(strstr(run.err, "/nonexistent.so") != NULL, "%s", run.err);
    fc_e2e_run_free(&run);
}
END_TEST

START_TEST(an_address_that_cannot_be_had_is_named)
{
    static const char *const urls[] = {"ipc:///nonexistent/folder/d.sock", "tcp://192.0.2.1:7",
                                       "ipc:///proc/flashcored.sock"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        fc_e2e_run_result run;
        fc_e2e_run("flashcored", (const char *const[]){"--engine", "cpu", "--listen", urls[i], NULL}, &run);
        ck_assert_msg(run.exit_code > 0 && run.exit_code < 126, "%s: exit code %d", urls[i], run.exit_code);
        ck_assert_msg(strstr(run.err, urls[i] + 6) != NULL, "%s is not named in: %s", urls[i], run.err);
        fc_e2e_run_free(&run);
    }
}
END_TEST

/* With fewer than it needs it says so, however few they are (4: the fewest with which libraries load); with as many as
 * it asks for it serves. */
START_TEST(too_few_descriptors_are_named)
{
    fc_e2e_run_result run;
    char script[FC_E2E_PATH_BYTES * 3], want[64];
    unsigned needed = 0;
    for (unsigned limit = 4; limit <= 128 && limit != needed; limit++) {
        snprintf(script, sizeof script,
                 "exec 3>&- 4>&- 5>&- 6>&-; ulimit -n %u; exec %s/flashcored --engine cpu --listen "
                 "ipc:///nonexistent/folder/d.sock",
                 limit, fc_e2e_build_folder());
        fc_e2e_run("/bin/sh", (const char *const[]){"-c", script, NULL}, &run);
        ck_assert_msg(run.exit_code == 1, "%u: exit code %d: %s", limit, run.exit_code, run.err);
        snprintf(want, sizeof want, "RLIMIT_NOFILE is %u, expected at least ", limit);
        const char *said = strstr(run.err, want);
        ck_assert_msg(said != NULL, "no \"%s\" in: %s", want, run.err);
        needed = (unsigned)strtoul(said + strlen(want), NULL, 10);
        fc_e2e_run_free(&run);
    }
    ck_assert_msg(needed > 64 && needed <= 128, "%u", needed);
    /* A listener more has this one, and it may inherit some. */
    const struct rlimit just_enough = {needed + 12, needed + 12};
    fc_e2e_daemon daemon;
    fc_e2e_place(&daemon);
    setrlimit(RLIMIT_NOFILE, &just_enough);
    fc_e2e_launch(&daemon, (const char *const[]){NULL});
    fc_e2e_wait_notify(&daemon, "READY=1");
    fc_job_expect_service(daemon.ipc_url);
    fc_e2e_stop(&daemon);
}
END_TEST

/* --- while serving ----------------------------------------------------------------------------------------------- */

START_TEST(hangup_reads_the_config_again)
{
    fc_e2e_daemon daemon;
    size_t at = 0;
    make_config("log-level = info\nqueue-requests = 9\n");
    const char *const args[] = {"--config", config_path, NULL};
    fc_e2e_start(&daemon, args);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    flashcore_info info;
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    ck_assert_uint_eq(info.queue_requests_max, 9);

    static const char changed[] = "log-level = debug\nqueue-requests = 21\ntokens = 77\n";
    fc_e2e_write_file(config_path, changed, sizeof changed - 1);
    fc_e2e_signal(&daemon, SIGHUP);
    fc_e2e_wait_notify(&daemon, "RELOADING=1");
    fc_e2e_wait_notify(&daemon, "READY=1");
    fc_e2e_wait_log(&daemon, "tokens", &at); /* said to need a restart */
    fc_e2e_wait_log(&daemon, "restart", &at);
    fc_e2e_wait_log(&daemon, "reloaded", &at);
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    ck_assert_uint_eq(info.queue_requests_max, 21);
    ck_assert_uint_ne(info.tokens_max, 77);

    /* A wrong file changes nothing. */
    static const char wrong[] = "queue-requests = 4\nlog-level = loud\n";
    fc_e2e_write_file(config_path, wrong, sizeof wrong - 1);
    fc_e2e_signal(&daemon, SIGHUP);
    fc_e2e_wait_log(&daemon, "reload_failed", &at);
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    ck_assert_uint_eq(info.queue_requests_max, 21);
    fc_job_expect_service(url);
    flashcore_client_destroy(client);
    fc_e2e_stop(&daemon);
    remove_config();
}
END_TEST

/* The level asked for is the level logged at, before and after a reload. */
START_TEST(hangup_changes_the_log_level)
{
    fc_e2e_daemon daemon;
    make_config("log-level = trace\n");
    const char *const args[] = {"--config", config_path, NULL};
    fc_e2e_start(&daemon, args);
    fc_job_expect_service(daemon.ipc_url);
    fc_e2e_wait_log(&daemon, "level=trace", NULL);
    fc_e2e_write_file(config_path, "log-level = error\n", 18);
    fc_e2e_signal(&daemon, SIGHUP);
    fc_e2e_wait_notify(&daemon, "RELOADING=1");
    fc_e2e_wait_notify(&daemon, "READY=1");
    fc_job_expect_service(daemon.ipc_url);
    size_t bytes = 0;
    char *before = fc_e2e_read_file(daemon.log_path, &bytes);
    free(before);
    fc_job_expect_service(daemon.ipc_url);
    size_t bytes_after = 0;
    char *after = fc_e2e_read_file(daemon.log_path, &bytes_after);
    ck_assert_msg(bytes_after == bytes, "still said at level error: %s", after + bytes);
    free(after);
    fc_e2e_stop(&daemon);
    remove_config();
}
END_TEST

/* One line says what was started, and every line is key=value with a level and the time since the start. */
START_TEST(the_log_can_be_read_by_machines)
{
    fc_e2e_daemon daemon;
    fc_e2e_start(&daemon, NULL);
    fc_e2e_wait_log(&daemon, "version=" FC_VERSION, NULL);
    fc_e2e_wait_log(&daemon, daemon.ipc_url, NULL);
    fc_e2e_wait_log(&daemon, daemon.tcp_url, NULL);
    char *log = fc_e2e_read_file(daemon.log_path, NULL), *rest = NULL;
    for (char *line = strtok_r(log, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        ck_assert_msg(strstr(line, "level=") != NULL, "no level in: %s", line);
        ck_assert_msg(strchr(line, '=') != NULL && line[0] != ' ', "not key=value: %s", line);
    }
    free(log);
    fc_e2e_stop(&daemon);
}
END_TEST

/* Started without a standard input, the daemon lets no socket take the place. */
START_TEST(a_closed_standard_input_does_no_harm)
{
    fc_e2e_daemon daemon;
    char link[64], target[64] = {0};
    close(STDIN_FILENO);
    fc_e2e_start(&daemon, NULL);
    snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)daemon.pid, STDIN_FILENO);
    ck_assert_int_gt(readlink(link, target, sizeof target - 1), 0);
    ck_assert_str_eq(target, "/dev/null");
    fc_e2e_stop(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli");
    TCase *words = fc_e2e_case(suite, "words");
    tcase_add_test(words, it_says_what_it_is);
    tcase_add_test(words, a_checked_config_can_be_used_as_one);
    tcase_add_test(words, a_wrong_flag_is_refused);
    tcase_add_test(words, a_wrong_config_line_is_refused);
    tcase_add_test(words, a_missing_kernel_is_listed);
    tcase_add_test(words, an_address_that_cannot_be_had_is_named);
    tcase_add_test(words, too_few_descriptors_are_named);
    TCase *serving = fc_e2e_case(suite, "serving");
    tcase_add_test(serving, hangup_reads_the_config_again);
    tcase_add_test(serving, hangup_changes_the_log_level);
    tcase_add_test(serving, the_log_can_be_read_by_machines);
    tcase_add_test(serving, a_closed_standard_input_does_no_harm);
    return fc_e2e_main(suite);
}
