/* Carries messages between peers and the service over nng REP sockets (ipc:// and tcp://). The only user of nng.
 *
 * A context is one request being received, worked on or answered; there are enough of them that a full queue can still
 * say `busy` at once. Receive callbacks decode and admit on nng's threads and never block; replies leave from the
 * thread that made them. A peer is an nng pipe, known by its id.
 *
 * Threads: loop thread, once each in this order: open, listen (repeated), start, then tick, relieve at will;
 * refuse_peers, is_flushed, stop, close to end. NOT fork-safe.
 */
#ifndef FC_DAEMON_TRANSPORT_H
#define FC_DAEMON_TRANSPORT_H

#include "daemon/access.h"
#include "daemon/service.h"

typedef struct fc_transport fc_transport;

typedef struct fc_transport_config {
    fc_service *service;              /* borrowed until close */
    uint64_t message_bytes;           /* larger messages cut the connection they come on */
    uint32_t ipc_mode;                /* permissions of ipc socket files, such as 0660; 0: as the umask says */
    const fc_socket_owner *ipc_owner; /* of those; borrowed until close; NULL: whoever the process is */
    uint32_t pipes_leaked_max;        /* raise FC_EVENT_PIPES_LEAKED past this many; 0: never */
} fc_transport_config;

/* Opens the socket and its contexts; nobody can connect yet. FC_NO_MEMORY, FC_INTERNAL. */
fc_status fc_transport_open(const fc_transport_config *config, fc_transport **out_transport, fc_reason *out_reason);

/* Listens at one more URL. The socket file of a dead daemon is replaced. FC_INVALID_ARGUMENT: not a URL this server can
 * serve; FC_BUSY: another live process serves it, which is left alone; FC_IO: the system refused. The reason names the
 * URL. out_url (may be NULL): the URL clients dial, with tcp port 0 replaced by the port that was given. */
#define FC_TRANSPORT_URL_BYTES 160
fc_status fc_transport_listen(fc_transport *transport, const char *url, char out_url[FC_TRANSPORT_URL_BYTES],
                              fc_reason *out_reason);

/* The local channel's socket beside the listener added last, for hello; borrowed until close. Before start. */
void fc_transport_set_side_socket(fc_transport *transport, const char *path);

/* Starts receiving. */
void fc_transport_start(fc_transport *transport);

/* Takes over another limit, and opens more contexts after the service's queue was enlarged (never fewer).
 * FC_NO_MEMORY: some are missing, the rest work. */
fc_status fc_transport_reconfigure(fc_transport *transport, uint32_t pipes_leaked_max);

/* Once a second or so: counts connections that never finish closing, and gives memory back when large messages have
 * stopped (heap.h). */
void fc_transport_tick(fc_transport *transport, uint64_t now_ns);

/* Every 10 ms or so: cuts connections whose replies wait while contexts run out, or hold more bytes in all than may
 * wait in the queue (readers.h); while the service drains, those of which nothing was taken for some seconds. */
void fc_transport_relieve(fc_transport *transport, uint64_t now_ns);

/* Ending, step by step: new connections are refused before they are greeted, so that whoever comes knows that nothing
 * of it ran; the existing ones are still served. (nng from 1.8 on greets first: there it cannot know.) */
void fc_transport_refuse_peers(fc_transport *transport);

/* Every reply sent so far has been handed to the kernel by the socket library. Ask again until true, or until patience
 * ends: a peer that does not read keeps it false. */
bool fc_transport_is_flushed(fc_transport *transport);

/* Stops receiving and closes the socket; frees everything. After the service is idle or stopped. May hang in the
 * socket library when connections leaked (fc_transport_tick counts them): call it under a watchdog. NULL is fine. */
void fc_transport_close(fc_transport *transport);

#endif
