/* What a daemon under a fault is asked: a fixed list of requests over every way in, each with a limit, and what came of
 * them. Nothing in here fails the running test.
 */
#ifndef FC_TESTS_FAULTS_SCRIPT_H
#define FC_TESTS_FAULTS_SCRIPT_H

#include "tests/faults/trial.h"

/* Of one request and of the script: the worse is the larger. */
typedef enum fc_said {
    FC_SAID_OK,     /* done, and right */
    FC_SAID_STATUS, /* not done, and said so in a way PROTOCOL.md knows; or the connection was cut */
    FC_SAID_WRONG,  /* a wrong answer, or a status that is none for this */
    FC_SAID_NOTHING /* no answer in time */
} fc_said;

typedef struct fc_script_report {
    fc_said worst;
    unsigned ok_count, status_count;
    char text[320]; /* the first request of the worst kind: its name, status and error */
} fc_script_report;

/* How long a request may take; a connection a quarter as long. Milliseconds, before FC_TEST_SLOWDOWN. */
#define FC_SCRIPT_REQUEST_MS 8000

/* Hello, attend in messages (ipc, tcp, tls+tcp before and after a reload of the certificates), through the library's
 * staging and in an arena, cancel, ping, stats, reload, scrapes: on fresh connections. Stops when the daemon has ended.
 */
void fc_script_run(const fc_trial *trial, int request_ms, fc_script_report *out_report);

/* Three requests alone: an attention over ipc, one over tcp, one over tls+tcp. */
void fc_script_run_short(const fc_trial *trial, fc_script_report *out_report);

/* Waits until one of the daemon's numbers is at least and at most that; false: it is not, in time. */
bool fc_script_await(const fc_trial *trial, const char *counter, double least, double most);

#endif
