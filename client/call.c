/* The call object: references, its end, waiting for it. How it gets its answer is flight.c's. */
#include "client/client.h"

#include <errno.h>
#include <stdlib.h>

/* The call whose callback this thread runs; NULL outside callbacks. */
static _Thread_local flashcore_call *running_callback;

bool fc_call_is_in_callback(void)
{
    return running_callback != NULL;
}

fc_status fc_call_create(flashcore_client *client, fc_op op, flashcore_call **out_call)
{
    flashcore_call *call = calloc(1, sizeof *call);
    if (call == NULL)
        return FC_NO_MEMORY;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&call->has_ended_cond, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&call->lock, NULL);
    call->reference_count = 1;
    call->client = client;
    call->wire.op = op;
    call->pinned_url = FC_CALL_ANY_URL;
    call->submitted_ns = fc_link_now_ns();
    call->deadline_ns =
        client->timeout_us == 0 ? UINT64_MAX : fc_client_later_ns(call->submitted_ns, client->timeout_us);
    *out_call = call;
    return FC_OK;
}

fc_status fc_call_create_pinned(flashcore_client *client, fc_op op, uint32_t url_index, uint32_t connection_id,
                                flashcore_call **out_call)
{
    fc_status status = fc_call_create(client, op, out_call);
    if (status != FC_OK)
        return status;
    (*out_call)->pinned_url = url_index;
    (*out_call)->pinned_connection = connection_id;
    return FC_OK;
}

void fc_call_set_useless(flashcore_call *call)
{
    uint64_t own_us = call->wire.op == FC_OP_ATTEND ? call->wire.attend.deadline_us : 0;
    uint64_t own_ns = own_us > 0 ? fc_client_later_ns(call->submitted_ns, own_us) : UINT64_MAX;
    call->useless_ns = own_ns < call->deadline_ns ? own_ns : call->deadline_ns;
}

void fc_call_tell_timeout(flashcore_call *call, uint64_t now_ns)
{
    if (call->wire.op != FC_OP_ATTEND || call->deadline_ns == UINT64_MAX)
        return;
    uint64_t left_us = call->deadline_ns > now_ns ? (call->deadline_ns - now_ns) / 1000 : 0;
    left_us = left_us > 0 ? left_us : 1; /* 0 is never */
    if (call->wire.attend.deadline_us == 0 || call->wire.attend.deadline_us > left_us)
        call->wire.attend.deadline_us = left_us;
}

uint64_t fc_call_excluded_urls(const flashcore_call *call)
{
    return call->excluded_mask | (call->pinned_url == FC_CALL_ANY_URL ? 0 : ~((uint64_t)1 << call->pinned_url));
}

bool fc_call_may_use_some_url(const flashcore_call *call)
{
    uint64_t all = UINT64_MAX >> (64 - call->client->url_count);
    return (~fc_call_excluded_urls(call) & all) != 0;
}

bool fc_call_may_return_to(flashcore_call *call, uint32_t url_index)
{
    call->excluded_mask &= ~((uint64_t)1 << url_index);
    return call->state == FC_CALL_WAITING && (fc_call_excluded_urls(call) >> url_index & 1) == 0;
}

uint64_t fc_call_busy_urls(const flashcore_call *call, uint64_t now_ns)
{
    const flashcore_client *client = call->client;
    if (call->wire.op != FC_OP_ATTEND || call->refusal == FC_BUSY)
        return 0;
    return fc_route_turning_away(client->routes, client->url_count, call->useless_ns, now_ns);
}

void fc_call_turn_away(flashcore_call *call, uint64_t busy_mask, uint64_t now_ns)
{
    uint64_t turn_ns = UINT64_MAX;
    for (uint32_t i = 0; i < call->client->url_count; i++) {
        const fc_route_url *url = &call->client->routes[i];
        if ((busy_mask >> i & 1) != 0 && url->turn_ns < turn_ns)
            turn_ns = url->turn_ns;
    }
    call->is_turned_away = true;
    call->result.retry_after_us = (turn_ns - now_ns) / 1000 + 1;
}

void fc_call_acquire(flashcore_call *call)
{
    pthread_mutex_lock(&call->lock);
    call->reference_count++;
    pthread_mutex_unlock(&call->lock);
}

void fc_call_release(flashcore_call *call)
{
    pthread_mutex_lock(&call->lock);
    bool is_last = --call->reference_count == 0;
    pthread_mutex_unlock(&call->lock);
    if (!is_last)
        return;
    fc_message_destroy(call->message);
    pthread_cond_destroy(&call->has_ended_cond);
    pthread_mutex_destroy(&call->lock);
    free(call);
}

void fc_call_end(flashcore_call *call)
{
    pthread_mutex_lock(&call->lock);
    call->has_result = true;
    pthread_mutex_unlock(&call->lock);
    if (call->callback != NULL) {
        running_callback = call;
        call->callback(call->callback_context, call, &call->result);
        running_callback = NULL;
    }
    pthread_mutex_lock(&call->lock);
    call->has_ended = true;
    pthread_cond_broadcast(&call->has_ended_cond);
    pthread_mutex_unlock(&call->lock);
}

/* Under call->lock. */
static bool is_over(const flashcore_call *call)
{
    return call->has_ended || (call->has_result && running_callback == call);
}

int flashcore_has_ended(flashcore_call *call)
{
    if (call == NULL)
        return 1;
    pthread_mutex_lock(&call->lock);
    bool result = is_over(call);
    pthread_mutex_unlock(&call->lock);
    return result;
}

flashcore_status flashcore_wait(flashcore_call *call, uint64_t timeout_us, flashcore_result *out_result)
{
    if (call == NULL)
        return FLASHCORE_INVALID_ARGUMENT;
    uint64_t until_ns = fc_client_later_ns(fc_link_now_ns(), timeout_us);
    struct timespec until = fc_link_timespec(until_ns);
    pthread_mutex_lock(&call->lock);
    int error = 0;
    while (!is_over(call) && error == 0) {
        if (until_ns == UINT64_MAX)
            pthread_cond_wait(&call->has_ended_cond, &call->lock);
        else
            error = pthread_cond_timedwait(&call->has_ended_cond, &call->lock, &until);
    }
    flashcore_status status = FLASHCORE_TIMED_OUT;
    if (is_over(call)) {
        status = call->result.status;
        if (out_result != NULL)
            *out_result = call->result;
    }
    pthread_mutex_unlock(&call->lock);
    return status;
}

flashcore_status flashcore_cancel(flashcore_call *call)
{
    if (call == NULL)
        return FLASHCORE_INVALID_ARGUMENT;
    pthread_mutex_lock(&call->lock);
    bool has_result = call->has_result;
    pthread_mutex_unlock(&call->lock);
    return has_result ? FLASHCORE_OK : (flashcore_status)fc_flight_cancel(call);
}

void flashcore_call_release(flashcore_call *call)
{
    if (call != NULL)
        fc_call_release(call);
}
