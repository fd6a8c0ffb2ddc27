/* Connections and message exchanges over nng: the library's only user of nng.
 *
 * A link is one URL: a REQ socket with one dialer that connects and reconnects in the background. An exchange is one
 * request at a time on its way over a link, and the way back of its reply; it can also just sleep. Nothing here
 * retries: nng's own resending is off, and an exchange says truthfully whether its request was handed to a connection
 * (it may run) or was not (it never ran).
 *
 * Threads: notifications arrive on nng's threads, with no lock of nng's held that the functions below need, so they may
 * be called from inside. send, receive, sleep and abort of one exchange must be serialised by the owner (the client's
 * lock); none of them blocks or notifies synchronously.
 */
#ifndef FC_CLIENT_LINK_H
#define FC_CLIENT_LINK_H

#include "proto/status.h"

#include <stdint.h>

typedef struct fc_link fc_link;
typedef struct fc_exchange fc_exchange;
typedef struct nng_msg fc_message; /* bytes on their way; one owner at a time */

#define FC_LINK_FOREVER UINT64_MAX /* a timeout that never passes */

/* capacity_bytes of room; fc_message_trim() cuts to what was used. FC_NO_MEMORY. */
fc_status fc_message_create(size_t capacity_bytes, fc_message **out_message);
void *fc_message_bytes(fc_message *message, size_t *out_size_bytes);
void fc_message_trim(fc_message *message, size_t size_bytes);
void fc_message_destroy(fc_message *message); /* NULL is fine */

/* A connection came up or went down. connection_id is never 0 and unlike every other's in this process at the time;
 * down comes after up of the same connection, and before the next up of the link. */
typedef void (*fc_link_notify)(void *owner, uint32_t link_index, uint32_t connection_id, bool is_up);

typedef struct fc_link_options {
    const char *url;
    uint32_t index; /* handed to notify */
    size_t reply_bytes_max;
    fc_link_notify notify;
    void *owner;
} fc_link_options;

/* Starts connecting to the URL; returns at once. FC_INVALID_ARGUMENT: not a URL nng can dial. FC_NO_MEMORY, FC_IO. */
fc_status fc_link_open(const fc_link_options *options, fc_link **out_link, fc_reason *out_reason);

/* Closes links[count] (entries may be NULL) whose exchanges are destroyed. No notification runs once this returned.
 * Debian 12's nng can hang in closing after a peer died at the wrong moment: what takes longer than two seconds is left
 * to a thread of its own, socket and all. Not from a notification. */
void fc_links_close(fc_link **links, uint32_t count);

typedef enum fc_exchange_event {
    FC_EXCHANGE_SENT,    /* handed to a connection: fc_exchange_receive() next. message NULL */
    FC_EXCHANGE_UNSENT,  /* never handed over; message: the request, the receiver's again */
    FC_EXCHANGE_REPLIED, /* message: the reply, now the receiver's */
    FC_EXCHANGE_BROKEN,  /* no reply will come; it may have run. message NULL */
    FC_EXCHANGE_WOKE     /* sleep ended or was aborted. message NULL */
} fc_exchange_event;

/* status: FC_OK; of UNSENT and BROKEN why: FC_CANCELLED (aborted), FC_TIMED_OUT, FC_CONNECTION_LOST, FC_NO_MEMORY,
 * FC_IO. */
typedef void (*fc_exchange_notify)(void *owner, fc_exchange_event event, fc_status status, fc_message *message);

/* link_count: how many links it will ever be used with (their indices lie below). */
fc_status fc_exchange_create(uint32_t link_count, fc_exchange_notify notify, void *owner, fc_exchange **out_exchange);

/* Waits until a running notification has returned. Nothing may be under way. NULL is fine. Not from a notification. */
void fc_exchange_destroy(fc_exchange *exchange);

/* Each of the three ends in exactly one notification. On FC_OK send owns the message; FC_NO_MEMORY, FC_IO: the caller
 * still does, and nothing will be notified. The timeouts run from the call. */
fc_status fc_exchange_send(fc_exchange *exchange, fc_link *link, fc_message *message, uint64_t timeout_us);
void fc_exchange_receive(fc_exchange *exchange, uint64_t timeout_us);
void fc_exchange_sleep(fc_exchange *exchange, uint64_t delay_us);

/* Ends what is under way early; its notification still comes. Does nothing if that is already on its way. */
void fc_exchange_abort(fc_exchange *exchange);

#endif
