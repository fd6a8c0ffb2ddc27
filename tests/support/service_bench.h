/* A service with a fake engine behind it and two dozen reply boxes in front: what the service's tests are run on.
 */
#ifndef FC_TESTS_SERVICE_BENCH_H
#define FC_TESTS_SERVICE_BENCH_H

#include "tests/support/fake_engine.h"
#include "tests/support/reply_box.h"

enum { SERVICE_BENCH_B = 1, SERVICE_BENCH_H = 2, SERVICE_BENCH_S = 3, SERVICE_BENCH_D = 8, SERVICE_BENCH_BOXES = 24 };
enum { SERVICE_BENCH_ELEMENTS = SERVICE_BENCH_B * SERVICE_BENCH_H * SERVICE_BENCH_S * SERVICE_BENCH_D };

typedef struct service_bench {
    fake_engine engine;
    fc_service *service;
    reply_box boxes[SERVICE_BENCH_BOXES];
    atomic_int events[4]; /* by fc_service_event */
} service_bench;

/* prepare: the engine, no service. open_with: a service of that config. open: both, with the config below. */
void service_bench_prepare(service_bench *b);
void service_bench_open_with(service_bench *b, const fc_service_config *config);
void service_bench_open(service_bench *b);
void service_bench_close(service_bench *b);

/* 16 may wait, 4 share a launch of 8 entries and 1000 staging bytes; tensors to 4096 bytes, 64 tokens, head_dim 128. */
fc_service_config service_bench_config(service_bench *b);

/* Zeroes that stay valid, of at most 1536 bytes. */
fc_wire_tensor service_bench_tensor(fc_dtype dtype, uint64_t batch, uint64_t heads, uint64_t tokens, uint64_t head_dim);

/* An f32 attend of B, H, S, D above. */
fc_wire_request service_bench_request(uint64_t id);

/* Sends from boxes[box], with the box's number as id. */
void service_bench_attend(service_bench *b, int box, uint64_t peer);
void service_bench_send_op(service_bench *b, int box, fc_op op, uint64_t target, uint64_t peer);

/* Waits for the box's one answer and checks its status (FC_STATUS_COUNT: dropped) and id. */
void service_bench_expect(service_bench *b, int box, fc_status status);

/* A counter's value, asked for with a stats request from that box. */
double service_bench_counter(service_bench *b, int box, const char *name);

bool service_bench_is_text(fc_wire_text text, const char *expected);

#endif
