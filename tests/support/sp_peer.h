/* A REQ peer written on bare sockets: does exactly what a test wants on the wire, decent or not.
 */
#ifndef FC_TESTS_SP_PEER_H
#define FC_TESTS_SP_PEER_H

#include "proto/codec.h"
#include "proto/tls.h"

typedef struct sp_peer {
    int fd; /* blocking; reads give up after 20 s */
    bool is_ipc;
    fc_tls_session *tls; /* NULL: its bytes go as they are */
    uint8_t *reply;      /* the last message received */
    size_t reply_bytes;
} sp_peer;

/* Connects (and waits while the listener's backlog is full) without saying anything. Aborts the test on failure. */
void sp_peer_connect(sp_peer *peer, const char *url);
/* The same, without a word when refused: false, and errno. */
bool sp_peer_try_connect(sp_peer *peer, const char *url);
/* From here on inside TLS, with what `tls` trusts and shows. False: the server ended it. */
bool sp_peer_start_tls(sp_peer *peer, fc_tls *tls);
/* Connects and shakes hands. */
void sp_peer_open(sp_peer *peer, const char *url);
/* Both sides' greetings, after sp_peer_connect. False: the server hung up instead. */
bool sp_peer_greet(sp_peer *peer);
void sp_peer_close(sp_peer *peer);

void sp_peer_send_raw(sp_peer *peer, const void *bytes, size_t size_bytes);
/* A frame around a message, with that request number. */
void sp_peer_send(sp_peer *peer, uint32_t number, const void *message, size_t size_bytes);
void sp_peer_request(sp_peer *peer, uint32_t number, const fc_wire_request *request);

/* Reads bytes, exactly. False: the connection ended first. */
bool sp_peer_read(sp_peer *peer, void *out_bytes, size_t size_bytes);
/* The next frame: its request number, its message in peer->reply. False: the connection ended. */
bool sp_peer_receive(sp_peer *peer, uint32_t *out_number);
/* The next frame, decoded; aborts the test when there is none. */
void sp_peer_await(sp_peer *peer, uint32_t *out_number, fc_wire_reply *out_reply);

#endif
