/* One daemon with libfaults.so in front of it, one fault, and what came of it.
 *
 * A trial's daemon listens on ipc and tcp (the harness), and on tls+tcp with client certificates, has an admin socket,
 * metrics and a configuration file, all in one folder, in which one daemon after the other is started: what one leaves
 * behind stands in the next one's way. Nothing in here fails the running test but a harness that cannot work; outcomes
 * are returned and tallied (tally.h).
 */
#ifndef FC_TESTS_FAULTS_TRIAL_H
#define FC_TESTS_FAULTS_TRIAL_H

#include "tests/e2e/harness.h"
#include "tests/faults/faults.h"
#include "tests/support/certs.h"

/* After this a daemon hangs: longer than it waits for its own sockets. Milliseconds, before FC_TEST_SLOWDOWN. */
#define FC_TRIAL_HANG_MS 45000

typedef struct fc_fault {
    fc_fault_row row;
    fc_fault_origin origin;
    int error;
    unsigned first, last; /* of its calls from the arming on, 1 is the first */
} fc_fault;

typedef struct fc_trial {
    fc_e2e_daemon daemon;
    fc_fault_page *page;
    char page_path[FC_E2E_PATH_BYTES], admin_path[FC_E2E_PATH_BYTES], config_path[FC_E2E_PATH_BYTES];
    char tls_url[FC_E2E_PATH_BYTES], tls_ca[FC_CERTS_PATH_BYTES];
    fc_cert server, client;
    char metrics[FC_E2E_PATH_BYTES]; /* unix:PATH */
    size_t log_bytes;                /* what the log held when this daemon was started */
} fc_trial;

const char *fc_fault_name(fc_fault_row row);
const char *fc_fault_origin_name(fc_fault_origin origin);
bool fc_fault_is_library(fc_fault_origin origin); /* code that is not flashcored's */
int fc_fault_error(fc_fault_row row, int index);  /* 0: it has no more */

void fc_trial_open(fc_trial *trial);
void fc_trial_close(fc_trial *trial); /* the daemon is dead */

/* Clears the page; the next daemon's calls are counted from 0. */
void fc_trial_clear(fc_trial *trial);
/* From now on; ends with the next clear or disarm. */
void fc_trial_arm(fc_trial *trial, const fc_fault *fault);
void fc_trial_disarm(fc_trial *trial);
unsigned fc_trial_injected(const fc_trial *trial);
/* Calls of that row by that origin since the clear. */
unsigned fc_trial_calls(const fc_trial *trial, fc_fault_row row, fc_fault_origin origin);

/* In whose code the signal came up that ended the daemon. */
fc_fault_origin fc_trial_died_in(const fc_trial *trial);

/* What the last daemon's engine had made on the fake device, and not let go of. */
int fc_trial_cuda_live(const fc_trial *trial);

void fc_trial_launch(fc_trial *trial, const char *const *more_args);

typedef enum fc_trial_state { FC_TRIAL_READY, FC_TRIAL_ENDED, FC_TRIAL_HANGS } fc_trial_state;
/* Until READY=1 or the end of the process. */
fc_trial_state fc_trial_wait_ready(fc_trial *trial);

/* The daemon's end, which something else has asked for: its exit code, or minus the signal's number. One that does not
 * come is a kill: FC_TRIAL_HUNG. */
#define FC_TRIAL_HUNG (-1000)
int fc_trial_wait_end(fc_trial *trial);
int fc_trial_stop(fc_trial *trial); /* SIGTERM first */

/* Did it end? Does not wait. */
bool fc_trial_has_ended(const fc_trial *trial);

/* What the daemon has logged since its launch; free() it. */
char *fc_trial_log(const fc_trial *trial);

/* Is there that text in it? */
bool fc_trial_logged(const fc_trial *trial, const char *text);

/* The reason a daemon that did not start gave, in out_line; false: none, or more than one line. */
bool fc_trial_reason(const fc_trial *trial, char *out_line, size_t line_bytes);

/* Files a dead daemon left in its folder: names in out_names, their number. Lock files alone are no harm, but count. */
unsigned fc_trial_leftovers(const fc_trial *trial, char *out_names, size_t names_bytes);

/* Open descriptors and threads of the daemon. */
typedef struct fc_trial_holdings {
    unsigned descriptors, threads;
} fc_trial_holdings;
fc_trial_holdings fc_trial_held(const fc_trial *trial);

#endif
