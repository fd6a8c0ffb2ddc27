/* Lets so many lines of a kind into the log a second, however many there are to write: strangers, and floods, must not
 * fill it. What is left out is counted. Any thread; the time is an argument.
 */
#ifndef FC_DAEMON_LOG_GATE_H
#define FC_DAEMON_LOG_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct fc_log_gate {
    uint32_t lines_per_s;
    pthread_mutex_t lock; /* guards all below */
    uint64_t second_ns;   /* when the second that is counted began */
    uint32_t line_count;  /* in it */
    uint64_t left_out;    /* since the last line */
} fc_log_gate;

#define FC_LOG_GATE_INITIALIZER(lines)                                                                                 \
    {                                                                                                                  \
        .lines_per_s = (lines), .lock = PTHREAD_MUTEX_INITIALIZER                                                      \
    }
void fc_log_gate_init(fc_log_gate *gate, uint32_t lines_per_s);
void fc_log_gate_fini(fc_log_gate *gate);

/* May a line be written at now_ns? If so *out_left_out says how many were not since the last one. */
bool fc_log_gate_pass(fc_log_gate *gate, uint64_t now_ns, uint64_t *out_left_out);

#endif
