/* No descriptors in: a peer's sendmsg() with SCM_RIGHTS on a UNIX socket of ours fails, for the peer, with EPERM.
 *
 * Whoever receives a descriptor also closes it, and so does a reader that leaves no room for any: the system closes
 * what came on the reader's thread. Closing a TCP socket may take as long as its SO_LINGER says, which the peer chose,
 * so one packet could stop the thread that all peers of a socket share. Linux has SO_PASSRIGHTS against that
 * since 6.16; before, a daemon is as safe from this as the peers that its sockets' permissions let in are decent.
 *
 * Connections have it from the socket they were accepted on. libnng.so makes its listeners itself, so the process's
 * listen() is ours, as its sendmsg() is (nng_listener_fix.h).
 *
 * Any thread.
 */
#ifndef FC_DAEMON_SOCKET_RIGHTS_H
#define FC_DAEMON_SOCKET_RIGHTS_H

#include <stdbool.h>

/* Are descriptors refused on this UNIX socket? */
bool fc_socket_rights_are_refused(int fd);

#endif
