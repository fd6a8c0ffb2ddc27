/* The self-test: a tiny attention that the daemon asks itself for, through the queue and a lane like anybody's, and
 * whose answer it knows. Says whether the device still computes when nobody else asks.
 *
 * It is not among the statistics' requests, replies and times. One is under way at a time. Loop thread, but for what
 * the lanes do with it.
 */
#ifndef FC_DAEMON_PROBE_H
#define FC_DAEMON_PROBE_H

#include "daemon/service.h"

typedef struct fc_probe fc_probe;

typedef struct fc_probe_view {
    bool is_under_way;
    uint64_t since_ns; /* when the one under way was sent */
    uint64_t ended_ns; /* when the last one ended; 0: none has */
    fc_status status;  /* of the last one: FC_OK and the right answer; FC_BAD_REPLY: another one; or what it was refused
                        * with */
} fc_probe_view;

/* service: borrowed until its fc_service_stop(). FC_NO_MEMORY. */
fc_status fc_probe_create(fc_service *service, fc_probe **out_probe);

/* After fc_service_stop(): whatever was sent has come back. NULL is fine. */
void fc_probe_destroy(fc_probe *probe);

/* Sends one, unless one is under way. Does not wait for it. */
void fc_probe_send(fc_probe *probe, uint64_t now_ns);

void fc_probe_look(const fc_probe *probe, fc_probe_view *out_view);

#endif
