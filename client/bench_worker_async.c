/* A client with several requests under way. The worker's thread submits and counts; the library's callback only takes
 * the time and puts the slot on a list.
 */
#include "client/bench_worker_impl.h"

#include "client/tool_clock.h"

#include <string.h>

static void take_result(void *context, flashcore_call *call, const flashcore_result *result)
{
    (void)call;
    fc_slot *slot = context;
    slot->done_ns = fc_clock_now_ns();
    slot->result = *result;
    pthread_mutex_lock(&slot->worker->ended_lock);
    slot->next = slot->worker->ended;
    slot->worker->ended = slot;
    pthread_cond_signal(&slot->worker->has_ended);
    pthread_mutex_unlock(&slot->worker->ended_lock);
}

/* Slots that have ended since the last look, waiting for one until until_ns. NULL: none. */
static fc_slot *take_ended(fc_worker *worker, uint64_t until_ns)
{
    struct timespec until = fc_clock_timespec(until_ns);
    pthread_mutex_lock(&worker->ended_lock);
    int timed_out = 0;
    while (worker->ended == NULL && timed_out == 0 && until_ns != 0)
        timed_out = pthread_cond_timedwait(&worker->has_ended, &worker->ended_lock, &until);
    fc_slot *ended = worker->ended;
    worker->ended = NULL;
    pthread_mutex_unlock(&worker->ended_lock);
    return ended;
}

/* The loop's own state: slots not in use, and how many are. */
typedef struct loop {
    fc_slot *free;
    size_t busy_count;
} loop;

static void put_back(loop *l, fc_slot *slot)
{
    slot->next = l->free;
    l->free = slot;
}

static void send_one(fc_worker *worker, loop *l, uint64_t intended_ns)
{
    fc_slot *slot = l->free;
    l->free = slot->next;
    fc_worker_prepare(worker, slot);
    slot->sent_ns = fc_clock_now_ns();
    slot->intended_ns = worker->shared->options->rate > 0 ? intended_ns : slot->sent_ns;
    flashcore_status status = flashcore_submit(worker->client, &slot->request, take_result, slot, &slot->call);
    if (status == FLASHCORE_OK) {
        l->busy_count++;
        return;
    }
    slot->done_ns = fc_clock_now_ns();
    slot->result = (flashcore_result){.status = status};
    snprintf(slot->result.error, sizeof slot->result.error, "%s", flashcore_last_error());
    fc_worker_count(worker, slot);
    put_back(l, slot);
    fc_clock_sleep_until(slot->done_ns + FC_NS_PER_S / 100); /* it will not be better at once */
}

static void count_ended(fc_worker *worker, loop *l, fc_slot *ended)
{
    while (ended != NULL) {
        fc_slot *slot = ended;
        ended = slot->next;
        /* The callback has handed the slot over but may not have returned: the call's memory is the library's till. */
        flashcore_wait(slot->call, UINT64_MAX, NULL);
        flashcore_call_release(slot->call);
        slot->call = NULL;
        fc_worker_count(worker, slot);
        put_back(l, slot);
        l->busy_count--;
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void fc_worker_run_async(fc_worker *worker)
{
    loop l = {.free = NULL};
    for (size_t i = 0; i < worker->slot_count; i++)
        put_back(&l, &worker->slots[i]);
    uint64_t now_ns = fc_clock_now_ns();
    uint64_t intended_ns = fc_worker_next_send_ns(worker, now_ns);
    while (!fc_worker_is_over(worker, now_ns) && !fc_worker_is_over(worker, intended_ns)) {
        if (l.free != NULL && intended_ns <= now_ns) {
            send_one(worker, &l, intended_ns);
            intended_ns = fc_worker_next_send_ns(worker, now_ns);
            count_ended(worker, &l, take_ended(worker, 0));
        } else {
            uint64_t until_ns = l.free != NULL ? intended_ns : worker->shared->window.end_ns;
            count_ended(worker, &l, take_ended(worker, earlier(until_ns, now_ns + FC_WORKER_LOOK_NS)));
        }
        now_ns = fc_clock_now_ns();
    }
    fc_worker_count_unsent(worker, intended_ns);
    while (l.busy_count > 0)
        count_ended(worker, &l, take_ended(worker, fc_clock_now_ns() + FC_WORKER_LOOK_NS));
}
