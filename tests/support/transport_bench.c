#include "tests/support/transport_bench.h"

#include "daemon/clock.h"
#include "tests/support/sp_peer.h"

#include <check.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint8_t tensor_bytes[TRANSPORT_BENCH_TENSOR_BYTES];

void transport_bench_prepare(transport_bench *b, uint64_t queue_requests)
{
    fc_reason reason = {""};
    fc_service_config config = {
        .ops = fake_engine_ops(),
        .engine = fake_engine_handle(&b->engine),
        .engine_config = {.lane_staging_bytes = 1000, .lane_segments = 64},
        .message_bytes = TRANSPORT_BENCH_MESSAGE_BYTES,
        .tensor_bytes = TRANSPORT_BENCH_TENSOR_BYTES,
        .tokens = TRANSPORT_BENCH_TOKENS_MAX,
        .head_dim = 256,
        .tunables = {.default_kernel = FC_KERNEL_AUTO,
                     .queue_requests = queue_requests,
                     .queue_bytes = UINT64_MAX,
                     .inflight_per_peer = 1000,
                     .batch_requests = 4},
    };
    fake_engine_init(&b->engine);
    ck_assert_msg(fc_service_create(&config, &b->service, &reason) == FC_OK, "%s", reason.text);
    fc_transport_config transport = {
        .service = b->service, .message_bytes = config.message_bytes, .ipc_mode = 0620, .pipes_leaked_max = 8};
    ck_assert_msg(fc_transport_open(&transport, &b->transport, &reason) == FC_OK, "%s", reason.text);
}

void transport_bench_open(transport_bench *b, uint64_t queue_requests)
{
    fc_reason reason = {""};
    snprintf(b->directory, sizeof b->directory, "/tmp/fc-transport-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(b->directory));
    snprintf(b->ipc_url, sizeof b->ipc_url, "ipc://%s/s", b->directory);
    transport_bench_prepare(b, queue_requests);
    ck_assert_msg(fc_transport_listen(b->transport, b->ipc_url, NULL, &reason) == FC_OK, "%s", reason.text);
    ck_assert_msg(fc_transport_listen(b->transport, "tcp://127.0.0.1:0", b->tcp_url, &reason) == FC_OK, "%s",
                  reason.text);
    fc_transport_start(b->transport);
}

void transport_bench_close(transport_bench *b)
{
    fake_engine_release_all(&b->engine);
    fc_transport_refuse_peers(b->transport);
    fc_service_drain(b->service);
    fc_service_stop(b->service);
    fc_transport_close(b->transport);
    fc_service_destroy(b->service);
    fake_engine_fini(&b->engine);
    ck_assert_msg(rmdir(b->directory) == 0, "socket and lock file are gone");
}

void transport_bench_await_stat(transport_bench *b, fc_stat stat, uint64_t value)
{
    uint64_t end_ns = fc_clock_now_ns() + 20 * FC_NS_PER_S;
    while (fc_stats_get(fc_service_stats(b->service), stat) != value) {
        ck_assert_msg(fc_clock_now_ns() < end_ns, "%s is %llu, not %llu", fc_stat_name(stat),
                      (unsigned long long)fc_stats_get(fc_service_stats(b->service), stat), (unsigned long long)value);
        sched_yield();
    }
}

fc_wire_request transport_bench_attend(uint64_t id, uint64_t q_tokens)
{
    fc_wire_request request = {.id = id, .op = FC_OP_ATTEND};
    request.attend.q = (fc_wire_tensor){.dtype = FC_F32,
                                        .rank = 4,
                                        .shape = {1, 1, q_tokens, TRANSPORT_BENCH_D},
                                        .data = tensor_bytes,
                                        .data_bytes = q_tokens * TRANSPORT_BENCH_D * sizeof(float)};
    request.attend.k = request.attend.v = (fc_wire_tensor){.dtype = FC_F32,
                                                           .rank = 4,
                                                           .shape = {1, 1, 1, TRANSPORT_BENCH_D},
                                                           .data = tensor_bytes,
                                                           .data_bytes = TRANSPORT_BENCH_D * sizeof(float)};
    request.attend.window_left = request.attend.window_right = -1;
    return request;
}

void transport_bench_assert_ping(const char *url)
{
    sp_peer peer;
    uint32_t number = 0;
    fc_wire_reply reply;
    fc_wire_request ping = {.id = 77, .op = FC_OP_PING};
    sp_peer_open(&peer, url);
    sp_peer_request(&peer, 5, &ping);
    sp_peer_await(&peer, &number, &reply);
    ck_assert_uint_eq(number, 5);
    ck_assert_uint_eq(reply.id, 77);
    ck_assert_int_eq(reply.status, FC_OK);
    sp_peer_close(&peer);
}
