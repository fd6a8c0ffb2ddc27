/* Waiting in the service, driven step by step by an engine that holds launches: company, bounds, cancel, deadlines,
 * lost peers, drain, and many threads at once.
 */
#include "daemon/clock.h"
#include "tests/support/service_bench.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(what_waits_together_runs_together)
{
    service_bench b;
    service_bench_open(&b);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    fc_wire_request other = service_bench_request(4);
    other.attend.q = other.attend.k = other.attend.v =
        service_bench_tensor(FC_F16, SERVICE_BENCH_B, SERVICE_BENCH_H, SERVICE_BENCH_S, SERVICE_BENCH_D);
    service_bench_attend(&b, 2, 7);
    service_bench_attend(&b, 3, 8);
    reply_box_send(&b.boxes[4], &other, NULL, 7); /* another dtype: cannot share */
    service_bench_attend(&b, 5, 9);
    fake_engine_release(&b.engine, 3);
    for (int i = 1; i <= 5; i++)
        service_bench_expect(&b, i, FC_OK);
    ck_assert_uint_eq(b.engine.launch_count, 3);
    ck_assert_uint_eq(b.engine.job_counts[1], 3);
    ck_assert_uint_eq(b.engine.job_counts[2], 1);
    ck_assert_uint_eq(b.boxes[2].reply.attend.timing.batch, 3);
    ck_assert_uint_eq(b.boxes[5].reply.attend.timing.batch, 3);
    ck_assert_uint_eq(b.boxes[4].reply.attend.timing.batch, 1);
    ck_assert_double_eq(service_bench_counter(&b, 6, "shared_launches"), 1);
    ck_assert_double_eq(service_bench_counter(&b, 6, "launched_requests"), 5);
    service_bench_close(&b);
}
END_TEST

/* Lanes that stay awake for half a minute: requests find them, before and behind sleeping ones, and a stop ends their
 * watch, or the test would take as long. */
START_TEST(lanes_that_are_awake_take_what_comes)
{
    service_bench b;
    service_bench_prepare(&b);
    b.engine.lane_count = 3;
    fc_service_config config = service_bench_config(&b);
    config.engine_config.spin_us = 30 * 1000 * 1000;
    config.tunables.batch_requests = 1;
    service_bench_open_with(&b, &config);
    for (int round = 1; round <= 4; round++) {
        fake_engine_hold(&b.engine);
        for (int i = 1; i <= 3; i++)
            service_bench_attend(&b, i, 7);
        fake_engine_await_launches(&b.engine, 3 * (uint32_t)round); /* each on a lane of its own */
        fake_engine_release_all(&b.engine);
        for (int i = 1; i <= 3; i++)
            service_bench_expect(&b, i, FC_OK);
    }
    service_bench_close(&b);
}
END_TEST

START_TEST(a_launch_respects_the_lanes_memory)
{
    service_bench b;
    service_bench_prepare(&b);
    b.engine.staging_bytes = 400; /* two fit 1000 */
    fc_service_config config = service_bench_config(&b);
    service_bench_open_with(&b, &config);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    for (int i = 2; i <= 4; i++)
        service_bench_attend(&b, i, 7);
    fake_engine_release(&b.engine, 3);
    for (int i = 1; i <= 4; i++)
        service_bench_expect(&b, i, FC_OK);
    ck_assert_uint_eq(b.engine.job_counts[1], 2);
    ck_assert_uint_eq(b.engine.job_counts[2], 1);
    b.engine.staging_bytes = 1001;
    service_bench_attend(&b, 5, 7);
    service_bench_expect(&b, 5, FC_TOO_LARGE);
    service_bench_close(&b);
}
END_TEST

/* What needs more than the engine does well with at once goes alone, and is not refused for it. */
START_TEST(a_launch_is_no_longer_than_the_engine_likes)
{
    static const struct {
        size_t staging_bytes, launch_bytes;
        uint32_t together;
    } ROWS[] = {{200, 0, 3}, {200, 600, 3}, {200, 599, 2}, {400, 500, 1}, {600, 500, 1}, {200, 5000, 3}};
    service_bench b;
    service_bench_prepare(&b);
    b.engine.staging_bytes = ROWS[_i].staging_bytes;
    b.engine.launch_bytes = ROWS[_i].launch_bytes;
    fc_service_config config = service_bench_config(&b);
    service_bench_open_with(&b, &config);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    for (int i = 2; i <= 4; i++)
        service_bench_attend(&b, i, 7);
    fake_engine_release_all(&b.engine);
    for (int i = 1; i <= 4; i++)
        service_bench_expect(&b, i, FC_OK);
    ck_assert_uint_eq(b.engine.job_counts[1], ROWS[_i].together);
    service_bench_close(&b);
}
END_TEST

START_TEST(past_the_queue_it_is_busy_at_once)
{
    service_bench b;
    service_bench_prepare(&b);
    fc_service_config config = service_bench_config(&b);
    config.tunables.queue_requests = 2;
    service_bench_open_with(&b, &config);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    service_bench_attend(&b, 2, 7);
    service_bench_attend(&b, 3, 7);
    service_bench_attend(&b, 4, 8);
    ck_assert(reply_box_is_answered(&b.boxes[4]));
    service_bench_expect(&b, 4, FC_BUSY);
    ck_assert_uint_gt(b.boxes[4].reply.retry_after_us, 0);
    ck_assert(!reply_box_is_answered(&b.boxes[2]));

    fc_reason reason = {""};
    config.tunables.queue_requests = 3;
    ck_assert_int_eq(fc_service_reconfigure(b.service, &config.tunables, &reason), FC_OK);
    service_bench_attend(&b, 4, 8);
    ck_assert(!reply_box_is_answered(&b.boxes[4]));
    fake_engine_release_all(&b.engine);
    for (int i = 1; i <= 4; i++)
        service_bench_expect(&b, i, FC_OK);
    service_bench_close(&b);
}
END_TEST

START_TEST(past_the_queues_bytes_it_is_busy)
{
    service_bench b;
    service_bench_prepare(&b);
    fc_service_config config = service_bench_config(&b);
    config.tunables.queue_bytes = 1000; /* one message of 3 x 192 bytes of data fits, two do not */
    service_bench_open_with(&b, &config);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    service_bench_attend(&b, 2, 7);
    service_bench_attend(&b, 3, 7);
    service_bench_expect(&b, 3, FC_BUSY);
    fake_engine_release_all(&b.engine);
    service_bench_expect(&b, 2, FC_OK);
    service_bench_close(&b);
}
END_TEST

START_TEST(a_peer_has_its_share_and_no_more)
{
    service_bench b;
    service_bench_prepare(&b);
    fc_service_config config = service_bench_config(&b);
    config.tunables.inflight_per_peer = 2;
    service_bench_open_with(&b, &config);
    fake_engine_hold(&b.engine);
    b.boxes[1].keeps_sending = true;
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    service_bench_attend(&b, 2, 7);
    service_bench_attend(&b, 3, 7);
    service_bench_expect(&b, 3, FC_BUSY);
    service_bench_attend(&b, 4, 8);
    ck_assert(!reply_box_is_answered(&b.boxes[4]));
    fake_engine_release_all(&b.engine);
    service_bench_expect(&b, 2, FC_OK);
    service_bench_expect(&b, 4, FC_OK);
    /* The first is answered but has not left: it still counts. */
    service_bench_expect(&b, 1, FC_OK);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 2, 7);
    service_bench_attend(&b, 3, 7);
    service_bench_expect(&b, 3, FC_BUSY);
    reply_box_finish(&b.boxes[1]);
    b.boxes[1].keeps_sending = false;
    service_bench_attend(&b, 3, 7);
    fake_engine_release_all(&b.engine);
    service_bench_expect(&b, 2, FC_OK);
    service_bench_expect(&b, 3, FC_OK);
    service_bench_close(&b);
}
END_TEST

START_TEST(cancel_takes_back_what_waits)
{
    service_bench b;
    service_bench_open(&b);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    service_bench_attend(&b, 2, 7);
    service_bench_send_op(&b, 10, FC_OP_CANCEL, 2, 8); /* another connection's */
    service_bench_expect(&b, 10, FC_OK);
    ck_assert(!reply_box_is_answered(&b.boxes[2]));
    service_bench_send_op(&b, 11, FC_OP_CANCEL, 2, 7);
    service_bench_expect(&b, 11, FC_OK);
    ck_assert(reply_box_is_answered(&b.boxes[2]));
    service_bench_expect(&b, 2, FC_CANCELLED);
    service_bench_send_op(&b, 12, FC_OP_CANCEL, 1, 7); /* runs already */
    service_bench_expect(&b, 12, FC_OK);
    ck_assert(!reply_box_is_answered(&b.boxes[1]));
    service_bench_send_op(&b, 13, FC_OP_CANCEL, 12345, 7); /* nobody */
    service_bench_expect(&b, 13, FC_OK);
    fake_engine_release_all(&b.engine);
    service_bench_expect(&b, 1, FC_OK);
    ck_assert_uint_eq(b.engine.launch_count, 1);
    service_bench_close(&b);
}
END_TEST

START_TEST(a_deadline_covers_waiting)
{
    service_bench b;
    service_bench_open(&b);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    fc_wire_request request = service_bench_request(2);
    request.attend.deadline_us = 1000000;
    reply_box_send(&b.boxes[2], &request, NULL, 7);
    request = service_bench_request(3);
    request.attend.deadline_us = UINT64_MAX; /* never */
    reply_box_send(&b.boxes[3], &request, NULL, 7);
    fc_service_tick(b.service, fc_clock_now_ns());
    ck_assert(!reply_box_is_answered(&b.boxes[2]));
    fc_service_tick(b.service, fc_clock_now_ns() + 2 * FC_NS_PER_S);
    ck_assert(reply_box_is_answered(&b.boxes[2]));
    service_bench_expect(&b, 2, FC_DEADLINE_EXCEEDED);
    ck_assert(!reply_box_is_answered(&b.boxes[3]));

    /* Found expired by the lane, without a tick. */
    request = service_bench_request(4);
    request.attend.deadline_us = 1;
    reply_box_send(&b.boxes[4], &request, NULL, 7);
    fake_engine_release_all(&b.engine);
    service_bench_expect(&b, 4, FC_DEADLINE_EXCEEDED);
    service_bench_expect(&b, 3, FC_OK);
    ck_assert_uint_eq(b.engine.launch_count, 2);
    service_bench_close(&b);
}
END_TEST

START_TEST(what_runs_past_its_deadline_is_finished)
{
    service_bench b;
    service_bench_open(&b);
    fake_engine_hold(&b.engine);
    fc_wire_request request = service_bench_request(1);
    request.attend.deadline_us = 20000;
    reply_box_send(&b.boxes[1], &request, NULL, 7);
    fake_engine_await_launches(&b.engine, 1);
    uint64_t end_ns = b.boxes[1].request.received_ns + 20 * FC_NS_PER_MS;
    while (fc_clock_now_ns() <= end_ns)
        fc_service_tick(b.service, fc_clock_now_ns());
    ck_assert(!reply_box_is_answered(&b.boxes[1]));
    fake_engine_release_all(&b.engine);
    service_bench_expect(&b, 1, FC_OK);
    service_bench_close(&b);
}
END_TEST

START_TEST(draining_finishes_what_runs_and_nothing_else)
{
    service_bench b;
    service_bench_open(&b);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    service_bench_attend(&b, 2, 7);
    fc_service_drain(b.service);
    service_bench_expect(&b, 2, FC_DRAINING);
    service_bench_attend(&b, 3, 7);
    service_bench_expect(&b, 3, FC_DRAINING);
    service_bench_send_op(&b, 4, FC_OP_PING, 0, 7);
    service_bench_expect(&b, 4, FC_OK);
    ck_assert(!fc_service_is_idle(b.service));
    ck_assert(!reply_box_is_answered(&b.boxes[1]));
    b.boxes[1].keeps_sending = true;
    fake_engine_release_all(&b.engine);
    service_bench_expect(&b, 1, FC_OK);
    ck_assert(!fc_service_is_idle(b.service)); /* its reply has not left */
    int idle_events = atomic_load(&b.events[FC_EVENT_IDLE]);
    reply_box_finish(&b.boxes[1]);
    b.boxes[1].keeps_sending = false;
    ck_assert(fc_service_is_idle(b.service));
    ck_assert_int_eq(atomic_load(&b.events[FC_EVENT_IDLE]), idle_events + 1);
    fc_service_drain(b.service);
    service_bench_close(&b);
}
END_TEST

START_TEST(stopping_answers_what_waits)
{
    service_bench b;
    service_bench_open(&b);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    service_bench_attend(&b, 2, 7);
    fake_engine_release_all(&b.engine);
    fc_service_stop(b.service);
    service_bench_expect(&b, 1, FC_OK);
    fc_status second = reply_box_await(&b.boxes[2]);
    ck_assert(second == FC_OK || second == FC_DRAINING); /* whichever came first */
    service_bench_attend(&b, 3, 7);
    service_bench_expect(&b, 3, FC_DRAINING);
    service_bench_close(&b);
}
END_TEST

START_TEST(a_lost_peers_work_is_dropped)
{
    service_bench b;
    service_bench_open(&b);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    service_bench_attend(&b, 2, 7);
    service_bench_attend(&b, 3, 8);
    fc_service_peer_gone(b.service, 7);
    service_bench_expect(&b, 2, FC_STATUS_COUNT);
    ck_assert(b.boxes[2].is_peer_gone);
    ck_assert(!reply_box_is_answered(&b.boxes[1]));
    fake_engine_release_all(&b.engine);
    service_bench_expect(&b, 1, FC_OK); /* the transport throws it away */
    service_bench_expect(&b, 3, FC_OK);
    ck_assert_double_eq(service_bench_counter(&b, 4, "dropped"), 1);
    service_bench_close(&b);
}
END_TEST

/* Many threads at once, on several lanes: every request gets its one answer, and the counters add up. */
enum { CLIENTS = 6, TURNS = 60 };

typedef struct client_thread {
    service_bench *b;
    int index;
    int answered;
} client_thread;

static void *client_main(void *argument)
{
    client_thread *client = argument;
    reply_box *mine = &client->b->boxes[2 * client->index];
    for (int turn = 0; turn < TURNS; turn++) {
        fc_wire_request request = service_bench_request((uint64_t)turn);
        request.attend.deadline_us = turn % 5 == 0 ? 1 : 0;
        reply_box_send(&mine[0], &request, NULL, (uint64_t)client->index + 1);
        fc_wire_request other = {
            .id = 1000, .op = turn % 3 == 0 ? FC_OP_CANCEL : FC_OP_PING, .cancel_target = (uint64_t)turn};
        reply_box_send(&mine[1], &other, NULL, (uint64_t)client->index + 1);
        if (turn % 7 == 0)
            fc_service_peer_gone(client->b->service, (uint64_t)client->index + 1);
        if (turn % 11 == 0)
            fc_service_tick(client->b->service, fc_clock_now_ns());
        reply_box_await(&mine[1]);
        reply_box_await(&mine[0]);
        client->answered++;
    }
    return NULL;
}

START_TEST(many_threads_each_get_their_answers)
{
    service_bench b;
    pthread_t threads[CLIENTS];
    client_thread clients[CLIENTS];
    service_bench_prepare(&b);
    b.engine.lane_count = 3;
    fc_service_config config = service_bench_config(&b);
    service_bench_open_with(&b, &config);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (client_thread){.b = &b, .index = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(clients[i].answered, TURNS);
    }
    ck_assert_double_eq(service_bench_counter(&b, 20, "requests_attend"), CLIENTS * TURNS);
    ck_assert_double_eq(service_bench_counter(&b, 20, "queued"), 0);
    ck_assert_double_eq(service_bench_counter(&b, 20, "running"), 0);
    ck_assert_double_eq(service_bench_counter(&b, 20, "queued_bytes"), 0);
    fc_service_drain(b.service);
    ck_assert(fc_service_is_idle(b.service));
    service_bench_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("service_queue");
    TCase *queueing = tcase_create("queueing");
    tcase_set_timeout(queueing, 60);
    tcase_add_test(queueing, what_waits_together_runs_together);
    tcase_add_test(queueing, lanes_that_are_awake_take_what_comes);
    tcase_add_test(queueing, a_launch_respects_the_lanes_memory);
    tcase_add_loop_test(queueing, a_launch_is_no_longer_than_the_engine_likes, 0, 6);
    tcase_add_test(queueing, past_the_queue_it_is_busy_at_once);
    tcase_add_test(queueing, past_the_queues_bytes_it_is_busy);
    tcase_add_test(queueing, a_peer_has_its_share_and_no_more);
    tcase_add_test(queueing, cancel_takes_back_what_waits);
    tcase_add_test(queueing, a_deadline_covers_waiting);
    tcase_add_test(queueing, what_runs_past_its_deadline_is_finished);
    suite_add_tcase(suite, queueing);
    TCase *ends = tcase_create("ends");
    tcase_set_timeout(ends, 60);
    tcase_add_test(ends, draining_finishes_what_runs_and_nothing_else);
    tcase_add_test(ends, stopping_answers_what_waits);
    tcase_add_test(ends, a_lost_peers_work_is_dropped);
    tcase_add_test(ends, many_threads_each_get_their_answers);
    suite_add_tcase(suite, ends);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
