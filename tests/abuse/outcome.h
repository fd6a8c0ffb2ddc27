/* What came of one row, a deed on one road: the figures, what they must be, and how they are shown. Plain values. */
#ifndef FC_TESTS_ABUSE_OUTCOME_H
#define FC_TESTS_ABUSE_OUTCOME_H

#include "tests/abuse/deed.h"
#include "tests/abuse/polite.h"

typedef struct fc_outcome {
    const fc_deed *deed;
    fc_road road;
    bool is_over, is_good; /* it ran to its end; and nothing is wrong with it */
    uint32_t done, refused;
    double seconds;
    fc_polite_report polite;
    uint64_t descriptors_before, descriptors_worst, descriptors_after;
    uint64_t memory_before_kib, memory_worst_kib, memory_after_kib;
    uint64_t never_closing; /* the most that the daemon counted */
    uint32_t restarts;
    uint64_t end_ms; /* SIGTERM to the end, with the abuse going on */
} fc_outcome;

/* What is wrong; false: nothing is. */
bool fc_outcome_has_fault(const fc_outcome *outcome, char *out_text, size_t out_bytes);

/* One line of the table, its head, and its sums. */
void fc_outcome_print_head(void);
void fc_outcome_print(const fc_outcome *outcome);
void fc_outcome_print_sums(const fc_outcome *outcomes, size_t count);

/* False: the file cannot be written. */
bool fc_outcome_write_json(const fc_outcome *outcomes, size_t count, const char *path);

#endif
