/* bench_client's command line: one table, and the struct it fills. */
#ifndef FC_CLIENT_BENCH_OPTIONS_H
#define FC_CLIENT_BENCH_OPTIONS_H

#include "client/bench_schedule.h"
#include "client/tool_args.h"
#include "client/tool_server.h"
#include "client/tool_shape.h"

#define FC_BENCH_OP_CHOICES "attend|ping"
typedef enum fc_bench_op { FC_BENCH_ATTEND, FC_BENCH_PING } fc_bench_op;

/* auto, inline: flashcore_path. arena, device: inputs and outputs lie in such an arena from the start. */
#define FC_BENCH_PATH_CHOICES "auto|inline|arena|device"
typedef enum fc_bench_path {
    FC_BENCH_PATH_AUTO,
    FC_BENCH_PATH_INLINE,
    FC_BENCH_PATH_ARENA,
    FC_BENCH_PATH_DEVICE
} fc_bench_path;

typedef struct fc_bench_options {
    fc_arg_texts urls;
    fc_server_tls tls;
    fc_shape_options shape_options;
    const char *kernel;
    int op;   /* fc_bench_op */
    int path; /* fc_bench_path */
    uint64_t clients;
    uint64_t inflight; /* of one client; decided by fc_bench_options_parse() when not given */
    double rate;       /* requests a second of all clients together; 0: closed loop */
    int arrival;       /* fc_arrival */
    double duration_s, warmup_s, timeout_s;
    double deadline_s; /* of every request; 0: none */
    uint64_t spin_us;
    bool wants_verify, wants_lse, is_quiet;
    uint64_t input_count, seed;
    const char *json_path, *plot_path;

    fc_shape shape; /* resolved */
} fc_bench_options;

extern const fc_arg_tool FC_BENCH_TOOL;

/* Parses argv and checks what only makes sense together. Like fc_args_parse(). */
fc_args_outcome fc_bench_options_parse(int argc, char *const *argv, fc_bench_options *out_options,
                                       fc_reason *out_reason);

#endif
