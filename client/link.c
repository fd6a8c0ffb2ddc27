/* One connection: connecting and greeting, framing, reading and writing. See link.h and net.h.
 *
 * nng's wire: each side greets with 00 'S' 'P' 00, its protocol's number (16 bits, big-endian), 00 00. Then messages:
 * on ipc a byte 01, everywhere the length (64 bits, big-endian), then as many bytes. A REQ message starts with the
 * request's id (32 bits, big-endian, top bit set), which the reply starts with too.
 */
#include "client/net.h"

#include "client/link_address.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROTOCOL_REQ 0x30
#define PROTOCOL_REP 0x31
#define ID_BYTES 4
#define RETRY_NS_MAX (1000u * 1000000u)
#define GREETING_NS_MAX (10000000000u)
#define SEND_BUFFER_BYTES (4 << 20) /* the kernel cuts it to net.core.wmem_max */
#define READS_AT_A_TIME 64          /* then the others get their turn */
#define LAST_TURNS 64 /* of a connection that is given up; more only comes from a peer that goes on sending */

static size_t header_bytes(const fc_link *link)
{
    if (link->beside != NULL)
        return 0;
    return (link->is_ipc ? 1 : 0) + 8 + ID_BYTES;
}

static void put_be(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8)
        to[i] = (uint8_t)value;
}

static uint64_t get_be(const uint8_t *from, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | from[i];
    return value;
}

/* --- writing, under net->lock ------------------------------------------------------------------------------------- */

_Static_assert(offsetof(fc_message, bytes) == offsetof(fc_message, header) + FC_FRAME_HEADER_MAX,
               "header and body are one piece");

/* Writes a piece of the frame; 0: the socket takes nothing now, -1: it is broken. With send(), not sendmsg(), which
 * programs that work around nng 1.5 replace. */
static ssize_t write_piece(fc_link *link, const fc_message *frame)
{
    const uint8_t *from = (const uint8_t *)frame + offsetof(fc_message, bytes) - frame->header_bytes;
    size_t left = frame->header_bytes + frame->size_bytes - frame->written_bytes;
    for (;;) {
        ssize_t written = link->secure != NULL
                              ? fc_link_tls_send(link, from + frame->written_bytes, left)
                              : send(link->fd, from + frame->written_bytes, left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written >= 0)
            return written;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        if (errno != EINTR)
            return -1;
    }
}

static void pop_frame(fc_link *link)
{
    fc_message *frame = link->queue_first;
    link->queue_first = frame->next;
    if (link->queue_first == NULL)
        link->queue_last = &link->queue_first;
}

/* Of a TLS link on the net's thread alone. */
static void flush(fc_link *link)
{
    if (link->secure != NULL && link->is_up && fc_link_tls_flush(link) != 0)
        link->is_broken = true;
    while (link->is_up && !link->is_broken && link->queue_first != NULL) {
        fc_message *frame = link->queue_first;
        ssize_t written = write_piece(link, frame);
        if (written == 0)
            return;
        if (written < 0) {
            link->is_broken = true; /* the net's thread clears up */
            fc_net_wake(link->net);
            return;
        }
        if (frame->exchange != NULL)
            frame->exchange->phase = FC_EXCHANGE_SENT;
        frame->written_bytes += (size_t)written;
        if (frame->written_bytes < frame->header_bytes + frame->size_bytes)
            continue;
        pop_frame(link);
        fc_message_destroy(frame);
    }
}

static void put_header(const fc_link *link, const fc_exchange *exchange, fc_message *message)
{
    uint8_t *header = message->header + FC_FRAME_HEADER_MAX - header_bytes(link);
    if (link->is_ipc)
        *header++ = 1;
    put_be(header, ID_BYTES + (uint64_t)message->size_bytes, 8);
    put_be(header + 8, exchange->id, ID_BYTES);
}

void fc_link_write(fc_link *link, fc_exchange *exchange, fc_message *message)
{
    /* On a broken one it waits in the queue for fc_link_drop(): handed back at once it could come again, and again,
     * before the net's thread gets to say that the link is down. */
    if (!link->is_up) {
        fc_net_end_exchange(exchange, FC_EXCHANGE_UNSENT, FC_CANCELLED, message);
        return;
    }
    if (link->beside == NULL)
        put_header(link, exchange, message);
    message->header_bytes = (uint8_t)header_bytes(link);
    message->written_bytes = 0;
    message->exchange = exchange;
    message->next = NULL;
    bool was_empty = link->queue_first == NULL;
    *link->queue_last = message;
    link->queue_last = &message->next;
    if (!was_empty)
        return; /* the net's thread is at it */
    if (link->secure == NULL)
        flush(link);
    if (link->queue_first != NULL)
        fc_net_wake(link->net); /* to poll for room, or to encrypt */
}

fc_message *fc_link_take_back(fc_link *link, fc_exchange *exchange)
{
    for (fc_message **at = &link->queue_first; *at != NULL; at = &(*at)->next) {
        fc_message *frame = *at;
        if (frame->exchange != exchange)
            continue;
        frame->exchange = NULL;
        if (frame->written_bytes != 0)
            return NULL;
        *at = frame->next;
        if (frame->next == NULL)
            link->queue_last = at;
        return frame;
    }
    return NULL;
}

/* --- coming and going, on the net's thread ------------------------------------------------------------------------ */

static void close_fd(fc_link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
}

/* Under net->lock: every exchange on the link ends, as unsent, cut or broken. */
static void fail_exchanges(fc_link *link)
{
    while (link->queue_first != NULL) {
        fc_message *frame = link->queue_first;
        pop_frame(link);
        if (frame->exchange != NULL && frame->written_bytes == 0) {
            fc_net_end_exchange(frame->exchange, FC_EXCHANGE_UNSENT, FC_CANCELLED, frame);
            continue;
        }
        if (frame->exchange != NULL)
            fc_net_end_exchange(frame->exchange, FC_EXCHANGE_CUT, FC_CONNECTION_LOST, NULL);
        fc_message_destroy(frame);
    }
    fc_exchange *following;
    for (fc_exchange *exchange = link->net->active; exchange != NULL; exchange = following) {
        following = exchange->next;
        if (exchange->phase == FC_EXCHANGE_SENT && exchange->link == link)
            fc_net_end_exchange(exchange, FC_EXCHANGE_BROKEN, FC_CONNECTION_LOST, NULL);
    }
}

/* The connection, or the attempt at one, is over, error says why; the next comes after a pause with jitter. */
void fc_link_drop(fc_link *link, int error, uint64_t now_ns)
{
    fc_net *net = link->net;
    bool was_up = link->state == FC_LINK_UP;
    pthread_mutex_lock(&net->lock);
    close_fd(link);
    if (link->secure != NULL) {
        if (error == ECONNRESET)
            error = fc_link_tls_error(link, &link->down_why);
        fc_link_tls_end(link);
    }
    /* A server that refuses a certificate and goes may take its reason with it, when the reset overtakes the alert.
     * What it said to an earlier attempt still stands. */
    if (was_up || link->secure == NULL || error != ECONNRESET || link->down_error != EKEYREJECTED)
        link->down_error = error;
    link->is_up = false;
    link->is_broken = false;
    fail_exchanges(link);
    pthread_mutex_unlock(&net->lock);
    if (link->beside == NULL) { /* one of packets keeps its room for a reply */
        fc_message_destroy(link->body);
        link->body = NULL;
    }
    link->is_in_body = false;
    link->state = FC_LINK_DOWN;
    link->next_ns = now_ns + link->retry_delay_ns / 2 + fc_link_random(&net->random_state) % (link->retry_delay_ns / 2);
    link->retry_delay_ns = link->retry_delay_ns * 2 < RETRY_NS_MAX ? link->retry_delay_ns * 2 : RETRY_NS_MAX;
    if (was_up)
        net->options.notify(net->options.owner, link->index, link->connection_id, false);
}

static void come_up(fc_link *link)
{
    fc_net *net = link->net;
    link->state = FC_LINK_UP;
    link->connection_id = ++net->next_connection_id;
    link->buffer_begin = link->buffer_end = 0;
    pthread_mutex_lock(&net->lock);
    link->is_up = true;
    pthread_mutex_unlock(&net->lock);
    net->options.notify(net->options.owner, link->index, link->connection_id, true);
}

static void greet(fc_link *link, uint64_t now_ns)
{
    static const uint8_t greeting[8] = {0, 'S', 'P', 0, 0, PROTOCOL_REQ, 0, 0};
    link->state = FC_LINK_GREETING;
    link->greeting_bytes = 0;
    if (link->secure != NULL) {
        fc_link_tls_send(link, greeting, sizeof greeting); /* should that fail, reading says why */
        return;
    }
    /* A fresh connection takes eight bytes. */
    if (send(link->fd, greeting, sizeof greeting, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof greeting)
        fc_link_drop(link, ECONNRESET, now_ns);
}

static ssize_t receive(fc_link *link, void *to, size_t room)
{
    return link->secure != NULL ? fc_link_tls_recv(link, to, room) : recv(link->fd, to, room, MSG_DONTWAIT);
}

static void read_greeting(fc_link *link, uint64_t now_ns)
{
    static const uint8_t expected[8] = {0, 'S', 'P', 0, 0, PROTOCOL_REP, 0, 0};
    ssize_t got = receive(link, link->greeting + link->greeting_bytes, sizeof link->greeting - link->greeting_bytes);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0)
        link->greeting_bytes += (uint32_t)got;
    if (got <= 0 || memcmp(link->greeting, expected, link->greeting_bytes) != 0)
        fc_link_drop(link, got <= 0 ? ECONNRESET : EPROTO, now_ns);
    else if (link->greeting_bytes == sizeof link->greeting)
        come_up(link);
}

static void secure(fc_link *link, uint64_t now_ns)
{
    int step = fc_link_tls_handshake(link);
    if (step < 0)
        fc_link_drop(link, ECONNRESET, now_ns);
    else if (step > 0)
        greet(link, now_ns);
}

/* A socket of packets has no greeting: whoever could connect may speak, but only to whom it is meant for. */
static void begin_speaking(fc_link *link, uint64_t now_ns)
{
    if (link->secure != NULL) {
        link->state = FC_LINK_SECURING;
        if (fc_link_tls_begin(link))
            secure(link, now_ns);
        else
            fc_link_drop(link, ENOMEM, now_ns);
    } else if (link->beside == NULL)
        greet(link, now_ns);
    else if (fc_link_packets_is_same_server(link))
        come_up(link);
    else
        fc_link_drop(link, EPERM, now_ns);
}

static int stream_socket(const fc_link *link, const fc_link_address *address)
{
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1, send_buffer_bytes = SEND_BUFFER_BYTES;
    int idle_s = 15, interval_s = 5, probes = 3; /* a host that vanished is noticed within 30 s */
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer_bytes, sizeof send_buffer_bytes);
        if (!link->is_ipc) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
        }
    }
    return fd;
}

static void start_connecting(fc_link *link, uint64_t now_ns)
{
    const fc_link_address *address = &link->addresses[link->address_next++ % link->address_count];
    int fd = link->beside == NULL ? stream_socket(link, address) : fc_link_packets_socket(link);
    int error = fd < 0 ? errno : 0;
    pthread_mutex_lock(&link->net->lock);
    link->fd = fd;
    pthread_mutex_unlock(&link->net->lock);
    link->state = FC_LINK_CONNECTING;
    link->next_ns = now_ns + GREETING_NS_MAX;
    if (error == 0 && connect(fd, (const struct sockaddr *)&address->storage, address->bytes) != 0)
        error = errno;
    if (error == 0)
        begin_speaking(link, now_ns);
    else if (error != EINPROGRESS)
        fc_link_drop(link, error, now_ns);
}

static void finish_connecting(fc_link *link, uint64_t now_ns)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0)
        fc_link_drop(link, error, now_ns);
    else
        begin_speaking(link, now_ns);
}

/* --- reading, on the net's thread --------------------------------------------------------------------------------- */

static void finish_body(fc_link *link)
{
    fc_net *net = link->net;
    fc_message *body = link->body;
    link->body = NULL;
    link->is_in_body = false;
    link->retry_delay_ns = FC_LINK_RETRY_NS_MIN; /* a server that answers is worth coming back to soon */
    if (body == NULL)
        return;
    pthread_mutex_lock(&net->lock);
    fc_exchange *exchange = fc_net_find_exchange(net, link, link->body_id);
    if (exchange != NULL) {
        fc_link_take_back(link, exchange);
        fc_net_end_exchange(exchange, FC_EXCHANGE_REPLIED, FC_OK, body);
        body = NULL;
    }
    pthread_mutex_unlock(&net->lock);
    fc_message_destroy(body);
}

/* False: what came is not this protocol, or too large. */
static bool start_body(fc_link *link, const uint8_t *header)
{
    fc_net *net = link->net;
    if (link->is_ipc && *header++ != 1)
        return false;
    uint64_t length = get_be(header, 8);
    if (length < ID_BYTES || length - ID_BYTES > net->options.reply_bytes_max)
        return false;
    link->body_id = (uint32_t)get_be(header + 8, ID_BYTES);
    link->body_size_bytes = length - ID_BYTES;
    link->body_done_bytes = 0;
    link->is_in_body = true;
    pthread_mutex_lock(&net->lock);
    bool is_awaited = fc_net_find_exchange(net, link, link->body_id) != NULL;
    pthread_mutex_unlock(&net->lock);
    return !is_awaited || fc_message_create((size_t)link->body_size_bytes, &link->body) == FC_OK;
}

/* Takes what the buffer holds. */
static bool consume(fc_link *link)
{
    for (;;) {
        const uint8_t *from = link->buffer + link->buffer_begin;
        size_t held = link->buffer_end - link->buffer_begin;
        if (!link->is_in_body) {
            if (held < header_bytes(link))
                break;
            link->buffer_begin += header_bytes(link);
            if (!start_body(link, from))
                return false;
            continue;
        }
        uint64_t wanted = link->body_size_bytes - link->body_done_bytes;
        size_t taken = held < wanted ? held : (size_t)wanted;
        if (link->body != NULL && taken != 0)
            memcpy(link->body->bytes + link->body_done_bytes, from, taken);
        link->buffer_begin += taken;
        link->body_done_bytes += taken;
        if (taken < wanted)
            break;
        finish_body(link);
    }
    memmove(link->buffer, link->buffer + link->buffer_begin, link->buffer_end - link->buffer_begin);
    link->buffer_end -= link->buffer_begin;
    link->buffer_begin = 0;
    return true;
}

/* False: the connection is over. */
static bool read_all(fc_link *link)
{
    if (link->beside != NULL)
        return fc_link_packets_read(link);
    bool is_secure = link->secure != NULL;
    for (int i = 0; i < READS_AT_A_TIME || (is_secure && fc_link_tls_has_input(link)); i++) {
        bool is_direct = link->is_in_body && link->body != NULL; /* the buffer is empty then */
        uint8_t *to = is_direct ? link->body->bytes + link->body_done_bytes : link->buffer + link->buffer_end;
        size_t room = is_direct ? (size_t)(link->body_size_bytes - link->body_done_bytes)
                                : sizeof link->buffer - link->buffer_end;
        ssize_t got = receive(link, to, room);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        if (is_direct) {
            link->body_done_bytes += (uint64_t)got;
            if (link->body_done_bytes == link->body_size_bytes)
                finish_body(link);
        } else {
            link->buffer_end += (size_t)got;
            if (!consume(link))
                return false;
        }
        if ((size_t)got < room && !is_secure)
            return true; /* that was all there is */
    }
    return true;
}

void fc_link_read_rest(fc_link *link)
{
    struct pollfd readable = {.fd = link->fd, .events = POLLIN};
    for (int i = 0; i < LAST_TURNS && poll(&readable, 1, 0) == 1; i++)
        if (!read_all(link))
            return;
}

/* --- for net.c ---------------------------------------------------------------------------------------------------- */

struct pollfd fc_link_poll(fc_link *link, uint64_t *until_ns)
{
    struct pollfd polled = {.fd = link->fd, .events = POLLIN};
    if (link->state != FC_LINK_UP && link->next_ns < *until_ns)
        *until_ns = link->next_ns;
    if (link->state == FC_LINK_CONNECTING)
        polled.events = POLLOUT;
    else if ((link->state == FC_LINK_UP && link->queue_first != NULL) ||
             (link->secure != NULL && fc_link_tls_has_output(link)))
        polled.events |= POLLOUT;
    if (link->is_broken)
        *until_ns = 0;
    return polled;
}

static void progress_up(fc_link *link, short revents, uint64_t now_ns)
{
    bool is_over = (revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !read_all(link);
    pthread_mutex_lock(&link->net->lock);
    if ((revents & POLLOUT) != 0 && !is_over)
        flush(link);
    bool is_broken = link->is_broken && !is_over;
    pthread_mutex_unlock(&link->net->lock);
    if (is_broken)
        fc_link_read_rest(link);
    if (is_over || is_broken)
        fc_link_drop(link, ECONNRESET, now_ns);
}

void fc_link_progress(fc_link *link, short revents, uint64_t now_ns)
{
    switch (link->state) {
    case FC_LINK_DOWN:
        if (now_ns >= link->next_ns)
            start_connecting(link, now_ns);
        break;
    case FC_LINK_CONNECTING:
        if (revents != 0)
            finish_connecting(link, now_ns);
        else if (now_ns >= link->next_ns)
            fc_link_drop(link, ETIMEDOUT, now_ns);
        break;
    case FC_LINK_SECURING:
        if (revents != 0)
            secure(link, now_ns);
        else if (now_ns >= link->next_ns)
            fc_link_drop(link, ETIMEDOUT, now_ns);
        break;
    case FC_LINK_GREETING:
        if (link->secure != NULL && (revents & POLLOUT) != 0)
            fc_link_tls_flush(link);
        if (revents != 0)
            read_greeting(link, now_ns);
        else if (now_ns >= link->next_ns)
            fc_link_drop(link, ETIMEDOUT, now_ns);
        break;
    case FC_LINK_UP:
        progress_up(link, revents, now_ns);
        break;
    }
}

fc_status fc_link_explain(fc_link *link, fc_reason *out_reason)
{
    static const struct {
        int error;
        const char *text;
    } rows[] = {
        {ENOENT, "no such socket; is flashcored running?"},
        {ECONNREFUSED, "nobody listens there; is flashcored running?"},
        {EACCES, "permission denied; connecting needs write permission on the socket"},
        {ECONNRESET, "it ends every connection"},
        {EPROTO, "what listens there does not speak REQ/REP"},
        {ETIMEDOUT, "no answer"},
    };
    char buffer[128];
    pthread_mutex_lock(&link->net->lock);
    int error = link->down_error;
    *out_reason = link->down_why;
    pthread_mutex_unlock(&link->net->lock);
    if (error == EKEYREJECTED)
        return FC_UNAUTHORIZED;
    const char *text = error != 0 ? strerror_r(error, buffer, sizeof buffer) : "";
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        text = rows[i].error == error ? rows[i].text : text;
    snprintf(out_reason->text, sizeof out_reason->text, "%s", text);
    return FC_UNREACHABLE;
}

static fc_status secure_if_wanted(const fc_net *net, fc_link *link, const char *url, fc_reason *out_reason)
{
    char host[FC_HOST_BYTES];
    const char *name = net->options.tls_server_name;
    if (!fc_link_address_is_tls(url, host))
        return FC_OK;
    fc_status status = fc_link_tls_create(link, net->options.tls, name != NULL ? name : host);
    return status == FC_OK ? FC_OK : fc_fail(status, out_reason, "out of memory");
}

fc_status fc_link_open(fc_net *net, const char *url, fc_link **out_link, fc_reason *out_reason)
{
    fc_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    fc_status status = fc_link_address_resolve(url, &link->addresses, &link->address_count, out_reason);
    if (status == FC_OK)
        status = secure_if_wanted(net, link, url, out_reason);
    if (status != FC_OK) {
        free(link->addresses);
        free(link);
        return status;
    }
    link->is_ipc = link->addresses[0].storage.ss_family == AF_UNIX;
    link->retry_delay_ns = FC_LINK_RETRY_NS_MIN;
    fc_net_add_link(net, link);
    *out_link = link;
    return FC_OK;
}

void fc_link_destroy(fc_link *link)
{
    close_fd(link);
    while (link->queue_first != NULL) {
        fc_message *frame = link->queue_first;
        pop_frame(link);
        fc_message_destroy(frame);
    }
    fc_message_destroy(link->body);
    fc_link_tls_destroy(link);
    free(link->addresses);
    free(link);
}
