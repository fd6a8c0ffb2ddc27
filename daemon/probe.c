/* See probe.h. One query, one key: the softmax of a single score is 1 whatever it is, so the output is v, bit for bit,
 * on every kernel. f16 and head_dim 64 are what every kernel can do. */
#include "daemon/probe.h"

#include "daemon/clock.h"
#include "daemon/request.h"

#include <stdlib.h>
#include <string.h>

#define HEAD_DIM 64
#define MESSAGE_BYTES 1024
#define REPLY_BYTES 1024
/* No connection's: transports count theirs from 1. */
#define PROBE_PEER UINT64_MAX

struct fc_probe {
    fc_request request; /* first: a request's probe is found by its address */
    fc_service *service;
    fc_stats stats; /* of its own, so that nobody takes it for a client's */
    uint16_t q[HEAD_DIM], v[HEAD_DIM];
    uint8_t message[MESSAGE_BYTES];
    size_t message_bytes;
    uint8_t reply[REPLY_BYTES];
    bool is_abandoned; /* by whoever answers: nothing above is to be touched again */
    uint8_t last_reply[REPLY_BYTES];

    uint64_t since_ns; /* loop thread */
    /* Whoever answers writes these, then is_under_way: they are the loop thread's when that is false. */
    uint64_t ended_ns;
    fc_status status;
    atomic_bool is_under_way;
};

static fc_probe *probe_of(fc_request *request)
{
    return (fc_probe *)request;
}

static void end(fc_probe *probe, fc_status status)
{
    probe->status = status;
    probe->ended_ns = fc_clock_now_ns();
    atomic_store(&probe->is_under_way, false);
}

static uint8_t *reply_of(fc_probe *probe)
{
    return probe->is_abandoned ? probe->last_reply : probe->reply;
}

static void *sink_buffer(fc_request *request, size_t capacity_bytes)
{
    return capacity_bytes <= REPLY_BYTES ? reply_of(probe_of(request)) : NULL;
}

static void sink_abandon(fc_request *request)
{
    probe_of(request)->is_abandoned = true;
}

static fc_status judge(fc_probe *probe, size_t size_bytes)
{
    fc_wire_reply reply;
    fc_status st = fc_codec_decode_reply(reply_of(probe), size_bytes, &reply, NULL);
    if (st != FC_OK || reply.status != FC_OK)
        return st != FC_OK ? st : reply.status;
    bool is_right = reply.body == FC_BODY_ATTEND && reply.attend.out.data_bytes == sizeof probe->v &&
                    reply.attend.out.data != NULL && memcmp(reply.attend.out.data, probe->v, sizeof probe->v) == 0;
    return is_right ? FC_OK : FC_BAD_REPLY;
}

static void sink_send(fc_request *request, size_t size_bytes)
{
    fc_probe *probe = probe_of(request);
    fc_status status = judge(probe, size_bytes);
    fc_service_sent(probe->service, request, true);
    end(probe, status);
}

static void sink_drop(fc_request *request, bool is_peer_gone)
{
    (void)is_peer_gone;
    end(probe_of(request), FC_INTERNAL);
}

static const fc_reply_sink SINK = {
    .buffer = sink_buffer, .send = sink_send, .drop = sink_drop, .abandon = sink_abandon};

static fc_wire_tensor tensor(const uint16_t *data)
{
    return (fc_wire_tensor){.dtype = FC_F16,
                            .rank = FC_TENSOR_RANK,
                            .shape = {1, 1, 1, HEAD_DIM},
                            .data = (const uint8_t *)data,
                            .data_bytes = sizeof *data * HEAD_DIM};
}

fc_status fc_probe_create(fc_service *service, fc_probe **out_probe)
{
    fc_probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL)
        return FC_NO_MEMORY;
    probe->service = service;
    fc_stats_init(&probe->stats, fc_clock_now_ns());
    fc_request_init(&probe->request, &SINK);
    probe->request.own_stats = &probe->stats;
    for (int i = 0; i < HEAD_DIM; i++) {
        probe->q[i] = 0x3c00;                     /* 1 */
        probe->v[i] = (uint16_t)(0x3c00 + 7 * i); /* from 1 upwards, all different */
    }
    fc_wire_request request = {.op = FC_OP_ATTEND};
    request.attend = (fc_wire_attend){
        .q = tensor(probe->q), .k = tensor(probe->q), .v = tensor(probe->v), .window_left = -1, .window_right = -1};
    fc_status st = fc_codec_encode_request(&request, NULL, probe->message, MESSAGE_BYTES, &probe->message_bytes);
    if (st != FC_OK) {
        free(probe);
        return st;
    }
    *out_probe = probe;
    return FC_OK;
}

void fc_probe_destroy(fc_probe *probe)
{
    free(probe);
}

void fc_probe_send(fc_probe *probe, uint64_t now_ns)
{
    if (atomic_load(&probe->is_under_way) || probe->is_abandoned)
        return;
    atomic_store(&probe->is_under_way, true);
    probe->since_ns = now_ns;
    fc_service_receive(probe->service, &probe->request, probe->message, probe->message_bytes, PROBE_PEER);
}

void fc_probe_look(const fc_probe *probe, fc_probe_view *out_view)
{
    *out_view = (fc_probe_view){.is_under_way = atomic_load(&probe->is_under_way), .since_ns = probe->since_ns};
    if (out_view->is_under_way)
        return;
    out_view->ended_ns = probe->ended_ns;
    out_view->status = probe->status;
}
