/* The process's heap under messages of megabytes: kept while they flow, given back when they have stopped.
 *
 * The socket library takes each message's memory from malloc and gives it back after, on any of its threads. Pages that
 * go back to the system with every message cost more than copying into them, so the heap keeps them; what it keeps is
 * the most that was in use at once. It is one arena: of glibc's eight a core each would keep the most that it ever
 * held, which adds up and creeps, and of what is free at the end of any but the first malloc_trim() gives nothing back.
 * When no large message has moved for FC_HEAP_REST_NS, all that is free goes: the next burst pays for fresh pages once.
 *
 * Sanitizers' allocators ignore all this.
 */
#ifndef FC_DAEMON_HEAP_H
#define FC_DAEMON_HEAP_H

#include "daemon/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define FC_HEAP_REST_NS (10 * FC_NS_PER_S)
#define FC_HEAP_LARGE_BYTES (64u << 10)  /* messages from here on count */
#define FC_HEAP_MAPPED_BYTES (32u << 20) /* what is larger is mapped alone, and goes back at once */

typedef struct fc_heap_watch {
    atomic_bool has_moved; /* since the last look */
    bool holds;            /* may hold something since the last giving back. Loop thread, as is */
    uint64_t moved_ns;     /* the last look that saw something move */
} fc_heap_watch;

/* Tells malloc. Before any thread starts: one that has an arena of its own by then keeps it. */
void fc_heap_setup(void);

/* A message of that size was received, or is to be sent. Any thread. */
static inline void fc_heap_note(fc_heap_watch *watch, size_t bytes)
{
    if (bytes >= FC_HEAP_LARGE_BYTES && !atomic_load_explicit(&watch->has_moved, memory_order_relaxed))
        atomic_store_explicit(&watch->has_moved, true, memory_order_relaxed);
}

/* True once after each time that something moved, when nothing has for FC_HEAP_REST_NS: it is time for
 * fc_heap_give_back(). Loop thread, about once a second. */
bool fc_heap_is_at_rest(fc_heap_watch *watch, uint64_t now_ns);

/* Gives what is free back to the system. Takes about 0.2 ms a MiB that it gives back; who allocates meanwhile waits for
 * some of that. Any thread. */
void fc_heap_give_back(void);

#endif
