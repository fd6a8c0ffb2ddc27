/* Raw figures of every trial, as JSON, and what they come to. evidence.py reads them.
 *
 * One thread. */
#ifndef FC_TESTS_GPU_REPORT_H
#define FC_TESTS_GPU_REPORT_H

#include "tests/gpu/trial.h"

#include <stdio.h>

typedef struct report_tally {
    int run, failed, unsupported;
    double worst; /* error over what is allowed, the largest of all right trials */
} report_tally;

typedef struct report {
    FILE *file; /* NULL: only the tallies */
    int row_count;
    report_tally tallies[FC_KERNEL_COUNT];
} report;

/* path NULL: no file. False, with a line on stderr: it cannot be written. The same of report_close(). */
bool report_open(report *r, const char *path);

/* label: which plan, "" for the one the plan chose. */
void report_add(report *r, fc_kernel kernel, const char *name, const char *label, const trial *t);

/* is_whole: the whole table was run, so that this can count as evidence. */
bool report_close(report *r, const char *device, bool is_whole);

int report_failures(const report *r);

#endif
