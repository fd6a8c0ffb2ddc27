/* The local channel: beside each ipc:// listener a second UNIX socket, of packets, for callers on this machine. One
 * packet is one message of at most FC_PACKET_BYTES, so nothing has to be framed, matched or put together again; what
 * makes messages long, tensor data, does not travel here. The only file that knows these sockets.
 *
 * Who receives also decodes and admits, and answers what is answered at once. That is an idle lane, where there is
 * one, so that it runs what comes without another thread to be woken for it; else a thread of the channel's own, which
 * also accepts. Other replies leave from the thread that made them, which never waits: a reply the
 * peer's socket does not take stays with its connection until the peer reads, and until then nothing more is received
 * from that peer, so that it can hold no more replies than it had requests under way. One that does not read is cut,
 * in the end, where it is in others' way (unread.h).
 *
 * A peer is a connection; its id is above those of every nng pipe. Descriptors a peer sends are never received: the
 * system refuses them (socket_rights.h), or, an older one, closes them.
 *
 * Threads: loop thread, once each in this order: open, listen (repeated), start; then refuse_peers, is_flushed, close
 * to end.
 */
#ifndef FC_DAEMON_LOCAL_H
#define FC_DAEMON_LOCAL_H

#include "daemon/access.h"
#include "daemon/service.h"

typedef struct fc_local fc_local;

typedef struct fc_local_config {
    fc_service *service;                 /* borrowed until close */
    uint32_t socket_mode;                /* permissions of the sockets, such as 0660; 0: as the umask says */
    uint64_t spin_ns;                    /* how long the thread waits awake for more after something came */
    const fc_socket_owner *socket_owner; /* borrowed until close; NULL: whoever the process is */
} fc_local_config;

/* FC_NO_MEMORY, FC_INTERNAL. Nobody can connect yet. */
fc_status fc_local_open(const fc_local_config *config, fc_local **out_local, fc_reason *out_reason);

/* Listens at the side socket of the listener at ipc_path: "<ipc_path>.local". A dead daemon's file is replaced. On
 * FC_OK *out_path is where, absolute, for hello; it lives until close. FC_INVALID_ARGUMENT: the path would be too long,
 * or something that is no socket lies there; FC_BUSY: another process serves it; FC_IO: the system refused. */
fc_status fc_local_listen(fc_local *local, const char *ipc_path, const char **out_path, fc_reason *out_reason);

/* Starts receiving, also by the service's lanes until close. FC_INTERNAL: no thread. */
fc_status fc_local_start(fc_local *local, fc_reason *out_reason);

/* Ending, step by step: whoever comes finds nobody, soon; the existing connections are still served. */
void fc_local_refuse_peers(fc_local *local);

/* Every reply made so far stands in its peer's socket. Ask again until true, or until patience ends. */
bool fc_local_is_flushed(fc_local *local);

/* Ends the connections, removes the sockets, frees everything. What peers sent before is still answered, what they send
 * after fails at once. After the service is idle or has stopped. NULL is fine. */
void fc_local_close(fc_local *local);

#endif
