/* The daemon's local channel, asked and used on bare sockets: unlike a client of the library it needs no threads, so
 * that the test may fork. And children that live on the daemon until they are killed.
 */
#ifndef FC_TESTS_E2E_SIDE_H
#define FC_TESTS_E2E_SIDE_H

#include "tests/e2e/harness.h"

/* One number of the daemon's stats; -1: it has no such. Who asks is a connection, too. */
double fc_side_counter(const fc_e2e_daemon *daemon, const char *name);

/* Asks until it is at least low and at most high. */
void fc_side_await(const fc_e2e_daemon *daemon, const char *name, double low, double high);

/* What a victim does; it never comes back. */
typedef void (*fc_side_life)(unsigned number);

/* Forks count of them, numbered from first on; and kills and reaps them. They die with the test. */
void fc_side_start_victims(fc_side_life life, unsigned first, pid_t *out_pids, unsigned count);
void fc_side_kill_victims(const pid_t *pids, unsigned count);

/* Victims that make arenas are killed at one moment and another: nothing stays of these two gauges, and nothing runs.
 */
void fc_side_kill_owners(const fc_e2e_daemon *daemon, fc_side_life life, const char *arenas, const char *arena_bytes);

#endif
