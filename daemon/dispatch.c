/* See dispatch.h. */
#include "daemon/dispatch.h"

#include "daemon/clock.h"
#include "daemon/pace.h"
#include "daemon/peers.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

typedef enum phase { PHASE_SERVING, PHASE_DRAINING, PHASE_STOPPED } phase;

struct fc_dispatch {
    fc_stats *stats;
    void (*on_idle)(void *context);
    void *context;
    atomic_uint_fast64_t open_count; /* requests begun and not ended */
    atomic_int phase;                /* written under the lock */
    atomic_uint_fast64_t requests_per_second;
    atomic_uint_fast64_t news_count; /* grows after all that a waiting lane is waiting for */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work;
    pthread_cond_t lookout_left;
    fc_lookout *lookout; /* NULL: none */
    uint32_t sleeping_lanes, watching_lanes;
    fc_dispatch_limits limits;
    fc_queue queue;
    fc_peers peers;
    uint64_t running, running_cost; /* taken, and not yet through */
    /* What a request costs a lane, and what it was estimated at, averaged over the last launches. */
    uint64_t request_ns, request_cost;
    fc_pace pace;
};

/* Before the first launch: what a small problem takes. */
#define FIRST_REQUEST_NS (1 * FC_NS_PER_MS)
/* A launch may last so long for one peer's sake, whoever else may come. */
#define LAUNCH_OF_ONE_PEER_NS (200 * FC_NS_PER_US)

static uint64_t peer_bytes_max(const fc_dispatch_limits *limits)
{
    return limits->queue_bytes_per_peer > 0 ? limits->queue_bytes_per_peer : UINT64_MAX;
}

fc_status fc_dispatch_create(const fc_dispatch_limits *limits, fc_stats *stats, void (*on_idle)(void *context),
                             void *context, fc_dispatch **out_dispatch)
{
    fc_dispatch *dispatch = calloc(1, sizeof *dispatch);
    if (dispatch == NULL)
        return FC_NO_MEMORY;
    dispatch->stats = stats;
    dispatch->on_idle = on_idle;
    dispatch->context = context;
    dispatch->limits = *limits;
    atomic_init(&dispatch->requests_per_second, limits->requests_per_second);
    dispatch->request_ns = FIRST_REQUEST_NS;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP); /* held for less than sleeping takes */
    pthread_mutex_init(&dispatch->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_cond_init(&dispatch->work, NULL);
    pthread_cond_init(&dispatch->lookout_left, NULL);
    fc_queue_init(&dispatch->queue, limits->queue_requests, limits->queue_bytes);
    dispatch->queue.peer_bytes_max = peer_bytes_max(limits);
    fc_peers_init(&dispatch->peers);
    fc_pace_init(&dispatch->pace);
    *out_dispatch = dispatch;
    return FC_OK;
}

void fc_dispatch_destroy(fc_dispatch *dispatch)
{
    if (dispatch == NULL)
        return;
    assert(dispatch->queue.count == 0);
    fc_peers_fini(&dispatch->peers);
    pthread_cond_destroy(&dispatch->lookout_left);
    pthread_cond_destroy(&dispatch->work);
    pthread_mutex_destroy(&dispatch->lock);
    free(dispatch);
}

void fc_dispatch_set_limits(fc_dispatch *dispatch, const fc_dispatch_limits *limits)
{
    pthread_mutex_lock(&dispatch->lock);
    dispatch->limits = *limits;
    atomic_store(&dispatch->requests_per_second, limits->requests_per_second);
    dispatch->queue.count_max = limits->queue_requests;
    dispatch->queue.bytes_max = limits->queue_bytes;
    dispatch->queue.peer_bytes_max = peer_bytes_max(limits);
    pthread_mutex_unlock(&dispatch->lock);
}

/* Under the lock. */
static fc_lookout_state lookout_state(const fc_dispatch *dispatch)
{
    return dispatch->lookout != NULL ? (fc_lookout_state)atomic_load(&dispatch->lookout->state) : FC_LOOKOUT_EMPTY;
}

void fc_dispatch_set_lookout(fc_dispatch *dispatch, fc_lookout *lookout)
{
    pthread_mutex_lock(&dispatch->lock);
    fc_lookout *before = dispatch->lookout;
    dispatch->lookout = lookout;
    /* To them all: one of those that sleep goes there. */
    pthread_cond_broadcast(&dispatch->work);
    while (before != NULL && atomic_load(&before->state) != FC_LOOKOUT_EMPTY) {
        before->wake(before->context);
        pthread_cond_wait(&dispatch->lookout_left, &dispatch->lock);
    }
    pthread_mutex_unlock(&dispatch->lock);
}

fc_status fc_dispatch_open_peer(fc_dispatch *dispatch, uint64_t peer, uint64_t owner)
{
    pthread_mutex_lock(&dispatch->lock);
    uint64_t most = dispatch->limits.connections_per_owner;
    fc_status st = fc_peers_open(&dispatch->peers, peer, owner, most > 0 ? most : UINT64_MAX, fc_clock_now_ns());
    fc_stats_set(dispatch->stats, FC_GAUGE_PIPES_TCP, dispatch->peers.remote_count);
    pthread_mutex_unlock(&dispatch->lock);
    return st;
}

fc_status fc_dispatch_check_rate(fc_dispatch *dispatch, const fc_request *request, uint64_t *out_retry_after_us,
                                 fc_reason *out_reason)
{
    uint64_t wait_ns = 0;
    uint64_t per_second = atomic_load_explicit(&dispatch->requests_per_second, memory_order_relaxed);
    if (per_second == 0 || request->own_stats != NULL) /* the self-test is nobody's */
        return FC_OK;
    pthread_mutex_lock(&dispatch->lock);
    fc_peer *peer = fc_peers_enter(&dispatch->peers, request->item.peer, request->received_ns);
    bool may = peer != NULL && fc_bucket_take(&peer->bucket, per_second, request->received_ns, &wait_ns);
    pthread_mutex_unlock(&dispatch->lock);
    if (may)
        return FC_OK;
    *out_retry_after_us = wait_ns / FC_NS_PER_US + 1;
    return fc_fail(FC_BUSY, out_reason, "this connection may send %llu requests a second",
                   (unsigned long long)per_second);
}

void fc_dispatch_begin(fc_dispatch *dispatch, fc_request *request)
{
    atomic_fetch_add(&dispatch->open_count, 1);
    request->stats = request->own_stats != NULL ? request->own_stats : dispatch->stats;
    request->is_counted = false;
    request->kv_lens = NULL;
    request->placement = (fc_placement){.out = NULL};
    for (int i = 0; i < FC_PACKET_DESCRIPTORS; i++)
        request->reply_fds[i] = -1;
    request->reply_buffer = NULL;
    request->ran_ns = 0;
    fc_request_set_state(request, FC_REQUEST_RECEIVED);
}

static void count_out_of_peer(fc_dispatch *dispatch, const fc_request *request)
{
    fc_peer *peer = fc_peer_of(request->item.share);
    pthread_mutex_lock(&dispatch->lock);
    assert(peer->inflight > 0);
    peer->inflight--;
    pthread_mutex_unlock(&dispatch->lock);
}

void fc_dispatch_end(fc_dispatch *dispatch, fc_request *request)
{
    if (request->is_counted)
        count_out_of_peer(dispatch, request);
    free(request->kv_lens);
    request->kv_lens = NULL;
    fc_placement_release(&request->placement);
    for (int i = 0; i < FC_PACKET_DESCRIPTORS; i++) {
        if (request->reply_fds[i] >= 0)
            close(request->reply_fds[i]);
        request->reply_fds[i] = -1;
    }
    fc_request_set_state(request, FC_REQUEST_DONE);
    uint64_t open_before = atomic_fetch_sub(&dispatch->open_count, 1);
    assert(open_before > 0);
    if (open_before == 1 && atomic_load(&dispatch->phase) != PHASE_SERVING && dispatch->on_idle != NULL)
        dispatch->on_idle(dispatch->context);
}

/* Under the lock: when its peer may send it again. */
static uint64_t retry_after_us(fc_dispatch *dispatch, const fc_request *request)
{
    fc_peer *peer = fc_peers_enter(&dispatch->peers, request->item.peer, request->received_ns);
    if (peer == NULL)
        return FC_PACE_RETRY_US_MAX; /* no memory */
    return fc_pace_retry_us(&dispatch->pace, &peer->retry_ns, dispatch->peers.active_count, request->item.deadline_ns,
                            request->received_ns);
}

/* Under the lock: one more of its peer's requests in flight. */
static fc_status count_in(fc_dispatch *dispatch, fc_request *request, fc_reason *out_reason)
{
    fc_peer *peer = fc_peers_enter(&dispatch->peers, request->item.peer, request->received_ns);
    if (peer == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    if (peer->inflight >= dispatch->limits.inflight_per_peer)
        return fc_fail(FC_BUSY, out_reason, "this connection has %llu unanswered requests; inflight_per_peer is %llu",
                       (unsigned long long)peer->inflight, (unsigned long long)dispatch->limits.inflight_per_peer);
    peer->inflight++;
    request->item.share = &peer->share;
    request->is_counted = true;
    return FC_OK;
}

/* Under the lock: will it have its answer in time? Of what runs, half is still to be done, on average. */
static fc_status check_in_time(const fc_dispatch *dispatch, const fc_request *request, fc_reason *out_reason)
{
    const fc_queue_item *item = &request->item;
    if (item->deadline_ns == FC_NEVER_NS || dispatch->sleeping_lanes + dispatch->watching_lanes > 0 ||
        lookout_state(dispatch) != FC_LOOKOUT_EMPTY)
        return FC_OK;
    uint64_t cost = fc_queue_cost_ahead(&dispatch->queue, item) + dispatch->running_cost / 2;
    uint64_t left_ns = item->deadline_ns - request->received_ns;
    if (fc_pace_is_in_time(&dispatch->pace, cost, left_ns))
        return FC_OK;
    return fc_fail(FC_BUSY, out_reason, "deadline_us: %llu, and what is before it takes about %llu us",
                   (unsigned long long)(left_ns / FC_NS_PER_US),
                   (unsigned long long)(fc_pace_wait_ns(&dispatch->pace, cost) / FC_NS_PER_US));
}

/* submit under the lock. */
static fc_status enqueue(fc_dispatch *dispatch, fc_request *request, fc_reason *out_reason)
{
    const fc_dispatch_limits *limits = &dispatch->limits;
    if (atomic_load(&dispatch->phase) != PHASE_SERVING) {
        fc_peer *told = fc_peers_enter(&dispatch->peers, request->item.peer, request->received_ns);
        if (told != NULL)
            told->is_told = true;
        return fc_fail(FC_DRAINING, out_reason, "the server is shutting down; the request was not started");
    }
    fc_status st = count_in(dispatch, request, out_reason);
    if (st != FC_OK)
        return st;
    if ((st = check_in_time(dispatch, request, out_reason)) != FC_OK)
        return st;
    const fc_share *share = request->item.share;
    if (fc_queue_push(&dispatch->queue, &request->item) != FC_OK)
        return fc_fail(
            FC_BUSY, out_reason,
            "%llu requests (%llu bytes) wait, %llu (%llu) of them this connection's; queue_requests is %llu, "
            "queue_bytes %llu",
            (unsigned long long)dispatch->queue.count, (unsigned long long)dispatch->queue.bytes,
            (unsigned long long)share->count, (unsigned long long)share->bytes,
            (unsigned long long)limits->queue_requests, (unsigned long long)limits->queue_bytes);
    fc_request_set_state(request, FC_REQUEST_QUEUED);
    return FC_OK;
}

fc_status fc_dispatch_count(fc_dispatch *dispatch, fc_request *request, uint64_t *out_retry_after_us,
                            fc_reason *out_reason)
{
    pthread_mutex_lock(&dispatch->lock);
    fc_status st = count_in(dispatch, request, out_reason);
    if (st == FC_BUSY)
        *out_retry_after_us = retry_after_us(dispatch, request);
    pthread_mutex_unlock(&dispatch->lock);
    return st;
}

fc_status fc_dispatch_submit(fc_dispatch *dispatch, fc_request *request, uint64_t *out_retry_after_us,
                             fc_reason *out_reason)
{
    pthread_mutex_lock(&dispatch->lock);
    fc_status st = enqueue(dispatch, request, out_reason);
    if (st == FC_BUSY)
        *out_retry_after_us = retry_after_us(dispatch, request);
    fc_stats_set(dispatch->stats, FC_GAUGE_QUEUED_BYTES, dispatch->queue.bytes);
    /* A lane that is awake sees it by itself, and is spared the call that wakes another. */
    fc_lookout *lookout = dispatch->lookout;
    fc_lookout_state state = lookout_state(dispatch);
    bool needs_lane = dispatch->queue.count > dispatch->watching_lanes + (state == FC_LOOKOUT_AWAKE);
    bool needs_waking = needs_lane && dispatch->sleeping_lanes > 0;
    bool needs_lookout = needs_lane && !needs_waking && state == FC_LOOKOUT_WAITING;
    if (st == FC_OK && needs_lookout) /* under the lock: the lookout may be gone after it */
        lookout->wake(lookout->context);
    pthread_mutex_unlock(&dispatch->lock);
    /* Outside, so that the lane does not see it, or wake up, only to wait for the lock. */
    if (st == FC_OK)
        atomic_fetch_add(&dispatch->news_count, 1);
    if (st == FC_OK && needs_waking)
        pthread_cond_signal(&dispatch->work);
    return st;
}

/* Lets go of the lock until there is news, or it is until_ns. Whoever else has use for the core gets it. */
static void watch(fc_dispatch *dispatch, uint64_t until_ns)
{
    uint64_t seen = atomic_load(&dispatch->news_count);
    dispatch->watching_lanes++;
    pthread_mutex_unlock(&dispatch->lock);
    while (atomic_load(&dispatch->news_count) == seen && fc_clock_now_ns() < until_ns)
        sched_yield();
    pthread_mutex_lock(&dispatch->lock);
    dispatch->watching_lanes--;
}

static void sleep_until_news(fc_dispatch *dispatch)
{
    dispatch->sleeping_lanes++;
    pthread_cond_wait(&dispatch->work, &dispatch->lock);
    dispatch->sleeping_lanes--;
}

/* Under the lock: a lane need not wait. */
static bool has_news(const fc_dispatch *dispatch)
{
    return dispatch->queue.count > 0 || atomic_load(&dispatch->phase) == PHASE_STOPPED;
}

static bool may_look_out(const fc_dispatch *dispatch)
{
    return dispatch->lookout != NULL && lookout_state(dispatch) == FC_LOOKOUT_EMPTY &&
           dispatch->lookout->is_open(dispatch->lookout->context);
}

/* Lets go of the lock until something came, or, awake, it is awake_until_ns. */
static void look(fc_dispatch *dispatch, fc_lookout *lookout, uint64_t awake_until_ns)
{
    uint64_t seen = atomic_load(&dispatch->news_count);
    bool waits = fc_clock_now_ns() >= awake_until_ns;
    atomic_store(&lookout->state, waits ? FC_LOOKOUT_WAITING : FC_LOOKOUT_AWAKE);
    pthread_mutex_unlock(&dispatch->lock);
    while (!lookout->look(lookout->context, waits) && atomic_load(&dispatch->news_count) == seen &&
           fc_clock_now_ns() < awake_until_ns)
        sched_yield();
    pthread_mutex_lock(&dispatch->lock);
}

/* Lets go of the lock until there is work, or the lookout is no place to be. */
static void look_out(fc_dispatch *dispatch, fc_lookout *lookout, uint64_t awake_until_ns)
{
    atomic_store(&lookout->state, FC_LOOKOUT_AWAKE);
    pthread_mutex_unlock(&dispatch->lock);
    lookout->enter(lookout->context);
    pthread_mutex_lock(&dispatch->lock);
    while (!has_news(dispatch) && dispatch->lookout == lookout && lookout->is_open(lookout->context))
        look(dispatch, lookout, awake_until_ns);
    pthread_mutex_unlock(&dispatch->lock);
    lookout->leave(lookout->context);
    pthread_mutex_lock(&dispatch->lock);
    atomic_store(&lookout->state, FC_LOOKOUT_EMPTY);
    if (dispatch->lookout != lookout)
        pthread_cond_broadcast(&dispatch->lookout_left);
}

/* Under the lock: how many of a launch one peer may have, so that those who come meanwhile need not wait for long. */
static uint32_t requests_per_peer(const fc_dispatch *dispatch)
{
    uint32_t active = dispatch->peers.active_count;
    uint32_t fair = active > 1 ? (dispatch->limits.batch.requests + active - 1) / active : 0;
    uint64_t quick = LAUNCH_OF_ONE_PEER_NS / (dispatch->request_ns + 1);
    return fair > 0 && quick > fair ? (uint32_t)quick : fair;
}

/* Under the lock: of what was taken. */
static void note_cost(fc_dispatch *dispatch, fc_queue_item *const *items, uint32_t count)
{
    uint64_t cost = 0;
    for (uint32_t i = 0; i < count; i++)
        cost += items[i]->cost;
    dispatch->running += count;
    dispatch->running_cost += cost;
    if (count > 0)
        dispatch->request_cost = (7 * dispatch->request_cost + cost / count) / 8;
}

uint32_t fc_dispatch_take(fc_dispatch *dispatch, bool has_run, fc_request **out_requests, fc_request **out_expired)
{
    fc_queue_item *items[FC_BATCH_REQUESTS_MAX];
    uint32_t count = 0;
    pthread_mutex_lock(&dispatch->lock);
    uint64_t awake_until_ns = has_run ? fc_clock_now_ns() + dispatch->limits.spin_ns : 0;
    while (!has_news(dispatch)) {
        if (may_look_out(dispatch))
            look_out(dispatch, dispatch->lookout, awake_until_ns);
        else if (fc_clock_now_ns() < awake_until_ns)
            watch(dispatch, awake_until_ns);
        else
            sleep_until_news(dispatch);
    }
    *out_expired =
        fc_request_of(fc_queue_expire(&dispatch->queue, fc_clock_now_ns(), fc_pace_launch_ns(&dispatch->pace)));
    dispatch->limits.batch.requests_per_peer = requests_per_peer(dispatch);
    dispatch->limits.batch.quick_cost = LAUNCH_OF_ONE_PEER_NS * dispatch->request_cost / (dispatch->request_ns + 1);
    count = fc_queue_take(&dispatch->queue, &dispatch->limits.batch, items);
    note_cost(dispatch, items, count);
    for (uint32_t i = 0; i < count; i++) {
        out_requests[i] = fc_request_of(items[i]);
        fc_request_set_state(out_requests[i], FC_REQUEST_RUNNING);
    }
    fc_stats_set(dispatch->stats, FC_GAUGE_QUEUED_BYTES, dispatch->queue.bytes);
    pthread_mutex_unlock(&dispatch->lock);
    return count;
}

void fc_dispatch_ran(fc_dispatch *dispatch, uint32_t request_count, uint64_t start_ns, uint64_t end_ns)
{
    if (request_count == 0)
        return;
    int64_t sample_ns = (int64_t)((end_ns - start_ns) / request_count);
    pthread_mutex_lock(&dispatch->lock);
    assert(dispatch->running >= request_count);
    /* Launches under way together count for what they cost on average; in sum that is right. */
    uint64_t cost = dispatch->running_cost * request_count / dispatch->running;
    dispatch->running -= request_count;
    dispatch->running_cost -= cost;
    dispatch->request_ns = (uint64_t)((int64_t)dispatch->request_ns + (sample_ns - (int64_t)dispatch->request_ns) / 8);
    uint32_t lanes = dispatch->limits.lane_count > 0 ? dispatch->limits.lane_count : 1;
    fc_pace_launch launch = {.start_ns = start_ns,
                             .end_ns = end_ns,
                             .request_count = request_count,
                             .cost = cost,
                             .lane_count = lanes,
                             .has_backlog = dispatch->queue.count > 0};
    fc_pace_ran(&dispatch->pace, &launch);
    pthread_mutex_unlock(&dispatch->lock);
}

fc_request *fc_dispatch_cancel(fc_dispatch *dispatch, uint64_t peer, uint64_t id)
{
    pthread_mutex_lock(&dispatch->lock);
    fc_queue_item *item = fc_queue_cancel(&dispatch->queue, peer, id);
    fc_stats_set(dispatch->stats, FC_GAUGE_QUEUED_BYTES, dispatch->queue.bytes);
    pthread_mutex_unlock(&dispatch->lock);
    return fc_request_of(item);
}

fc_request *fc_dispatch_expire(fc_dispatch *dispatch, uint64_t now_ns)
{
    pthread_mutex_lock(&dispatch->lock);
    fc_queue_item *expired = fc_queue_expire(&dispatch->queue, now_ns, fc_pace_launch_ns(&dispatch->pace));
    fc_peers_age(&dispatch->peers, now_ns);
    fc_stats_set(dispatch->stats, FC_GAUGE_QUEUED_BYTES, dispatch->queue.bytes);
    pthread_mutex_unlock(&dispatch->lock);
    return fc_request_of(expired);
}

fc_request *fc_dispatch_drop_peer(fc_dispatch *dispatch, uint64_t peer)
{
    pthread_mutex_lock(&dispatch->lock);
    fc_queue_item *dropped = fc_queue_drop_peer(&dispatch->queue, peer);
    fc_peers_close(&dispatch->peers, peer);
    fc_stats_set(dispatch->stats, FC_GAUGE_PIPES_TCP, dispatch->peers.remote_count);
    fc_stats_set(dispatch->stats, FC_GAUGE_QUEUED_BYTES, dispatch->queue.bytes);
    pthread_mutex_unlock(&dispatch->lock);
    return fc_request_of(dropped);
}

static fc_request *enter_phase(fc_dispatch *dispatch, phase next)
{
    pthread_mutex_lock(&dispatch->lock);
    if ((int)next > atomic_load(&dispatch->phase))
        atomic_store(&dispatch->phase, next);
    fc_queue_item *queued = fc_queue_drop_all(&dispatch->queue);
    for (const fc_queue_item *item = queued; item != NULL; item = item->next)
        fc_peer_of(item->share)->is_told = true;
    fc_stats_set(dispatch->stats, FC_GAUGE_QUEUED_BYTES, 0);
    atomic_fetch_add(&dispatch->news_count, 1);
    pthread_cond_broadcast(&dispatch->work);
    if (next == PHASE_STOPPED && lookout_state(dispatch) != FC_LOOKOUT_EMPTY)
        dispatch->lookout->wake(dispatch->lookout->context);
    pthread_mutex_unlock(&dispatch->lock);
    fc_stats_set(dispatch->stats, FC_GAUGE_DRAINING, 1);
    return fc_request_of(queued);
}

fc_request *fc_dispatch_drain(fc_dispatch *dispatch)
{
    return enter_phase(dispatch, PHASE_DRAINING);
}

fc_request *fc_dispatch_stop(fc_dispatch *dispatch)
{
    return enter_phase(dispatch, PHASE_STOPPED);
}

bool fc_dispatch_has_told_all(fc_dispatch *dispatch)
{
    pthread_mutex_lock(&dispatch->lock);
    bool has_told = fc_peers_are_told(&dispatch->peers, fc_clock_now_ns());
    pthread_mutex_unlock(&dispatch->lock);
    return has_told;
}

bool fc_dispatch_is_idle(const fc_dispatch *dispatch)
{
    return atomic_load(&dispatch->phase) != PHASE_SERVING && atomic_load(&dispatch->open_count) == 0;
}
