/* What is different about a tls+tcp link: between its socket and the rest of link.c lies a TLS session. See net.h.
 *
 * What is encrypted waits in a buffer for the socket to take it, so that a session never stops in the middle of a
 * record and "the link took these bytes" means the same as of a plain socket.
 */
#include "client/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES_MAX (16384 + 512) /* with header, padding and tag */
#define OUTPUT_BYTES (8 * RECORD_BYTES_MAX)

typedef struct fc_link_secure {
    fc_tls *tls;
    char *server_name;
    fc_tls_session *session; /* NULL: no connection */
    size_t begin, end;       /* of what waits in output */
    uint8_t output[OUTPUT_BYTES];
} fc_link_secure;

static ssize_t read_wire(void *context, void *bytes, size_t size_bytes)
{
    const fc_link *link = context;
    ssize_t got;
    do
        got = recv(link->fd, bytes, size_bytes, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        return got;
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : -1;
}

static ssize_t write_wire(void *context, const void *bytes, size_t size_bytes)
{
    fc_link_secure *secure = ((fc_link *)context)->secure;
    size_t room = sizeof secure->output - secure->end;
    size_t taken = size_bytes < room ? size_bytes : room;
    memcpy(secure->output + secure->end, bytes, taken);
    secure->end += taken;
    return (ssize_t)taken;
}

fc_status fc_link_tls_create(fc_link *link, fc_tls *tls, const char *server_name)
{
    fc_link_secure *secure = calloc(1, sizeof *secure);
    if (secure == NULL)
        return FC_NO_MEMORY;
    secure->tls = tls;
    secure->server_name = strdup(server_name);
    if (secure->server_name == NULL) {
        free(secure);
        return FC_NO_MEMORY;
    }
    link->secure = secure;
    return FC_OK;
}

void fc_link_tls_destroy(fc_link *link)
{
    if (link->secure == NULL)
        return;
    fc_tls_session_close(link->secure->session);
    free(link->secure->server_name);
    free(link->secure);
    link->secure = NULL;
}

bool fc_link_tls_begin(fc_link *link)
{
    fc_link_secure *secure = link->secure;
    fc_tls_wire wire = {.read = read_wire, .write = write_wire, .context = link};
    secure->begin = secure->end = 0;
    return fc_tls_session_open(secure->tls, secure->server_name, &wire, &secure->session) == FC_OK;
}

void fc_link_tls_end(fc_link *link)
{
    fc_tls_session_close(link->secure->session);
    link->secure->session = NULL;
    link->secure->begin = link->secure->end = 0;
}

int fc_link_tls_flush(fc_link *link)
{
    fc_link_secure *secure = link->secure;
    while (secure->begin < secure->end) {
        ssize_t sent =
            send(link->fd, secure->output + secure->begin, secure->end - secure->begin, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
        secure->begin += (size_t)sent;
    }
    secure->begin = secure->end = 0;
    return 0;
}

bool fc_link_tls_has_output(const fc_link *link)
{
    return link->secure->begin < link->secure->end;
}

bool fc_link_tls_has_input(const fc_link *link)
{
    return link->secure->session != NULL && fc_tls_has_input(link->secure->session);
}

int fc_link_tls_handshake(fc_link *link)
{
    int step = fc_tls_handshake(link->secure->session);
    int flushed = fc_link_tls_flush(link);
    return step < 0 || (flushed < 0 && step == 0) ? -1 : step;
}

ssize_t fc_link_tls_recv(fc_link *link, void *bytes, size_t size_bytes)
{
    ssize_t got = fc_tls_read(link->secure->session, bytes, size_bytes);
    if (got > 0)
        return got;
    errno = EAGAIN;
    return got == 0 ? -1 : 0;
}

ssize_t fc_link_tls_send(fc_link *link, const void *bytes, size_t size_bytes)
{
    fc_link_secure *secure = link->secure;
    size_t taken = 0;
    int flushed = fc_link_tls_flush(link);
    errno = EAGAIN;
    if (flushed == 0 && fc_link_tls_has_output(link))
        return -1;
    while (flushed == 0 && taken < size_bytes && sizeof secure->output - secure->end >= RECORD_BYTES_MAX) {
        ssize_t put = fc_tls_write(secure->session, (const uint8_t *)bytes + taken, size_bytes - taken);
        if (put <= 0) {
            flushed = put < 0 ? -1 : 0;
            break;
        }
        taken += (size_t)put;
    }
    if (flushed == 0)
        flushed = fc_link_tls_flush(link);
    errno = flushed == 0 ? EAGAIN : EPIPE;
    return flushed == 0 && taken > 0 ? (ssize_t)taken : -1;
}

int fc_link_tls_error(const fc_link *link, fc_reason *out_why)
{
    bool is_refusal = false;
    const char *why = link->secure->session != NULL ? fc_tls_why(link->secure->session, &is_refusal) : "";
    if (!is_refusal)
        return ECONNRESET;
    snprintf(out_why->text, sizeof out_why->text, "TLS: %s", why);
    return EKEYREJECTED;
}
