/* A list of processors as a user writes it, "0-3,8", and threads bound to them.
 *
 * Memory that a bound thread is the first to touch, or has the driver allocate, lies on the node of its processors: so
 * binding lanes and the arenas' keeper places their memory, too. Plain values; any thread.
 */
#ifndef FC_DAEMON_CPU_LIST_H
#define FC_DAEMON_CPU_LIST_H

#include "proto/status.h"

#include <sched.h>
#include <stdint.h>

typedef struct fc_cpu_list {
    uint32_t count; /* 0: anywhere */
    cpu_set_t set;
} fc_cpu_list;

/* Numbers and ranges with commas between, each below CPU_SETSIZE; "": anywhere. FC_INVALID_ARGUMENT: what was expected
 * and what was there. */
fc_status fc_cpu_list_parse(const char *text, fc_cpu_list *out_list, fc_reason *out_reason);

/* Binds the calling thread, and so all threads it starts, until fc_cpu_list_restore() with what it was bound to before.
 * FC_INVALID_ARGUMENT: this process may run on none of them. */
fc_status fc_cpu_list_bind(const fc_cpu_list *list, cpu_set_t *out_before, fc_reason *out_reason);
void fc_cpu_list_restore(const fc_cpu_list *list, const cpu_set_t *before);

#endif
