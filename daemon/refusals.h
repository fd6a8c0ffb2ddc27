/* Connections that may not be, in the log, where not everybody who knocks gets a line. Any thread.
 */
#ifndef FC_DAEMON_REFUSALS_H
#define FC_DAEMON_REFUSALS_H

#include "daemon/access.h"
#include "daemon/log_gate.h"

/* status: of fc_service_peer_open(). */
void fc_refusals_log(fc_log_gate *gate, const fc_peer_identity *who, fc_status status);

#endif
