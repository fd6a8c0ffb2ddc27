/* See side.h. */
#include "tests/e2e/side.h"

#include "tests/support/child.h"
#include "tests/support/packet_peer.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

double fc_side_counter(const fc_e2e_daemon *daemon, const char *name)
{
    return packet_peer_counter(daemon->side_path, name);
}

void fc_side_await(const fc_e2e_daemon *daemon, const char *name, double low, double high)
{
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    for (double value = -1; value < low || value > high;) {
        ck_assert_msg(fc_e2e_now_us() < end_us, "%s is %g, not %g to %g", name, value, low, high);
        value = fc_side_counter(daemon, name);
    }
}

void fc_side_start_victims(fc_side_life life, unsigned first, pid_t *out_pids, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        out_pids[i] = fork();
        ck_assert_int_ge(out_pids[i], 0);
        if (out_pids[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            fc_child_leave_check();
            life(first + i);
        }
    }
}

void fc_side_kill_victims(const pid_t *pids, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
}

void fc_side_kill_owners(const fc_e2e_daemon *daemon, fc_side_life life, const char *arenas, const char *arena_bytes)
{
    enum { ROUNDS = 12, VICTIMS = 2 };
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pids[VICTIMS];
        double made = fc_side_counter(daemon, "arenas_made");
        fc_side_start_victims(life, 0, pids, VICTIMS);
        fc_side_await(daemon, "arenas_made", made + 1 + round % 5, 1e9);
        fc_side_kill_victims(pids, VICTIMS);
        fc_side_await(daemon, arenas, 0, 0);
        ck_assert(fc_side_counter(daemon, arena_bytes) == 0);
    }
    fc_side_await(daemon, "running", 0, 0);
}
