/* How a call gets its answer: choosing a URL, sending, waiting for connections and busy servers, giving up. See the
 * life of a call in client.h. Must never repeat what may have started: only an answer of `busy` or `draining`, or the
 * exchange's word that nothing of it was written, lets a request be sent again.
 */
#include "client/arena.h"
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_DELAY_US_MIN 500            /* when the server names no time */
#define CANCEL_TIMEOUT_US (10 * 1000000) /* of the message that takes a call back */

static void on_exchange(void *owner, fc_exchange_event event, fc_status status, fc_message *message);

/* --- small steps, all under client->lock -------------------------------------------------------------------------- */

#define STATE_BIT(state) (1u << (state))

/* The only writer of call->state; keeps the URL's count of requests in flight. */
static void set_state(flashcore_call *call, fc_call_state next)
{
    static const uint8_t ALLOWED[FC_CALL_STATE_COUNT] = {
        [FC_CALL_PLACING] = STATE_BIT(FC_CALL_WAITING) | STATE_BIT(FC_CALL_FLYING) | STATE_BIT(FC_CALL_ENDED),
        [FC_CALL_WAITING] = STATE_BIT(FC_CALL_PLACING),
        [FC_CALL_FLYING] = STATE_BIT(FC_CALL_BACKOFF) | STATE_BIT(FC_CALL_PLACING) | STATE_BIT(FC_CALL_ENDED),
        [FC_CALL_BACKOFF] = STATE_BIT(FC_CALL_PLACING),
    };
    if ((ALLOWED[call->state] & STATE_BIT(next)) == 0)
        abort(); /* our own bug: going on could send a request twice */
    if (next == FC_CALL_FLYING)
        call->client->routes[call->url_index].inflight_count++;
    if (call->state == FC_CALL_FLYING)
        call->client->routes[call->url_index].inflight_count--;
    call->state = next;
}

static bool is_called_off(const flashcore_call *call)
{
    return call->is_cancelled || call->client->is_closing;
}

static fc_status make_slot(flashcore_client *client)
{
    fc_slot *slot = calloc(1, sizeof *slot);
    if (slot == NULL)
        return FC_NO_MEMORY;
    fc_status status = fc_exchange_create(client->net, on_exchange, slot, &slot->exchange);
    if (status != FC_OK) {
        free(slot);
        return status;
    }
    slot->next_made = client->made_slots;
    client->made_slots = slot;
    slot->next_free = client->free_slots;
    client->free_slots = slot;
    return FC_OK;
}

/* Gives the call a slot and enters it in the books. */
static fc_status enter(flashcore_call *call)
{
    flashcore_client *client = call->client;
    if (client->free_slots == NULL) {
        fc_status status = make_slot(client);
        if (status != FC_OK)
            return status;
    }
    call->slot = client->free_slots;
    client->free_slots = call->slot->next_free;
    call->slot->call = call;
    call->wire.id = client->next_id++;
    fc_call_set_useless(call);
    call->next = client->calls;
    if (client->calls != NULL)
        client->calls->previous = call;
    client->calls = call;
    client->inflight_count += call->counts_as_inflight;
    client->unfinished_count += 1 + call->is_attended; /* destroy waits for fc_flight_attend() too */
    return FC_OK;
}

/* Undoes enter() but for unfinished_count. */
static void leave(flashcore_call *call)
{
    flashcore_client *client = call->client;
    set_state(call, FC_CALL_ENDED);
    fc_arena_leave(call);
    *(call->previous != NULL ? &call->previous->next : &client->calls) = call->next;
    if (call->next != NULL)
        call->next->previous = call->previous;
    call->slot->call = NULL;
    call->slot->next_free = client->free_slots;
    client->free_slots = call->slot;
    call->slot = NULL;
    client->inflight_count -= call->counts_as_inflight;
    pthread_cond_broadcast(&client->changed);
}

/* "no connection to URL", and why where that is known. */
static fc_reason no_connection(const flashcore_call *call, fc_status *out_status)
{
    const flashcore_client *client = call->client;
    bool is_pinned = call->pinned_url != FC_CALL_ANY_URL;
    uint32_t url = is_pinned ? call->pinned_url : 0;
    fc_reason why, text;
    *out_status = fc_link_explain(client->urls[url].link, &why);
    snprintf(text.text, sizeof text.text, "no connection to %.120s%s%s%.80s", client->urls[url].text,
             client->url_count > 1 && !is_pinned ? " or the other URLs" : "", why.text[0] != '\0' ? ": " : "",
             why.text);
    return text;
}

/* Its time passed while it was nowhere: a server's refusal, if there was one, says more than the clock. */
static fc_status out_of_time(const flashcore_call *call, fc_reason *out_reason)
{
    if (call->refusal != FC_OK)
        return fc_fail(call->refusal, out_reason, "%s, until the call's time was up", fc_status_text(call->refusal));
    if (call->connect_deadline_ns != 0) {
        fc_status why;
        return fc_fail(FC_TIMED_OUT, out_reason, "timed out: %.220s", no_connection(call, &why).text);
    }
    return fc_fail(FC_TIMED_OUT, out_reason, "timed out; the request was never started");
}

static fc_status sleep_until(flashcore_call *call, uint64_t until_ns)
{
    set_state(call, FC_CALL_WAITING);
    fc_exchange_set_attended(call->slot->exchange, call->is_attended);
    fc_exchange_sleep(call->slot->exchange, until_ns);
    return FC_OK;
}

/* Puts the call asleep until a URL comes up, or says that it has waited long enough. */
static fc_status wait_for_connection(flashcore_call *call, uint64_t now_ns, fc_reason *out_reason)
{
    flashcore_client *client = call->client;
    if (call->pinned_connection != 0)
        return fc_fail(FC_CONNECTION_LOST, out_reason, "the connection is gone");
    if (call->connect_deadline_ns == 0)
        call->connect_deadline_ns = fc_client_later_ns(now_ns, client->connect_timeout_us);
    uint64_t until_ns = call->connect_deadline_ns < call->deadline_ns ? call->connect_deadline_ns : call->deadline_ns;
    if (now_ns >= until_ns && call->refusal == FC_DRAINING)
        return fc_fail(FC_DRAINING, out_reason, "the server is draining and no other URL is connected");
    if (now_ns >= call->connect_deadline_ns) {
        fc_status status;
        fc_reason text = no_connection(call, &status);
        return fc_fail(status, out_reason, "%s", text.text);
    }
    if (now_ns >= call->deadline_ns)
        return out_of_time(call, out_reason);
    return sleep_until(call, until_ns);
}

/* What the local channel carries. */
static bool fits_a_packet(const flashcore_call *call)
{
    size_t size_bytes;
    fc_message_bytes(call->message, &size_bytes);
    return call->wire.op != FC_OP_ATTEND && size_bytes <= FC_PACKET_BYTES;
}

/* Which of a URL's two connections takes the call: the one it is pinned to, else the local channel where it can. NULL:
 * the one it is pinned to is gone. */
static fc_link *choose_link(flashcore_call *call, const fc_client_url *url)
{
    uint32_t pinned = call->pinned_connection;
    bool is_to_side =
        pinned != 0 ? pinned == url->side_connection_id : url->side_connection_id != 0 && fits_a_packet(call);
    call->connection_id = is_to_side ? url->side_connection_id : url->connection_id;
    if (pinned != 0 && pinned != call->connection_id)
        return NULL;
    return is_to_side ? url->side : url->link;
}

/* Sends the call's message to a URL, or has it wait for one. FC_OK: a notification will come. Else the call, still
 * PLACING and with its message, is at its end. */
static fc_status place(flashcore_call *call, fc_reason *out_reason)
{
    flashcore_client *client = call->client;
    if (is_called_off(call))
        return fc_fail(FC_CANCELLED, out_reason, "cancelled before it was sent");
    uint64_t now_ns = fc_link_now_ns();
    if (now_ns >= call->deadline_ns)
        return out_of_time(call, out_reason);
    uint64_t excluded_mask = fc_call_excluded_urls(call);
    uint64_t busy_mask = fc_call_busy_urls(call, now_ns) & ~excluded_mask;
    if (call->is_turned_away)
        return fc_fail(FC_BUSY, out_reason, "the server is busy, until after this call's time; it was not sent");
    uint32_t i = fc_route_choose(client->routes, client->url_count, excluded_mask | busy_mask, &client->route_cursor);
    if (i == FC_ROUTE_NONE && busy_mask != 0) {
        fc_call_turn_away(call, busy_mask, now_ns);
        return sleep_until(call, now_ns); /* it ends as a refusal by the server does: through a notification */
    }
    fc_link *link = i != FC_ROUTE_NONE ? choose_link(call, &client->urls[i]) : NULL;
    if (link == NULL)
        return wait_for_connection(call, now_ns, out_reason);
    fc_message *message = call->message;
    call->message = NULL;
    call->connect_deadline_ns = 0;
    call->url_index = i;
    set_state(call, FC_CALL_FLYING);
    fc_exchange_set_id(call->slot->exchange, call->wire.id);
    fc_exchange_set_attended(call->slot->exchange, call->is_attended);
    fc_exchange_send(call->slot->exchange, link, message, call->deadline_ns);
    return FC_OK;
}

/* --- continuations: called by their holder, no lock held ---------------------------------------------------------- */

static fc_status encode(flashcore_call *call, fc_reason *out_reason)
{
    fc_call_tell_timeout(call, fc_link_now_ns());
    size_t size_bytes = fc_codec_request_bound(&call->wire, call->wire.attend.kv_len_count);
    if (size_bytes == SIZE_MAX)
        return fc_fail(FC_TOO_LARGE, out_reason, "a tensor is larger than a message can carry (4 GiB)");
    fc_message *message;
    fc_status status = fc_message_create(size_bytes, &message);
    if (status != FC_OK)
        return fc_fail(status, out_reason, "no memory for a message of %zu bytes", size_bytes);
    void *bytes = fc_message_bytes(message, &size_bytes);
    status = fc_codec_encode_request(&call->wire, call->kv_len, bytes, size_bytes, &size_bytes);
    if (status != FC_OK) {
        fc_message_destroy(message);
        return fc_fail(status, out_reason, "cannot encode the request: %s", fc_status_text(status));
    }
    fc_message_trim(message, size_bytes);
    call->message = message;
    return FC_OK;
}

/* Ends the call with status; its error text stands already or is the reason, or the status's own. */
static void finish(flashcore_call *call, fc_status status, const fc_reason *reason)
{
    flashcore_client *client = call->client;
    flashcore_result *result = &call->result;
    result->status = (flashcore_status)status;
    result->url_index = call->url_index;
    result->client_total_us = (double)(fc_link_now_ns() - call->submitted_ns) / 1000.0;
    if (reason != NULL)
        snprintf(result->error, sizeof result->error, "%s", reason->text);
    if (status == FC_OK)
        result->error[0] = '\0';
    else if (result->error[0] == '\0')
        snprintf(result->error, sizeof result->error, "%s", fc_status_text(status));
    if (status != FC_BUSY)
        result->retry_after_us = 0;

    pthread_mutex_lock(&client->lock);
    leave(call);
    pthread_mutex_unlock(&client->lock);
    fc_call_end(call);
    fc_call_release(call);
    /* The last touch: destroy may go on from here. It still waits for this notification to return. */
    pthread_mutex_lock(&client->lock);
    if (--client->unfinished_count == 0)
        pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

/* Sends a call that is nowhere, or has it wait for a URL. Placed in an arena whose connection has gone, it carries its
 * tensors itself, unless they are the device's. FC_OK: a notification will come. */
static fc_status dispatch(flashcore_call *call, fc_reason *out_reason)
{
    flashcore_client *client = call->client;
    for (;;) {
        fc_status status = call->message != NULL ? FC_OK : encode(call, out_reason);
        if (status != FC_OK)
            return status;
        pthread_mutex_lock(&client->lock);
        status = place(call, out_reason);
        bool has_lost_arena = status == FC_CONNECTION_LOST && call->is_placed && !call->is_on_device;
        if (has_lost_arena)
            fc_arena_unplace_call(call);
        else if (status == FC_CONNECTION_LOST && call->is_on_device)
            status = fc_arena_fail_lost(out_reason);
        pthread_mutex_unlock(&client->lock);
        if (!has_lost_arena)
            return status;
        fc_message_destroy(call->message);
        call->message = NULL;
    }
}

/* Moves a call that is nowhere to a URL, into waiting, or to its end. */
static void proceed(flashcore_call *call)
{
    fc_reason reason = {""};
    fc_status status = dispatch(call, &reason);
    if (status != FC_OK)
        finish(call, status, &reason);
}

static void send_cancel(flashcore_call *target);

static void on_unsent(flashcore_call *call, fc_status status)
{
    fc_reason reason;
    if (status == FC_TIMED_OUT) {
        finish(call, out_of_time(call, &reason), &reason);
        return;
    }
    /* By cancel, by destroy, or because its connection went: place() knows which. */
    pthread_mutex_lock(&call->client->lock);
    set_state(call, FC_CALL_PLACING);
    pthread_mutex_unlock(&call->client->lock);
    proceed(call);
}

static void on_woke(flashcore_call *call)
{
    pthread_mutex_lock(&call->client->lock);
    set_state(call, FC_CALL_PLACING);
    pthread_mutex_unlock(&call->client->lock);
    proceed(call);
}

static void on_broken(flashcore_call *call, fc_status status)
{
    flashcore_client *client = call->client;
    fc_reason reason;
    if (status == FC_TIMED_OUT && call->wire.op == FC_OP_ATTEND) {
        pthread_mutex_lock(&client->lock);
        if (!call->has_sent_cancel)
            send_cancel(call); /* nobody waits for it any more: the server may drop it if it is still queued */
        pthread_mutex_unlock(&client->lock);
    }
    call->is_unanswered = true;
    const char *url = client->urls[call->url_index].text;
    if (status == FC_CONNECTION_LOST)
        fc_fail(status, &reason, "the connection to %.150s broke after sending; it may have run", url);
    else if (status == FC_TIMED_OUT)
        fc_fail(status, &reason, "no answer from %.150s in time; it may still run", url);
    else if (status == FC_CANCELLED)
        fc_fail(status, &reason, "the client was destroyed; it may still run");
    else
        fc_fail(status, &reason, "%s", fc_status_text(status));
    finish(call, status, &reason);
}

/* It did not run, and yet is not sent again: a server hangs up on a message above its limit, and would on each. */
static void on_cut(flashcore_call *call)
{
    fc_reason reason;
    fc_fail(FC_CONNECTION_LOST, &reason,
            "the connection to %.100s broke within the request, which did not run; a server "
            "hangs up on a message above its limit (message_bytes)",
            call->client->urls[call->url_index].text);
    finish(call, FC_CONNECTION_LOST, &reason);
}

/* True: the call sleeps and will try again. */
static bool try_back_off(flashcore_call *call)
{
    flashcore_client *client = call->client;
    uint64_t now_ns = fc_link_now_ns(), delay_us = call->result.retry_after_us;
    delay_us = delay_us > BUSY_DELAY_US_MIN ? delay_us : BUSY_DELAY_US_MIN;
    pthread_mutex_lock(&client->lock);
    if (call->wire.op == FC_OP_ATTEND)
        fc_route_refused(&client->routes[call->url_index], delay_us, now_ns);
    /* Up to half as long again, so that those refused together do not come back together. */
    if (delay_us < UINT64_MAX / 2)
        delay_us += fc_link_random(&client->jitter_state) % (delay_us / 2 + 1);
    bool is_worth_it = !is_called_off(call) && fc_client_later_ns(now_ns, delay_us) < call->useless_ns;
    if (is_worth_it) {
        set_state(call, FC_CALL_BACKOFF);
        fc_exchange_sleep(call->slot->exchange, fc_client_later_ns(now_ns, delay_us));
    }
    pthread_mutex_unlock(&client->lock);
    return is_worth_it;
}

/* True: the call went to (or waits for) another URL. */
static bool try_elsewhere(flashcore_call *call)
{
    flashcore_client *client = call->client;
    pthread_mutex_lock(&client->lock);
    call->excluded_mask |= (uint64_t)1 << call->url_index;
    if (client->urls[call->url_index].connection_id == call->connection_id ||
        client->urls[call->url_index].side_connection_id == call->connection_id)
        client->routes[call->url_index].is_draining = true;
    if (call->is_placed && !call->is_on_device)
        fc_arena_unplace_call(call);
    bool is_worth_it = !is_called_off(call) && fc_call_may_use_some_url(call) && !call->is_on_device;
    if (is_worth_it)
        set_state(call, FC_CALL_PLACING);
    pthread_mutex_unlock(&client->lock);
    if (is_worth_it)
        proceed(call);
    return is_worth_it;
}

static bool was_called_off(flashcore_call *call)
{
    pthread_mutex_lock(&call->client->lock);
    bool result = is_called_off(call);
    pthread_mutex_unlock(&call->client->lock);
    return result;
}

static void on_reply(flashcore_call *call, fc_message *message)
{
    size_t size_bytes;
    const void *bytes = fc_message_bytes(message, &size_bytes);
    fc_status status = fc_translate_reply(bytes, size_bytes, &call->wire, &call->sink, &call->result);
    if (status == FC_OK && call->sink.made != NULL) {
        int fds[FC_MESSAGE_DESCRIPTORS];
        fc_message_take_descriptors(message, fds);
        call->sink.made->fd = fds[0];
        call->sink.made->lifeline_fd = fds[1];
    }
    fc_message_destroy(message);
    bool is_refused = status == FC_BUSY || status == FC_DRAINING;
    call->refusal = is_refused ? status : FC_OK;
    if (status == FC_BUSY && try_back_off(call))
        return;
    if (status == FC_DRAINING && try_elsewhere(call))
        return;
    finish(call, is_refused && was_called_off(call) ? FC_CANCELLED : status, NULL);
}

static void on_exchange(void *owner, fc_exchange_event event, fc_status status, fc_message *message)
{
    flashcore_call *call = ((fc_slot *)owner)->call;
    switch (event) {
    case FC_EXCHANGE_UNSENT:
        call->message = message;
        on_unsent(call, status);
        break;
    case FC_EXCHANGE_REPLIED:
        on_reply(call, message);
        break;
    case FC_EXCHANGE_BROKEN:
        on_broken(call, status);
        break;
    case FC_EXCHANGE_CUT:
        on_cut(call);
        break;
    case FC_EXCHANGE_WOKE:
        on_woke(call);
        break;
    }
}

/* --- entry points ------------------------------------------------------------------------------------------------- */

/* Under client->lock: waits for room among the calls in flight. */
static fc_status wait_for_room(flashcore_call *call, bool can_block, fc_reason *out_reason)
{
    flashcore_client *client = call->client;
    uint64_t until_ns = fc_client_later_ns(call->submitted_ns, client->connect_timeout_us);
    struct timespec until = fc_link_timespec(until_ns);
    int error = can_block ? 0 : 1;
    while (client->inflight_count >= client->inflight_max && !client->is_closing && error == 0)
        error = pthread_cond_timedwait(&client->changed, &client->lock, &until);
    if (client->is_closing)
        return fc_fail(FC_CANCELLED, out_reason, "the client is being destroyed");
    if (client->inflight_count >= client->inflight_max)
        return fc_fail(FC_BUSY, out_reason, "inflight_max (%u) calls are under way", client->inflight_max);
    return FC_OK;
}

fc_status fc_flight_begin(flashcore_call *call, bool can_block, fc_reason *out_reason)
{
    flashcore_client *client = call->client;
    pthread_mutex_lock(&client->lock);
    fc_status status = call->counts_as_inflight ? wait_for_room(call, can_block, out_reason) : FC_OK;
    if (status == FC_OK && (status = enter(call)) != FC_OK)
        fc_fail(status, out_reason, "out of memory");
    pthread_mutex_unlock(&client->lock);
    if (status != FC_OK)
        return status;
    fc_call_acquire(call);
    status = fc_arena_place_call(call, out_reason);
    if (status == FC_OK)
        status = dispatch(call, out_reason);
    if (status == FC_OK)
        return FC_OK;
    pthread_mutex_lock(&client->lock);
    leave(call);
    client->unfinished_count -= 1 + call->is_attended;
    if (client->unfinished_count == 0)
        pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
    fc_call_release(call);
    return status;
}

static bool has_ended(void *call)
{
    return flashcore_has_ended(call) != 0;
}

void fc_flight_attend(flashcore_call *call)
{
    flashcore_client *client = call->client;
    pthread_mutex_lock(&client->lock);
    fc_exchange *exchange = call->slot != NULL ? call->slot->exchange : NULL;
    pthread_mutex_unlock(&client->lock);
    if (exchange != NULL)
        fc_exchange_attend(exchange, has_ended, call);
    pthread_mutex_lock(&client->lock);
    if (--client->unfinished_count == 0)
        pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

bool fc_flight_launch(flashcore_call *call)
{
    fc_reason reason;
    if (enter(call) != FC_OK) {
        fc_call_release(call);
        return false;
    }
    if (encode(call, &reason) == FC_OK && place(call, &reason) == FC_OK)
        return true;
    leave(call);
    call->client->unfinished_count--;
    fc_call_release(call);
    return false;
}

/* Under client->lock: sends the message that takes target back, on its own connection; its answer interests nobody.
 * When it cannot be sent the target simply ends in its own time. */
static void send_cancel(flashcore_call *target)
{
    flashcore_client *client = target->client;
    flashcore_call *call;
    target->has_sent_cancel = true;
    if (fc_call_create_pinned(client, FC_OP_CANCEL, target->url_index, target->connection_id, &call) != FC_OK)
        return;
    call->wire.cancel_target = target->wire.id;
    call->deadline_ns = fc_client_later_ns(call->submitted_ns, CANCEL_TIMEOUT_US);
    fc_flight_launch(call);
}

fc_status fc_flight_cancel(flashcore_call *call)
{
    flashcore_client *client = call->client;
    pthread_mutex_lock(&client->lock);
    call->is_cancelled = true;
    switch (call->state) {
    case FC_CALL_WAITING:
    case FC_CALL_BACKOFF:
        fc_exchange_abort(call->slot->exchange);
        break;
    case FC_CALL_FLYING:
        if (!fc_exchange_recall(call->slot->exchange) && !call->has_sent_cancel)
            send_cancel(call);
        break;
    case FC_CALL_PLACING: /* place() will see it */
    case FC_CALL_ENDED:
    case FC_CALL_STATE_COUNT:
        break;
    }
    pthread_mutex_unlock(&client->lock);
    return FC_OK;
}

void fc_flight_end_all(flashcore_client *client)
{
    pthread_mutex_lock(&client->lock);
    client->is_closing = true;
    for (flashcore_call *call = client->calls; call != NULL; call = call->next)
        if (call->state != FC_CALL_PLACING)
            fc_exchange_abort(call->slot->exchange);
    pthread_cond_broadcast(&client->changed);
    while (client->unfinished_count != 0)
        pthread_cond_wait(&client->changed, &client->lock);
    pthread_mutex_unlock(&client->lock);
}

void fc_flight_on_link(void *owner, uint32_t link_index, uint32_t connection_id, bool is_up)
{
    flashcore_client *client = owner;
    uint32_t url_index = link_index % client->url_count;
    fc_client_url *url = &client->urls[url_index];
    if (link_index >= client->url_count) {
        fc_side_on_link(client, url_index, connection_id, is_up);
        return;
    }
    if (!is_up) /* another server may come */
        fc_link_aim(url->side, NULL);
    pthread_mutex_lock(&client->lock);
    url->connection_id = is_up ? connection_id : 0;
    client->routes[url_index].is_connected = is_up;
    client->routes[url_index].is_draining = false;
    client->routes[url_index].turn_ns = 0;
    for (flashcore_call *call = client->calls; call != NULL; call = call->next)
        if (fc_call_may_return_to(call, url_index) && is_up)
            fc_exchange_abort(call->slot->exchange);
    bool may_have_side = client->path != FLASHCORE_PATH_INLINE && strncmp(url->text, "ipc://", 6) == 0;
    url->has_no_side = !may_have_side;
    if (is_up && may_have_side && !client->is_closing)
        fc_side_find(client, url_index);
    pthread_mutex_unlock(&client->lock);
}
