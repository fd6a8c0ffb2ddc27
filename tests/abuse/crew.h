/* Abusers at work: processes that do one deed over and over, first a given number of times, then, when told so, without
 * end until they are dismissed. Main thread of one test, while it is the only one.
 */
#ifndef FC_TESTS_ABUSE_CREW_H
#define FC_TESTS_ABUSE_CREW_H

#include "tests/abuse/deed.h"

#define FC_CREW_SIZE 3

typedef struct fc_crew_tally fc_crew_tally; /* in memory all of them share */

typedef struct fc_crew {
    pid_t pids[FC_CREW_SIZE];
    int orders;  /* to them: a byte each is the word to go on without end */
    int reports; /* from them: one byte of each that has done its number, end of file when none is left */
    fc_crew_tally *tally;
} fc_crew;

void fc_crew_start(fc_crew *out_crew, const fc_site *site, const fc_deed *deed, fc_road road, uint32_t count);

/* How many deeds were done, and how many could not be because the daemon did not let them in or hung up. */
uint32_t fc_crew_done(const fc_crew *crew);
uint32_t fc_crew_refused(const fc_crew *crew);

/* After each has reported: the connections they kept are closed by then. Go on without end. */
void fc_crew_go_on(const fc_crew *crew);

/* Kills and reaps them. Fails the test when one of them failed. */
void fc_crew_dismiss(fc_crew *crew);

#endif
