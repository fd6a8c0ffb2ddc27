/* See service_bench.h. */
#include "tests/support/service_bench.h"

#include <check.h>
#include <string.h>

static uint8_t tensor_bytes[4 * SERVICE_BENCH_ELEMENTS * 8];

static void on_event(void *context, fc_service_event event)
{
    service_bench *b = context;
    atomic_fetch_add(&b->events[event], 1);
}

fc_service_config service_bench_config(service_bench *b)
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

void service_bench_prepare(service_bench *b)
{
    memset(b->events, 0, sizeof b->events);
    fake_engine_init(&b->engine);
}

void service_bench_open_with(service_bench *b, const fc_service_config *config)
{
    fc_reason reason = {""};
    ck_assert_msg(fc_service_create(config, &b->service, &reason) == FC_OK, "%s", reason.text);
    for (int i = 0; i < SERVICE_BENCH_BOXES; i++)
        reply_box_init(&b->boxes[i], b->service);
}

void service_bench_open(service_bench *b)
{
    service_bench_prepare(b);
    fc_service_config config = service_bench_config(b);
    service_bench_open_with(b, &config);
}

void service_bench_close(service_bench *b)
{
    fake_engine_release_all(&b->engine);
    fc_service_stop(b->service);
    for (int i = 0; i < SERVICE_BENCH_BOXES; i++)
        reply_box_fini(&b->boxes[i]);
    fc_service_destroy(b->service);
    fake_engine_fini(&b->engine);
}

fc_wire_tensor service_bench_tensor(fc_dtype dtype, uint64_t batch, uint64_t heads, uint64_t tokens, uint64_t head_dim)
{
    fc_wire_tensor t = {.dtype = dtype, .rank = 4, .shape = {batch, heads, tokens, head_dim}, .data = tensor_bytes};
    t.data_bytes = (size_t)(batch * heads * tokens * head_dim) * fc_dtype_bytes(dtype);
    ck_assert_uint_le(t.data_bytes, sizeof tensor_bytes);
    return t;
}

fc_wire_request service_bench_request(uint64_t id)
{
    fc_wire_request request = {.id = id, .op = FC_OP_ATTEND};
    request.attend.q = request.attend.k = request.attend.v =
        service_bench_tensor(FC_F32, SERVICE_BENCH_B, SERVICE_BENCH_H, SERVICE_BENCH_S, SERVICE_BENCH_D);
    request.attend.window_left = request.attend.window_right = -1;
    return request;
}

void service_bench_attend(service_bench *b, int box, uint64_t peer)
{
    fc_wire_request request = service_bench_request((uint64_t)box);
    reply_box_send(&b->boxes[box], &request, NULL, peer);
}

void service_bench_send_op(service_bench *b, int box, fc_op op, uint64_t target, uint64_t peer)
{
    fc_wire_request request = {.id = (uint64_t)box, .op = op, .cancel_target = target};
    reply_box_send(&b->boxes[box], &request, NULL, peer);
}

void service_bench_expect(service_bench *b, int box, fc_status status)
{
    fc_status got = reply_box_await(&b->boxes[box]);
    ck_assert_msg(got == status, "box %d: %s instead of %s: %.*s", box, fc_status_name(got), fc_status_name(status),
                  (int)b->boxes[box].reply.error.bytes, b->boxes[box].reply.error.text);
    if (got != FC_STATUS_COUNT)
        ck_assert_uint_eq(b->boxes[box].reply.id, (uint64_t)box);
}

double service_bench_counter(service_bench *b, int box, const char *name)
{
    service_bench_send_op(b, box, FC_OP_STATS, 0, 99);
    service_bench_expect(b, box, FC_OK);
    const fc_wire_stats *stats = &b->boxes[box].reply.stats;
    for (uint32_t i = 0; i < stats->counter_count; i++) {
        if (stats->counters[i].name.bytes == strlen(name) &&
            memcmp(stats->counters[i].name.text, name, strlen(name)) == 0)
            return stats->counters[i].value;
    }
    ck_abort_msg("no counter %s", name);
}

bool service_bench_is_text(fc_wire_text text, const char *expected)
{
    return text.bytes == strlen(expected) && memcmp(text.text, expected, text.bytes) == 0;
}
