/* See arena_store.h. The keeper frees before it makes, so that who gives back and asks again is not refused for what
 * it no longer has. A device arena whose peer still has it mapped lingers, freed here but counted: nothing says when
 * its lifeline is cut, so the keeper looks from time to time.
 */
#include "daemon/arena_store.h"

#include "daemon/arena.h"
#include "daemon/clock.h"
#include "daemon/id_table.h"
#include "daemon/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

/* How soon lifelines are looked at again. */
#define LINGER_LOOK_NS (100 * FC_NS_PER_MS)
/* Fresh pages come at some 2 GiB a second; an estimate for a machine that has to swap for them. */
#define BYTES_PER_S (256u << 20)

typedef struct order order;

/* A peer with arenas, or with some on their way; outlives the peer while there are any. */
typedef struct holder {
    uint64_t peer;
    fc_arena_usage usage;
    uint32_t asked_count; /* that are not made yet */
    bool is_gone;
    fc_arena *first; /* not given back */
    order *first_order, **last_order;
    struct holder *next_asker; /* while it has orders */
} holder;

struct fc_arena {
    fc_arena_store *store;
    uint64_t id;
    fc_arena_kind kind;
    size_t size_bytes;     /* that count */
    holder *held_by;       /* whose quota it counts against, given back or not */
    fc_arena *prev, *next; /* the holder's list; next also of the lists of those to be freed, and that linger */
    uint32_t references;
    fc_arena_memory memory;
};

struct order {
    order *next;
    holder *holder;
    fc_arena_kind kind;
    uint64_t size_bytes;
    void *request;
};

struct fc_arena_store {
    fc_arena_store_config config;
    fc_stats *stats;
    fc_arena_on_made on_made;
    void *context;
    pthread_t keeper;
    bool is_started;
    bool has_warned;                    /* of a registration that failed; the keeper's */
    fc_arena *lingering;                /* the keeper's, while it lives */
    atomic_uint_fast64_t busy_since_ns; /* the keeper is at an arena; 0: at none */
    atomic_uint_fast64_t busy_bytes;
    uint64_t excused_ns; /* when the keeper last may have been waiting for a launch; the watch's */

    pthread_mutex_t lock; /* guards the rest, and every holder and arena but the memory itself */
    pthread_cond_t work;
    bool is_stopping;
    bool keeps_pages;     /* what was in an arena stays there for who has it mapped */
    fc_arena_usage usage; /* of all */
    fc_id_table holders;  /* peer -> holder's address */
    fc_id_table arenas;   /* id -> arena's address, of those not given back */
    holder *first_asker, **last_asker;
    fc_arena *to_free;
};

/* --- under the lock ----------------------------------------------------------------------------------------------- */

static void drop_reference(fc_arena *arena)
{
    if (--arena->references > 0)
        return;
    arena->next = arena->store->to_free;
    arena->store->to_free = arena;
    pthread_cond_signal(&arena->store->work);
}

/* The peer's own hold on it ends. Its bytes go on counting against the peer until they are free. */
static void take_from_holder(fc_arena *arena)
{
    holder *h = arena->held_by;
    *(arena->prev != NULL ? &arena->prev->next : &h->first) = arena->next;
    if (arena->next != NULL)
        arena->next->prev = arena->prev;
    if (arena->id != 0)
        fc_id_table_remove(&arena->store->arenas, arena->id);
    drop_reference(arena);
}

static void free_if_done(fc_arena_store *store, holder *h)
{
    if (h->usage.count > 0 || h->asked_count > 0)
        return;
    if (!h->is_gone)
        fc_id_table_remove(&store->holders, h->peer);
    free(h);
}

static holder *find_or_add_holder(fc_arena_store *store, uint64_t peer)
{
    holder *h = fc_id_table_put_object(&store->holders, peer, sizeof *h);
    if (h != NULL && h->last_order == NULL) {
        h->peer = peer;
        h->last_order = &h->first_order;
    }
    return h;
}

static void uncharge(fc_arena_store *store, holder *h, fc_arena_kind kind, uint64_t size_bytes)
{
    fc_arena_quota_uncharge(kind, size_bytes, &store->usage, &h->usage, store->stats);
}

static void append_asker(fc_arena_store *store, holder *h)
{
    h->next_asker = NULL;
    *store->last_asker = h;
    store->last_asker = &h->next_asker;
}

static void append_order(fc_arena_store *store, holder *h, order *o)
{
    if (h->first_order == NULL)
        append_asker(store, h);
    o->holder = h;
    *h->last_order = o;
    h->last_order = &o->next;
    h->asked_count++;
}

/* The askers take turns, however much each of them has asked for. */
static order *take_order(fc_arena_store *store)
{
    holder *h = store->first_asker;
    if (h == NULL)
        return NULL;
    order *o = h->first_order;
    store->first_asker = h->next_asker;
    if (store->first_asker == NULL)
        store->last_asker = &store->first_asker;
    h->first_order = o->next;
    if (h->first_order != NULL)
        append_asker(store, h);
    else
        h->last_order = &h->first_order;
    return o;
}

/* --- the keeper --------------------------------------------------------------------------------------------------- */

/* Its memory is gone, for everybody. */
static void forget(fc_arena *arena)
{
    fc_arena_store *store = arena->store;
    if (arena->memory.lifeline_fd >= 0)
        close(arena->memory.lifeline_fd);
    pthread_mutex_lock(&store->lock);
    uncharge(store, arena->held_by, arena->kind, arena->size_bytes);
    free_if_done(store, arena->held_by);
    pthread_mutex_unlock(&store->lock);
    free(arena);
}

/* A peer that keeps its mapping keeps no page of it, or goes on counting: what is not counted any more is not there any
 * more. When the server ends, though, what its last replies named is still to be read. */
static void free_arena(fc_arena *arena, bool is_server_ending)
{
    fc_arena_store *store = arena->store;
    fc_arena_memory_close(&arena->memory, !is_server_ending);
    if (arena->memory.lifeline_fd < 0 || fc_arena_lifeline_is_cut(arena->memory.lifeline_fd)) {
        forget(arena);
        return;
    }
    arena->next = store->lingering;
    store->lingering = arena;
}

static void look_after_lingering(fc_arena_store *store)
{
    for (fc_arena **at = &store->lingering, *arena; (arena = *at) != NULL;) {
        if (!fc_arena_lifeline_is_cut(arena->memory.lifeline_fd)) {
            at = &arena->next;
            continue;
        }
        *at = arena->next;
        forget(arena);
    }
}

/* A number nobody can guess, so that even a fault in here would not hand one peer's arena to another. 0: none to be
 * had. */
static uint64_t unguessable_id(const fc_arena_store *store)
{
    uint64_t id;
    do {
        if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
            return 0;
    } while (id == 0 || fc_id_table_find(&store->arenas, id) != NULL);
    return id;
}

/* The new arena is the peer's, unless the peer has gone meanwhile. */
static void publish(fc_arena_store *store, fc_arena *arena, fc_arena_made *made)
{
    holder *h = arena->held_by;
    pthread_mutex_lock(&store->lock);
    arena->id = unguessable_id(store);
    arena->references = 1;
    arena->next = h->first;
    if (h->first != NULL)
        h->first->prev = arena;
    h->first = arena;
    uint64_t *address = arena->id != 0 ? fc_id_table_put(&store->arenas, arena->id) : NULL;
    if (address != NULL)
        *address = (uintptr_t)arena;
    made->id = arena->id;
    if (address == NULL)
        made->status = fc_fail(FC_NO_MEMORY, &made->reason, "out of memory");
    if (address == NULL || h->is_gone)
        take_from_holder(arena);
    pthread_mutex_unlock(&store->lock);
}

/* Before anybody has the descriptor: nobody has punched holes yet. */
static void register_arena(fc_arena_store *store, fc_arena *arena, fc_arena_made *made)
{
    fc_reason reason = {""};
    fc_status st = fc_arena_memory_register(&arena->memory, store->config.ops, store->config.engine, &reason);
    made->is_device_lost = st == FC_DEVICE_LOST;
    if (st == FC_OK)
        return;
    fc_stats_add(store->stats, FC_COUNT_ARENAS_UNREGISTERED, 1);
    if (!store->has_warned)
        fc_log(FC_LOG_WARN, "arena_not_registered", fc_log_text("status", fc_status_name(st)),
               fc_log_text("why", reason.text), fc_log_uint("bytes", arena->memory.size_bytes),
               fc_log_text("effect", "its tensors are copied once more on their way; said once"));
    store->has_warned = true;
}

static fc_status open_memory(fc_arena_store *store, const order *o, fc_arena *arena, fc_arena_made *made)
{
    fc_status st;
    if (o->kind == FC_ARENA_DEVICE) {
        st = fc_arena_memory_open_device(o->size_bytes, store->config.ops, store->config.engine, &arena->memory,
                                         &made->lifeline_fd, &made->reason);
        made->is_device_lost = st == FC_DEVICE_LOST;
        return st;
    }
    st = fc_arena_memory_open(o->size_bytes, &arena->memory, &made->reason);
    if (st == FC_OK)
        register_arena(store, arena, made);
    return st;
}

static void make(fc_arena_store *store, const order *o, fc_arena_made *made)
{
    fc_arena *arena = calloc(1, sizeof *arena);
    if (arena == NULL) {
        made->status = fc_fail(FC_NO_MEMORY, &made->reason, "out of memory");
        return;
    }
    made->status = open_memory(store, o, arena, made);
    if (made->status != FC_OK) {
        free(arena);
        return;
    }
    arena->store = store;
    arena->held_by = o->holder;
    arena->kind = o->kind;
    arena->size_bytes = o->size_bytes;
    made->size_bytes = arena->memory.size_bytes;
    made->fd = arena->memory.fd;
    arena->memory.fd = -1;
    publish(store, arena, made);
    fc_stats_add(store->stats, FC_COUNT_ARENAS_MADE, 1);
}

static void close_descriptor(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static fc_status charge(fc_arena_store *store, const order *o, fc_reason *out_reason)
{
    if (o->holder->is_gone)
        return FC_CANCELLED;
    return fc_arena_quota_charge(&store->config.quotas[o->kind], o->kind, o->size_bytes, store->config.total_count,
                                 &store->usage, &o->holder->usage, store->stats, out_reason);
}

static void carry_out(fc_arena_store *store, const order *o)
{
    fc_arena_made made = {.kind = o->kind, .fd = -1, .lifeline_fd = -1};
    pthread_mutex_lock(&store->lock);
    made.status = charge(store, o, &made.reason);
    pthread_mutex_unlock(&store->lock);
    bool is_charged = made.status == FC_OK;
    if (is_charged)
        make(store, o, &made);
    pthread_mutex_lock(&store->lock);
    if (is_charged && made.size_bytes == 0) /* not made */
        uncharge(store, o->holder, o->kind, o->size_bytes);
    o->holder->asked_count--;
    free_if_done(store, o->holder);
    pthread_mutex_unlock(&store->lock);
    if (made.status != FC_OK) {
        close_descriptor(&made.fd);
        close_descriptor(&made.lifeline_fd);
    }
    store->on_made(store->context, o->request, &made);
}

/* Under the lock: waits for work, or until lifelines are to be looked at. */
static void await_work(fc_arena_store *store)
{
    if (store->lingering == NULL) {
        pthread_cond_wait(&store->work, &store->lock);
        return;
    }
    struct timespec until = fc_clock_timespec(fc_clock_now_ns() + LINGER_LOOK_NS);
    pthread_cond_timedwait(&store->work, &store->lock, &until);
}

static void set_busy(fc_arena_store *store, uint64_t size_bytes)
{
    atomic_store(&store->busy_bytes, size_bytes);
    atomic_store(&store->busy_since_ns, fc_clock_now_ns());
}

static void *keep(void *argument)
{
    fc_arena_store *store = argument;
    pthread_mutex_lock(&store->lock);
    for (;;) {
        if (store->lingering != NULL) {
            pthread_mutex_unlock(&store->lock);
            look_after_lingering(store);
            pthread_mutex_lock(&store->lock);
        }
        fc_arena *arena = store->to_free;
        order *o = arena == NULL ? take_order(store) : NULL;
        bool is_ending = store->is_stopping, keeps_pages = store->keeps_pages || is_ending;
        if (arena != NULL) {
            store->to_free = arena->next;
            pthread_mutex_unlock(&store->lock);
            set_busy(store, arena->size_bytes);
            free_arena(arena, keeps_pages);
        } else if (o != NULL) {
            pthread_mutex_unlock(&store->lock);
            set_busy(store, o->size_bytes);
            carry_out(store, o);
            free(o);
        } else if (is_ending) {
            break;
        } else {
            await_work(store);
            continue;
        }
        atomic_store(&store->busy_since_ns, 0);
        pthread_mutex_lock(&store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

/* Under the lock. */
static fc_status place_order(fc_arena_store *store, uint64_t peer, order *o, fc_reason *out_reason)
{
    if (store->is_stopping)
        return fc_fail(FC_DRAINING, out_reason, "the server is shutting down");
    holder *h = find_or_add_holder(store, peer);
    if (h == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    if (h->asked_count >= FC_ARENAS_ASKED_PER_PEER)
        return fc_fail(FC_BUSY, out_reason, "this connection waits for %u arenas already", h->asked_count);
    append_order(store, h, o);
    return FC_OK;
}

fc_status fc_arena_store_make(fc_arena_store *store, uint64_t peer, fc_arena_kind kind, uint64_t size_bytes,
                              void *request, fc_reason *out_reason)
{
    uint64_t whole_bytes = 0;
    fc_status st = fc_arena_quota_round(&store->config.quotas[kind], kind, size_bytes, &whole_bytes, out_reason);
    if (st != FC_OK)
        return st;
    order *o = calloc(1, sizeof *o);
    if (o == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    o->kind = kind;
    o->size_bytes = whole_bytes;
    o->request = request;
    pthread_mutex_lock(&store->lock);
    st = place_order(store, peer, o, out_reason);
    if (st == FC_OK)
        pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
    if (st != FC_OK)
        free(o);
    return st;
}

static fc_arena *find_arena(const fc_arena_store *store, uint64_t peer, uint64_t id)
{
    fc_arena *arena = fc_id_table_find_object(&store->arenas, id);
    return arena != NULL && arena->held_by->peer == peer ? arena : NULL;
}

fc_status fc_arena_store_give_back(fc_arena_store *store, uint64_t peer, uint64_t id, fc_reason *out_reason)
{
    pthread_mutex_lock(&store->lock);
    fc_arena *arena = find_arena(store, peer, id);
    if (arena != NULL)
        take_from_holder(arena);
    pthread_mutex_unlock(&store->lock);
    return arena != NULL ? FC_OK
                         : fc_fail(FC_INVALID_ARGUMENT, out_reason, "arena: this connection has no arena %llu",
                                   (unsigned long long)id);
}

void fc_arena_store_peer_gone(fc_arena_store *store, uint64_t peer)
{
    pthread_mutex_lock(&store->lock);
    holder *h = fc_id_table_find_object(&store->holders, peer);
    if (h != NULL) {
        fc_id_table_remove(&store->holders, peer);
        h->is_gone = true;
        while (h->first != NULL)
            take_from_holder(h->first);
        free_if_done(store, h);
    }
    pthread_mutex_unlock(&store->lock);
}

fc_arena *fc_arena_acquire(fc_arena_store *store, uint64_t peer, uint64_t id)
{
    pthread_mutex_lock(&store->lock);
    fc_arena *arena = find_arena(store, peer, id);
    if (arena != NULL)
        arena->references++;
    pthread_mutex_unlock(&store->lock);
    return arena;
}

void fc_arena_release(fc_arena *arena)
{
    if (arena == NULL)
        return;
    fc_arena_store *store = arena->store;
    pthread_mutex_lock(&store->lock);
    drop_reference(arena);
    pthread_mutex_unlock(&store->lock);
}

uint8_t *fc_arena_base(const fc_arena *arena)
{
    return arena->memory.base;
}

size_t fc_arena_size_bytes(const fc_arena *arena)
{
    return arena->memory.size_bytes;
}

fc_memory_place fc_arena_place(const fc_arena *arena)
{
    return arena != NULL ? arena->memory.place : (fc_memory_place){.kind = FC_MEMORY_HOST};
}

/* --- life --------------------------------------------------------------------------------------------------------- */

fc_status fc_arena_store_create(const fc_arena_store_config *config, fc_stats *stats, fc_arena_on_made on_made,
                                void *context, fc_arena_store **out_store)
{
    fc_arena_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return FC_NO_MEMORY;
    store->config = *config;
    store->stats = stats;
    store->on_made = on_made;
    store->context = context;
    store->last_asker = &store->first_asker;
    fc_id_table_init(&store->holders);
    fc_id_table_init(&store->arenas);
    pthread_mutex_init(&store->lock, NULL);
    fc_clock_cond_init(&store->work);
    store->is_started = pthread_create(&store->keeper, NULL, keep, store) == 0;
    if (!store->is_started) {
        fc_arena_store_destroy(store);
        return FC_INTERNAL;
    }
    pthread_setname_np(store->keeper, "arenas");
    *out_store = store;
    return FC_OK;
}

bool fc_arena_store_is_late(fc_arena_store *store, uint64_t timeout_ns, uint64_t longest_launch_ns, uint64_t now_ns)
{
    uint64_t since_ns = atomic_load(&store->busy_since_ns);
    uint64_t busy_ns = since_ns != 0 ? fc_clock_elapsed_ns(since_ns, now_ns) : 0;
    uint64_t more_ns = atomic_load(&store->busy_bytes) / BYTES_PER_S * FC_NS_PER_S;
    if (busy_ns != 0 && longest_launch_ns >= busy_ns)
        store->excused_ns = now_ns;
    uint64_t excused_ns = fc_clock_elapsed_ns(store->excused_ns, now_ns);
    return busy_ns > timeout_ns + more_ns && excused_ns > timeout_ns + more_ns;
}

void fc_arena_store_keep_pages(fc_arena_store *store)
{
    if (store == NULL)
        return;
    pthread_mutex_lock(&store->lock);
    store->keeps_pages = true;
    pthread_mutex_unlock(&store->lock);
}

void fc_arena_store_end(fc_arena_store *store)
{
    if (store == NULL)
        return;
    pthread_mutex_lock(&store->lock);
    store->is_stopping = true;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
}

void fc_arena_store_stop(fc_arena_store *store)
{
    if (store == NULL)
        return;
    fc_arena_store_end(store);
    if (store->is_started)
        pthread_join(store->keeper, NULL);
    store->is_started = false;
}

void fc_arena_store_destroy(fc_arena_store *store)
{
    if (store == NULL)
        return;
    fc_arena_store_stop(store);
    for (size_t i = 0; i < store->holders.capacity; i++)
        while (store->holders.entries[i].id != 0)
            fc_arena_store_peer_gone(store, store->holders.entries[i].id);
    for (fc_arena *arena = store->to_free, *next; arena != NULL; arena = next) {
        next = arena->next;
        free_arena(arena, true);
    }
    for (fc_arena *arena = store->lingering, *next; arena != NULL; arena = next) {
        next = arena->next;
        forget(arena);
    }
    fc_id_table_fini(&store->holders);
    fc_id_table_fini(&store->arenas);
    pthread_cond_destroy(&store->work);
    pthread_mutex_destroy(&store->lock);
    free(store);
}
