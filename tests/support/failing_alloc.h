/* Makes a chosen allocation of this thread fail: a malloc, calloc or realloc that the program's own code calls, shared
 * libraries' not (nng 1.5 crashes on its own). Only programs that use these functions get them. glibc; not under a
 * sanitizer, which brings an allocator of its own.
 */
#ifndef FC_TESTS_FAILING_ALLOC_H
#define FC_TESTS_FAILING_ALLOC_H

#include <stdbool.h>

/* False: nothing will fail, leave the test out. */
bool failing_alloc_is_available(void);

/* The number-th allocation of this thread from now on fails, once; 1 is the next. 0: none. */
void failing_alloc_arm(unsigned number);

/* Disarms. True: it has failed; false: there were fewer allocations. */
bool failing_alloc_disarm(void);

#endif
