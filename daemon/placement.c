/* See placement.h. */
#include "daemon/placement.h"

#include <string.h>

/* One of the five, as the message has it. */
typedef struct piece {
    const char *name;
    const fc_wire_place *place;
    size_t size_bytes;
    uint8_t *begin; /* once resolved; NULL: not in an arena */
} piece;

/* The arena a piece names: most requests have all five in one, and that is asked for once. NULL: there is none. */
static fc_arena *find_arena(fc_arena_store *store, uint64_t peer, const piece *pieces, int index,
                            fc_arena *const *arenas)
{
    for (int i = 0; i < index; i++)
        if (arenas[i] != NULL && pieces[i].place->arena == pieces[index].place->arena)
            return arenas[i];
    return fc_arena_acquire(store, peer, pieces[index].place->arena);
}

static fc_status resolve_piece(piece *p, const fc_arena *arena, fc_reason *out_reason)
{
    uint64_t end;
    if (arena == NULL)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s.arena: this connection has no arena %llu", p->name,
                       (unsigned long long)p->place->arena);
    if (p->place->offset % FC_ARENA_ALIGNMENT != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s.offset: %llu is not a multiple of %d", p->name,
                       (unsigned long long)p->place->offset, FC_ARENA_ALIGNMENT);
    if (__builtin_add_overflow(p->place->offset, (uint64_t)p->size_bytes, &end) || end > fc_arena_size_bytes(arena))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s.offset: %zu bytes at %llu end past the arena's %zu",
                       p->name, p->size_bytes, (unsigned long long)p->place->offset, fc_arena_size_bytes(arena));
    p->begin = fc_arena_base(arena) + p->place->offset;
    return FC_OK;
}

/* Different arenas are different memory, so addresses tell. */
static bool overlap(const piece *a, const piece *b)
{
    return a->begin != NULL && b->begin != NULL && a->begin < b->begin + b->size_bytes &&
           b->begin < a->begin + a->size_bytes && a->size_bytes > 0 && b->size_bytes > 0;
}

static fc_status check_overlap(const piece *pieces, fc_reason *out_reason)
{
    for (int output = FC_PLACE_OUT; output <= FC_PLACE_LSE; output++)
        for (int other = 0; other < output; other++)
            if (overlap(&pieces[output], &pieces[other]))
                return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s.offset: overlaps %s", pieces[output].name,
                               pieces[other].name);
    return FC_OK;
}

/* A channel without tensor data has to find all of it in arenas. */
static fc_status check_channel(const piece *p, bool is_local, bool has_arenas, fc_reason *out_reason)
{
    if (p->place->is_set && !is_local)
        return fc_fail(FC_UNSUPPORTED, out_reason, "%s.arena: arenas are the local channel's", p->name);
    if (p->place->is_set && !has_arenas)
        return fc_fail(FC_UNSUPPORTED, out_reason, "%s.arena: this server has no arenas", p->name);
    if (!p->place->is_set && is_local && p->size_bytes > 0)
        return fc_fail(
            FC_TOO_LARGE, out_reason,
            "%s: %zu bytes, and the local channel carries no tensor data (limit 0): place it in an arena, or "
            "send to the listening socket",
            p->name, p->size_bytes);
    return FC_OK;
}

static size_t lse_bytes(const fc_wire_attend *attend)
{
    const uint64_t *shape = attend->q.shape;
    int heads_at = attend->layout == FC_BSHD ? 2 : 1;
    /* At most as many as q has elements, which are within tensor_bytes, as far as head_dim >= 1; else nothing runs. */
    return attend->wants_lse ? sizeof(float) * shape[0] * shape[heads_at] * shape[3 - heads_at] : 0;
}

fc_status fc_placement_resolve(fc_arena_store *store, uint64_t peer, bool is_local, fc_wire_attend *attend,
                               fc_placement *out_placement, fc_reason *out_reason)
{
    const fc_wire_place nowhere = {.is_set = false};
    piece pieces[FC_PLACE_COUNT] = {
        [FC_PLACE_Q] = {"q", &attend->q.place, attend->q.data_bytes, NULL},
        [FC_PLACE_K] = {"k", &attend->k.place, attend->k.data_bytes, NULL},
        [FC_PLACE_V] = {"v", &attend->v.place, attend->v.data_bytes, NULL},
        [FC_PLACE_OUT] = {"out_at", &attend->out_at, attend->q.data_bytes, NULL},
        [FC_PLACE_LSE] = {"lse_at", attend->wants_lse ? &attend->lse_at : &nowhere, lse_bytes(attend), NULL},
    };
    memset(out_placement, 0, sizeof *out_placement);
    for (int i = 0; i < FC_PLACE_COUNT; i++) {
        fc_status st = check_channel(&pieces[i], is_local, store != NULL, out_reason);
        if (st == FC_OK && pieces[i].place->is_set) {
            out_placement->arenas[i] = find_arena(store, peer, pieces, i, out_placement->arenas);
            st = resolve_piece(&pieces[i], out_placement->arenas[i], out_reason);
        }
        if (st != FC_OK)
            return st;
    }
    if (pieces[FC_PLACE_Q].begin != NULL)
        attend->q.data = pieces[FC_PLACE_Q].begin;
    if (pieces[FC_PLACE_K].begin != NULL)
        attend->k.data = pieces[FC_PLACE_K].begin;
    if (pieces[FC_PLACE_V].begin != NULL)
        attend->v.data = pieces[FC_PLACE_V].begin;
    out_placement->places = (fc_memory_places){
        .q = fc_arena_place(out_placement->arenas[FC_PLACE_Q]),
        .k = fc_arena_place(out_placement->arenas[FC_PLACE_K]),
        .v = fc_arena_place(out_placement->arenas[FC_PLACE_V]),
        .out = fc_arena_place(out_placement->arenas[FC_PLACE_OUT]),
        .lse = fc_arena_place(out_placement->arenas[FC_PLACE_LSE]),
    };
    out_placement->out = pieces[FC_PLACE_OUT].begin;
    out_placement->lse = (float *)(void *)pieces[FC_PLACE_LSE].begin;
    return check_overlap(pieces, out_reason);
}

void fc_placement_release(fc_placement *placement)
{
    for (int i = 0; i < FC_PLACE_COUNT; i++) {
        bool is_held_once = true;
        for (int earlier = 0; earlier < i; earlier++)
            is_held_once = is_held_once && placement->arenas[earlier] != placement->arenas[i];
        if (is_held_once)
            fc_arena_release(placement->arenas[i]);
    }
    memset(placement, 0, sizeof *placement);
}
