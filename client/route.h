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
    uint64_t turn_ns;        /* when the last one it refused is to come back; 0: none was */
    uint64_t told_ns;        /* and when it said so */
} fc_route_url;

/* The connected URL with the fewest requests in flight whose bit is not in excluded_mask; among equals the first at or
 * after *cursor, which then moves behind it, so that ties go round. FC_ROUTE_NONE: none is connected. */
uint32_t fc_route_choose(const fc_route_url *urls, uint32_t url_count, uint64_t excluded_mask, uint32_t *cursor);

/* How long a server's word counts: it may have room sooner than it thought, and somebody has to find out. */
#define FC_ROUTE_BELIEF_NS 100000000ull

/* It answered `busy`, and to come back after that time. */
void fc_route_refused(fc_route_url *url, uint64_t retry_after_us, uint64_t now_ns);

/* Would a new request be refused there and, by the server's last word, end before its turn? Turns are given one after
 * the other: a new one's is no sooner than the last. A server spares the work of reading what it refuses anyway. */
bool fc_route_turns_away(const fc_route_url *url, uint64_t deadline_ns, uint64_t now_ns);

/* The connected URLs that do, as a mask. */
uint64_t fc_route_turning_away(const fc_route_url *urls, uint32_t url_count, uint64_t deadline_ns, uint64_t now_ns);

#endif
