/* Reaching a server from a tool: which URLs, and what to say when none answers. */
#ifndef FC_CLIENT_TOOL_SERVER_H
#define FC_CLIENT_TOOL_SERVER_H

#include "client/flashcore.h"
#include "client/tool_args.h"

#define FC_SERVER_DEFAULT_URL "ipc:///run/flashcored/flashcored.sock"
#define FC_SERVER_URL_VARIABLE "FLASHCORE_URL"

/* Without --url: $FLASHCORE_URL (several with commas between, kept in memory of the process), else the default. */
fc_status fc_server_use_default_urls(fc_arg_texts *urls, fc_reason *out_reason);

/* Of tls+tcp:// URLs: see flashcore_options. */
typedef struct fc_server_tls {
    const char *ca, *cert, *key, *server_name;
} fc_server_tls;

/* How to talk to it: see flashcore_options. */
typedef struct fc_server_manner {
    double timeout_s; /* of a call, > 0; also how long one waits for a connection, up to 5 s */
    uint32_t inflight_max;
    flashcore_path path;
    uint64_t spin_us;
} fc_server_manner;

/* A client of those URLs. The reason names the URL. The caller destroys *out_client. */
fc_status fc_server_open(const fc_arg_texts *urls, const fc_server_tls *tls, const fc_server_manner *manner,
                         flashcore_client **out_client, fc_reason *out_reason);

/* One line for a failed call: the server's words where it has any, else the status's. */
const char *fc_server_error(flashcore_status status, const char *error);

/* Fails with that line, the URL in front unless the line names it. */
fc_status fc_server_fail(const char *url, flashcore_status status, const char *error, fc_reason *out_reason);

#endif
