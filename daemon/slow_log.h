/* One warning for each request that took longer than the operator wants, with where its time went; a flood of them is
 * thinned out, and counted.
 *
 * Any thread. The time is an argument.
 */
#ifndef FC_DAEMON_SLOW_LOG_H
#define FC_DAEMON_SLOW_LOG_H

#include "daemon/log_gate.h"
#include "daemon/request.h"

#define FC_SLOW_LOG_PER_S 10 /* lines; what is left out is told by the next one */

typedef struct fc_slow_log {
    atomic_uint_fast64_t limit_ns; /* 0: nothing is logged */
    fc_log_gate gate;
} fc_slow_log;

void fc_slow_log_init(fc_slow_log *log, uint64_t limit_ns);
void fc_slow_log_fini(fc_slow_log *log);
void fc_slow_log_set_limit(fc_slow_log *log, uint64_t limit_ns);

/* The request's reply has left at now_ns, or was lost. Cheap for who is fast enough. */
void fc_slow_log_note(fc_slow_log *log, const fc_request *request, uint64_t now_ns);

#endif
