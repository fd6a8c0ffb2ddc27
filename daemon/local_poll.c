/* See local_inside.h. Two poll sets: the connections', and the I/O thread's, in which the former is watched only while
 * no lane is at the lookout. So what comes wakes either that lane or the I/O thread, and what takes the lane away from
 * there is one call to the system, which wakes nobody.
 */
#include "daemon/local_inside.h"

#include "daemon/clock.h"

#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_AT_A_TIME 64
#define LANE_EVENTS_AT_A_TIME 16 /* what a lane has taken on waits for it */

void fc_local_wake(fc_local *local)
{
    uint64_t one = 1;
    (void)!write(local->wake_fd, &one, sizeof one); /* fails only when the counter is full, and then it wakes too */
}

/* NULL: it has ended meanwhile. */
static connection *find_connection(fc_local *local, uint64_t id)
{
    pthread_mutex_lock(&local->connections_lock);
    connection *c = fc_id_table_find_object(&local->table, id);
    if (c != NULL)
        atomic_fetch_add(&c->references, 1);
    pthread_mutex_unlock(&local->connections_lock);
    return c;
}

/* True: it is the caller's. */
static bool hold(connection *c)
{
    int state = HOLD_FREE;
    return atomic_compare_exchange_strong(&c->hold, &state, HOLD_TAKEN) ||
           (atomic_exchange(&c->hold, HOLD_MISSED) == HOLD_FREE);
}

static void on_connection(fc_local *local, const struct epoll_event *event)
{
    connection *c = find_connection(local, event->data.u64);
    if (c == NULL)
        return;
    if (hold(c)) {
        fc_received got = fc_connection_serve(c, event->events);
        bool has_missed = atomic_exchange(&c->hold, HOLD_FREE) == HOLD_MISSED;
        if (got != RECEIVED_END && (got == RECEIVED_MORE || has_missed))
            fc_connection_watch(c);
    }
    fc_connection_release(c);
}

static void wake_lookout(fc_local *local)
{
    uint64_t one = 1;
    (void)!write(local->lookout_fd, &one, sizeof one);
}

/* Not by another than the lane that waits for it. That may come to wait, and be woken, just when another who found none
 * takes the wake-up: then it is given back. */
static void take_wake(fc_local *local, bool has_waited)
{
    uint64_t counter;
    if (!has_waited && atomic_load(&local->lookout.state) == FC_LOOKOUT_WAITING)
        return;
    (void)!read(local->lookout_fd, &counter, sizeof counter);
    if (!has_waited && atomic_load(&local->lookout.state) == FC_LOOKOUT_WAITING)
        wake_lookout(local);
}

/* A lane may wait here, the I/O thread never does. */
static bool look_at_connections(fc_local *local, int most, int timeout_ms)
{
    struct epoll_event events[EVENTS_AT_A_TIME];
    int count = epoll_wait(local->epoll_fd, events, most, timeout_ms);
    if (timeout_ms != 0)
        atomic_store(&local->lookout.state, FC_LOOKOUT_AWAKE);
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 >= FIRST_PEER_ID)
            on_connection(local, &events[i]);
        else
            take_wake(local, timeout_ms != 0);
    }
    return count > 0;
}

/* --- a lane at the lookout ---------------------------------------------------------------------------------------- */

static bool lookout_is_open(void *context)
{
    fc_local *local = context;
    return !atomic_load(&local->slots.is_starved);
}

static void lookout_wake(void *context)
{
    wake_lookout(context);
}

static bool watch_connections(fc_local *local, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = EVENT_CONNECTIONS};
    return epoll_ctl(local->io_fd, EPOLL_CTL_MOD, local->epoll_fd, &event) == 0;
}

/* Watched by the I/O thread, too, they are served all the same. */
static void lookout_enter(void *context)
{
    (void)watch_connections(context, 0);
}

static void lookout_leave(void *context)
{
    fc_local *local = context;
    if (watch_connections(local, EPOLLIN))
        return;
    atomic_store(&local->is_unwatched, true);
    fc_local_wake(local); /* from now on it looks unasked */
}

static bool lookout_look(void *context, bool waits)
{
    return look_at_connections(context, LANE_EVENTS_AT_A_TIME, waits ? -1 : 0);
}

void fc_local_make_lookout(fc_local *local)
{
    local->lookout = (fc_lookout){.is_open = lookout_is_open,
                                  .enter = lookout_enter,
                                  .leave = lookout_leave,
                                  .look = lookout_look,
                                  .wake = lookout_wake,
                                  .context = local};
}

/* --- the I/O thread ----------------------------------------------------------------------------------------------- */

static void on_event(fc_local *local, const struct epoll_event *event)
{
    uint64_t counter;
    if (event->data.u64 == EVENT_CONNECTIONS)
        look_at_connections(local, EVENTS_AT_A_TIME, 0);
    else if (event->data.u64 == EVENT_WAKE)
        (void)!read(local->wake_fd, &counter, sizeof counter); /* it is there to be woken by */
    else
        fc_local_accept(local, &local->listeners[event->data.u64 - EVENT_LISTENER], RECEIVES_AT_A_TIME);
}

/* Without a slot nothing can be received, and the sockets would say for ever that something is there: only the wake-up
 * is listened to. */
static void wait_for_slot(fc_local *local)
{
    struct pollfd woken = {.fd = local->wake_fd, .events = POLLIN};
    poll(&woken, 1, RETRY_MS);
}

/* Whoever else has use for the core gets it while this waits awake. */
static int wait_for_events(const fc_local *local, struct epoll_event *events)
{
    while (fc_clock_now_ns() < local->awake_until_ns) {
        int count = epoll_wait(local->io_fd, events, EVENTS_AT_A_TIME, 0);
        if (count != 0 || sched_yield() != 0)
            return count;
    }
    bool looks_again =
        local->accept_again_ns != 0 || atomic_load(&local->unsent_count) != 0 || atomic_load(&local->is_unwatched);
    return epoll_wait(local->io_fd, events, EVENTS_AT_A_TIME, looks_again ? RETRY_MS : -1);
}

static void look_unasked(fc_local *local)
{
    atomic_store(&local->is_unwatched, false);
    if (!watch_connections(local, EPOLLIN))
        atomic_store(&local->is_unwatched, true);
    look_at_connections(local, EVENTS_AT_A_TIME, 0);
}

static void accept_again(fc_local *local)
{
    bool are_watched = fc_local_watch_listeners(local, EPOLLIN);
    local->accept_again_ns = are_watched ? 0 : fc_clock_now_ns() + RETRY_MS * FC_NS_PER_MS;
}

void *fc_local_run(void *argument)
{
    fc_local *local = argument;
    struct epoll_event events[EVENTS_AT_A_TIME];
    while (!atomic_load(&local->is_ending)) {
        int count = wait_for_events(local, events);
        for (int i = 0; i < count; i++)
            on_event(local, &events[i]);
        if (count > 0 && local->config.spin_ns > 0)
            local->awake_until_ns = fc_clock_now_ns() + local->config.spin_ns;
        if (local->accept_again_ns != 0 && fc_clock_now_ns() >= local->accept_again_ns)
            accept_again(local);
        if (atomic_load(&local->is_unwatched))
            look_unasked(local);
        if (atomic_load(&local->slots.is_starved))
            wait_for_slot(local);
        if (atomic_load(&local->unsent_count) != 0)
            fc_local_cut_who_does_not_read(local);
        if (atomic_load(&local->is_refusing) && !local->is_shut)
            fc_local_shut(local);
    }
    while (local->connections != NULL) { /* no lane is here any more */
        fc_connection_hear_out(local->connections);
        fc_connection_end(local->connections, false);
    }
    return NULL;
}
