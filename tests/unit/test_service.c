/* The service by its bytes, without sockets and without arithmetic: a fake engine holds launches until the test lets
 * them go, so batching, busy, deadlines, cancel and drain are driven step by step.
 */
#include "daemon/clock.h"
#include "tests/support/fake_engine.h"
#include "tests/support/reply_box.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { B = 1, H = 2, S = 3, D = 8, BOXES = 24 };
enum { ELEMENTS = B * H * S * D };

static uint8_t tensor_bytes[4 * ELEMENTS * 8];

typedef struct bench {
    fake_engine engine;
    fc_service *service;
    reply_box boxes[BOXES];
    atomic_int events[3];
} bench;

static void on_event(void *context, fc_service_event event)
{
    bench *b = context;
    atomic_fetch_add(&b->events[event], 1);
}

static fc_service_config config_of(bench *b)
{
    return (fc_service_config){
        .ops = fake_engine_ops(),
        .engine = fake_engine_handle(&b->engine),
        .engine_config = {.lane_staging_bytes = 1000, .lane_segments = 8},
        .message_bytes = 1 << 20,
        .tensor_bytes = 4096,
        .tokens = 64,
        .head_dim = 128,
        .tunables = {.default_kernel = FC_KERNEL_AUTO,
                     .queue_requests = 16,
                     .queue_bytes = 1 << 20,
                     .inflight_per_peer = 16,
                     .batch_requests = 4},
        .on_event = on_event,
        .event_context = b,
    };
}

static void open_bench_with(bench *b, const fc_service_config *config)
{
    fc_reason reason = {""};
    ck_assert_msg(fc_service_create(config, &b->service, &reason) == FC_OK, "%s", reason.text);
    for (int i = 0; i < BOXES; i++)
        reply_box_init(&b->boxes[i], b->service);
}

static void open_bench(bench *b)
{
    memset(b->events, 0, sizeof b->events);
    fake_engine_init(&b->engine);
    fc_service_config config = config_of(b);
    open_bench_with(b, &config);
}

static void close_bench(bench *b)
{
    fake_engine_release_all(&b->engine);
    fc_service_stop(b->service);
    for (int i = 0; i < BOXES; i++)
        reply_box_fini(&b->boxes[i]);
    fc_service_destroy(b->service);
    fake_engine_fini(&b->engine);
}

static fc_wire_tensor tensor(fc_dtype dtype, uint64_t batch, uint64_t heads, uint64_t tokens, uint64_t head_dim)
{
    fc_wire_tensor t = {.dtype = dtype, .rank = 4, .shape = {batch, heads, tokens, head_dim}, .data = tensor_bytes};
    t.data_bytes = (size_t)(batch * heads * tokens * head_dim) * fc_dtype_bytes(dtype);
    ck_assert_uint_le(t.data_bytes, sizeof tensor_bytes);
    return t;
}

static fc_wire_request attend(uint64_t id)
{
    fc_wire_request request = {.id = id, .op = FC_OP_ATTEND};
    request.attend.q = request.attend.k = request.attend.v = tensor(FC_F32, B, H, S, D);
    request.attend.window_left = request.attend.window_right = -1;
    return request;
}

static void send_attend(bench *b, int box, uint64_t peer)
{
    fc_wire_request request = attend((uint64_t)box);
    reply_box_send(&b->boxes[box], &request, NULL, peer);
}

static void send_op(bench *b, int box, fc_op op, uint64_t target, uint64_t peer)
{
    fc_wire_request request = {.id = (uint64_t)box, .op = op, .cancel_target = target};
    reply_box_send(&b->boxes[box], &request, NULL, peer);
}

static void assert_status(bench *b, int box, fc_status status)
{
    fc_status got = reply_box_await(&b->boxes[box]);
    ck_assert_msg(got == status, "box %d: %s instead of %s: %.*s", box, fc_status_name(got), fc_status_name(status),
                  (int)b->boxes[box].reply.error.bytes, b->boxes[box].reply.error.text);
    if (got != FC_STATUS_COUNT)
        ck_assert_uint_eq(b->boxes[box].reply.id, (uint64_t)box);
}

static double counter(bench *b, int box, const char *name)
{
    send_op(b, box, FC_OP_STATS, 0, 99);
    assert_status(b, box, FC_OK);
    const fc_wire_stats *stats = &b->boxes[box].reply.stats;
    for (uint32_t i = 0; i < stats->counter_count; i++) {
        if (stats->counters[i].name.bytes == strlen(name) &&
            memcmp(stats->counters[i].name.text, name, strlen(name)) == 0)
            return stats->counters[i].value;
    }
    ck_abort_msg("no counter %s", name);
}

static bool is_text(fc_wire_text text, const char *expected)
{
    return text.bytes == strlen(expected) && memcmp(text.text, expected, text.bytes) == 0;
}

START_TEST(hello_says_what_the_server_is)
{
    bench b;
    open_bench(&b);
    send_op(&b, 1, FC_OP_HELLO, 0, 7);
    assert_status(&b, 1, FC_OK);
    const fc_wire_hello *hello = &b.boxes[1].reply.hello;
    ck_assert_int_eq(b.boxes[1].reply.body, FC_BODY_HELLO);
    ck_assert(is_text(hello->server, "flashcored"));
    ck_assert(is_text(hello->version, FC_VERSION));
    ck_assert(is_text(hello->device, "fake"));
    ck_assert(is_text(hello->default_kernel, "cpu"));
    ck_assert_uint_eq(hello->kernel_count, 1);
    ck_assert(is_text(hello->kernels[0], "cpu"));
    ck_assert_uint_eq(hello->limits.tensor_bytes, 4096);
    ck_assert_uint_eq(hello->limits.queue_requests, 16);
    ck_assert_uint_eq(hello->limits.inflight_per_peer, 16);
    ck_assert_uint_gt(hello->feature_count, 0);
    close_bench(&b);
}
END_TEST

START_TEST(small_operations_are_answered_while_everything_is_taken)
{
    bench b;
    open_bench(&b);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    send_op(&b, 2, FC_OP_PING, 0, 7);
    assert_status(&b, 2, FC_OK);
    ck_assert_double_eq(counter(&b, 3, "running"), 1);
    ck_assert_double_eq(counter(&b, 3, "queued"), 0);
    ck_assert_double_eq(counter(&b, 3, "requests_ping"), 1);
    ck_assert_double_eq(counter(&b, 3, "requests_attend"), 1);
    fake_engine_release(&b.engine, 1);
    assert_status(&b, 1, FC_OK);
    ck_assert_double_eq(counter(&b, 3, "running"), 0);
    ck_assert_double_eq(counter(&b, 3, "launches"), 1);
    close_bench(&b);
}
END_TEST

START_TEST(an_answer_holds_what_the_engine_wrote)
{
    bench b;
    open_bench(&b);
    for (int wants_lse = 0; wants_lse < 2; wants_lse++) {
        fc_wire_request request = attend(1);
        request.attend.wants_lse = wants_lse;
        reply_box_send(&b.boxes[1], &request, NULL, 7);
        assert_status(&b, 1, FC_OK);
        const fc_wire_reply *reply = &b.boxes[1].reply;
        ck_assert_int_eq(reply->body, FC_BODY_ATTEND);
        ck_assert_uint_eq(reply->attend.out.data_bytes, sizeof(float) * ELEMENTS);
        for (size_t i = 0; i < reply->attend.out.data_bytes; i++)
            ck_assert_uint_eq(reply->attend.out.data[i], FAKE_ENGINE_FILL);
        ck_assert_int_eq(reply->attend.has_lse, wants_lse);
        if (wants_lse) {
            static const float one = 1.0f;
            ck_assert_uint_eq(reply->attend.lse.data_bytes, sizeof(float) * B * H * S);
            ck_assert_mem_eq(reply->attend.lse.data, &one, sizeof one);
        }
        ck_assert(is_text(reply->attend.kernel, "cpu"));
        ck_assert(is_text(reply->attend.device, "fake"));
        ck_assert_uint_eq(reply->attend.timing.batch, 1);
        ck_assert_double_eq(reply->attend.timing.kernel_us, 2);
        ck_assert_double_ge(reply->attend.timing.total_us, reply->attend.timing.queue_us);
    }
    close_bench(&b);
}
END_TEST

START_TEST(what_waits_together_runs_together)
{
    bench b;
    open_bench(&b);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    fc_wire_request other = attend(4);
    other.attend.q = other.attend.k = other.attend.v = tensor(FC_F16, B, H, S, D);
    send_attend(&b, 2, 7);
    send_attend(&b, 3, 8);
    reply_box_send(&b.boxes[4], &other, NULL, 7); /* another dtype: cannot share */
    send_attend(&b, 5, 9);
    fake_engine_release(&b.engine, 3);
    for (int i = 1; i <= 5; i++)
        assert_status(&b, i, FC_OK);
    ck_assert_uint_eq(b.engine.launch_count, 3);
    ck_assert_uint_eq(b.engine.job_counts[1], 3);
    ck_assert_uint_eq(b.engine.job_counts[2], 1);
    ck_assert_uint_eq(b.boxes[2].reply.attend.timing.batch, 3);
    ck_assert_uint_eq(b.boxes[5].reply.attend.timing.batch, 3);
    ck_assert_uint_eq(b.boxes[4].reply.attend.timing.batch, 1);
    ck_assert_double_eq(counter(&b, 6, "shared_launches"), 1);
    ck_assert_double_eq(counter(&b, 6, "launched_requests"), 5);
    close_bench(&b);
}
END_TEST

START_TEST(a_launch_respects_the_lanes_memory)
{
    bench b;
    memset(b.events, 0, sizeof b.events);
    fake_engine_init(&b.engine);
    b.engine.staging_bytes = 400; /* two fit 1000 */
    fc_service_config config = config_of(&b);
    open_bench_with(&b, &config);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    for (int i = 2; i <= 4; i++)
        send_attend(&b, i, 7);
    fake_engine_release(&b.engine, 3);
    for (int i = 1; i <= 4; i++)
        assert_status(&b, i, FC_OK);
    ck_assert_uint_eq(b.engine.job_counts[1], 2);
    ck_assert_uint_eq(b.engine.job_counts[2], 1);
    b.engine.staging_bytes = 1001;
    send_attend(&b, 5, 7);
    assert_status(&b, 5, FC_TOO_LARGE);
    close_bench(&b);
}
END_TEST

START_TEST(past_the_queue_it_is_busy_at_once)
{
    bench b;
    memset(b.events, 0, sizeof b.events);
    fake_engine_init(&b.engine);
    fc_service_config config = config_of(&b);
    config.tunables.queue_requests = 2;
    open_bench_with(&b, &config);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    send_attend(&b, 2, 7);
    send_attend(&b, 3, 7);
    send_attend(&b, 4, 8);
    ck_assert(reply_box_is_answered(&b.boxes[4]));
    assert_status(&b, 4, FC_BUSY);
    ck_assert_uint_gt(b.boxes[4].reply.retry_after_us, 0);
    ck_assert(!reply_box_is_answered(&b.boxes[2]));

    fc_reason reason = {""};
    config.tunables.queue_requests = 3;
    ck_assert_int_eq(fc_service_reconfigure(b.service, &config.tunables, &reason), FC_OK);
    send_attend(&b, 4, 8);
    ck_assert(!reply_box_is_answered(&b.boxes[4]));
    fake_engine_release_all(&b.engine);
    for (int i = 1; i <= 4; i++)
        assert_status(&b, i, FC_OK);
    close_bench(&b);
}
END_TEST

START_TEST(past_the_queues_bytes_it_is_busy)
{
    bench b;
    memset(b.events, 0, sizeof b.events);
    fake_engine_init(&b.engine);
    fc_service_config config = config_of(&b);
    config.tunables.queue_bytes = 1000; /* one message of 3 x 192 bytes of data fits, two do not */
    open_bench_with(&b, &config);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    send_attend(&b, 2, 7);
    send_attend(&b, 3, 7);
    assert_status(&b, 3, FC_BUSY);
    fake_engine_release_all(&b.engine);
    assert_status(&b, 2, FC_OK);
    close_bench(&b);
}
END_TEST

START_TEST(a_peer_has_its_share_and_no_more)
{
    bench b;
    memset(b.events, 0, sizeof b.events);
    fake_engine_init(&b.engine);
    fc_service_config config = config_of(&b);
    config.tunables.inflight_per_peer = 2;
    open_bench_with(&b, &config);
    fake_engine_hold(&b.engine);
    b.boxes[1].keeps_sending = true;
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    send_attend(&b, 2, 7);
    send_attend(&b, 3, 7);
    assert_status(&b, 3, FC_BUSY);
    send_attend(&b, 4, 8);
    ck_assert(!reply_box_is_answered(&b.boxes[4]));
    fake_engine_release_all(&b.engine);
    assert_status(&b, 2, FC_OK);
    assert_status(&b, 4, FC_OK);
    /* The first is answered but has not left: it still counts. */
    assert_status(&b, 1, FC_OK);
    fake_engine_hold(&b.engine);
    send_attend(&b, 2, 7);
    send_attend(&b, 3, 7);
    assert_status(&b, 3, FC_BUSY);
    reply_box_finish(&b.boxes[1]);
    b.boxes[1].keeps_sending = false;
    send_attend(&b, 3, 7);
    fake_engine_release_all(&b.engine);
    assert_status(&b, 2, FC_OK);
    assert_status(&b, 3, FC_OK);
    close_bench(&b);
}
END_TEST

START_TEST(cancel_takes_back_what_waits)
{
    bench b;
    open_bench(&b);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    send_attend(&b, 2, 7);
    send_op(&b, 10, FC_OP_CANCEL, 2, 8); /* another connection's */
    assert_status(&b, 10, FC_OK);
    ck_assert(!reply_box_is_answered(&b.boxes[2]));
    send_op(&b, 11, FC_OP_CANCEL, 2, 7);
    assert_status(&b, 11, FC_OK);
    ck_assert(reply_box_is_answered(&b.boxes[2]));
    assert_status(&b, 2, FC_CANCELLED);
    send_op(&b, 12, FC_OP_CANCEL, 1, 7); /* runs already */
    assert_status(&b, 12, FC_OK);
    ck_assert(!reply_box_is_answered(&b.boxes[1]));
    send_op(&b, 13, FC_OP_CANCEL, 12345, 7); /* nobody */
    assert_status(&b, 13, FC_OK);
    fake_engine_release_all(&b.engine);
    assert_status(&b, 1, FC_OK);
    ck_assert_uint_eq(b.engine.launch_count, 1);
    close_bench(&b);
}
END_TEST

START_TEST(a_deadline_covers_waiting)
{
    bench b;
    open_bench(&b);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    fc_wire_request request = attend(2);
    request.attend.deadline_us = 1000000;
    reply_box_send(&b.boxes[2], &request, NULL, 7);
    request = attend(3);
    request.attend.deadline_us = UINT64_MAX; /* never */
    reply_box_send(&b.boxes[3], &request, NULL, 7);
    fc_service_tick(b.service, fc_clock_now_ns());
    ck_assert(!reply_box_is_answered(&b.boxes[2]));
    fc_service_tick(b.service, fc_clock_now_ns() + 2 * FC_NS_PER_S);
    ck_assert(reply_box_is_answered(&b.boxes[2]));
    assert_status(&b, 2, FC_DEADLINE_EXCEEDED);
    ck_assert(!reply_box_is_answered(&b.boxes[3]));

    /* Found expired by the lane, without a tick. */
    request = attend(4);
    request.attend.deadline_us = 1;
    reply_box_send(&b.boxes[4], &request, NULL, 7);
    fake_engine_release_all(&b.engine);
    assert_status(&b, 4, FC_DEADLINE_EXCEEDED);
    assert_status(&b, 3, FC_OK);
    ck_assert_uint_eq(b.engine.launch_count, 2);
    close_bench(&b);
}
END_TEST

START_TEST(what_runs_past_its_deadline_is_finished)
{
    bench b;
    open_bench(&b);
    fake_engine_hold(&b.engine);
    fc_wire_request request = attend(1);
    request.attend.deadline_us = 20000;
    reply_box_send(&b.boxes[1], &request, NULL, 7);
    fake_engine_await_launches(&b.engine, 1);
    uint64_t end_ns = b.boxes[1].request.received_ns + 20 * FC_NS_PER_MS;
    while (fc_clock_now_ns() <= end_ns)
        fc_service_tick(b.service, fc_clock_now_ns());
    ck_assert(!reply_box_is_answered(&b.boxes[1]));
    fake_engine_release_all(&b.engine);
    assert_status(&b, 1, FC_OK);
    close_bench(&b);
}
END_TEST

START_TEST(draining_finishes_what_runs_and_nothing_else)
{
    bench b;
    open_bench(&b);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    send_attend(&b, 2, 7);
    fc_service_drain(b.service);
    assert_status(&b, 2, FC_DRAINING);
    send_attend(&b, 3, 7);
    assert_status(&b, 3, FC_DRAINING);
    send_op(&b, 4, FC_OP_PING, 0, 7);
    assert_status(&b, 4, FC_OK);
    ck_assert(!fc_service_is_idle(b.service));
    ck_assert(!reply_box_is_answered(&b.boxes[1]));
    b.boxes[1].keeps_sending = true;
    fake_engine_release_all(&b.engine);
    assert_status(&b, 1, FC_OK);
    ck_assert(!fc_service_is_idle(b.service)); /* its reply has not left */
    int idle_events = atomic_load(&b.events[FC_EVENT_IDLE]);
    reply_box_finish(&b.boxes[1]);
    b.boxes[1].keeps_sending = false;
    ck_assert(fc_service_is_idle(b.service));
    ck_assert_int_eq(atomic_load(&b.events[FC_EVENT_IDLE]), idle_events + 1);
    fc_service_drain(b.service);
    close_bench(&b);
}
END_TEST

START_TEST(stopping_answers_what_waits)
{
    bench b;
    open_bench(&b);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    send_attend(&b, 2, 7);
    fake_engine_release_all(&b.engine);
    fc_service_stop(b.service);
    assert_status(&b, 1, FC_OK);
    fc_status second = reply_box_await(&b.boxes[2]);
    ck_assert(second == FC_OK || second == FC_DRAINING); /* whichever came first */
    send_attend(&b, 3, 7);
    assert_status(&b, 3, FC_DRAINING);
    close_bench(&b);
}
END_TEST

START_TEST(a_lost_peers_work_is_dropped)
{
    bench b;
    open_bench(&b);
    fake_engine_hold(&b.engine);
    send_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    send_attend(&b, 2, 7);
    send_attend(&b, 3, 8);
    fc_service_peer_gone(b.service, 7);
    assert_status(&b, 2, FC_STATUS_COUNT);
    ck_assert(b.boxes[2].is_peer_gone);
    ck_assert(!reply_box_is_answered(&b.boxes[1]));
    fake_engine_release_all(&b.engine);
    assert_status(&b, 1, FC_OK); /* the transport throws it away */
    assert_status(&b, 3, FC_OK);
    ck_assert_double_eq(counter(&b, 4, "dropped"), 1);
    close_bench(&b);
}
END_TEST

START_TEST(engine_failures_reach_every_request)
{
    static const struct {
        fc_status launch, reply;
        int lost_events;
    } rows[] = {
        {FC_INTERNAL, FC_INTERNAL, 0},
        {FC_NO_MEMORY, FC_INTERNAL, 0},
        {FC_DEVICE_LOST, FC_DEVICE_LOST, 1},
    };
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        bench b;
        open_bench(&b);
        fake_engine_hold(&b.engine);
        send_attend(&b, 1, 7);
        fake_engine_await_launches(&b.engine, 1);
        send_attend(&b, 2, 7);
        send_attend(&b, 3, 7);
        fake_engine_release(&b.engine, 1);
        assert_status(&b, 1, FC_OK);
        fake_engine_set_launch_status(&b.engine, rows[row].launch);
        fake_engine_release(&b.engine, 1);
        assert_status(&b, 2, rows[row].reply);
        assert_status(&b, 3, rows[row].reply);
        fake_engine_set_launch_status(&b.engine, FC_OK);
        fake_engine_release_all(&b.engine);
        send_attend(&b, 4, 7);
        assert_status(&b, 4, FC_OK);
        ck_assert_double_eq(counter(&b, 5, "launches_failed"), 1);
        ck_assert_int_eq(atomic_load(&b.events[FC_EVENT_DEVICE_LOST]), rows[row].lost_events);
        close_bench(&b);
    }
}
END_TEST

START_TEST(without_memory_for_a_reply_the_peer_is_cut)
{
    bench b;
    open_bench(&b);
    b.boxes[1].fails_to_allocate = b.boxes[2].fails_to_allocate = true;
    send_op(&b, 1, FC_OP_PING, 0, 7);
    assert_status(&b, 1, FC_STATUS_COUNT);
    ck_assert(!b.boxes[1].is_peer_gone);
    send_attend(&b, 2, 7);
    assert_status(&b, 2, FC_STATUS_COUNT);
    send_attend(&b, 3, 7);
    assert_status(&b, 3, FC_OK);
    ck_assert_double_eq(counter(&b, 4, "replies_lost"), 2);
    ck_assert_double_eq(counter(&b, 4, "running"), 0);
    close_bench(&b);
}
END_TEST

START_TEST(garbage_gets_an_answer)
{
    static const uint8_t garbage[] = {0xc1, 0x00, 0xff};
    bench b;
    open_bench(&b);
    reply_box_send_bytes(&b.boxes[1], garbage, sizeof garbage, 7);
    ck_assert_int_eq(reply_box_await(&b.boxes[1]), FC_INVALID_ARGUMENT);
    ck_assert_uint_eq(b.boxes[1].reply.id, 0);
    ck_assert_uint_gt(b.boxes[1].reply.error.bytes, 0);
    reply_box_send_bytes(&b.boxes[1], "", 0, 7);
    ck_assert_int_eq(reply_box_await(&b.boxes[1]), FC_INVALID_ARGUMENT);
    ck_assert_double_eq(counter(&b, 2, "undecodable"), 2);
    close_bench(&b);
}
END_TEST

/* Whatever a message turns into when bytes of it change, it has one answer, and the service goes on. */
START_TEST(spoilt_messages_have_one_answer_too)
{
    bench b;
    uint8_t good[1024];
    uint8_t bytes[sizeof good];
    size_t size_bytes = 0;
    uint32_t kv_len[1] = {2};
    open_bench(&b);
    fc_wire_request request = attend(1);
    request.attend.has_kv_len = request.attend.has_scale = request.attend.wants_lse = true;
    request.attend.kv_len_count = 1;
    request.attend.scale = 0.5f;
    request.attend.deadline_us = 1000000;
    request.attend.kernel = (fc_wire_text){.text = "cpu", .bytes = 3};
    ck_assert_int_eq(fc_codec_encode_request(&request, kv_len, good, sizeof good, &size_bytes), FC_OK);
    srand(7);
    for (int turn = 0; turn < 20000; turn++) {
        memcpy(bytes, good, size_bytes);
        size_t length = turn % 10 == 0 ? (size_t)rand() % size_bytes : size_bytes;
        for (int change = 0; change < 1 + turn % 3; change++) {
            /* Mostly outside the tensors' data, where every byte is as good as another. */
            size_t at = (size_t)rand() % size_bytes;
            bytes[turn % 2 == 0 ? at : at % 100] = (uint8_t)rand();
        }
        reply_box_send_bytes(&b.boxes[1], bytes, length, 7);
        fc_status st = reply_box_await(&b.boxes[1]);
        ck_assert_msg(fc_status_on_wire(st) == st && st != FC_STATUS_COUNT, "turn %d: %s", turn, fc_status_name(st));
    }
    ck_assert_double_eq(counter(&b, 2, "queued"), 0);
    send_attend(&b, 3, 7);
    assert_status(&b, 3, FC_OK);
    close_bench(&b);
}
END_TEST

START_TEST(empty_problems_are_answered)
{
    static const uint64_t rows[][5] = {/* batch, heads, q tokens, kv tokens, head_dim */
                                       {0, 2, 3, 3, 8},
                                       {1, 2, 0, 3, 8},
                                       {1, 2, 3, 0, 8},
                                       {0, 1, 0, 0, 8}};
    bench b;
    open_bench(&b);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_wire_request request = attend(1);
        request.attend.q = tensor(FC_F32, rows[i][0], rows[i][1], rows[i][2], rows[i][4]);
        request.attend.k = request.attend.v = tensor(FC_F32, rows[i][0], rows[i][1], rows[i][3], rows[i][4]);
        request.attend.wants_lse = true;
        reply_box_send(&b.boxes[1], &request, NULL, 7);
        assert_status(&b, 1, FC_OK);
        ck_assert_uint_eq(b.boxes[1].reply.attend.out.data_bytes, request.attend.q.data_bytes);
        ck_assert_uint_eq(b.boxes[1].reply.attend.out.shape[2], rows[i][2]);
    }
    close_bench(&b);
}
END_TEST

START_TEST(kv_len_reaches_the_engine_checked)
{
    bench b;
    open_bench(&b);
    uint32_t kv_len[2] = {1, 3};
    fc_wire_request request = attend(1);
    request.attend.q = request.attend.k = request.attend.v = tensor(FC_F32, 2, H, S, D);
    request.attend.has_kv_len = true;
    request.attend.kv_len_count = 2;
    reply_box_send(&b.boxes[1], &request, kv_len, 7);
    assert_status(&b, 1, FC_OK);
    kv_len[1] = 4;
    reply_box_send(&b.boxes[1], &request, kv_len, 7);
    assert_status(&b, 1, FC_INVALID_ARGUMENT);
    ck_assert(memmem(b.boxes[1].reply.error.text, b.boxes[1].reply.error.bytes, "kv_len", 6) != NULL);
    request.attend.kv_len_count = 1;
    reply_box_send(&b.boxes[1], &request, kv_len, 7);
    assert_status(&b, 1, FC_INVALID_ARGUMENT);
    close_bench(&b);
}
END_TEST

START_TEST(kernels_are_chosen_by_name)
{
    static const struct {
        const char *name;
        fc_status status;
    } rows[] = {{"cpu", FC_OK}, {"auto", FC_OK}, {"baseline", FC_UNSUPPORTED}, {"nonesuch", FC_INVALID_ARGUMENT}};
    bench b;
    open_bench(&b);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_wire_request request = attend(1);
        request.attend.kernel = (fc_wire_text){.text = rows[i].name, .bytes = strlen(rows[i].name)};
        reply_box_send(&b.boxes[1], &request, NULL, 7);
        assert_status(&b, 1, rows[i].status);
        if (rows[i].status == FC_OK)
            ck_assert(is_text(b.boxes[1].reply.attend.kernel, "cpu"));
        else
            ck_assert(memmem(b.boxes[1].reply.error.text, b.boxes[1].reply.error.bytes, "cpu", 3) != NULL);
    }
    close_bench(&b);
}
END_TEST

START_TEST(a_bad_config_is_refused)
{
    fc_reason reason = {""};
    fc_service *service = NULL;
    bench b;
    memset(b.events, 0, sizeof b.events);
    fake_engine_init(&b.engine);
    fc_service_config good = config_of(&b);
    fc_service_config config = good;
    config.tunables.default_kernel = FC_KERNEL_BASELINE;
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_INVALID_ARGUMENT);
    ck_assert(strstr(reason.text, "baseline") != NULL && strstr(reason.text, "cpu") != NULL);
    config = good;
    config.tunables.queue_requests = 0;
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_INVALID_ARGUMENT);
    config = good;
    config.tunables.batch_requests = FC_BATCH_REQUESTS_MAX + 1;
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_INVALID_ARGUMENT);
    config = good;
    config.head_dim = FC_HEAD_DIM_MAX + 8;
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_INVALID_ARGUMENT);
    b.engine.lane_open_status = FC_NO_MEMORY;
    ck_assert_int_eq(fc_service_create(&good, &service, &reason), FC_NO_MEMORY);
    ck_assert(strstr(reason.text, "told to fail") != NULL);

    b.engine.lane_open_status = FC_OK;
    open_bench_with(&b, &good);
    good.tunables.inflight_per_peer = 0;
    ck_assert_int_eq(fc_service_reconfigure(b.service, &good.tunables, &reason), FC_INVALID_ARGUMENT);
    send_attend(&b, 1, 7);
    assert_status(&b, 1, FC_OK);
    close_bench(&b);
}
END_TEST

/* Many threads at once, on several lanes: every request gets its one answer, and the counters add up. */
enum { CLIENTS = 6, TURNS = 60 };

typedef struct client_thread {
    bench *b;
    int index;
    int answered;
} client_thread;

static void *client_main(void *argument)
{
    client_thread *client = argument;
    reply_box *mine = &client->b->boxes[2 * client->index];
    for (int turn = 0; turn < TURNS; turn++) {
        fc_wire_request request = attend((uint64_t)turn);
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
    bench b;
    pthread_t threads[CLIENTS];
    client_thread clients[CLIENTS];
    memset(b.events, 0, sizeof b.events);
    fake_engine_init(&b.engine);
    b.engine.lane_count = 3;
    fc_service_config config = config_of(&b);
    open_bench_with(&b, &config);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (client_thread){.b = &b, .index = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(clients[i].answered, TURNS);
    }
    ck_assert_double_eq(counter(&b, 20, "requests_attend"), CLIENTS * TURNS);
    ck_assert_double_eq(counter(&b, 20, "queued"), 0);
    ck_assert_double_eq(counter(&b, 20, "running"), 0);
    ck_assert_double_eq(counter(&b, 20, "queued_bytes"), 0);
    fc_service_drain(b.service);
    ck_assert(fc_service_is_idle(b.service));
    close_bench(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("service");
    TCase *answers = tcase_create("answers");
    tcase_add_test(answers, hello_says_what_the_server_is);
    tcase_add_test(answers, small_operations_are_answered_while_everything_is_taken);
    tcase_add_test(answers, an_answer_holds_what_the_engine_wrote);
    tcase_add_test(answers, garbage_gets_an_answer);
    tcase_add_test(answers, spoilt_messages_have_one_answer_too);
    tcase_set_timeout(answers, 60);
    tcase_add_test(answers, empty_problems_are_answered);
    tcase_add_test(answers, kv_len_reaches_the_engine_checked);
    tcase_add_test(answers, kernels_are_chosen_by_name);
    suite_add_tcase(suite, answers);
    TCase *queueing = tcase_create("queueing");
    tcase_add_test(queueing, what_waits_together_runs_together);
    tcase_add_test(queueing, a_launch_respects_the_lanes_memory);
    tcase_add_test(queueing, past_the_queue_it_is_busy_at_once);
    tcase_add_test(queueing, past_the_queues_bytes_it_is_busy);
    tcase_add_test(queueing, a_peer_has_its_share_and_no_more);
    tcase_add_test(queueing, cancel_takes_back_what_waits);
    tcase_add_test(queueing, a_deadline_covers_waiting);
    tcase_add_test(queueing, what_runs_past_its_deadline_is_finished);
    suite_add_tcase(suite, queueing);
    TCase *ends = tcase_create("ends");
    tcase_add_test(ends, draining_finishes_what_runs_and_nothing_else);
    tcase_add_test(ends, stopping_answers_what_waits);
    tcase_add_test(ends, a_lost_peers_work_is_dropped);
    tcase_add_test(ends, engine_failures_reach_every_request);
    tcase_add_test(ends, without_memory_for_a_reply_the_peer_is_cut);
    tcase_add_test(ends, a_bad_config_is_refused);
    tcase_add_test(ends, many_threads_each_get_their_answers);
    tcase_set_timeout(ends, 60);
    suite_add_tcase(suite, ends);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
