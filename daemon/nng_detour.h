/* The bytes of large messages, past nng's memory: they arrive in, and leave from, memory the GPU copies by itself, so
 * that nobody has to copy them in between.
 *
 * nng's ipc and tcp read a message's body into, and send it from, memory that nng allots, with a readv() and a
 * sendmsg() that are the daemon's own here (nng_gap.h, nng_listener_fix.h). Those may put the bytes elsewhere and take
 * them from elsewhere. nng's memory of such a message stays untouched, but for the beginning, which its protocol looks
 * at. An address in it still names the message: its end does not move, whatever is trimmed off the front. Over TLS nng
 * sends other bytes than the message's, so there is no detour.
 *
 * Every failure is no detour: where no piece is free the message takes nng's way.
 *
 * Whose piece it is: arriving, the connection's; arrived, that of whoever claims it; of a reply, that of whoever took
 * it, until it departs, then the connection's until it has left. The end of a connection, reported to
 * fc_nng_detour_forget(), ends its claims to pieces.
 *
 * Threads: any, but for open and close. Built against nng 1.8 or later there is no detour.
 */
#ifndef FC_DAEMON_NNG_DETOUR_H
#define FC_DAEMON_NNG_DETOUR_H

#include "daemon/pinned_pool.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define FC_NNG_DETOUR_BYTES_MIN (64 << 10) /* shorter messages are quickly copied */

/* From now on messages take it; of_pieces is borrowed until close. */
void fc_nng_detour_open(fc_pinned_pool *of_pieces);

/* None is under way any more that anybody waits for. Claimed and taken pieces have been given back. */
void fc_nng_detour_close(void);

/* The connection that had this descriptor is gone. */
void fc_nng_detour_forget(int fd);

/* Once a second or so: gives back what arrived for connections long gone and nobody claimed. */
void fc_nng_detour_tick(uint64_t now_ns);

/* --- messages ----------------------------------------------------------------------------------------------------- */

/* A message's body by nng, less what was trimmed off its front, from a connection that has this descriptor still. Where
 * its bytes lie, and in *out_piece what the caller is to give back; NULL: there, in nng's memory. */
void *fc_nng_detour_claim(int fd, const void *body, size_t body_bytes, void **out_piece);

/* For a reply on that descriptor. NULL: it is to be written to nng's memory. */
void *fc_nng_detour_take(int fd, size_t size_bytes);

void fc_nng_detour_give_back(void *piece); /* NULL is fine */

/* The message with that body, about to be sent on that descriptor, lies in the piece, which is the connection's from
 * now on. Only before the connection's end is reported. FC_NO_MEMORY: it is the caller's still. */
fc_status fc_nng_detour_depart(int fd, const void *body, size_t body_bytes, void *piece);

/* nng does not send it, and is about to be rid of it. Of a message that does not depart, nothing. */
void fc_nng_detour_recall(const void *body, size_t body_bytes);

fc_memory_place fc_nng_detour_place(void); /* of pieces */
size_t fc_nng_detour_lent_bytes(void);     /* that pieces take now */

/* --- for readv() and sendmsg() ------------------------------------------------------------------------------------ */

typedef ssize_t (*fc_nng_detour_reader)(int fd, const struct iovec *parts, int count);
typedef ssize_t (*fc_nng_detour_sender)(int fd, const struct msghdr *message, int flags);

/* As reader would for nng, but maybe to elsewhere. */
ssize_t fc_nng_detour_read(int fd, const struct iovec *parts, int count, fc_nng_detour_reader reader);

/* All parts of a message together. */
static inline size_t fc_nng_detour_message_bytes(const struct msghdr *message)
{
    size_t size_bytes = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        size_bytes += message->msg_iov[i].iov_len;
    return size_bytes;
}

/* As sender would for nng, but maybe from elsewhere. */
ssize_t fc_nng_detour_send(int fd, const struct msghdr *message, int flags, fc_nng_detour_sender sender);

#endif
