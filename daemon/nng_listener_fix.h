/* Works around faults of nng before 1.8 by a sendmsg() of the daemon's own, which libnng.so's calls resolve to
 * because the executable comes first in symbol lookup. Built against nng 1.8 or later there is nothing here.
 *
 * A peer that connects to an ipc listener and closes at once makes the handshake's sendmsg() fail with EPIPE, which nng
 * takes for "the listener was closed" and never accepts again. Ours says ECONNRESET: nng accepts the next peer.
 *
 * A reply that fails to be sent closes its connection, and when nng happens to be between two parts of another request
 * of that peer, as it mostly is with one that sent several at once and left, the connection's destruction hangs, and
 * with it the one thread that destroys connections: one such peer, and every later connection leaks. Ours tells nng
 * to wait with what goes to a peer that is gone, and after a moment that it was sent. The end of the peer's own bytes
 * then closes the connection, and at that end no request is half read.
 *
 * A peer that dies while nng is between two parts of a large reply hangs it in the same way (nng_gap.h). There are no
 * two parts when a reply is written in one call: ours enlarges a local socket's buffer, and waits a moment for a peer
 * that reads.
 *
 * nng greets whoever connects, before it may be refused; a peer that was greeted sends its first request, and cannot
 * tell that it did not run. Ours can keep greetings back: nng drops such a connection as one that broke.
 *
 * Any thread.
 */
#ifndef FC_DAEMON_NNG_LISTENER_FIX_H
#define FC_DAEMON_NNG_LISTENER_FIX_H

#include "proto/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Does this build's nng need the fixes? */
bool fc_nng_listener_fix_is_needed(void);

/* How often the process's sendmsg() was ours: must grow when nng answers a peer on ipc, or they are not in effect. */
uint64_t fc_nng_listener_fix_calls(void);

/* From now on nobody is greeted, or everybody again. False: not with this nng. */
bool fc_nng_listener_fix_keep_greetings(bool are_kept);

/* For whoever sends greetings that sendmsg() cannot know as such: are they kept back? */
bool fc_nng_listener_fix_keeps_greetings(void);

/* Lets the listener at path answer a handshake: proof that it accepts, and that our sendmsg() is the one it calls (else
 * a warning is logged). FC_IO: it does not answer. */
fc_status fc_nng_listener_fix_probe(const char *path, fc_reason *out_reason);

#endif
