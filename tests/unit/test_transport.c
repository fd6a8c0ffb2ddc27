/* The transport over real ipc and tcp sockets, against peers that do as they like on the wire. The engine behind it is
 * a fake that holds launches until the test lets them go.
 */
#include "daemon/clock.h"
#include "daemon/nng_arrivals.h"
#include "daemon/nng_listener_fix.h"
#include "daemon/socket_rights.h"
#include "daemon/transport.h"
#include "tests/support/lingering.h"
#include "tests/support/packet_peer.h"
#include "tests/support/sp_peer.h"
#include "tests/support/transport_bench.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(both_transports_answer)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    ck_assert(strncmp(b.tcp_url, "tcp://127.0.0.1:", 16) == 0 && strcmp(b.tcp_url + 16, "0") != 0);
    transport_bench_assert_ping(b.ipc_url);
    transport_bench_assert_ping(b.tcp_url);
    struct stat info;
    ck_assert_int_eq(stat(b.ipc_url + 6, &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0620);
    transport_bench_close(&b);
}
END_TEST

START_TEST(requests_of_one_connection_overtake)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    sp_peer peer;
    uint32_t number = 0;
    fc_wire_reply reply;
    fake_engine_hold(&b.engine);
    sp_peer_open(&peer, b.ipc_url);
    fc_wire_request slow = transport_bench_attend(1, 1);
    fc_wire_request ping = {.id = 2, .op = FC_OP_PING};
    sp_peer_request(&peer, 11, &slow);
    sp_peer_request(&peer, 12, &ping);
    sp_peer_await(&peer, &number, &reply);
    ck_assert_uint_eq(number, 12);
    fake_engine_release_all(&b.engine);
    sp_peer_await(&peer, &number, &reply);
    ck_assert_uint_eq(number, 11);
    ck_assert_int_eq(reply.status, FC_OK);
    ck_assert_uint_eq(reply.attend.out.data_bytes, TRANSPORT_BENCH_D * sizeof(float));
    ck_assert_uint_eq(reply.attend.out.data[0], FAKE_ENGINE_FILL);
    sp_peer_close(&peer);
    transport_bench_close(&b);
}
END_TEST

/* Contexts work side by side: which of the requests finds room in the queue is not told. */
START_TEST(busy_comes_at_once_through_a_full_queue)
{
    enum { QUEUED = 3, SENT = 1 + QUEUED + 37 };
    transport_bench b;
    transport_bench_open(&b, QUEUED);
    sp_peer peer;
    uint32_t number = 0;
    fc_wire_reply reply;
    bool is_answered[SENT] = {false};
    fake_engine_hold(&b.engine);
    sp_peer_open(&peer, b.tcp_url);
    fc_wire_request request = transport_bench_attend(1, 1);
    sp_peer_request(&peer, 0, &request);
    fake_engine_await_launches(&b.engine, 1);
    for (uint32_t i = 1; i < SENT; i++)
        sp_peer_request(&peer, i, &request);
    for (int i = 0; i < SENT; i++) {
        if (i == SENT - 1 - QUEUED)
            fake_engine_release_all(&b.engine);
        sp_peer_await(&peer, &number, &reply);
        bool is_refused = i < SENT - 1 - QUEUED;
        ck_assert_int_eq(reply.status, is_refused ? FC_BUSY : FC_OK);
        ck_assert(!is_refused || reply.retry_after_us > 0);
        ck_assert_uint_lt(number, SENT);
        ck_assert_msg(!is_answered[number], "%u is answered twice", number);
        ck_assert_msg(!is_refused || number != 0, "what runs is refused");
        is_answered[number] = true;
    }
    sp_peer_close(&peer);
    transport_bench_close(&b);
}
END_TEST

START_TEST(peers_that_connect_and_close_do_no_harm)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    for (int i = 0; i < 500; i++) {
        sp_peer peer;
        sp_peer_connect(&peer, i % 4 == 3 ? b.tcp_url : b.ipc_url);
        sp_peer_close(&peer);
    }
    transport_bench_assert_ping(b.ipc_url);
    transport_bench_assert_ping(b.tcp_url);
    transport_bench_close(&b);
}
END_TEST

START_TEST(the_sendmsg_nng_calls_is_ours)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    uint64_t before = fc_nng_listener_fix_calls();
    transport_bench_assert_ping(b.ipc_url);
    ck_assert_int_eq(fc_nng_listener_fix_calls() > before, fc_nng_listener_fix_is_needed());
    transport_bench_close(&b);
}
END_TEST

/* What comes before the 1 MiB of such a message. */
static const uint8_t HEAD_OF_1_MIB[13] = {1, [6] = 0x10, [9] = 0x80};

/* A request on its way is seen to come before it is whole. */
START_TEST(parts_of_messages_are_counted)
{
    enum { PART_BYTES = 100000, PARTS = 3 };
    static const uint8_t zeros[PART_BYTES];
    transport_bench b;
    transport_bench_open(&b, 16);
    sp_peer peer;
    sp_peer_open(&peer, b.ipc_url);
    sp_peer_send_raw(&peer, HEAD_OF_1_MIB, sizeof HEAD_OF_1_MIB);
    for (int i = 0; i < PARTS; i++) {
        uint64_t before = fc_nng_arrivals_bytes();
        sp_peer_send_raw(&peer, zeros, sizeof zeros);
        while (fc_nng_listener_fix_is_needed() && fc_nng_arrivals_bytes() < before + PART_BYTES)
            sched_yield();
    }
    ck_assert_uint_eq(fc_stats_get(fc_service_stats(b.service), FC_COUNT_BYTES_IN), 0);
    sp_peer_close(&peer);
    transport_bench_close(&b);
}
END_TEST

/* nng reads all its connections on one thread: closing this there would stop it for minutes. */
START_TEST(what_takes_long_to_close_is_not_taken)
{
    transport_bench b;
    sp_peer peer;
    int reader = -1;
    if (!lingering_can_be_refused())
        return;
    transport_bench_open(&b, 4);
    sp_peer_open(&peer, b.ipc_url);
    int fd = lingering_open(&reader);
    ck_assert(!fc_socket_rights_are_refused(fd)); /* links our listen(), which a sanitizer's own would stand in for */
    ck_assert(!packet_peer_send_descriptors(peer.fd, "\1", 1, fd, 1));
    ck_assert_int_eq(errno, EPERM);
    transport_bench_assert_ping(b.ipc_url);
    close(reader);
    close(fd);
    sp_peer_close(&peer);
    transport_bench_close(&b);
}
END_TEST

START_TEST(hostile_bytes_end_their_own_connection_only)
{
    static const struct {
        const char *name;
        bool greets;
        size_t size_bytes;
        uint8_t bytes[24];
    } rows[] = {
        {"no SP greeting", false, 8, "GET / HT"},
        {"half a greeting", false, 3, {0, 'S', 'P'}},
        {"a PUB peer", false, 8, {0, 'S', 'P', 0, 0, 0x20, 0, 0}},
        {"an absurd length", true, 13, {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 1}},
        {"a wrong frame type", true, 13, {2, 0, 0, 0, 0, 0, 0, 0, 4, 0x80, 0, 0, 1}},
        {"no request number", true, 9, {1, 0, 0, 0, 0, 0, 0, 0, 0}},
        {"a request number without its bit", true, 13, {1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1}},
        {"half a frame", true, 15, {1, 0, 0, 0, 0, 0, 0, 1, 0, 0x80, 0, 0, 1, 0x81, 0xa1}},
    };
    transport_bench b;
    transport_bench_open(&b, 16);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sp_peer peer;
        sp_peer_connect(&peer, b.ipc_url);
        if (rows[i].greets)
            ck_assert(sp_peer_greet(&peer));
        sp_peer_send_raw(&peer, rows[i].bytes, rows[i].size_bytes);
        transport_bench_assert_ping(b.ipc_url);
        sp_peer_close(&peer);
    }
    transport_bench_assert_ping(b.tcp_url);
    transport_bench_close(&b);
}
END_TEST

START_TEST(garbage_in_a_frame_is_answered)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    sp_peer peer;
    uint32_t number = 0;
    fc_wire_reply reply;
    sp_peer_open(&peer, b.ipc_url);
    sp_peer_send(&peer, 3, "\xdd\x1f\xff\xff\xff", 5);
    sp_peer_await(&peer, &number, &reply);
    ck_assert_uint_eq(number, 3);
    ck_assert_int_eq(reply.status, FC_INVALID_ARGUMENT);
    sp_peer_send(&peer, 4, "", 0);
    sp_peer_await(&peer, &number, &reply);
    ck_assert_int_eq(reply.status, FC_INVALID_ARGUMENT);
    sp_peer_close(&peer);
    transport_bench_close(&b);
}
END_TEST

/* A frame announcing one byte more than the limit allows; nothing after its head is needed. */
START_TEST(an_oversize_message_cuts_its_connection)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    sp_peer peer;
    uint32_t number = 0;
    uint8_t head[13] = {1};
    uint64_t length = TRANSPORT_BENCH_MESSAGE_BYTES + 1 + 4096;
    sp_peer_open(&peer, b.ipc_url);
    for (int i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)(length >> (56 - 8 * i));
    sp_peer_send_raw(&peer, head, sizeof head);
    ck_assert(!sp_peer_receive(&peer, &number));
    sp_peer_close(&peer);
    transport_bench_assert_ping(b.ipc_url);
    transport_bench_close(&b);
}
END_TEST

START_TEST(a_peer_that_leaves_loses_its_place)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    sp_peer leaver;
    sp_peer stayer;
    uint32_t number = 0;
    fc_wire_reply reply;
    fake_engine_hold(&b.engine);
    sp_peer_open(&leaver, b.ipc_url);
    sp_peer_open(&stayer, b.ipc_url);
    fc_wire_request request = transport_bench_attend(1, 1);
    sp_peer_request(&leaver, 1, &request);
    fake_engine_await_launches(&b.engine, 1);
    for (uint32_t i = 2; i <= 5; i++)
        sp_peer_request(&leaver, i, &request);
    sp_peer_request(&stayer, 1, &request);
    transport_bench_await_stat(&b, FC_GAUGE_QUEUED, 5);
    sp_peer_close(&leaver);
    transport_bench_await_stat(&b, FC_GAUGE_QUEUED, 1);
    transport_bench_await_stat(&b, FC_COUNT_DROPPED, 4);
    fake_engine_release_all(&b.engine);
    sp_peer_await(&stayer, &number, &reply);
    ck_assert_int_eq(reply.status, FC_OK);
    ck_assert_uint_eq(fake_engine_launch_count(&b.engine), 2);
    sp_peer_close(&stayer);
    transport_bench_close(&b);
}
END_TEST

START_TEST(draining_refuses_peers_and_serves_the_old_ones)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    sp_peer old;
    sp_peer late;
    uint32_t number = 0;
    fc_wire_reply reply;
    fake_engine_hold(&b.engine);
    sp_peer_open(&old, b.ipc_url);
    fc_wire_request request = transport_bench_attend(1, 1);
    sp_peer_request(&old, 1, &request);
    fake_engine_await_launches(&b.engine, 1);
    fc_transport_refuse_peers(b.transport);
    fc_service_drain(b.service);
    sp_peer_connect(&late, b.ipc_url);
    ck_assert(!sp_peer_greet(&late)); /* so it sends nothing */
    sp_peer_close(&late);
    sp_peer_request(&old, 2, &request);
    sp_peer_await(&old, &number, &reply);
    ck_assert_uint_eq(number, 2);
    ck_assert_int_eq(reply.status, FC_DRAINING);
    ck_assert(!fc_service_is_idle(b.service));
    fake_engine_release_all(&b.engine);
    sp_peer_await(&old, &number, &reply);
    ck_assert_int_eq(reply.status, FC_OK);
    transport_bench_await_stat(&b, FC_GAUGE_REPLYING, 0);
    ck_assert(fc_service_is_idle(b.service));
    sp_peer_close(&old);
    transport_bench_close(&b);
}
END_TEST

START_TEST(closing_waits_for_replies_on_their_way)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    sp_peer peer;
    uint32_t number = 0;
    fc_wire_reply reply;
    sp_peer_open(&peer, b.ipc_url);
    fc_wire_request request =
        transport_bench_attend(1, TRANSPORT_BENCH_TOKENS_MAX); /* 8 MiB back: far more than a socket holds */
    sp_peer_request(&peer, 1, &request);
    transport_bench_await_stat(&b, FC_COUNT_LAUNCHES, 1);
    fc_transport_refuse_peers(b.transport);
    fc_service_drain(b.service);
    while (!fc_service_is_idle(b.service))
        sched_yield();
    ck_assert(!fc_transport_is_flushed(b.transport));
    sp_peer_await(&peer, &number, &reply);
    ck_assert_uint_eq(reply.attend.out.data_bytes, request.attend.q.data_bytes);
    while (!fc_transport_is_flushed(b.transport))
        sched_yield();
    sp_peer_close(&peer);
    transport_bench_close(&b);
}
END_TEST

enum { PARTLY_SENDING = 8 };

typedef struct {
    sp_peer peers[PARTLY_SENDING];
    atomic_bool is_over;
} senders;

/* A byte at a time, of messages of 1 MiB each, until the daemon hangs up. */
static void *send_bit_by_bit(void *argument)
{
    senders *s = argument;
    while (!atomic_load(&s->is_over))
        for (int i = 0; i < PARTLY_SENDING; i++)
            (void)!send(s->peers[i].fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    return NULL;
}

/* nng 1.5 never forgets a connection that is closed on this side while it takes a part of a message. */
START_TEST(closing_ends_while_messages_are_half_read)
{
    for (int round = 0; round < 3; round++) {
        transport_bench b;
        pthread_t thread;
        senders s;
        atomic_init(&s.is_over, false);
        transport_bench_open(&b, 16);
        for (int i = 0; i < PARTLY_SENDING; i++) {
            sp_peer_open(&s.peers[i], b.ipc_url);
            sp_peer_send_raw(&s.peers[i], HEAD_OF_1_MIB, sizeof HEAD_OF_1_MIB);
        }
        uint64_t before = fc_nng_arrivals_bytes();
        ck_assert_int_eq(pthread_create(&thread, NULL, send_bit_by_bit, &s), 0);
        while (fc_nng_listener_fix_is_needed() && fc_nng_arrivals_bytes() < before + 10000)
            sched_yield();
        transport_bench_close(&b);
        atomic_store(&s.is_over, true);
        pthread_join(thread, NULL);
        for (int i = 0; i < PARTLY_SENDING; i++)
            sp_peer_close(&s.peers[i]);
    }
}
END_TEST

/* Peers that die while a large reply is partly sent: nng must forget each of them. */
START_TEST(peers_that_die_mid_reply_are_forgotten)
{
    transport_bench b;
    transport_bench_open(&b, 16);
    fc_wire_request request = transport_bench_attend(1, 8192); /* 2 MiB */
    uint8_t some[4096];
    for (int i = 0; i < 400; i++) {
        sp_peer peer;
        sp_peer_open(&peer, i % 2 == 0 ? b.ipc_url : b.tcp_url);
        sp_peer_request(&peer, 1, &request);
        for (int reads = 0; reads < 1 + i % 97; reads++)
            ck_assert(sp_peer_read(&peer, some, sizeof some));
        sp_peer_close(&peer);
    }
    transport_bench_assert_ping(b.ipc_url);
    transport_bench_await_stat(&b, FC_GAUGE_PIPES, 0);
    transport_bench_close(&b);
}
END_TEST

enum { CHURN = 1000 };

static void *come_and_go(void *ipc_url)
{
    for (int i = 0; i < CHURN; i++) {
        sp_peer peer;
        sp_peer_open(&peer, ipc_url);
        sp_peer_close(&peer);
    }
    return NULL;
}

/* The time given to a tick is read before it looks; connections go on closing in between. */
START_TEST(what_closes_during_a_tick_is_not_leaked)
{
    transport_bench b;
    pthread_t thread;
    transport_bench_open(&b, 16);
    fc_stats *stats = fc_service_stats(b.service);
    uint64_t before_ns = fc_clock_now_ns();
    ck_assert_int_eq(pthread_create(&thread, NULL, come_and_go, b.ipc_url), 0);
    while (fc_stats_get(stats, FC_COUNT_PIPES_CLOSED) < CHURN) {
        fc_transport_tick(b.transport, before_ns);
        ck_assert_uint_eq(fc_stats_get(stats, FC_GAUGE_PIPES_LEAKED), 0);
    }
    pthread_join(thread, NULL);
    transport_bench_close(&b);
}
END_TEST

START_TEST(more_contexts_after_a_larger_queue)
{
    transport_bench b;
    transport_bench_open(&b, 1);
    sp_peer peer;
    uint32_t number = 0;
    fc_wire_reply reply;
    fc_reason reason = {""};
    fc_service_tunables tunables = {.default_kernel = FC_KERNEL_AUTO,
                                    .queue_requests = 340,
                                    .queue_bytes = UINT64_MAX,
                                    .inflight_per_peer = 1000,
                                    .batch_requests = 4};
    ck_assert_int_eq(fc_service_reconfigure(b.service, &tunables, &reason), FC_OK);
    ck_assert_int_eq(fc_transport_reconfigure(b.transport, 8), FC_OK);
    fake_engine_hold(&b.engine);
    sp_peer_open(&peer, b.ipc_url);
    fc_wire_request request = transport_bench_attend(1, 1);
    sp_peer_request(&peer, 0, &request);
    fake_engine_await_launches(&b.engine, 1);
    for (uint32_t i = 1; i <= 300; i++)
        sp_peer_request(&peer, i, &request);
    transport_bench_await_stat(&b, FC_GAUGE_QUEUED, 300);
    fake_engine_release_all(&b.engine);
    for (uint32_t i = 0; i <= 300; i++) {
        sp_peer_await(&peer, &number, &reply);
        ck_assert_int_eq(reply.status, FC_OK);
    }
    sp_peer_close(&peer);
    transport_bench_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport");
    TCase *serving = tcase_create("serving");
    tcase_set_timeout(serving, 60);
    tcase_add_test(serving, both_transports_answer);
    tcase_add_test(serving, requests_of_one_connection_overtake);
    tcase_add_test(serving, busy_comes_at_once_through_a_full_queue);
    tcase_add_test(serving, more_contexts_after_a_larger_queue);
    suite_add_tcase(suite, serving);
    TCase *hostile = tcase_create("hostile");
    tcase_set_timeout(hostile, 60);
    tcase_add_test(hostile, peers_that_connect_and_close_do_no_harm);
    tcase_add_test(hostile, the_sendmsg_nng_calls_is_ours);
    tcase_add_test(hostile, parts_of_messages_are_counted);
    tcase_add_test(hostile, what_takes_long_to_close_is_not_taken);
    tcase_add_test(hostile, hostile_bytes_end_their_own_connection_only);
    tcase_add_test(hostile, garbage_in_a_frame_is_answered);
    tcase_add_test(hostile, an_oversize_message_cuts_its_connection);
    tcase_add_test(hostile, a_peer_that_leaves_loses_its_place);
    tcase_add_test(hostile, peers_that_die_mid_reply_are_forgotten);
    tcase_add_test(hostile, what_closes_during_a_tick_is_not_leaked);
    suite_add_tcase(suite, hostile);
    TCase *ends = tcase_create("ends");
    tcase_set_timeout(ends, 60);
    tcase_add_test(ends, draining_refuses_peers_and_serves_the_old_ones);
    tcase_add_test(ends, closing_waits_for_replies_on_their_way);
    tcase_add_test(ends, closing_ends_while_messages_are_half_read);
    suite_add_tcase(suite, ends);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
