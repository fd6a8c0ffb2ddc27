/* See queue.h. One list, sorted by start; what looks through it looks through all of it, which at some thousand items
 * costs microseconds, and only cancel, expiry (when due), a lost peer and the search for company do so. */
#include "daemon/queue.h"

#include <assert.h>
#include <stddef.h>

void fc_queue_init(fc_queue *queue, uint64_t count_max, uint64_t bytes_max)
{
    *queue = (fc_queue){
        .count_max = count_max, .bytes_max = bytes_max, .peer_bytes_max = UINT64_MAX, .deadline_ns = FC_NEVER_NS};
}

static uint64_t weight_of(const fc_share *share)
{
    return share->owner != NULL && share->owner->peer_count > 1 ? share->owner->peer_count : 1;
}

/* Does somebody who has `used` leave enough of the `free` to others? */
static bool is_modest(const fc_share *share, uint64_t used, uint64_t free)
{
    return used < FC_QUEUE_GREED || used / FC_QUEUE_GREED * weight_of(share) < free;
}

static bool has_room(const fc_queue *queue, const fc_queue_item *item)
{
    const fc_share *share = item->share;
    if (queue->count == 0)
        return queue->count_max > 0;
    if (queue->count >= queue->count_max || queue->bytes > queue->bytes_max ||
        item->bytes > queue->bytes_max - queue->bytes)
        return false;
    if (share->count == 0)
        return true;
    if (share->bytes > queue->peer_bytes_max || item->bytes > queue->peer_bytes_max - share->bytes)
        return false;
    return is_modest(share, share->count, queue->count_max - queue->count) &&
           is_modest(share, share->bytes, queue->bytes_max - queue->bytes);
}

static uint64_t cost_of(const fc_queue_item *item)
{
    return item->cost > 0 ? item->cost : 1;
}

/* Where it starts: behind what its peer has sent; a new peer behind the owner's other new ones; nothing in the past. */
static uint64_t start_of(const fc_queue *queue, const fc_queue_item *item)
{
    const fc_share *share = item->share;
    uint64_t start = share->finish;
    if (start == 0 && share->owner != NULL)
        start = share->owner->finish;
    return start > queue->now ? start : queue->now;
}

static void set_start(fc_queue *queue, fc_queue_item *item)
{
    fc_share *share = item->share;
    item->start = start_of(queue, item);
    if (share->finish == 0 && share->owner != NULL)
        share->owner->finish = item->start + cost_of(item);
    share->finish = item->start + cost_of(item) * weight_of(share);
}

uint64_t fc_queue_cost_ahead(const fc_queue *queue, const fc_queue_item *item)
{
    uint64_t start = start_of(queue, item), cost = queue->cost;
    for (const fc_queue_item *behind = queue->last; behind != NULL && behind->start > start; behind = behind->prev)
        cost -= cost_of(behind);
    return cost;
}

/* The last item that is not behind this one; NULL: all are. Looked for from the nearer end. */
static fc_queue_item *find_place(const fc_queue *queue, const fc_queue_item *item)
{
    fc_queue_item *before = queue->last;
    if (before == NULL || before->start <= item->start)
        return before;
    if (item->start < queue->first->start)
        return NULL;
    if (before->start - item->start < item->start - queue->first->start) {
        while (before->start > item->start)
            before = before->prev;
        return before;
    }
    for (before = queue->first; before->next->start <= item->start;)
        before = before->next;
    return before;
}

fc_status fc_queue_push(fc_queue *queue, fc_queue_item *item)
{
    if (!has_room(queue, item))
        return FC_BUSY;
    set_start(queue, item);
    item->prev = find_place(queue, item);
    item->next = item->prev != NULL ? item->prev->next : queue->first;
    *(item->prev != NULL ? &item->prev->next : &queue->first) = item;
    *(item->next != NULL ? &item->next->prev : &queue->last) = item;
    queue->count++;
    queue->bytes += item->bytes;
    queue->cost += cost_of(item);
    item->share->count++;
    item->share->bytes += item->bytes;
    if (item->deadline_ns < queue->deadline_ns)
        queue->deadline_ns = item->deadline_ns;
    return FC_OK;
}

static void unlink_item(fc_queue *queue, fc_queue_item *item)
{
    *(item->prev != NULL ? &item->prev->next : &queue->first) = item->next;
    *(item->next != NULL ? &item->next->prev : &queue->last) = item->prev;
    item->prev = item->next = NULL;
    assert(queue->count > 0 && queue->bytes >= item->bytes);
    queue->count--;
    queue->bytes -= item->bytes;
    queue->cost -= cost_of(item);
    assert(item->share->count > 0 && item->share->bytes >= item->bytes);
    item->share->count--;
    item->share->bytes -= item->bytes;
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

/* Is it not its turn yet, and longer than all that is in the launch? Among peers, those others would wait for it. */
static bool is_in_the_way(const fc_queue *queue, const fc_queue_item *item, const fc_batch_limits *limits,
                          uint64_t cost)
{
    return limits->requests_per_peer > 0 && item->start > queue->now && item->cost > cost &&
           item->cost > limits->quick_cost;
}

/* Has its peer as many in the launch as it may? */
static bool is_at_limit(const fc_queue_item *item, const fc_batch_limits *limits)
{
    return limits->requests_per_peer > 0 && item->share->in_launch >= limits->requests_per_peer;
}

static uint32_t take_company(fc_queue *queue, const fc_batch_limits *limits, fc_queue_item *next, load *sum,
                             fc_queue_item **out_items)
{
    const fc_queue_item *lead = out_items[0];
    uint64_t cost = lead->cost;
    uint32_t count = 1;
    for (fc_queue_item *item = next; item != NULL && count < limits->requests; item = next) {
        next = item->next;
        if (is_at_limit(item, limits) || is_in_the_way(queue, item, limits, cost) ||
            !fc_plan_can_share(&lead->plan, &item->plan) || !add_load(sum, item, limits))
            continue;
        item->share->in_launch++;
        cost += item->cost;
        out_items[count++] = item;
        unlink_item(queue, item);
    }
    return count;
}

uint32_t fc_queue_take(fc_queue *queue, const fc_batch_limits *limits, fc_queue_item **out_items)
{
    fc_queue_item *lead = queue->first;
    if (lead == NULL)
        return 0;
    load sum = {lead->segment_count, lead->staging_bytes, lead->plan.workspace_bytes, lead->plan.ticket_count};
    fc_queue_item *next = lead->next;
    if (lead->start > queue->now)
        queue->now = lead->start;
    out_items[0] = lead;
    lead->share->in_launch = 1;
    unlink_item(queue, lead);
    uint32_t count = take_company(queue, limits, next, &sum, out_items);
    for (uint32_t i = 0; i < count; i++)
        out_items[i]->share->in_launch = 0;
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

static bool is_too_late(const fc_queue_item *item, uint64_t now_ns, uint64_t run_ns)
{
    return item->deadline_ns <= now_ns || (item->deadline_ns - now_ns < run_ns && item->halfway_ns <= now_ns);
}

fc_queue_item *fc_queue_expire(fc_queue *queue, uint64_t now_ns, uint64_t run_ns)
{
    if (now_ns < queue->deadline_ns && queue->deadline_ns - now_ns >= run_ns)
        return NULL;
    chain taken = {.first = NULL};
    uint64_t earliest_ns = FC_NEVER_NS;
    for (fc_queue_item *item = queue->first, *next; item != NULL; item = next) {
        next = item->next;
        if (is_too_late(item, now_ns, run_ns))
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
