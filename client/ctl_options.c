/* flashcorectl's command line. */
#include "client/ctl_options.h"

/* How long --watch waits for a server that has gone before it says so. */
#define LOOK_TIMEOUT_S 2.0

#define AT(field) offsetof(fc_ctl_options, field)
#define BIT(command) (1u << (command))
#define ADMIN (BIT(FC_CTL_DRAIN) | BIT(FC_CTL_RELOAD) | BIT(FC_CTL_LOG_LEVEL) | BIT(FC_CTL_KERNEL))
#define SERVING (~ADMIN) /* those that go to --url */
#define FILES (BIT(FC_CTL_ATTEND) | BIT(FC_CTL_COMPARE))
#define FC_TLS_FIELD(field) offsetof(fc_ctl_options, tls.field)
#define FC_TLS_COMMANDS SERVING
#define FC_SHAPE_FIELD(field) offsetof(fc_ctl_options, shape_options.field)
#define FC_SHAPE_SIZE_COMMANDS BIT(FC_CTL_COMPARE)
#define FC_SHAPE_MASK_COMMANDS FILES

/* clang-format off */
static const fc_arg_row ROWS[] = {
    {.name = "url", .letter = 'u', .type = FC_ARG_TEXTS, .metavar = "URL", .offset = AT(urls), .commands = SERVING,
     .group = "Server",
     .help = "ipc:///path/to.sock, tls+tcp://host:port or tcp://host:port; without it $" FC_SERVER_URL_VARIABLE
             " or " FC_SERVER_DEFAULT_URL},
    {.name = "timeout", .type = FC_ARG_REAL, .metavar = "SECONDS", .offset = AT(timeout_s), .default_text = "10",
     .min = 0.001, .max = 3600, .group = "Server", .help = "of one request"},
#include "client/tool_tls.def"
    {.name = "admin", .type = FC_ARG_TEXT, .metavar = "PATH", .offset = AT(admin_path),
     .default_text = FC_CTL_ADMIN_SOCKET, .commands = ADMIN, .group = "Server", .help = "the daemon's --admin-socket"},
    {.name = "wait", .type = FC_ARG_FLAG, .offset = AT(wants_wait), .commands = BIT(FC_CTL_DRAIN), .group = "Server",
     .help = "until the daemon has ended, for --timeout at most"},
    {.name = "count", .type = FC_ARG_UINT, .metavar = "N", .offset = AT(count), .min = 1, .max = 1e9,
     .commands = BIT(FC_CTL_PING) | BIT(FC_CTL_STATS), .group = "Output",
     .help = "ping so often (without it once), or watch for so many looks (without it until interrupted)"},
    {.name = "watch", .type = FC_ARG_FLAG, .offset = AT(wants_watch), .commands = BIT(FC_CTL_STATS),
     .group = "Output", .help = "look again and again: rates and latencies on a screen, or a line a look where there is no terminal; a look takes at most 2 s"},
    {.name = "interval", .type = FC_ARG_REAL, .metavar = "SECONDS", .offset = AT(interval_s), .default_text = "1",
     .min = 0.05, .max = 3600, .commands = BIT(FC_CTL_STATS), .group = "Output", .help = "between looks of --watch"},
    {.name = "all", .type = FC_ARG_FLAG, .offset = AT(wants_all), .commands = BIT(FC_CTL_STATS), .group = "Output",
     .help = "show counters that stand at zero and the sums of histograms too"},
    {.name = "json", .type = FC_ARG_FLAG, .offset = AT(wants_json),
     .commands = BIT(FC_CTL_INFO) | BIT(FC_CTL_STATS), .group = "Output", .help = "print one JSON object, exact numbers"},
    {.name = "q", .type = FC_ARG_TEXT, .metavar = "FILE", .offset = AT(q_path), .commands = FILES, .group = "Files",
     .help = "queries, .npy"},
    {.name = "k", .type = FC_ARG_TEXT, .metavar = "FILE", .offset = AT(k_path), .commands = FILES, .group = "Files",
     .help = "keys, .npy"},
    {.name = "v", .type = FC_ARG_TEXT, .metavar = "FILE", .offset = AT(v_path), .commands = FILES, .group = "Files",
     .help = "values, .npy"},
    {.name = "out", .letter = 'o', .type = FC_ARG_TEXT, .metavar = "FILE", .offset = AT(out_path),
     .commands = BIT(FC_CTL_ATTEND), .group = "Files", .help = "where the output goes, in q's dtype and layout"},
    {.name = "lse", .type = FC_ARG_TEXT, .metavar = "FILE", .offset = AT(lse_path), .commands = BIT(FC_CTL_ATTEND),
     .group = "Files", .help = "where the log-sum-exp goes, float32 [batch, heads, tokens]"},
#include "client/tool_shape.def"
    {.name = "kernel", .type = FC_ARG_TEXTS, .metavar = "NAME", .offset = AT(kernels), .count_max = 2,
     .commands = FILES, .group = "Problem", .help = "the kernel to ask for; compare wants two"},
    {.name = "repeat", .type = FC_ARG_UINT, .metavar = "N", .offset = AT(repeat), .default_text = "20", .min = 1,
     .max = 1e6, .commands = BIT(FC_CTL_COMPARE), .group = "Problem",
     .help = "timed runs of each kernel, in turn, after one that is not"},
    {.name = "seed", .type = FC_ARG_UINT, .metavar = "N", .offset = AT(seed), .default_text = "1", .max = 1e15,
     .commands = BIT(FC_CTL_COMPARE), .group = "Problem", .help = "of the random inputs"},
};
/* clang-format on */

static const fc_arg_command COMMANDS[] = {
#define FC_CTL_ROW(symbol, name, function, usage, summary, details) {name, usage, summary, details},
    FC_CTL_COMMANDS(FC_CTL_ROW)
#undef FC_CTL_ROW
};

const fc_arg_tool FC_CTL_TOOL = {
    .name = "flashcorectl",
    .usage = "[--url URL]... COMMAND [OPTION]...",
    .summary = "Talks to a flashcored server by hand.",
    .commands = COMMANDS,
    .command_count = sizeof COMMANDS / sizeof COMMANDS[0],
    .word_offset = AT(word),
    .rows = ROWS,
    .row_count = sizeof ROWS / sizeof ROWS[0],
    .closing = "Examples:\n"
               "  flashcorectl ping --count 100\n"
               "  flashcorectl stats --watch\n"
               "  flashcorectl attend --q q.npy --k k.npy --v v.npy -o o.npy --causal top_left\n"
               "  flashcorectl drain --wait --timeout 60\n"
               "  flashcorectl compare --kernel baseline --kernel vec --shape 1,8,512,64\n"
               "\n"
               "Environment:\n"
               "  " FC_SERVER_URL_VARIABLE "   URLs, with commas between, when there is no --url\n"
               "\n"
               "Exit status:\n"
               "  0  done\n"
               "  1  no server, a refused request, or a file that cannot be read or written\n"
               "  2  a wrong command line\n",
};

static fc_status require(const char *value, const char *name, const char *command, fc_reason *out_reason)
{
    return value != NULL ? FC_OK : fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: --%s is missing", command, name);
}

static fc_status check_files(const fc_ctl_options *o, const char *command, fc_reason *out_reason)
{
    fc_status st = require(o->q_path, "q", command, out_reason);
    if (st == FC_OK)
        st = require(o->k_path, "k", command, out_reason);
    if (st == FC_OK)
        st = require(o->v_path, "v", command, out_reason);
    return st;
}

static fc_status check(const fc_ctl_options *o, int command, fc_reason *out_reason)
{
    const char *name = COMMANDS[command].name;
    fc_status st = FC_OK;
    bool has_files = o->q_path != NULL || o->k_path != NULL || o->v_path != NULL;
    if (command == FC_CTL_ATTEND || (command == FC_CTL_COMPARE && has_files))
        st = check_files(o, name, out_reason);
    if (st == FC_OK && command == FC_CTL_ATTEND)
        st = require(o->out_path, "out", name, out_reason);
    if (st == FC_OK && command == FC_CTL_ATTEND && o->kernels.count > 1)
        st = fc_fail(FC_INVALID_ARGUMENT, out_reason, "attend: --kernel is given twice");
    if (st == FC_OK && command == FC_CTL_COMPARE && o->kernels.count != 2)
        st = fc_fail(FC_INVALID_ARGUMENT, out_reason, "compare: expected two --kernel, found %zu", o->kernels.count);
    if (st == FC_OK && command == FC_CTL_COMPARE && o->urls.count > 2)
        st = fc_fail(FC_INVALID_ARGUMENT, out_reason, "compare: at most two --url, one a kernel");
    if (st == FC_OK && o->wants_json && o->urls.count > 1)
        st = fc_fail(FC_INVALID_ARGUMENT, out_reason, "--json: one --url at a time");
    if (st == FC_OK && o->wants_watch && (o->wants_json || o->wants_all || o->urls.count > 1))
        st = fc_fail(FC_INVALID_ARGUMENT, out_reason, "--watch: one --url at a time, and neither --json nor --all");
    return st;
}

fc_args_outcome fc_ctl_options_parse(int argc, char *const *argv, fc_ctl_options *out_options, int *out_command,
                                     fc_reason *out_reason)
{
    *out_options = (fc_ctl_options){.count = 0};
    fc_shape_options_default(&out_options->shape_options);
    fc_args_outcome outcome = fc_args_parse(&FC_CTL_TOOL, argc, argv, out_options, out_command, out_reason);
    if (outcome != FC_ARGS_RUN)
        return outcome;
    if (out_options->wants_watch && out_options->timeout_s > LOOK_TIMEOUT_S)
        out_options->timeout_s = LOOK_TIMEOUT_S;
    fc_status st = fc_server_use_default_urls(&out_options->urls, out_reason);
    if (st == FC_OK)
        st = check(out_options, *out_command, out_reason);
    return st == FC_OK ? FC_ARGS_RUN : FC_ARGS_WRONG;
}
