/* HTTP as curl would speak it, to the daemon's metrics socket. Every wait has a limit; one that passes fails the test.
 */
#ifndef FC_TESTS_E2E_SCRAPE_H
#define FC_TESTS_E2E_SCRAPE_H

#include "tests/e2e/harness.h"

/* The --metrics address of a daemon that is placed: a unix socket in its folder. */
void fc_scrape_address(const fc_e2e_daemon *daemon, char out_address[FC_E2E_PATH_BYTES]);

/* A connection to such an address; -1 and errno when it is refused. */
int fc_scrape_dial(const char *address);

/* Reads until the peer closes; free() what comes back. */
char *fc_scrape_read_all(int fd);

/* GET of the path: the whole answer, head and body; free() it. *out_status: 200, 503, ... */
char *fc_scrape_get(const char *address, const char *path, int *out_status);

/* The value of the sample whose name (labels included) is exactly that; -1: there is none. */
double fc_scrape_value(const char *answer, const char *sample);

/* GETs /metrics until the sample is at least so much. */
void fc_scrape_await(const char *address, const char *sample, double at_least);

#endif
