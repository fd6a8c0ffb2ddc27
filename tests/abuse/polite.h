/* Somebody who only wants to work while others abuse the daemon: asks, waits, looks whether the answer is right, asks
 * again. The first answer is compared with the reference, every later one bit for bit with that. A thread of its own.
 */
#ifndef FC_TESTS_ABUSE_POLITE_H
#define FC_TESTS_ABUSE_POLITE_H

#include "tests/abuse/site.h"

typedef struct fc_polite fc_polite;

typedef struct fc_polite_report {
    uint64_t answered, wrong;
    uint64_t excused, lost; /* not answered: while the daemon was being started anew as documented, and otherwise */
    uint64_t worst_us;      /* the longest an answer took */
    char why[256];          /* of the last lost or wrong one */
} fc_polite_report;

/* stays: keeps one connection all the time, where new ones may be refused; otherwise takes a new one now and then. */
fc_polite *fc_polite_start(const fc_site *site, fc_road road, bool stays);

/* So far, right or wrong. */
uint64_t fc_polite_answered(const fc_polite *polite);

/* Ends with the request under way, and tells what came of it. */
void fc_polite_stop(fc_polite *polite, const fc_site *site, fc_polite_report *out_report);

#endif
