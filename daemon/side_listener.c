/* See side_listener.h. */
#include "daemon/side_listener.h"

#include "daemon/log.h"
#include "daemon/socket_rights.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIDE_SUFFIX ".local"

fc_status fc_side_listener_open(const char *ipc_path, uint32_t mode, const fc_socket_owner *owner,
                                fc_side_listener *out_listener, fc_reason *out_reason)
{
    char path[FC_IPC_PATH_BYTES];
    fc_status st = fc_ipc_path_beside(ipc_path, SIDE_SUFFIX, path, out_reason);
    if (st == FC_OK)
        st = fc_ipc_claim_acquire(path, &out_listener->claim, out_reason);
    if (st != FC_OK)
        return st;
    out_listener->fd = fc_ipc_listen(path, SOCK_SEQPACKET, mode, FC_SIDE_BACKLOG);
    if (out_listener->fd < 0) {
        st = fc_fail(FC_IO, out_reason, "%s: %s", path, strerror(errno));
        fc_ipc_claim_release(&out_listener->claim);
        return st;
    }
    st = fc_ipc_give(path, owner, out_reason);
    if (st != FC_OK)
        fc_side_listener_close(out_listener);
    else if (!fc_socket_rights_are_refused(out_listener->fd))
        fc_log(FC_LOG_WARN, "descriptors_accepted", fc_log_text("path", path),
               fc_log_text("why", "before Linux 6.16 a peer that passes descriptors can stall this server"));
    return st;
}

void fc_side_listener_close(fc_side_listener *listener)
{
    close(listener->fd);
    unlink(listener->claim.path);
    fc_ipc_claim_release(&listener->claim);
}
