/* See local_bench.h. */
#include "tests/support/local_bench.h"

#include "daemon/clock.h"

#include <check.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void local_bench_open(local_bench *b)
{
    local_bench_open_with(b, &(local_bench_options){.requests_per_second = 0});
}

void local_bench_open_with(local_bench *b, const local_bench_options *options)
{
    fc_reason reason = {""};
    service_bench_prepare(&b->service);
    fc_service_config config = service_bench_config(&b->service);
    config.arena_bytes = LOCAL_BENCH_ARENA_BYTES;
    config.arena_bytes_per_peer = LOCAL_BENCH_PEER_BYTES;
    config.device_arena_bytes = LOCAL_BENCH_ARENA_BYTES;
    config.device_arena_bytes_per_peer = LOCAL_BENCH_PEER_BYTES;
    config.access = options->access;
    config.tunables.connections_per_uid = options->connections_per_uid;
    config.tunables.requests_per_second = options->requests_per_second;
    service_bench_open_with(&b->service, &config);
    snprintf(b->directory, sizeof b->directory, "/tmp/fc-local-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(b->directory));
    snprintf(b->path, sizeof b->path, "%s/s", b->directory);
    fc_local_config local = {.service = b->service.service, .socket_mode = 0620};
    ck_assert_int_eq(fc_local_open(&local, &b->local, &reason), FC_OK);
    ck_assert_msg(fc_local_listen(b->local, b->path, &b->side_path, &reason) == FC_OK, "%s", reason.text);
    ck_assert_int_eq(fc_local_start(b->local, &reason), FC_OK);
}

void local_bench_close(local_bench *b)
{
    fake_engine_release_all(&b->service.engine);
    fc_local_refuse_peers(b->local);
    fc_service_drain(b->service.service);
    fc_service_stop(b->service.service);
    fc_local_close(b->local);
    ck_assert_msg(rmdir(b->directory) == 0, "socket and lock file are gone");
    service_bench_close(&b->service);
}

fc_wire_request local_bench_attend_across(uint64_t id, const uint64_t arenas[PACKET_ARENA_PLACES])
{
    fc_wire_request request = service_bench_request(id);
    fc_wire_attend *a = &request.attend;
    fc_wire_place *places[PACKET_ARENA_PLACES];
    packet_arena_places(a, places);
    a->wants_lse = true;
    a->q.data = a->k.data = a->v.data = NULL;
    for (uint64_t i = 0; i < PACKET_ARENA_PLACES; i++)
        *places[i] = (fc_wire_place){true, arenas[i], i * 1024};
    return request;
}

fc_wire_request local_bench_attend_in(uint64_t id, uint64_t arena)
{
    return local_bench_attend_across(id, (const uint64_t[PACKET_ARENA_PLACES]){arena, arena, arena, arena, arena});
}

uint64_t local_bench_stat(local_bench *b, fc_stat stat)
{
    return fc_stats_get(fc_service_stats(b->service.service), stat);
}

void local_bench_await_stat(local_bench *b, fc_stat stat, uint64_t value)
{
    uint64_t end_ns = fc_clock_now_ns() + 20 * FC_NS_PER_S;
    while (local_bench_stat(b, stat) != value) {
        ck_assert_msg(fc_clock_now_ns() < end_ns, "%s is %llu, not %llu", fc_stat_name(stat),
                      (unsigned long long)local_bench_stat(b, stat), (unsigned long long)value);
        sched_yield();
    }
}
