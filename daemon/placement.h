/* Where a request's tensors lie: in its message, or in arenas of its peer. Offsets and sizes are a peer's word: nothing
 * is believed before it is held against the arena.
 *
 * Any thread that owns the request. What is acquired is the request's until fc_placement_release().
 */
#ifndef FC_DAEMON_PLACEMENT_H
#define FC_DAEMON_PLACEMENT_H

#include "daemon/arena_store.h"
#include "proto/message.h"

enum { FC_PLACE_Q, FC_PLACE_K, FC_PLACE_V, FC_PLACE_OUT, FC_PLACE_LSE, FC_PLACE_COUNT };

typedef struct fc_placement {
    fc_arena *arenas[FC_PLACE_COUNT]; /* NULL: not in one. Each is held once, whatever lies there */
    fc_memory_places places;          /* what memory they are, for the engine */
    uint8_t *out;                     /* NULL: goes into the reply */
    float *lse;                       /* likewise */
} fc_placement;

/* Finds the arenas an attend names, checks each place (known to this peer, aligned, inside, outputs apart from all
 * else) and points the attend's tensors there. The attend's tensors have been checked against each other and against
 * the limits. store NULL: there are no arenas. is_local: the way they came by carries no tensor data.
 * FC_INVALID_ARGUMENT, FC_TOO_LARGE, FC_UNSUPPORTED; what was acquired so far is to be released all the same. */
fc_status fc_placement_resolve(fc_arena_store *store, uint64_t peer, bool is_local, fc_wire_attend *attend,
                               fc_placement *out_placement, fc_reason *out_reason);

/* The requests has no more to do with them. {0} is fine. */
void fc_placement_release(fc_placement *placement);

#endif
