/* Works around a fault of nng before 1.8: on ipc, a peer that connects and closes at once makes the handshake's
 * sendmsg() fail with EPIPE, which nng takes for "the listener was closed" and never accepts again. So the daemon
 * brings a sendmsg() of its own, which libnng.so's calls resolve to because the executable comes first in symbol
 * lookup, and which says ECONNRESET instead: nng accepts the next peer after that. Built against nng 1.8 or later there
 * is nothing.
 *
 * Any thread.
 */
#ifndef FC_DAEMON_NNG_LISTENER_FIX_H
#define FC_DAEMON_NNG_LISTENER_FIX_H

#include <stdbool.h>
#include <stdint.h>

/* Does this build's nng need the fix? */
bool fc_nng_listener_fix_is_needed(void);

/* How often the process's sendmsg() was ours: must grow when nng answers a peer on ipc, or the fix is not in effect. */
uint64_t fc_nng_listener_fix_calls(void);

#endif
