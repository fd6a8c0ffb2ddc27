/* How much of each kind of arena there may be, and who has how much. The owner locks; no I/O.
 */
#ifndef FC_DAEMON_ARENA_QUOTA_H
#define FC_DAEMON_ARENA_QUOTA_H

#include "daemon/stats.h"
#include "proto/vocab.h"

typedef struct fc_arena_quota {
    uint64_t total_bytes;    /* of all peers together; 0: there are no such arenas, */
    const char *why;         /* and why; static */
    uint64_t bytes_per_peer; /* of one connection */
    size_t granule_bytes;    /* sizes are multiples of it, >= 1 */
} fc_arena_quota;

#define FC_ARENAS_PER_PEER 64

/* What one peer, or all of them, have of arenas that are not free yet. */
typedef struct fc_arena_usage {
    uint64_t bytes[FC_ARENA_KIND_COUNT];
    uint32_t count;
} fc_arena_usage;

/* A size a peer asks for, rounded up to whole granules. FC_UNSUPPORTED: there are none of that kind;
 * FC_INVALID_ARGUMENT: 0; FC_TOO_LARGE: nobody has so much. */
fc_status fc_arena_quota_round(const fc_arena_quota *quota, fc_arena_kind kind, uint64_t asked_bytes,
                               uint64_t *out_bytes, fc_reason *out_reason);

/* Sets the bytes of one more arena aside, in both books and the gauges. FC_TOO_LARGE: past a quota, which the reason
 * names, or as many arenas as there may be. */
fc_status fc_arena_quota_charge(const fc_arena_quota *quota, fc_arena_kind kind, uint64_t size_bytes,
                                uint32_t count_max, fc_arena_usage *all, fc_arena_usage *peer, fc_stats *stats,
                                fc_reason *out_reason);
void fc_arena_quota_uncharge(fc_arena_kind kind, uint64_t size_bytes, fc_arena_usage *all, fc_arena_usage *peer,
                             fc_stats *stats);

#endif
