/* See nng_readers.h. */
#include "daemon/nng_readers.h"

#include "daemon/clock.h"
#include "daemon/nng_arrivals.h"
#include "daemon/nng_detour.h"
#include "daemon/nng_gap.h"
#include "daemon/nng_stats.h"
#include "daemon/refusals.h"

#include <nng/nng.h>

/* Readers are cut when all but so many of those that may wait do. Until then nobody is hurried. */
#define WAITING_SPARE 64
/* Whoever reads on, however slowly, is not cut first: nor whoever a busy machine keeps from running for so long, unless
 * it left so many unread. */
#define STILL_AFTER_NS (100 * FC_NS_PER_MS)
#define UNREAD_MANY 128
/* While ending: how long a reply is waited with, of which nothing is taken. */
#define UNREAD_AT_END_NS (5 * FC_NS_PER_S)
/* The same, where nng does not tell of all. */
#define STUCK_AFTER_NS (1 * FC_NS_PER_S)
#define LOOK_EVERY_NS (100 * FC_NS_PER_MS)
/* Whoever sends a message at speed is done with it by then, also one among many. */
#define SENT_AFTER_NS (1 * FC_NS_PER_S)

static const fc_readers_limits OF_COUNT = {.count = FC_NNG_READERS_WAITING_MAX - WAITING_SPARE,
                                           .bytes = UINT64_MAX,
                                           .patience_ns = STILL_AFTER_NS,
                                           .many = UNREAD_MANY};

void fc_nng_readers_init(fc_nng_readers *readers, fc_stats *stats, uint64_t message_bytes)
{
    *readers = (fc_nng_readers){.stats = stats, .message_bytes = message_bytes};
    pthread_mutex_init(&readers->lock, NULL);
    fc_readers_init(&readers->readers);
}

void fc_nng_readers_fini(fc_nng_readers *readers)
{
    fc_readers_fini(&readers->readers);
    pthread_mutex_destroy(&readers->lock);
}

fc_status fc_nng_readers_add(fc_nng_readers *readers, uint64_t pipe, uint64_t owner_key, int fd)
{
    pthread_mutex_lock(&readers->lock);
    fc_status st = fc_readers_add(&readers->readers, pipe, owner_key, fd);
    if (st == FC_OK)
        fc_nng_arrivals_watch(fd);
    pthread_mutex_unlock(&readers->lock);
    return st;
}

bool fc_nng_readers_remove(fc_nng_readers *readers, uint64_t pipe)
{
    pthread_mutex_lock(&readers->lock);
    const fc_reader *reader = fc_readers_find(&readers->readers, pipe);
    if (reader != NULL) {
        fc_nng_detour_forget(reader->fd);
        fc_nng_gap_forget(reader->fd);
        fc_nng_arrivals_forget(reader->fd);
    }
    bool was_there = fc_readers_remove(&readers->readers, pipe);
    pthread_mutex_unlock(&readers->lock);
    return was_there;
}

int fc_nng_readers_fd(fc_nng_readers *readers, uint64_t pipe)
{
    pthread_mutex_lock(&readers->lock);
    const fc_reader *reader = fc_readers_find(&readers->readers, pipe);
    int fd = reader != NULL ? reader->fd : -1;
    pthread_mutex_unlock(&readers->lock);
    return fd;
}

bool fc_nng_readers_depart(fc_nng_readers *readers, uint64_t pipe, const void *body, size_t body_bytes, void *piece)
{
    pthread_mutex_lock(&readers->lock);
    const fc_reader *reader = fc_readers_find(&readers->readers, pipe);
    bool departs = reader != NULL && fc_nng_detour_depart(reader->fd, body, body_bytes, piece) == FC_OK;
    pthread_mutex_unlock(&readers->lock);
    return departs;
}

/* Under the lock, so that the descriptor is nng's still. False: it cannot be cut so. */
static bool end(const fc_reader *reader)
{
    if (reader == NULL)
        return false;
    bool has_ended = fc_nng_gap_cut(reader->fd);
    fc_nng_arrivals_forget(reader->fd);
    return has_ended;
}

static void close_pipe(fc_nng_readers *readers, uint64_t pipe, bool has_ended)
{
    if (!has_ended)
        nng_pipe_close((nng_pipe){.id = (uint32_t)pipe});
    fc_stats_add(readers->stats, FC_COUNT_PIPES_CUT, 1);
}

void fc_nng_readers_cut(fc_nng_readers *readers, uint64_t pipe)
{
    pthread_mutex_lock(&readers->lock);
    bool has_ended = end(fc_readers_find(&readers->readers, pipe));
    pthread_mutex_unlock(&readers->lock);
    close_pipe(readers, pipe, has_ended);
}

/* fc_readers_cut or fc_readers_cut_half. */
typedef const fc_reader *(*choice)(fc_readers *readers, const fc_readers_limits *limits, uint64_t now_ns);

static void cut(fc_nng_readers *readers, choice choose, const fc_readers_limits *limits, uint64_t now_ns)
{
    for (;;) {
        pthread_mutex_lock(&readers->lock);
        const fc_reader *reader = choose(&readers->readers, limits, now_ns);
        uint64_t pipe = reader != NULL ? reader->id : 0;
        bool has_ended = end(reader);
        pthread_mutex_unlock(&readers->lock);
        if (pipe == 0)
            return;
        close_pipe(readers, pipe, has_ended);
        fc_refusals_log_cut(pipe, choose == fc_readers_cut ? "reads no replies" : "sends no whole message");
    }
}

static bool are_over(fc_nng_readers *readers, const fc_readers_limits *limits)
{
    pthread_mutex_lock(&readers->lock);
    bool is_over = fc_readers_are_over(&readers->readers, limits);
    pthread_mutex_unlock(&readers->lock);
    return is_over;
}

void fc_nng_readers_give(fc_nng_readers *readers, uint64_t pipe, uint64_t bytes)
{
    uint64_t now_ns = fc_clock_now_ns();
    pthread_mutex_lock(&readers->lock);
    fc_readers_give(&readers->readers, pipe, bytes, now_ns);
    bool is_over = fc_readers_are_over(&readers->readers, &OF_COUNT);
    pthread_mutex_unlock(&readers->lock);
    if (is_over)
        cut(readers, fc_readers_cut, &OF_COUNT, now_ns);
}

void fc_nng_readers_take(fc_nng_readers *readers, uint64_t pipe, uint64_t bytes)
{
    pthread_mutex_lock(&readers->lock);
    fc_readers_take(&readers->readers, pipe, bytes, fc_clock_now_ns());
    pthread_mutex_unlock(&readers->lock);
}

/* Asks nng what has left. How many connections still have some of their replies to go; *out_flushed: the replies the
 * kernel has taken of all. */
static uint32_t count_unflushed(fc_nng_readers *readers, uint64_t *out_flushed)
{
    nng_stat *root = NULL;
    uint32_t unflushed = 0;
    *out_flushed = 0;
    if (nng_stats_get(&root) != 0)
        return 0;
    pthread_mutex_lock(&readers->lock);
    for (nng_stat *stat = nng_stat_child(root); stat != NULL; stat = nng_stat_next(stat)) {
        uint64_t pipe = 0;
        uint64_t flushed = 0;
        if (!fc_nng_stats_read_pipe(stat, &pipe, &flushed))
            continue;
        unflushed += !fc_readers_have_left(&readers->readers, pipe, flushed);
        *out_flushed += flushed;
    }
    pthread_mutex_unlock(&readers->lock);
    nng_stats_free(root);
    return unflushed;
}

static uint64_t add(uint64_t bytes, uint64_t more_bytes)
{
    return bytes > UINT64_MAX - more_bytes ? UINT64_MAX : bytes + more_bytes;
}

static void look_at_halves(fc_nng_readers *readers)
{
    pthread_mutex_lock(&readers->lock);
    for (size_t i = 0; i < readers->readers.table.capacity; i++) {
        fc_reader *reader = fc_readers_at(&readers->readers, i);
        if (reader == NULL)
            continue;
        uint64_t since_ns;
        uint64_t bytes = fc_nng_arrivals_half_of(reader->fd, &since_ns);
        fc_readers_see_half(&readers->readers, reader, bytes, since_ns);
    }
    pthread_mutex_unlock(&readers->lock);
}

/* One message more than may wait, so that the largest can always come, however slowly. */
static void relieve_of_halves(fc_nng_readers *readers, uint64_t now_ns)
{
    uint64_t queue_bytes = fc_stats_get(readers->stats, FC_GAUGE_QUEUE_LIMIT_BYTES);
    fc_readers_limits of_slow = {.bytes = add(queue_bytes, readers->message_bytes), .patience_ns = SENT_AFTER_NS};
    fc_readers_limits of_all = {.bytes = add(of_slow.bytes, queue_bytes)};
    if (fc_nng_arrivals_half_bytes() <= of_slow.bytes)
        return;
    look_at_halves(readers);
    cut(readers, fc_readers_cut_half, &of_slow, now_ns);
    cut(readers, fc_readers_cut_half, &of_all, now_ns);
}

static void relieve_of_unread(fc_nng_readers *readers, uint64_t now_ns)
{
    uint64_t flushed;
    fc_readers_limits limits = OF_COUNT;
    limits.bytes = fc_stats_get(readers->stats, FC_GAUGE_QUEUE_LIMIT_BYTES);
    if (fc_stats_get(readers->stats, FC_GAUGE_DRAINING) != 0)
        limits = (fc_readers_limits){.patience_ns = UNREAD_AT_END_NS, .many = UINT64_MAX};
    if (!are_over(readers, &limits) || fc_clock_elapsed_ns(readers->looked_ns, now_ns) < LOOK_EVERY_NS)
        return;
    readers->looked_ns = now_ns;
    count_unflushed(readers, &flushed);
    cut(readers, fc_readers_cut, &limits, now_ns);
}

void fc_nng_readers_relieve(fc_nng_readers *readers, uint64_t now_ns)
{
    relieve_of_unread(readers, now_ns);
    relieve_of_halves(readers, now_ns);
}

bool fc_nng_readers_have_all(fc_nng_readers *readers, bool is_stuck, uint64_t now_ns)
{
    uint64_t flushed;
    uint32_t unflushed = count_unflushed(readers, &flushed);
    if (flushed != readers->flushed_count || !is_stuck) {
        readers->flushed_count = flushed;
        readers->flushed_ns = now_ns;
    }
    return unflushed == 0 || now_ns - readers->flushed_ns >= STUCK_AFTER_NS;
}

fc_id_table fc_nng_readers_list(fc_nng_readers *readers)
{
    fc_id_table pipes;
    fc_id_table_init(&pipes);
    pthread_mutex_lock(&readers->lock);
    for (size_t i = 0; i < readers->readers.table.capacity; i++)
        if (readers->readers.table.entries[i].id != 0)
            fc_id_table_put(&pipes, readers->readers.table.entries[i].id);
    pthread_mutex_unlock(&readers->lock);
    return pipes;
}

bool fc_nng_readers_are_there(fc_nng_readers *readers)
{
    pthread_mutex_lock(&readers->lock);
    bool are_there = readers->readers.table.count > 0;
    pthread_mutex_unlock(&readers->lock);
    return are_there;
}
