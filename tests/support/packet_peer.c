/* See packet_peer.h. */
#include "tests/support/packet_peer.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

bool packet_peer_try_open(packet_peer *peer, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 20};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    peer->descriptor = peer->lifeline = -1;
    peer->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(peer->fd, 0);
    setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(peer->fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return true;
    close(peer->fd);
    peer->fd = -1;
    return false;
}

void packet_peer_open(packet_peer *peer, const char *path)
{
    ck_assert_msg(packet_peer_try_open(peer, path), "%s: %s", path, strerror(errno));
}

static void drop_descriptors(packet_peer *peer)
{
    if (peer->descriptor >= 0)
        close(peer->descriptor);
    if (peer->lifeline >= 0)
        close(peer->lifeline);
    peer->descriptor = peer->lifeline = -1;
}

void packet_peer_close(packet_peer *peer)
{
    drop_descriptors(peer);
    if (peer->fd >= 0)
        close(peer->fd);
    peer->fd = -1;
}

bool packet_peer_send_bytes(packet_peer *peer, const void *bytes, size_t size_bytes)
{
    ssize_t sent = send(peer->fd, bytes, size_bytes, MSG_NOSIGNAL);
    if (sent >= 0)
        ck_assert_uint_eq((size_t)sent, size_bytes);
    else
        ck_assert_msg(errno == EPIPE || errno == ECONNRESET, "%s", strerror(errno));
    return sent >= 0;
}

bool packet_peer_send(packet_peer *peer, const fc_wire_request *request)
{
    uint8_t bytes[4096];
    size_t size_bytes = 0;
    ck_assert_int_eq(fc_codec_encode_request(request, NULL, bytes, sizeof bytes, &size_bytes), FC_OK);
    return packet_peer_send_bytes(peer, bytes, size_bytes);
}

bool packet_peer_send_op(packet_peer *peer, uint64_t id, fc_op op)
{
    fc_wire_request request = {.id = id, .op = op};
    return packet_peer_send(peer, &request);
}

bool packet_peer_send_descriptors(int socket_fd, const void *bytes, size_t size_bytes, int fd, int count)
{
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(253 * sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size_bytes};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int))};
    memset(&control, 0, sizeof control);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    for (int i = 0; i < count; i++)
        memcpy(CMSG_DATA(header) + (size_t)i * sizeof fd, &fd, sizeof fd);
    return sendmsg(socket_fd, &message, MSG_NOSIGNAL) == (ssize_t)size_bytes;
}

bool packet_peer_receive(packet_peer *peer, fc_wire_reply *out_reply)
{
    fc_reason reason = {""};
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = peer->reply, .iov_len = sizeof peer->reply};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(peer->fd, &message, MSG_CMSG_CLOEXEC);
    ck_assert_msg(got >= 0 || errno == ECONNRESET, "no reply: %s", strerror(errno));
    if (got <= 0)
        return false;
    ck_assert_int_eq(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC), 0);
    drop_descriptors(peer);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        memcpy(&peer->descriptor, CMSG_DATA(header), sizeof peer->descriptor);
        if (header->cmsg_len >= CMSG_LEN(2 * sizeof(int)))
            memcpy(&peer->lifeline, CMSG_DATA(header) + sizeof(int), sizeof peer->lifeline);
    }
    peer->reply_bytes = (size_t)got;
    fc_status st = fc_codec_decode_reply(peer->reply, peer->reply_bytes, out_reply, &reason);
    ck_assert_msg(st == FC_OK, "the reply cannot be decoded: %s", reason.text);
    return true;
}

void packet_peer_expect(packet_peer *peer, uint64_t id, fc_status status, const char *part)
{
    fc_wire_reply reply;
    char error[256] = "";
    ck_assert_msg(packet_peer_receive(peer, &reply), "the connection has ended");
    if (reply.error.bytes > 0)
        snprintf(error, sizeof error, "%.*s", (int)reply.error.bytes, reply.error.text);
    ck_assert_msg(reply.status == status && reply.id == id, "id %llu: %s (%s), wanted id %llu: %s",
                  (unsigned long long)reply.id, fc_status_name(reply.status), error, (unsigned long long)id,
                  fc_status_name(status));
    ck_assert_msg(part == NULL || strstr(error, part) != NULL, "\"%s\" lacks \"%s\"", error, part);
}

void packet_peer_assert_ping(const char *path)
{
    packet_peer peer;
    packet_peer_open(&peer, path);
    ck_assert(packet_peer_send_op(&peer, 77, FC_OP_PING));
    packet_peer_expect(&peer, 77, FC_OK, NULL);
    packet_peer_close(&peer);
}

bool packet_peer_try_counter(const char *path, const char *name, double *out_value)
{
    packet_peer peer;
    fc_wire_reply reply;
    *out_value = -1;
    if (!packet_peer_try_open(&peer, path))
        return false;
    bool is_answered =
        packet_peer_send_op(&peer, 1, FC_OP_STATS) && packet_peer_receive(&peer, &reply) && reply.status == FC_OK;
    for (uint32_t i = 0; is_answered && i < reply.stats.counter_count; i++) {
        fc_wire_text text = reply.stats.counters[i].name;
        if (text.bytes == strlen(name) && memcmp(text.text, name, text.bytes) == 0)
            *out_value = reply.stats.counters[i].value;
    }
    packet_peer_close(&peer);
    return is_answered;
}

double packet_peer_counter(const char *path, const char *name)
{
    double value;
    ck_assert_msg(packet_peer_try_counter(path, name, &value), "%s: does not tell its %s", path, name);
    return value;
}

fc_wire_request packet_peer_empty_attend(uint64_t id)
{
    fc_wire_request request = {.id = id, .op = FC_OP_ATTEND};
    request.attend.q = (fc_wire_tensor){.dtype = FC_F32, .rank = 4, .shape = {0, 1, 1, 64}};
    request.attend.k = request.attend.v = request.attend.q;
    request.attend.window_left = request.attend.window_right = -1;
    return request;
}
