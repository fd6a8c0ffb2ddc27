/* Works around a fault of nng before 1.8 (src/core/aio.c): a connection that is closed between two parts of a message
 * it sends hangs for good when it is destroyed, and with it the one thread that destroys connections. Messages have
 * parts where the socket takes less than all of them, and over TLS always.
 *
 * What closes connections is, nearly always, the end of the peer's bytes: so nng is told of that end only when it is
 * between no two parts, by a readv() and an epoll_wait() of the daemon's own, which libnng.so's calls resolve to
 * because the executable comes first in symbol lookup. And once it is told, nothing is sent in parts any more.
 *
 * Built against nng 1.8 or later there is nothing here. Any thread. Connections are known by their descriptors.
 */
#ifndef FC_DAEMON_NNG_GAP_H
#define FC_DAEMON_NNG_GAP_H

#include <stdbool.h>

/* Do libnng.so's calls come here? Not with this nng, or where the program does not export its own. */
bool fc_nng_gap_is_in_effect(void);

/* The connection that had this descriptor is gone, or a new one has it. */
void fc_nng_gap_forget(int fd);

/* nng is told that a part of a message has been sent, and will come back with the next, which closes the gap. False: it
 * has been told of the end: nothing more is to go out in parts, and nobody misses it. */
bool fc_nng_gap_open(int fd);
void fc_nng_gap_close(int fd);

/* May nng be told now that the peer sends no more? True: it is told. Otherwise it must not notice, and asks again. */
bool fc_nng_gap_may_end(int fd);

/* Ends the connection from this side, as if its peer had: closed by nng's own call it could hang. Until it is
 * forgotten; the descriptor must be nng's still. False: not with this nng, or this descriptor. */
bool fc_nng_gap_cut(int fd);

/* A send found nobody at the other end. True: long ago already. Until then the end of the peer's bytes is to come
 * first: nng loses the message that it begins to send while it closes. */
bool fc_nng_gap_is_long_gone(int fd);

/* A new connection has this descriptor, and whoever calls this opens and closes its gaps: over TLS a message's parts
 * are not those the socket sees. */
void fc_nng_gap_take(int fd);

/* For sendmsg(): a send on fd begins. True: its parts are a message's, nobody has taken it. */
bool fc_nng_gap_is_plain(int fd);

#endif
