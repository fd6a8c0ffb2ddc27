/* flashcorectl's command line: its commands, one table of options, and the struct it fills. */
#ifndef FC_CLIENT_CTL_OPTIONS_H
#define FC_CLIENT_CTL_OPTIONS_H

#include "client/tool_args.h"
#include "client/tool_server.h"
#include "client/tool_shape.h"

#define FC_CTL_ADMIN_SOCKET "/run/flashcored/admin.sock"

/* The commands, once: X(symbol, name, function, usage, summary, details). Those from FC_CTL_DRAIN on are for the admin
 * socket: they get no client. */
#define FC_CTL_COMMANDS(X)                                                                                             \
    X(FC_CTL_PING, "ping", fc_ctl_ping, "[--count N]",                                                                 \
      "Time empty round trips to every URL; fails when one does not "                                                  \
      "answer.",                                                                                                       \
      NULL)                                                                                                            \
    X(FC_CTL_INFO, "info", fc_ctl_info, "[--json]", "Show what a server is, can do and allows.", NULL)                 \
    X(FC_CTL_KERNELS, "kernels", fc_ctl_kernels, "", "List the kernels of every server.", NULL)                        \
    X(FC_CTL_STATS, "stats", fc_ctl_stats, "[--watch] [--all] [--json]", "Show a server's counters since its start.",  \
      NULL)                                                                                                            \
    X(FC_CTL_ATTEND, "attend", fc_ctl_attend, "--q Q.npy --k K.npy --v V.npy -o O.npy [OPTION]...",                    \
      "Run attention on NumPy files.",                                                                                 \
      "Files hold float16 or float32 arrays of 4 dimensions in C order: [batch, heads, tokens, head_dim], or with "    \
      "--layout bshd [batch, tokens, heads, head_dim]. K and V have one shape; q's heads are a multiple of theirs.")   \
    X(FC_CTL_COMPARE, "compare", fc_ctl_compare, "--kernel A --kernel B [OPTION]...",                                  \
      "Run two kernels on the same inputs: their times, and how far their answers are apart.",                         \
      "Inputs are random, N(0,1), or files as for attend. With two URLs the first kernel runs at the first and the "   \
      "second at the second: a CPU server against a GPU server.")                                                      \
    X(FC_CTL_DRAIN, "drain", fc_ctl_drain, "[--wait] [--admin PATH]",                                                  \
      "Have the daemon finish what runs and end, as on SIGTERM.",                                                      \
      "What has not started is answered `draining`, which clients with another URL send there. Repeating it changes "  \
      "nothing.")                                                                                                      \
    X(FC_CTL_RELOAD, "reload", fc_ctl_reload, "[--admin PATH]",                                                        \
      "Have the daemon read its configuration and certificates again, as on SIGHUP; says what was wrong with them.",   \
      NULL)                                                                                                            \
    X(FC_CTL_LOG_LEVEL, "log-level", fc_ctl_log_level, "LEVEL [--admin PATH]",                                         \
      "Change the least important events logged, until the next reload.", NULL)                                        \
    X(FC_CTL_KERNEL, "kernel", fc_ctl_kernel, "NAME [--admin PATH]",                                                   \
      "Change the kernel of requests that name none, until the next reload.", NULL)

typedef enum fc_ctl_command {
#define FC_CTL_ENUM(symbol, name, function, usage, summary, details) symbol,
    FC_CTL_COMMANDS(FC_CTL_ENUM)
#undef FC_CTL_ENUM
        FC_CTL_COMMAND_COUNT
} fc_ctl_command;

typedef struct fc_ctl_options {
    fc_arg_texts urls;
    fc_server_tls tls;
    double timeout_s;
    bool wants_json, wants_watch, wants_all;
    uint64_t count; /* pings, or looks of --watch; 0: one ping, looks without end */
    double interval_s;
    const char *q_path, *k_path, *v_path, *out_path, *lse_path;
    fc_arg_texts kernels;
    fc_shape_options shape_options;
    uint64_t repeat, seed;
    const char *admin_path, *word;
    bool wants_wait;
} fc_ctl_options;

extern const fc_arg_tool FC_CTL_TOOL;

/* Like fc_args_parse(), and checks what only makes sense together. */
fc_args_outcome fc_ctl_options_parse(int argc, char *const *argv, fc_ctl_options *out_options, int *out_command,
                                     fc_reason *out_reason);

#endif
