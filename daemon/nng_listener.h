/* One nng listener, from its URL. Loop thread. */
#ifndef FC_DAEMON_NNG_LISTENER_H
#define FC_DAEMON_NNG_LISTENER_H

#include "daemon/access.h"
#include "proto/status.h"

#include <nng/nng.h>
#include <stdint.h>

/* Listens at url: ipc:// with these permissions (0: as the umask says), tcp:// or tls+tcp:// (daemon/nng_tls.h).
 * FC_INVALID_ARGUMENT: not a URL this server can serve; FC_BUSY: somebody listens there; FC_IO, FC_NO_MEMORY. The
 * reason names the URL. */
fc_status fc_nng_listener_open(nng_socket socket, const char *url, uint32_t ipc_mode, nng_listener *out_listener,
                               fc_reason *out_reason);

/* The URL clients dial: tcp port 0 replaced by the port that was given. */
void fc_nng_listener_url(nng_listener listener, const char *url, char *out_url, size_t out_bytes);

/* Is somebody at the other end of a connection's socket still? Also where that cannot be told. Any thread. */
bool fc_nng_listener_has_peer(nng_pipe pipe);

/* Who is at the other end, by nng's word; of one it has none for, neither user nor group is known. *out_fd: the
 * connection's descriptor, nng's as long as its closing has not been reported; -1: not known. */
fc_peer_identity fc_nng_listener_identify(nng_pipe pipe, int *out_fd);

#endif
