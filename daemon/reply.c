/* See reply.h. */
#include "daemon/reply.h"

#include "daemon/log.h"

#include <string.h>

/* No reply can be made: the peer's connection is cut rather than left waiting. */
static void give_up(fc_dispatch *dispatch, fc_request *request)
{
    const fc_reply_sink *sink = request->sink;
    fc_stats_add(request->stats, FC_COUNT_REPLIES_LOST, 1);
    fc_dispatch_end(dispatch, request);
    sink->drop(request, false);
}

static void hand_over(fc_request *request, fc_status status, size_t size_bytes)
{
    atomic_fetch_add_explicit(&request->stats->replies[fc_status_on_wire(status)], 1, memory_order_relaxed);
    fc_stats_add(request->stats, FC_COUNT_BYTES_OUT, size_bytes);
    request->reply_status = fc_status_on_wire(status);
    fc_request_set_state(request, FC_REQUEST_REPLYING);
    request->sink->send(request, size_bytes);
}

void fc_reply_message(fc_dispatch *dispatch, fc_request *request, fc_wire_reply *reply)
{
    reply->id = request->item.id;
    size_t capacity_bytes = fc_codec_reply_bound(reply);
    size_t size_bytes = 0;
    request->reply_buffer = request->sink->buffer(request, capacity_bytes);
    if (request->reply_buffer == NULL) {
        fc_log(FC_LOG_ERROR, "reply_lost", fc_log_uint("peer", request->item.peer), fc_log_uint("id", request->item.id),
               fc_log_text("why", "out of memory"));
        give_up(dispatch, request);
        return;
    }
    fc_status st = fc_codec_encode_reply(reply, request->reply_buffer, capacity_bytes, &size_bytes);
    if (st != FC_OK) {
        fc_log(FC_LOG_ERROR, "reply_lost", fc_log_uint("peer", request->item.peer), fc_log_uint("id", request->item.id),
               fc_log_text("why", fc_status_text(st)));
        give_up(dispatch, request);
        return;
    }
    hand_over(request, reply->status, size_bytes);
}

void fc_reply_status(fc_dispatch *dispatch, fc_request *request, fc_status status, const char *error,
                     uint64_t retry_after_us)
{
    fc_wire_reply reply;
    fc_wire_reply_init(&reply, fc_status_on_wire(status));
    if (status != FC_OK) {
        reply.error = fc_wire_text_make(error != NULL && error[0] != '\0' ? error : fc_status_text(status));
        reply.retry_after_us = status == FC_BUSY ? retry_after_us : 0;
    }
    fc_reply_message(dispatch, request, &reply);
}

void fc_reply_chain(fc_dispatch *dispatch, fc_request *chain, fc_status status, const char *error)
{
    for (fc_request *request = chain, *next; request != NULL; request = next) {
        next = fc_dispatch_next(request);
        fc_reply_status(dispatch, request, status, error, 0);
    }
}

void fc_reply_drop(fc_dispatch *dispatch, fc_request *request)
{
    const fc_reply_sink *sink = request->sink;
    fc_stats_add(request->stats, FC_COUNT_DROPPED, 1);
    fc_dispatch_end(dispatch, request);
    sink->drop(request, true);
}

/* Everything of an attend reply but the timing. */
static void describe(const fc_request *request, const char *kernel, const char *device, fc_wire_reply *out_reply)
{
    const fc_problem *problem = &request->problem;
    fc_wire_reply_init(out_reply, FC_OK);
    out_reply->id = request->item.id;
    out_reply->body = FC_BODY_ATTEND;
    memset(&out_reply->attend, 0, sizeof out_reply->attend);
    out_reply->attend.out = request->attend.q;
    out_reply->attend.out.data = NULL;
    out_reply->attend.out.place = request->attend.out_at;
    out_reply->attend.has_lse = request->attend.wants_lse;
    if (request->attend.wants_lse) {
        out_reply->attend.lse = (fc_wire_tensor){
            .dtype = FC_F32,
            .rank = FC_LSE_RANK,
            .shape = {(uint64_t)problem->batch, (uint64_t)problem->q_heads, (uint64_t)problem->q_len},
            .place = request->attend.lse_at,
            .data_bytes = sizeof(float) * (size_t)problem->batch * (size_t)problem->q_heads * (size_t)problem->q_len,
        };
    }
    out_reply->attend.kernel = fc_wire_text_make(kernel);
    out_reply->attend.device = fc_wire_text_make(device);
}

fc_status fc_reply_attend_begin(fc_request *request, const char *kernel, const char *device)
{
    fc_wire_reply reply;
    describe(request, kernel, device, &reply);
    request->reply_capacity_bytes = fc_codec_reply_bound(&reply);
    request->reply_buffer = request->sink->buffer(request, request->reply_capacity_bytes);
    if (request->reply_buffer == NULL)
        return FC_NO_MEMORY;
    return fc_codec_attend_reply_begin(&reply, request->reply_buffer, request->reply_capacity_bytes, &request->writer);
}

void fc_reply_attend_end(fc_dispatch *dispatch, fc_request *request, const char *kernel, const char *device,
                         const fc_wire_timing *timing)
{
    fc_wire_reply reply;
    size_t size_bytes = 0;
    describe(request, kernel, device, &reply);
    reply.attend.timing = *timing;
    fc_status st = fc_codec_attend_reply_end(&request->writer, &reply, &size_bytes);
    if (st != FC_OK) {
        fc_reply_status(dispatch, request, FC_INTERNAL, "the reply does not fit its own bound", 0);
        return;
    }
    hand_over(request, FC_OK, size_bytes);
}
