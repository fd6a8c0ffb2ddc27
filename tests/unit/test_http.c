/* daemon/http_address and daemon/http: which addresses are taken, and a server that nobody can hold up. Client and
 * server share this one thread; the time is made up.
 */
#include "daemon/http.h"

#include "daemon/nng_gap.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS_MAX 2000
#define ANSWER_BYTES 65536
#define START_NS FC_NS_PER_S

/* --- addresses ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text, *shown; /* NULL: refused */
    bool is_loopback;
} ADDRESSES[] = {
    {"127.0.0.1:9477", "127.0.0.1:9477", true},
    {"127.1.2.3:0", "127.1.2.3:0", true},
    {"localhost:65535", "127.0.0.1:65535", true},
    {"[::1]:1", "[::1]:1", true},
    {"unix:/run/x.sock", "unix:/run/x.sock", true},
    {"unix:relative", "unix:relative", true},
    {"0.0.0.0:9477", "0.0.0.0:9477", false},
    {"10.0.0.1:1", "10.0.0.1:1", false},
    {"[::]:1", "[::]:1", false},
    {"[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", false},
    {"", NULL, false},
    {"9477", NULL, false},
    {":9477", NULL, false},
    {"127.0.0.1", NULL, false},
    {"127.0.0.1:", NULL, false},
    {"127.0.0.1:65536", NULL, false},
    {"127.0.0.1:000000080", NULL, false},
    {"127.0.0.1:80x", NULL, false},
    {"127.0.0.1: 80", NULL, false},
    {"::1:80", NULL, false},
    {"[::1:80", NULL, false},
    {"[]:80", NULL, false},
    {"host.example:80", NULL, false},
    {"unix:", NULL, false},
};

START_TEST(addresses_are_read)
{
    fc_http_address address;
    fc_reason reason = {""};
    char shown[FC_HTTP_ADDRESS_BYTES];
    fc_status st = fc_http_address_parse(ADDRESSES[_i].text, &address, &reason);
    ck_assert_int_eq(st == FC_OK, ADDRESSES[_i].shown != NULL);
    if (st != FC_OK) {
        ck_assert_msg(strstr(reason.text, "expected 127.0.0.1:PORT, [::1]:PORT or unix:PATH") != NULL, "%s",
                      reason.text);
        return;
    }
    fc_http_address_format(&address, shown);
    ck_assert_str_eq(shown, ADDRESSES[_i].shown);
    ck_assert_int_eq(address.is_loopback, ADDRESSES[_i].is_loopback);
}
END_TEST

START_TEST(a_path_too_long_is_refused)
{
    char text[200] = "unix:";
    fc_http_address address;
    memset(text + 5, 'x', 107);
    ck_assert_int_eq(fc_http_address_parse(text, &address, NULL), FC_OK);
    text[5 + 107] = 'x';
    ck_assert_int_eq(fc_http_address_parse(text, &address, NULL), FC_INVALID_ARGUMENT);
}
END_TEST

/* --- the server --------------------------------------------------------------------------------------------------- */

static fc_http *http;
static int gets;
static uint64_t now_ns;

static void on_get(void *context, const char *path, fc_http_answer *answer)
{
    ck_assert_ptr_eq(context, &gets);
    gets++;
    if (strcmp(path, "/here") != 0)
        return;
    answer->status = 200;
    answer->body = strdup("hello\n");
    answer->body_bytes = 6;
}

static void open_at(const char *text)
{
    fc_http_address address;
    fc_reason reason = {""};
    gets = 0;
    now_ns = START_NS;
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(fc_http_address_parse(text, &address, NULL), FC_OK);
    ck_assert_msg(fc_http_open(&address, 0600, on_get, &gets, &http, &reason) == FC_OK, "%s", reason.text);
}

static void set_up(void)
{
    open_at("127.0.0.1:0");
}

static void tear_down(void)
{
    fc_http_close(http);
    http = NULL;
}

static int dial(void)
{
    fc_http_address address;
    ck_assert_int_eq(fc_http_address_parse(fc_http_address_text(http), &address, NULL), FC_OK);
    int fd = socket(address.is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
    memcpy(unix_address.sun_path, address.path, sizeof unix_address.sun_path);
    const void *to = address.is_unix ? (void *)&unix_address : (void *)&address.internet;
    socklen_t bytes = address.is_unix ? (socklen_t)sizeof unix_address : address.internet_bytes;
    ck_assert_int_eq(connect(fd, to, bytes), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    size_t bytes = strlen(text);
    ck_assert_int_eq(send(fd, text, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
}

/* Lets the server work until it has nothing to do, or the peer's answer has ended; what came is kept in answer. */
static bool is_over(int fd, char answer[ANSWER_BYTES])
{
    size_t used = strlen(answer);
    for (;;) {
        ssize_t bytes = recv(fd, answer + used, ANSWER_BYTES - 1 - used, MSG_DONTWAIT);
        if (bytes <= 0)
            return bytes == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
        used += (size_t)bytes;
        answer[used] = '\0';
    }
}

/* Runs the server until this connection has ended. */
static void await_end(int fd, char answer[ANSWER_BYTES])
{
    answer[0] = '\0';
    for (int round = 0; round < ROUNDS_MAX; round++) {
        struct pollfd fds[] = {{.fd = fc_http_fd(http), .events = POLLIN}, {.fd = fd, .events = POLLIN}};
        fc_http_run(http, now_ns);
        if (is_over(fd, answer)) {
            close(fd);
            return;
        }
        poll(fds, 2, 10);
    }
    ck_abort_msg("the connection did not end; so far: %s", answer);
}

/* Runs it a while: as often as there is something to do, and a little longer. */
static void run_on(void)
{
    for (int round = 0; round < 20; round++) {
        struct pollfd readable = {.fd = fc_http_fd(http), .events = POLLIN};
        fc_http_run(http, now_ns);
        if (poll(&readable, 1, 1) == 0 && round > 3)
            return;
    }
}

static void ask(const char *request, char answer[ANSWER_BYTES])
{
    int fd = dial();
    say(fd, request);
    await_end(fd, answer);
}

#define HOST "Host: x\r\n\r\n"

static const struct {
    const char *request, *head, *part;
    int gets;
} REQUESTS[] = {
    {"GET /here HTTP/1.1\r\n" HOST, "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello\n", 1},
    {"GET /here?a=1&b=%00 HTTP/1.1\r\n" HOST, "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello\n", 1},
    {"GET /here%00x HTTP/1.1\r\n" HOST, "HTTP/1.1 400 Bad Request\r\n", "Content-Length: 0\r\n", 0},
    {"GET /here%00 HTTP/1.1\r\n" HOST, "HTTP/1.1 400 Bad Request\r\n", "", 0},
    {"GET /here HTTP/1.0\r\n\r\n", "HTTP/1.", "hello\n", 1},
    {"HEAD /here HTTP/1.1\r\n" HOST, "HTTP/1.1 200 OK\r\n", "Content-Length: 6\r\n", 1},
    {"GET /there HTTP/1.1\r\n" HOST, "HTTP/1.1 404 Not Found\r\n", "Content-Length: 0\r\n", 1},
    {"GET /../here HTTP/1.1\r\n" HOST, "HTTP/1.1 404 Not Found\r\n", "", 1},
    {"POST /here HTTP/1.1\r\nContent-Length: 3\r\n" HOST "a=b", "HTTP/1.1 405 ", "Allow: GET, HEAD\r\n", 0},
    {"POST /here HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" HOST "ffffffffffffffff\r\n", "HTTP/1.1 4", "", 0},
    {"DELETE /here HTTP/1.1\r\n" HOST, "HTTP/1.1 405 ", "", 0},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.", "", 0},
    {"\x16\x03\x01\x02\r\n\r\n", "", "", 0},
    {"GET /here HTTP/1.1\r\n" HOST "GET /here HTTP/1.1\r\n" HOST, "HTTP/1.1 200 OK\r\n", "Connection: close\r\n", 1},
};

START_TEST(requests_are_answered)
{
    static char answer[ANSWER_BYTES];
    ask(REQUESTS[_i].request, answer);
    ck_assert_msg(strncmp(answer, REQUESTS[_i].head, strlen(REQUESTS[_i].head)) == 0, "%s", answer);
    ck_assert_msg(strstr(answer, REQUESTS[_i].part) != NULL, "%s", answer);
    ck_assert_int_le(gets, REQUESTS[_i].gets);
    if (REQUESTS[_i].gets > 0)
        ck_assert_int_eq(gets, REQUESTS[_i].gets);
    ck_assert(strncmp(REQUESTS[_i].request, "HEAD", 4) != 0 || strstr(answer, "hello") == NULL);
    ask(REQUESTS[0].request, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
}
END_TEST

START_TEST(headers_have_a_limit)
{
    static char answer[ANSWER_BYTES], filler[256];
    int fd = dial();
    memset(filler, 'a', sizeof filler - 1);
    say(fd, "GET /here HTTP/1.1\r\nX: ");
    for (int i = 0; i < 64; i++) {
        if (send(fd, filler, strlen(filler), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        run_on();
    }
    await_end(fd, answer);
    ck_assert_msg(strncmp(answer, "HTTP/1.1 4", 10) == 0 || answer[0] == '\0', "%s", answer);
    ck_assert_int_eq(gets, 0);
    ask(REQUESTS[0].request, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
}
END_TEST

/* A byte now and then never resets the clock: the connection's whole life is bounded. */
START_TEST(the_slow_are_cut)
{
    static char answer[ANSWER_BYTES];
    int fd = dial();
    say(fd, "GET /here HTTP/1.1\r\n");
    run_on();
    for (uint64_t ns = 0; ns < FC_HTTP_LIFETIME_NS; ns += FC_NS_PER_S) {
        now_ns = START_NS + ns;
        ck_assert(!is_over(fd, memset(answer, 0, 1)));
        say(fd, "X: y\r\n");
        run_on();
    }
    now_ns = START_NS + FC_HTTP_LIFETIME_NS;
    await_end(fd, answer);
    ck_assert_int_eq(gets, 0);
}
END_TEST

START_TEST(the_many_wait_and_the_silent_are_cut)
{
    static char answer[ANSWER_BYTES];
    int fds[2 * FC_HTTP_CONNECTIONS];
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        fds[i] = dial();
        run_on();
    }
    now_ns += FC_HTTP_LIFETIME_NS;
    run_on();
    now_ns += FC_HTTP_LIFETIME_NS;
    ask(REQUESTS[0].request, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        close(fds[i]);
    run_on();
    ask(REQUESTS[0].request, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
}
END_TEST

/* Of so many who wait, the silent have a tenth of a second each; and those with a request have their answers. */
START_TEST(while_others_wait_the_silent_have_little_time)
{
    static char answer[ANSWER_BYTES];
    int fds[3 * FC_HTTP_CONNECTIONS + 1];
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        fds[i] = dial();
        say(fds[i], "GET /he");
    }
    run_on();
    int last = dial();
    say(last, REQUESTS[0].request);
    for (int tenths = 0; tenths < 3; tenths++) {
        ck_assert_int_eq(gets, 0);
        now_ns += FC_NS_PER_S / 10;
        run_on();
    }
    ck_assert_int_eq(gets, 1);
    await_end(last, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        close(fds[i]);
}
END_TEST

/* With a place for everyone nobody is hurried. */
START_TEST(with_room_the_silent_may_stay)
{
    static char answer[ANSWER_BYTES];
    int fds[FC_HTTP_CONNECTIONS - 1];
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        fds[i] = dial();
    run_on();
    now_ns += FC_HTTP_LIFETIME_NS / 2;
    ask(REQUESTS[0].request, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        say(fds[i], REQUESTS[0].request);
        await_end(fds[i], answer);
        ck_assert_ptr_nonnull(strstr(answer, "hello"));
    }
}
END_TEST

/* Places that were all taken are no reason to wait for long once they are not: of who comes then the server may not be
 * told (libmicrohttpd 0.9.75). */
START_TEST(after_the_last_place_it_looks_again_soon)
{
    static char answer[ANSWER_BYTES];
    int fds[FC_HTTP_CONNECTIONS];
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        fds[i] = dial();
    run_on();
    int64_t again_ms = fc_http_run(http, now_ns);
    ck_assert_msg(again_ms >= 0 && again_ms <= 50, "%lld", (long long)again_ms);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        close(fds[i]);
    run_on();
    ask(REQUESTS[0].request, answer); /* and the clock has not moved */
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
}
END_TEST

START_TEST(who_has_asked_may_stop_sending)
{
    static char answer[ANSWER_BYTES];
    int fd = dial();
    say(fd, REQUESTS[0].request);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    await_end(fd, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
}
END_TEST

/* What nng's sendmsg() knows of a descriptor's last connection is not this one's. */
START_TEST(a_descriptor_begins_anew)
{
    int fd = dial(), next = dup(fd);
    close(next);
    ck_assert(fc_nng_gap_may_end(next));
    run_on();
    ck_assert(fc_nng_gap_open(next));
    fc_nng_gap_forget(next);
    close(fd);
}
END_TEST

START_TEST(without_descriptors_it_says_so_and_goes_on)
{
    static char answer[ANSWER_BYTES];
    struct rlimit limit, none;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int fd = dial(), next = dup(fd);
    close(next);
    none = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
    ck_assert(!fc_http_is_stuck(http));
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    run_on();
    ck_assert(fc_http_is_stuck(http));
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    run_on();
    ck_assert(!fc_http_is_stuck(http));
    say(fd, REQUESTS[0].request);
    await_end(fd, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
}
END_TEST

START_TEST(who_leaves_midway_leaves_nothing)
{
    static char answer[ANSWER_BYTES];
    for (int i = 0; i < 300; i++) {
        int fd = dial();
        struct linger hard = {.l_onoff = 1};
        if (i % 3 > 0)
            say(fd, i % 3 == 1 ? "GET /he" : REQUESTS[0].request);
        if (i % 2 == 0)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard); /* a reset */
        if (i % 5 == 0)
            fc_http_run(http, now_ns);
        close(fd);
        now_ns += FC_HTTP_LIFETIME_NS / (FC_HTTP_CONNECTIONS / 2);
        fc_http_run(http, now_ns);
    }
    ask(REQUESTS[0].request, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
}
END_TEST

START_TEST(a_unix_socket_has_its_permissions_and_goes)
{
    static char answer[ANSWER_BYTES];
    char folder[] = "/tmp/test_http.XXXXXX", address[128], path[64];
    struct stat found;
    fc_http_address parsed;
    fc_http *second = NULL;
    fc_reason reason = {""};
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/http.sock", folder);
    snprintf(address, sizeof address, "unix:%s", path);
    open_at(address);
    ck_assert_int_eq(stat(path, &found), 0);
    ck_assert_uint_eq(found.st_mode & 0777, 0600);
    ask(REQUESTS[0].request, answer);
    ck_assert_ptr_nonnull(strstr(answer, "hello"));
    fc_http_address_parse(address, &parsed, NULL);
    ck_assert_int_eq(fc_http_open(&parsed, 0600, on_get, NULL, &second, &reason), FC_BUSY);
    tear_down();
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

START_TEST(a_port_that_is_taken_is_named)
{
    fc_http_address address;
    fc_http *second = NULL;
    fc_reason reason = {""};
    fc_http_address_parse(fc_http_address_text(http), &address, NULL);
    ck_assert_int_eq(fc_http_open(&address, 0, on_get, NULL, &second, &reason), FC_BUSY);
    ck_assert_msg(strncmp(reason.text, "127.0.0.1:", 10) == 0 && strstr(reason.text, "in use") != NULL, "%s",
                  reason.text);
}
END_TEST

/* One descriptor, for the listening socket, and none for what libmicrohttpd makes. */
START_TEST(a_start_that_fails_says_why)
{
    fc_http_address address;
    fc_http *none = NULL;
    fc_reason reason = {""};
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(next, 0);
    close(next);
    fc_http_address_parse("127.0.0.1:0", &address, NULL);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)next + 1, (rlim_t)next + 1}), 0);
    ck_assert_int_eq(fc_http_open(&address, 0, on_get, NULL, &none, &reason), FC_INTERNAL);
    ck_assert_msg(strstr(reason.text, "127.0.0.1:") == reason.text && strstr(reason.text, strerror(EMFILE)) != NULL,
                  "%s", reason.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http");
    TCase *addresses = tcase_create("addresses");
    tcase_add_loop_test(addresses, addresses_are_read, 0, (int)(sizeof ADDRESSES / sizeof ADDRESSES[0]));
    tcase_add_test(addresses, a_path_too_long_is_refused);
    tcase_add_test(addresses, a_unix_socket_has_its_permissions_and_goes);
    tcase_add_test(addresses, a_start_that_fails_says_why);
    suite_add_tcase(suite, addresses);
    TCase *server = tcase_create("server");
    tcase_add_checked_fixture(server, set_up, tear_down);
    tcase_add_loop_test(server, requests_are_answered, 0, (int)(sizeof REQUESTS / sizeof REQUESTS[0]));
    tcase_add_test(server, headers_have_a_limit);
    tcase_add_test(server, the_slow_are_cut);
    tcase_add_test(server, the_many_wait_and_the_silent_are_cut);
    tcase_add_test(server, while_others_wait_the_silent_have_little_time);
    tcase_add_test(server, with_room_the_silent_may_stay);
    tcase_add_test(server, after_the_last_place_it_looks_again_soon);
    tcase_add_test(server, who_has_asked_may_stop_sending);
    tcase_add_test(server, a_descriptor_begins_anew);
    tcase_add_test(server, without_descriptors_it_says_so_and_goes_on);
    tcase_add_test(server, who_leaves_midway_leaves_nothing);
    tcase_add_test(server, a_port_that_is_taken_is_named);
    suite_add_tcase(suite, server);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
