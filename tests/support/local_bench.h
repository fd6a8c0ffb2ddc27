/* A local channel on a real socket, with a service and a fake engine behind it: 1 MiB of arenas, a quarter of it for
 * one peer.
 */
#ifndef FC_TESTS_LOCAL_BENCH_H
#define FC_TESTS_LOCAL_BENCH_H

#include "daemon/local.h"
#include "tests/support/packet_arena.h"
#include "tests/support/service_bench.h"

enum { LOCAL_BENCH_ARENA_BYTES = 1 << 20, LOCAL_BENCH_PEER_BYTES = 1 << 18 };

typedef struct local_bench {
    service_bench service;
    char directory[64];
    char path[96]; /* beside which it listens */
    const char *side_path;
    fc_local *local;
} local_bench;

void local_bench_open(local_bench *b);

/* With who may come, and how much; zeros: anybody, any number. */
typedef struct local_bench_options {
    fc_access access;
    uint64_t connections_per_uid, requests_per_second;
} local_bench_options;
void local_bench_open_with(local_bench *b, const local_bench_options *options);

/* Lets go what the engine holds and ends everything; the folder must be empty then. */
void local_bench_close(local_bench *b);

/* An attend as service_bench_request() has it: of q, k, v, out, lse the i-th lies at i * 1024 of arenas[i]; or all of
 * them in that one. */
fc_wire_request local_bench_attend_across(uint64_t id, const uint64_t arenas[PACKET_ARENA_PLACES]);
fc_wire_request local_bench_attend_in(uint64_t id, uint64_t arena);

uint64_t local_bench_stat(local_bench *b, fc_stat stat);
void local_bench_await_stat(local_bench *b, fc_stat stat, uint64_t value);

#endif
