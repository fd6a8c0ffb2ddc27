/* See heap.h. */
#include "daemon/heap.h"

#include <malloc.h>

/* KEPT_BYTES: free ones at the heap's end. */
enum { ARENAS = 1, KEPT_BYTES = 256 << 20 };

void fc_heap_setup(void)
{
    mallopt(M_MMAP_THRESHOLD, FC_HEAP_MAPPED_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
    mallopt(M_ARENA_MAX, ARENAS);
}

bool fc_heap_is_at_rest(fc_heap_watch *watch, uint64_t now_ns)
{
    if (atomic_exchange_explicit(&watch->has_moved, false, memory_order_relaxed)) {
        watch->holds = true;
        watch->moved_ns = now_ns;
        return false;
    }
    if (!watch->holds || now_ns < watch->moved_ns + FC_HEAP_REST_NS)
        return false;
    watch->holds = false;
    return true;
}

void fc_heap_give_back(void)
{
    malloc_trim(0);
}
