/* Messages past nng's memory. The program's readv() and sendmsg() are the daemon's here, as they are libnng.so's there;
 * this file does with them what nng's connections do, and allots the memory that nng would.
 */
#include "daemon/nng_detour.h"

#include "daemon/clock.h"
#include "daemon/nng_gap.h"
#include "daemon/nng_listener_fix.h"
#include "tests/support/fake_engine.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BODY = 500000,
    STEP = FC_PINNED_POOL_STEP_BYTES,
    POOL_STEPS = 16,
    PIECES = 2 /* of the body's size */,
    HEADER = 4
};

static fake_engine engine;
static fc_pinned_pool *pool;
static int fds[2]; /* nng's end, and the peer's */
static uint8_t sent[BODY], body[BODY], other_body[BODY];

static void set_up(void)
{
    fc_reason reason;
    fake_engine_init(&engine);
    ck_assert_int_eq(
        fc_pinned_pool_open(fake_engine_ops(), fake_engine_handle(&engine), POOL_STEPS * STEP, &pool, &reason), FC_OK);
    fc_nng_detour_open(pool);
    ck_assert(fc_nng_listener_fix_is_needed() && fc_nng_gap_is_in_effect());
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    for (int i = 0; i < BODY; i++)
        sent[i] = (uint8_t)(i * 7 + i / 251);
    memset(body, 0, sizeof body);
    memset(other_body, 0, sizeof other_body);
}

static void tear_down(void)
{
    close(fds[0]);
    close(fds[1]);
    fc_nng_detour_close();
    fc_pinned_pool_close(pool);
    fake_engine_fini(&engine);
}

static size_t lent_pieces(void)
{
    return fc_nng_detour_lent_bytes() / ((POOL_STEPS / PIECES) * STEP);
}

/* As nng asks for what is left of a part; how much came, or -1: nothing now. */
static ssize_t read_part(uint8_t *part, size_t part_bytes)
{
    struct iovec rest = {.iov_base = part, .iov_len = part_bytes};
    ssize_t got = readv(fds[0], &rest, 1);
    ck_assert(got >= 0 || errno == EAGAIN);
    return got;
}

/* The peer sends so much from there on; nng reads it into its own memory, as far as it knows. */
static void pass(uint8_t *to, size_t begin, size_t end)
{
    for (size_t written = begin, got = begin; got < end;) {
        ssize_t more = write(fds[1], sent + written, end - written);
        written += more > 0 ? (size_t)more : 0;
        more = read_part(to + got, BODY - got);
        got += more > 0 ? (size_t)more : 0;
    }
}

static size_t count_same(const uint8_t *bytes)
{
    size_t same = 0;
    while (same < BODY && bytes[same] == sent[same])
        same++;
    return same;
}

START_TEST(a_large_message_lies_elsewhere)
{
    void *piece;
    pass(body, 0, BODY);
    ck_assert_uint_ge(count_same(body), 64); /* what the protocol reads */
    ck_assert_uint_lt(count_same(body), BODY);
    ck_assert_ptr_null(fc_nng_detour_claim(fds[0], body + 4, BODY - 5, &piece)); /* it ends elsewhere */
    uint8_t *bytes = fc_nng_detour_claim(fds[0], body + 4, BODY - 4, &piece);    /* less the header nng takes off */
    ck_assert_ptr_nonnull(bytes);
    ck_assert_mem_eq(bytes, sent + 4, BODY - 4);
    ck_assert_uint_eq(lent_pieces(), 1);
    ck_assert_ptr_null(fc_nng_detour_claim(fds[0], body + 4, BODY - 4, &piece));
    fc_nng_detour_give_back(bytes - 4);
    ck_assert_uint_eq(lent_pieces(), 0);
}
END_TEST

START_TEST(without_a_piece_it_lies_in_nngs_memory)
{
    void *piece, *held[PIECES];
    for (int i = 0; i < PIECES; i++)
        held[i] = fc_nng_detour_take(fds[0], BODY);
    pass(body, 0, 10);
    fc_nng_detour_give_back(held[0]); /* too late for the rest */
    pass(body, 10, BODY);
    ck_assert_uint_eq(count_same(body), BODY);
    ck_assert_ptr_null(fc_nng_detour_claim(fds[0], body, BODY, &piece));
    ck_assert_ptr_null(piece);
    fc_nng_detour_give_back(held[1]);
    ck_assert_uint_eq(lent_pieces(), 0);
}
END_TEST

START_TEST(what_is_announced_and_not_sent_holds_nothing)
{
    ck_assert_int_eq(read_part(body, BODY), -1);
    ck_assert_uint_eq(lent_pieces(), 0);
    pass(body, 0, 1);
    ck_assert_uint_eq(lent_pieces(), 1);
    fc_nng_detour_forget(fds[0]);
    ck_assert_uint_eq(lent_pieces(), 0);
}
END_TEST

START_TEST(nobody_gets_anothers_message)
{
    void *piece;
    pass(body, 0, BODY);
    ck_assert_ptr_null(fc_nng_detour_claim(fds[1], body, BODY, &piece));
    fc_nng_detour_forget(fds[0]); /* the next connection may have this number */
    ck_assert_ptr_null(fc_nng_detour_claim(fds[0], body, BODY, &piece));
    ck_assert_uint_eq(lent_pieces(), 1);
    fc_nng_detour_tick(fc_clock_now_ns());
    ck_assert_uint_eq(lent_pieces(), 1); /* nng's callback may be on its way */
    fc_nng_detour_tick(fc_clock_now_ns() + 11 * FC_NS_PER_S);
    ck_assert_uint_eq(lent_pieces(), 0);
}
END_TEST

/* Nng dropped a message and has another one in its memory, which came the same way, or its own. */
START_TEST(a_dropped_message_is_not_the_next_one)
{
    enum { SHORT = FC_NNG_DETOUR_BYTES_MIN - 1 };
    void *piece;
    pass(body, 0, BODY);
    sent[BODY - 1] ^= 1;
    pass(body, 0, BODY);
    ck_assert_uint_eq(lent_pieces(), 1);
    uint8_t *bytes = fc_nng_detour_claim(fds[0], body, BODY, &piece);
    ck_assert_mem_eq(bytes, sent, BODY);
    fc_nng_detour_give_back(piece);
    pass(body, 0, BODY);
    pass(body, BODY - SHORT, BODY);
    ck_assert_mem_eq(body + BODY - SHORT, sent + BODY - SHORT, SHORT);
    ck_assert_ptr_null(fc_nng_detour_claim(fds[0], body + BODY - SHORT, SHORT, &piece));
    ck_assert_uint_eq(lent_pieces(), 0);
}
END_TEST

/* As nng sends: a header and the body, then what is left of it. Returns whether all has gone. */
static bool send_on(const uint8_t *from, size_t *gone)
{
    uint8_t header[HEADER] = {0};
    struct iovec parts[2] = {{.iov_base = header, .iov_len = sizeof header},
                             {.iov_base = (void *)from, .iov_len = BODY}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (*gone > 0) {
        ck_assert_uint_ge(*gone, sizeof header);
        parts[1].iov_base = (uint8_t *)parts[1].iov_base + (*gone - sizeof header);
        parts[1].iov_len -= *gone - sizeof header;
        message = (struct msghdr){.msg_iov = &parts[1], .msg_iovlen = 1};
    }
    ssize_t more = sendmsg(fds[0], &message, MSG_NOSIGNAL);
    ck_assert(more >= 0 || errno == EAGAIN);
    *gone += more > 0 ? (size_t)more : 0;
    return *gone == BODY + sizeof header;
}

/* What the peer gets, but for the first `skipped` bytes; at most `most` now. */
static void receive(uint8_t *to, size_t skipped, size_t most, size_t *got)
{
    uint8_t bytes[4096];
    ssize_t more = 1;
    for (size_t now = 0; now < most && more > 0; now += (size_t)more) {
        more = read(fds[1], bytes, sizeof bytes);
        for (ssize_t i = 0; i < more; i++, (*got)++)
            if (*got >= skipped)
                to[*got - skipped] = bytes[i];
    }
}

/* Behind so much that it leaves in parts. */
START_TEST(a_reply_leaves_from_elsewhere)
{
    size_t filled = 0, gone = 0, got = 0;
    for (ssize_t more; (more = write(fds[0], sent, sizeof sent)) > 0;)
        filled += (size_t)more;
    uint8_t *piece = fc_nng_detour_take(fds[0], BODY);
    memcpy(piece, sent, BODY);
    ck_assert_int_eq(fc_nng_detour_depart(fds[0], body, BODY, piece), FC_OK);
    while (!send_on(body, &gone)) {
        ck_assert_uint_eq(lent_pieces(), 1);
        receive(other_body, filled + HEADER, 20000, &got);
    }
    ck_assert_uint_eq(lent_pieces(), 0);
    receive(other_body, filled + HEADER, SIZE_MAX, &got);
    ck_assert_uint_eq(got, filled + HEADER + BODY);
    ck_assert_mem_eq(other_body, sent, BODY);
}
END_TEST

START_TEST(a_reply_that_does_not_leave_holds_nothing)
{
    size_t gone = 0, got = 0;
    ck_assert_int_eq(fc_nng_detour_depart(fds[0], body, BODY, fc_nng_detour_take(fds[0], BODY)), FC_OK);
    ck_assert_int_eq(fc_nng_detour_depart(fds[0], other_body, BODY, fc_nng_detour_take(fds[0], BODY)), FC_OK);
    ck_assert_uint_eq(lent_pieces(), 2);
    fc_nng_detour_recall(other_body, BODY);
    ck_assert_uint_eq(lent_pieces(), 1);
    fc_nng_detour_forget(fds[1]);
    ck_assert_uint_eq(lent_pieces(), 1);
    fc_nng_detour_forget(fds[0]);
    ck_assert_uint_eq(lent_pieces(), 0);
    memcpy(body, sent, BODY);
    while (!send_on(body, &gone)) /* what is sent now is what lies there */
        receive(other_body, HEADER, SIZE_MAX, &got);
    receive(other_body, HEADER, SIZE_MAX, &got);
    ck_assert_mem_eq(other_body, sent, BODY);
}
END_TEST

START_TEST(short_ones_and_those_over_tls_take_nngs_way)
{
    ck_assert_ptr_null(fc_nng_detour_take(fds[0], FC_NNG_DETOUR_BYTES_MIN - 1));
    ck_assert_ptr_null(fc_nng_detour_take(-1, BODY));
    fc_nng_gap_take(fds[0]); /* as where TLS begins */
    ck_assert_ptr_null(fc_nng_detour_take(fds[0], BODY));
    fc_nng_gap_forget(fds[0]);
}
END_TEST

START_TEST(closed_there_is_no_detour)
{
    void *piece;
    pass(body, 0, BODY);
    ck_assert_int_eq(fc_nng_detour_depart(fds[0], other_body, BODY, fc_nng_detour_take(fds[0], BODY)), FC_OK);
    fc_nng_detour_close();
    ck_assert_uint_eq(fc_pinned_pool_lent_bytes(pool), 0);
    ck_assert_ptr_null(fc_nng_detour_claim(fds[0], body, BODY, &piece));
    ck_assert_ptr_null(fc_nng_detour_take(fds[0], BODY));
    pass(body, 0, BODY);
    ck_assert_uint_eq(count_same(body), BODY);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nng_detour");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_add_test(all, a_large_message_lies_elsewhere);
    tcase_add_test(all, without_a_piece_it_lies_in_nngs_memory);
    tcase_add_test(all, what_is_announced_and_not_sent_holds_nothing);
    tcase_add_test(all, nobody_gets_anothers_message);
    tcase_add_test(all, a_dropped_message_is_not_the_next_one);
    tcase_add_test(all, a_reply_leaves_from_elsewhere);
    tcase_add_test(all, a_reply_that_does_not_leave_holds_nothing);
    tcase_add_test(all, short_ones_and_those_over_tls_take_nngs_way);
    tcase_add_test(all, closed_there_is_no_detour);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
