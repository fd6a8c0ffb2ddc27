/* How a running daemon comes to its end: decides, and does nothing itself. The time and what is seen are passed in.
 *
 *     SERVING --TERM, INT, admin, a failure--> FINISHING --idle--> FLUSHING --flushed--> LINGERING --quiet--> LEAVING
 *                                                 |                                                     --quiet--> OVER
 *                                                 \-- drain-timeout or a second signal --> OVER (cut short)
 *
 * Where the device failed, drain-timeout is not the end yet: what then still runs may never return, and is given up
 * (the caller's to do), and those answers have FC_DRAIN_FAREWELL_NS to leave.
 *
 * It lingers because a request may have been on its way when draining began, half of it read: closing at once would
 * leave its sender with a broken connection instead of the answer that it never started. And it leaves in two steps:
 * first the door is closed (the caller's to do), so that whoever comes finds nobody and has sent nothing; those who had
 * come in have another quiet while for their first request.
 */
#ifndef FC_DAEMON_DRAIN_H
#define FC_DAEMON_DRAIN_H

#include "daemon/exit.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum fc_drain_state {
    FC_DRAIN_SERVING,
    FC_DRAIN_FINISHING, /* nothing new is taken on, what runs goes on */
    FC_DRAIN_FLUSHING,  /* every answer is given, some are still leaving */
    FC_DRAIN_LINGERING, /* all have left; late requests are still answered */
    FC_DRAIN_LEAVING,   /* nobody comes in any more; who is in is still answered */
    FC_DRAIN_OVER
} fc_drain_state;

/* Why it ends. A signal and an administrator are wishes, the others failures: the exit code is the first failure's. */
typedef enum fc_drain_cause {
    FC_DRAIN_BY_SIGNAL,
    FC_DRAIN_BY_ADMIN,
    FC_DRAIN_BY_DEVICE_LOST,
    FC_DRAIN_BY_LAUNCH_HUNG,
    FC_DRAIN_BY_PIPES_LEAKED
} fc_drain_cause;

/* How long nothing may have arrived before it leaves, and before it is over; and how long peers that never stop sending
 * can delay either. */
#define FC_DRAIN_QUIET_NS 50000000u
#define FC_DRAIN_LINGER_MAX_NS 500000000u

/* What answers to requests that were given up may take to leave. */
#define FC_DRAIN_FAREWELL_NS 1000000000u

typedef enum fc_drain_cut { FC_DRAIN_NOT_CUT, FC_DRAIN_CUT_BY_TIMEOUT, FC_DRAIN_CUT_BY_SIGNAL } fc_drain_cut;

/* Starts as {0}. */
typedef struct fc_drain {
    fc_drain_state state;
    fc_drain_cause cause; /* the first one */
    fc_drain_cut cut;
    fc_exit failure; /* the first failure's exit code; FC_EXIT_OK: there was none */
    bool gives_up;   /* what runs is to be given up: true for good, once it is */
    bool is_shut;    /* the door is to be closed: likewise */
    uint32_t signal_count;
    uint64_t deadline_ns;
    uint64_t arrived_count, quiet_since_ns; /* the last change, and when it was seen */
    uint64_t linger_until_ns;               /* 0: has not lingered, or left, yet */
} fc_drain;

/* What there is to see. */
typedef struct fc_drain_view {
    bool is_idle;           /* nothing queued, running or being replied to */
    bool is_flushed;        /* and every reply has left */
    bool is_all_told;       /* whoever came or asked a moment ago knows by now, and asks elsewhere */
    uint64_t arrived_count; /* grows with every request that comes, and with every part of one */
} fc_drain_view;

/* Something asks for the end. True: draining begins now, the caller drains the service. A second
 * signal, but not a second failure, cuts it short. */
bool fc_drain_ask(fc_drain *drain, fc_drain_cause cause, uint64_t now_ns, uint64_t timeout_ns);

/* Looks at the world again. Returns the state. */
fc_drain_state fc_drain_step(fc_drain *drain, const fc_drain_view *view, uint64_t now_ns);

fc_exit fc_drain_exit(const fc_drain *drain);

#endif
