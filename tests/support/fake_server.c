/* The scripted server: see fake_server.h. */
#include "tests/support/fake_server.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One request at a time; as many are open at once as there are contexts. */
typedef struct fake_context {
    fake_server *server;
    nng_ctx context;
    nng_aio *aio;
    bool is_sending; /* else the aio receives */
    struct fake_context *next;
} fake_context;

/* Contexts rather than a raw socket: in nng 1.5.2 closing a raw one can hang. */
struct fake_server {
    nng_socket socket;
    pthread_t thread;
    fake_script script;
    void *context;
    atomic_uint counts[FC_OP_COUNT];
    fake_context contexts[FAKE_OPEN_MAX];

    pthread_mutex_t lock;
    pthread_cond_t changed;
    fake_context *first, **last; /* with a request for the script */
    bool is_stopping;
};

static void must(int rv, const char *what)
{
    if (rv != 0) {
        fprintf(stderr, "fake server: %s: %s\n", what, nng_strerror(rv));
        abort();
    }
}

static void receive(fake_context *c)
{
    c->is_sending = false;
    nng_ctx_recv(c->context, c->aio);
}

static void on_aio(void *arg)
{
    fake_context *c = arg;
    fake_server *server = c->server;
    int rv = nng_aio_result(c->aio);
    if (c->is_sending) {
        if (rv != 0) /* the client is gone */
            nng_msg_free(nng_aio_get_msg(c->aio));
        receive(c);
    } else if (rv == 0) {
        pthread_mutex_lock(&server->lock);
        c->next = NULL;
        *server->last = c;
        server->last = &c->next;
        pthread_cond_signal(&server->changed);
        pthread_mutex_unlock(&server->lock);
    }
}

static fake_context *pop(fake_server *server)
{
    pthread_mutex_lock(&server->lock);
    while (server->first == NULL && !server->is_stopping)
        pthread_cond_wait(&server->changed, &server->lock);
    fake_context *c = server->first;
    if (c != NULL) {
        server->first = c->next;
        if (server->first == NULL)
            server->last = &server->first;
    }
    pthread_mutex_unlock(&server->lock);
    return c;
}

static void *serve(void *arg)
{
    fake_server *server = arg;
    fake_context *c;
    while ((c = pop(server)) != NULL) {
        fake_request *request = calloc(1, sizeof *request);
        fc_reason reason = {""};
        request->way_back = c;
        request->message = nng_aio_get_msg(c->aio);
        if (fc_codec_decode_request(nng_msg_body(request->message), nng_msg_len(request->message), &request->wire,
                                    &reason) != FC_OK) {
            fprintf(stderr, "fake server: the client sent rubbish: %s\n", reason.text);
            abort();
        }
        server->counts[request->wire.op]++;
        server->script(server->context, request);
    }
    return NULL;
}

fake_server *fake_server_start_narrow(const char *url, int open_max, fake_script script, void *context)
{
    fake_server *server = calloc(1, sizeof *server);
    server->script = script;
    server->context = context;
    server->last = &server->first;
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    must(nng_rep0_open(&server->socket), "open");
    for (int i = 0; i < open_max; i++) {
        fake_context *c = &server->contexts[i];
        c->server = server;
        must(nng_aio_alloc(&c->aio, on_aio, c), "memory");
        must(nng_ctx_open(&c->context, server->socket), "context");
        receive(c);
    }
    must(pthread_create(&server->thread, NULL, serve, server), "thread");
    must(nng_listen(server->socket, url, NULL, 0), url);
    return server;
}

fake_server *fake_server_start(const char *url, fake_script script, void *context)
{
    return fake_server_start_narrow(url, FAKE_OPEN_MAX, script, context);
}

/* Nothing may be inside a context when its socket closes: nng 1.5.2 then uses the socket after freeing it. */
void fake_server_stop(fake_server *server)
{
    if (server == NULL)
        return;
    pthread_mutex_lock(&server->lock);
    server->is_stopping = true;
    pthread_cond_signal(&server->changed);
    pthread_mutex_unlock(&server->lock);
    pthread_join(server->thread, NULL);
    for (int i = 0; i < FAKE_OPEN_MAX; i++)
        nng_aio_stop(server->contexts[i].aio);
    for (fake_context *c = server->first; c != NULL; c = c->next)
        nng_msg_free(nng_aio_get_msg(c->aio));
    nng_close(server->socket);
    for (int i = 0; i < FAKE_OPEN_MAX; i++)
        nng_aio_free(server->contexts[i].aio);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

unsigned fake_server_count(fake_server *server, fc_op op)
{
    return server->counts[op];
}

void fake_discard(fake_request *request)
{
    nng_msg_free(request->message);
    free(request);
}

void fake_answer_bytes(fake_request *request, const void *bytes, size_t size_bytes)
{
    fake_context *c = request->way_back;
    nng_msg *reply;
    must(nng_msg_alloc(&reply, 0), "memory");
    must(nng_msg_append(reply, bytes, size_bytes), "memory");
    fake_discard(request);
    c->is_sending = true;
    nng_aio_set_msg(c->aio, reply);
    nng_ctx_send(c->context, c->aio);
}

void fake_answer(fake_request *request, const fc_wire_reply *reply)
{
    size_t size_bytes = fc_codec_reply_bound(reply);
    void *bytes = malloc(size_bytes);
    must(fc_codec_encode_reply(reply, bytes, size_bytes, &size_bytes), "encode");
    fake_answer_bytes(request, bytes, size_bytes);
    free(bytes);
}

void fake_answer_status(fake_request *request, fc_status status, uint64_t retry_after_us)
{
    fc_wire_reply reply = {.id = request->wire.id, .status = status, .retry_after_us = retry_after_us};
    if (status != FC_OK)
        reply.error = (fc_wire_text){"as scripted", 11};
    fake_answer(request, &reply);
}

uint64_t fake_row_count(const fake_request *request)
{
    const fc_wire_tensor *q = &request->wire.attend.q;
    return q->shape[0] * q->shape[1] * q->shape[2];
}

fc_wire_reply fake_attend_reply(const fake_request *request, float *lse)
{
    const fc_wire_attend *asked = &request->wire.attend;
    fc_wire_reply reply = {.id = request->wire.id, .status = FC_OK, .body = FC_BODY_ATTEND};
    for (uint64_t i = 0; i < fake_row_count(request); i++)
        lse[i] = (float)i;
    reply.attend.out = asked->q;
    reply.attend.has_lse = asked->wants_lse;
    reply.attend.lse = (fc_wire_tensor){.dtype = FC_F32,
                                        .rank = FC_LSE_RANK,
                                        .shape = {asked->q.shape[0], asked->q.shape[1], asked->q.shape[2]},
                                        .data = (const uint8_t *)lse,
                                        .data_bytes = fake_row_count(request) * sizeof *lse};
    reply.attend.kernel = fc_wire_text_make("fake");
    reply.attend.device = fc_wire_text_make("none");
    reply.attend.timing = (fc_wire_timing){1, 2, 3, 4, 20, 5};
    return reply;
}

void fake_answer_well(fake_request *request)
{
    fc_wire_reply reply = {.id = request->wire.id, .status = FC_OK};
    float *lse = NULL;
    switch (request->wire.op) {
    case FC_OP_ATTEND:
        lse = malloc((fake_row_count(request) + 1) * sizeof *lse);
        reply = fake_attend_reply(request, lse);
        break;
    case FC_OP_HELLO:
        reply.body = FC_BODY_HELLO;
        reply.hello.server = fc_wire_text_make("fake");
        reply.hello.version = fc_wire_text_make("1");
        reply.hello.default_kernel = fc_wire_text_make("cpu");
        reply.hello.device = fc_wire_text_make("none");
        reply.hello.kernel_count = 2;
        reply.hello.kernels[0] = fc_wire_text_make("cpu");
        reply.hello.kernels[1] = fc_wire_text_make("reference");
        reply.hello.limits.message_bytes = 1 << 20;
        break;
    case FC_OP_STATS:
        reply.body = FC_BODY_STATS;
        reply.stats.counter_count = 2;
        reply.stats.counters[0] = (fc_wire_counter){fc_wire_text_make("requests"), 3};
        reply.stats.counters[1] = (fc_wire_counter){fc_wire_text_make("uptime_s"), 0.5};
        break;
    case FC_OP_PING:
    case FC_OP_CANCEL:
    case FC_OP_ARENA_CREATE:
    case FC_OP_ARENA_DESTROY:
    case FC_OP_DRAIN:
    case FC_OP_RELOAD:
    case FC_OP_LOG_LEVEL:
    case FC_OP_DEFAULT_KERNEL:
    case FC_OP_COUNT:
        break;
    }
    fake_answer(request, &reply);
    free(lse);
}
