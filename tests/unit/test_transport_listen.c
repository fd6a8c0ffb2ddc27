/* Where the transport listens: URLs it takes, and those it refuses and why. */
#include "daemon/transport.h"
#include "tests/support/transport_bench.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void set_path(struct sockaddr_un *address, const char *path)
{
    ck_assert_uint_lt(strlen(path), sizeof address->sun_path);
    memcpy(address->sun_path, path, strlen(path) + 1);
}

START_TEST(a_live_socket_is_left_alone_and_a_stale_one_replaced)
{
    transport_bench b;
    transport_bench second;
    fc_reason reason = {""};
    transport_bench_open(&b, 16);
    transport_bench_prepare(&second, 16);
    ck_assert_int_eq(fc_transport_listen(second.transport, b.ipc_url, NULL, &reason), FC_BUSY);
    ck_assert_msg(strstr(reason.text, b.ipc_url + 6) != NULL, "%s", reason.text);
    transport_bench_assert_ping(b.ipc_url);

    /* Stale: a socket file nobody listens at, as a killed daemon leaves it. */
    char stale_url[200];
    snprintf(stale_url, sizeof stale_url, "%s.stale", b.ipc_url);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    set_path(&address, stale_url + 6);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    ck_assert_msg(fc_transport_listen(second.transport, stale_url, NULL, &reason) == FC_OK, "%s", reason.text);
    fc_transport_start(second.transport);
    transport_bench_assert_ping(stale_url);

    /* Alive, but no flashcored: no lock, yet somebody accepts. */
    char foreign_url[200];
    snprintf(foreign_url, sizeof foreign_url, "%s.foreign", b.ipc_url);
    set_path(&address, foreign_url + 6);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    ck_assert_int_eq(fc_transport_listen(second.transport, foreign_url, NULL, &reason), FC_BUSY);
    close(fd);
    unlink(foreign_url + 6);

    snprintf(second.directory, sizeof second.directory, "%s", b.directory);
    fc_service_stop(second.service);
    fc_transport_close(second.transport);
    fc_service_destroy(second.service);
    fake_engine_fini(&second.engine);
    transport_bench_assert_ping(b.ipc_url);
    transport_bench_close(&b);
}
END_TEST

START_TEST(urls_that_cannot_be_served_say_why)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    char plain_file[128];
    char plain_url[160];
    snprintf(plain_file, sizeof plain_file, "%s/plain", b.directory);
    snprintf(plain_url, sizeof plain_url, "ipc://%s", plain_file);
    FILE *file = fopen(plain_file, "w");
    ck_assert_ptr_nonnull(file);
    fclose(file);
    const struct {
        const char *url;
        fc_status status;
    } rows[] = {
        {"", FC_INVALID_ARGUMENT},
        {"http://127.0.0.1:80", FC_INVALID_ARGUMENT},
        {"ipc://", FC_INVALID_ARGUMENT},
        {"ipc:///nonexistent/folder/socket", FC_IO},
        {"ipc:///tmp/"
         "01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456",
         FC_INVALID_ARGUMENT},
        {plain_url, FC_INVALID_ARGUMENT},
        {b.ipc_url, FC_BUSY},
        {b.tcp_url, FC_BUSY},
        {"tcp://127.0.0.1:notaport", FC_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_reason reason = {""};
        fc_status st = fc_transport_listen(b.transport, rows[i].url, NULL, &reason);
        ck_assert_msg(st == rows[i].status && reason.text[0] != '\0', "%s: %s (%s)", rows[i].url, fc_status_name(st),
                      reason.text);
    }
    transport_bench_assert_ping(b.ipc_url);
    transport_bench_assert_ping(b.tcp_url);
    unlink(plain_file);
    transport_bench_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport_listen");
    TCase *listening = tcase_create("listening");
    tcase_set_timeout(listening, 60);
    tcase_add_test(listening, a_live_socket_is_left_alone_and_a_stale_one_replaced);
    tcase_add_test(listening, urls_that_cannot_be_served_say_why);
    suite_add_tcase(suite, listening);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
