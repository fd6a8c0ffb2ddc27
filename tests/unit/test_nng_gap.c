/* When nng may learn that its peer sends no more. The program's readv() is the module's here, as it is libnng.so's in
 * the daemon. */
#include "daemon/nng_gap.h"

#include "daemon/nng_listener_fix.h"

#include <check.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static int fds[2];

static void set_up(void)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    fc_nng_gap_forget(fds[0]);
}

static void tear_down(void)
{
    close(fds[0]);
    if (fds[1] >= 0)
        close(fds[1]);
}

static ssize_t read_some(void)
{
    char bytes[8];
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    return readv(fds[0], &part, 1);
}

static void hang_up(void)
{
    close(fds[1]);
    fds[1] = -1;
}

START_TEST(an_end_waits_for_the_next_part)
{
    ck_assert(fc_nng_gap_open(fds[0]));
    ck_assert_int_eq(write(fds[1], "ab", 2), 2);
    hang_up();
    ck_assert_int_eq(read_some(), 2); /* what comes before the end does not wait */
    ck_assert_int_eq(read_some(), -1);
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert(!fc_nng_gap_may_end(fds[0]));
    fc_nng_gap_close(fds[0]);
    ck_assert_int_eq(read_some(), 0);
}
END_TEST

START_TEST(after_an_end_there_are_no_parts)
{
    hang_up();
    ck_assert_int_eq(read_some(), 0);
    ck_assert(!fc_nng_gap_open(fds[0]));
    ck_assert(fc_nng_gap_may_end(fds[0]));
    fc_nng_gap_close(fds[0]);
    ck_assert(!fc_nng_gap_open(fds[0]));
    fc_nng_gap_forget(fds[0]); /* the next connection with this number */
    ck_assert(fc_nng_gap_open(fds[0]));
}
END_TEST

START_TEST(a_gap_does_not_last)
{
    ck_assert(fc_nng_gap_open(fds[0]));
    hang_up();
    ssize_t got = -1;
    while (got < 0) { /* for a second; Check's limit bounds it */
        got = read_some();
        ck_assert(got == 0 || errno == EAGAIN);
    }
    ck_assert_int_eq(got, 0);
    ck_assert(!fc_nng_gap_open(fds[0]));
}
END_TEST

START_TEST(cut_it_ends_as_if_its_peer_had_gone)
{
    char byte = 1;
    ck_assert_int_eq(send(fds[1], &byte, 1, MSG_NOSIGNAL), 1);
    ck_assert(fc_nng_gap_open(fds[0]));
    ck_assert(fc_nng_gap_cut(fds[0]));
    ck_assert_int_eq(read_some(), -1); /* not between two parts */
    ck_assert_int_eq(errno, EAGAIN);
    fc_nng_gap_close(fds[0]);
    ck_assert_int_eq(read_some(), 0); /* whatever has come */
    ck_assert_int_eq(recv(fds[1], &byte, 1, MSG_DONTWAIT), 0);
    fc_nng_gap_forget(fds[0]);
    ck_assert_int_eq(read_some(), 1);
    ck_assert(!fc_nng_gap_cut(-1));
}
END_TEST

/* What is sent in one piece, in two, to a peer that is gone. */
START_TEST(who_sends_in_parts_is_known)
{
    static char bytes[1 << 20];
    struct iovec parts[2] = {{.iov_base = bytes, .iov_len = 8}, {.iov_base = bytes, .iov_len = sizeof bytes}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    int rcvbuf = 4096;
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &rcvbuf, sizeof rcvbuf);
    ck_assert(fc_nng_gap_is_plain(fds[0]));
    while (sendmsg(fds[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof bytes + 8)
        ; /* until the peer, which does not read, has room for a part only */
    ck_assert(!fc_nng_gap_may_end(fds[0]));
    ck_assert_int_eq(sendmsg(fds[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL), -1); /* the next part has been tried */
    ck_assert(fc_nng_gap_may_end(fds[0]));
    fc_nng_gap_take(fds[0]);
    ck_assert(!fc_nng_gap_is_plain(fds[0])); /* over TLS the socket's parts are not the message's */
}
END_TEST

/* What is sent to a peer that is gone waits for the end of its bytes, then counts as sent. */
START_TEST(who_is_gone_is_sent_nothing)
{
    char byte = 1;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    hang_up();
    ssize_t sent = sendmsg(fds[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    ck_assert_int_eq(sent, -1);
    while (sent < 0) { /* for a moment; Check's limit bounds it */
        ck_assert_int_eq(errno, EAGAIN);
        sent = sendmsg(fds[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    ck_assert_int_eq(sent, 1);
}
END_TEST

START_TEST(other_descriptors_are_let_be)
{
    ck_assert(fc_nng_gap_open(-1));
    ck_assert(fc_nng_gap_may_end(-1));
    fc_nng_gap_close(-1);
    fc_nng_gap_forget(1 << 30);
    ck_assert(fc_nng_gap_open(1 << 30));
    ck_assert(fc_nng_gap_may_end(1 << 30));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nng_gap");
    TCase *tcase = tcase_create("nng_gap");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    if (fc_nng_listener_fix_is_needed()) {
        tcase_add_test(tcase, an_end_waits_for_the_next_part);
        tcase_add_test(tcase, after_an_end_there_are_no_parts);
        tcase_add_test(tcase, a_gap_does_not_last);
        tcase_add_test(tcase, cut_it_ends_as_if_its_peer_had_gone);
        tcase_add_test(tcase, who_is_gone_is_sent_nothing);
        tcase_add_test(tcase, who_sends_in_parts_is_known);
    }
    tcase_add_test(tcase, other_descriptors_are_let_be);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
