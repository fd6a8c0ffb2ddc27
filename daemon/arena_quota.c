/* See arena_quota.h. */
#include "daemon/arena_quota.h"

/* What the limits of a kind are called, and where it is counted. */
typedef struct kind_row {
    const char *limit, *limit_per_peer;
    fc_stat gauge_count, gauge_bytes;
} kind_row;

static const kind_row KINDS[FC_ARENA_KIND_COUNT] = {
    [FC_ARENA_HOST] = {"arena_bytes", "arena_bytes_per_peer", FC_GAUGE_ARENAS, FC_GAUGE_ARENA_BYTES},
    [FC_ARENA_DEVICE] = {"device_arena_bytes", "device_arena_bytes_per_peer", FC_GAUGE_DEVICE_ARENAS,
                         FC_GAUGE_DEVICE_ARENA_BYTES},
};

fc_status fc_arena_quota_round(const fc_arena_quota *quota, fc_arena_kind kind, uint64_t asked_bytes,
                               uint64_t *out_bytes, fc_reason *out_reason)
{
    if (quota->total_bytes == 0)
        return fc_fail(FC_UNSUPPORTED, out_reason, "kind: this server has no %s arenas: %s", fc_arena_kind_name(kind),
                       quota->why);
    if (asked_bytes == 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "bytes: expected at least 1, got 0");
    if (asked_bytes > INT64_MAX - quota->granule_bytes)
        return fc_fail(FC_TOO_LARGE, out_reason, "bytes: %llu", (unsigned long long)asked_bytes);
    *out_bytes = (asked_bytes + quota->granule_bytes - 1) / quota->granule_bytes * quota->granule_bytes;
    return FC_OK;
}

/* Would it be more than limit? */
static fc_status check(uint64_t held, uint64_t wanted, uint64_t limit, const char *who, const char *name,
                       fc_reason *out_reason)
{
    if (wanted <= limit && held <= limit - wanted)
        return FC_OK;
    return fc_fail(FC_TOO_LARGE, out_reason, "bytes: %llu beside the %llu %s; %s is %llu", (unsigned long long)wanted,
                   (unsigned long long)held, who, name, (unsigned long long)limit);
}

fc_status fc_arena_quota_charge(const fc_arena_quota *quota, fc_arena_kind kind, uint64_t size_bytes,
                                uint32_t count_max, fc_arena_usage *all, fc_arena_usage *peer, fc_stats *stats,
                                fc_reason *out_reason)
{
    const kind_row *row = &KINDS[kind];
    if (peer->count >= FC_ARENAS_PER_PEER)
        return fc_fail(FC_TOO_LARGE, out_reason, "bytes: this connection has %u arenas, and can have no more",
                       peer->count);
    if (all->count >= count_max)
        return fc_fail(FC_TOO_LARGE, out_reason, "bytes: all have %u arenas, and there can be no more", all->count);
    fc_status st = check(peer->bytes[kind], size_bytes, quota->bytes_per_peer, "this connection has",
                         row->limit_per_peer, out_reason);
    if (st == FC_OK)
        st = check(all->bytes[kind], size_bytes, quota->total_bytes, "all have", row->limit, out_reason);
    if (st != FC_OK)
        return st;
    peer->bytes[kind] += size_bytes;
    all->bytes[kind] += size_bytes;
    peer->count++;
    all->count++;
    fc_stats_set(stats, row->gauge_bytes, all->bytes[kind]);
    fc_stats_add(stats, row->gauge_count, 1);
    return FC_OK;
}

void fc_arena_quota_uncharge(fc_arena_kind kind, uint64_t size_bytes, fc_arena_usage *all, fc_arena_usage *peer,
                             fc_stats *stats)
{
    peer->bytes[kind] -= size_bytes;
    all->bytes[kind] -= size_bytes;
    peer->count--;
    all->count--;
    fc_stats_set(stats, KINDS[kind].gauge_bytes, all->bytes[kind]);
    fc_stats_sub(stats, KINDS[kind].gauge_count, 1);
}
