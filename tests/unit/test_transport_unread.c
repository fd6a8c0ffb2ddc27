/* The transport and peers that do not read their replies. */
#include "daemon/clock.h"
#include "daemon/nng_readers.h"
#include "daemon/transport.h"
#include "proto/codec.h"
#include "tests/support/sp_peer.h"
#include "tests/support/transport_bench.h"

#include <check.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

enum { UNREAD = 12, ROOM_MAX = 4 };

/* A peer that sends stats requests, whose replies are larger, and reads none. */
static size_t open_deaf(sp_peer *deaf, const char *url, uint8_t frame[64])
{
    size_t size_bytes = 0;
    fc_wire_request request = {.id = 1, .op = FC_OP_STATS};
    memset(frame, 0, 64);
    ck_assert_int_eq(fc_codec_encode_request(&request, NULL, frame + 13, 64 - 13, &size_bytes), FC_OK);
    frame[0] = 1;
    frame[8] = (uint8_t)(size_bytes + 4);
    frame[9] = 0x80;
    sp_peer_open(deaf, url);
    return 13 + size_bytes;
}

START_TEST(a_peer_that_reads_nothing_does_not_starve_others)
{
    transport_bench b;
    transport_bench_open(&b, 1);
    sp_peer deaf;
    uint8_t frame[64];
    size_t size_bytes = open_deaf(&deaf, b.ipc_url, frame);
    fc_stats *stats = fc_service_stats(b.service);
    const uint64_t end_ns = fc_clock_now_ns() + 20 * FC_NS_PER_S;
    uint64_t most = 0;
    while (fc_stats_get(stats, FC_COUNT_PIPES_CUT) == 0) {
        ck_assert(fc_clock_now_ns() < end_ns);
        uint64_t replying = fc_stats_get(stats, FC_GAUGE_REPLYING);
        most = replying > most ? replying : most;
        if (send(deaf.fd, frame, size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            sched_yield();
        transport_bench_assert_ping(b.ipc_url); /* meanwhile, too */
    }
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 1);
    ck_assert_uint_ge(most, FC_NNG_READERS_WAITING_MAX / 2); /* not before others needed the room */
    transport_bench_assert_ping(b.ipc_url);
    transport_bench_await_stat(&b, FC_GAUGE_REPLYING, 0);
    transport_bench_await_stat(&b, FC_GAUGE_PIPES, 0);
    sp_peer_close(&deaf);
    transport_bench_close(&b);
}
END_TEST

/* As often as not a reply is partly sent when its connection is cut: nng must forget each of them. */
START_TEST(those_that_are_cut_are_forgotten)
{
    transport_bench b;
    transport_bench_open(&b, 1);
    fc_stats *stats = fc_service_stats(b.service);
    uint8_t frame[64];
    for (int i = 0; i < 50; i++) {
        sp_peer deaf;
        size_t size_bytes = open_deaf(&deaf, i % 2 == 0 ? b.ipc_url : b.tcp_url, frame);
        const uint8_t *sent = i % 2 == 0 ? frame : frame + 1;
        size_bytes -= (size_t)(i % 2);
        while (fc_stats_get(stats, FC_COUNT_PIPES_CUT) == (uint64_t)i) {
            if (send(deaf.fd, sent, size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                sched_yield();
        }
        sp_peer_close(&deaf);
    }
    transport_bench_await_stat(&b, FC_GAUGE_PIPES, 0);
    transport_bench_close(&b);
}
END_TEST

/* A peer with requests whose replies it does not read: all wait but those the system has room for. */
static void open_with_unread(transport_bench *b, sp_peer *deaf)
{
    transport_bench_open(b, 16);
    sp_peer_open(deaf, b->ipc_url);
    fc_wire_request request = transport_bench_attend(1, 8192); /* a reply of 2 MiB */
    for (uint32_t i = 0; i < UNREAD; i++)
        sp_peer_request(deaf, i, &request);
    for (uint64_t end_ns = fc_clock_now_ns() + 20 * FC_NS_PER_S;; sched_yield()) {
        if (fc_stats_get(fc_service_stats(b->service), FC_GAUGE_REPLYING) >= UNREAD - ROOM_MAX)
            return;
        ck_assert(fc_clock_now_ns() < end_ns);
    }
}

START_TEST(unread_replies_hold_no_more_bytes_than_the_queue)
{
    transport_bench b;
    sp_peer deaf;
    open_with_unread(&b, &deaf);
    fc_stats *stats = fc_service_stats(b.service);
    uint64_t now_ns = fc_clock_now_ns();
    fc_stats_set(stats, FC_GAUGE_QUEUE_LIMIT_BYTES, 64 << 20);
    fc_transport_relieve(b.transport, now_ns + FC_NS_PER_S);
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 0);
    ck_assert_uint_ge(fc_stats_get(stats, FC_GAUGE_REPLYING), UNREAD - ROOM_MAX);
    fc_stats_set(stats, FC_GAUGE_QUEUE_LIMIT_BYTES, 8 << 20);
    fc_transport_relieve(b.transport, now_ns + 2 * FC_NS_PER_S);
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 1);
    transport_bench_await_stat(&b, FC_GAUGE_REPLYING, 0);
    sp_peer_close(&deaf);
    transport_bench_close(&b);
}
END_TEST

START_TEST(an_unread_reply_does_not_hold_up_the_end)
{
    transport_bench b;
    sp_peer deaf;
    open_with_unread(&b, &deaf);
    fc_stats *stats = fc_service_stats(b.service);
    uint64_t now_ns = fc_clock_now_ns();
    fc_transport_relieve(b.transport, now_ns + 60 * FC_NS_PER_S); /* as long as the server serves */
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 0);
    fc_service_drain(b.service);
    fc_transport_relieve(b.transport, now_ns + FC_NS_PER_S);
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 0);
    fc_transport_relieve(b.transport, now_ns + 6 * FC_NS_PER_S);
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 1);
    transport_bench_await_stat(&b, FC_GAUGE_REPLYING, 0);
    while (!fc_transport_is_flushed(b.transport))
        sched_yield();
    sp_peer_close(&deaf);
    transport_bench_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport_unread");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_test(core, a_peer_that_reads_nothing_does_not_starve_others);
    tcase_add_test(core, those_that_are_cut_are_forgotten);
    tcase_add_test(core, unread_replies_hold_no_more_bytes_than_the_queue);
    tcase_add_test(core, an_unread_reply_does_not_hold_up_the_end);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
