/* See arena.h. Nothing here waits: what is not there yet is done without. */
#include "client/arena.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The library's arena grows, by being replaced, with what is under way at once. */
#define STAGING_BYTES_MIN ((size_t)8 << 20)
#define STAGING_BYTES_MAX ((size_t)256 << 20)
#define PIECES 5
#define KV_LEN_MAX (FC_PACKET_BYTES / 8) /* five bytes an entry, and the rest */

/* One tensor of an attend: where the user has it, and where the request says it is. */
typedef struct piece {
    const char *name;
    const void *memory;
    size_t size_bytes;
    fc_wire_place *place;
} piece;

static void list_pieces(flashcore_call *call, piece out_pieces[PIECES])
{
    fc_wire_attend *attend = &call->wire.attend;
    const uint64_t *shape = attend->q.shape;
    int heads_at = attend->layout == FC_BHSD ? 1 : 2;
    size_t lse_bytes = attend->wants_lse ? sizeof(float) * shape[0] * shape[heads_at] * shape[3 - heads_at] : 0;
    out_pieces[0] = (piece){"q", attend->q.data, attend->q.data_bytes, &attend->q.place};
    out_pieces[1] = (piece){"k", attend->k.data, attend->k.data_bytes, &attend->k.place};
    out_pieces[2] = (piece){"v", attend->v.data, attend->v.data_bytes, &attend->v.place};
    out_pieces[3] = (piece){"out", call->sink.out, attend->q.data_bytes, &attend->out_at};
    out_pieces[4] = (piece){"lse", call->sink.lse, lse_bytes, &attend->lse_at};
}

static void close_descriptor(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void fc_arena_close_made(fc_made_arena *made)
{
    close_descriptor(&made->fd);
    close_descriptor(&made->lifeline_fd);
}

/* A file that is shorter than its server says, or that can become so, kills whoever touches what is missing. */
static bool is_whole(const fc_made_arena *made)
{
    struct stat file;
    int seals = fcntl(made->fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && fstat(made->fd, &file) == 0 &&
           (uint64_t)file.st_size >= made->bytes;
}

uint8_t *fc_arena_map(fc_made_arena *made)
{
    void *base = MAP_FAILED;
    if (made->fd >= 0 && !made->is_device && made->bytes != 0 && made->bytes <= SIZE_MAX / 2 && is_whole(made))
        base = mmap(NULL, (size_t)made->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, made->fd, 0);
    fc_arena_close_made(made);
    return base != MAP_FAILED ? base : NULL;
}

/* First the memory, then the lifeline: with that the server counts it as free. */
void fc_arena_unmap(flashcore_arena *arena)
{
    if (arena->mapper.map != NULL)
        arena->mapper.unmap(arena->mapper.context, arena->base, arena->size_bytes);
    else
        munmap(arena->base, arena->size_bytes);
    close_descriptor(&arena->lifeline_fd);
}

/* --- the user's arenas, under the lock ---------------------------------------------------------------------------- */

static flashcore_arena *find_arena(const flashcore_client *client, const void *memory, size_t size_bytes)
{
    const uint8_t *begin = memory;
    for (flashcore_arena *arena = client->arenas; arena != NULL; arena = arena->next)
        if (begin >= arena->base && begin < arena->base + arena->size_bytes &&
            size_bytes <= (size_t)(arena->base + arena->size_bytes - begin) &&
            (begin - arena->base) % FC_ARENA_ALIGNMENT == 0)
            return arena;
    return NULL;
}

static void pin(flashcore_call *call, const flashcore_arena *arena)
{
    call->is_placed = true;
    call->pinned_url = arena->url_index;
    call->pinned_connection = arena->connection_id;
}

/* The device arena that holds the first byte of it, whatever else is wrong with it. */
static const flashcore_arena *find_device_arena(const flashcore_client *client, const piece *p)
{
    const uint8_t *begin = p->memory;
    for (const flashcore_arena *arena = p->size_bytes > 0 ? client->arenas : NULL; arena != NULL; arena = arena->next)
        if (arena->mapper.map != NULL && begin >= arena->base && begin < arena->base + arena->size_bytes)
            return arena;
    return NULL;
}

fc_status fc_arena_fail_lost(fc_reason *out_reason)
{
    return fc_fail(FC_UNREACHABLE, out_reason,
                   "the connection that the device arena came by is gone, and the server with it: make another arena");
}

/* A call with a tensor in a device arena has to be placed: nothing here can copy it. FC_OK: it will be, or has none. */
static fc_status check_device(flashcore_call *call, const piece *pieces, fc_reason *out_reason)
{
    const flashcore_client *client = call->client;
    const flashcore_arena *device = NULL;
    for (int i = 0; i < PIECES && device == NULL; i++)
        device = find_device_arena(client, &pieces[i]);
    if (device == NULL)
        return FC_OK;
    for (int i = 0; i < PIECES; i++) {
        if (pieces[i].size_bytes == 0)
            continue;
        const flashcore_arena *arena = find_arena(client, pieces[i].memory, pieces[i].size_bytes);
        if (arena == NULL || arena->connection_id != device->connection_id)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                           "%s: with a tensor in a device arena all have to lie in arenas of that connection, each "
                           "at a multiple of %d and to its end",
                           pieces[i].name, FC_ARENA_ALIGNMENT);
    }
    if (client->urls[device->url_index].side_connection_id != device->connection_id)
        return fc_arena_fail_lost(out_reason);
    if (call->wire.attend.kv_len_count > KV_LEN_MAX)
        return fc_fail(FC_TOO_LARGE, out_reason, "kv_len: a request with a device arena holds at most %d entries",
                       KV_LEN_MAX);
    call->is_on_device = true;
    return FC_OK;
}

/* All tensors that have bytes lie in arenas of one live connection. */
static bool place_in_users(flashcore_call *call, const piece *pieces)
{
    const flashcore_client *client = call->client;
    const flashcore_arena *arenas[PIECES] = {NULL}, *first = NULL;
    for (int i = 0; i < PIECES && client->arenas != NULL; i++) {
        if (pieces[i].size_bytes == 0)
            continue;
        arenas[i] = find_arena(client, pieces[i].memory, pieces[i].size_bytes);
        if (arenas[i] == NULL || (first != NULL && arenas[i]->connection_id != first->connection_id))
            return false;
        first = arenas[i];
    }
    if (first == NULL || client->urls[first->url_index].side_connection_id != first->connection_id)
        return false;
    for (int i = 0; i < PIECES; i++)
        if (arenas[i] != NULL)
            *pieces[i].place =
                (fc_wire_place){true, arenas[i]->id, (uint64_t)((const uint8_t *)pieces[i].memory - arenas[i]->base)};
    pin(call, first);
    return true;
}

/* --- the library's arenas, under the lock ------------------------------------------------------------------------- */

/* The server has it until it is told, or until the connection goes. */
static void free_if_unused(fc_staging *staging)
{
    if (!staging->is_retired || staging->regions != NULL)
        return;
    fc_side_give_back(&staging->arena);
    munmap(staging->arena.base, staging->arena.size_bytes);
    free(staging);
}

static void retire(fc_staging *staging)
{
    staging->is_retired = true;
    free_if_unused(staging);
}

/* First fit. */
static fc_region *take_region(fc_staging *staging, size_t size_bytes)
{
    fc_region **at = &staging->regions;
    size_t begin = 0;
    while (*at != NULL && (*at)->begin - begin < size_bytes) {
        begin = (*at)->end;
        at = &(*at)->next;
    }
    if (*at == NULL && staging->arena.size_bytes - begin < size_bytes)
        return NULL;
    fc_region *region = calloc(1, sizeof *region);
    if (region == NULL)
        return NULL;
    *region = (fc_region){.next = *at, .staging = staging, .begin = begin, .end = begin + size_bytes};
    *at = region;
    return region;
}

static void give_region(fc_region *region)
{
    fc_staging *staging = region->staging;
    for (fc_region **at = &staging->regions; *at != NULL; at = &(*at)->next) {
        if (*at != region)
            continue;
        *at = region->next;
        break;
    }
    free(region);
    free_if_unused(staging);
}

/* The answer to ask_for_staging(), on the net's thread. */
static void on_staging_made(void *context, flashcore_call *call, const flashcore_result *result)
{
    fc_client_url *url = context;
    flashcore_client *client = url->client;
    uint8_t *base = result->status == FLASHCORE_OK ? fc_arena_map(&url->made) : NULL;
    fc_staging *staging = base != NULL ? calloc(1, sizeof *staging) : NULL;
    if (base != NULL && staging == NULL)
        munmap(base, (size_t)url->made.bytes);
    pthread_mutex_lock(&client->lock);
    url->is_staging_asked = false;
    url->is_staging_refused = staging == NULL && url->side_connection_id == call->connection_id;
    if (staging != NULL) {
        staging->arena = (flashcore_arena){.client = client,
                                           .url_index = call->url_index,
                                           .connection_id = call->connection_id,
                                           .id = url->made.id,
                                           .base = base,
                                           .size_bytes = (size_t)url->made.bytes,
                                           .lifeline_fd = -1};
        if (url->staging != NULL)
            retire(url->staging);
        url->staging = NULL;
        if (url->side_connection_id == call->connection_id)
            url->staging = staging;
        else
            retire(staging);
    }
    pthread_mutex_unlock(&client->lock);
}

/* For calls to come: room for four of this size, or twice what there is. A server that refused once is not asked again
 * on the same connection. */
static void ask_for_staging(flashcore_client *client, uint32_t url_index, size_t need_bytes)
{
    fc_client_url *url = &client->urls[url_index];
    size_t wanted = STAGING_BYTES_MIN;
    size_t held = url->staging != NULL ? url->staging->arena.size_bytes : 0;
    while (wanted < 4 * need_bytes || wanted <= held)
        wanted *= 2;
    if (url->is_staging_asked || url->is_staging_refused || wanted > STAGING_BYTES_MAX)
        return;
    url->is_staging_asked = fc_side_ask_arena(client, url_index, wanted, &url->made, on_staging_made, url);
}

static fc_region *stage(flashcore_call *call, const piece *pieces)
{
    flashcore_client *client = call->client;
    size_t need_bytes = 0;
    for (int i = 0; i < PIECES; i++)
        need_bytes += fc_arena_aligned(pieces[i].size_bytes);
    uint32_t cursor = client->route_cursor; /* a look: the choice is made, and ties go round, when the call is sent */
    uint32_t i = fc_route_choose(client->routes, client->url_count, call->excluded_mask, &cursor);
    if (i == FC_ROUTE_NONE || client->urls[i].side_connection_id == 0 || need_bytes > STAGING_BYTES_MAX / 4)
        return NULL;
    fc_staging *staging = client->urls[i].staging;
    fc_region *region = staging != NULL ? take_region(staging, need_bytes) : NULL;
    if (region == NULL) {
        ask_for_staging(client, i, need_bytes);
        return NULL;
    }
    size_t at = region->begin;
    for (int p = 0; p < PIECES; p++) {
        if (pieces[p].size_bytes > 0)
            *pieces[p].place = (fc_wire_place){true, staging->arena.id, at};
        at += fc_arena_aligned(pieces[p].size_bytes);
    }
    pin(call, &staging->arena);
    return region;
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

/* Copies the inputs where the request says they are. */
static void fill_region(flashcore_call *call, const piece *pieces)
{
    uint8_t *base = call->region->staging->arena.base;
    for (int i = 0; i < 3; i++)
        if (pieces[i].size_bytes > 0)
            memcpy(base + pieces[i].place->offset, pieces[i].memory, pieces[i].size_bytes);
    call->sink.staged_out = base + call->wire.attend.out_at.offset;
    call->sink.staged_lse = base + call->wire.attend.lse_at.offset;
}

fc_status fc_arena_place_call(flashcore_call *call, fc_reason *out_reason)
{
    flashcore_client *client = call->client;
    piece pieces[PIECES];
    if (call->wire.op != FC_OP_ATTEND || client->path == FLASHCORE_PATH_INLINE)
        return FC_OK;
    list_pieces(call, pieces);
    pthread_mutex_lock(&client->lock);
    fc_status status = check_device(call, pieces, out_reason);
    if (status == FC_OK && call->wire.attend.kv_len_count <= KV_LEN_MAX && !place_in_users(call, pieces))
        call->region = stage(call, pieces);
    pthread_mutex_unlock(&client->lock);
    if (call->region != NULL)
        fill_region(call, pieces);
    return status;
}

void fc_arena_unplace_call(flashcore_call *call)
{
    piece pieces[PIECES];
    fc_arena_leave(call);
    list_pieces(call, pieces);
    for (int i = 0; i < PIECES; i++)
        pieces[i].place->is_set = false;
    call->is_placed = false;
    call->pinned_url = FC_CALL_ANY_URL;
    call->pinned_connection = 0;
    call->sink.staged_out = call->sink.staged_lse = NULL;
}

void fc_arena_leave(flashcore_call *call)
{
    fc_region *region = call->region;
    if (region == NULL)
        return;
    call->region = NULL;
    /* Without an answer the server may write there yet: nobody else may be put there. */
    fc_staging *staging = region->staging;
    if (call->is_unanswered && !staging->is_retired) {
        call->client->urls[staging->arena.url_index].staging = NULL;
        retire(staging);
    }
    give_region(region);
}

void fc_arena_on_side_down(flashcore_client *client, uint32_t url_index)
{
    fc_client_url *url = &client->urls[url_index];
    fc_staging *staging = url->staging;
    url->staging = NULL;
    url->is_staging_refused = false;
    if (staging != NULL)
        retire(staging);
}

void fc_arena_free_all(flashcore_client *client)
{
    for (uint32_t i = 0; client->urls != NULL && i < client->url_count; i++)
        if (client->urls[i].staging != NULL)
            fc_arena_on_side_down(client, i);
    for (flashcore_arena *arena = client->arenas, *next; arena != NULL; arena = next) {
        next = arena->next;
        fc_arena_unmap(arena);
        free(arena);
    }
}
