/* Building replies in the transport's own memory and handing them over. Each function that answers takes the request
 * to REPLYING (or, with no memory for a reply, to DONE and drop), after which it is no longer the caller's to touch.
 * Any thread that owns the request.
 */
#ifndef FC_DAEMON_REPLY_H
#define FC_DAEMON_REPLY_H

#include "daemon/dispatch.h"

/* A reply without a body. error: one line, or NULL or "" with FC_OK. retry_after_us: with FC_BUSY. */
void fc_reply_status(fc_dispatch *dispatch, fc_request *request, fc_status status, const char *error,
                     uint64_t retry_after_us);

/* Answers a whole chain alike; chain may be NULL. */
void fc_reply_chain(fc_dispatch *dispatch, fc_request *chain, fc_status status, const char *error);

/* A reply as it stands; its id is filled in here. */
void fc_reply_message(fc_dispatch *dispatch, fc_request *request, fc_wire_reply *reply);

/* Ends a request whose peer is gone. */
void fc_reply_drop(fc_dispatch *dispatch, fc_request *request);

/* Makes room for an attend reply: request->writer then says where out and lse go. FC_NO_MEMORY. The request stays
 * RUNNING and the caller's. */
fc_status fc_reply_attend_begin(fc_request *request, const char *kernel, const char *device);

/* Sends the reply begun, its tensors in place. */
void fc_reply_attend_end(fc_dispatch *dispatch, fc_request *request, const char *kernel, const char *device,
                         const fc_wire_timing *timing);

#endif
