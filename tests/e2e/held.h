/* A lane kept busy by one long request while a test looks at what happens to others.
 *
 * How long the request takes is found by timing, and a loaded machine may still let it end too early to conclude
 * anything: then the look says so and is taken again with a longer one.
 */
#ifndef FC_TESTS_E2E_HELD_H
#define FC_TESTS_E2E_HELD_H

#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

typedef struct fc_held {
    fc_e2e_daemon daemon; /* with --lanes 1 and the test's flags */
    flashcore_client *client;
    fc_job job;
    flashcore_call *call; /* the long request, running */
} fc_held;

/* False: the lane came free before anything could be seen. Otherwise it has asserted all it wanted. It may end the
 * daemon itself (pid 0 afterwards) or the call (NULL afterwards). */
typedef bool (*fc_held_look)(fc_held *held, const void *context);

/* Starts a daemon with these flags, holds its one lane, looks, lets go, stops the daemon; again with a longer hold
 * while the look comes to no conclusion. transport: 0 ipc, 1 tcp, for held->client. */
void fc_held_run(const char *const *args, int transport, fc_held_look look, const void *context);

/* Still running? */
bool fc_held_lane(const fc_held *held);

/* Waits until the counter is at least that; false when the lane came free first. */
bool fc_held_wait(const fc_held *held, const char *counter, double at_least);

#endif
