/* Device arenas over the local channel: who gets what, what may lie where, and until when they count. The engine is a
 * fake whose device memory nobody but it can use by address.
 */
#include "tests/support/local_bench.h"
#include "tests/support/packet_peer.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TENSOR_BYTES = 4 * SERVICE_BENCH_ELEMENTS, SIZE = FAKE_ENGINE_GRANULE };

/* An arena as a peer has it. */
typedef struct held {
    uint64_t id;
    size_t size_bytes;
    uint8_t *base;
    int fd, lifeline;
} held;

static void ask(packet_peer *peer, uint64_t id, fc_arena_kind kind, uint64_t size_bytes)
{
    fc_wire_request create = {.id = id, .op = FC_OP_ARENA_CREATE, .arena_bytes = size_bytes, .arena_kind = kind};
    ck_assert(packet_peer_send(peer, &create));
}

static held make(packet_peer *peer, fc_arena_kind kind, uint64_t size_bytes)
{
    fc_wire_reply reply;
    ask(peer, 50, kind, size_bytes);
    ck_assert(packet_peer_receive(peer, &reply));
    ck_assert_msg(reply.status == FC_OK, "%.*s", (int)reply.error.bytes, reply.error.text);
    ck_assert_int_eq(reply.body, FC_BODY_ARENA);
    ck_assert_int_eq(reply.arena.is_device, kind == FC_ARENA_DEVICE);
    ck_assert_int_ge(peer->descriptor, 0);
    ck_assert_int_eq(peer->lifeline >= 0, kind == FC_ARENA_DEVICE);
    if (reply.arena.is_device)
        ck_assert_mem_eq(reply.arena.uuid, "fake device 012", FC_UUID_BYTES);
    held h = {.id = reply.arena.id, .size_bytes = reply.arena.bytes, .fd = peer->descriptor};
    h.lifeline = peer->lifeline;
    peer->descriptor = peer->lifeline = -1;
    h.base = mmap(NULL, h.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, h.fd, 0);
    ck_assert_ptr_ne(h.base, MAP_FAILED);
    return h;
}

/* As a client does: first the memory, then the lifeline. */
static void drop(held *h)
{
    munmap(h->base, h->size_bytes);
    close(h->fd);
    if (h->lifeline >= 0)
        close(h->lifeline);
    h->lifeline = -1;
}

static void give_back(packet_peer *peer, uint64_t arena, fc_status status)
{
    fc_wire_request destroy = {.id = 51, .op = FC_OP_ARENA_DESTROY, .arena = arena};
    ck_assert(packet_peer_send(peer, &destroy));
    packet_peer_expect(peer, 51, status, NULL);
}

/* Tensor i of q, k, v, out, lse at i * 1024 of arenas[i]. */
static fc_wire_request attend_in(uint64_t id, const uint64_t arenas[5])
{
    fc_wire_request request = service_bench_request(id);
    fc_wire_attend *a = &request.attend;
    fc_wire_place *places[] = {&a->q.place, &a->k.place, &a->v.place, &a->out_at, &a->lse_at};
    a->wants_lse = true;
    a->q.data = a->k.data = a->v.data = NULL;
    for (uint64_t i = 0; i < 5; i++)
        *places[i] = (fc_wire_place){true, arenas[i], i * 1024};
    return request;
}

/* The fake engine checks that each tensor is said to lie where it does. Bit i of which: tensor i lies on the device. */
START_TEST(each_tensor_may_lie_where_it_likes)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    held host = make(&peer, FC_ARENA_HOST, SIZE), device = make(&peer, FC_ARENA_DEVICE, 5000);
    ck_assert_uint_eq(device.size_bytes, FAKE_ENGINE_GRANULE);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENA_BYTES), FAKE_ENGINE_GRANULE);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENAS), 1);
    for (uint64_t which = 0; which < 32; which++) {
        uint64_t arenas[5];
        for (int i = 0; i < 5; i++)
            arenas[i] = (which >> i & 1) != 0 ? device.id : host.id;
        memset(host.base, 0, host.size_bytes);
        memset(device.base, 0, device.size_bytes);
        fc_wire_request request = attend_in(which, arenas);
        ck_assert(packet_peer_send(&peer, &request));
        packet_peer_expect(&peer, which, FC_OK, NULL);
        const uint8_t *out = (which & 8) != 0 ? device.base : host.base;
        const uint8_t *not_out = (which & 8) != 0 ? host.base : device.base;
        ck_assert_uint_eq(out[3 * 1024 + TENSOR_BYTES - 1], FAKE_ENGINE_FILL);
        ck_assert_uint_eq(out[3 * 1024 + TENSOR_BYTES], 0);
        ck_assert_uint_eq(not_out[3 * 1024], 0);
    }
    drop(&host);
    drop(&device);
    packet_peer_close(&peer);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENAS, 0);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENA_BYTES), 0);
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
    held mine = make(&peer, FC_ARENA_DEVICE, 1), foreign = make(&other, FC_ARENA_DEVICE, 1);
    held stale = make(&peer, FC_ARENA_DEVICE, 1);
    drop(&stale);
    give_back(&peer, stale.id, FC_OK);
    give_back(&peer, stale.id, FC_INVALID_ARGUMENT);
    give_back(&peer, foreign.id, FC_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        const uint64_t ids[] = {mine.id, foreign.id, stale.id};
        fc_wire_request request = attend_in(i, (uint64_t[5]){mine.id, mine.id, mine.id, mine.id, mine.id});
        fc_wire_attend *a = &request.attend;
        fc_wire_place *places[] = {&a->q.place, &a->k.place, &a->v.place, &a->out_at, &a->lse_at};
        *places[WRONG[i].piece] = WRONG[i].place;
        places[WRONG[i].piece]->arena = ids[WRONG[i].place.arena];
        ck_assert(packet_peer_send(&peer, &request));
        packet_peer_expect(&peer, i, WRONG[i].status, WRONG[i].error);
    }
    drop(&mine);
    drop(&foreign);
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
    held h = make(&peer, FC_ARENA_DEVICE, SIZE);
    fc_wire_request request = attend_in(1, (uint64_t[5]){h.id, h.id, h.id, h.id, h.id});
    ck_assert(packet_peer_send(&peer, &request));
    fake_engine_await_launches(&b.service.engine, 1);
    close(h.lifeline);
    h.lifeline = -1;
    if (_i == 0) {
        give_back(&peer, h.id, FC_OK);
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
    drop(&h);
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
    held h = make(&peer, FC_ARENA_DEVICE, LOCAL_BENCH_PEER_BYTES);
    int second_end = dup(h.lifeline);
    if (_i == 0) {
        give_back(&peer, h.id, FC_OK);
        ask(&peer, 2, FC_ARENA_DEVICE, 1);
        packet_peer_expect(&peer, 2, FC_TOO_LARGE, "device_arena_bytes_per_peer is 262144");
    } else {
        packet_peer_close(&peer);
        local_bench_await_stat(&b, FC_GAUGE_LOCAL, 1);
    }
    for (int i = 0; i < 3; i++) { /* the keeper has seen it more than once, and keeps it in its books */
        held mine = make(&other, FC_ARENA_DEVICE, 1);
        drop(&mine);
        give_back(&other, mine.id, FC_OK);
    }
    drop(&h);
    held probe = make(&other, FC_ARENA_HOST, 1); /* what is to be freed is freed before it is made */
    drop(&probe);
    ck_assert_uint_eq(fake_engine_region_count(&b.service.engine), 1); /* the probe: the server's part is gone */
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENA_BYTES), LOCAL_BENCH_PEER_BYTES);
    close(second_end);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENAS, 0);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENA_BYTES), 0);
    if (_i == 0) {
        held again = make(&peer, FC_ARENA_DEVICE, LOCAL_BENCH_PEER_BYTES);
        drop(&again);
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
    held kept[4];
    local_bench_open(&b);
    for (int i = 0; i < 5; i++)
        packet_peer_open(&peers[i], b.side_path);
    ask(&peers[0], 1, FC_ARENA_DEVICE, 0);
    packet_peer_expect(&peers[0], 1, FC_INVALID_ARGUMENT, "bytes");
    ask(&peers[0], 1, FC_ARENA_DEVICE, UINT64_MAX);
    packet_peer_expect(&peers[0], 1, FC_TOO_LARGE, "bytes");
    ask(&peers[0], 1, FC_ARENA_DEVICE, LOCAL_BENCH_PEER_BYTES + 1);
    packet_peer_expect(&peers[0], 1, FC_TOO_LARGE, "device_arena_bytes_per_peer is 262144");
    for (int i = 0; i < 4; i++)
        kept[i] = make(&peers[i], FC_ARENA_DEVICE, LOCAL_BENCH_PEER_BYTES);
    ask(&peers[4], 1, FC_ARENA_DEVICE, 1);
    packet_peer_expect(&peers[4], 1, FC_TOO_LARGE, "device_arena_bytes is 1048576");
    held host = make(&peers[4], FC_ARENA_HOST, LOCAL_BENCH_PEER_BYTES);
    drop(&host);
    fake_engine_set_memory_status(&b.service.engine, FC_NO_MEMORY);
    drop(&kept[0]);
    packet_peer_close(&peers[0]);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENAS, 3);
    ask(&peers[4], 1, FC_ARENA_DEVICE, 1);
    packet_peer_expect(&peers[4], 1, FC_BUSY, "no memory");
    fake_engine_set_memory_status(&b.service.engine, FC_DEVICE_LOST);
    ask(&peers[4], 2, FC_ARENA_DEVICE, 1);
    packet_peer_expect(&peers[4], 2, FC_DEVICE_LOST, NULL);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_ARENAS), 3);
    for (int i = 1; i < 4; i++)
        drop(&kept[i]);
    for (int i = 1; i < 5; i++)
        packet_peer_close(&peers[i]);
    local_bench_await_stat(&b, FC_GAUGE_DEVICE_ARENA_BYTES, 0);
    local_bench_close(&b);
}
END_TEST

/* Gone while their arenas are being made, with and without reading the answer. */
START_TEST(askers_that_leave_leave_nothing)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    int first = dup(0);
    close(first);
    for (int i = 0; i < 100; i++) {
        packet_peer_open(&peer, b.side_path);
        for (uint64_t k = 0; k < 5; k++)
            ask(&peer, k, FC_ARENA_DEVICE, 40000);
        if (i % 2 == 0) {
            fc_wire_reply reply;
            ck_assert(packet_peer_receive(&peer, &reply));
        }
        packet_peer_close(&peer);
    }
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
