/* The page a test shares with the daemon under test: what was called how often, and what is to fail.
 *
 * build/tests/libfaults.so, preloaded, stands in front of every function of faults.def, and the fake CUDA runtime does
 * the calls of cuda.def; they map the file that FC_FAULTS names, count each call by row and by who made it, and make
 * those fail that the page asks for. Counts and orders are plain atomics: the test reads and writes them while the
 * daemon runs. When a signal ends the process, the page says in whose code. Without the variable it does nothing.
 */
#ifndef FC_TESTS_FAULTS_H
#define FC_TESTS_FAULTS_H

#include <stdatomic.h>
#include <stdint.h>

#define FC_FAULT_ERRORS_MAX 3

typedef enum fc_fault_row {
#define FC_FAULT(name, ...) FC_FAULT_ROW_##name,
#include "tests/faults/faults.def"
    FC_FAULT_ROW_CUDA, /* here the CUDA calls begin, of which the fake runtime takes care */
    FC_FAULT_ROW_LAST_OF_LIBC = FC_FAULT_ROW_CUDA - 1, /* so that the first of them has that number */
#define FC_CUDA_FAULT(name, ...) FC_FAULT_ROW_##name,
#include "tests/faults/cuda.def"
    FC_FAULT_ROW_COUNT
} fc_fault_row;

typedef enum fc_fault_origin {
#define FC_ORIGIN(symbol, ...) FC_FAULT_BY_##symbol,
#include "tests/faults/origins.def"
    FC_FAULT_ORIGIN_COUNT
} fc_fault_origin;

#define FC_FAULT_TARGET(row, origin) ((unsigned)(row)*FC_FAULT_ORIGIN_COUNT + (origin) + 1)

typedef struct fc_fault_page {
    atomic_uint calls[FC_FAULT_ROW_COUNT][FC_FAULT_ORIGIN_COUNT];
    atomic_uint target;         /* FC_FAULT_TARGET(); 0: nothing fails */
    atomic_uint first;          /* of the target's calls from now on, the first is 1: from this one on */
    atomic_uint last;           /* to this one they fail, */
    atomic_int error;           /* with this errno */
    atomic_uint seen;           /* the target's calls since it is one */
    atomic_int cuda_live;       /* what the fake runtime's callers made and have not let go of */
    atomic_uint injected;       /* how many were made to fail */
    atomic_uint_fast64_t where; /* the last of them: the return address's place in its object */
    atomic_uint died_in; /* where a signal that ends the process came from: 1 + whose code, C library and above it; 0:
                            none did */
} fc_fault_page;

/* Counts a call; what it has to fail with, 0: it may do its work. where: see the page. Any thread. */
static inline int fc_fault_take(fc_fault_page *page, fc_fault_row row, fc_fault_origin origin, uint64_t where)
{
    atomic_fetch_add_explicit(&page->calls[row][origin], 1, memory_order_relaxed);
    if (atomic_load(&page->target) != FC_FAULT_TARGET(row, origin))
        return 0;
    unsigned call = atomic_fetch_add(&page->seen, 1) + 1;
    if (call < atomic_load(&page->first) || call > atomic_load(&page->last))
        return 0;
    atomic_store(&page->where, where);
    atomic_fetch_add(&page->injected, 1);
    return atomic_load(&page->error);
}

#endif
