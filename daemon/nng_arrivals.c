/* See nng_arrivals.h. */
#include "daemon/nng_arrivals.h"

#include <stdatomic.h>

static atomic_uint_fast64_t total_bytes;

void fc_nng_arrivals_add(uint64_t bytes)
{
    atomic_fetch_add_explicit(&total_bytes, bytes, memory_order_relaxed);
}

uint64_t fc_nng_arrivals_bytes(void)
{
    return atomic_load_explicit(&total_bytes, memory_order_relaxed);
}
