/* Least requests in flight, ties round robin: see route.h. */
#include "client/route.h"

static bool is_better(const fc_route_url *a, const fc_route_url *b)
{
    if (a->is_draining != b->is_draining)
        return b->is_draining;
    return a->inflight_count < b->inflight_count;
}

uint32_t fc_route_choose(const fc_route_url *urls, uint32_t url_count, uint64_t excluded_mask, uint32_t *cursor)
{
    uint32_t best = FC_ROUTE_NONE;
    for (uint32_t step = 0; step < url_count; step++) {
        uint32_t i = (*cursor + step) % url_count;
        if (!urls[i].is_connected || (excluded_mask >> i & 1) != 0)
            continue;
        if (best == FC_ROUTE_NONE || is_better(&urls[i], &urls[best]))
            best = i;
    }
    if (best != FC_ROUTE_NONE)
        *cursor = (best + 1) % url_count;
    return best;
}

void fc_route_refused(fc_route_url *url, uint64_t retry_after_us, uint64_t now_ns)
{
    url->turn_ns = retry_after_us < (UINT64_MAX - now_ns) / 1000 ? now_ns + retry_after_us * 1000 : UINT64_MAX;
    url->told_ns = now_ns;
}

bool fc_route_turns_away(const fc_route_url *url, uint64_t deadline_ns, uint64_t now_ns)
{
    return now_ns < url->turn_ns && now_ns - url->told_ns < FC_ROUTE_BELIEF_NS && deadline_ns <= url->turn_ns &&
           deadline_ns != UINT64_MAX;
}

uint64_t fc_route_turning_away(const fc_route_url *urls, uint32_t url_count, uint64_t deadline_ns, uint64_t now_ns)
{
    uint64_t mask = 0;
    for (uint32_t i = 0; i < url_count; i++)
        if (urls[i].is_connected && fc_route_turns_away(&urls[i], deadline_ns, now_ns))
            mask |= (uint64_t)1 << i;
    return mask;
}
