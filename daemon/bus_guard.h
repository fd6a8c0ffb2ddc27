/* Shared memory whose pages may not come back. A peer can punch holes into its arena; touching one makes the system
 * find a new page, and where it has none (vm.overcommit_memory=2 and all of it promised, huge pages and all of them
 * taken) it sends SIGBUS, which would end the daemon and everybody's work with it. Here the handler puts a page of
 * zeros of the process's own in the hole instead: the request that touched it goes on and reads zeros, and what it
 * writes there its peer does not see. Only that peer is harmed. Anything else that raises SIGBUS ends the process as
 * ever.
 *
 * A signal's handler knows nothing but globals: the list of guarded memory is one, a fixed table.
 *
 * start: once, before there are threads. add, remove: any thread.
 */
#ifndef FC_DAEMON_BUS_GUARD_H
#define FC_DAEMON_BUS_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False: the system refused; nothing is guarded. */
bool fc_bus_guard_start(void);

/* From now until remove. base and size_bytes: whole pages. What does not fit in the table (FC_BUS_GUARD_MAX) is not
 * guarded. Harmless without a start. */
#define FC_BUS_GUARD_MAX 8192
void fc_bus_guard_add(const void *base, size_t size_bytes);
void fc_bus_guard_remove(const void *base); /* not there: nothing happens */

/* Pages put in so far. */
uint64_t fc_bus_guard_count(void);

#endif
