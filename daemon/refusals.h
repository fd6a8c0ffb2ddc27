/* Connections that may not be, or may not stay, in the log, where not each of them gets a line. Any thread.
 */
#ifndef FC_DAEMON_REFUSALS_H
#define FC_DAEMON_REFUSALS_H

#include "daemon/access.h"
#include "daemon/log_gate.h"

/* status: of fc_service_peer_open(). */
void fc_refusals_log(fc_log_gate *gate, const fc_peer_identity *who, fc_status status);

/* One that is cut. Some lines a second. */
void fc_refusals_log_cut(uint64_t peer, const char *why);

/* One that the system would not let in: an errno. A line a second. */
void fc_refusals_log_accept(int error);

#endif
