/* See sp_peer.h. */
#include "tests/support/sp_peer.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int try_connect(const char *url)
{
    if (strncmp(url, "ipc://", 6) == 0) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "%s", url + 6);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        close(fd);
        return -1;
    }
    const char *port = strrchr(url, ':');
    ck_assert_ptr_nonnull(port);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(port + 1)),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

bool sp_peer_try_connect(sp_peer *peer, const char *url)
{
    struct timeval patience = {.tv_sec = 20};
    int at_once = 1;
    *peer = (sp_peer){.is_ipc = strncmp(url, "ipc://", 6) == 0};
    peer->fd = try_connect(url);
    if (peer->fd < 0)
        return false;
    setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (!peer->is_ipc)
        setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    return true;
}

void sp_peer_connect(sp_peer *peer, const char *url)
{
    ck_assert_msg(sp_peer_try_connect(peer, url), "%s: %s", url, strerror(errno));
}

/* The socket blocks, so TLS's wire is never out of bytes for the moment. It is known by its number: peers move. */
static ssize_t read_wire(void *context, void *bytes, size_t size_bytes)
{
    ssize_t got = recv((int)(intptr_t)context, bytes, size_bytes, 0);
    return got > 0 ? got : -1;
}

static ssize_t write_wire(void *context, const void *bytes, size_t size_bytes)
{
    ssize_t sent = send((int)(intptr_t)context, bytes, size_bytes, MSG_NOSIGNAL);
    return sent > 0 ? sent : -1;
}

bool sp_peer_start_tls(sp_peer *peer, fc_tls *tls)
{
    fc_tls_wire wire = {.read = read_wire, .write = write_wire, .context = (void *)(intptr_t)peer->fd};
    ck_assert_int_eq(fc_tls_session_open(tls, "localhost", &wire, &peer->tls), FC_OK);
    return fc_tls_handshake(peer->tls) == 1;
}

void sp_peer_send_raw(sp_peer *peer, const void *bytes, size_t size_bytes)
{
    const uint8_t *next = bytes;
    while (size_bytes > 0) {
        ssize_t sent = peer->tls != NULL ? fc_tls_write(peer->tls, next, size_bytes)
                                         : send(peer->fd, next, size_bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* hung up: the next read says so */
        next += sent;
        size_bytes -= (size_t)sent;
    }
}

bool sp_peer_read(sp_peer *peer, void *out_bytes, size_t size_bytes)
{
    uint8_t *next = out_bytes;
    while (size_bytes > 0) {
        ssize_t got =
            peer->tls != NULL ? fc_tls_read(peer->tls, next, size_bytes) : recv(peer->fd, next, size_bytes, 0);
        ck_assert_msg(got >= 0 || peer->tls != NULL || errno == ECONNRESET, "reading: %s", strerror(errno));
        if (got <= 0)
            return false;
        next += got;
        size_bytes -= (size_t)got;
    }
    return true;
}

bool sp_peer_greet(sp_peer *peer)
{
    static const uint8_t greeting[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    static const uint8_t expected[8] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
    uint8_t answer[8];
    sp_peer_send_raw(peer, greeting, sizeof greeting);
    if (!sp_peer_read(peer, answer, sizeof answer))
        return false;
    ck_assert_mem_eq(answer, expected, sizeof expected);
    return true;
}

void sp_peer_open(sp_peer *peer, const char *url)
{
    sp_peer_connect(peer, url);
    ck_assert(sp_peer_greet(peer));
}

void sp_peer_close(sp_peer *peer)
{
    fc_tls_session_close(peer->tls);
    close(peer->fd);
    free(peer->reply);
    *peer = (sp_peer){.fd = -1};
}

static void put_big_endian(uint8_t *out_bytes, uint64_t value, int size_bytes)
{
    for (int i = 0; i < size_bytes; i++)
        out_bytes[i] = (uint8_t)(value >> (8 * (size_bytes - 1 - i)));
}

static uint64_t get_big_endian(const uint8_t *bytes, int size_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < size_bytes; i++)
        value = value << 8 | bytes[i];
    return value;
}

void sp_peer_send(sp_peer *peer, uint32_t number, const void *message, size_t size_bytes)
{
    uint8_t head[13] = {1};
    uint8_t *length = peer->is_ipc ? head + 1 : head;
    put_big_endian(length, size_bytes + 4, 8);
    put_big_endian(length + 8, number | 0x80000000u, 4);
    sp_peer_send_raw(peer, head, peer->is_ipc ? 13 : 12);
    sp_peer_send_raw(peer, message, size_bytes);
}

void sp_peer_request(sp_peer *peer, uint32_t number, const fc_wire_request *request)
{
    size_t capacity_bytes = fc_codec_request_bound(request, 0);
    size_t size_bytes = 0;
    uint8_t *bytes = malloc(capacity_bytes);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_int_eq(fc_codec_encode_request(request, NULL, bytes, capacity_bytes, &size_bytes), FC_OK);
    sp_peer_send(peer, number, bytes, size_bytes);
    free(bytes);
}

bool sp_peer_receive(sp_peer *peer, uint32_t *out_number)
{
    uint8_t type = 1;
    uint8_t head[12];
    if ((peer->is_ipc && !sp_peer_read(peer, &type, 1)) || !sp_peer_read(peer, head, sizeof head))
        return false;
    ck_assert_uint_eq(type, 1);
    uint64_t length = get_big_endian(head, 8);
    ck_assert_uint_ge(length, 4);
    *out_number = (uint32_t)get_big_endian(head + 8, 4) & 0x7fffffffu;
    peer->reply_bytes = (size_t)length - 4;
    free(peer->reply);
    peer->reply = malloc(peer->reply_bytes + 1);
    ck_assert_ptr_nonnull(peer->reply);
    return sp_peer_read(peer, peer->reply, peer->reply_bytes);
}

void sp_peer_await(sp_peer *peer, uint32_t *out_number, fc_wire_reply *out_reply)
{
    fc_reason reason = {""};
    ck_assert_msg(sp_peer_receive(peer, out_number), "the connection ended instead of an answer");
    fc_status st = fc_codec_decode_reply(peer->reply, peer->reply_bytes, out_reply, &reason);
    ck_assert_msg(st == FC_OK, "the reply cannot be decoded: %s", reason.text);
}
