/* mbarriers: see hopper.h. The state is kept here; the barrier's own 8 bytes hold a mark, by which one that was never
 * initialised, or was written over, is told. */
#include "tests/emulate/block.h"
#include "tests/emulate/hopper.h"
#include "tests/emulate/machine.h"

#include <cstring>
#include <unordered_map>

namespace emulate
{

namespace
{

constexpr uint64_t MARK = 0x6d62617272696572; /* "mbarrier" */
constexpr uint32_t ARRIVALS_MAX = (1u << 20) - 1;

struct State {
    uint32_t arrivals, pending;
    int64_t bytes; /* expected less come */
    uint32_t phase;
    int initialiser;
    bool is_known;
    Clock clock, clock_before; /* of this phase, and of those before */
};

std::unordered_map<uint32_t, State> barriers;

State &state_of(uint32_t barrier, const char *instruction)
{
    uint64_t mark;
    memcpy(&mark, shared_bytes(barrier, 8, 8, instruction), sizeof mark);
    const auto found = barriers.find(barrier);
    if (found == barriers.end() || mark != MARK)
        fail("%s: the barrier at shared address %#x %s", instruction, barrier,
             found == barriers.end() ? "was never initialised" : "has been written over");
    return found->second;
}

void finish_phase(State &state)
{
    if (state.pending != 0 || state.bytes != 0)
        return;
    state.phase++;
    races_join(&state.clock_before, state.clock);
    state.clock.clear();
    state.pending = state.arrivals;
}

struct Waiting {
    const State *state;
    uint32_t parity;
};

bool has_completed(void *argument)
{
    const Waiting &waiting = *static_cast<Waiting *>(argument);
    return (waiting.state->phase & 1) != waiting.parity;
}

} // namespace

void mbarriers_forget()
{
    barriers.clear();
}

void mbarrier_init(uint32_t barrier, uint32_t arrivals)
{
    if (arrivals == 0 || arrivals > ARRIVALS_MAX)
        fail("mbarrier.init: %u arrivals", arrivals);
    memcpy(shared_bytes(barrier, 8, 8, "mbarrier.init"), &MARK, sizeof MARK);
    if (barriers.count(barrier) != 0)
        fail("mbarrier.init: the barrier at shared address %#x is one already", barrier);
    barriers[barrier] = {arrivals, arrivals, 0, 0, thread_index(), false, {}, {}};
}

void mbarrier_fence()
{
    for (auto &entry : barriers)
        entry.second.is_known |= entry.second.initialiser == thread_index();
}

void mbarrier_check_known(uint32_t barrier, const char *instruction)
{
    if (!state_of(barrier, instruction).is_known)
        fail("%s: no fence made the barrier known to the copy engine", instruction);
}

void mbarrier_arrive(uint32_t barrier, uint32_t bytes)
{
    State &state = state_of(barrier, "mbarrier.arrive");
    if (state.pending == 0)
        fail("mbarrier.arrive: more than the %u arrivals of phase %u, which still waits for %lld bytes", state.arrivals,
             state.phase, (long long)state.bytes);
    races_release(&state.clock);
    state.bytes += bytes;
    state.pending--;
    finish_phase(state);
}

void mbarrier_complete(uint32_t barrier, uint32_t bytes, const Clock &clock)
{
    State &state = state_of(barrier, "the copy engine");
    races_join(&state.clock, clock);
    state.bytes -= bytes;
    if (state.pending == 0 && state.bytes < 0)
        fail("more bytes came to the barrier at shared address %#x than its phase expects: %lld", barrier,
             (long long)-state.bytes);
    finish_phase(state);
}

void mbarrier_wait(uint32_t barrier, uint32_t parity)
{
    Waiting waiting = {&state_of(barrier, "mbarrier.try_wait"), parity};
    if (parity > 1)
        fail("mbarrier.try_wait: parity %u", parity);
    wait_until(has_completed, &waiting, "an mbarrier's phase (mbarrier.try_wait)");
    races_acquire(thread_index(), waiting.state->clock_before);
}

} // namespace emulate
