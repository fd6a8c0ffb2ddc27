/* See nng_detour.h. Messages are found by the address their body ends at. */
#include "daemon/nng_detour.h"

#include "daemon/clock.h"
#include "daemon/id_table.h"
#include "daemon/nng_descriptor.h"
#include "daemon/nng_gap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What nng's protocol may look at: an id, and one more for every device on the way, 15 at most. */
#define HEAD_BYTES 4096
/* A message that took the detour, less what is trimmed off its front, is longer. */
#define CLAIMED_BYTES_MIN (FC_NNG_DETOUR_BYTES_MIN / 2)
#define PARTS_MAX 16
/* A message nobody has claimed so long after its connection's end is one that nng has dropped. */
#define UNCLAIMED_NS (10 * FC_NS_PER_S)

/* Of a descriptor, what is being received. */
typedef struct arrival {
    pthread_mutex_t lock; /* all zero is a lock; held while reading */
    bool is_midway;       /* the last read did not end its part */
    char *body, *piece;   /* piece NULL: nng's way */
    size_t size_bytes, got_bytes;
} arrival;

/* A message that has arrived, or departs. */
typedef struct letter {
    char *piece;
    size_t size_bytes;
    int fd;
    uint64_t forgotten_ns; /* when its connection was; 0: it is there */
} letter;

static arrival arrivals[FC_NNG_DESCRIPTORS_MAX];
static pthread_mutex_t send_locks[FC_NNG_DESCRIPTORS_MAX]; /* held while sending */
static fc_pinned_pool *pool;                               /* while any piece is out */
static atomic_bool is_open;
static atomic_size_t departing_count;

static pthread_mutex_t letters_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the next two */
static fc_id_table arrived, departing;                           /* by the body's end */

static uint64_t end_of(const void *body, size_t size_bytes)
{
    return (uint64_t)(uintptr_t)body + size_bytes;
}

void fc_nng_detour_give_back(void *piece)
{
    if (piece != NULL)
        fc_pinned_pool_give_back(pool, piece);
}

fc_memory_place fc_nng_detour_place(void)
{
    return fc_pinned_pool_place(pool);
}

size_t fc_nng_detour_lent_bytes(void)
{
    return atomic_load(&is_open) ? fc_pinned_pool_lent_bytes(pool) : 0;
}

/* --- letters ------------------------------------------------------------------------------------------------------ */

/* Under letters_lock, as the next. One that is not there is fine. */
static void drop(fc_id_table *letters, uint64_t end)
{
    letter *l = fc_id_table_find_object(letters, end);
    if (l == NULL)
        return;
    fc_id_table_remove(letters, end);
    fc_nng_detour_give_back(l->piece);
    free(l);
}

/* Of one that nng dropped and whose memory it allotted again the piece goes back. */
static fc_status add(fc_id_table *letters, uint64_t end, letter added)
{
    letter *l = fc_id_table_put_object(letters, end, sizeof *l);
    if (l == NULL)
        return FC_NO_MEMORY;
    fc_nng_detour_give_back(l->piece);
    *l = added;
    return FC_OK;
}

static void drop_if(fc_id_table *letters, bool (*is_over)(const letter *l, uint64_t what), uint64_t what)
{
    for (size_t i = 0; i < letters->capacity;) {
        uint64_t end = letters->entries[i].id;
        if (end != 0 && is_over(fc_id_table_find_object(letters, end), what))
            drop(letters, end); /* which may move a later one here */
        else
            i++;
    }
}

static bool is_all(const letter *l, uint64_t what)
{
    (void)l, (void)what;
    return true;
}

static bool is_of(const letter *l, uint64_t fd)
{
    return l->fd == (int)fd;
}

static bool is_unclaimed(const letter *l, uint64_t now_ns)
{
    return l->forgotten_ns != 0 && fc_clock_elapsed_ns(l->forgotten_ns, now_ns) >= UNCLAIMED_NS;
}

/* What has arrived there may still be claimed. */
static void note_end(int fd)
{
    for (size_t i = 0; i < arrived.capacity; i++) {
        letter *l = fc_id_table_find_object(&arrived, arrived.entries[i].id);
        if (l != NULL && l->fd == fd && l->forgotten_ns == 0)
            l->forgotten_ns = fc_clock_now_ns();
    }
}

void fc_nng_detour_tick(uint64_t now_ns)
{
    pthread_mutex_lock(&letters_lock);
    drop_if(&arrived, is_unclaimed, now_ns);
    pthread_mutex_unlock(&letters_lock);
}

/* --- arriving ----------------------------------------------------------------------------------------------------- */

static void end_arrival(arrival *a)
{
    fc_nng_detour_give_back(a->piece);
    a->piece = NULL;
}

/* The part begins with this read. What once arrived for the same memory was dropped by nng: that must not be taken for
 * this message, whichever way it comes. */
static void begin_arrival(arrival *a, const struct iovec *part)
{
    pthread_mutex_lock(&letters_lock);
    drop(&arrived, end_of(part->iov_base, part->iov_len));
    pthread_mutex_unlock(&letters_lock);
    if (part->iov_len < FC_NNG_DETOUR_BYTES_MIN)
        return;
    a->piece = fc_pinned_pool_take(pool, part->iov_len);
    a->body = part->iov_base;
    a->size_bytes = part->iov_len;
    a->got_bytes = 0;
}

static void arrive(arrival *a, int fd)
{
    memcpy(a->body, a->piece, a->size_bytes < HEAD_BYTES ? a->size_bytes : HEAD_BYTES);
    letter l = {.piece = a->piece, .size_bytes = a->size_bytes, .fd = fd};
    pthread_mutex_lock(&letters_lock);
    fc_status st = add(&arrived, end_of(a->body, a->size_bytes), l);
    pthread_mutex_unlock(&letters_lock);
    if (st != FC_OK)
        memcpy(a->body, a->piece, a->size_bytes);
    else
        a->piece = NULL;
    end_arrival(a);
}

/* Under its lock. */
static ssize_t read_arrival(arrival *a, int fd, const struct iovec *part, fc_nng_detour_reader reader)
{
    char *expected = a->body + a->got_bytes;
    struct iovec elsewhere = *part;
    if (a->piece != NULL && (part->iov_base != expected || part->iov_len != a->size_bytes - a->got_bytes))
        end_arrival(a); /* of a connection whose end nobody told of */
    if (a->piece == NULL && !a->is_midway && part->iov_len >= CLAIMED_BYTES_MIN && atomic_load(&is_open))
        begin_arrival(a, part);
    if (a->piece != NULL)
        elsewhere.iov_base = a->piece + a->got_bytes;
    ssize_t got = reader(fd, &elsewhere, 1);
    if (got > 0)
        a->is_midway = (size_t)got < part->iov_len;
    if (a->piece == NULL || got <= 0) {
        if (a->got_bytes == 0)
            end_arrival(a); /* who announces a message and sends nothing of it holds nothing */
        return got;
    }
    a->got_bytes += (size_t)got;
    if (!a->is_midway)
        arrive(a, fd);
    return got;
}

ssize_t fc_nng_detour_read(int fd, const struct iovec *parts, int count, fc_nng_detour_reader reader)
{
    if (!atomic_load(&is_open) || !fc_nng_descriptor_is_kept(fd) || count != 1)
        return reader(fd, parts, count);
    arrival *a = &arrivals[fd];
    pthread_mutex_lock(&a->lock);
    ssize_t got = read_arrival(a, fd, &parts[0], reader);
    pthread_mutex_unlock(&a->lock);
    return got;
}

void *fc_nng_detour_claim(int fd, const void *body, size_t body_bytes, void **out_piece)
{
    void *bytes = NULL;
    uint64_t end = end_of(body, body_bytes);
    *out_piece = NULL;
    if (!atomic_load(&is_open) || body_bytes < CLAIMED_BYTES_MIN)
        return NULL;
    pthread_mutex_lock(&letters_lock);
    letter *l = fc_id_table_find_object(&arrived, end);
    if (l != NULL && l->fd == fd && l->forgotten_ns == 0 && body_bytes <= l->size_bytes) {
        *out_piece = l->piece;
        bytes = l->piece + (l->size_bytes - body_bytes);
        fc_id_table_remove(&arrived, end);
        free(l);
    }
    pthread_mutex_unlock(&letters_lock);
    return bytes;
}

/* --- departing ---------------------------------------------------------------------------------------------------- */

void *fc_nng_detour_take(int fd, size_t size_bytes)
{
    if (!atomic_load(&is_open) || size_bytes < FC_NNG_DETOUR_BYTES_MIN || !fc_nng_descriptor_is_kept(fd) ||
        !fc_nng_gap_is_plain(fd))
        return NULL;
    return fc_pinned_pool_take(pool, size_bytes);
}

fc_status fc_nng_detour_depart(int fd, const void *body, size_t body_bytes, void *piece)
{
    letter l = {.piece = piece, .size_bytes = body_bytes, .fd = fd};
    pthread_mutex_lock(&letters_lock);
    fc_status st = add(&departing, end_of(body, body_bytes), l);
    atomic_store(&departing_count, departing.count);
    pthread_mutex_unlock(&letters_lock);
    return st;
}

void fc_nng_detour_recall(const void *body, size_t body_bytes)
{
    pthread_mutex_lock(&letters_lock);
    drop(&departing, end_of(body, body_bytes));
    atomic_store(&departing_count, departing.count);
    pthread_mutex_unlock(&letters_lock);
}

/* Does a message's last part lie elsewhere? Then that in *out_part. Under the connection's send lock, so that the piece
 * stays. */
static bool find_departing(int fd, const struct iovec *last, struct iovec *out_part)
{
    pthread_mutex_lock(&letters_lock);
    const letter *l = fc_id_table_find_object(&departing, end_of(last->iov_base, last->iov_len));
    bool is_found = l != NULL && l->fd == fd && last->iov_len <= l->size_bytes;
    if (is_found)
        *out_part = (struct iovec){.iov_base = l->piece + (l->size_bytes - last->iov_len), .iov_len = last->iov_len};
    pthread_mutex_unlock(&letters_lock);
    return is_found;
}

static ssize_t send_departing(int fd, const struct msghdr *message, int flags, fc_nng_detour_sender sender)
{
    struct iovec parts[PARTS_MAX];
    const struct iovec *last = &message->msg_iov[message->msg_iovlen - 1];
    struct msghdr elsewhere = *message;
    memcpy(parts, message->msg_iov, message->msg_iovlen * sizeof *parts);
    elsewhere.msg_iov = parts;
    if (!find_departing(fd, last, &parts[message->msg_iovlen - 1]))
        return sender(fd, message, flags);
    ssize_t sent = sender(fd, &elsewhere, flags);
    if (sent > 0 && (size_t)sent == fc_nng_detour_message_bytes(message))
        fc_nng_detour_recall(last->iov_base, last->iov_len);
    return sent;
}

ssize_t fc_nng_detour_send(int fd, const struct msghdr *message, int flags, fc_nng_detour_sender sender)
{
    if (atomic_load(&departing_count) == 0 || !fc_nng_descriptor_is_kept(fd) || message->msg_iovlen == 0 ||
        message->msg_iovlen > PARTS_MAX)
        return sender(fd, message, flags);
    pthread_mutex_lock(&send_locks[fd]);
    ssize_t sent = send_departing(fd, message, flags, sender);
    pthread_mutex_unlock(&send_locks[fd]);
    return sent;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static void forget_arrival(arrival *a)
{
    pthread_mutex_lock(&a->lock);
    end_arrival(a);
    a->is_midway = false;
    pthread_mutex_unlock(&a->lock);
}

void fc_nng_detour_forget(int fd)
{
    if (!atomic_load(&is_open) || !fc_nng_descriptor_is_kept(fd))
        return;
    forget_arrival(&arrivals[fd]);
    pthread_mutex_lock(&send_locks[fd]); /* nobody sends from a piece that goes back */
    pthread_mutex_lock(&letters_lock);
    drop_if(&departing, is_of, (uint64_t)fd);
    atomic_store(&departing_count, departing.count);
    note_end(fd);
    pthread_mutex_unlock(&letters_lock);
    pthread_mutex_unlock(&send_locks[fd]);
}

void fc_nng_detour_open(fc_pinned_pool *of_pieces)
{
    pool = of_pieces;
    atomic_store(&is_open, true);
}

/* nng may still read and send, on connections it never finishes closing: nobody finds a piece from then on, and those
 * who have are waited for. */
void fc_nng_detour_close(void)
{
    if (!atomic_exchange(&is_open, false))
        return;
    pthread_mutex_lock(&letters_lock);
    fc_id_table left = departing;
    fc_id_table_init(&departing);
    atomic_store(&departing_count, 0);
    pthread_mutex_unlock(&letters_lock);
    for (int fd = 0; fd < FC_NNG_DESCRIPTORS_MAX; fd++) {
        forget_arrival(&arrivals[fd]);
        pthread_mutex_lock(&send_locks[fd]);
        pthread_mutex_unlock(&send_locks[fd]);
    }
    pthread_mutex_lock(&letters_lock);
    drop_if(&left, is_all, 0);
    drop_if(&arrived, is_all, 0);
    fc_id_table_fini(&left);
    fc_id_table_fini(&arrived);
    pthread_mutex_unlock(&letters_lock);
    pool = NULL;
}
