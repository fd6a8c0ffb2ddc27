/* See transport.h. A slot is one REP context with its request, its two messages and its two aios; it goes round
 *
 *     receiving -> with the service -> sending -> receiving
 *
 * and belongs to one of those at a time, so it needs no lock. What nng 1.5 does badly is worked around here: the
 * functions concerned say how, and nng_listener_fix.h.
 */
#include "daemon/transport.h"

#include "daemon/clock.h"
#include "daemon/heap.h"
#include "daemon/ipc_path.h"
#include "daemon/listen_policy.h"
#include "daemon/log.h"
#include "daemon/nng_detour.h"
#include "daemon/nng_leaks.h"
#include "daemon/nng_listener.h"
#include "daemon/nng_listener_fix.h"
#include "daemon/nng_readers.h"
#include "daemon/nng_tls.h"
#include "daemon/request.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTENERS_MAX 16
/* RECVMAXSZ counts the request header, 4 bytes and 4 more a device on the way; a message a little too long is still
 * received, so that it can be answered too_large. */
#define HEADER_BYTES 64
/* How long a closed connection may take to disappear before it counts as leaked. */
#define LEAK_AFTER_NS (5 * FC_NS_PER_S)
/* While ending: how long before one is no longer waited for. */
#define STUCK_AFTER_NS (1 * FC_NS_PER_S)

typedef struct slot {
    fc_request request; /* first: a request's slot is found by its address */
    fc_transport *transport;
    nng_ctx ctx;
    nng_aio *recv_aio, *send_aio;
    nng_msg *in, *out;
    void *in_piece, *out_piece; /* where their bytes lie instead (nng_detour.h); NULL: in them */
    nng_pipe pipe;              /* where in came from */
    uint64_t sent_bytes;        /* while sending */
} slot;

typedef enum phase { PHASE_OPEN, PHASE_REFUSING, PHASE_CLOSING } phase;

struct fc_transport {
    fc_transport_config config;
    fc_stats *stats;
    nng_socket socket;
    slot **slots;
    uint32_t slot_count;
    bool is_started, has_tls;
    atomic_int phase;
    fc_heap_watch heap;
    uint32_t listener_count;
    nng_listener listeners[LISTENERS_MAX];
    fc_ipc_claim claims[LISTENERS_MAX]; /* lock_fd -1 where the listener is no ipc one */
    const char *side_sockets[LISTENERS_MAX];

    fc_nng_readers readers; /* the connections */
    fc_nng_leaks leaks;
    fc_id_table gone; /* loop thread: connections without a peer at the last tick */
};

static slot *slot_of(fc_request *request)
{
    return (slot *)request;
}

/* --- one slot's round --------------------------------------------------------------------------------------------- */

static void receive(slot *s)
{
    if (atomic_load(&s->transport->phase) != PHASE_CLOSING)
        nng_ctx_recv(s->ctx, s->recv_aio);
}

static void release_messages(slot *s)
{
    nng_msg_free(s->in);
    nng_msg_free(s->out);
    fc_nng_detour_give_back(s->in_piece);
    fc_nng_detour_give_back(s->out_piece);
    s->in = s->out = NULL;
    s->in_piece = s->out_piece = NULL;
}

static fc_memory_place place_of(const void *piece)
{
    return piece != NULL ? fc_nng_detour_place() : (fc_memory_place){.kind = FC_MEMORY_HOST};
}

static void on_received(void *argument)
{
    slot *s = argument;
    int error = nng_aio_result(s->recv_aio);
    if (error == NNG_ECLOSED || error == NNG_ECANCELED)
        return;
    if (error != 0) {
        receive(s);
        return;
    }
    s->in = nng_aio_get_msg(s->recv_aio);
    nng_aio_set_msg(s->recv_aio, NULL);
    s->pipe = nng_msg_get_pipe(s->in);
    fc_heap_note(&s->transport->heap, nng_msg_len(s->in));
    uint64_t peer = (uint64_t)nng_pipe_id(s->pipe);
    const void *bytes = fc_nng_detour_claim(fc_nng_readers_fd(&s->transport->readers, peer), nng_msg_body(s->in),
                                            nng_msg_len(s->in), &s->in_piece);
    s->request.bytes_place = place_of(s->in_piece);
    fc_stats_add(s->transport->stats, FC_COUNT_PINNED_MESSAGES, s->in_piece != NULL);
    fc_service_receive(s->transport->config.service, &s->request, bytes != NULL ? bytes : nng_msg_body(s->in),
                       nng_msg_len(s->in), peer);
}

static void free_unsent(slot *s)
{
    nng_msg *out = nng_aio_get_msg(s->send_aio);
    if (out != NULL)
        fc_nng_detour_recall(nng_msg_body(out), nng_msg_len(out));
    nng_msg_free(out);
    nng_aio_set_msg(s->send_aio, NULL);
}

static void on_sent(void *argument)
{
    slot *s = argument;
    int error = nng_aio_result(s->send_aio);
    fc_nng_readers_take(&s->transport->readers, (uint64_t)nng_pipe_id(s->pipe), s->sent_bytes);
    if (error != 0)
        free_unsent(s);
    fc_service_sent(s->transport->config.service, &s->request, error == 0);
    receive(s);
}

/* Where neither's bytes lie in nng's memory, the request's message is as good for the reply as a new one, which nng
 * would fill with zeroes. */
static bool reuses_request(slot *s, size_t capacity_bytes)
{
    if (s->in_piece == NULL || s->out_piece == NULL || s->in == NULL || nng_msg_len(s->in) < capacity_bytes)
        return false;
    s->out = s->in;
    s->in = NULL;
    return true;
}

static void *sink_buffer(fc_request *request, size_t capacity_bytes)
{
    slot *s = slot_of(request);
    nng_msg_free(s->out);
    fc_nng_detour_give_back(s->out_piece);
    s->out = NULL;
    s->out_piece = NULL;
    fc_heap_note(&s->transport->heap, capacity_bytes);
    s->out_piece = fc_nng_detour_take(fc_nng_readers_fd(&s->transport->readers, request->item.peer), capacity_bytes);
    request->reply_place = place_of(s->out_piece);
    if (!reuses_request(s, capacity_bytes) && nng_msg_alloc(&s->out, capacity_bytes) != 0)
        return NULL;
    return s->out_piece != NULL ? s->out_piece : nng_msg_body(s->out);
}

/* Its peer may have gone meanwhile: then nng, too, drops the message. */
static void depart(slot *s, nng_msg *out)
{
    if (s->out_piece == NULL)
        return;
    if (fc_nng_readers_depart(&s->transport->readers, s->request.item.peer, nng_msg_body(out), nng_msg_len(out),
                              s->out_piece))
        s->out_piece = NULL;
    else
        memcpy(nng_msg_body(out), s->out_piece, nng_msg_len(out));
}

static void sink_send(fc_request *request, size_t size_bytes)
{
    slot *s = slot_of(request);
    nng_msg *out = s->out;
    nng_msg_chop(out, nng_msg_len(out) - size_bytes);
    depart(s, out);
    s->out = NULL;
    release_messages(s);
    s->sent_bytes = size_bytes;
    fc_nng_readers_give(&s->transport->readers, (uint64_t)nng_pipe_id(s->pipe), size_bytes);
    nng_aio_set_msg(s->send_aio, out);
    nng_ctx_send(s->ctx, s->send_aio);
}

static void sink_drop(fc_request *request, bool is_peer_gone)
{
    slot *s = slot_of(request);
    release_messages(s);
    if (!is_peer_gone)
        fc_nng_readers_cut(&s->transport->readers, (uint64_t)nng_pipe_id(s->pipe));
    receive(s);
}

static void abandon(fc_request *request)
{
    slot_of(request)->in = slot_of(request)->out = NULL;
    slot_of(request)->in_piece = slot_of(request)->out_piece = NULL;
}

static const char *sink_side_socket(fc_request *request)
{
    slot *s = slot_of(request);
    int id = nng_listener_id(nng_pipe_listener(s->pipe));
    for (uint32_t i = 0; i < s->transport->listener_count; i++)
        if (nng_listener_id(s->transport->listeners[i]) == id)
            return s->transport->side_sockets[i];
    return NULL;
}

static const fc_reply_sink SINK = {
    .buffer = sink_buffer, .send = sink_send, .drop = sink_drop, .abandon = abandon, .side_socket = sink_side_socket};

static void slot_destroy(slot *s)
{
    if (s == NULL)
        return;
    /* Stopping waits for callbacks under way; what was being sent is ours again. */
    nng_aio_stop(s->recv_aio);
    nng_aio_stop(s->send_aio);
    nng_msg_free(nng_aio_get_msg(s->recv_aio));
    free_unsent(s);
    release_messages(s);
    nng_ctx_close(s->ctx);
    nng_aio_free(s->recv_aio);
    nng_aio_free(s->send_aio);
    free(s);
}

static slot *slot_create(fc_transport *transport)
{
    slot *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    fc_request_init(&s->request, &SINK);
    s->transport = transport;
    if (nng_aio_alloc(&s->recv_aio, on_received, s) != 0)
        goto free_slot;
    if (nng_aio_alloc(&s->send_aio, on_sent, s) != 0)
        goto free_recv_aio;
    if (nng_ctx_open(&s->ctx, transport->socket) != 0)
        goto free_send_aio;
    nng_aio_set_timeout(s->recv_aio, NNG_DURATION_INFINITE);
    nng_aio_set_timeout(s->send_aio, NNG_DURATION_INFINITE);
    return s;
free_send_aio:
    nng_aio_free(s->send_aio);
free_recv_aio:
    nng_aio_free(s->recv_aio);
free_slot:
    free(s);
    return NULL;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

/* Refusals are counted where they are decided. */
static bool may_open(fc_transport *transport, nng_pipe pipe, const fc_peer_identity *who)
{
    if (atomic_load(&transport->phase) != PHASE_OPEN) {
        fc_stats_add(transport->stats, FC_COUNT_PIPES_REFUSED, 1);
        return false;
    }
    return fc_service_peer_open(transport->config.service, (uint64_t)nng_pipe_id(pipe), who) == FC_OK;
}

static void on_pipe_opening(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    fc_transport *transport = argument;
    (void)event;
    int fd;
    const fc_peer_identity who = fc_nng_listener_identify(pipe, &fd);
    if (!may_open(transport, pipe, &who)) {
        nng_pipe_close(pipe);
        return;
    }
    if (fc_nng_readers_add(&transport->readers, (uint64_t)nng_pipe_id(pipe), fc_peer_owner(&who), fd) != FC_OK) {
        fc_stats_add(transport->stats, FC_COUNT_PIPES_REFUSED, 1);
        fc_service_peer_gone(transport->config.service, (uint64_t)nng_pipe_id(pipe));
        nng_pipe_close(pipe);
        return;
    }
    fc_nng_leaks_opened(&transport->leaks);
    fc_stats_add(transport->stats, FC_COUNT_PIPES_OPENED, 1);
    fc_stats_add(transport->stats, FC_GAUGE_PIPES, 1);
    fc_log(FC_LOG_DEBUG, "peer_connected", fc_log_int("peer", nng_pipe_id(pipe)));
}

static void on_pipe_closed(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    fc_transport *transport = argument;
    (void)event;
    uint64_t peer = (uint64_t)nng_pipe_id(pipe);
    bool was_open = fc_nng_readers_remove(&transport->readers, peer);
    fc_nng_leaks_closed(&transport->leaks, peer, fc_clock_now_ns());
    if (!was_open)
        return;
    fc_stats_add(transport->stats, FC_COUNT_PIPES_CLOSED, 1);
    fc_stats_sub(transport->stats, FC_GAUGE_PIPES, 1);
    fc_log(FC_LOG_DEBUG, "peer_gone", fc_log_uint("peer", peer));
    fc_service_peer_gone(transport->config.service, peer);
}

static void close_pipes(const fc_id_table *ids)
{
    for (size_t i = 0; i < ids->capacity; i++)
        if (ids->entries[i].id != 0)
            nng_pipe_close((nng_pipe){.id = (uint32_t)ids->entries[i].id});
}

static void close_all_pipes(fc_transport *transport)
{
    fc_id_table open = fc_nng_readers_list(&transport->readers);
    close_pipes(&open);
    fc_id_table_fini(&open);
}

/* nng 1.5 forgets a TLS connection that breaks while it waits for neither bytes nor room: later waits go on for ever.
 * Its socket has no peer then, nor the next time: one that has just broken is not disturbed (nng_gap.h). */
static void end_forgotten(fc_transport *transport)
{
    fc_id_table all = fc_nng_readers_list(&transport->readers), gone, dead;
    fc_id_table_init(&gone);
    fc_id_table_init(&dead);
    for (size_t i = 0; i < all.capacity; i++) {
        nng_pipe pipe = {.id = (uint32_t)all.entries[i].id};
        if (pipe.id == 0 || fc_nng_listener_has_peer(pipe))
            continue;
        fc_id_table_put(&gone, pipe.id);
        if (fc_id_table_find(&transport->gone, pipe.id) != NULL)
            fc_id_table_put(&dead, pipe.id);
    }
    fc_id_table_fini(&all);
    fc_id_table_fini(&transport->gone);
    transport->gone = gone;
    close_pipes(&dead);
    fc_id_table_fini(&dead);
}

void fc_transport_tick(fc_transport *transport, uint64_t now_ns)
{
    if (fc_heap_is_at_rest(&transport->heap, now_ns))
        fc_heap_give_back();
    fc_nng_detour_tick(now_ns);
    fc_stats_set(transport->stats, FC_GAUGE_PINNED_MESSAGE_BYTES, fc_nng_detour_lent_bytes());
    if (transport->has_tls) {
        end_forgotten(transport);
        fc_nng_tls_tick(now_ns);
    }
    uint64_t leaked = fc_nng_leaks_count(&transport->leaks, now_ns, LEAK_AFTER_NS);
    if (leaked > fc_stats_get(transport->stats, FC_GAUGE_PIPES_LEAKED))
        fc_log(FC_LOG_WARN, "connections_leaked", fc_log_uint("count", leaked),
               fc_log_uint("limit", transport->config.pipes_leaked_max));
    fc_stats_set(transport->stats, FC_GAUGE_PIPES_LEAKED, leaked);
    if (transport->config.pipes_leaked_max > 0 && leaked > transport->config.pipes_leaked_max)
        fc_service_raise(transport->config.service, FC_EVENT_PIPES_LEAKED);
}

void fc_transport_relieve(fc_transport *transport, uint64_t now_ns)
{
    fc_nng_readers_relieve(&transport->readers, now_ns);
}

void fc_transport_refuse_peers(fc_transport *transport)
{
    int open = PHASE_OPEN;
    if (!fc_nng_listener_fix_keep_greetings(true))
        atomic_compare_exchange_strong(&transport->phase, &open, PHASE_REFUSING);
}

bool fc_transport_is_flushed(fc_transport *transport)
{
    uint64_t now_ns = fc_clock_now_ns();
    bool is_stuck = fc_nng_leaks_count(&transport->leaks, now_ns, STUCK_AFTER_NS) > 0;
    return fc_nng_readers_have_all(&transport->readers, is_stuck, now_ns);
}

/* --- opening and closing ------------------------------------------------------------------------------------------ */

static fc_status open_slots(fc_transport *transport)
{
    uint32_t wanted = fc_service_request_slots(transport->config.service) + FC_NNG_READERS_WAITING_MAX;
    if (wanted <= transport->slot_count)
        return FC_OK;
    slot **slots = realloc(transport->slots, wanted * sizeof *slots);
    if (slots == NULL)
        return FC_NO_MEMORY;
    transport->slots = slots;
    while (transport->slot_count < wanted) {
        slot *s = slot_create(transport);
        if (s == NULL)
            return FC_NO_MEMORY;
        transport->slots[transport->slot_count++] = s;
        if (transport->is_started)
            receive(s);
    }
    return FC_OK;
}

fc_status fc_transport_open(const fc_transport_config *config, fc_transport **out_transport, fc_reason *out_reason)
{
    fc_transport *transport = calloc(1, sizeof *transport);
    if (transport == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for the transport");
    transport->config = *config;
    transport->stats = fc_service_stats(config->service);
    fc_nng_listener_fix_keep_greetings(false);
    fc_nng_readers_init(&transport->readers, transport->stats, config->message_bytes + HEADER_BYTES);
    fc_nng_leaks_init(&transport->leaks);
    fc_id_table_init(&transport->gone);
    int error = nng_rep0_open(&transport->socket);
    if (error != 0) {
        fc_status st = fc_fail(error == NNG_ENOMEM ? FC_NO_MEMORY : FC_INTERNAL, out_reason, "nng socket: %s",
                               nng_strerror(error));
        free(transport);
        return st;
    }
    error = nng_socket_set_size(transport->socket, NNG_OPT_RECVMAXSZ, (size_t)config->message_bytes + HEADER_BYTES);
    if (error == 0)
        error = nng_pipe_notify(transport->socket, NNG_PIPE_EV_ADD_PRE, on_pipe_opening, transport);
    if (error == 0)
        error = nng_pipe_notify(transport->socket, NNG_PIPE_EV_REM_POST, on_pipe_closed, transport);
    if (error == 0 && open_slots(transport) != FC_OK)
        error = NNG_ENOMEM;
    if (error != 0) {
        fc_transport_close(transport);
        return fc_fail(error == NNG_ENOMEM ? FC_NO_MEMORY : FC_INTERNAL, out_reason, "nng socket: %s",
                       nng_strerror(error));
    }
    *out_transport = transport;
    return FC_OK;
}

void fc_transport_set_side_socket(fc_transport *transport, const char *path)
{
    transport->side_sockets[transport->listener_count - 1] = path;
}

void fc_transport_start(fc_transport *transport)
{
    transport->is_started = true;
    for (uint32_t i = 0; i < transport->slot_count; i++)
        receive(transport->slots[i]);
}

fc_status fc_transport_reconfigure(fc_transport *transport, uint32_t pipes_leaked_max)
{
    transport->config.pipes_leaked_max = pipes_leaked_max;
    return open_slots(transport);
}

/* Closes those that came since, too. Is nng still busy with one, reported closed or yet to be, after some time? Nng 1.5
 * never ends one whose close met a part of a large message, or a reply partly sent; others take a moment. */
static bool has_stuck_pipes(fc_transport *transport)
{
    for (int attempt = 0; attempt < 50; attempt++) {
        close_all_pipes(transport);
        fc_nng_leaks_count(&transport->leaks, fc_clock_now_ns(), LEAK_AFTER_NS);
        if (!fc_nng_leaks_are_closing(&transport->leaks) && !fc_nng_readers_are_there(&transport->readers))
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 10 * FC_NS_PER_MS}, NULL);
    }
    return true;
}

void fc_transport_close(fc_transport *transport)
{
    if (transport == NULL)
        return;
    close_all_pipes(transport); /* while what came before is still answered */
    atomic_store(&transport->phase, PHASE_CLOSING);
    bool is_stuck = has_stuck_pipes(transport);
    for (uint32_t i = 0; i < transport->slot_count; i++)
        slot_destroy(transport->slots[i]);
    for (uint32_t i = 0; i < transport->listener_count; i++)
        nng_listener_close(transport->listeners[i]);
    /* With a connection that never ends, closing the socket would never end either: the process's end closes it. Its
     * callbacks go, since what they point to is about to. */
    if (is_stuck) {
        fc_log(FC_LOG_WARN, "close_skipped", fc_log_text("why", "connections that nng never finished closing"));
        nng_pipe_notify(transport->socket, NNG_PIPE_EV_ADD_PRE, NULL, NULL);
        nng_pipe_notify(transport->socket, NNG_PIPE_EV_REM_POST, NULL, NULL);
    } else {
        nng_close(transport->socket);
    }
    for (uint32_t i = 0; i < transport->listener_count; i++)
        fc_ipc_claim_release(&transport->claims[i]);
    free(transport->slots);
    fc_nng_readers_fini(&transport->readers);
    fc_nng_leaks_fini(&transport->leaks);
    fc_id_table_fini(&transport->gone);
    free(transport);
}

/* --- listening ---------------------------------------------------------------------------------------------------- */

fc_status fc_transport_listen(fc_transport *transport, const char *url, char out_url[FC_TRANSPORT_URL_BYTES],
                              fc_reason *out_reason)
{
    fc_ipc_claim claim = {.lock_fd = -1};
    bool is_ipc = strncmp(url, "ipc://", 6) == 0;
    if (transport->listener_count == LISTENERS_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: at most %d URLs can be served", url, LISTENERS_MAX);
    if (is_ipc) {
        fc_status st = fc_ipc_claim_acquire(url + 6, &claim, out_reason);
        if (st != FC_OK)
            return st;
    }
    nng_listener listener;
    fc_status st = fc_nng_listener_open(transport->socket, url, transport->config.ipc_mode, &listener, out_reason);
    if (st == FC_OK && is_ipc) {
        st = fc_ipc_give(url + 6, transport->config.ipc_owner, out_reason);
        if (st == FC_OK)
            st = fc_nng_listener_fix_probe(url + 6, out_reason);
        if (st != FC_OK)
            nng_listener_close(listener);
    }
    if (st != FC_OK) {
        fc_ipc_claim_release(&claim);
        return st;
    }
    if (out_url != NULL)
        fc_nng_listener_url(listener, url, out_url, FC_TRANSPORT_URL_BYTES);
    transport->has_tls = transport->has_tls || fc_listen_policy_is_tls(url);
    transport->listeners[transport->listener_count] = listener;
    transport->claims[transport->listener_count++] = claim;
    return FC_OK;
}
