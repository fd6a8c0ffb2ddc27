/* The transport and peers that send half of a message. */
#include "daemon/clock.h"
#include "daemon/nng_arrivals.h"
#include "daemon/nng_listener_fix.h"
#include "daemon/transport.h"
#include "tests/support/sp_peer.h"
#include "tests/support/transport_bench.h"

#include <check.h>
#include <sched.h>
#include <stdlib.h>

enum { HALVES = 4, WHOLE_BYTES = TRANSPORT_BENCH_MESSAGE_BYTES, SENT_BYTES = WHOLE_BYTES / 2, HEAD_BYTES = 8 };

static uint8_t message[WHOLE_BYTES];

/* Four half-sent messages, and room in the queue for one. */
static void open_with_halves(transport_bench *b, sp_peer halves[HALVES], bool is_ipc)
{
    const uint8_t head[1 + HEAD_BYTES] = {
        1, [6] = WHOLE_BYTES >> 16, [7] = WHOLE_BYTES >> 8 & 0xff, [8] = WHOLE_BYTES & 0xff};
    const uint64_t end_ns = fc_clock_now_ns() + 20 * FC_NS_PER_S;
    transport_bench_open(b, 16);
    message[0] = 0x80;
    for (int i = 0; i < HALVES; i++) {
        sp_peer_open(&halves[i], is_ipc ? b->ipc_url : b->tcp_url);
        sp_peer_send_raw(&halves[i], is_ipc ? head : head + 1, is_ipc ? sizeof head : HEAD_BYTES);
        sp_peer_send_raw(&halves[i], message, SENT_BYTES);
    }
    while (fc_nng_arrivals_half_bytes() < (uint64_t)HALVES * WHOLE_BYTES) {
        ck_assert(fc_clock_now_ns() < end_ns);
        sched_yield();
    }
    fc_stats_set(fc_service_stats(b->service), FC_GAUGE_QUEUE_LIMIT_BYTES, WHOLE_BYTES);
}

/* How many get an answer when they send the rest. */
static int finish(sp_peer halves[HALVES])
{
    int answered = 0;
    for (int i = 0; i < HALVES; i++) {
        uint32_t number;
        sp_peer_send_raw(&halves[i], message + SENT_BYTES, WHOLE_BYTES - SENT_BYTES);
        answered += sp_peer_receive(&halves[i], &number);
        sp_peer_close(&halves[i]);
    }
    return answered;
}

START_TEST(half_sent_messages_hold_no_more_than_the_queue_and_one)
{
    transport_bench b;
    sp_peer halves[HALVES];
    if (!fc_nng_listener_fix_is_needed())
        return;
    open_with_halves(&b, halves, _i == 0);
    fc_stats *stats = fc_service_stats(b.service);
    const uint64_t now_ns = fc_clock_now_ns();
    fc_transport_relieve(b.transport, now_ns - 5 * FC_NS_PER_S); /* all are new: no more than the queue twice and one */
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 1);
    fc_transport_relieve(b.transport, now_ns + 5 * FC_NS_PER_S);
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 2);
    fc_transport_relieve(b.transport, now_ns + 500 * FC_NS_PER_S);
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 2);
    transport_bench_await_stat(&b, FC_GAUGE_PIPES, 2);
    ck_assert_int_eq(finish(halves), 2);
    ck_assert_uint_eq(fc_nng_arrivals_half_bytes(), 0);
    transport_bench_await_stat(&b, FC_GAUGE_PIPES, 0);
    transport_bench_close(&b);
}
END_TEST

START_TEST(they_may_stay_as_long_as_there_is_room)
{
    transport_bench b;
    sp_peer halves[HALVES];
    if (!fc_nng_listener_fix_is_needed())
        return;
    open_with_halves(&b, halves, _i == 0);
    fc_stats *stats = fc_service_stats(b.service);
    fc_stats_set(stats, FC_GAUGE_QUEUE_LIMIT_BYTES, (HALVES - 1) * (uint64_t)WHOLE_BYTES);
    fc_transport_relieve(b.transport, fc_clock_now_ns() + 3600 * FC_NS_PER_S);
    ck_assert_uint_eq(fc_stats_get(stats, FC_COUNT_PIPES_CUT), 0);
    ck_assert_int_eq(finish(halves), HALVES);
    transport_bench_await_stat(&b, FC_GAUGE_PIPES, 0);
    transport_bench_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport_half");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_loop_test(core, half_sent_messages_hold_no_more_than_the_queue_and_one, 0, 2);
    tcase_add_loop_test(core, they_may_stay_as_long_as_there_is_room, 0, 2);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
