/* The local channel beside an ipc URL: finding it, its coming and going, and what only it can do. */
#include "client/arena.h"
#include "client/client.h"

/* The answer to fc_side_find(): on the net's thread, like everything that aims a link. */
static void on_side_known(void *context, flashcore_call *call, const flashcore_result *result)
{
    fc_client_url *url = context;
    bool has_side = result->status == FLASHCORE_OK && url->side_path[0] != '\0';
    pthread_mutex_lock(&url->client->lock);
    url->has_no_side = !has_side && url->connection_id == call->connection_id;
    pthread_cond_broadcast(&url->client->changed);
    pthread_mutex_unlock(&url->client->lock);
    if (has_side)
        fc_link_aim(url->side, url->side_path);
}

void fc_side_find(flashcore_client *client, uint32_t url_index)
{
    flashcore_call *call;
    fc_client_url *url = &client->urls[url_index];
    if (fc_call_create_pinned(client, FC_OP_HELLO, url_index, url->connection_id, &call) != FC_OK)
        return;
    call->sink.side_path = url->side_path;
    call->callback = on_side_known;
    call->callback_context = url;
    fc_flight_launch(call);
}

void fc_side_on_link(flashcore_client *client, uint32_t url_index, uint32_t connection_id, bool is_up)
{
    pthread_mutex_lock(&client->lock);
    client->urls[url_index].side_connection_id = is_up ? connection_id : 0;
    if (!is_up)
        fc_arena_on_side_down(client, url_index);
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

bool fc_side_ask_arena(flashcore_client *client, uint32_t url_index, size_t size_bytes, fc_made_arena *made,
                       flashcore_callback callback, void *context)
{
    flashcore_call *call;
    uint32_t connection_id = client->urls[url_index].side_connection_id;
    if (client->is_closing ||
        fc_call_create_pinned(client, FC_OP_ARENA_CREATE, url_index, connection_id, &call) != FC_OK)
        return false;
    call->wire.arena_bytes = size_bytes;
    call->sink.made = made;
    call->callback = callback;
    call->callback_context = context;
    return fc_flight_launch(call);
}

void fc_side_give_back(const flashcore_arena *arena)
{
    flashcore_call *call;
    flashcore_client *client = arena->client;
    bool is_alive = client->urls[arena->url_index].side_connection_id == arena->connection_id && !client->is_closing;
    if (!is_alive ||
        fc_call_create_pinned(client, FC_OP_ARENA_DESTROY, arena->url_index, arena->connection_id, &call) != FC_OK)
        return;
    call->wire.arena = arena->id;
    fc_flight_launch(call);
}

fc_status fc_side_await(flashcore_client *client, uint32_t url_index, uint32_t *out_connection_id,
                        fc_reason *out_reason)
{
    const fc_client_url *url = &client->urls[url_index];
    uint64_t until_ns = fc_client_later_ns(fc_link_now_ns(), client->connect_timeout_us);
    struct timespec until = fc_link_timespec(until_ns);
    fc_status status = FC_OK;
    pthread_mutex_lock(&client->lock);
    for (int error = 0; url->side_connection_id == 0 && !url->has_no_side && !client->is_closing && error == 0;)
        error = pthread_cond_timedwait(&client->changed, &client->lock, &until);
    if (url->side_connection_id != 0)
        *out_connection_id = url->side_connection_id;
    else if (url->has_no_side)
        status = fc_fail(FC_UNSUPPORTED, out_reason, "%.150s has no local channel to share memory over", url->text);
    else if (client->is_closing)
        status = fc_fail(FC_CANCELLED, out_reason, "the client is being destroyed");
    else
        status = fc_fail(FC_UNREACHABLE, out_reason, "no connection to the local channel of %.150s", url->text);
    pthread_mutex_unlock(&client->lock);
    return status;
}
