/* One warning for each request that took longer than the operator wants, with where its time went; a flood of them is
 * thinned out, and counted.
 *
 * Any thread. The time is an argument.
 */
#ifndef FC_DAEMON_SLOW_LOG_H
#define FC_DAEMON_SLOW_LOG_H

#include "daemon/request.h"

#include <pthread.h>

#define FC_SLOW_LOG_PER_S 10 /* lines; what is left out is told by the next one */

typedef struct fc_slow_log {
    atomic_uint_fast64_t limit_ns; /* 0: nothing is logged */
    pthread_mutex_t lock;          /* guards all below */
    uint64_t second_ns;            /* when the second that is counted began */
    uint32_t line_count;           /* in it */
    uint64_t left_out;             /* since the last line */
} fc_slow_log;

void fc_slow_log_init(fc_slow_log *log, uint64_t limit_ns);
void fc_slow_log_fini(fc_slow_log *log);
void fc_slow_log_set_limit(fc_slow_log *log, uint64_t limit_ns);

/* May a line be written at now_ns? If so *out_left_out says how many were not since the last one. */
bool fc_slow_log_admit(fc_slow_log *log, uint64_t now_ns, uint64_t *out_left_out);

/* The request's reply has left at now_ns, or was lost. Cheap for who is fast enough. */
void fc_slow_log_note(fc_slow_log *log, const fc_request *request, uint64_t now_ns);

#endif
