/* The public face of arenas: see flashcore.h. */
#include "client/arena.h"
#include "client/last_error.h"

#include <stdlib.h>

static fc_status check(const flashcore_client *client, uint32_t url_index, size_t size_bytes,
                       flashcore_arena **out_arena, fc_reason *out_reason)
{
    if (client == NULL || out_arena == NULL)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "client or out_arena is NULL");
    if (url_index >= client->url_count)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "url_index is %u of %u", url_index, client->url_count);
    if (size_bytes == 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "size_bytes is 0");
    if (fc_call_is_in_callback())
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "waiting inside a callback");
    return FC_OK;
}

/* Asks the server on that connection, and waits. */
static fc_status ask(flashcore_client *client, const flashcore_arena *wanted, fc_made_arena *made,
                     fc_reason *out_reason)
{
    flashcore_call *call;
    flashcore_result result;
    fc_status status =
        fc_call_create_pinned(client, FC_OP_ARENA_CREATE, wanted->url_index, wanted->connection_id, &call);
    if (status != FC_OK)
        return fc_fail(status, out_reason, "out of memory");
    call->wire.arena_bytes = wanted->size_bytes;
    call->wire.arena_kind = wanted->mapper.map != NULL ? FC_ARENA_DEVICE : FC_ARENA_HOST;
    call->sink.made = made;
    status = fc_flight_begin(call, true, out_reason);
    if (status == FC_OK) {
        status = (fc_status)flashcore_wait(call, UINT64_MAX, &result);
        fc_fail(status, out_reason, "%.200s", result.error);
    }
    fc_call_release(call);
    return status;
}

static fc_status map_device(flashcore_arena *arena, fc_made_arena *made, fc_reason *out_reason)
{
    char error[FLASHCORE_ERROR_BYTES] = "";
    void *base = NULL;
    if (!made->is_device) /* a server that does not know the key */
        return fc_fail(FC_UNSUPPORTED, out_reason, "the server has no device arenas");
    if (made->fd < 0 || made->lifeline_fd < 0 || made->bytes == 0 || made->bytes > SIZE_MAX / 2)
        return fc_fail(FC_BAD_REPLY, out_reason, "a device arena without its two descriptors, or without a size");
    fc_status status =
        (fc_status)arena->mapper.map(arena->mapper.context, made->fd, (size_t)made->bytes, made->uuid, &base, error);
    if (status != FC_OK)
        return fc_fail(status, out_reason, "%.200s", error[0] != '\0' ? error : "the device arena cannot be mapped");
    arena->base = base;
    arena->lifeline_fd = made->lifeline_fd;
    made->lifeline_fd = -1;
    return FC_OK;
}

static fc_status map_arena(flashcore_arena *arena, fc_made_arena *made, fc_reason *out_reason)
{
    arena->id = made->id;
    arena->size_bytes = (size_t)made->bytes;
    if (arena->mapper.map != NULL)
        return map_device(arena, made, out_reason);
    arena->base = fc_arena_map(made);
    return arena->base != NULL ? FC_OK
                               : fc_fail(FC_NO_MEMORY, out_reason, "cannot map an arena of %llu bytes",
                                         (unsigned long long)made->bytes);
}

/* Asks for it and maps it; what cannot be mapped is given back. */
static fc_status acquire(flashcore_arena *arena, fc_reason *out_reason)
{
    flashcore_client *client = arena->client;
    fc_made_arena made = {.fd = -1, .lifeline_fd = -1};
    fc_status status = fc_side_await(client, arena->url_index, &arena->connection_id, out_reason);
    if (status == FC_OK)
        status = ask(client, arena, &made, out_reason);
    if (status != FC_OK)
        return status;
    status = map_arena(arena, &made, out_reason);
    fc_arena_close_made(&made);
    pthread_mutex_lock(&client->lock);
    if (status == FC_OK) {
        arena->next = client->arenas;
        client->arenas = arena;
    } else {
        fc_side_give_back(arena);
    }
    pthread_mutex_unlock(&client->lock);
    return status;
}

static fc_status create(flashcore_client *client, uint32_t url_index, size_t size_bytes,
                        const flashcore_device_mapper *mapper, flashcore_arena **out_arena, fc_reason *out_reason)
{
    fc_status status = check(client, url_index, size_bytes, out_arena, out_reason);
    if (status != FC_OK)
        return status;
    *out_arena = NULL;
    flashcore_arena *arena = calloc(1, sizeof *arena);
    if (arena == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    *arena = (flashcore_arena){.client = client, .url_index = url_index, .size_bytes = size_bytes, .lifeline_fd = -1};
    if (mapper != NULL)
        arena->mapper = *mapper;
    status = acquire(arena, out_reason);
    if (status != FC_OK) {
        free(arena);
        return status;
    }
    *out_arena = arena;
    return FC_OK;
}

flashcore_status flashcore_arena_create(flashcore_client *client, uint32_t url_index, size_t size_bytes,
                                        flashcore_arena **out_arena)
{
    fc_reason reason = {""};
    return fc_last_error_set(create(client, url_index, size_bytes, NULL, out_arena, &reason), &reason);
}

flashcore_status flashcore_device_arena_create(flashcore_client *client, uint32_t url_index, size_t size_bytes,
                                               const flashcore_device_mapper *mapper, flashcore_arena **out_arena)
{
    fc_reason reason = {""};
    fc_status status = FC_OK;
    if (mapper == NULL || mapper->map == NULL || mapper->unmap == NULL)
        status = fc_fail(FC_INVALID_ARGUMENT, &reason, "mapper or one of its functions is NULL");
    if (status == FC_OK)
        status = create(client, url_index, size_bytes, mapper, out_arena, &reason);
    return fc_last_error_set(status, &reason);
}

void flashcore_arena_destroy(flashcore_arena *arena)
{
    if (arena == NULL)
        return;
    flashcore_client *client = arena->client;
    pthread_mutex_lock(&client->lock);
    for (flashcore_arena **at = &client->arenas; *at != NULL; at = &(*at)->next) {
        if (*at != arena)
            continue;
        *at = arena->next;
        break;
    }
    pthread_mutex_unlock(&client->lock);
    /* Before the server hears of it, so that it counts as free at once. */
    fc_arena_unmap(arena);
    pthread_mutex_lock(&client->lock);
    fc_side_give_back(arena);
    pthread_mutex_unlock(&client->lock);
    free(arena);
}

void *flashcore_arena_alloc(flashcore_arena *arena, size_t size_bytes)
{
    void *memory = NULL;
    if (arena == NULL || size_bytes > arena->size_bytes)
        return NULL;
    size_t whole_bytes = fc_arena_aligned(size_bytes);
    pthread_mutex_lock(&arena->client->lock);
    if (whole_bytes <= arena->size_bytes - arena->used_bytes) {
        memory = arena->base + arena->used_bytes;
        arena->used_bytes += whole_bytes;
    }
    pthread_mutex_unlock(&arena->client->lock);
    return memory;
}

void flashcore_arena_reset(flashcore_arena *arena)
{
    if (arena == NULL)
        return;
    pthread_mutex_lock(&arena->client->lock);
    arena->used_bytes = 0;
    pthread_mutex_unlock(&arena->client->lock);
}

size_t flashcore_arena_size(const flashcore_arena *arena)
{
    return arena != NULL ? arena->size_bytes : 0;
}
