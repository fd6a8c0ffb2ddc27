/* bench_client's command line. */
#include "client/bench_options.h"

#include <math.h>

/* What one client keeps under way in the open loop unless told: enough that a server answering in 10 ms still gets
 * 1600 requests a second from it. */
#define OPEN_LOOP_INFLIGHT 16

#define AT(field) offsetof(fc_bench_options, field)
#define FC_TLS_FIELD(field) offsetof(fc_bench_options, tls.field)
#define FC_TLS_COMMANDS 0
#define FC_SHAPE_FIELD(field) offsetof(fc_bench_options, shape_options.field)
#define FC_SHAPE_SIZE_COMMANDS 0
#define FC_SHAPE_MASK_COMMANDS 0

/* clang-format off */
static const fc_arg_row ROWS[] = {
    {.name = "url", .letter = 'u', .type = FC_ARG_TEXTS, .metavar = "URL", .offset = AT(urls), .group = "Server",
     .help = "ipc:///path/to.sock, tls+tcp://host:port or tcp://host:port; requests are spread over all that are given; without it "
             "$" FC_SERVER_URL_VARIABLE " or " FC_SERVER_DEFAULT_URL},
    {.name = "kernel", .type = FC_ARG_TEXT, .metavar = "NAME", .offset = AT(kernel), .group = "Server",
     .help = "the kernel to ask for; without it the server chooses"},
    {.name = "op", .type = FC_ARG_CHOICE, .metavar = "OP", .offset = AT(op), .default_text = "attend",
     .choices = FC_BENCH_OP_CHOICES, .group = "Server", .help = "what to send; ping is an empty round trip"},
    {.name = "path", .type = FC_ARG_CHOICE, .metavar = "WAY", .offset = AT(path), .default_text = "auto",
     .choices = FC_BENCH_PATH_CHOICES, .group = "Server",
     .help = "how tensors get to a server on this machine: in messages, in shared memory or GPU memory where they lie "
             "from the start (one ipc:// URL), or as the library chooses"},
    {.name = "timeout", .type = FC_ARG_REAL, .metavar = "SECONDS", .offset = AT(timeout_s), .default_text = "30",
     .min = 0.001, .max = 3600, .group = "Server", .help = "of one request, retries of busy ones included"},
    {.name = "deadline", .type = FC_ARG_REAL, .metavar = "SECONDS", .offset = AT(deadline_s), .max = 3600,
     .group = "Server",
     .help = "tell the server to give each request up so long after it came, and count answers that took longer from "
             "their sending as late; 0 or without it: no deadline"},
#include "client/tool_tls.def"
#include "client/tool_shape.def"
    {.name = "lse", .type = FC_ARG_FLAG, .offset = AT(wants_lse), .group = "Problem",
     .help = "ask for the log-sum-exp too"},
    {.name = "inputs", .type = FC_ARG_UINT, .metavar = "N", .offset = AT(input_count), .default_text = "4",
     .min = 1, .max = 64, .group = "Problem", .help = "distinct sets of inputs, sent in turn"},
    {.name = "seed", .type = FC_ARG_UINT, .metavar = "N", .offset = AT(seed), .default_text = "1", .max = 1e15,
     .group = "Problem", .help = "of the inputs, N(0,1), and of Poisson arrivals"},
    {.name = "clients", .letter = 'c', .type = FC_ARG_UINT, .metavar = "N", .offset = AT(clients),
     .default_text = "1", .min = 1, .max = 1024, .group = "Load",
     .help = "clients, each a thread with connections of its own"},
    {.name = "inflight", .letter = 'i', .type = FC_ARG_UINT, .metavar = "M", .offset = AT(inflight),
     .min = 1, .max = 256, .group = "Load", .help = "requests each client keeps under way; without it 1, or 16 with --rate"},
    {.name = "rate", .letter = 'r', .type = FC_ARG_REAL, .metavar = "R", .offset = AT(rate), .min = 0.001,
     .max = 1e7, .group = "Load",
     .help = "open loop: send R requests a second, all clients together, whatever the answers do; latency counts from "
             "the intended send time. Without it the closed loop: the next request goes out when one is answered"},
    {.name = "arrival", .type = FC_ARG_CHOICE, .metavar = "HOW", .offset = AT(arrival), .default_text = "constant",
     .choices = FC_ARRIVAL_CHOICES, .group = "Load", .help = "gaps between the sends of the open loop"},
    {.name = "spin-us", .type = FC_ARG_UINT, .metavar = "N", .offset = AT(spin_us), .default_text = "0", .max = 1000000,
     .group = "Load", .help = "microseconds that a client with one request under way waits awake for its answer"},
    {.name = "duration", .letter = 'd', .type = FC_ARG_REAL, .metavar = "SECONDS", .offset = AT(duration_s),
     .default_text = "5", .min = 0.01, .max = 86400, .group = "Load", .help = "time that is measured"},
    {.name = "warmup", .letter = 'w', .type = FC_ARG_REAL, .metavar = "SECONDS", .offset = AT(warmup_s),
     .default_text = "1", .max = 3600, .group = "Load", .help = "time before it under the same load, not counted"},
    {.name = "verify", .type = FC_ARG_FLAG, .offset = AT(wants_verify), .group = "Results",
     .help = "check every answer: the first of each input set and kernel against the double-precision reference, all "
             "later ones bit for bit against that; the client spends some time on it between requests"},
    {.name = "json", .type = FC_ARG_TEXT, .metavar = "FILE", .offset = AT(json_path), .group = "Results",
     .help = "write the figures there; - is standard output, and then nothing else goes there"},
    {.name = "plot", .type = FC_ARG_TEXT, .metavar = "FILE.svg", .offset = AT(plot_path), .group = "Results",
     .help = "draw latency over percentile"},
    {.name = "quiet", .letter = 'q', .type = FC_ARG_FLAG, .offset = AT(is_quiet), .group = "Results",
     .help = "no progress line, no table; warnings, files and the exit code remain"},
};
/* clang-format on */

const fc_arg_tool FC_BENCH_TOOL = {
    .name = "bench_client",
    .usage = "[OPTION]...",
    .summary = "Loads a flashcored server with attention requests and reports requests a second, latency percentiles "
               "(client send to client receive) and where the time went.",
    .rows = ROWS,
    .row_count = sizeof ROWS / sizeof ROWS[0],
    .closing = "Examples:\n"
               "  bench_client --verify              the benchmark problem, one client\n"
               "  bench_client -c 16 --dtype bf16 --shape 4,32,1024,128 --kv-heads 8\n"
               "  bench_client --rate 500 --arrival poisson --plot latency.svg\n"
               "  bench_client --op ping --json -    the transport alone, for scripts\n"
               "\n"
               "Environment:\n"
               "  " FC_SERVER_URL_VARIABLE "   URLs, with commas between, when there is no --url\n"
               "\n"
               "Exit status:\n"
               "  0  all answers came, and were right where checked\n"
               "  1  a wrong answer, a failed request, a missed schedule, an unreachable server,\n"
               "     an unwritable file, an interrupt\n"
               "  2  a wrong command line\n",
};

static fc_status check(fc_bench_options *o, fc_reason *out_reason)
{
    fc_status st = fc_server_use_default_urls(&o->urls, out_reason);
    if (st != FC_OK)
        return st;
    if (o->op == FC_BENCH_PING && o->inflight > 1)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--inflight: pings go one at a time; use more --clients");
    if (o->op == FC_BENCH_PING && (o->wants_verify || o->wants_lse))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s: a ping has no answer to check",
                       o->wants_verify ? "verify" : "lse");
    if ((o->path == FC_BENCH_PATH_ARENA || o->path == FC_BENCH_PATH_DEVICE) && o->urls.count > 1)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--path %s: with one --url alone",
                       o->path == FC_BENCH_PATH_ARENA ? "arena" : "device");
    if (o->arrival != FC_ARRIVAL_CONSTANT && o->rate == 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--arrival: only with --rate; the closed loop has no schedule");
    if (o->inflight == 0)
        o->inflight = o->op == FC_BENCH_ATTEND && o->rate > 0 ? OPEN_LOOP_INFLIGHT : 1;
    return fc_shape_resolve(&o->shape_options, &o->shape, out_reason);
}

fc_args_outcome fc_bench_options_parse(int argc, char *const *argv, fc_bench_options *out_options,
                                       fc_reason *out_reason)
{
    int command = -1;
    *out_options = (fc_bench_options){.op = FC_BENCH_ATTEND};
    fc_shape_options_default(&out_options->shape_options);
    fc_args_outcome outcome = fc_args_parse(&FC_BENCH_TOOL, argc, argv, out_options, &command, out_reason);
    if (outcome == FC_ARGS_RUN && check(out_options, out_reason) != FC_OK)
        return FC_ARGS_WRONG;
    return outcome;
}
