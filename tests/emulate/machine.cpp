/* See machine.h: the scheduler, meetings and barriers.
 *
 * A fiber runs until it has to wait; then the next ready lane of its warp goes on, so that the lanes of a warp reach
 * their meeting one after the other; then the next warp. Which end of a warp and which warp comes first is drawn anew
 * for each block, so that what one thread finds done by another is not always the same.
 */
#include "tests/emulate/machine.h"

#include "tests/emulate/block.h"
#include "tests/emulate/fiber.h"
#include "tests/emulate/races.h"
#include "tests/emulate/report.h"

#include <algorithm>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <sys/mman.h>

#include "cuda_runtime.h"

thread_index3 threadIdx;
thread_index3 blockIdx;
dim3 blockDim(1, 1, 1);
dim3 gridDim(1, 1, 1);

namespace emulate
{

namespace
{

constexpr int WARPS_MAX = THREADS_MAX / WARP;
constexpr int MEETINGS = 8; /* disjoint masks of one warp that wait at the same time */
constexpr int BARRIERS = 16;
const char HAS_LEFT[] = "nothing: they have left the kernel";
constexpr size_t STACK_BYTES = 256 << 10;
/* Neighbours' stacks begin in different cache sets: a switch touches the same depth of each. */
constexpr size_t STACK_PITCH = STACK_BYTES + 13 * 64;

struct Fiber {
    Context context;
    const char *waits_for; /* NULL: nothing */
    bool (*is_over)(void *argument);
    void *argument;
};

struct Warp {
    uint32_t ready, exited, polling;
    Meeting meetings[MEETINGS]; /* mask 0: free */
};

struct Barrier {
    unsigned count, arrived;
    uint32_t waiting[WARPS_MAX];
};

struct Event {
    void (*happen)(void *event);
    void *event;
};

struct Machine {
    Context host;
    jmp_buf host_failed; /* for what happens while no thread runs */
    char *stacks;
    Fiber fibers[THREADS_MAX];
    Warp warps[WARPS_MAX];
    Barrier barriers[BARRIERS];
    Clock barrier_clocks[BARRIERS];
    std::vector<Event> events;
    int current; /* the running thread, or -1: the host */
    int threads, warp_count, left;
    uint64_t random;
    bool from_top, has_failed, wants_lines;
    const void *kernel;
    KernelCall call;
    const void *argument;
    uint64_t progress;
};

Machine m = {};

uint64_t draw()
{
    m.random = m.random * 6364136223846793005u + 1442695040888963407u;
    return m.random >> 33;
}

int take_ready(int warp)
{
    const uint32_t ready = m.warps[warp].ready;
    const int lane = m.from_top ? 31 - __builtin_clz(ready) : __builtin_ctz(ready);
    return warp * WARP + lane;
}

/* The thread that goes on next; -1: none can. */
int next_thread()
{
    const int warp = m.current >= 0 ? m.current / WARP : (int)(draw() % (uint64_t)m.warp_count);
    if (m.warps[warp].ready != 0)
        return take_ready(warp);
    for (int i = 1; i < m.warp_count; i++) {
        const int other = m.from_top ? (warp + m.warp_count - i) % m.warp_count : (warp + i) % m.warp_count;
        if (m.warps[other].ready != 0)
            return take_ready(other);
    }
    return -1;
}

void go_to(int thread)
{
    Context *from = m.current >= 0 ? &m.fibers[m.current].context : &m.host;
    if (thread == m.current)
        return;
    m.current = thread;
    m.progress++;
    if (thread >= 0) {
        threadIdx.x = (unsigned)thread;
        context_switch(from, &m.fibers[thread].context);
    } else {
        context_switch(from, &m.host);
    }
}

uint32_t own_bit()
{
    return 1u << (m.current % WARP);
}

Warp &own_warp()
{
    return m.warps[m.current / WARP];
}

/* The running thread stops until somebody makes it ready. */
void stop(const char *waits_for)
{
    m.fibers[m.current].waits_for = waits_for;
    own_warp().ready &= ~own_bit();
    go_to(next_thread());
    while (m.wants_lines) {
        report_lines();
        go_to(-1);
    }
}

void fiber_main()
{
    m.call(m.kernel, m.argument);
    Warp &warp = own_warp();
    warp.exited |= own_bit();
    m.left--;
    for (const Meeting &meeting : warp.meetings) {
        if ((meeting.mask & own_bit()) != 0)
            fail("leaves the kernel while others of its warp wait for it at %s, mask %08x", meeting.instruction,
                 meeting.mask);
    }
    stop(HAS_LEFT);
    abort();
}

/* --- when nobody can run ---------------------------------------------------------------------------------------- */

bool wake_pollers()
{
    bool has_woken = false;
    for (int w = 0; w < m.warp_count; w++) {
        for (uint32_t rest = m.warps[w].polling; rest != 0; rest &= rest - 1) {
            const int lane = __builtin_ctz(rest);
            const Fiber &fiber = m.fibers[w * WARP + lane];
            if (!fiber.is_over(fiber.argument))
                continue;
            m.warps[w].polling &= ~(1u << lane);
            m.warps[w].ready |= 1u << lane;
            has_woken = true;
        }
    }
    return has_woken;
}

bool let_something_happen()
{
    if (m.events.empty())
        return false;
    std::swap(m.events[draw() % m.events.size()], m.events.back());
    const Event event = m.events.back();
    m.events.pop_back();
    event.happen(event.event);
    return true;
}

/* Who waits where; the first of each group of threads shows its lines of code itself. */
void report_deadlock()
{
    int groups = 0;
    if (!report("deadlock: nobody can go on"))
        return;
    m.wants_lines = true;
    for (int t = 0; t < m.threads && groups < 6; groups++) {
        const int first = t;
        while (t < m.threads && m.fibers[t].waits_for == m.fibers[first].waits_for)
            t++;
        report_note("  threads %d to %d wait for %s", first, t - 1, m.fibers[first].waits_for);
        if (m.fibers[first].waits_for != HAS_LEFT)
            go_to(first);
    }
    m.wants_lines = false;
}

void run_block()
{
    if (setjmp(m.host_failed) != 0)
        return;
    while (m.left > 0 && !m.has_failed) {
        const int thread = next_thread();
        if (thread >= 0)
            go_to(thread);
        else if (!wake_pollers() && !let_something_happen())
            break;
    }
    if (m.left > 0 && !m.has_failed) {
        m.has_failed = true;
        report_deadlock();
    }
}

void prepare_block()
{
    m.left = m.threads;
    m.from_top = (draw() & 1) != 0;
    m.events.clear();
    memset(m.barriers, 0, sizeof m.barriers);
    for (Clock &clock : m.barrier_clocks)
        clock.clear();
    races_start_block(m.threads);
    for (int w = 0; w < m.warp_count; w++) {
        const int lanes = std::min(WARP, m.threads - w * WARP);
        memset(&m.warps[w], 0, sizeof m.warps[w]);
        m.warps[w].ready = lanes == WARP ? FULL_MASK : (1u << lanes) - 1;
    }
    for (int t = 0; t < m.threads; t++) {
        m.fibers[t].waits_for = "a first turn";
        context_prepare(&m.fibers[t].context, m.stacks + (size_t)t * STACK_PITCH, STACK_BYTES, fiber_main);
    }
}

void check_end_of_block()
{
    const char *wrong = nullptr;
    if (m.has_failed)
        return;
    if (!shared_is_intact())
        wrong = "wrote behind its dynamic shared memory";
    else if (!m.events.empty())
        wrong = "all threads have left, but the copy engine is still at work on shared memory";
    else if (!wgmmas_are_even())
        wrong = "the warps of a warpgroup did not all do the same number of wgmmas";
    if (wrong != nullptr)
        report(wrong);
    m.has_failed = wrong != nullptr;
}

} // namespace

/* --- what block.h and machine.h say ------------------------------------------------------------------------------ */

int thread_index()
{
    return m.current;
}

int lane_index()
{
    return m.current % WARP;
}

unsigned block_threads()
{
    return (unsigned)m.threads;
}

uint64_t block_progress()
{
    return m.progress;
}

const void *block_kernel()
{
    return m.kernel;
}

void block_abandon()
{
    m.has_failed = true;
    if (m.current < 0)
        longjmp(m.host_failed, 1);
    go_to(-1);
    abort();
}

void warp_meet(uint32_t mask, const char *instruction, void *operands, void (*execute)(Meeting &meeting))
{
    Warp &warp = own_warp();
    Meeting *meeting = nullptr, *unused = nullptr;
    if ((mask & own_bit()) == 0)
        fail("%s with a mask, %08x, that does not name the thread itself", instruction, mask);
    if ((mask & warp.exited) != 0)
        fail("%s with a mask, %08x, that names lanes that have left the kernel, %08x", instruction, mask, warp.exited);
    for (Meeting &other : warp.meetings) {
        if (other.mask == 0)
            unused = &other;
        else if (other.mask == mask)
            meeting = &other;
        else if ((other.mask & mask) != 0)
            fail("divergence: %s with mask %08x while lanes wait at %s with mask %08x", instruction, mask,
                 other.instruction, other.mask);
    }
    if (meeting == nullptr) {
        meeting = unused; /* masks of one warp are disjoint, so there may be 32 of them; nobody has 9 */
        if (meeting == nullptr)
            fail("%s: more than %d groups of lanes of one warp wait", instruction, MEETINGS);
        *meeting = Meeting{mask, 0, instruction, {}};
    }
    if (meeting->instruction != instruction && strcmp(meeting->instruction, instruction) != 0)
        fail("divergence: %s while lanes %08x of the warp wait at %s", instruction, meeting->arrived,
             meeting->instruction);
    meeting->arrived |= own_bit();
    meeting->operands[m.current % WARP] = operands;
    if (meeting->arrived != mask) {
        stop(instruction);
        return;
    }
    execute(*meeting);
    meeting->mask = 0;
    warp.ready |= mask;
}

static bool barrier_complete(unsigned id, unsigned count, const char *instruction)
{
    if (id >= BARRIERS)
        fail("%s: there is no barrier %u", instruction, id);
    if (count == 0 || count % WARP != 0 || count > (unsigned)m.threads)
        if (count != (unsigned)m.threads)
            fail("%s: barrier %u for %u threads of a block of %d", instruction, id, count, m.threads);
    Barrier &barrier = m.barriers[id];
    if (barrier.arrived != 0 && barrier.count != count)
        fail("%s: barrier %u for %u threads, while others wait at it for %u", instruction, id, count, barrier.count);
    races_release(&m.barrier_clocks[id]);
    barrier.count = count;
    barrier.arrived++;
    if (barrier.arrived < count)
        return false;
    barrier.arrived = 0;
    for (int w = 0; w < m.warp_count; w++) {
        m.warps[w].ready |= barrier.waiting[w];
        /* Now, for by the time they go on, others may have come for the next time. */
        for (uint32_t rest = barrier.waiting[w]; rest != 0; rest &= rest - 1)
            races_acquire(w * WARP + __builtin_ctz(rest), m.barrier_clocks[id]);
        barrier.waiting[w] = 0;
    }
    m.barrier_clocks[id].clear();
    return true;
}

void barrier_wait(unsigned id, unsigned count, const char *instruction)
{
    if (id == 0 && m.left < m.threads)
        fail("%s after %d threads of the block have left the kernel", instruction, m.threads - m.left);
    m.barriers[id % BARRIERS].waiting[m.current / WARP] |= own_bit();
    if (!barrier_complete(id, count, instruction))
        stop(instruction);
}

void barrier_arrive(unsigned id, unsigned count)
{
    barrier_complete(id, count, "bar.arrive");
}

void wait_until(bool (*is_over)(void *argument), void *argument, const char *instruction)
{
    if (is_over(argument))
        return;
    Fiber &fiber = m.fibers[m.current];
    fiber.is_over = is_over;
    fiber.argument = argument;
    own_warp().polling |= own_bit();
    stop(instruction);
}

void later(void (*happen)(void *event), void *event)
{
    m.events.push_back({happen, event});
}

/* --- a launch --------------------------------------------------------------------------------------------------- */

bool run_grid(const void *kernel, const LaunchShape &shape, KernelCall call, const void *argument, uint64_t seed)
{
    const size_t count = (size_t)shape.blocks[0] * shape.blocks[1] * shape.blocks[2];
    std::vector<uint32_t> order(count);
    if (m.stacks == nullptr) {
        m.stacks = static_cast<char *>(mmap(nullptr, THREADS_MAX * STACK_PITCH, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        report_init();
    }
    m.kernel = kernel;
    m.call = call;
    m.argument = argument;
    m.threads = (int)shape.threads;
    m.warp_count = (m.threads + WARP - 1) / WARP;
    m.random = seed;
    m.has_failed = false;
    m.current = -1;
    blockDim = dim3(shape.threads, 1, 1);
    gridDim = dim3(shape.blocks[0], shape.blocks[1], shape.blocks[2]);
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (size_t i = count; i > 1; i--)
        std::swap(order[i - 1], order[draw() % i]);
    for (size_t i = 0; i < count && !m.has_failed; i++) {
        blockIdx.x = order[i] % shape.blocks[0];
        blockIdx.y = order[i] / shape.blocks[0] % shape.blocks[1];
        blockIdx.z = order[i] / shape.blocks[0] / shape.blocks[1];
        shared_prepare(shape.dynamic_shared_bytes);
        prepare_block();
        report_watch(true);
        run_block();
        report_watch(false);
        check_end_of_block();
    }
    return !m.has_failed;
}

} // namespace emulate
