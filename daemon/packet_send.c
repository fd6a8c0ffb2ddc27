/* See packet_send.h. */
#include "daemon/packet_send.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* With sendmmsg(), since the process's sendmsg() is nng_listener_fix.c's. */
static ssize_t send_with_descriptors(int socket_fd, const void *bytes, size_t size_bytes, const int *descriptors)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(FC_PACKET_DESCRIPTORS * sizeof(int))];
    } control = {.bytes = {0}};
    size_t used_bytes = 0;
    for (int i = 0; i < FC_PACKET_DESCRIPTORS; i++) {
        if (descriptors[i] < 0)
            continue;
        memcpy(CMSG_DATA(&control.header) + used_bytes, &descriptors[i], sizeof descriptors[i]);
        used_bytes += sizeof descriptors[i];
    }
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(used_bytes);
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size_bytes};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &piece,
                                          .msg_iovlen = 1,
                                          .msg_control = control.bytes,
                                          .msg_controllen = CMSG_SPACE(used_bytes)}};
    return sendmmsg(socket_fd, &message, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? (ssize_t)size_bytes : -1;
}

fc_packet_sent fc_packet_send(int socket_fd, const void *bytes, size_t size_bytes,
                              const int descriptors[FC_PACKET_DESCRIPTORS])
{
    for (;;) {
        ssize_t sent = descriptors[0] >= 0 ? send_with_descriptors(socket_fd, bytes, size_bytes, descriptors)
                                           : send(socket_fd, bytes, size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0)
            return FC_PACKET_SENT;
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
            return FC_PACKET_FULL;
        if (errno == EPIPE || errno == ECONNRESET) /* never while the peer can still read */
            return FC_PACKET_LEFT;
        if (errno != EINTR)
            return FC_PACKET_BROKEN;
    }
}
