/* See packet_arena.h. */
#include "tests/support/packet_arena.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void packet_arena_ask(packet_peer *peer, uint64_t id, fc_arena_kind kind, uint64_t size_bytes)
{
    fc_wire_request create = {.id = id, .op = FC_OP_ARENA_CREATE, .arena_bytes = size_bytes, .arena_kind = kind};
    ck_assert(packet_peer_send(peer, &create));
}

packet_arena packet_arena_make(packet_peer *peer, fc_arena_kind kind, uint64_t size_bytes)
{
    fc_wire_reply reply;
    packet_arena_ask(peer, 50, kind, size_bytes);
    ck_assert(packet_peer_receive(peer, &reply));
    ck_assert_msg(reply.status == FC_OK, "%.*s", (int)reply.error.bytes, reply.error.text);
    ck_assert_int_eq(reply.body, FC_BODY_ARENA);
    ck_assert_int_eq(reply.arena.is_device, kind == FC_ARENA_DEVICE);
    ck_assert_int_ge(peer->descriptor, 0);
    ck_assert_int_eq(peer->lifeline >= 0, kind == FC_ARENA_DEVICE);
    packet_arena arena = {.id = reply.arena.id, .size_bytes = reply.arena.bytes, .fd = peer->descriptor};
    arena.lifeline = peer->lifeline;
    memcpy(arena.uuid, reply.arena.uuid, sizeof arena.uuid);
    peer->descriptor = peer->lifeline = -1;
    arena.base = mmap(NULL, arena.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, arena.fd, 0);
    ck_assert_ptr_ne(arena.base, MAP_FAILED);
    return arena;
}

void packet_arena_drop(packet_arena *arena)
{
    munmap(arena->base, arena->size_bytes);
    close(arena->fd);
    if (arena->lifeline >= 0)
        close(arena->lifeline);
    arena->lifeline = -1;
}

void packet_arena_give_back(packet_peer *peer, uint64_t arena, fc_status status)
{
    fc_wire_request destroy = {.id = 51, .op = FC_OP_ARENA_DESTROY, .arena = arena};
    ck_assert(packet_peer_send(peer, &destroy));
    packet_peer_expect(peer, 51, status, NULL);
}

void packet_arena_ask_and_leave(const char *path, fc_arena_kind kind, int peers)
{
    packet_peer peer;
    fc_wire_reply reply;
    for (int i = 0; i < peers; i++) {
        packet_peer_open(&peer, path);
        for (uint64_t k = 0; k < 5; k++)
            packet_arena_ask(&peer, k, kind, 40000);
        if (i % 2 == 0)
            ck_assert(packet_peer_receive(&peer, &reply));
        packet_peer_close(&peer);
    }
}

void packet_arena_places(fc_wire_attend *attend, fc_wire_place *out_places[PACKET_ARENA_PLACES])
{
    out_places[0] = &attend->q.place;
    out_places[1] = &attend->k.place;
    out_places[2] = &attend->v.place;
    out_places[3] = &attend->out_at;
    out_places[4] = &attend->lse_at;
}
