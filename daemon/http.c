/* See http.h. */
#include "daemon/http.h"

#include "daemon/ipc_path.h"
#include "daemon/log.h"
#include "daemon/nng_gap.h"
#include "daemon/refusals.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 511
/* While others wait, how long one may take to send its request; and how often that is looked at. */
#define PATIENCE_NS (100 * FC_NS_PER_MS)
#define LOOK_EVERY_MS 50
#define STUCK_RUNS 3
#define METHODS "GET, HEAD"

typedef struct connection {
    int fd;         /* -1: free */
    bool has_asked; /* all of its request is here */
    uint64_t since_ns;
} connection;

struct fc_http {
    struct MHD_Daemon *mhd;
    int fd; /* libmicrohttpd's epoll */
    int listener_fd;
    int connection_count;
    uint64_t accepted_count;
    bool is_deaf; /* all places were taken, and libmicrohttpd has not listened since */
    uint32_t stuck_runs;
    fc_http_on_get on_get;
    void *context;
    uint64_t now_ns; /* of the run under way */
    connection connections[FC_HTTP_CONNECTIONS];
    fc_http_address address;
    fc_ipc_claim claim; /* of a unix socket */
    char address_text[FC_HTTP_ADDRESS_BYTES];
    char complaint[128]; /* libmicrohttpd's first */
};

/* --- requests ----------------------------------------------------------------------------------------------------- */

static enum MHD_Result send_answer(struct MHD_Connection *to, const fc_http_answer *answer)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer->body_bytes, answer->body, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(answer->body);
        return MHD_NO; /* cuts the connection */
    }
    enum MHD_Result result =
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                answer->content_type != NULL ? answer->content_type : "text/plain; charset=utf-8");
    if (result == MHD_YES)
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (result == MHD_YES)
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (result == MHD_YES && answer->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, METHODS);
    if (result == MHD_YES)
        result = MHD_queue_response(to, answer->status, response);
    MHD_destroy_response(response);
    return result;
}

/* What state points to where a path holds a NUL, which no string of ours can. */
static const char HAS_NUL;

static void *on_uri(void *context, const char *uri, struct MHD_Connection *from)
{
    const char *nul = strstr(uri, "%00"), *query = strchr(uri, '?');
    (void)context, (void)from;
    return nul != NULL && (query == NULL || nul < query) ? (void *)(uintptr_t)&HAS_NUL : NULL;
}

static void note_request(struct MHD_Connection *from)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(from, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info != NULL && info->socket_context != NULL)
        ((connection *)info->socket_context)->has_asked = true;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *from, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    fc_http *http = context;
    fc_http_answer answer = {.status = MHD_HTTP_NOT_FOUND};
    (void)version, (void)upload, (void)upload_bytes;
    note_request(from);
    if (*state == &HAS_NUL)
        answer.status = MHD_HTTP_BAD_REQUEST;
    else if (strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0)
        http->on_get(http->context, path, &answer);
    else
        answer.status = MHD_HTTP_METHOD_NOT_ALLOWED;
    return send_answer(from, &answer);
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static bool is_full(const fc_http *http)
{
    return http->connection_count == FC_HTTP_CONNECTIONS;
}

static void on_connection(void *context, struct MHD_Connection *which, void **slot,
                          enum MHD_ConnectionNotificationCode what)
{
    fc_http *http = context;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*slot != NULL) {
            ((connection *)*slot)->fd = -1;
            http->connection_count--;
        }
        return;
    }
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(which, MHD_CONNECTION_INFO_CONNECTION_FD);
    for (size_t i = 0; info != NULL && i < FC_HTTP_CONNECTIONS; i++) {
        if (http->connections[i].fd >= 0)
            continue;
        http->connections[i] = (connection){.fd = info->connect_fd, .since_ns = http->now_ns};
        *slot = &http->connections[i];
        http->connection_count++;
        http->accepted_count++;
        http->is_deaf = http->is_deaf || is_full(http);
        fc_nng_gap_forget(info->connect_fd); /* libmicrohttpd's sends, too, go through nng's sendmsg() here */
        return;
    }
}

static bool is_ready(int fd, short events)
{
    struct pollfd one = {.fd = fd, .events = events};
    return poll(&one, 1, 0) == 1;
}

/* libmicrohttpd's own timeout starts anew with every byte, so a peer that sends one now and then could stay for ever;
 * and one that had left before its first bytes were read is noticed only by a timeout (0.9.75). */
static void cut(fc_http *http)
{
    bool hurries = is_full(http) && is_ready(http->listener_fd, POLLIN);
    for (size_t i = 0; i < FC_HTTP_CONNECTIONS; i++) {
        const connection *c = &http->connections[i];
        uint64_t patience_ns = hurries && !c->has_asked ? PATIENCE_NS : FC_HTTP_LIFETIME_NS;
        if (c->fd >= 0 && (fc_clock_elapsed_ns(c->since_ns, http->now_ns) >= patience_ns || is_ready(c->fd, 0)))
            shutdown(c->fd, SHUT_RDWR); /* ready without being asked: there is nobody at the other end */
    }
}

/* Where nobody can be let in though there are places, some runs in a row, the system has no descriptors. */
static void note_stuck(fc_http *http, bool may_accept, uint64_t accepted_before)
{
    bool is_stuck = may_accept && http->accepted_count == accepted_before && is_ready(http->listener_fd, POLLIN);
    http->stuck_runs = is_stuck ? http->stuck_runs + 1 : 0;
    if (fc_http_is_stuck(http))
        fc_refusals_log_accept(EMFILE);
}

/* libmicrohttpd listens again, after all places were taken, only with the next run: of who comes until then it is not
 * told. */
static int64_t again_ms(const fc_http *http)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    int64_t again = MHD_get_timeout(http->mhd, &timeout_ms) == MHD_YES ? (int64_t)timeout_ms : -1;
    int64_t look = is_full(http) || fc_http_is_stuck(http) ? LOOK_EVERY_MS : 1;
    bool must_look = http->is_deaf || is_ready(http->listener_fd, POLLIN);
    return must_look && (again < 0 || again > look) ? look : again;
}

int64_t fc_http_run(fc_http *http, uint64_t now_ns)
{
    uint64_t accepted_before = http->accepted_count;
    http->now_ns = now_ns;
    cut(http);
    bool may_accept = !is_full(http) && is_ready(http->listener_fd, POLLIN);
    http->is_deaf = is_full(http);
    MHD_run(http->mhd);
    note_stuck(http, may_accept, accepted_before);
    return again_ms(http);
}

bool fc_http_is_stuck(const fc_http *http)
{
    return http->stuck_runs >= STUCK_RUNS;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static int listen_internet(fc_http_address *address)
{
    int on = 1;
    struct sockaddr *bound = (struct sockaddr *)&address->internet;
    int fd = socket(address->internet.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->internet.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, bound, address->internet_bytes) == 0 && listen(fd, BACKLOG) == 0 &&
        getsockname(fd, bound, &address->internet_bytes) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static fc_status open_socket(fc_http *http, uint32_t unix_mode, int *out_fd, fc_reason *out_reason)
{
    char text[FC_HTTP_ADDRESS_BYTES];
    if (http->address.is_unix) {
        fc_status st = fc_ipc_claim_acquire(http->address.path, &http->claim, out_reason);
        if (st != FC_OK)
            return st;
        *out_fd = fc_ipc_listen(http->address.path, SOCK_STREAM, unix_mode, BACKLOG);
    } else {
        *out_fd = listen_internet(&http->address);
    }
    if (*out_fd >= 0)
        return FC_OK;
    int error = errno;
    fc_http_address_format(&http->address, text);
    return fc_fail(error == EADDRINUSE ? FC_BUSY : FC_IO, out_reason, "%s: %s", text, strerror(error));
}

static void on_complaint(void *context, const char *format, va_list arguments)
{
    char text[256];
    fc_http *http = context;
    if (http->complaint[0] != '\0' && !fc_log_is_on(FC_LOG_DEBUG))
        return;
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\n")] = '\0';
    if (http->complaint[0] == '\0')
        snprintf(http->complaint, sizeof http->complaint, "%.120s", text);
    fc_log(FC_LOG_DEBUG, "http", fc_log_text("why", text));
}

static fc_status start(fc_http *http, int fd, fc_reason *out_reason)
{
    errno = 0;
    http->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_complaint,
        http, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)FC_HTTP_CONNECTIONS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)FC_HTTP_HEADER_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)(FC_HTTP_LIFETIME_NS / FC_NS_PER_S), MHD_OPTION_NOTIFY_CONNECTION, on_connection, http,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (http->mhd == NULL) {
        const char *system = errno != 0 ? strerror(errno) : "no reason given";
        fc_status st = fc_fail(FC_INTERNAL, out_reason, "%s: libmicrohttpd does not start: %s", http->address_text,
                               http->complaint[0] != '\0' ? http->complaint : system);
        close(fd);
        return st;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL)
        return fc_fail(FC_INTERNAL, out_reason, "%s: libmicrohttpd has no epoll here", http->address_text);
    http->fd = info->epoll_fd;
    http->listener_fd = fd;
    return FC_OK;
}

fc_status fc_http_open(const fc_http_address *address, uint32_t unix_mode, fc_http_on_get on_get, void *context,
                       fc_http **out_http, fc_reason *out_reason)
{
    int fd = -1;
    fc_http *http = calloc(1, sizeof *http);
    if (http == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for the HTTP server");
    http->address = *address;
    http->claim.lock_fd = -1;
    http->on_get = on_get;
    http->context = context;
    for (size_t i = 0; i < FC_HTTP_CONNECTIONS; i++)
        http->connections[i].fd = -1;
    fc_status st = open_socket(http, unix_mode, &fd, out_reason);
    fc_http_address_format(&http->address, http->address_text);
    if (st == FC_OK)
        st = start(http, fd, out_reason);
    if (st != FC_OK) {
        fc_http_close(http);
        return st;
    }
    *out_http = http;
    return FC_OK;
}

void fc_http_close(fc_http *http)
{
    if (http == NULL)
        return;
    if (http->mhd != NULL)
        MHD_stop_daemon(http->mhd);
    if (http->claim.lock_fd >= 0) {
        unlink(http->address.path);
        fc_ipc_claim_release(&http->claim);
    }
    free(http);
}

const char *fc_http_address_text(const fc_http *http)
{
    return http->address_text;
}

int fc_http_fd(const fc_http *http)
{
    return http->fd;
}
