/* A path in the file system that one daemon at a time serves: claimed by a lock on "<path>.lock" before anyone listens
 * there, so that two daemons never fight for one socket file, and a dead one's file is known to be stale.
 *
 * Loop thread. A claim lasts until it is released or the process ends, however it ends.
 */
#ifndef FC_DAEMON_IPC_PATH_H
#define FC_DAEMON_IPC_PATH_H

#include "daemon/access.h"
#include "proto/status.h"

#include <stdint.h>

#define FC_IPC_PATH_BYTES 108 /* sun_path, NUL included */

typedef struct fc_ipc_claim {
    int lock_fd; /* -1: none */
    char path[FC_IPC_PATH_BYTES];
} fc_ipc_claim;

/* Claims path and removes the socket a dead server left there. FC_INVALID_ARGUMENT: empty, too long, or something that
 * is no socket lies there. FC_BUSY: a live process holds the claim or accepts connections there. FC_IO: the system
 * refused. */
fc_status fc_ipc_claim_acquire(const char *path, fc_ipc_claim *out_claim, fc_reason *out_reason);

/* Removes the lock file and lets go. The socket itself is the listener's to remove. Harmless when nothing is held. */
void fc_ipc_claim_release(fc_ipc_claim *claim);

/* path with suffix behind it, made absolute: a socket of ours beside another, whose name peers learn that stand
 * elsewhere. FC_INVALID_ARGUMENT: too long. */
fc_status fc_ipc_path_beside(const char *path, const char *suffix, char out_path[FC_IPC_PATH_BYTES],
                             fc_reason *out_reason);

/* A non-blocking socket of that type (SOCK_SEQPACKET, SOCK_STREAM) that listens at a claimed path with these
 * permissions (0: as the umask says); -1 and errno. Nobody can connect before the permissions are right. */
int fc_ipc_listen(const char *path, int type, uint32_t mode, int backlog);

/* Gives the socket at path to that owner (NULL: it stays the process's). FC_IO: the system refused, which takes more
 * rights than an ordinary user has. */
fc_status fc_ipc_give(const char *path, const fc_socket_owner *owner, fc_reason *out_reason);

/* Who connected. False: the system will not say. Any thread. */
bool fc_ipc_identify(int fd, fc_peer_identity *out_who);

/* Connects to path as an nng REQ peer would and waits at most timeout_ms for the server's half of the handshake. */
bool fc_ipc_path_answers(const char *path, int timeout_ms);

#endif
