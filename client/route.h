/* Which URL takes a request. Pure: no state but the caller's cursor, any thread. */
#ifndef FC_CLIENT_ROUTE_H
#define FC_CLIENT_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#define FC_ROUTE_URLS_MAX 64 /* bits of an excluded mask */
#define FC_ROUTE_NONE UINT32_MAX

typedef struct fc_route_url {
    bool is_connected;
    bool is_draining;        /* this connection's server said so; taken only when there is no other */
    uint32_t inflight_count; /* requests handed to it and not answered */
} fc_route_url;

/* The connected URL with the fewest requests in flight whose bit is not in excluded_mask; among equals the first at or
 * after *cursor, which then moves behind it, so that ties go round. FC_ROUTE_NONE: none is connected. */
uint32_t fc_route_choose(const fc_route_url *urls, uint32_t url_count, uint64_t excluded_mask, uint32_t *cursor);

#endif
