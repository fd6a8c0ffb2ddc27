/* A transport on real sockets, one ipc and one tcp, with a service and a fake engine behind it: what the transport's
 * tests are run on.
 */
#ifndef FC_TESTS_TRANSPORT_BENCH_H
#define FC_TESTS_TRANSPORT_BENCH_H

#include "daemon/transport.h"
#include "proto/message.h"
#include "tests/support/fake_engine.h"

enum { TRANSPORT_BENCH_TOKENS_MAX = 32768, TRANSPORT_BENCH_D = 64 };
enum { TRANSPORT_BENCH_TENSOR_BYTES = TRANSPORT_BENCH_TOKENS_MAX * TRANSPORT_BENCH_D * 4 };
enum { TRANSPORT_BENCH_MESSAGE_BYTES = TRANSPORT_BENCH_TENSOR_BYTES + 4096 };

typedef struct transport_bench {
    char directory[64];
    char ipc_url[128], tcp_url[FC_TRANSPORT_URL_BYTES];
    fake_engine engine;
    fc_service *service;
    fc_transport *transport;
} transport_bench;

/* prepare: engine, service, open transport; nobody listens. open: listens too, in a folder of its own, and serves.
 * queue_requests may wait, 4 share a launch. */
void transport_bench_prepare(transport_bench *b, uint64_t queue_requests);
void transport_bench_open(transport_bench *b, uint64_t queue_requests);

/* Lets go what the engine holds, ends everything, removes the folder, which must be empty. */
void transport_bench_close(transport_bench *b);

void transport_bench_await_stat(transport_bench *b, fc_stat stat, uint64_t value);

/* A request with one key whose reply is as large as q: q_tokens times 256 bytes. */
fc_wire_request transport_bench_attend(uint64_t id, uint64_t q_tokens);

/* A new connection's ping is answered. */
void transport_bench_assert_ping(const char *url);

#endif
