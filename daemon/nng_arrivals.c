/* See nng_arrivals.h. */
#include "daemon/nng_arrivals.h"

#include "daemon/clock.h"
#include "daemon/heap.h"
#include "daemon/nng_descriptor.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef struct half {
    atomic_bool is_watched;
    atomic_uint_fast64_t come_bytes; /* of the message that is not whole */
    atomic_uint_fast64_t held_bytes; /* what memory it may hold; 0: there is none */
    atomic_uint_fast64_t since_ns;   /* when its length came */
} half;

static atomic_uint_fast64_t total_bytes;
static half halves[FC_NNG_DESCRIPTORS_MAX];
static atomic_int_fast64_t half_bytes; /* the sum of held_bytes; for moments less */

void fc_nng_arrivals_add(uint64_t bytes)
{
    atomic_fetch_add_explicit(&total_bytes, bytes, memory_order_relaxed);
}

uint64_t fc_nng_arrivals_bytes(void)
{
    return atomic_load_explicit(&total_bytes, memory_order_relaxed);
}

static half *find(int fd)
{
    return fc_nng_descriptor_is_kept(fd) ? &halves[fd] : NULL;
}

static void hold(half *h, uint64_t bytes)
{
    uint64_t before = atomic_exchange(&h->held_bytes, bytes);
    atomic_fetch_add(&half_bytes, (int64_t)bytes - (int64_t)before);
}

static void set(int fd, bool is_watched)
{
    half *h = find(fd);
    if (h == NULL)
        return;
    atomic_store(&h->is_watched, is_watched);
    atomic_store(&h->come_bytes, 0);
    hold(h, 0);
}

void fc_nng_arrivals_watch(int fd)
{
    set(fd, true);
}

void fc_nng_arrivals_forget(int fd)
{
    set(fd, false);
}

/* What comes fills pages. Of what is still to come so much may be filled, too: what malloc takes from its heap, nng has
 * cleared, and only what is mapped alone is clear without being written. */
static uint64_t holds(uint64_t come_bytes, uint64_t left_bytes)
{
    return come_bytes + (left_bytes < FC_HEAP_MAPPED_BYTES ? left_bytes : FC_HEAP_MAPPED_BYTES);
}

void fc_nng_arrivals_note(int fd, uint64_t asked_bytes, uint64_t got_bytes)
{
    half *h = find(fd);
    if (h == NULL || !atomic_load_explicit(&h->is_watched, memory_order_relaxed))
        return;
    uint64_t come_bytes = atomic_load_explicit(&h->come_bytes, memory_order_relaxed);
    uint64_t held_bytes = atomic_load_explicit(&h->held_bytes, memory_order_relaxed);
    bool is_half = got_bytes < asked_bytes && come_bytes + asked_bytes >= FC_NNG_ARRIVALS_LEAST_BYTES;
    uint64_t bytes = is_half ? holds(come_bytes + got_bytes, asked_bytes - got_bytes) : 0;
    if (held_bytes == 0 && !is_half)
        return;
    if (held_bytes == 0)
        atomic_store(&h->since_ns, fc_clock_now_ns());
    atomic_store_explicit(&h->come_bytes, is_half ? come_bytes + got_bytes : 0, memory_order_relaxed);
    if (held_bytes != bytes)
        hold(h, bytes);
}

uint64_t fc_nng_arrivals_half_bytes(void)
{
    int64_t bytes = atomic_load_explicit(&half_bytes, memory_order_relaxed);
    return bytes > 0 ? (uint64_t)bytes : 0;
}

uint64_t fc_nng_arrivals_half_of(int fd, uint64_t *out_since_ns)
{
    half *h = find(fd);
    uint64_t bytes = h != NULL ? atomic_load(&h->held_bytes) : 0;
    *out_since_ns = bytes > 0 ? atomic_load(&h->since_ns) : 0;
    return bytes;
}
