/* What the programs that measure floors share: a clock, round trips and their percentiles, a problem from its sides.
 *
 * A floor is what the machine alone takes for a part of a request, with nothing of the service's around it. Every such
 * program prints one JSON object, and ends with status 1 and a line on stderr where something it needs is missing.
 */
#ifndef TESTS_BENCH_FLOOR_H
#define TESTS_BENCH_FLOOR_H

#include "kernels/attention.h"

#include <stdbool.h>
#include <stddef.h>

double floor_now_us(void);

/* Ends the program. */
_Noreturn void floor_fail(const char *what, const char *why);

/* Round trips of one loop, microseconds. Not thread-safe. */
typedef struct floor_times {
    double *us;
    size_t count, capacity;
} floor_times;

#define FLOOR_TIMES_MAX 2000000 /* of one loop: later ones are not kept */

void floor_times_init(floor_times *times);
void floor_times_fini(floor_times *times);
void floor_times_add(floor_times *times, double us);
void floor_times_merge(floor_times *into, const floor_times *from);

/* Of one step after the other; 0 for none. */
double floor_times_per_second(const floor_times *times);

/* "NAME": {"p50_us": ..., "p90_us": ..., "p99_us": ..., "count": ...}, without a comma. Sorts. */
void floor_times_print(const char *name, floor_times *times);

/* One step of a loop that is timed: false where it failed, which ends the program. */
typedef bool (*floor_step)(void *context);

/* Runs the step for a tenth of seconds without timing it and then for seconds, each run timed by itself; at least once
 * each. */
void floor_times_take(floor_times *times, double seconds, floor_step step, void *context);

/* "B,H,S,D": f16, no mask, the usual scale. False: it is not four positive numbers. */
bool floor_problem(const char *sides, fc_problem *out_problem);

size_t floor_q_bytes(const fc_problem *problem);  /* of q, and so of out */
size_t floor_kv_bytes(const fc_problem *problem); /* of k, and so of v */

size_t floor_lse_bytes(const fc_problem *problem);

/* q, k, v, out and lse, contiguous, one behind the other from there; only addresses are computed. */
fc_tensors floor_tensors(const fc_problem *problem, unsigned char *at);

/* q, k and v, one behind the other: halves of either sign, 0.25 to 2 in size. */
void floor_fill(void *inputs, size_t bytes);

#endif
