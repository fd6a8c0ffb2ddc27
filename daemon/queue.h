/* The bounded waiting line: limited in count and in bytes, and fair between peers.
 *
 * It runs in virtual time (start-time fair queueing): a peer's items start one behind the other, each as far behind the
 * last as that one costs, and what starts first is taken first. So every peer that waits gets the same work done,
 * however much it has sent; one that had nothing here starts now, in front of another's backlog; of one peer the oldest
 * goes first, and while there is one peer the line is as old as time. Connections of one owner (a user, a host) cost
 * more the more of them there are, so that nobody gains by having many.
 *
 * Pure: no locks, no clock, no allocation; whoever has it locks and passes the time. Items are embedded in what waits
 * and linked while they wait. Results of more than one item come as a chain over `next`, in the line's order, ended by
 * NULL.
 */
#ifndef FC_DAEMON_QUEUE_H
#define FC_DAEMON_QUEUE_H

#include "kernels/attention.h"

#define FC_NEVER_NS UINT64_MAX /* a deadline that never comes */

/* Whoever has several peers. Starts as {0}; peer_count is kept by whoever has it, the rest is the queue's. */
typedef struct fc_share_owner {
    uint32_t peer_count; /* of its peers that have been here lately */
    uint64_t finish;     /* where its next new peer starts */
} fc_share_owner;

/* A peer's part in the line. Starts as {0} with its owner; must stay while items name it. */
typedef struct fc_share {
    fc_share_owner *owner; /* NULL: nobody else's */
    uint64_t finish;       /* where its next item starts */
    uint64_t count, bytes; /* of its items in the line */
    uint32_t in_launch;    /* scratch of fc_queue_take() */
} fc_share;

/* What the queue has to know of a request. */
typedef struct fc_queue_item {
    struct fc_queue_item *prev, *next; /* the queue's while queued */
    fc_share *share;                   /* its peer's; never NULL */
    uint64_t start;                    /* the queue's: in virtual time */
    uint32_t cost;                     /* estimated work, in any unit */
    fc_plan plan;
    uint64_t peer, id;
    size_t bytes;           /* held while it waits: counts against the queue's bytes */
    size_t staging_bytes;   /* of the lane that runs it */
    uint32_t segment_count; /* of the launch that runs it */
    uint64_t deadline_ns;   /* FC_NEVER_NS: none */
    uint64_t halfway_ns;    /* half its time is over then */
} fc_queue_item;

typedef struct fc_queue {
    fc_queue_item *first, *last;
    uint64_t count, bytes, cost;
    uint64_t count_max, bytes_max;
    uint64_t peer_bytes_max; /* of one peer's items; init: any number */
    uint64_t now;            /* virtual time: where what was taken last started */
    uint64_t deadline_ns;    /* no item's deadline is earlier */
} fc_queue;

/* A peer may have at most so many times the room it leaves to others: what a flood fills, one alone or several
 * together, always ends before the bounds do. */
#define FC_QUEUE_GREED 8

/* What one launch may hold, besides what attention.h allows every launch of workspace and tickets. */
typedef struct fc_batch_limits {
    uint32_t requests;
    uint32_t requests_per_peer; /* 0: any number */
    uint64_t quick_cost;        /* what costs no more is soon done */
    uint32_t segments;
    size_t staging_bytes;
} fc_batch_limits;

void fc_queue_init(fc_queue *queue, uint64_t count_max, uint64_t bytes_max);

/* FC_BUSY: a bound is reached, or its peer has as much here as it may. A single item larger than bytes_max still enters
 * an empty queue, and the first of a peer needs no more than room. On FC_OK the item belongs to the queue until one of
 * the calls below hands it out. */
fc_status fc_queue_push(fc_queue *queue, fc_queue_item *item);

/* The cost of all that would be taken before the item, if it were pushed now and nothing came after it. */
uint64_t fc_queue_cost_ahead(const fc_queue *queue, const fc_queue_item *item);

/* Takes the first item and every one behind it that can share its launch, in order, as far as the limits go (the first
 * always goes, whatever its size); with requests_per_peer, but for those that are not quick and would more than double
 * the launch before it is their turn. Writes at most limits->requests pointers; returns how many, 0 when empty. */
uint32_t fc_queue_take(fc_queue *queue, const fc_batch_limits *limits, fc_queue_item **out_items);

/* The items whose deadline is at or before now, and those that will not make it, since running takes run_ns: a queue
 * longer than its requests' patience would otherwise run each of them just too late. What has more than half of its
 * time left stays, however long others run. */
fc_queue_item *fc_queue_expire(fc_queue *queue, uint64_t now_ns, uint64_t run_ns);

/* The oldest item of that peer with that id, or NULL. */
fc_queue_item *fc_queue_cancel(fc_queue *queue, uint64_t peer, uint64_t id);

fc_queue_item *fc_queue_drop_peer(fc_queue *queue, uint64_t peer);
fc_queue_item *fc_queue_drop_all(fc_queue *queue);

#endif
