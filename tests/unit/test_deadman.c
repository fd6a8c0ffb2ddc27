/* daemon/deadman: ends a process that hangs, with the code and a line, and only such a one. */
#include "daemon/deadman.h"

#include "daemon/clock.h"
#include "daemon/log.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG_NS (3600 * FC_NS_PER_S)

START_TEST(a_hang_ends_with_the_code_and_a_line)
{
    int ends[2], status;
    char line[512];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        fc_deadman *deadman;
        fc_log_start(ends[1], FC_LOG_WARN);
        if (fc_deadman_start(FC_NS_PER_MS, "closing \"it\"", FC_EXIT_CUT_SHORT, &deadman) == FC_OK)
            for (;;)
                pause();
        _exit(99);
    }
    close(ends[1]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), FC_EXIT_CUT_SHORT);
    ssize_t bytes = read(ends[0], line, sizeof line - 1);
    ck_assert_int_gt(bytes, 0);
    line[bytes] = '\0';
    ck_assert_ptr_nonnull(strstr(line, " level=warn event=gave_up what=\"closing \\\"it\\\"\" exit=3\n"));
    close(ends[0]);
}
END_TEST

/* They stay open in here, as they would in a process that its driver does not let go of. */
START_TEST(where_the_device_is_the_reason_sockets_are_shut)
{
    const fc_exit codes[] = {FC_EXIT_DEVICE_LOST, FC_EXIT_HUNG, FC_EXIT_CUT_SHORT};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        socklen_t bytes = sizeof(sa_family_t); /* any abstract name that is free */
        int pair[2], status, is_shut = codes[i] != FC_EXIT_CUT_SHORT;
        char answer[8];
        int listener = socket(AF_UNIX, SOCK_STREAM, 0), dialer = socket(AF_UNIX, SOCK_STREAM, 0);
        ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, bytes), 0);
        ck_assert_int_eq(listen(listener, 1), 0);
        bytes = sizeof address;
        ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        pid_t child = fork();
        if (child == 0) {
            close(pair[0]);
            if (write(pair[1], "last", 4) == 4)
                fc_exit_now(codes[i]);
            _exit(99);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), (int)codes[i]);
        ck_assert_int_eq(read(pair[0], answer, sizeof answer), 4); /* what was sent is still there */
        ck_assert_int_eq(read(pair[0], answer, sizeof answer), is_shut ? 0 : -1);
        ck_assert_int_eq(connect(dialer, (struct sockaddr *)&address, bytes), is_shut ? -1 : 0);
        int fds[] = {pair[0], pair[1], listener, dialer};
        for (size_t j = 0; j < sizeof fds / sizeof fds[0]; j++)
            close(fds[j]);
    }
}
END_TEST

START_TEST(a_stop_in_time_is_the_end_of_it)
{
    for (int i = 0; i < 20; i++) {
        fc_deadman *deadman = NULL;
        ck_assert_int_eq(fc_deadman_start(LONG_NS, "nothing", FC_EXIT_FAILURE, &deadman), FC_OK);
        fc_deadman_stop(deadman);
    }
    fc_deadman_stop(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("deadman");
    TCase *hangs = tcase_create("hangs");
    tcase_add_test(hangs, a_hang_ends_with_the_code_and_a_line);
    tcase_add_test(hangs, where_the_device_is_the_reason_sockets_are_shut);
    tcase_add_test(hangs, a_stop_in_time_is_the_end_of_it);
    suite_add_tcase(suite, hangs);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
