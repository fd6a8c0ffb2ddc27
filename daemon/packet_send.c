/* See packet_send.h. */
#include "daemon/packet_send.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* With sendmmsg(), since the process's sendmsg() is nng_listener_fix.c's. */
static ssize_t send_with_descriptor(int socket_fd, const void *bytes, size_t size_bytes, int descriptor)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size_bytes};
    struct mmsghdr message = {
        .msg_hdr = {
            .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes}};
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    return sendmmsg(socket_fd, &message, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? (ssize_t)size_bytes : -1;
}

fc_packet_sent fc_packet_send(int socket_fd, const void *bytes, size_t size_bytes, int descriptor)
{
    for (;;) {
        ssize_t sent = descriptor >= 0 ? send_with_descriptor(socket_fd, bytes, size_bytes, descriptor)
                                       : send(socket_fd, bytes, size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0)
            return FC_PACKET_SENT;
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
            return FC_PACKET_FULL;
        if (errno == EPIPE || errno == ECONNRESET)
            return FC_PACKET_LEFT;
        if (errno != EINTR)
            return FC_PACKET_BROKEN;
    }
}
