/* What came of all faults, counted over the test processes of one program and printed at its end. */
#ifndef FC_TESTS_FAULTS_TALLY_H
#define FC_TESTS_FAULTS_TALLY_H

#include <stdbool.h>
#include <stddef.h>

typedef enum fc_outcome {
#define FC_OUTCOME(symbol, name, is_good, text) FC_OUTCOME_##symbol,
#include "tests/faults/outcomes.def"
    FC_OUTCOME_COUNT
} fc_outcome;

bool fc_outcome_is_good(fc_outcome outcome);
const char *fc_outcome_name(fc_outcome outcome);

/* Before the tests fork. */
void fc_tally_open(void);

/* Zeroed memory that the tests' processes share, likewise. */
void *fc_tally_share(size_t size_bytes);

/* One fault of this row (at most FC_TALLY_ROWS different names of at most 47 bytes) and its outcome. Any process. */
#define FC_TALLY_ROWS 256
void fc_tally_add(const char *row, fc_outcome outcome);

/* Of all rows: how many came to that. */
unsigned fc_tally_count(fc_outcome outcome);

/* The table, and one line of totals. */
void fc_tally_print(const char *title);

#endif
