/* See queue.h. One linked list; what looks through it looks through all of it, which at some thousand items costs
 * microseconds, and only cancel, expiry (when due), a lost peer and the search for company do so. */
#include "daemon/queue.h"

#include <assert.h>
#include <stddef.h>

void fc_queue_init(fc_queue *queue, uint64_t count_max, uint64_t bytes_max)
{
    *queue = (fc_queue){.count_max = count_max, .bytes_max = bytes_max, .deadline_ns = FC_NEVER_NS};
}

fc_status fc_queue_push(fc_queue *queue, fc_queue_item *item)
{
    if (queue->count >= queue->count_max)
        return FC_BUSY;
    bool fits = queue->bytes <= queue->bytes_max && item->bytes <= queue->bytes_max - queue->bytes;
    if (!fits && queue->count > 0)
        return FC_BUSY;
    item->next = NULL;
    item->prev = queue->last;
    if (queue->last != NULL)
        queue->last->next = item;
    else
        queue->first = item;
    queue->last = item;
    queue->count++;
    queue->bytes += item->bytes;
    if (item->deadline_ns < queue->deadline_ns)
        queue->deadline_ns = item->deadline_ns;
    return FC_OK;
}

static void unlink_item(fc_queue *queue, fc_queue_item *item)
{
    if (item->prev != NULL)
        item->prev->next = item->next;
    else
        queue->first = item->next;
    if (item->next != NULL)
        item->next->prev = item->prev;
    else
        queue->last = item->prev;
    item->prev = item->next = NULL;
    assert(queue->count > 0 && queue->bytes >= item->bytes);
    queue->count--;
    queue->bytes -= item->bytes;
    if (queue->count == 0)
        queue->deadline_ns = FC_NEVER_NS;
}

/* What the items of a launch need together. */
typedef struct load {
    uint64_t segments, staging_bytes, workspace_bytes, tickets;
} load;

/* Adds the item; false, and nothing added, when the launch then holds too much. */
static bool add_load(load *sum, const fc_queue_item *item, const fc_batch_limits *limits)
{
    load more = {
        .segments = sum->segments + item->segment_count,
        .staging_bytes = sum->staging_bytes + item->staging_bytes,
        .workspace_bytes = sum->workspace_bytes + item->plan.workspace_bytes,
        .tickets = sum->tickets + item->plan.ticket_count,
    };
    if (more.segments > limits->segments || more.staging_bytes > limits->staging_bytes ||
        more.workspace_bytes > FC_LAUNCH_WORKSPACE_BYTES_MAX || more.tickets > FC_LAUNCH_TICKETS_MAX)
        return false;
    *sum = more;
    return true;
}

uint32_t fc_queue_take(fc_queue *queue, const fc_batch_limits *limits, fc_queue_item **out_items)
{
    fc_queue_item *oldest = queue->first;
    if (oldest == NULL)
        return 0;
    uint32_t count = 1;
    load sum = {oldest->segment_count, oldest->staging_bytes, oldest->plan.workspace_bytes, oldest->plan.ticket_count};
    fc_queue_item *next = oldest->next;
    out_items[0] = oldest;
    unlink_item(queue, oldest);
    for (fc_queue_item *item = next; item != NULL && count < limits->requests; item = next) {
        next = item->next;
        if (!fc_plan_can_share(&oldest->plan, &item->plan))
            continue;
        if (!add_load(&sum, item, limits))
            continue;
        out_items[count++] = item;
        unlink_item(queue, item);
    }
    return count;
}

/* Collects what is taken out of the queue into a chain, in order. */
typedef struct chain {
    fc_queue_item *first, *last;
} chain;

static void move_to_chain(fc_queue *queue, fc_queue_item *item, chain *taken)
{
    unlink_item(queue, item);
    if (taken->last != NULL)
        taken->last->next = item;
    else
        taken->first = item;
    taken->last = item;
}

fc_queue_item *fc_queue_expire(fc_queue *queue, uint64_t now_ns)
{
    if (now_ns < queue->deadline_ns)
        return NULL;
    chain taken = {.first = NULL};
    uint64_t earliest_ns = FC_NEVER_NS;
    for (fc_queue_item *item = queue->first, *next; item != NULL; item = next) {
        next = item->next;
        if (item->deadline_ns <= now_ns)
            move_to_chain(queue, item, &taken);
        else if (item->deadline_ns < earliest_ns)
            earliest_ns = item->deadline_ns;
    }
    queue->deadline_ns = earliest_ns;
    return taken.first;
}

fc_queue_item *fc_queue_cancel(fc_queue *queue, uint64_t peer, uint64_t id)
{
    for (fc_queue_item *item = queue->first; item != NULL; item = item->next) {
        if (item->peer == peer && item->id == id) {
            unlink_item(queue, item);
            return item;
        }
    }
    return NULL;
}

fc_queue_item *fc_queue_drop_peer(fc_queue *queue, uint64_t peer)
{
    chain taken = {.first = NULL};
    for (fc_queue_item *item = queue->first, *next; item != NULL; item = next) {
        next = item->next;
        if (item->peer == peer)
            move_to_chain(queue, item, &taken);
    }
    return taken.first;
}

fc_queue_item *fc_queue_drop_all(fc_queue *queue)
{
    chain taken = {.first = NULL};
    while (queue->first != NULL)
        move_to_chain(queue, queue->first, &taken);
    return taken.first;
}
