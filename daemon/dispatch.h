/* Between reception and the lanes: the queue under its lock, the peers and what each has under way, and the time a busy
 * peer is told to stay away.
 *
 * Lanes pull: fc_dispatch_take() blocks until there is work. Requests that leave the queue otherwise (expired,
 * cancelled, their peer gone, draining) come back as a chain over item.next, for the caller to answer.
 *
 * An idle lane that finds nobody at the lookout (below) waits there instead, and so receives what it then runs itself:
 * no other thread has to be woken for it. Others go on sleeping until there is more than it takes.
 *
 * Threads: any, but for create and destroy. One lock, held for list work only, never while answering.
 */
#ifndef FC_DAEMON_DISPATCH_H
#define FC_DAEMON_DISPATCH_H

#include "daemon/queue.h"
#include "daemon/request.h"

typedef struct fc_dispatch fc_dispatch;

typedef struct fc_dispatch_limits {
    uint64_t queue_requests, queue_bytes, inflight_per_peer;
    uint64_t queue_bytes_per_peer;  /* 0: any number */
    uint64_t connections_per_owner; /* 0: any number */
    uint64_t requests_per_second;   /* of one peer; 0: any number */
    fc_batch_limits batch; /* requests at most FC_BATCH_REQUESTS_MAX; requests_per_peer, quick_cost: worked out here */
    uint32_t lane_count;   /* for the retry estimate */
    uint64_t spin_ns;      /* how long a lane that has just run something waits awake for more */
} fc_dispatch_limits;

typedef enum fc_lookout_state {
    FC_LOOKOUT_EMPTY,
    FC_LOOKOUT_WAITING, /* a lane is there, to be woken for what comes by another way */
    FC_LOOKOUT_AWAKE    /* it is about to look into the queue */
} fc_lookout_state;

/* Where requests arrive that a lane can receive itself. One lane at a time is there, none that runs anything. */
typedef struct fc_lookout {
    bool (*is_open)(void *context); /* may a lane be there now? Under the dispatch's lock */
    void (*enter)(void *context);   /* from now on the lane receives */
    void (*leave)(void *context);   /* and from now on it does not */
    /* Between those: receives what has come, little at a time, since what is taken on waits for this lane; true: there
     * was something, if only wake(). Where waits, not before something has come, and sets state to FC_LOOKOUT_AWAKE. */
    bool (*look)(void *context, bool waits);
    void (*wake)(void *context); /* any thread */
    void *context;
    atomic_int state; /* fc_lookout_state */
} fc_lookout;

/* on_idle: called once draining and the last request has ended; any thread; may be NULL. FC_NO_MEMORY. */
fc_status fc_dispatch_create(const fc_dispatch_limits *limits, fc_stats *stats, void (*on_idle)(void *context),
                             void *context, fc_dispatch **out_dispatch);
void fc_dispatch_destroy(fc_dispatch *dispatch); /* NULL is fine; no request is left in it */

void fc_dispatch_set_limits(fc_dispatch *dispatch, const fc_dispatch_limits *limits);

/* Borrowed until it is replaced; NULL: there is none, and no lane is there any more when this returns. One thread. */
void fc_dispatch_set_lookout(fc_dispatch *dispatch, fc_lookout *lookout);

/* A connection begins, of that owner (not 0); fc_dispatch_drop_peer() ends it. FC_BUSY: its owner has as many as it
 * may; FC_NO_MEMORY. Peers may also come unannounced: each is then its own owner. */
fc_status fc_dispatch_open_peer(fc_dispatch *dispatch, uint64_t peer, uint64_t owner);

/* May this peer send one more request now? FC_BUSY: not before *out_retry_after_us. */
fc_status fc_dispatch_check_rate(fc_dispatch *dispatch, const fc_request *request, uint64_t *out_retry_after_us,
                                 fc_reason *out_reason);

/* Counts a request in: RECEIVED. Each is counted out by fc_dispatch_end(). */
void fc_dispatch_begin(fc_dispatch *dispatch, fc_request *request);

/* Counts a request out: DONE. Frees what it holds; the transport may reuse it. */
void fc_dispatch_end(fc_dispatch *dispatch, fc_request *request);

/* RECEIVED to QUEUED. On FC_OK the request belongs to the queue and may be anywhere when this returns. FC_BUSY: the
 * queue or its peer's share is full, or what is before it takes too long for its deadline; *out_retry_after_us is when
 * to try again; FC_DRAINING; FC_NO_MEMORY. */
fc_status fc_dispatch_submit(fc_dispatch *dispatch, fc_request *request, uint64_t *out_retry_after_us,
                             fc_reason *out_reason);

/* Counts a request that never queues among its peer's requests in flight. FC_BUSY, FC_NO_MEMORY as above. */
fc_status fc_dispatch_count(fc_dispatch *dispatch, fc_request *request, uint64_t *out_retry_after_us,
                            fc_reason *out_reason);

/* Waits for work, awake at first where the lane has run something (has_run), and takes it: returns the requests of one
 * launch, now RUNNING, at most FC_BATCH_REQUESTS_MAX, and in *out_expired a chain of requests past their deadline or
 * about to be (still QUEUED: to be answered first). 0 and no chain: the dispatch was stopped, end. */
uint32_t fc_dispatch_take(fc_dispatch *dispatch, bool has_run, fc_request **out_requests, fc_request **out_expired);

/* What was taken has run, from start_ns to end_ns: feeds the estimates of pace.h. Before their replies are sent. */
void fc_dispatch_ran(fc_dispatch *dispatch, uint32_t request_count, uint64_t start_ns, uint64_t end_ns);

/* The oldest queued request of that peer with that id, still QUEUED, to be answered; NULL: none waits. */
fc_request *fc_dispatch_cancel(fc_dispatch *dispatch, uint64_t peer, uint64_t id);

fc_request *fc_dispatch_expire(fc_dispatch *dispatch, uint64_t now_ns);

/* The peer is gone: what it had queued. */
fc_request *fc_dispatch_drop_peer(fc_dispatch *dispatch, uint64_t peer);

/* From now on submit says FC_DRAINING. Returns what was queued. Idempotent. */
fc_request *fc_dispatch_drain(fc_dispatch *dispatch);

/* Drains, and ends every lane's fc_dispatch_take(). */
fc_request *fc_dispatch_stop(fc_dispatch *dispatch);

/* While draining: has each connection that came or asked in the last second been answered FC_DRAINING? */
bool fc_dispatch_has_told_all(fc_dispatch *dispatch);

/* Draining, and every request begun has ended. */
bool fc_dispatch_is_idle(const fc_dispatch *dispatch);

/* The next of a chain; read it before answering the request. */
static inline fc_request *fc_dispatch_next(fc_request *request)
{
    return fc_request_of(request->item.next);
}

#endif
