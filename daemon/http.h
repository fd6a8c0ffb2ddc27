/* A small HTTP server for GET and HEAD: metrics and health. The only user of libmicrohttpd, which runs without threads
 * of its own, inside fc_http_run().
 *
 * Nobody can hold it up: at most FC_HTTP_CONNECTIONS at once, FC_HTTP_HEADER_BYTES of request each, one request a
 * connection, and every connection is cut FC_HTTP_LIFETIME_NS after it was accepted, finished or not; while others wait
 * for a place, after a tenth of a second without a request.
 * Loop thread.
 */
#ifndef FC_DAEMON_HTTP_H
#define FC_DAEMON_HTTP_H

#include "daemon/clock.h"
#include "daemon/http_address.h"

#include <stdbool.h>
#include <stddef.h>

#define FC_HTTP_CONNECTIONS 32
#define FC_HTTP_HEADER_BYTES 4096
#define FC_HTTP_LIFETIME_NS (5 * FC_NS_PER_S)

typedef struct fc_http fc_http;

typedef struct fc_http_answer {
    unsigned status;          /* 200, 404, 503, ... */
    const char *content_type; /* a string that stays; NULL: text/plain */
    char *body;               /* malloc()ed, freed once it was sent; NULL: empty */
    size_t body_bytes;
} fc_http_answer;

/* Answers GET and HEAD of a path (without query); out_answer is status 404 and otherwise empty before. Must not block.
 */
typedef void (*fc_http_on_get)(void *context, const char *path, fc_http_answer *out_answer);

/* Binds and listens. unix_mode: permissions of a unix socket. FC_BUSY, FC_IO, FC_NO_MEMORY, FC_INTERNAL with the
 * address in the reason. */
fc_status fc_http_open(const fc_http_address *address, uint32_t unix_mode, fc_http_on_get on_get, void *context,
                       fc_http **out_http, fc_reason *out_reason);

/* Cuts what is open; the socket file goes. NULL is fine. */
void fc_http_close(fc_http *http);

/* Where it listens, with the port the system chose. */
const char *fc_http_address_text(const fc_http *http);

/* Readable when fc_http_run() has something to do. Valid until close. */
int fc_http_fd(const fc_http *http);

/* Does what can be done without waiting. Returns after how many milliseconds to call it again though nothing became
 * readable; -1: that is not needed. */
int64_t fc_http_run(fc_http *http, uint64_t now_ns);

/* The last runs met somebody whom the system would not let in, for want of descriptors. The descriptor then stays
 * readable, and is best not looked at for a while. */
bool fc_http_is_stuck(const fc_http *http);

#endif
