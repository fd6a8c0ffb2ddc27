/* Commands for whoever runs the daemon, over its admin socket: one packet there, one back. */
#include "client/ctl_commands.h"
#include "client/tool_clock.h"

#include "proto/codec.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PACKET_BYTES 4096
#define REQUEST_ID 1

static fc_status reach(const char *path, int *out_fd, fc_reason *out_reason)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--admin: a socket path has at most %zu bytes",
                       sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fc_fail(FC_IO, out_reason, "cannot make a socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        fc_status st = fc_fail(FC_UNREACHABLE, out_reason, "%.140s: %s%s", path, strerror(errno),
                               errno == EACCES   ? "; it is for root and the daemon's own user"
                               : errno == ENOENT ? "; is flashcored running, with --admin-socket?"
                                                 : "");
        close(fd);
        return st;
    }
    *out_fd = fd;
    return FC_OK;
}

/* Bytes of the next packet; 0: the daemon has hung up; -1: neither in time. */
static ssize_t receive(int fd, void *bytes, size_t size_bytes, uint64_t until_ns)
{
    for (;;) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        uint64_t now_ns = fc_clock_now_ns();
        struct timespec left = fc_clock_timespec(now_ns < until_ns ? until_ns - now_ns : 0);
        int ready = ppoll(&readable, 1, &left, NULL);
        if (ready == 0)
            return -1;
        ssize_t got = ready > 0 ? recv(fd, bytes, size_bytes, 0) : -1;
        if (got >= 0)
            return got;
        if (errno != EINTR)
            return 0; /* it went without reading what we sent */
    }
}

static fc_status exchange(int fd, const fc_wire_request *request, uint64_t until_ns, fc_reason *out_reason)
{
    uint8_t bytes[PACKET_BYTES];
    size_t size_bytes;
    fc_wire_reply reply;
    fc_status st = fc_codec_encode_request(request, NULL, bytes, sizeof bytes, &size_bytes);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "the word is too long");
    if (send(fd, bytes, size_bytes, MSG_NOSIGNAL) != (ssize_t)size_bytes)
        return fc_fail(FC_CONNECTION_LOST, out_reason, "the daemon hung up");
    ssize_t got = receive(fd, bytes, sizeof bytes, until_ns);
    if (got < 0)
        return fc_fail(FC_TIMED_OUT, out_reason, "no answer in time");
    if (got == 0)
        return fc_fail(FC_CONNECTION_LOST, out_reason, "the daemon hung up");
    st = fc_codec_decode_reply(bytes, (size_t)got, &reply, out_reason);
    if (st != FC_OK || reply.status == FC_OK)
        return st;
    return fc_fail(reply.status, out_reason, "%s: %.*s", fc_status_name(reply.status), (int)reply.error.bytes,
                   reply.error.text != NULL ? reply.error.text : "");
}

static fc_status ask(const fc_ctl_options *options, fc_op op, fc_reason *out_reason)
{
    uint8_t bytes[PACKET_BYTES];
    fc_wire_request request = {.id = REQUEST_ID, .op = op};
    uint64_t until_ns = fc_clock_now_ns() + (uint64_t)(options->timeout_s * 1e9);
    int fd = -1;
    if (options->word != NULL)
        request.word = fc_wire_text_make(options->word);
    fc_status st = reach(options->admin_path, &fd, out_reason);
    if (st != FC_OK)
        return st;
    st = exchange(fd, &request, until_ns, out_reason);
    if (st == FC_OK && options->wants_wait && receive(fd, bytes, sizeof bytes, until_ns) != 0)
        st = fc_fail(FC_TIMED_OUT, out_reason, "it drains, but has not ended in time");
    close(fd);
    return st;
}

fc_status fc_ctl_drain(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    (void)client;
    return ask(options, FC_OP_DRAIN, out_reason);
}

fc_status fc_ctl_reload(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    (void)client;
    return ask(options, FC_OP_RELOAD, out_reason);
}

fc_status fc_ctl_log_level(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    (void)client;
    return ask(options, FC_OP_LOG_LEVEL, out_reason);
}

fc_status fc_ctl_kernel(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    (void)client;
    return ask(options, FC_OP_DEFAULT_KERNEL, out_reason);
}
