/* Connections and message exchanges: the library's side of nng's REQ protocol, spoken over plain sockets.
 *
 * It is written out here, and not left to nng, for one reason: in nng 1.5.2 (Debian 12) a connection that ends while a
 * large message is partly read or written can block the thread that retires connections, for the whole process and for
 * good; a few kills of a busy server, and no socket of the process reconnects or closes any more. The protocol is
 * small: eight bytes of greeting, then length, request id and body.
 *
 * A net is one thread that reads, reconnects and keeps time for all links of a client, and lets a thread that only
 * waits for one answer do so in its place. A link is one URL, connected in the background and again when lost. An
 * exchange is one request at a time on its way over a link, and the way back of its reply; it can also just sleep.
 * Nothing here retries: an exchange says truthfully whether any byte of its request was written (it may run) or none
 * was (it never ran).
 *
 * Threads: notifications arrive on the net's thread with no lock held (fc_exchange_attend() has one more), so
 * everything below but destroying may be called from inside. Calls on one exchange must be serialised by the owner (the
 * client's lock); none blocks, none notifies synchronously. The order of notifications: a link's coming and going
 * before what became of the exchanges on it.
 */
#ifndef FC_CLIENT_LINK_H
#define FC_CLIENT_LINK_H

#include "proto/status.h"

#include <stdint.h>
#include <time.h>

typedef struct fc_net fc_net;
typedef struct fc_link fc_link;
typedef struct fc_exchange fc_exchange;
typedef struct fc_message fc_message; /* bytes on their way; one owner at a time */

#define FC_LINK_FOREVER UINT64_MAX /* a time that never comes */

/* CLOCK_MONOTONIC; deadlines below are on this clock. */
uint64_t fc_link_now_ns(void);
struct timespec fc_link_timespec(uint64_t time_ns);

/* The next of a sequence that spreads retries; no secret is made of it. state: never 0. xorshift64, Marsaglia 2003. */
static inline uint64_t fc_link_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* capacity_bytes of room; fc_message_trim() cuts to what was used. FC_NO_MEMORY. */
fc_status fc_message_create(size_t capacity_bytes, fc_message **out_message);
void *fc_message_bytes(fc_message *message, size_t *out_size_bytes);
void fc_message_trim(fc_message *message, size_t size_bytes);
/* What came with it, the caller's to close; -1: nothing. */
#define FC_MESSAGE_DESCRIPTORS 2
void fc_message_take_descriptors(fc_message *message, int out_fds[FC_MESSAGE_DESCRIPTORS]);
void fc_message_close_descriptors(fc_message *message);
void fc_message_destroy(fc_message *message); /* NULL is fine */

/* A connection came up or went down: strictly alternating for one link. connection_id is never 0 and unlike every other
 * of the net. */
typedef void (*fc_link_notify)(void *owner, uint32_t link_index, uint32_t connection_id, bool is_up);

typedef struct fc_net_options {
    uint32_t link_max;
    uint64_t spin_ns;            /* how long fc_exchange_attend() waits awake */
    size_t reply_bytes_max;      /* a larger reply breaks the connection */
    struct fc_tls *tls;          /* of tls+tcp links; borrowed; NULL: there are none */
    const char *tls_server_name; /* whose certificates their servers have to show; NULL: the URL's host's. Borrowed */
    fc_link_notify notify;
    void *owner;
} fc_net_options;

/* FC_NO_MEMORY, FC_IO. start: opens for traffic, once all links are there. stop: when it returns, no notification runs
 * or will; exchanges and links can be destroyed then, and the net after them. destroy of NULL is fine. */
fc_status fc_net_create(const fc_net_options *options, fc_net **out_net);
fc_status fc_net_start(fc_net *net);
void fc_net_stop(fc_net *net);
void fc_net_destroy(fc_net *net);

/* ipc:///path, tcp://host:port, tls+tcp://host:port. Host names are resolved here, once. The link is the net's and goes
 * with it. FC_INVALID_ARGUMENT: not such a URL, or no such host; FC_NO_MEMORY. Only before start. */
fc_status fc_link_open(fc_net *net, const char *url, fc_link **out_link, fc_reason *out_reason);

/* A link of packets (PROTOCOL.md 1.3) beside an ipc one: one message a packet, replies known by the id they carry. It
 * connects where it is told to, while `beside` is up, and only to the process that `beside` is connected to. Like
 * fc_link_open(). */
fc_status fc_link_open_packets(fc_net *net, fc_link *beside, fc_link **out_link);

/* Where a link of packets connects from now on, and again when lost; NULL: nowhere, and its connection ends, but for
 * the replies that stand in its socket. On the net's thread. */
void fc_link_aim(fc_link *link, const char *path);

/* Why the link is not up, for people; "" when no attempt has ended yet. FC_UNAUTHORIZED: the other side is there, and
 * one of the two does not trust the other's certificate; else FC_UNREACHABLE. Any thread. */
fc_status fc_link_explain(fc_link *link, fc_reason *out_reason);

typedef enum fc_exchange_event {
    FC_EXCHANGE_UNSENT,  /* nothing was written; message: the request, the receiver's again */
    FC_EXCHANGE_REPLIED, /* message: the reply, now the receiver's */
    FC_EXCHANGE_BROKEN,  /* no reply will come; it may have run. message NULL */
    FC_EXCHANGE_CUT,     /* the connection ended in the middle of the request: it did not run. message NULL */
    FC_EXCHANGE_WOKE     /* sleep ended or was aborted. message NULL */
} fc_exchange_event;

/* status, of UNSENT, BROKEN and CUT: FC_CANCELLED (aborted), FC_TIMED_OUT, FC_CONNECTION_LOST. Else FC_OK. */
typedef void (*fc_exchange_notify)(void *owner, fc_exchange_event event, fc_status status, fc_message *message);

/* FC_NO_MEMORY, also past 65,536 of them in one net. */
fc_status fc_exchange_create(fc_net *net, fc_exchange_notify notify, void *owner, fc_exchange **out_exchange);
void fc_exchange_destroy(fc_exchange *exchange); /* after fc_net_stop(); NULL is fine */

/* The id the next request carries: over a link of packets its reply is known by it. Before send. */
void fc_exchange_set_id(fc_exchange *exchange, uint64_t message_id);

/* Is the thread that sends the next request, or sleeps, going to call fc_exchange_attend() right after it? Before send.
 */
void fc_exchange_set_attended(fc_exchange *exchange, bool is_attended);

/* Does the net's work on the calling thread for as long as no other exchange is under way, so that an answer wakes one
 * thread and not two. Returns once is_over(context), which a notification of this exchange makes true, or earlier,
 * where the net's thread goes on alone. Of notifications of exchanges, only those of this one arrive on the calling
 * thread; those of links may. Not from inside a notification. */
typedef bool (*fc_exchange_is_over)(void *context);
void fc_exchange_attend(fc_exchange *exchange, fc_exchange_is_over is_over, void *context);

/* Each of the two ends in exactly one notification; send takes the message. What can be written at once is written on
 * the calling thread. */
void fc_exchange_send(fc_exchange *exchange, fc_link *link, fc_message *message, uint64_t deadline_ns);
void fc_exchange_sleep(fc_exchange *exchange, uint64_t deadline_ns);

/* Ends what is under way early: its notification comes with FC_CANCELLED. Does nothing when it has ended by itself.
 * recall: only if it was not sent; returns whether it did. */
void fc_exchange_abort(fc_exchange *exchange);
bool fc_exchange_recall(fc_exchange *exchange);

#endif
