/* How a running daemon comes to its end: decides, and does nothing itself. The time and what is seen are passed in.
 *
 *     SERVING --TERM, INT, device lost, pipes leaked--> FINISHING --idle--> FLUSHING --flushed--> OVER
 *                                                            \-- drain-timeout or a second signal --> OVER (cut short)
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
    FC_DRAIN_OVER
} fc_drain_state;

/* Why it ends. A signal is a wish, the others are failures: the exit code tells them apart. */
typedef enum fc_drain_cause { FC_DRAIN_BY_SIGNAL, FC_DRAIN_BY_DEVICE_LOST, FC_DRAIN_BY_PIPES_LEAKED } fc_drain_cause;

typedef enum fc_drain_cut { FC_DRAIN_NOT_CUT, FC_DRAIN_CUT_BY_TIMEOUT, FC_DRAIN_CUT_BY_SIGNAL } fc_drain_cut;

/* Starts as {0}. */
typedef struct fc_drain {
    fc_drain_state state;
    fc_drain_cause cause; /* the first one */
    fc_drain_cut cut;
    bool has_failed; /* any cause was a failure */
    uint32_t signal_count;
    uint64_t deadline_ns;
} fc_drain;

/* Something asks for the end. True: draining begins now, the caller refuses peers and drains the service. A second
 * signal, but not a second failure, cuts it short. */
bool fc_drain_ask(fc_drain *drain, fc_drain_cause cause, uint64_t now_ns, uint64_t timeout_ns);

/* Looks at the world again. Returns the state. */
fc_drain_state fc_drain_step(fc_drain *drain, bool is_idle, bool is_flushed, uint64_t now_ns);

fc_exit fc_drain_exit(const fc_drain *drain);

#endif
