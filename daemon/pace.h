/* How fast the lanes get through what waits, seen from outside: from one answer to the next, with everything that the
 * machine does in between. From it follow three things: when to come back, for who is refused; who need not wait, since
 * it would be in vain; and how long before its deadline a request has to start.
 *
 * Those who are refused are told to come back one after the other, as fast as the lanes take requests, each peer on its
 * own: the more wait outside, the later each comes. So the answers of `busy` are about as many as the others at most,
 * however many ask, and the lanes never run dry for want of someone who was sent away for too long.
 *
 * Pure: no locks, no clock; whoever has it locks and passes the time.
 */
#ifndef FC_DAEMON_PACE_H
#define FC_DAEMON_PACE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fc_pace {
    double requests, cost, launches, wall_ns; /* of the last launches; older ones count less and less */
    double launch_ns, launch_spread_ns;       /* a launch, and how far launches are from that, both smoothed */
    uint64_t last_ns;                         /* when the last launch ended; 0: none has */
    bool had_backlog;                         /* and was there more to do then? */
} fc_pace;

typedef struct fc_pace_launch {
    uint64_t start_ns, end_ns;
    uint32_t request_count; /* > 0 */
    uint64_t cost;          /* of them all, as queue.h has it; > 0 */
    uint32_t lane_count;    /* that share the work; > 0 */
    bool has_backlog;       /* requests wait as it ends */
} fc_pace_launch;

#define FC_PACE_RETRY_US_MIN 100
#define FC_PACE_RETRY_US_MAX 10000000

void fc_pace_init(fc_pace *pace);

/* In the order in which they end, or nearly so. */
void fc_pace_ran(fc_pace *pace, const fc_pace_launch *launch);

/* From one answer to the next while there is work. */
uint64_t fc_pace_request_ns(const fc_pace *pace);

/* What the lanes take for work of that cost. 0: nothing has run. */
uint64_t fc_pace_wait_ns(const fc_pace *pace, uint64_t cost);

/* Will a request that arrives now and has left_ns have its answer in time, behind work of that cost? A quarter of its
 * time is kept for the ways there and back and for what nobody foresees, and as much at most for its own launch,
 * however long those of others are. True when nothing is ahead of it. */
bool fc_pace_is_in_time(const fc_pace *pace, uint64_t cost_ahead, uint64_t left_ns);

/* What a launch takes, but for rare ones; 0: none has run. */
uint64_t fc_pace_launch_ns(const fc_pace *pace);

/* When a refused request of a peer is to come back, in microseconds from now, FC_PACE_RETRY_US_MIN to _MAX.
 * *turn_ns: the peer's, when its refused one before this was told to come (0: none); peer_count: that share the lanes,
 * > 0; deadline_ns: the request's. One that cannot come so late is told, and leaves the turn to the next. */
uint64_t fc_pace_retry_us(const fc_pace *pace, uint64_t *turn_ns, uint32_t peer_count, uint64_t deadline_ns,
                          uint64_t now_ns);

#endif
