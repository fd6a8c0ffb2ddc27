/* A peer of the local channel on a bare socket: does exactly what a test wants, decent or not.
 */
#ifndef FC_TESTS_PACKET_PEER_H
#define FC_TESTS_PACKET_PEER_H

#include "proto/codec.h"

typedef struct packet_peer {
    int fd; /* blocking; reads give up after 20 s */
    uint8_t reply[FC_PACKET_BYTES];
    size_t reply_bytes;
    int descriptor, lifeline; /* that came with the last reply; -1: none */
} packet_peer;

/* Connects. False: refused. */
bool packet_peer_try_open(packet_peer *peer, const char *path);
void packet_peer_open(packet_peer *peer, const char *path); /* aborts the test when refused */
void packet_peer_close(packet_peer *peer);

/* False: the connection has ended. */
bool packet_peer_send_bytes(packet_peer *peer, const void *bytes, size_t size_bytes);
bool packet_peer_send(packet_peer *peer, const fc_wire_request *request);
bool packet_peer_send_op(packet_peer *peer, uint64_t id, fc_op op);

/* Sends bytes with count copies of a descriptor, on any UNIX socket. False: errno says why not. */
bool packet_peer_send_descriptors(int socket_fd, const void *bytes, size_t size_bytes, int fd, int count);

/* The next reply, decoded; it points into peer. False: the connection has ended. */
bool packet_peer_receive(packet_peer *peer, fc_wire_reply *out_reply);

/* The next reply has this id and status; error holds part (NULL: whatever). */
void packet_peer_expect(packet_peer *peer, uint64_t id, fc_status status, const char *part);

/* A new connection's ping is answered. */
void packet_peer_assert_ping(const char *path);

/* One number of the server's stats, asked for over a connection of its own; -1: it has no such. */
double packet_peer_counter(const char *path, const char *name);
/* The same; false: the server is not there, or does not answer. */
bool packet_peer_try_counter(const char *path, const char *name, double *out_value);

/* An attend without a byte of tensor data: [0, 1, 1, 64]. It runs like any other. */
fc_wire_request packet_peer_empty_attend(uint64_t id);

#endif
