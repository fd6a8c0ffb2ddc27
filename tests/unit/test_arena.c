/* Arenas over the local channel: what they are, who may name them, when they go. The engine is a fake that fills out
 * with a byte and holds launches until the test lets them go.
 */
#include "daemon/clock.h"
#include "tests/support/local_bench.h"
#include "tests/support/packet_peer.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The system's, unless it is to refuse descriptors. */
static atomic_int send_error;

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    int error = atomic_load(&send_error);
    if (error == 0)
        return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
    errno = error;
    return -1;
}

enum { TENSOR_BYTES = 4 * SERVICE_BENCH_ELEMENTS, PAGES_16 = 16 * 4096 };

static packet_arena make_arena(packet_peer *peer, uint64_t size_bytes)
{
    return packet_arena_make(peer, FC_ARENA_HOST, size_bytes);
}

static void ask_for_arena(packet_peer *peer, uint64_t id, uint64_t size_bytes)
{
    packet_arena_ask(peer, id, FC_ARENA_HOST, size_bytes);
}

START_TEST(tensors_lie_where_the_request_says)
{
    local_bench b;
    packet_peer peer;
    fc_wire_reply reply;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    packet_arena m = make_arena(&peer, 5000);
    ck_assert_uint_eq(m.size_bytes, 8192);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_ARENA_BYTES), 8192);
    fc_wire_request request = local_bench_attend_in(1, m.id);
    ck_assert(packet_peer_send(&peer, &request));
    ck_assert(packet_peer_receive(&peer, &reply));
    ck_assert_msg(reply.status == FC_OK, "%.*s", (int)reply.error.bytes, reply.error.text);
    ck_assert(reply.attend.out.place.is_set && reply.attend.out.place.arena == m.id);
    ck_assert_uint_eq(reply.attend.out.place.offset, 3 * 1024);
    ck_assert(reply.attend.lse.place.is_set && reply.attend.lse.place.offset == 4 * 1024);
    for (int i = 0; i < TENSOR_BYTES; i++)
        ck_assert_uint_eq(m.base[3 * 1024 + i], FAKE_ENGINE_FILL);
    ck_assert_uint_eq(m.base[3 * 1024 + TENSOR_BYTES], 0);
    float lse;
    memcpy(&lse, m.base + 4 * 1024, sizeof lse);
    ck_assert_float_eq(lse, 1);
    packet_arena_drop(&m);
    packet_peer_close(&peer);
    local_bench_await_stat(&b, FC_GAUGE_ARENAS, 0);
    local_bench_await_stat(&b, FC_GAUGE_ARENA_BYTES, 0);
    local_bench_close(&b);
}
END_TEST

/* Registered as long as it lives, or else plain memory that does its job all the same: the fake checks what is said of
 * each tensor. */
START_TEST(arenas_are_registered_with_the_engine)
{
    static const fc_status OUTCOMES[] = {FC_OK, FC_NO_MEMORY, FC_OK};
    local_bench b;
    packet_peer peer;
    packet_arena m[3];
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    for (uint32_t i = 0, registered = 0; i < 3; i++) {
        fake_engine_set_register_status(&b.service.engine, OUTCOMES[i]);
        m[i] = make_arena(&peer, PAGES_16);
        registered += OUTCOMES[i] == FC_OK;
        ck_assert_uint_eq(fake_engine_region_count(&b.service.engine), registered);
        fc_wire_request request = local_bench_attend_in(1, m[i].id);
        ck_assert(packet_peer_send(&peer, &request));
        packet_peer_expect(&peer, 1, FC_OK, NULL);
        ck_assert_uint_eq(m[i].base[3 * 1024], FAKE_ENGINE_FILL);
    }
    ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_ARENAS_UNREGISTERED), 1);
    packet_arena_give_back(&peer, m[0].id, FC_OK);
    packet_arena_give_back(&peer, m[1].id, FC_OK);
    local_bench_await_stat(&b, FC_GAUGE_ARENAS, 1);
    ck_assert_uint_eq(fake_engine_region_count(&b.service.engine), 1);
    packet_peer_close(&peer);
    local_bench_await_stat(&b, FC_GAUGE_ARENAS, 0);
    ck_assert_uint_eq(fake_engine_region_count(&b.service.engine), 0);
    for (int i = 0; i < 3; i++)
        packet_arena_drop(&m[i]);
    local_bench_close(&b);
}
END_TEST

/* A driver that does not come back. */
START_TEST(the_keeper_is_given_up_when_the_driver_hangs)
{
    const uint64_t timeout_ns = 30 * FC_NS_PER_S;
    local_bench b;
    packet_peer peer;
    fc_wire_reply reply;
    local_bench_open(&b);
    fc_service *service = b.service.service;
    packet_peer_open(&peer, b.side_path);
    fake_engine_hold_register(&b.service.engine, true);
    uint64_t before_ns = fc_clock_now_ns();
    ask_for_arena(&peer, 1, PAGES_16);
    fake_engine_await_register(&b.service.engine);
    uint64_t after_ns = fc_clock_now_ns();
    fc_service_watch(service, timeout_ns, before_ns + timeout_ns);
    fc_service_watch(service, 0, UINT64_MAX);
    ck_assert(!fc_service_has_given_up(service));
    fc_service_watch(service, timeout_ns, after_ns + timeout_ns + 1);
    ck_assert(fc_service_has_given_up(service));
    fc_service_watch(service, timeout_ns, after_ns + 2 * timeout_ns); /* once is enough */
    ck_assert_int_eq(atomic_load(&b.service.events[FC_EVENT_LAUNCH_HUNG]), 1);
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_DEVICE_LOST), 1);
    fake_engine_hold_register(&b.service.engine, false); /* it comes back after all */
    ck_assert(packet_peer_receive(&peer, &reply));
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

START_TEST(an_arena_cannot_be_resized_and_may_be_scribbled_on)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    fake_engine_hold(&b.service.engine);
    packet_peer_open(&peer, b.side_path);
    packet_arena m = make_arena(&peer, PAGES_16);
    ck_assert_int_ne(ftruncate(m.fd, 0), 0);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_ne(ftruncate(m.fd, 2 * PAGES_16), 0);
    ck_assert_int_ne(fcntl(m.fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    fc_wire_request request = local_bench_attend_in(1, m.id);
    ck_assert(packet_peer_send(&peer, &request));
    fake_engine_await_launches(&b.service.engine, 1);
    ck_assert_int_eq(fallocate(m.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGES_16), 0);
    memset(m.base, 0xff, PAGES_16 / 2);
    packet_arena_drop(&m); /* the daemon's mapping is its own */
    fake_engine_release_all(&b.service.engine);
    packet_peer_expect(&peer, 1, FC_OK, NULL);
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

typedef struct wrong_place {
    const char *name;
    int piece;           /* 0 to 4: q, k, v, out, lse */
    fc_wire_place place; /* arena 0: the right one; 1: another peer's; 2: one that never was */
    fc_status status;
    const char *error;
} wrong_place;

static const wrong_place WRONG[] = {
    {"not a multiple of 64", 0, {true, 0, 32}, FC_INVALID_ARGUMENT, "q.offset: 32 is not a multiple of 64"},
    {"out not a multiple", 3, {true, 0, 1}, FC_INVALID_ARGUMENT, "out_at.offset: 1 is not"},
    {"one byte over", 1, {true, 0, 8192 - 128}, FC_INVALID_ARGUMENT, "k.offset: 192 bytes at 8064 end past"},
    {"far outside", 2, {true, 0, 1ull << 40}, FC_INVALID_ARGUMENT, "v.offset"},
    {"wraps around", 3, {true, 0, UINT64_MAX - 63}, FC_INVALID_ARGUMENT, "out_at.offset"},
    {"lse outside", 4, {true, 0, 8192}, FC_INVALID_ARGUMENT, "lse_at.offset"},
    {"out on q", 3, {true, 0, 0}, FC_INVALID_ARGUMENT, "out_at.offset: overlaps q"},
    {"out on k's last bytes", 3, {true, 0, 1024 + 128}, FC_INVALID_ARGUMENT, "overlaps k"},
    {"lse on out", 4, {true, 0, 3 * 1024 + 64}, FC_INVALID_ARGUMENT, "lse_at.offset: overlaps out_at"},
    {"another peer's", 0, {true, 1, 0}, FC_INVALID_ARGUMENT, "q.arena: this connection has no arena"},
    {"another peer's to write to", 3, {true, 1, 0}, FC_INVALID_ARGUMENT, "out_at.arena"},
    {"nobody's", 2, {true, 2, 0}, FC_INVALID_ARGUMENT, "v.arena"},
    {"no place for out", 3, {false, 0, 0}, FC_TOO_LARGE, "out_at"},
    {"no place for lse", 4, {false, 0, 0}, FC_TOO_LARGE, "lse_at"},
    {"k may be q", 1, {true, 0, 0}, FC_OK, NULL},
    {"v may overlap k", 2, {true, 0, 1024 + 64}, FC_OK, NULL},
    {"the last place there is", 4, {true, 0, 8192 - 64}, FC_OK, NULL},
};

START_TEST(a_wrong_place_is_refused_by_name)
{
    local_bench b;
    packet_peer peer, other;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    packet_peer_open(&other, b.side_path);
    packet_arena mine = make_arena(&peer, 8192), foreign = make_arena(&other, 8192);
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        const wrong_place *row = &WRONG[i];
        fc_wire_request request = local_bench_attend_in(i, mine.id);
        fc_wire_place *places[PACKET_ARENA_PLACES];
        const uint64_t arenas[] = {mine.id, foreign.id, 999};
        packet_arena_places(&request.attend, places);
        *places[row->piece] = row->place;
        places[row->piece]->arena = arenas[row->place.arena];
        if (!row->place.is_set && row->piece < 3)
            continue;
        ck_assert(packet_peer_send(&peer, &request));
        packet_peer_expect(&peer, i, row->status, row->error);
    }
    packet_arena_give_back(&peer, foreign.id, FC_INVALID_ARGUMENT);
    packet_arena_give_back(&peer, mine.id, FC_OK);
    fc_wire_request stale = local_bench_attend_in(70, mine.id);
    ck_assert(packet_peer_send(&peer, &stale));
    packet_peer_expect(&peer, 70, FC_INVALID_ARGUMENT, "q.arena");
    packet_arena_give_back(&peer, mine.id, FC_INVALID_ARGUMENT);
    packet_arena_drop(&mine);
    packet_arena_drop(&foreign);
    packet_peer_close(&peer);
    packet_peer_close(&other);
    local_bench_close(&b);
}
END_TEST

/* The engine holds a request; its arena is given back, or its peer goes. _i 0: given back, 1: gone. */
START_TEST(what_runs_keeps_its_memory)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    fake_engine_hold(&b.service.engine);
    packet_peer_open(&peer, b.side_path);
    packet_arena m = make_arena(&peer, PAGES_16);
    fc_wire_request request = local_bench_attend_in(1, m.id);
    ck_assert(packet_peer_send(&peer, &request));
    fake_engine_await_launches(&b.service.engine, 1);
    request.id = 2;
    ck_assert(packet_peer_send(&peer, &request)); /* waits */
    local_bench_await_stat(&b, FC_GAUGE_QUEUED, 1);
    if (_i == 0) {
        packet_arena_give_back(&peer, m.id, FC_OK);
    } else {
        packet_peer_close(&peer);
        local_bench_await_stat(&b, FC_COUNT_DROPPED, 1);
    }
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_ARENAS), 1);
    fake_engine_release_all(&b.service.engine);
    if (_i == 0) {
        packet_peer_expect(&peer, 1, FC_OK, NULL);
        packet_peer_expect(&peer, 2, FC_OK, NULL);
        packet_peer_close(&peer);
    }
    local_bench_await_stat(&b, FC_GAUGE_ARENAS, 0);
    ck_assert_uint_eq(m.base[3 * 1024], 0); /* and what was in it went with it */
    packet_arena_drop(&m);
    local_bench_close(&b);
}
END_TEST

START_TEST(quotas_hold_until_the_memory_is_free)
{
    local_bench b;
    packet_peer peers[5];
    local_bench_open(&b);
    for (int i = 0; i < 5; i++)
        packet_peer_open(&peers[i], b.side_path);
    ask_for_arena(&peers[0], 1, 0);
    packet_peer_expect(&peers[0], 1, FC_INVALID_ARGUMENT, "bytes");
    ask_for_arena(&peers[0], 1, UINT64_MAX);
    packet_peer_expect(&peers[0], 1, FC_TOO_LARGE, "bytes");
    ask_for_arena(&peers[0], 1, LOCAL_BENCH_PEER_BYTES + 1);
    packet_peer_expect(&peers[0], 1, FC_TOO_LARGE, "arena_bytes_per_peer is 262144");
    for (int i = 0; i < 4; i++) {
        packet_arena m = make_arena(&peers[i], LOCAL_BENCH_PEER_BYTES);
        packet_arena_drop(&m);
    }
    ask_for_arena(&peers[0], 1, 1);
    packet_peer_expect(&peers[0], 1, FC_TOO_LARGE, "arena_bytes_per_peer");
    ask_for_arena(&peers[4], 1, 1);
    packet_peer_expect(&peers[4], 1, FC_TOO_LARGE, "arena_bytes is 1048576");
    packet_peer_close(&peers[0]);
    local_bench_await_stat(&b, FC_GAUGE_ARENAS, 3);
    packet_arena m = make_arena(&peers[4], LOCAL_BENCH_PEER_BYTES);
    for (int i = 0; i < 20; i++) { /* given back and asked for again in one breath */
        uint64_t id = m.id;
        packet_arena_drop(&m);
        packet_arena_give_back(&peers[4], id, FC_OK);
        m = make_arena(&peers[4], LOCAL_BENCH_PEER_BYTES);
        ck_assert_uint_ne(m.id, id);
    }
    packet_arena_drop(&m);
    for (int i = 1; i < 5; i++)
        packet_peer_close(&peers[i]);
    local_bench_await_stat(&b, FC_GAUGE_ARENA_BYTES, 0);
    local_bench_close(&b);
}
END_TEST

START_TEST(a_peer_has_so_many_and_no_more)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    for (uint64_t i = 0; i < 64; i++) {
        packet_arena m = make_arena(&peer, 1);
        packet_arena_drop(&m);
    }
    ask_for_arena(&peer, 1, 1);
    packet_peer_expect(&peer, 1, FC_TOO_LARGE, "has 64 arenas");
    packet_peer_close(&peer);
    local_bench_await_stat(&b, FC_GAUGE_ARENAS, 0);
    local_bench_close(&b);
}
END_TEST

/* Gone while their arenas are being made, with and without reading the answer. */
START_TEST(askers_that_leave_leave_nothing)
{
    local_bench b;
    local_bench_open(&b);
    packet_arena_ask_and_leave(b.side_path, FC_ARENA_HOST, 300);
    local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
    local_bench_await_stat(&b, FC_GAUGE_ARENAS, 0);
    local_bench_await_stat(&b, FC_GAUGE_ARENA_BYTES, 0);
    local_bench_close(&b);
}
END_TEST

START_TEST(elsewhere_there_are_none)
{
    service_bench b;
    service_bench_open(&b);
    service_bench_send_op(&b, 1, FC_OP_ARENA_CREATE, 0, 7);
    service_bench_expect(&b, 1, FC_UNSUPPORTED);
    service_bench_send_op(&b, 2, FC_OP_ARENA_DESTROY, 0, 7);
    service_bench_expect(&b, 2, FC_UNSUPPORTED);
    fc_wire_request request = local_bench_attend_in(3, 1);
    reply_box_send(&b.boxes[3], &request, NULL, 7);
    service_bench_expect(&b, 3, FC_UNSUPPORTED);
    service_bench_close(&b);
}
END_TEST

/* Too many descriptors on their way, say: the connection ends, and with it the arena, so that nobody waits for ever. */
START_TEST(an_answer_that_cannot_be_sent_ends_the_connection)
{
    local_bench b;
    packet_peer peer;
    fc_wire_reply reply;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    atomic_store(&send_error, ETOOMANYREFS);
    ask_for_arena(&peer, 1, 4096);
    ck_assert(!packet_peer_receive(&peer, &reply));
    packet_peer_close(&peer);
    local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
    local_bench_await_stat(&b, FC_GAUGE_ARENAS, 0);
    local_bench_await_stat(&b, FC_COUNT_REPLIES_LOST, 1);
    local_bench_close(&b);
}
END_TEST

START_TEST(descriptors_do_not_pile_up)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    int first = dup(0);
    close(first);
    for (int i = 0; i < 200; i++) {
        packet_arena m = make_arena(&peer, 4096);
        packet_arena_drop(&m);
        packet_arena_give_back(&peer, m.id, FC_OK);
    }
    local_bench_await_stat(&b, FC_GAUGE_ARENAS, 0);
    int last = dup(0);
    close(last);
    ck_assert_int_le(last, first + 8); /* some are on their way */
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_test(core, tensors_lie_where_the_request_says);
    tcase_add_test(core, arenas_are_registered_with_the_engine);
    tcase_add_test(core, the_keeper_is_given_up_when_the_driver_hangs);
    tcase_add_test(core, an_arena_cannot_be_resized_and_may_be_scribbled_on);
    tcase_add_test(core, a_wrong_place_is_refused_by_name);
    tcase_add_loop_test(core, what_runs_keeps_its_memory, 0, 2);
    tcase_add_test(core, quotas_hold_until_the_memory_is_free);
    tcase_add_test(core, a_peer_has_so_many_and_no_more);
    tcase_add_test(core, askers_that_leave_leave_nothing);
    tcase_add_test(core, elsewhere_there_are_none);
    tcase_add_test(core, an_answer_that_cannot_be_sent_ends_the_connection);
    tcase_add_test(core, descriptors_do_not_pile_up);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
