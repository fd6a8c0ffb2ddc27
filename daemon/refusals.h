/* Connections that may not be, in the log: one line a second, whoever knocks how often. Any thread. Starts as {0}.
 */
#ifndef FC_DAEMON_REFUSALS_H
#define FC_DAEMON_REFUSALS_H

#include "daemon/access.h"

#include <stdatomic.h>

typedef struct fc_refusals {
    atomic_uint_fast64_t logged_ns, count; /* when one was logged last, and how many have come since */
} fc_refusals;

/* status: of fc_service_peer_open(). */
void fc_refusals_log(fc_refusals *refusals, const fc_peer_identity *who, fc_status status);

#endif
