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
