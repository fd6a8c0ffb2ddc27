/* Is this daemon worth sending requests to? Decides from what it is shown; no I/O, the time is an argument.
 *
 * Ready: an attention finished on the device not long ago (somebody's, or the self-test, which is sent while nobody's
 * does), no lane has been at one launch for too long, and it is not shutting down.
 */
#ifndef FC_DAEMON_READINESS_H
#define FC_DAEMON_READINESS_H

#include "daemon/clock.h"
#include "daemon/probe.h"

/* The self-test is sent when nothing has finished for so long, and so often: every 2 s, or four times in timeout_ns. */
uint64_t fc_readiness_period_ns(uint64_t timeout_ns);

typedef struct fc_readiness {
    uint64_t asked_ns;     /* when it was last sent */
    fc_probe_view outcome; /* of the last one that ended; ended_ns 0: none has */
} fc_readiness;

typedef struct fc_readiness_view {
    fc_service_pulse pulse;
    fc_probe_view probe;
} fc_readiness_view;

/* Notes what the self-test says. Returns whether one is to be sent now; the caller does so. */
bool fc_readiness_step(fc_readiness *readiness, const fc_readiness_view *view, uint64_t timeout_ns, uint64_t now_ns);

/* timeout_ns: how long nothing may finish, or one launch take. Not ready: the reason is one line that says why. */
bool fc_readiness_judge(const fc_readiness *readiness, const fc_readiness_view *view, uint64_t timeout_ns,
                        uint64_t now_ns, fc_reason *out_reason);

#endif
