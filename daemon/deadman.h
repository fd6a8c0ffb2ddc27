/* Ends the process when something that may hang takes too long: nng_close() does when peers died at the wrong moment
 * (nng before 1.8), nng's start does when it runs out of memory, and a launch on a broken device does.
 *
 * One at a time, main thread.
 */
#ifndef FC_DAEMON_DEADMAN_H
#define FC_DAEMON_DEADMAN_H

#include "daemon/exit.h"
#include "proto/status.h"

#include <stdint.h>

typedef struct fc_deadman fc_deadman;

/* From now on the process exits with `code`, after logging `what`, when fc_deadman_stop() is not called within
 * timeout_ns. what: a string that stays. FC_NO_MEMORY, FC_INTERNAL: there will be no watch. */
fc_status fc_deadman_start(uint64_t timeout_ns, const char *what, fc_exit code, fc_deadman **out_deadman);

void fc_deadman_stop(fc_deadman *deadman); /* NULL is fine */

#endif
