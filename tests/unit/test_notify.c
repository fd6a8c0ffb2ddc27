/* daemon/notify: what arrives at a real datagram socket, by path and in the abstract namespace. */
#include "daemon/notify.h"

#include <check.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[] = "/tmp/test_notify.XXXXXX", path[64];
static int receiver = -1;
static char got[1024];

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/notify", folder);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

static void tear_down(void)
{
    if (receiver >= 0)
        close(receiver);
    unlink(path);
    rmdir(folder);
}

/* Binds the supervisor's end: name is a path, or @name. */
static void bind_receiver(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, name, strlen(name));
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(receiver, 0);
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + (name[0] != '@'));
    ck_assert_int_eq(bind(receiver, (struct sockaddr *)&address, bytes), 0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static const char *received(void)
{
    ssize_t bytes = recv(receiver, got, sizeof got - 1, 0);
    got[bytes > 0 ? bytes : 0] = '\0';
    return got;
}

static void says_what_it_is_told(void)
{
    fc_notify notify;
    fc_reason reason;
    ck_assert_int_eq(fc_notify_open(&notify, &reason), FC_OK);
    ck_assert_int_eq(fc_notify_send(&notify, "READY=1\nSTATUS=%s %d", "serving", 7), FC_OK);
    ck_assert_str_eq(received(), "READY=1\nSTATUS=serving 7");
    ck_assert_int_eq(fc_notify_reloading(&notify, 1234567999), FC_OK);
    ck_assert_str_eq(received(), "RELOADING=1\nMONOTONIC_USEC=1234567");
    ck_assert_int_eq(fc_notify_send(&notify, "%0900d", 7), FC_OK);
    ck_assert_uint_eq(strlen(received()), 511);
    fc_notify_close(&notify);
    ck_assert_int_eq(notify.fd, -1);
    fc_notify_close(&notify);
}

START_TEST(a_path_is_reached)
{
    bind_receiver(path);
    says_what_it_is_told();
}
END_TEST

START_TEST(an_abstract_name_is_reached)
{
    char name[64];
    snprintf(name, sizeof name, "@%s/abstract", folder);
    bind_receiver(name);
    says_what_it_is_told();
}
END_TEST

START_TEST(nobody_listening_is_harmless)
{
    fc_notify notify;
    fc_reason reason;
    ck_assert_int_eq(fc_notify_open(&notify, &reason), FC_OK);
    ck_assert_int_eq(notify.fd, -1);
    ck_assert_int_eq(fc_notify_send(&notify, "READY=1"), FC_OK);
    ck_assert_int_eq(fc_notify_reloading(&notify, 1), FC_OK);
    fc_notify_close(&notify);
}
END_TEST

START_TEST(a_socket_that_cannot_be_used_says_why)
{
    static const struct {
        const char *name;
        fc_status status;
    } ROWS[] = {{"relative", FC_INVALID_ARGUMENT},
                {"/nonexistent/folder/notify", FC_IO},
                {"/a-name-longer-than-any-socket-address-can-hold-a-name-longer-than-any-socket-address-can-hold-"
                 "a-name-longer-than",
                 FC_INVALID_ARGUMENT}};
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        fc_notify notify;
        fc_reason reason = {""};
        setenv("NOTIFY_SOCKET", ROWS[i].name, 1);
        ck_assert_int_eq(fc_notify_open(&notify, &reason), ROWS[i].status);
        ck_assert_ptr_nonnull(strstr(reason.text, "NOTIFY_SOCKET"));
        ck_assert_int_eq(notify.fd, -1);
        ck_assert_int_eq(fc_notify_send(&notify, "READY=1"), FC_OK);
    }
}
END_TEST

START_TEST(a_supervisor_that_left_is_an_error_not_a_signal)
{
    fc_notify notify;
    fc_reason reason;
    bind_receiver(path);
    ck_assert_int_eq(fc_notify_open(&notify, &reason), FC_OK);
    close(receiver);
    receiver = -1;
    ck_assert_int_eq(fc_notify_send(&notify, "READY=1"), FC_IO);
    fc_notify_close(&notify);
}
END_TEST

START_TEST(the_watchdog_is_ours_only)
{
    char pid[32];
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    const struct {
        const char *period, *pid;
        uint64_t watchdog_ns;
    } rows[] = {{NULL, NULL, 0},
                {"3000000", NULL, 3000000000u},
                {"3000000", pid, 3000000000u},
                {"3000000", "1", 0},
                {"", pid, 0},
                {"12x", pid, 0},
                {"-1", pid, 0},
                {"99999999999999999999", pid, 0}};
    bind_receiver(path);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_notify notify;
        fc_reason reason;
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        if (rows[i].period != NULL)
            setenv("WATCHDOG_USEC", rows[i].period, 1);
        if (rows[i].pid != NULL)
            setenv("WATCHDOG_PID", rows[i].pid, 1);
        ck_assert_int_eq(fc_notify_open(&notify, &reason), FC_OK);
        ck_assert_uint_eq(notify.watchdog_ns, rows[i].watchdog_ns);
        fc_notify_close(&notify);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("notify");
    TCase *supervisor = tcase_create("supervisor");
    tcase_add_checked_fixture(supervisor, set_up, tear_down);
    tcase_add_test(supervisor, a_path_is_reached);
    tcase_add_test(supervisor, an_abstract_name_is_reached);
    tcase_add_test(supervisor, nobody_listening_is_harmless);
    tcase_add_test(supervisor, a_socket_that_cannot_be_used_says_why);
    tcase_add_test(supervisor, a_supervisor_that_left_is_an_error_not_a_signal);
    tcase_add_test(supervisor, the_watchdog_is_ours_only);
    suite_add_tcase(suite, supervisor);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
