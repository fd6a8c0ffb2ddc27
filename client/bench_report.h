/* What bench_client says at the end: a table for a person, a document for a program, and the exit code.
 * Pure but for the files they write.
 */
#ifndef FC_CLIENT_BENCH_REPORT_H
#define FC_CLIENT_BENCH_REPORT_H

#include "client/bench_picture.h"
#include "client/bench_run.h"
#include "client/tool_json.h"

/* Mean parts of an answered request's time, microseconds; they add up to client_us. */
typedef struct fc_bench_parts {
    double wait_us; /* the open loop: intended to sent */
    double queue_us, copy_in_us, kernel_us, copy_out_us;
    double server_us;    /* the daemon's remainder: decoding, admission, encoding, waiting for the launch's others */
    double transport_us; /* client library, sockets, and the daemon's outside of its own clock */
    double client_us;
    double batch; /* requests a launch */
} fc_bench_parts;

fc_bench_parts fc_report_parts(const fc_tally *tally);

/* "open loop, 500/s poisson" ..., in one line. */
void fc_report_load_text(const fc_bench_options *options, char *out, size_t out_bytes);

/* Prints everything. */
void fc_report_print(const fc_bench_options *options, const fc_bench_outcome *outcome, const fc_canvas *canvas,
                     FILE *out);

/* The same as a document; requests_per_s p50_us p90_us p99_us max_us stand at its top. NULL: out of memory. */
fc_json *fc_report_json(const fc_bench_options *options, const fc_bench_outcome *outcome);

/* Did the run fail (exit code 1)? Prints one line a reason to err. */
bool fc_report_failed(const fc_bench_options *options, const fc_bench_outcome *outcome, FILE *err);

#endif
