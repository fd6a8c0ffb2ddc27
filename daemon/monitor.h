/* What an operator may ask over HTTP: /metrics (Prometheus), /healthz, /readyz.
 *
 * While it is open the service is given a tiny self-test to do whenever nobody else's request has finished for a while
 * (readiness.h). Loop thread. Who asks holds nobody up.
 */
#ifndef FC_DAEMON_MONITOR_H
#define FC_DAEMON_MONITOR_H

#include "daemon/options.h"
#include "daemon/service.h"

typedef struct fc_monitor fc_monitor;

typedef struct fc_monitor_config {
    fc_service *service;         /* borrowed while the loop runs */
    const fc_options *options;   /* likewise; a reload may change them */
    const char *engine, *device; /* names, borrowed until close */
} fc_monitor_config;

/* FC_INVALID_ARGUMENT, FC_BUSY, FC_IO, FC_NO_MEMORY, FC_INTERNAL: the reason names the address. */
fc_status fc_monitor_open(const fc_monitor_config *config, fc_monitor **out_monitor, fc_reason *out_reason);

/* After fc_service_stop(); the service may be gone already, and the loop no longer polls. NULL is fine. */
void fc_monitor_close(fc_monitor *monitor);

/* Where it listens, as a user would write it. */
const char *fc_monitor_address(const fc_monitor *monitor);

/* Readable when fc_monitor_run() has something to do; that returns after how many milliseconds to call it all the same,
 * at most a second or two. */
int fc_monitor_fd(const fc_monitor *monitor);
int64_t fc_monitor_run(fc_monitor *monitor, uint64_t now_ns);

/* Until that time the descriptor would say that there is something to do, and nothing can be done (fc_http_is_stuck()).
 */
bool fc_monitor_is_stuck(const fc_monitor *monitor);

#endif
