/* Drives the shipped programs as a user would: starts the daemon of the build under test in a folder of its own, waits
 * for what it says, stops it by signal and reaps it.
 *
 * Environment: FC_TEST_BUILD (build folder, set by tests/run), FC_TEST_ENGINE_ARGS (flags added to every daemon that
 * serves, for instance "--engine cuda"), FC_TEST_SLOWDOWN (factor on every time limit, for sanitizer builds).
 * Every wait has a limit and is on a condition; a limit that passes fails the test. What goes wrong in here fails the
 * running test too, so nothing returns a status. Daemons die with the test that started them; logs of tests that failed
 * are printed at the end. One thread: the test's main one (a daemon dies with the thread that started it).
 */
#ifndef FC_TESTS_E2E_HARNESS_H
#define FC_TESTS_E2E_HARNESS_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FC_E2E_PATH_BYTES 160

/* Time limits in milliseconds before FC_TEST_SLOWDOWN. */
#define FC_E2E_START_MS 15000
#define FC_E2E_STOP_MS 20000
#define FC_E2E_STEP_MS 10000

typedef struct fc_e2e_daemon {
    pid_t pid; /* 0: reaped */
    int pid_fd, notify_fd;
    char dir[FC_E2E_PATH_BYTES];
    char ipc_path[FC_E2E_PATH_BYTES];
    char side_path[FC_E2E_PATH_BYTES]; /* the local channel's socket, beside ipc_path */
    char ipc_url[FC_E2E_PATH_BYTES];   /* always listened on */
    char tcp_url[FC_E2E_PATH_BYTES];   /* likewise */
    uint16_t tcp_port;
    char log_path[FC_E2E_PATH_BYTES]; /* standard error */
} fc_e2e_daemon;

/* Starts flashcored on an ipc and a tcp address of its own with these extra flags (NULL-terminated, may be NULL) and
 * waits until it says READY=1. */
void fc_e2e_start(fc_e2e_daemon *out_daemon, const char *const *args);

/* Starts another daemon with the first one's folder and addresses; the first must be dead. The logs are appended. */
void fc_e2e_restart(fc_e2e_daemon *daemon, const char *const *args);

/* Starts without waiting, on the addresses the struct already holds (see fc_e2e_place). */
void fc_e2e_launch(fc_e2e_daemon *daemon, const char *const *args);

/* Makes the folder and chooses the addresses, starts nothing. */
void fc_e2e_place(fc_e2e_daemon *out_daemon);

/* A port of the loopback interface that was free a moment ago: a restart has to find it again, so it cannot be the
 * daemon's choice. */
uint16_t fc_e2e_free_port(void);

void fc_e2e_signal(const fc_e2e_daemon *daemon, int signal_number);

/* Waits for the end and reaps: the exit code, or minus the signal's number. */
int fc_e2e_wait_exit(fc_e2e_daemon *daemon, int limit_ms);

/* SIGTERM, exit code 0 wanted, folder removed. */
void fc_e2e_stop(fc_e2e_daemon *daemon);

/* SIGKILL and reap; the folder stays. */
void fc_e2e_kill(fc_e2e_daemon *daemon);

/* Removes the folder of a daemon that has ended some other way. */
void fc_e2e_forget(fc_e2e_daemon *daemon);

/* Waits for the next notification that holds `text` ("READY=1", "STOPPING=1", ...). */
void fc_e2e_wait_notify(const fc_e2e_daemon *daemon, const char *text);

/* Waits until the log holds `text` at or past *offset, which moves behind the match (NULL: from the start). */
void fc_e2e_wait_log(const fc_e2e_daemon *daemon, const char *text, size_t *offset);

/* The whole of a file, NUL-terminated; free() it. NULL: there is none. */
char *fc_e2e_read_file(const char *path, size_t *out_bytes);
void fc_e2e_write_file(const char *path, const void *bytes, size_t size);

/* A program run to its end. */
typedef struct fc_e2e_run_result {
    int exit_code;   /* minus the signal's number when it was killed */
    char *out, *err; /* NUL-terminated */
    size_t out_bytes, err_bytes;
} fc_e2e_run_result;

/* Runs a program of the build folder ("flashcorectl") with these arguments (NULL-terminated, without argv[0]). */
void fc_e2e_run(const char *program, const char *const *args, fc_e2e_run_result *out_result);
void fc_e2e_run_free(fc_e2e_run_result *result);

/* Starts a program of the build folder; returns its pid. It dies with the test. Reap with fc_e2e_reap(). */
pid_t fc_e2e_spawn(const char *program, const char *const *args, int *out_stdout_fd);
int fc_e2e_reap(pid_t pid, int limit_ms);

/* milliseconds times FC_TEST_SLOWDOWN. */
int fc_e2e_limit_ms(int milliseconds);
uint64_t fc_e2e_now_us(void);

/* When a wait of limit_ms (before FC_TEST_SLOWDOWN) that begins now is over; and how many milliseconds are left until
 * then, rounded up, 0 when it is over. */
uint64_t fc_e2e_end_us(int limit_ms);
int fc_e2e_left_ms(uint64_t end_us);

/* FC_TEST_BUILD, or its default. */
const char *fc_e2e_build_folder(void);

/* From now on daemons serve with the CUDA engine on the fake runtime, whatever engine was asked for, and these flags
 * besides. Before the tests fork. */
void fc_e2e_use_fake_engine(const char *more_flags);

/* Entries of the daemon's /proc folder of that name ("fd", "task"); 0: it is gone. And its anonymous memory; -1: it is
 * gone. */
unsigned fc_e2e_count_entries(const fc_e2e_daemon *daemon, const char *what);
long fc_e2e_resident_kib(const fc_e2e_daemon *daemon);

/* Is the engine under test the CPU's (no FC_TEST_ENGINE_ARGS naming another)? */
bool fc_e2e_on_cpu(void);

/* Runs the suite; what main() returns. */
int fc_e2e_main(Suite *suite);

/* A test case with that limit, added to the suite. */
TCase *fc_e2e_case(Suite *suite, const char *name);

#endif
