/* The control plane: one libuv loop for signals, timers, the supervisor and the way to the end. The only user of
 * libuv. Requests never cross it.
 *
 * TERM and INT drain, HUP reloads, a second TERM or INT cuts the drain short. Every 10 ms it expires deadlines and
 * looks for launches that hang, every second it looks after the transport and tells the supervisor how things stand;
 * half as often as the supervisor's watchdog asks it sends the sign of life, from the loop, so that a stuck loop is
 * noticed.
 *
 * Those signals arrive while the loop runs and on its thread alone: from create to destroy the calling thread, and what
 * threads it starts, have them blocked otherwise. No other wait, of ours or of a library, is interrupted by one.
 *
 * Main thread, except fc_loop_wake().
 */
#ifndef FC_DAEMON_LOOP_H
#define FC_DAEMON_LOOP_H

#include "daemon/admin.h"
#include "daemon/drain.h"
#include "daemon/gpu_watch.h"
#include "daemon/local.h"
#include "daemon/monitor.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/service.h"
#include "daemon/transport.h"

typedef struct fc_loop fc_loop;

typedef struct fc_loop_config {
    fc_service *service;
    fc_transport *transport;
    fc_local *local;
    fc_monitor *monitor;     /* NULL: none */
    fc_gpu_watch *gpu_watch; /* NULL: none */
    const fc_notify *notify;
    const fc_options *options; /* read when it matters: a reload may have changed it */
    /* SIGHUP or an administrator, while serving: reads the configuration again. set: takes over what log_level or
     * default_kernel says. What they return is an administrator's answer; they log themselves. */
    fc_status (*reload)(void *context, fc_reason *out_reason);
    fc_status (*set)(void *context, const fc_wire_request *request, fc_reason *out_reason);
    void *reload_context; /* of both */
    fc_admin *admin;      /* NULL: there is none */
} fc_loop_config;

/* From now on the signals are kept for fc_loop_run(). FC_NO_MEMORY, FC_INTERNAL. */
fc_status fc_loop_create(fc_loop **out_loop, fc_reason *out_reason);

/* The service's on_event; context is the loop. Any thread, any time between create and destroy. */
void fc_loop_wake(void *loop, fc_service_event event);

/* The admin socket's perform; context is the loop, which runs. */
fc_status fc_loop_administer(void *loop, const fc_wire_request *request, fc_reason *out_reason);

/* Serves until asked to end, then drains: returns when every answer has left, or was given up. The service and the
 * transport still stand, and belong to the caller to take down. */
fc_exit fc_loop_run(fc_loop *loop, const fc_loop_config *config);

/* The signals have their default meaning again, except those that came and were not served: they are forgotten. NULL is
 * fine. */
void fc_loop_destroy(fc_loop *loop);

#endif
