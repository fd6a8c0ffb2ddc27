/* What is different about a link of packets, the daemon's local channel: where it connects, to whom, and how replies
 * come. See link.h and net.h; the rest of a link's life is link.c's.
 */
#include "client/net.h"

#include "client/link_address.h"
#include "proto/codec.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define READS_AT_A_TIME 64

fc_status fc_link_open_packets(fc_net *net, fc_link *beside, fc_link **out_link)
{
    fc_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return FC_NO_MEMORY;
    link->addresses = calloc(1, sizeof *link->addresses);
    if (link->addresses == NULL || fc_message_create(FC_PACKET_BYTES, &link->body) != FC_OK) {
        free(link->addresses);
        free(link);
        return FC_NO_MEMORY;
    }
    link->address_count = 1;
    link->is_ipc = true;
    link->beside = beside;
    link->next_ns = FC_LINK_FOREVER;
    fc_net_add_link(net, link);
    *out_link = link;
    return FC_OK;
}

void fc_link_aim(fc_link *link, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path != NULL)
        snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    memcpy(&link->addresses[0].storage, &address, sizeof address);
    link->addresses[0].bytes = sizeof address;
    if (link->state == FC_LINK_UP)
        fc_link_read_rest(link);
    if (link->state != FC_LINK_DOWN)
        fc_link_drop(link, ECONNRESET, fc_link_now_ns());
    link->retry_delay_ns = FC_LINK_RETRY_NS_MIN;
    link->next_ns = path != NULL ? 0 : FC_LINK_FOREVER;
}

int fc_link_packets_socket(const fc_link *link)
{
    return socket(link->addresses[0].storage.ss_family, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

bool fc_link_packets_is_same_server(const fc_link *link)
{
    struct ucred named, met;
    socklen_t named_bytes = sizeof named, met_bytes = sizeof met;
    return getsockopt(link->beside->fd, SOL_SOCKET, SO_PEERCRED, &named, &named_bytes) == 0 &&
           getsockopt(link->fd, SOL_SOCKET, SO_PEERCRED, &met, &met_bytes) == 0 && named.pid == met.pid &&
           named.uid == met.uid;
}

/* The reply in link->body goes to whoever waits for it, in memory of its own size. out_is_last: nobody waits for more.
 */
static bool hand_on(fc_link *link, size_t size_bytes, bool *out_is_last)
{
    fc_net *net = link->net;
    uint64_t id;
    fc_message *reply = NULL;
    link->retry_delay_ns = FC_LINK_RETRY_NS_MIN;
    if (!fc_codec_reply_id(link->body->bytes, size_bytes, &id))
        return true; /* to none of ours */
    if (fc_message_create(size_bytes, &reply) != FC_OK)
        return false;
    memcpy(reply->bytes, link->body->bytes, size_bytes);
    fc_message_take_descriptors(link->body, reply->descriptors);
    pthread_mutex_lock(&net->lock);
    fc_exchange *exchange = fc_net_find_message(net, link, id);
    if (exchange != NULL) {
        fc_net_end_exchange(exchange, FC_EXCHANGE_REPLIED, FC_OK, reply);
        reply = NULL;
    }
    *out_is_last = net->active == NULL;
    pthread_mutex_unlock(&net->lock);
    fc_message_destroy(reply);
    return true;
}

/* Keeps the descriptors of a packet with link->body, in place of those of a packet that was nobody's. */
static void keep_descriptors(fc_link *link, struct msghdr *message)
{
    fc_message_close_descriptors(link->body);
    const struct cmsghdr *header = CMSG_FIRSTHDR(message);
    if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
        return;
    size_t bytes = header->cmsg_len - CMSG_LEN(0);
    memcpy(link->body->descriptors, CMSG_DATA(header),
           bytes < sizeof link->body->descriptors ? bytes : sizeof link->body->descriptors);
}

/* One packet into link->body, and the descriptors it may have; more than those are closed by the system. */
static ssize_t receive(fc_link *link)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(FC_MESSAGE_DESCRIPTORS * sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = link->body->bytes, .iov_len = FC_PACKET_BYTES};
    /* Room for so many and not one more, which nobody would close. */
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_LEN(FC_MESSAGE_DESCRIPTORS * sizeof(int))};
    ssize_t got = recvmsg(link->fd, &message, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
    if (got >= 0)
        keep_descriptors(link, &message);
    return got;
}

/* A socket of packets whose other end was closed with something unread says so once, and before it gives what came
 * earlier: only the empty read behind all that is the end. */
bool fc_link_packets_read(fc_link *link)
{
    for (int i = 0; i < READS_AT_A_TIME; i++) {
        ssize_t got = receive(link);
        if (got < 0 && (errno == EINTR || errno == ECONNRESET))
            continue;
        if (got <= 0)
            return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        bool is_last = false;
        if (got > FC_PACKET_BYTES || !hand_on(link, (size_t)got, &is_last))
            return false;
        if (is_last)
            return true;
    }
    return true;
}
