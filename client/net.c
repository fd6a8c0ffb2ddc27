/* The net's thread, its exchanges and its clock: see link.h and net.h. The thread never blocks but in poll(), and where
 * a caller does its work. */
#include "client/net.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>

/* How long the net's thread rests when a caller that had its work is done: the caller's next request mostly comes at
 * once. Meanwhile nobody notices that an idle connection ends. */
#define REST_NS (20 * 1000000u)
/* After so many calls with nothing else under way, the next one takes the net's work over. */
#define LONELY_CALLS 4

uint64_t fc_link_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct timespec fc_link_timespec(uint64_t time_ns)
{
    return (struct timespec){.tv_sec = (time_t)(time_ns / 1000000000u), .tv_nsec = (long)(time_ns % 1000000000u)};
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

fc_status fc_message_create(size_t capacity_bytes, fc_message **out_message)
{
    if (capacity_bytes > SIZE_MAX - sizeof(fc_message))
        return FC_NO_MEMORY;
    fc_message *message = malloc(sizeof *message + capacity_bytes);
    if (message == NULL)
        return FC_NO_MEMORY;
    memset(message, 0, sizeof *message);
    message->size_bytes = capacity_bytes;
    for (int i = 0; i < FC_MESSAGE_DESCRIPTORS; i++)
        message->descriptors[i] = -1;
    *out_message = message;
    return FC_OK;
}

void *fc_message_bytes(fc_message *message, size_t *out_size_bytes)
{
    *out_size_bytes = message->size_bytes;
    return message->bytes;
}

void fc_message_trim(fc_message *message, size_t size_bytes)
{
    message->size_bytes = size_bytes;
}

void fc_message_take_descriptors(fc_message *message, int out_fds[FC_MESSAGE_DESCRIPTORS])
{
    for (int i = 0; i < FC_MESSAGE_DESCRIPTORS; i++) {
        out_fds[i] = message->descriptors[i];
        message->descriptors[i] = -1;
    }
}

void fc_message_close_descriptors(fc_message *message)
{
    int fds[FC_MESSAGE_DESCRIPTORS];
    fc_message_take_descriptors(message, fds);
    for (int i = 0; i < FC_MESSAGE_DESCRIPTORS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

void fc_message_destroy(fc_message *message)
{
    if (message != NULL)
        fc_message_close_descriptors(message);
    free(message);
}

/* --- exchanges, under net->lock ----------------------------------------------------------------------------------- */

void fc_net_wake(fc_net *net)
{
    if (net->polling_until_ns == 0)
        return;
    net->polling_until_ns = 0; /* once is enough */
    uint64_t one = 1;
    ssize_t written = write(net->wake_fd, &one, sizeof one);
    (void)written; /* fails only when the counter is full, and then it wakes too */
}

void fc_net_add_link(fc_net *net, fc_link *link)
{
    link->net = net;
    link->index = net->link_count;
    link->fd = -1;
    link->queue_last = &link->queue_first;
    net->links[net->link_count++] = link;
}

/* Has the net's own thread go on as soon as it can. */
static void call_turn_back(fc_net *net)
{
    if (net->turn == FC_NET_TURN_OWN)
        return;
    net->is_turn_called_back = true;
    pthread_cond_broadcast(&net->turn_changed);
    fc_net_wake(net); /* the caller that has it, if one does */
}

static void activate(fc_exchange *exchange, fc_exchange_phase phase, uint64_t deadline_ns)
{
    fc_net *net = exchange->net;
    exchange->phase = phase;
    exchange->deadline_ns = deadline_ns;
    exchange->previous = NULL;
    exchange->next = net->active;
    if (net->active != NULL)
        net->active->previous = exchange;
    net->active = exchange;
    if (deadline_ns < net->polling_until_ns)
        fc_net_wake(net);
    if (!exchange->is_attended)
        call_turn_back(net);
}

void fc_net_end_exchange(fc_exchange *exchange, fc_exchange_event event, fc_status status, fc_message *message)
{
    fc_net *net = exchange->net;
    if (exchange->previous != NULL)
        exchange->previous->next = exchange->next;
    else
        net->active = exchange->next;
    if (exchange->next != NULL)
        exchange->next->previous = exchange->previous;
    exchange->phase = FC_EXCHANGE_READY;
    exchange->event = event;
    exchange->status = status;
    exchange->message = message;
    exchange->next_ready = NULL;
    *net->ready_last = exchange;
    net->ready_last = &exchange->next_ready;
    fc_net_wake(net);
}

fc_exchange *fc_net_find_exchange(fc_net *net, const fc_link *link, uint32_t id)
{
    uint32_t number = id & (FC_NET_EXCHANGES_MAX - 1);
    fc_exchange *exchange = number < net->exchange_count ? net->exchanges[number] : NULL;
    return exchange != NULL && exchange->phase == FC_EXCHANGE_SENT && exchange->id == id && exchange->link == link
               ? exchange
               : NULL;
}

fc_exchange *fc_net_find_message(fc_net *net, const fc_link *link, uint64_t message_id)
{
    for (fc_exchange *exchange = net->active; exchange != NULL; exchange = exchange->next)
        if (exchange->phase == FC_EXCHANGE_SENT && exchange->link == link && exchange->message_id == message_id)
            return exchange;
    return NULL;
}

void fc_exchange_set_id(fc_exchange *exchange, uint64_t message_id)
{
    exchange->message_id = message_id;
}

void fc_exchange_set_attended(fc_exchange *exchange, bool is_attended)
{
    exchange->is_attended = is_attended;
}

static void end_early(fc_exchange *exchange, fc_status status)
{
    fc_message *message;
    switch (exchange->phase) {
    case FC_EXCHANGE_QUEUED:
        message = fc_link_take_back(exchange->link, exchange);
        fc_net_end_exchange(exchange, FC_EXCHANGE_UNSENT, status, message);
        break;
    case FC_EXCHANGE_SENT:
        fc_link_take_back(exchange->link, exchange);
        fc_net_end_exchange(exchange, FC_EXCHANGE_BROKEN, status, NULL);
        break;
    case FC_EXCHANGE_SLEEPING:
        fc_net_end_exchange(exchange, FC_EXCHANGE_WOKE, FC_OK, NULL);
        break;
    case FC_EXCHANGE_IDLE:
    case FC_EXCHANGE_READY:
        break;
    }
}

fc_status fc_exchange_create(fc_net *net, fc_exchange_notify notify, void *owner, fc_exchange **out_exchange)
{
    fc_status status = FC_NO_MEMORY;
    fc_exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        return FC_NO_MEMORY;
    exchange->net = net;
    exchange->notify = notify;
    exchange->owner = owner;
    pthread_mutex_lock(&net->lock);
    if (net->exchange_count == net->exchange_capacity && net->exchange_capacity < FC_NET_EXCHANGES_MAX) {
        uint32_t capacity = net->exchange_capacity == 0 ? 16 : net->exchange_capacity * 2;
        fc_exchange **grown = realloc(net->exchanges, capacity * sizeof(fc_exchange *));
        if (grown != NULL) {
            net->exchanges = grown;
            net->exchange_capacity = capacity;
        }
    }
    if (net->exchange_count < net->exchange_capacity) {
        exchange->number = net->exchange_count;
        net->exchanges[net->exchange_count++] = exchange;
        status = FC_OK;
    }
    pthread_mutex_unlock(&net->lock);
    if (status == FC_OK)
        *out_exchange = exchange;
    else
        free(exchange);
    return status;
}

void fc_exchange_destroy(fc_exchange *exchange)
{
    free(exchange);
}

void fc_exchange_send(fc_exchange *exchange, fc_link *link, fc_message *message, uint64_t deadline_ns)
{
    fc_net *net = exchange->net;
    pthread_mutex_lock(&net->lock);
    /* The top bit marks the last word of a REQ header; a number is used again under another id. */
    exchange->id = 0x80000000u | (exchange->generation++ << 16 | exchange->number);
    exchange->link = link;
    activate(exchange, FC_EXCHANGE_QUEUED, deadline_ns);
    fc_link_write(link, exchange, message);
    pthread_mutex_unlock(&net->lock);
}

void fc_exchange_sleep(fc_exchange *exchange, uint64_t deadline_ns)
{
    pthread_mutex_lock(&exchange->net->lock);
    activate(exchange, FC_EXCHANGE_SLEEPING, deadline_ns);
    pthread_mutex_unlock(&exchange->net->lock);
}

void fc_exchange_abort(fc_exchange *exchange)
{
    pthread_mutex_lock(&exchange->net->lock);
    end_early(exchange, FC_CANCELLED);
    pthread_mutex_unlock(&exchange->net->lock);
}

bool fc_exchange_recall(fc_exchange *exchange)
{
    pthread_mutex_lock(&exchange->net->lock);
    bool is_unsent = exchange->phase == FC_EXCHANGE_QUEUED;
    if (is_unsent)
        end_early(exchange, FC_CANCELLED);
    pthread_mutex_unlock(&exchange->net->lock);
    return is_unsent;
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

/* Under the lock: ends what is overdue; returns the next deadline. */
static uint64_t expire(fc_net *net, uint64_t now_ns)
{
    uint64_t next_ns = FC_LINK_FOREVER;
    fc_exchange *following;
    for (fc_exchange *exchange = net->active; exchange != NULL; exchange = following) {
        following = exchange->next;
        if (exchange->deadline_ns <= now_ns)
            end_early(exchange, FC_TIMED_OUT);
        else if (exchange->deadline_ns < next_ns)
            next_ns = exchange->deadline_ns;
    }
    return next_ns;
}

/* Under the lock: those to be notified. Till then nobody else touches them. */
static fc_exchange *take_ready(fc_net *net)
{
    fc_exchange *ready = net->ready_first;
    net->ready_first = NULL;
    net->ready_last = &net->ready_first;
    for (fc_exchange *exchange = ready; exchange != NULL; exchange = exchange->next_ready)
        exchange->phase = FC_EXCHANGE_IDLE;
    return ready;
}

static void notify_ready(fc_exchange *exchange)
{
    while (exchange != NULL) {
        fc_exchange *following = exchange->next_ready; /* it may be under way again before notify returns */
        exchange->notify(exchange->owner, exchange->event, exchange->status, exchange->message);
        exchange = following;
    }
}

/* Until awake_until_ns without sleeping; whoever else has use for the core gets it. */
static int poll_awake(fc_net *net, uint64_t awake_until_ns)
{
    int count = 0;
    while (count == 0 && fc_link_now_ns() < awake_until_ns) {
        count = poll(net->polled, 1 + net->link_count, 0);
        if (count == 0)
            sched_yield();
    }
    return count;
}

static int poll_asleep(fc_net *net, uint64_t until_ns)
{
    uint64_t now_ns = fc_link_now_ns();
    struct timespec timeout = fc_link_timespec(until_ns > now_ns ? until_ns - now_ns : 0);
    return ppoll(net->polled, 1 + net->link_count, until_ns == FC_LINK_FOREVER ? NULL : &timeout, NULL);
}

static void wait_for_something(fc_net *net, uint64_t until_ns, uint64_t awake_until_ns)
{
    int count = poll_awake(net, awake_until_ns < until_ns ? awake_until_ns : until_ns);
    if (count == 0)
        count = poll_asleep(net, until_ns);
    if (count < 0)
        for (uint32_t i = 0; i <= net->link_count; i++)
            net->polled[i].revents = 0;
    uint64_t counter;
    if (net->polled[0].revents != 0 && read(net->wake_fd, &counter, sizeof counter) < 0)
        net->polled[0].revents = 0;
}

/* Under the lock: what to poll for, and until when. */
static uint64_t prepare_poll(fc_net *net)
{
    uint64_t until_ns = expire(net, fc_link_now_ns());
    for (uint32_t i = 0; i < net->link_count; i++)
        net->polled[1 + i] = fc_link_poll(net->links[i], &until_ns);
    return until_ns;
}

static void poll_and_progress(fc_net *net, uint64_t until_ns, uint64_t awake_until_ns)
{
    wait_for_something(net, until_ns, awake_until_ns);
    pthread_mutex_lock(&net->lock);
    net->polling_until_ns = 0;
    pthread_mutex_unlock(&net->lock);
    uint64_t now_ns = fc_link_now_ns();
    for (uint32_t i = 0; i < net->link_count; i++)
        fc_link_progress(net->links[i], net->polled[1 + i].revents, now_ns);
}

/* Under the lock, on the net's own thread: lets callers have the turn, and returns when this thread has it. */
static void await_turn(fc_net *net)
{
    if (net->is_turn_wanted) {
        net->is_turn_wanted = false;
        net->turn = FC_NET_TURN_NONE;
        net->resting_until_ns = fc_link_now_ns() + REST_NS;
        pthread_cond_broadcast(&net->turn_changed);
    }
    while (net->turn != FC_NET_TURN_OWN) {
        bool is_free = net->turn == FC_NET_TURN_NONE;
        uint64_t until_ns = net->resting_until_ns;
        if (is_free && (net->is_turn_called_back || net->is_stopping || fc_link_now_ns() >= until_ns)) {
            net->turn = FC_NET_TURN_OWN;
        } else if (is_free) {
            struct timespec until = fc_link_timespec(until_ns);
            pthread_cond_timedwait(&net->turn_changed, &net->lock, &until);
        } else {
            pthread_cond_wait(&net->turn_changed, &net->lock);
        }
    }
    net->is_turn_called_back = false;
}

static void *run(void *arg)
{
    fc_net *net = arg;
    for (;;) {
        pthread_mutex_lock(&net->lock);
        await_turn(net);
        uint64_t until_ns = prepare_poll(net);
        fc_exchange *ready = take_ready(net);
        bool is_stopping = net->is_stopping;
        /* Between unlocking and poll() a wake-up is kept in the eventfd. */
        net->polling_until_ns = ready == NULL ? until_ns : 0;
        pthread_mutex_unlock(&net->lock);
        if (ready != NULL) {
            notify_ready(ready);
            continue;
        }
        if (is_stopping)
            return NULL;
        poll_and_progress(net, until_ns, 0);
    }
}

/* --- a caller in its place ---------------------------------------------------------------------------------------- */

/* Under the lock. */
static bool is_under_way(const fc_exchange *exchange)
{
    return exchange->phase == FC_EXCHANGE_QUEUED || exchange->phase == FC_EXCHANGE_SENT ||
           exchange->phase == FC_EXCHANGE_SLEEPING;
}

/* Under the lock: is nothing else to be done for anybody? */
static bool is_alone(const fc_net *net, const fc_exchange *exchange)
{
    return (net->active == NULL || (net->active == exchange && exchange->next == NULL)) &&
           (net->ready_first == NULL || (net->ready_first == exchange && exchange->next_ready == NULL));
}

/* Under the lock: takes the turn, if it is to be had and worth it. */
static bool take_turn(fc_net *net, const fc_exchange *exchange)
{
    net->lonely_calls = is_alone(net, exchange) ? net->lonely_calls + (net->lonely_calls < LONELY_CALLS) : 0;
    if (net->turn == FC_NET_TURN_OWN && net->lonely_calls == LONELY_CALLS) {
        net->is_turn_wanted = true;
        fc_net_wake(net);
        while (net->is_turn_wanted)
            pthread_cond_wait(&net->turn_changed, &net->lock);
    }
    if (net->turn != FC_NET_TURN_NONE)
        return false;
    if (is_alone(net, exchange) && (is_under_way(exchange) || exchange->phase == FC_EXCHANGE_READY)) {
        net->turn = FC_NET_TURN_CALLER;
        return true;
    }
    if (net->active != NULL || net->ready_first != NULL)
        call_turn_back(net);
    return false;
}

/* Under the lock. */
static void leave_turn(fc_net *net)
{
    net->turn = FC_NET_TURN_NONE;
    net->resting_until_ns = fc_link_now_ns() + REST_NS;
    if (net->active != NULL || net->ready_first != NULL || net->is_stopping)
        net->is_turn_called_back = true;
    if (net->is_turn_called_back)
        pthread_cond_broadcast(&net->turn_changed);
}

void fc_exchange_attend(fc_exchange *exchange, fc_exchange_is_over is_over, void *context)
{
    fc_net *net = exchange->net;
    uint64_t awake_until_ns = net->options.spin_ns == 0 ? 0 : fc_link_now_ns() + net->options.spin_ns;
    pthread_mutex_lock(&net->lock);
    bool has_turn = take_turn(net, exchange);
    while (has_turn) {
        uint64_t until_ns = prepare_poll(net);
        bool is_ready = net->ready_first == exchange && exchange->next_ready == NULL;
        if ((net->ready_first != NULL && !is_ready) || net->is_turn_called_back)
            break;
        fc_exchange *ready = is_ready ? take_ready(net) : NULL;
        net->polling_until_ns = ready == NULL ? until_ns : 0;
        pthread_mutex_unlock(&net->lock);
        if (ready != NULL)
            notify_ready(ready);
        bool has_ended = ready != NULL && is_over(context);
        if (ready == NULL)
            poll_and_progress(net, until_ns, awake_until_ns);
        pthread_mutex_lock(&net->lock);
        if (has_ended)
            break;
    }
    if (has_turn)
        leave_turn(net);
    pthread_mutex_unlock(&net->lock);
}

/* --- the object --------------------------------------------------------------------------------------------------- */

fc_status fc_net_create(const fc_net_options *options, fc_net **out_net)
{
    fc_net *net = calloc(1, sizeof *net);
    if (net == NULL)
        return FC_NO_MEMORY;
    fc_status status = FC_NO_MEMORY;
    net->options = *options;
    net->ready_last = &net->ready_first;
    net->random_state = fc_link_now_ns() | 1;
    net->links = calloc(options->link_max, sizeof(fc_link *));
    net->polled = calloc(1 + options->link_max, sizeof *net->polled);
    if (net->links == NULL || net->polled == NULL)
        goto free_net;
    status = FC_IO;
    net->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (net->wake_fd < 0)
        goto free_net;
    net->polled[0] = (struct pollfd){.fd = net->wake_fd, .events = POLLIN};
    pthread_mutex_init(&net->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&net->turn_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *out_net = net;
    return FC_OK;
free_net:
    free(net->polled);
    free(net->links);
    free(net);
    return status;
}

/* Every signal is left to the program's own threads. */
fc_status fc_net_start(fc_net *net)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    net->is_started = pthread_create(&net->thread, NULL, run, net) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return net->is_started ? FC_OK : FC_IO;
}

void fc_net_stop(fc_net *net)
{
    if (!net->is_started)
        return;
    pthread_mutex_lock(&net->lock);
    net->is_stopping = true;
    fc_net_wake(net);
    pthread_cond_broadcast(&net->turn_changed);
    pthread_mutex_unlock(&net->lock);
    pthread_join(net->thread, NULL);
    net->is_started = false;
}

void fc_net_destroy(fc_net *net)
{
    if (net == NULL)
        return;
    fc_net_stop(net);
    for (uint32_t i = 0; i < net->link_count; i++)
        fc_link_destroy(net->links[i]);
    pthread_cond_destroy(&net->turn_changed);
    pthread_mutex_destroy(&net->lock);
    close(net->wake_fd);
    free(net->exchanges);
    free(net->polled);
    free(net->links);
    free(net);
}
