/* A peer for tests of the service without sockets: sends requests as bytes and waits for the answers.
 */
#ifndef FC_TESTS_REPLY_BOX_H
#define FC_TESTS_REPLY_BOX_H

#include "daemon/request.h"
#include "daemon/service.h"

#include <pthread.h>

/* One request and what became of it. Every field but request is guarded by the lock. */
typedef struct reply_box {
    fc_request request; /* first: a box is found by its request */
    fc_service *service;
    uint8_t *message;      /* the request's bytes, freed as soon as the service has no more use for them */
    uint8_t *buffer;       /* the reply's memory */
    uint8_t *abandoned[2]; /* both, of a request that was given up: kept to the end */
    size_t capacity_bytes, size_bytes;
    bool fails_to_allocate; /* buffer() answers NULL */
    bool keeps_sending;     /* send() does not say sent: reply_box_finish() does */
    uint32_t answer_count;  /* sends and drops */
    bool is_dropped, is_peer_gone;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    fc_wire_reply reply; /* decoded by reply_box_await() */
} reply_box;

void reply_box_init(reply_box *box, fc_service *service);
void reply_box_fini(reply_box *box);

/* Encodes and hands over; kv_len as in fc_codec_encode_request(). send_bytes: any bytes, copied. */
void reply_box_send(reply_box *box, const fc_wire_request *request, const uint32_t *kv_len, uint64_t peer);
void reply_box_send_bytes(reply_box *box, const void *bytes, size_t size_bytes, uint64_t peer);

/* Waits for the answer, decodes it into box->reply, checks that it was the only one, and returns its status;
 * FC_STATUS_COUNT for a drop. */
fc_status reply_box_await(reply_box *box);
bool reply_box_is_answered(reply_box *box);

/* With keeps_sending: the reply has left. */
void reply_box_finish(reply_box *box);

#endif
