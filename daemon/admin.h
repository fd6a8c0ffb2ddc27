/* The admin socket: drain, reload, log level and default kernel, for whoever runs the daemon. A SOCK_SEQPACKET socket
 * of its own with mode 0600, the packets of the local channel on it; who connects must be root or the daemon's own
 * user, as the system says (SO_PEERCRED). It carries a few small requests, so it lives on the control loop and answers
 * at once.
 *
 * Loop thread.
 */
#ifndef FC_DAEMON_ADMIN_H
#define FC_DAEMON_ADMIN_H

#include "proto/message.h"

typedef struct fc_admin fc_admin;

/* Does what an admin operation asks. Its status and reason are the answer. */
typedef fc_status (*fc_admin_perform)(void *context, const fc_wire_request *request, fc_reason *out_reason);

/* Is it an operation of this socket's alone? */
bool fc_admin_is_op(fc_op op);

/* Listens at path; a dead daemon's socket is replaced. FC_INVALID_ARGUMENT: the path is too long, or something that is
 * no socket lies there; FC_BUSY: another process serves it; FC_IO, FC_NO_MEMORY. */
fc_status fc_admin_open(const char *path, fc_admin_perform perform, void *context, fc_admin **out_admin,
                        fc_reason *out_reason);

/* Readable when fc_admin_run() has something to do. */
int fc_admin_fd(const fc_admin *admin);
void fc_admin_run(fc_admin *admin);

/* Every 10 ms or so: whom the system would not let in, for want of descriptors, it is asked for again. */
void fc_admin_tick(fc_admin *admin, uint64_t now_ns);

/* Ends the connections, removes the socket. NULL is fine. */
void fc_admin_close(fc_admin *admin);

#endif
