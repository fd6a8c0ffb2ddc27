/* daemon/reload: all or nothing, from the file to the running parts, which are our own here. */
#include "daemon/reload.h"

#include "daemon/log.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    fc_status service_answer, transport_answer;
    int service_calls, transport_calls;
    fc_service_tunables tunables;
    uint32_t pipes_leaked_max;
} world;

fc_status fc_service_reconfigure(fc_service *service, const fc_service_tunables *tunables, fc_reason *out_reason)
{
    (void)service;
    world.service_calls++;
    world.tunables = *tunables;
    return world.service_answer == FC_OK ? FC_OK : fc_fail(world.service_answer, out_reason, "the service says no");
}

fc_status fc_transport_reconfigure(fc_transport *transport, uint32_t pipes_leaked_max)
{
    (void)transport;
    world.transport_calls++;
    world.pipes_leaked_max = pipes_leaked_max;
    return world.transport_answer;
}

static char config_path[] = "/tmp/test_reload.XXXXXX";
static char *arguments[] = {"flashcored", "--config", config_path, "--lanes", "2"};
#define ARGUMENT_COUNT ((int)(sizeof arguments / sizeof arguments[0]))
static fc_options options;
static int ends[2];

static void write_config(const char *text)
{
    FILE *file = fopen(config_path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    fclose(file);
}

static void set_up(void)
{
    fc_reason reason;
    int fd = mkstemp(config_path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(pipe2(ends, O_NONBLOCK), 0);
    fc_log_start(ends[1], FC_LOG_INFO);
    write_config("queue-requests = 10\nlanes = 1\n");
    ck_assert_int_eq(fc_options_parse(ARGUMENT_COUNT, arguments, &options, &reason), FC_OK);
}

static void tear_down(void)
{
    unlink(config_path);
    close(ends[0]);
    close(ends[1]);
}

/* Reloads and returns what was logged. */
static fc_status last_status;

static const char *reload(void)
{
    static char log[4096];
    fc_reason why;
    last_status = fc_reload(ARGUMENT_COUNT, arguments, &options, NULL, NULL, &why);
    ssize_t bytes = read(ends[0], log, sizeof log - 1);
    log[bytes > 0 ? bytes : 0] = '\0';
    return log;
}

START_TEST(what_can_change_does)
{
    write_config("queue-requests = 20\nbatch-requests = 3\nkernel = cpu\ninflight-per-peer = 4\nqueue-bytes = 512M\n"
                 "leaked-pipes = 5\nlog-level = debug\ndrain-timeout = 1s\ntokens = 99\nlanes = 7\n");
    const char *log = reload();
    ck_assert_uint_eq(world.tunables.queue_requests, 20);
    ck_assert_uint_eq(world.tunables.queue_bytes, 512u << 20);
    ck_assert_uint_eq(world.tunables.inflight_per_peer, 4);
    ck_assert_uint_eq(world.tunables.batch_requests, 3);
    ck_assert_int_eq(world.tunables.default_kernel, FC_KERNEL_CPU);
    ck_assert_uint_eq(world.pipes_leaked_max, 5);
    ck_assert_uint_eq(options.drain_timeout_ns, FC_NS_PER_S);
    ck_assert(fc_log_is_on(FC_LOG_DEBUG));
    ck_assert_uint_eq(options.tokens, 1048576);
    ck_assert_ptr_nonnull(strstr(log, "event=option_changed option=queue-requests value=20 applied=yes\n"));
    ck_assert_ptr_nonnull(
        strstr(log, "level=warn event=option_changed option=tokens value=99 applied=\"needs a restart\"\n"));
    ck_assert_ptr_nonnull(strstr(log, "event=reloaded config=/tmp/test_reload."));
    ck_assert_ptr_nonnull(strstr(log, " changed=9\n"));
    /* The command line's lanes go on winning: not a change. */
    ck_assert_ptr_null(strstr(log, "lanes"));
}
END_TEST

START_TEST(a_wrong_file_changes_nothing)
{
    write_config("queue-requests = 20\nlog-level = loud\n");
    const char *log = reload();
    ck_assert_ptr_nonnull(strstr(log, "level=error event=reload_failed status=invalid_argument reason="));
    ck_assert_ptr_nonnull(strstr(log, ":2: log-level: expected one of"));
    ck_assert_int_eq(world.service_calls, 0);
    ck_assert_uint_eq(options.queue_requests, 10);
}
END_TEST

START_TEST(a_missing_file_changes_nothing)
{
    unlink(config_path);
    ck_assert_ptr_nonnull(strstr(reload(), "event=reload_failed status=io"));
    ck_assert_int_eq(world.service_calls, 0);
    ck_assert_uint_eq(options.queue_requests, 10);
}
END_TEST

START_TEST(a_service_that_refuses_keeps_everything_as_it_was)
{
    world.service_answer = FC_INVALID_ARGUMENT;
    write_config("queue-requests = 20\nlog-level = trace\n");
    ck_assert_ptr_nonnull(strstr(reload(), "reason=\"the service says no\"\n"));
    ck_assert_int_eq(world.service_calls, 1);
    ck_assert_int_eq(world.transport_calls, 0);
    ck_assert_uint_eq(options.queue_requests, 10);
    ck_assert(!fc_log_is_on(FC_LOG_TRACE));
}
END_TEST

START_TEST(a_transport_without_memory_is_told)
{
    world.transport_answer = FC_NO_MEMORY;
    write_config("queue-requests = 20\n");
    const char *log = reload();
    ck_assert_ptr_nonnull(strstr(log, "level=warn event=reload_incomplete"));
    ck_assert_ptr_nonnull(strstr(log, "changed=1\n"));
    ck_assert_uint_eq(options.queue_requests, 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reload");
    TCase *files = tcase_create("files");
    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_add_test(files, what_can_change_does);
    tcase_add_test(files, a_wrong_file_changes_nothing);
    tcase_add_test(files, a_missing_file_changes_nothing);
    tcase_add_test(files, a_service_that_refuses_keeps_everything_as_it_was);
    tcase_add_test(files, a_transport_without_memory_is_told);
    suite_add_tcase(suite, files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
