/* See reply_box.h. */
#include "tests/support/reply_box.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static reply_box *box_of(fc_request *request)
{
    return (reply_box *)request;
}

static void *sink_buffer(fc_request *request, size_t capacity_bytes)
{
    reply_box *box = box_of(request);
    free(box->buffer);
    box->buffer = box->fails_to_allocate ? NULL : malloc(capacity_bytes);
    box->capacity_bytes = capacity_bytes;
    return box->buffer;
}

static void forget_message(reply_box *box)
{
    free(box->message);
    box->message = NULL;
}

/* As a transport does it: the message goes back first, then the request ends; only then is the test told. */
static void sink_send(fc_request *request, size_t size_bytes)
{
    reply_box *box = box_of(request);
    ck_assert_uint_le(size_bytes, box->capacity_bytes);
    forget_message(box);
    if (!box->keeps_sending)
        fc_service_sent(box->service, request, true);
    pthread_mutex_lock(&box->lock);
    box->size_bytes = size_bytes;
    box->answer_count++;
    pthread_cond_broadcast(&box->answered);
    pthread_mutex_unlock(&box->lock);
}

static void sink_drop(fc_request *request, bool is_peer_gone)
{
    reply_box *box = box_of(request);
    forget_message(box);
    pthread_mutex_lock(&box->lock);
    box->is_dropped = true;
    box->is_peer_gone = is_peer_gone;
    box->answer_count++;
    pthread_cond_broadcast(&box->answered);
    pthread_mutex_unlock(&box->lock);
}

static void sink_abandon(fc_request *request)
{
    reply_box *box = box_of(request);
    ck_assert_ptr_null(box->abandoned[0]);
    box->abandoned[0] = box->message;
    box->abandoned[1] = box->buffer;
    box->message = box->buffer = NULL;
}

static const fc_reply_sink SINK = {
    .buffer = sink_buffer, .send = sink_send, .drop = sink_drop, .abandon = sink_abandon};

void reply_box_init(reply_box *box, fc_service *service)
{
    memset(box, 0, sizeof *box);
    box->service = service;
    fc_request_init(&box->request, &SINK);
    pthread_mutex_init(&box->lock, NULL);
    pthread_cond_init(&box->answered, NULL);
}

void reply_box_fini(reply_box *box)
{
    ck_assert_int_eq(box->request.state, FC_REQUEST_DONE);
    forget_message(box);
    free(box->buffer);
    for (int i = 0; i < 2; i++)
        free(box->abandoned[i]);
    pthread_cond_destroy(&box->answered);
    pthread_mutex_destroy(&box->lock);
}

void reply_box_send_bytes(reply_box *box, const void *bytes, size_t size_bytes, uint64_t peer)
{
    forget_message(box);
    box->message = malloc(size_bytes + 1);
    ck_assert_ptr_nonnull(box->message);
    memcpy(box->message, bytes, size_bytes);
    box->answer_count = 0;
    box->is_dropped = box->is_peer_gone = false;
    fc_service_receive(box->service, &box->request, box->message, size_bytes, peer);
}

void reply_box_send(reply_box *box, const fc_wire_request *request, const uint32_t *kv_len, uint64_t peer)
{
    uint32_t kv_len_count = kv_len != NULL ? request->attend.kv_len_count : 0;
    size_t capacity_bytes = fc_codec_request_bound(request, kv_len_count);
    size_t size_bytes = 0;
    uint8_t *bytes = malloc(capacity_bytes);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_int_eq(fc_codec_encode_request(request, kv_len, bytes, capacity_bytes, &size_bytes), FC_OK);
    reply_box_send_bytes(box, bytes, size_bytes, peer);
    free(bytes);
}

bool reply_box_is_answered(reply_box *box)
{
    pthread_mutex_lock(&box->lock);
    bool is_answered = box->answer_count > 0;
    pthread_mutex_unlock(&box->lock);
    return is_answered;
}

fc_status reply_box_await(reply_box *box)
{
    fc_reason reason = {""};
    pthread_mutex_lock(&box->lock);
    while (box->answer_count == 0)
        pthread_cond_wait(&box->answered, &box->lock);
    ck_assert_uint_eq(box->answer_count, 1);
    bool is_dropped = box->is_dropped;
    pthread_mutex_unlock(&box->lock);
    if (is_dropped)
        return FC_STATUS_COUNT;
    fc_status st = fc_codec_decode_reply(box->buffer, box->size_bytes, &box->reply, &reason);
    ck_assert_msg(st == FC_OK, "the reply cannot be decoded: %s", reason.text);
    return box->reply.status;
}

void reply_box_finish(reply_box *box)
{
    fc_service_sent(box->service, &box->request, true);
}
