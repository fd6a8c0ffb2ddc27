/* Makes a chosen allocation of this thread fail: a malloc, calloc or realloc that the program's own code calls, shared
 * libraries' not (nng 1.5 crashes on its own). For tests named test_<x>_memory: the Makefile links those with the
 * three names led through here, which works in every build, sanitizers' included: there what is lost on the way out
 * shows as a leak.
 *
 * Check's assertions allocate too: none between arm and disarm.
 */
#ifndef FC_TESTS_FAILING_ALLOC_H
#define FC_TESTS_FAILING_ALLOC_H

#include <stdbool.h>

/* The number-th allocation of this thread from now on fails, once; 1 is the next. 0: none. */
void failing_alloc_arm(unsigned number);

/* Disarms. True: it has failed; false: there were fewer allocations. */
bool failing_alloc_disarm(void);

#endif
