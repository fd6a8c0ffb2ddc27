/* See local.h. A slot goes round
 *
 *     free -> with the service -> (unsent, when the peer's socket is full) -> free
 *
 * and belongs to one of those at a time. A connection lives until its socket has ended and its last slot is back.
 */
#include "daemon/local_inside.h"

#include "daemon/clock.h"
#include "daemon/local_slots.h"
#include "daemon/log.h"
#include "daemon/packet_send.h"
#include "daemon/refusals.h"
#include "daemon/unread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- slots -------------------------------------------------------------------------------------------------------- */

static slot *slot_of(fc_request *request)
{
    return (slot *)request;
}

static void give_slot(fc_local *local, slot *s)
{
    if (fc_local_slots_give(&local->slots, s))
        fc_local_wake(local);
}

void fc_connection_release(connection *c)
{
    if (atomic_fetch_sub(&c->references, 1) != 1)
        return;
    close(c->fd);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void return_slot(slot *s)
{
    connection *from = s->from;
    give_slot(from->local, s);
    fc_connection_release(from);
}

/* --- replies ------------------------------------------------------------------------------------------------------ */

/* Of one that cannot be watched for what it sends the end is told all the same. */
static void watch_for(connection *c, uint32_t what)
{
    struct epoll_event event = {.events = what | EPOLLET, .data.u64 = c->id};
    if (epoll_ctl(c->local->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) != 0)
        shutdown(c->fd, SHUT_RDWR);
}

/* Under c->lock: with replies unsent, room to send is waited for and nothing is received; cut, only the end is. */
static void watch(connection *c)
{
    watch_for(c, c->is_cut ? 0 : c->unsent_since_ns != 0 ? EPOLLOUT : EPOLLIN);
}

/* Without the lock, which a lane that was put aside for the peer that it woke may still hold. What changes meanwhile
 * either shows, or is watched for by whoever changed it, after this. */
void fc_connection_watch(connection *c)
{
    if (c->unsent_since_ns == 0 && !c->is_cut) {
        watch_for(c, EPOLLIN);
        if (c->unsent_since_ns == 0 && !c->is_cut)
            return;
    }
    pthread_mutex_lock(&c->lock);
    watch(c);
    pthread_mutex_unlock(&c->lock);
}

/* Under c->lock: a reply cannot be sent, and whoever waits for it has to learn that. The peer reads the replies that
 * have left, then the end, and closes its own; only then is it gone, and what lies in its arenas with it. One that has
 * left, or only reads no more, is gone at once. */
static void cut(connection *c, bool has_left)
{
    c->is_cut = !has_left;
    shutdown(c->fd, has_left ? SHUT_RDWR : SHUT_WR);
    watch(c);
}

/* Under c->lock. That a peer which was cut takes nothing more does not mean that it has left. */
static fc_packet_sent send_reply(connection *c, const slot *s)
{
    if (c->is_cut)
        return FC_PACKET_BROKEN;
    fc_packet_sent result = fc_packet_send(c->fd, s->out, s->out_bytes, s->request.reply_fds);
    if (result == FC_PACKET_LEFT || result == FC_PACKET_BROKEN)
        cut(c, result == FC_PACKET_LEFT);
    return result;
}

/* Under c->lock. */
static void keep_unsent(connection *c, slot *s)
{
    s->next = NULL;
    if (c->unsent_first != NULL) {
        c->unsent_last->next = s;
        c->unsent_last = s;
    } else {
        c->unsent_first = c->unsent_last = s;
        c->unsent_since_ns = fc_clock_now_ns();
        watch(c);
    }
    atomic_fetch_add(&c->unsent_count, 1);
    if (atomic_fetch_add(&c->local->unsent_count, 1) == 0)
        fc_local_wake(c->local); /* from now on it looks whether they are read */
}

/* Under c->lock. */
static slot *take_unsent(connection *c)
{
    slot *s = c->unsent_first;
    c->unsent_first = s->next;
    c->unsent_since_ns = c->unsent_first != NULL ? fc_clock_now_ns() : 0;
    atomic_fetch_sub(&c->unsent_count, 1);
    atomic_fetch_sub(&c->local->unsent_count, 1);
    return s;
}

/* The request is at its end. */
static void finish(slot *s, bool has_left)
{
    fc_service_sent(s->from->local->config.service, &s->request, has_left);
    return_slot(s);
}

/* Under c->lock: those that will not be sent, for finish_all(). */
static slot *take_all_unsent(connection *c)
{
    slot *first = c->unsent_first;
    while (c->unsent_first != NULL)
        take_unsent(c);
    return first;
}

static void finish_all(slot *first, bool has_left)
{
    for (slot *s = first, *next; s != NULL; s = next) {
        next = s->next;
        finish(s, has_left);
    }
}

static void *sink_buffer(fc_request *request, size_t capacity_bytes)
{
    return capacity_bytes <= FC_PACKET_BYTES ? slot_of(request)->out : NULL;
}

static void sink_send(fc_request *request, size_t size_bytes)
{
    slot *s = slot_of(request);
    connection *c = s->from;
    fc_packet_sent result = FC_PACKET_LEFT;
    s->out_bytes = size_bytes;
    pthread_mutex_lock(&c->lock);
    if (!c->is_gone)
        result = c->unsent_first != NULL ? FC_PACKET_FULL : send_reply(c, s);
    if (result == FC_PACKET_FULL)
        keep_unsent(c, s);
    pthread_mutex_unlock(&c->lock);
    if (result != FC_PACKET_FULL)
        finish(s, result != FC_PACKET_BROKEN); /* to a peer that has left, none is lost */
}

static void sink_drop(fc_request *request, bool is_peer_gone)
{
    slot *s = slot_of(request);
    if (!is_peer_gone) {
        fc_stats_add(s->from->local->stats, FC_COUNT_PIPES_CUT, 1);
        pthread_mutex_lock(&s->from->lock);
        cut(s->from, false);
        pthread_mutex_unlock(&s->from->lock);
    }
    return_slot(s);
}

static const char *sink_side_socket(fc_request *request)
{
    return slot_of(request)->from->via->claim.path;
}

static const fc_reply_sink SINK = {
    .buffer = sink_buffer, .send = sink_send, .drop = sink_drop, .side_socket = sink_side_socket, .is_local = true};

/* --- connections -------------------------------------------------------------------------------------------------- */

void fc_connection_end(connection *c, bool has_left)
{
    fc_local *local = c->local;
    pthread_mutex_lock(&c->lock);
    c->is_gone = true;
    slot *unsent = take_all_unsent(c);
    pthread_mutex_unlock(&c->lock);
    epoll_ctl(local->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    shutdown(c->fd, SHUT_RDWR); /* closing waits for the requests that run */
    pthread_mutex_lock(&local->connections_lock);
    fc_id_table_remove(&local->table, c->id);
    *(c->prev != NULL ? &c->prev->next : &local->connections) = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&local->connections_lock);
    fc_log(FC_LOG_DEBUG, "peer_gone", fc_log_uint("peer", c->id));
    fc_service_peer_gone(local->config.service, c->id);
    finish_all(unsent, has_left);
    fc_stats_add(local->stats, FC_COUNT_LOCAL_CLOSED, 1);
    fc_stats_sub(local->stats, FC_GAUGE_LOCAL, 1);
    fc_connection_release(c);
}

/* False: there is no memory. */
static bool list_connection(connection *c)
{
    fc_local *local = c->local;
    pthread_mutex_lock(&local->connections_lock);
    uint64_t *place = fc_id_table_put(&local->table, c->id);
    if (place != NULL) {
        *place = (uint64_t)(uintptr_t)c;
        c->next = local->connections;
        if (c->next != NULL)
            c->next->prev = c;
        local->connections = c;
    }
    pthread_mutex_unlock(&local->connections_lock);
    return place != NULL;
}

static bool begin_connection(fc_local *local, fc_side_listener *via, uint64_t id, uint64_t owner, int fd)
{
    connection *c = calloc(1, sizeof *c);
    if (c == NULL)
        return false;
    *c = (connection){.local = local, .via = via, .id = id, .owner = owner, .fd = fd};
    struct epoll_event event = {.events = 0, .data.u64 = id};
    if (epoll_ctl(local->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        free(c);
        return false;
    }
    atomic_init(&c->references, 2); /* the list's, and one until it is watched */
    pthread_mutex_init(&c->lock, NULL);
    if (!list_connection(c)) {
        pthread_mutex_destroy(&c->lock);
        free(c);
        return false;
    }
    fc_stats_add(local->stats, FC_COUNT_LOCAL_OPENED, 1);
    fc_stats_add(local->stats, FC_GAUGE_LOCAL, 1);
    fc_log(FC_LOG_DEBUG, "peer_connected", fc_log_uint("peer", id));
    fc_connection_watch(c);
    fc_connection_release(c);
    return true;
}

/* Takes the socket, or closes it. */
static void welcome(fc_local *local, fc_side_listener *via, int fd)
{
    fc_peer_identity who;
    uint64_t id = local->next_id++;
    bool is_let_in = fc_ipc_identify(fd, &who) &&
                     fc_service_peer_open(local->config.service, id, &who) == FC_OK; /* which counts those it refuses */
    if (is_let_in && begin_connection(local, via, id, fc_peer_owner(&who), fd))
        return;
    fc_service_peer_gone(local->config.service, id); /* also one that never was */
    fc_stats_add(local->stats, FC_COUNT_PIPES_REFUSED, is_let_in);
    close(fd);
}

bool fc_local_watch_listeners(fc_local *local, uint32_t events)
{
    bool are_watched = true;
    for (uint32_t i = 0; i < local->listener_count && !local->is_shut; i++) {
        struct epoll_event event = {.events = events, .data.u64 = EVENT_LISTENER + i};
        are_watched &= epoll_ctl(local->io_fd, EPOLL_CTL_MOD, local->listeners[i].fd, &event) == 0;
    }
    return are_watched;
}

void fc_local_accept(fc_local *local, fc_side_listener *via, int most)
{
    for (int i = 0; i < most; i++) {
        int fd = accept4(via->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR || local->is_shut))
            return;
        if (fd < 0) { /* out of descriptors: whoever waits at the door goes on waiting, quietly */
            fc_refusals_log_accept(errno);
            fc_local_watch_listeners(local, 0);
            local->accept_again_ns = fc_clock_now_ns() + RETRY_MS * FC_NS_PER_MS;
            return;
        }
        welcome(local, via, fd);
    }
}

/* Whoever comes finds nobody from now on. Who had connected before is let in: it may have sent something. */
void fc_local_shut(fc_local *local)
{
    local->is_shut = true;
    for (uint32_t i = 0; i < local->listener_count; i++) {
        shutdown(local->listeners[i].fd, SHUT_RD);
        fc_local_accept(local, &local->listeners[i], FC_SIDE_BACKLOG + 1);
        epoll_ctl(local->io_fd, EPOLL_CTL_DEL, local->listeners[i].fd, NULL);
    }
}

static void deliver(connection *c, slot *s, size_t size_bytes)
{
    fc_service *service = c->local->config.service;
    s->from = c;
    atomic_fetch_add(&c->references, 1);
    fc_stats_add(c->local->stats, FC_COUNT_LOCAL_MESSAGES, 1);
    if (size_bytes <= FC_PACKET_BYTES) {
        fc_service_receive(service, &s->request, s->in, size_bytes, c->id);
        return;
    }
    char why[160];
    snprintf(why, sizeof why,
             "%zu bytes; the local channel's limit is %d a message: send it to the listening socket instead",
             size_bytes, FC_PACKET_BYTES);
    fc_service_refuse(service, &s->request, s->in, FC_PACKET_BYTES, c->id, FC_TOO_LARGE, why);
}

static fc_received receive(connection *c)
{
    for (int i = 0; i < RECEIVES_AT_A_TIME; i++) {
        slot *s = fc_local_slots_take(&c->local->slots);
        if (s == NULL)
            return RECEIVED_MORE;
        /* MSG_TRUNC: the packet's own length. No room for descriptors: where they are not refused, they are closed. */
        ssize_t got = recv(c->fd, s->in, sizeof s->in, MSG_DONTWAIT | MSG_TRUNC);
        if (got <= 0) {
            give_slot(c->local, s);
            return got == 0 ? RECEIVED_END : errno == EAGAIN ? RECEIVED_ALL : RECEIVED_MORE;
        }
        deliver(c, s, (size_t)got);
        /* Without the lock: the lane that just answered may still hold it, put aside for the peer that it woke. */
        if (atomic_load(&c->unsent_since_ns) != 0)
            return RECEIVED_ALL; /* as far as it may: what has left is watched for, and then the rest */
    }
    return RECEIVED_MORE;
}

/* A peer that sends from now on knows that nobody gets it; what it sent before is answered. */
void fc_connection_hear_out(connection *c)
{
    shutdown(c->fd, SHUT_RD);
    for (int i = 0; i < RECEIVES_AT_A_TIME && receive(c) == RECEIVED_MORE; i++) {
    }
}

/* The peer reads again. */
static void send_unsent(connection *c)
{
    pthread_mutex_lock(&c->lock);
    slot *first = c->unsent_first, *last = NULL;
    while (c->unsent_first != NULL && send_reply(c, c->unsent_first) == FC_PACKET_SENT)
        last = take_unsent(c);
    watch(c);
    pthread_mutex_unlock(&c->lock);
    if (last != NULL)
        last->next = NULL;
    finish_all(last != NULL ? first : NULL, true);
}

/* Under the hold. */
fc_received fc_connection_serve(connection *c, uint32_t events)
{
    fc_received got = RECEIVED_ALL;
    if ((events & (EPOLLHUP | EPOLLERR)) != 0)
        got = RECEIVED_END;
    if (got != RECEIVED_END && (events & EPOLLOUT) != 0)
        send_unsent(c);
    if (got != RECEIVED_END && (events & EPOLLIN) != 0)
        got = receive(c);
    if (got == RECEIVED_END && !c->is_gone)
        fc_connection_end(c, true);
    return got;
}

static void cut_if_unread(connection *c, uint64_t patience_ns, uint64_t now_ns)
{
    slot *unsent = NULL;
    pthread_mutex_lock(&c->lock);
    if (c->unsent_since_ns != 0 && fc_clock_elapsed_ns(c->unsent_since_ns, now_ns) >= patience_ns) {
        unsent = take_all_unsent(c);
        cut(c, false);
    }
    pthread_mutex_unlock(&c->lock);
    if (unsent == NULL)
        return;
    fc_stats_add(c->local->stats, FC_COUNT_PIPES_CUT, 1);
    fc_refusals_log_cut(c->id, "reads no replies");
    finish_all(unsent, false);
}

/* Replies that nobody reads hold slots, and the end up. */
void fc_local_cut_who_does_not_read(fc_local *local)
{
    fc_unread unread;
    uint64_t now_ns = fc_clock_now_ns();
    if (fc_clock_elapsed_ns(local->looked_ns, now_ns) < RETRY_MS * FC_NS_PER_MS)
        return;
    local->looked_ns = now_ns;
    bool is_wanted = atomic_load(&local->slots.is_starved) || fc_stats_get(local->stats, FC_GAUGE_DRAINING) != 0;
    pthread_mutex_lock(&local->connections_lock);
    fc_unread_init(&unread, fc_service_request_slots(local->config.service), is_wanted);
    for (connection *c = local->connections; c != NULL; c = c->next)
        fc_unread_add(&unread, c->owner, atomic_load(&c->unsent_count));
    for (connection *c = local->connections; c != NULL; c = c->next)
        if (atomic_load(&c->unsent_since_ns) != 0)
            cut_if_unread(c, fc_unread_patience_ns(&unread, c->owner), now_ns);
    pthread_mutex_unlock(&local->connections_lock);
    fc_unread_fini(&unread);
}

/* --- opening and closing ------------------------------------------------------------------------------------------ */

fc_status fc_local_open(const fc_local_config *config, fc_local **out_local, fc_reason *out_reason)
{
    fc_local *local = calloc(1, sizeof *local);
    if (local == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for the local channel");
    local->config = *config;
    local->stats = fc_service_stats(config->service);
    local->next_id = FIRST_PEER_ID;
    local->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    local->io_fd = epoll_create1(EPOLL_CLOEXEC);
    local->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    local->lookout_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fc_local_make_lookout(local);
    fc_local_slots_init(&local->slots, config->service, &SINK);
    pthread_mutex_init(&local->connections_lock, NULL);
    fc_id_table_init(&local->table);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = EVENT_WAKE};
    struct epoll_event lookout = {.events = EPOLLIN, .data.u64 = EVENT_LOOKOUT};
    struct epoll_event connections = {.events = EPOLLIN, .data.u64 = EVENT_CONNECTIONS};
    if (local->epoll_fd < 0 || local->io_fd < 0 || local->wake_fd < 0 || local->lookout_fd < 0 ||
        epoll_ctl(local->io_fd, EPOLL_CTL_ADD, local->wake_fd, &event) != 0 ||
        epoll_ctl(local->io_fd, EPOLL_CTL_ADD, local->epoll_fd, &connections) != 0 ||
        epoll_ctl(local->epoll_fd, EPOLL_CTL_ADD, local->lookout_fd, &lookout) != 0) {
        fc_status st = fc_fail(FC_INTERNAL, out_reason, "the local channel: %s", strerror(errno));
        fc_local_close(local);
        return st;
    }
    *out_local = local;
    return FC_OK;
}

fc_status fc_local_listen(fc_local *local, const char *ipc_path, const char **out_path, fc_reason *out_reason)
{
    fc_side_listener *added = &local->listeners[local->listener_count];
    if (local->listener_count == LISTENERS_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: at most %d sockets can be served", ipc_path,
                       LISTENERS_MAX);
    fc_status st =
        fc_side_listener_open(ipc_path, local->config.socket_mode, local->config.socket_owner, added, out_reason);
    if (st != FC_OK)
        return st;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = EVENT_LISTENER + local->listener_count};
    if (epoll_ctl(local->io_fd, EPOLL_CTL_ADD, added->fd, &event) != 0) {
        st = fc_fail(FC_IO, out_reason, "%s: %s", added->claim.path, strerror(errno));
        fc_side_listener_close(added);
        return st;
    }
    local->listener_count++;
    *out_path = added->claim.path;
    return FC_OK;
}

fc_status fc_local_start(fc_local *local, fc_reason *out_reason)
{
    if (pthread_create(&local->thread, NULL, fc_local_run, local) != 0)
        return fc_fail(FC_INTERNAL, out_reason, "cannot start the local channel's thread");
    local->is_started = true;
    pthread_setname_np(local->thread, "local");
    fc_service_set_lookout(local->config.service, &local->lookout);
    return FC_OK;
}

void fc_local_refuse_peers(fc_local *local)
{
    atomic_store(&local->is_refusing, true);
    fc_local_wake(local);
}

bool fc_local_is_flushed(fc_local *local)
{
    return atomic_load(&local->unsent_count) == 0;
}

void fc_local_close(fc_local *local)
{
    if (local == NULL)
        return;
    if (local->is_started)
        fc_service_set_lookout(local->config.service, NULL);
    atomic_store(&local->is_ending, true);
    if (local->is_started) {
        fc_local_wake(local);
        pthread_join(local->thread, NULL);
    }
    for (uint32_t i = 0; i < local->listener_count; i++)
        fc_side_listener_close(&local->listeners[i]);
    if (local->wake_fd >= 0)
        close(local->wake_fd);
    if (local->lookout_fd >= 0)
        close(local->lookout_fd);
    if (local->io_fd >= 0)
        close(local->io_fd);
    if (local->epoll_fd >= 0)
        close(local->epoll_fd);
    fc_id_table_fini(&local->table);
    pthread_mutex_destroy(&local->connections_lock);
    fc_local_slots_fini(&local->slots);
    free(local);
}
