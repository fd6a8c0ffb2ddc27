/* The bounded waiting line: oldest first, limited in count and in bytes.
 *
 * Pure: no locks, no clock, no allocation; the owner locks and passes the time. Items are embedded in what waits and
 * linked while they wait. Results of more than one item come as a chain over `next`, in arrival order, ended by NULL.
 */
#ifndef FC_DAEMON_QUEUE_H
#define FC_DAEMON_QUEUE_H

#include "kernels/attention.h"

#define FC_NEVER_NS UINT64_MAX /* a deadline that never comes */

/* What the queue has to know of a request. */
typedef struct fc_queue_item {
    struct fc_queue_item *prev, *next; /* the queue's while queued */
    fc_plan plan;
    uint64_t peer, id;
    size_t bytes;           /* held while it waits: counts against the queue's bytes */
    size_t staging_bytes;   /* of the lane that runs it */
    uint32_t segment_count; /* of the launch that runs it */
    uint64_t deadline_ns;   /* FC_NEVER_NS: none */
} fc_queue_item;

typedef struct fc_queue {
    fc_queue_item *first, *last;
    uint64_t count, bytes;
    uint64_t count_max, bytes_max;
    uint64_t deadline_ns; /* no item's deadline is earlier */
} fc_queue;

/* What one launch may hold, besides what attention.h allows every launch of workspace and tickets. */
typedef struct fc_batch_limits {
    uint32_t requests;
    uint32_t segments;
    size_t staging_bytes;
} fc_batch_limits;

void fc_queue_init(fc_queue *queue, uint64_t count_max, uint64_t bytes_max);

/* FC_BUSY: a bound is reached. A single item larger than bytes_max still enters an empty queue. On FC_OK the item
 * belongs to the queue until one of the calls below hands it out. */
fc_status fc_queue_push(fc_queue *queue, fc_queue_item *item);

/* Takes the oldest item and every one behind it that can share its launch, in order, as far as the limits go (the
 * oldest always goes, whatever its size). Writes at most limits->requests pointers; returns how many, 0 when empty. */
uint32_t fc_queue_take(fc_queue *queue, const fc_batch_limits *limits, fc_queue_item **out_items);

/* The items whose deadline is at or before now. */
fc_queue_item *fc_queue_expire(fc_queue *queue, uint64_t now_ns);

/* The oldest item of that peer with that id, or NULL. */
fc_queue_item *fc_queue_cancel(fc_queue *queue, uint64_t peer, uint64_t id);

fc_queue_item *fc_queue_drop_peer(fc_queue *queue, uint64_t peer);
fc_queue_item *fc_queue_drop_all(fc_queue *queue);

#endif
