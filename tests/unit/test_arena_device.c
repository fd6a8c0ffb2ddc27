/* Device arenas over the local channel: who gets what, what may lie where, and until when they count. The engine is a
 * fake whose device memory nobody but it can use by address.
 */
#include "tests/support/local_bench.h"
#include "tests/support/packet_peer.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TENSOR_BYTES = 4 * SERVICE_BENCH_ELEMENTS, SIZE = FAKE_ENGINE_GRANULE };

static packet_arena make(packet_peer *peer, fc_arena_kind kind, uint64_t size_bytes)
{
    packet_arena arena = packet_arena_make(peer, kind, size_bytes);
    if (kind == FC_ARENA_DEVICE)
        ck_assert_mem_eq(arena.uuid, "fake device 012", FC_UUID_BYTES);
    return arena;
}

/* The fake engine checks that each tensor is said to lie where it does. Bit i of which: tensor i lies on the device. */
START_TEST(each_tensor_may_lie_where_it_likes)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    packet_arena host = make(&peer, FC_ARENA_HOST, SIZE), device = make(&peer, FC_ARENA_DEVICE, 5000);
    ck_assert_uint_eq(device.size_bytes, FAKE_ENGINE_GRANULE);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENA_BYTES), FAKE_ENGINE_GRANULE);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENAS), 1);
    for (uint64_t which = 0; which < 32; which++) {
        uint64_t arenas[PACKET_ARENA_PLACES];
        for (int i = 0; i < PACKET_ARENA_PLACES; i++)
            arenas[i] = (which >> i & 1) != 0 ? device.id : host.id;
        memset(host.base, 0, host.size_bytes);
        memset(device.base, 0, device.size_bytes);
        fc_wire_request request = local_bench_attend_across(which, arenas);
        ck_assert(packet_peer_send(&peer, &request));
        packet_peer_expect(&peer, which, FC_OK, NULL);
        const uint8_t *out = (which & 8) != 0 ? device.base : host.base;
        const uint8_t *not_out = (which & 8) != 0 ? host.base : device.base;
        ck_assert_uint_eq(out[3 * 1024 + TENSOR_BYTES - 1], FAKE_ENGINE_FILL);
        ck_assert_uint_eq(out[3 * 1024 + TENSOR_BYTES], 0);
        ck_assert_uint_eq(not_out[3 * 1024], 0);
    }
    packet_arena_drop(&host);
    packet_arena_drop(&device);
    packet_peer_close(&peer);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENAS, 0);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENA_BYTES, 0);
    local_bench_close(&b);
}
END_TEST

static const struct wrong_row {
    int piece;
    fc_wire_place place; /* arena 0: the right one; 1: another peer's; 2: one that was given back */
    fc_status status;
    const char *error;
} WRONG[] = {
    {0, {true, 0, 32}, FC_INVALID_ARGUMENT, "q.offset: 32 is not a multiple of 64"},
    {1, {true, 0, SIZE - 128}, FC_INVALID_ARGUMENT, "k.offset: 192 bytes at 16256 end past the arena's 16384"},
    {3, {true, 0, UINT64_MAX - 63}, FC_INVALID_ARGUMENT, "out_at.offset"},
    {3, {true, 0, 0}, FC_INVALID_ARGUMENT, "out_at.offset: overlaps q"},
    {4, {true, 0, 3 * 1024 + 64}, FC_INVALID_ARGUMENT, "lse_at.offset: overlaps out_at"},
    {0, {true, 1, 0}, FC_INVALID_ARGUMENT, "q.arena: this connection has no arena"},
    {3, {true, 2, 0}, FC_INVALID_ARGUMENT, "out_at.arena: this connection has no arena"},
    {3, {false, 0, 0}, FC_TOO_LARGE, "out_at"},
    {4, {true, 0, SIZE - 64}, FC_OK, NULL},
};

START_TEST(a_wrong_place_is_refused_by_name)
{
    local_bench b;
    packet_peer peer, other;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    packet_peer_open(&other, b.side_path);
    packet_arena mine = make(&peer, FC_ARENA_DEVICE, 1), foreign = make(&other, FC_ARENA_DEVICE, 1);
    packet_arena stale = make(&peer, FC_ARENA_DEVICE, 1);
    packet_arena_drop(&stale);
    packet_arena_give_back(&peer, stale.id, FC_OK);
    packet_arena_give_back(&peer, stale.id, FC_INVALID_ARGUMENT);
    packet_arena_give_back(&peer, foreign.id, FC_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        const uint64_t ids[] = {mine.id, foreign.id, stale.id};
        fc_wire_request request = local_bench_attend_in(i, mine.id);
        fc_wire_place *places[PACKET_ARENA_PLACES];
        packet_arena_places(&request.attend, places);
        *places[WRONG[i].piece] = WRONG[i].place;
        places[WRONG[i].piece]->arena = ids[WRONG[i].place.arena];
        ck_assert(packet_peer_send(&peer, &request));
        packet_peer_expect(&peer, i, WRONG[i].status, WRONG[i].error);
    }
    packet_arena_drop(&mine);
    packet_arena_drop(&foreign);
    packet_peer_close(&peer);
    packet_peer_close(&other);
    local_bench_close(&b);
}
END_TEST

/* The engine holds a request. _i 0: its arena is given back meanwhile, 1: its peer goes. */
START_TEST(what_runs_keeps_its_memory)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    fake_engine_hold(&b.service.engine);
    packet_peer_open(&peer, b.side_path);
    packet_arena h = make(&peer, FC_ARENA_DEVICE, SIZE);
    fc_wire_request request = local_bench_attend_in(1, h.id);
    ck_assert(packet_peer_send(&peer, &request));
    fake_engine_await_launches(&b.service.engine, 1);
    close(h.lifeline);
    h.lifeline = -1;
    if (_i == 0) {
        packet_arena_give_back(&peer, h.id, FC_OK);
    } else {
        packet_peer_close(&peer);
        local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
    }
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENAS), 1);
    ck_assert_uint_eq(fake_engine_region_count(&b.service.engine), 1);
    fake_engine_release_all(&b.service.engine);
    if (_i == 0) {
        packet_peer_expect(&peer, 1, FC_OK, NULL);
        packet_peer_close(&peer);
    }
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENAS, 0);
    ck_assert_uint_eq(fake_engine_region_count(&b.service.engine), 0);
    ck_assert_uint_eq(h.base[3 * 1024], FAKE_ENGINE_FILL);
    packet_arena_drop(&h);
    local_bench_close(&b);
}
END_TEST

/* Given back, or its connection gone, an arena counts until its lifeline is cut. */
START_TEST(it_counts_until_the_peer_has_let_go)
{
    local_bench b;
    packet_peer peer, other;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    packet_peer_open(&other, b.side_path);
    packet_arena h = make(&peer, FC_ARENA_DEVICE, LOCAL_BENCH_PEER_BYTES);
    int second_end = dup(h.lifeline);
    if (_i == 0) {
        packet_arena_give_back(&peer, h.id, FC_OK);
        packet_arena_ask(&peer, 2, FC_ARENA_DEVICE, 1);
        packet_peer_expect(&peer, 2, FC_TOO_LARGE, "device_arena_bytes_per_peer is 262144");
    } else {
        packet_peer_close(&peer);
        local_bench_await_stat(&b, FC_GAUGE_LOCAL, 1);
    }
    for (int i = 0; i < 3; i++) { /* the keeper has seen it more than once, and keeps it in its books */
        packet_arena mine = make(&other, FC_ARENA_DEVICE, 1);
        packet_arena_drop(&mine);
        packet_arena_give_back(&other, mine.id, FC_OK);
    }
    packet_arena_drop(&h);
    packet_arena probe = make(&other, FC_ARENA_HOST, 1); /* what is to be freed is freed before it is made */
    packet_arena_drop(&probe);
    ck_assert_uint_eq(fake_engine_region_count(&b.service.engine), 1); /* the probe: the server's part is gone */
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENA_BYTES), LOCAL_BENCH_PEER_BYTES);
    close(second_end);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENAS, 0);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENA_BYTES, 0);
    if (_i == 0) {
        packet_arena again = make(&peer, FC_ARENA_DEVICE, LOCAL_BENCH_PEER_BYTES);
        packet_arena_drop(&again);
        packet_peer_close(&peer);
    }
    packet_peer_close(&other);
    local_bench_close(&b);
}
END_TEST

START_TEST(quotas_are_apart)
{
    local_bench b;
    packet_peer peers[5];
    packet_arena kept[4];
    local_bench_open(&b);
    for (int i = 0; i < 5; i++)
        packet_peer_open(&peers[i], b.side_path);
    packet_arena_ask(&peers[0], 1, FC_ARENA_DEVICE, 0);
    packet_peer_expect(&peers[0], 1, FC_INVALID_ARGUMENT, "bytes");
    packet_arena_ask(&peers[0], 1, FC_ARENA_DEVICE, UINT64_MAX);
    packet_peer_expect(&peers[0], 1, FC_TOO_LARGE, "bytes");
    packet_arena_ask(&peers[0], 1, FC_ARENA_DEVICE, LOCAL_BENCH_PEER_BYTES + 1);
    packet_peer_expect(&peers[0], 1, FC_TOO_LARGE, "device_arena_bytes_per_peer is 262144");
    for (int i = 0; i < 4; i++)
        kept[i] = make(&peers[i], FC_ARENA_DEVICE, LOCAL_BENCH_PEER_BYTES);
    packet_arena_ask(&peers[4], 1, FC_ARENA_DEVICE, 1);
    packet_peer_expect(&peers[4], 1, FC_TOO_LARGE, "device_arena_bytes is 1048576");
    packet_arena host = make(&peers[4], FC_ARENA_HOST, LOCAL_BENCH_PEER_BYTES);
    packet_arena_drop(&host);
    fake_engine_set_memory_status(&b.service.engine, FC_NO_MEMORY);
    packet_arena_drop(&kept[0]);
    packet_peer_close(&peers[0]);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENAS, 3);
    packet_arena_ask(&peers[4], 1, FC_ARENA_DEVICE, 1);
    packet_peer_expect(&peers[4], 1, FC_BUSY, "no memory");
    fake_engine_set_memory_status(&b.service.engine, FC_DEVICE_LOST);
    packet_arena_ask(&peers[4], 2, FC_ARENA_DEVICE, 1);
    packet_peer_expect(&peers[4], 2, FC_DEVICE_LOST, NULL);
    ck_assert_int_eq(atomic_load(&b.service.events[FC_EVENT_DEVICE_LOST]), 1);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENAS), 3);
    for (int i = 1; i < 4; i++)
        packet_arena_drop(&kept[i]);
    for (int i = 1; i < 5; i++)
        packet_peer_close(&peers[i]);
    local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0); /* and there they stay: the process is about to end */
    local_bench_close(&b);
}
END_TEST

/* Gone while their arenas are being made, with and without reading the answer. */
START_TEST(askers_that_leave_leave_nothing)
{
    local_bench b;
    local_bench_open(&b);
    int first = dup(0);
    close(first);
    packet_arena_ask_and_leave(b.side_path, FC_ARENA_DEVICE, 100);
    local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENAS, 0);
    ck_assert_uint_eq(fake_engine_region_count(&b.service.engine), 0);
    int last = dup(0);
    close(last);
    ck_assert_int_le(last, first + 8);
    local_bench_close(&b);
}
END_TEST

static bool has_feature(const fc_wire_hello *hello, const char *name)
{
    for (uint32_t i = 0; i < hello->feature_count; i++)
        if (service_bench_is_text(hello->features[i], name))
            return true;
    return false;
}

START_TEST(hello_says_whether_there_are_any)
{
    local_bench b;
    packet_peer peer;
    fc_wire_reply reply;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    ck_assert(packet_peer_send_op(&peer, 1, FC_OP_HELLO));
    ck_assert(packet_peer_receive(&peer, &reply));
    ck_assert(has_feature(&reply.hello, "device_arena") && has_feature(&reply.hello, "arena"));
    ck_assert_uint_eq(reply.hello.limits.device_arena_bytes, LOCAL_BENCH_ARENA_BYTES);
    ck_assert_uint_eq(reply.hello.limits.device_arena_bytes_per_peer, LOCAL_BENCH_PEER_BYTES);
    packet_peer_close(&peer);
    local_bench_close(&b);

    service_bench without;
    service_bench_open(&without);
    service_bench_send_op(&without, 1, FC_OP_HELLO, 0, 7);
    ck_assert_int_eq(reply_box_await(&without.boxes[1]), FC_OK);
    const fc_wire_hello *hello = &without.boxes[1].reply.hello;
    ck_assert(!has_feature(hello, "device_arena") && !has_feature(hello, "arena"));
    service_bench_close(&without);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena_device");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_test(core, each_tensor_may_lie_where_it_likes);
    tcase_add_test(core, a_wrong_place_is_refused_by_name);
    tcase_add_loop_test(core, what_runs_keeps_its_memory, 0, 2);
    tcase_add_loop_test(core, it_counts_until_the_peer_has_let_go, 0, 2);
    tcase_add_test(core, quotas_are_apart);
    tcase_add_test(core, askers_that_leave_leave_nothing);
    tcase_add_test(core, hello_says_whether_there_are_any);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
