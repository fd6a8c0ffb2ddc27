/* One packet out of a UNIX socket, with descriptors or without, and without waiting. Any thread.
 */
#ifndef FC_DAEMON_PACKET_SEND_H
#define FC_DAEMON_PACKET_SEND_H

#include <stddef.h>

#define FC_PACKET_DESCRIPTORS 2

typedef enum fc_packet_sent {
    FC_PACKET_SENT,
    FC_PACKET_FULL,  /* no room now */
    FC_PACKET_LEFT,  /* the peer has */
    FC_PACKET_BROKEN /* the system refuses: too many descriptors on their way, for one */
} fc_packet_sent;

/* descriptors: -1 for none; they stay the caller's. */
fc_packet_sent fc_packet_send(int socket_fd, const void *bytes, size_t size_bytes,
                              const int descriptors[FC_PACKET_DESCRIPTORS]);

#endif
