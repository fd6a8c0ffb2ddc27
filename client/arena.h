/* The library's side of arenas: memory the server made, mapped here, and which of a call's tensors lie there.
 *
 * Two uses: arenas of the user's own, known by the addresses of what lies in them, and one of the library's for each
 * connection, through which tensors of the user's ordinary memory are staged. Either way the call is *placed*: pinned
 * to the connection whose arena it is, its request naming places. A call that cannot be placed, or whose connection
 * goes before it was sent, carries its tensors itself. Both ways end in the same result.
 *
 * "Under the lock" below is client->lock.
 */
#ifndef FC_CLIENT_ARENA_H
#define FC_CLIENT_ARENA_H

#include "client/client.h"

struct flashcore_arena {
    flashcore_client *client;
    flashcore_device_mapper mapper; /* of a device arena, whose memory only it can unmap; map NULL: it is the host's */
    int lifeline_fd;                /* of a device arena: open as long as it is mapped */
    uint32_t url_index, connection_id; /* of the link of packets it came by; means nothing on any other */
    uint64_t id;
    uint8_t *base;
    size_t size_bytes;

    /* client->lock. */
    size_t used_bytes;
    flashcore_arena *next; /* client->arenas */
};

/* Part of a staging arena, a call's until it ends. */
typedef struct fc_region {
    struct fc_region *next;
    struct fc_staging *staging;
    size_t begin, end;
} fc_region;

/* The library's own arena at one URL. */
typedef struct fc_staging {
    flashcore_arena arena;
    bool is_retired;    /* takes no more calls; freed with its last region */
    fc_region *regions; /* by offset */
} fc_staging;

/* What so many bytes take up in an arena, where every piece begins aligned. */
static inline size_t fc_arena_aligned(size_t size_bytes)
{
    return (size_bytes + FC_ARENA_ALIGNMENT - 1) / FC_ARENA_ALIGNMENT * FC_ARENA_ALIGNMENT;
}

/* Maps what came of a host arena. NULL: it is not what a server should send, or no memory. The descriptors are closed
 * in any case. */
uint8_t *fc_arena_map(fc_made_arena *made);

/* Closes what descriptors are left in it. */
void fc_arena_close_made(fc_made_arena *made);

/* Places an attend, copying its inputs if they have to be staged; no lock held. Does nothing where that cannot be done
 * now (the library may then ask for an arena, for the next), but for a call with a tensor in a device arena, which has
 * no other way: FC_INVALID_ARGUMENT, FC_TOO_LARGE, FC_UNREACHABLE. */
fc_status fc_arena_place_call(flashcore_call *call, fc_reason *out_reason);

/* What becomes of such a call without its arena's connection. */
fc_status fc_arena_fail_lost(fc_reason *out_reason);

/* Unmaps it and lets go of all its descriptors. No lock held; not in client->arenas any more. */
void fc_arena_unmap(flashcore_arena *arena);

/* Under the lock: the call carries its tensors itself from now on, and any server may take it. */
void fc_arena_unplace_call(flashcore_call *call);

/* Under the lock, at the call's end. */
void fc_arena_leave(flashcore_call *call);

/* Under the lock: that URL's link of packets is gone. */
void fc_arena_on_side_down(flashcore_client *client, uint32_t url_index);

/* At the client's end: what is left. */
void fc_arena_free_all(flashcore_client *client);

#endif
