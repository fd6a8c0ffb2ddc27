/* The page a test shares with the daemon under test: what was called how often, and what is to fail.
 *
 * build/tests/libfaults.so, preloaded, stands in front of every function of faults.def; it maps the file that
 * FC_FAULTS names, counts each call by row and by who made it, and makes those fail that the page asks for. Counts and
 * orders are plain atomics: the test reads and writes them while the daemon runs. When a signal ends the process, the
 * page says in whose code. Without the variable it does nothing.
 */
#ifndef FC_TESTS_FAULTS_H
#define FC_TESTS_FAULTS_H

#include <stdatomic.h>
#include <stdint.h>

#define FC_FAULT_ERRORS_MAX 3

typedef enum fc_fault_row {
#define FC_FAULT(name, ...) FC_FAULT_ROW_##name,
#include "tests/faults/faults.def"
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
    atomic_uint injected;       /* how many were made to fail */
    atomic_uint_fast64_t where; /* the last of them: the return address's place in its object */
    atomic_uint died_in; /* where a signal that ends the process came from: 1 + whose code, C library and above it; 0:
                            none did */
} fc_fault_page;

#endif
