/* Links and exchanges on nng's REQ protocol: see link.h. Must never block in a callback, and never let nng resend.
 *
 * Life of an exchange: send, then (once sent) receive; or sleep. A REQ context carries
 * one request; each exchange keeps one per link, opened at first use. Sleeping has an aio of its own: in nng 1.5.2 one
 * that has slept reports later timeouts as success, without a message.
 */
#include "client/link.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RECONNECT_MIN_MS 20
#define RECONNECT_MAX_MS 1000
#define REQ_HEADER_BYTES 4       /* nng counts the request id against RECVMAXSZ */
#define NNG_SIZE_MAX 0xffffffffu /* the largest RECVMAXSZ nng takes */
#define CLOSE_PATIENCE_SECONDS 2
#define IPC_PATH_BYTES_MAX 107 /* sockaddr_un.sun_path less its NUL */

struct fc_link {
    fc_link_options options;
    nng_socket socket;
};

typedef enum exchange_phase { PHASE_SENDING, PHASE_RECEIVING, PHASE_SLEEPING } exchange_phase;

typedef struct link_context {
    nng_ctx context;
    bool is_open;
} link_context;

struct fc_exchange {
    fc_exchange_notify notify;
    void *owner;
    nng_aio *aio, *sleep_aio;
    exchange_phase phase; /* the last one started; the owner's serialisation guards it */
    nng_ctx context;      /* the one in use */
    uint32_t link_count;
    link_context contexts[];
};

static fc_status status_from_nng(int code)
{
    switch (code) {
    case 0:
        return FC_OK;
    case NNG_ENOMEM:
        return FC_NO_MEMORY;
    case NNG_ETIMEDOUT:
        return FC_TIMED_OUT;
    case NNG_ECANCELED:
        return FC_CANCELLED;
    case NNG_ECONNRESET:
    case NNG_ECONNABORTED:
    case NNG_ECLOSED:
    case NNG_ESTATE: /* the connection went down between sending and receiving */
        return FC_CONNECTION_LOST;
    case NNG_EINVAL:
    case NNG_EADDRINVAL:
    case NNG_ENOTSUP:
        return FC_INVALID_ARGUMENT;
    default:
        return FC_IO;
    }
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

fc_status fc_message_create(size_t capacity_bytes, fc_message **out_message)
{
    return nng_msg_alloc(out_message, capacity_bytes) == 0 ? FC_OK : FC_NO_MEMORY;
}

void *fc_message_bytes(fc_message *message, size_t *out_size_bytes)
{
    *out_size_bytes = nng_msg_len(message);
    return nng_msg_body(message);
}

void fc_message_trim(fc_message *message, size_t size_bytes)
{
    nng_msg_chop(message, nng_msg_len(message) - size_bytes);
}

void fc_message_destroy(fc_message *message)
{
    nng_msg_free(message);
}

/* --- links -------------------------------------------------------------------------------------------------------- */

/* ADD_PRE rather than ADD_POST: only it is certain to come before the same pipe's REM_POST. What is sent before the
 * pipe has started waits inside nng until it does. */
static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    fc_link *link = arg;
    link->options.notify(link->options.owner, link->options.index, (uint32_t)nng_pipe_id(pipe),
                         event == NNG_PIPE_EV_ADD_PRE);
}

static size_t receive_limit(size_t reply_bytes_max)
{
    return reply_bytes_max < NNG_SIZE_MAX - REQ_HEADER_BYTES ? reply_bytes_max + REQ_HEADER_BYTES : NNG_SIZE_MAX;
}

/* nng takes any path and then fails to connect for ever. */
static bool is_path_too_long(const char *url)
{
    static const char scheme[] = "ipc://";
    return strncmp(url, scheme, sizeof scheme - 1) == 0 && strlen(url) - (sizeof scheme - 1) > IPC_PATH_BYTES_MAX;
}

static int configure(fc_link *link)
{
    int rv = nng_socket_set_ms(link->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    if (rv == 0)
        rv = nng_socket_set_ms(link->socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
    if (rv == 0)
        rv = nng_socket_set_ms(link->socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    if (rv == 0)
        rv = nng_socket_set_size(link->socket, NNG_OPT_RECVMAXSZ, receive_limit(link->options.reply_bytes_max));
    if (rv == 0)
        rv = nng_pipe_notify(link->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, link);
    if (rv == 0)
        rv = nng_pipe_notify(link->socket, NNG_PIPE_EV_REM_POST, on_pipe, link);
    return rv;
}

fc_status fc_link_open(const fc_link_options *options, fc_link **out_link, fc_reason *out_reason)
{
    if (is_path_too_long(options->url))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "url %.100s...: longer than a socket path can be (%d bytes)",
                       options->url, IPC_PATH_BYTES_MAX);
    fc_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    link->options = *options;
    int rv = nng_req0_open(&link->socket);
    if (rv != 0)
        goto free_link;
    rv = configure(link);
    if (rv != 0)
        goto close_socket;
    rv = nng_dial(link->socket, options->url, NULL, NNG_FLAG_NONBLOCK);
    if (rv != 0)
        goto close_socket;
    *out_link = link;
    return FC_OK;
close_socket:
    nng_close(link->socket);
free_link:
    free(link);
    return fc_fail(status_from_nng(rv), out_reason, "url %.150s: %s", options->url, nng_strerror(rv));
}

static void *close_socket_thread(void *arg)
{
    fc_link *link = arg;
    nng_close(link->socket);
    free(link);
    return NULL;
}

void fc_links_close(fc_link **links, uint32_t count)
{
    struct timespec patience;
    clock_gettime(CLOCK_REALTIME, &patience); /* pthread_timedjoin_np knows no other clock */
    patience.tv_sec += CLOSE_PATIENCE_SECONDS;
    for (uint32_t i = 0; i < count; i++) {
        if (links[i] == NULL)
            continue;
        /* Taking the callbacks away waits for one that runs; none starts afterwards. */
        nng_pipe_notify(links[i]->socket, NNG_PIPE_EV_ADD_PRE, NULL, NULL);
        nng_pipe_notify(links[i]->socket, NNG_PIPE_EV_REM_POST, NULL, NULL);
        pthread_t closer;
        if (pthread_create(&closer, NULL, close_socket_thread, links[i]) != 0)
            close_socket_thread(links[i]);
        else if (pthread_timedjoin_np(closer, NULL, &patience) != 0)
            pthread_detach(closer);
    }
}

/* --- exchanges ---------------------------------------------------------------------------------------------------- */

static nng_duration duration_ms(uint64_t timeout_us)
{
    if (timeout_us == FC_LINK_FOREVER)
        return NNG_DURATION_INFINITE;
    uint64_t ms = timeout_us / 1000 + (timeout_us % 1000 != 0);
    if (ms == 0)
        return 1; /* 0 would mean "fail unless it can be done at once" */
    return ms < INT_MAX ? (nng_duration)ms : INT_MAX;
}

static void on_message(void *arg)
{
    fc_exchange *exchange = arg;
    bool was_sending = exchange->phase == PHASE_SENDING;
    fc_status status = status_from_nng(nng_aio_result(exchange->aio));
    fc_message *message = nng_aio_get_msg(exchange->aio);
    nng_aio_set_msg(exchange->aio, NULL);
    if (was_sending)
        exchange->notify(exchange->owner, status == FC_OK ? FC_EXCHANGE_SENT : FC_EXCHANGE_UNSENT, status,
                         status == FC_OK ? NULL : message);
    else
        exchange->notify(exchange->owner, status == FC_OK ? FC_EXCHANGE_REPLIED : FC_EXCHANGE_BROKEN, status,
                         status == FC_OK ? message : NULL);
}

static void on_sleep(void *arg)
{
    fc_exchange *exchange = arg;
    exchange->notify(exchange->owner, FC_EXCHANGE_WOKE, FC_OK, NULL);
}

fc_status fc_exchange_create(uint32_t link_count, fc_exchange_notify notify, void *owner, fc_exchange **out_exchange)
{
    fc_exchange *exchange = calloc(1, sizeof *exchange + link_count * sizeof exchange->contexts[0]);
    if (exchange == NULL)
        return FC_NO_MEMORY;
    exchange->notify = notify;
    exchange->owner = owner;
    exchange->link_count = link_count;
    if (nng_aio_alloc(&exchange->aio, on_message, exchange) != 0)
        goto free_exchange;
    if (nng_aio_alloc(&exchange->sleep_aio, on_sleep, exchange) != 0)
        goto free_aio;
    *out_exchange = exchange;
    return FC_OK;
free_aio:
    nng_aio_free(exchange->aio);
free_exchange:
    free(exchange);
    return FC_NO_MEMORY;
}

void fc_exchange_destroy(fc_exchange *exchange)
{
    if (exchange == NULL)
        return;
    nng_aio_free(exchange->aio);
    nng_aio_free(exchange->sleep_aio);
    for (uint32_t i = 0; i < exchange->link_count; i++)
        if (exchange->contexts[i].is_open)
            nng_ctx_close(exchange->contexts[i].context);
    free(exchange);
}

fc_status fc_exchange_send(fc_exchange *exchange, fc_link *link, fc_message *message, uint64_t timeout_us)
{
    link_context *slot = &exchange->contexts[link->options.index];
    if (!slot->is_open) {
        int rv = nng_ctx_open(&slot->context, link->socket);
        if (rv != 0)
            return rv == NNG_ENOMEM ? FC_NO_MEMORY : FC_IO;
        slot->is_open = true;
    }
    exchange->context = slot->context;
    exchange->phase = PHASE_SENDING;
    nng_aio_set_timeout(exchange->aio, duration_ms(timeout_us));
    nng_aio_set_msg(exchange->aio, message);
    nng_ctx_send(exchange->context, exchange->aio);
    return FC_OK;
}

void fc_exchange_receive(fc_exchange *exchange, uint64_t timeout_us)
{
    exchange->phase = PHASE_RECEIVING;
    nng_aio_set_timeout(exchange->aio, duration_ms(timeout_us));
    nng_ctx_recv(exchange->context, exchange->aio);
}

void fc_exchange_sleep(fc_exchange *exchange, uint64_t delay_us)
{
    exchange->phase = PHASE_SLEEPING;
    nng_duration ms = duration_ms(delay_us);
    nng_sleep_aio(ms == NNG_DURATION_INFINITE ? INT_MAX : ms, exchange->sleep_aio);
}

void fc_exchange_abort(fc_exchange *exchange)
{
    nng_aio_abort(exchange->phase == PHASE_SLEEPING ? exchange->sleep_aio : exchange->aio, NNG_ECANCELED);
}
