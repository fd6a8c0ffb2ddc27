/* Arenas as a bare peer of the local channel has them.
 */
#ifndef FC_TESTS_PACKET_ARENA_H
#define FC_TESTS_PACKET_ARENA_H

#include "tests/support/packet_peer.h"

typedef struct packet_arena {
    uint64_t id;
    size_t size_bytes;
    uint8_t *base;    /* mapped */
    int fd, lifeline; /* lifeline -1: host memory has none */
    uint8_t uuid[FC_UUID_BYTES];
} packet_arena;

/* Asks and does not wait for the answer. */
void packet_arena_ask(packet_peer *peer, uint64_t id, fc_arena_kind kind, uint64_t size_bytes);

/* Asks, wants one of that kind and maps it. The descriptors are the arena's then. */
packet_arena packet_arena_make(packet_peer *peer, fc_arena_kind kind, uint64_t size_bytes);

/* Lets go as a client does: first the memory, then the lifeline. The server keeps the arena. */
void packet_arena_drop(packet_arena *arena);

/* Has the server destroy it, and wants that status. */
void packet_arena_give_back(packet_peer *peer, uint64_t arena, fc_status status);

/* Peers that ask for some and go while these are being made, every other one without reading an answer. */
void packet_arena_ask_and_leave(const char *path, fc_arena_kind kind, int peers);

/* Where an attend says that its tensors lie: q, k, v, out, lse. */
enum { PACKET_ARENA_PLACES = 5 };
void packet_arena_places(fc_wire_attend *attend, fc_wire_place *out_places[PACKET_ARENA_PLACES]);

#endif
