/* A listening socket of the local channel: where it lies, whose it is, and the claim on its path. Loop thread. */
#ifndef FC_DAEMON_SIDE_LISTENER_H
#define FC_DAEMON_SIDE_LISTENER_H

#include "daemon/access.h"
#include "daemon/ipc_path.h"

#define FC_SIDE_BACKLOG 128

typedef struct fc_side_listener {
    int fd;
    fc_ipc_claim claim; /* its path is the socket's */
} fc_side_listener;

/* Listens for packets at "<ipc_path>.local", with these permissions (0: as the umask says) and this owner (NULL: the
 * process's). Errors as fc_local_listen() has them. */
fc_status fc_side_listener_open(const char *ipc_path, uint32_t mode, const fc_socket_owner *owner,
                                fc_side_listener *out_listener, fc_reason *out_reason);

/* Removes the socket, and lets go of the path. */
void fc_side_listener_close(fc_side_listener *listener);

#endif
