/* See races.h. */
#include "tests/emulate/races.h"

#include "tests/emulate/block.h"
#include "tests/emulate/machine.h"

#include <algorithm>
#include <cstring>

namespace emulate
{

namespace
{

constexpr int READERS = 2;
constexpr size_t GRAIN = 2; /* bytes: the smallest element of any kernel */

struct Epoch {
    uint32_t thread, time; /* time 0: never */
};

struct Place {
    Epoch write, reads[READERS];
    bool is_async; /* the write was */
};

struct Races {
    bool is_on;
    int threads;
    std::vector<Clock> clocks;
    Clock fenced;                /* up to when the async proxy sees what each thread wrote */
    std::vector<uint32_t> waits; /* of each thread: when it had waited for the launches before; 0: it has not */
    std::vector<Place> places;
};

Races races;

void raise(Clock &clock, const Clock &more)
{
    for (size_t i = 0; i < clock.size(); i++)
        clock[i] = std::max(clock[i], more[i]);
}

bool is_known(const Epoch &epoch, int thread)
{
    return epoch.time <= races.clocks[(size_t)thread][epoch.thread];
}

[[noreturn]] void report_race(const char *what, const Epoch &before, const char *done, size_t offset)
{
    fail("race: %s byte %zu of shared memory, which thread %u has %s, and no barrier is between them", what, offset,
         before.thread, done);
}

void write_place(Place &place, int thread, size_t offset, bool is_async)
{
    /* Lanes of a warp write the same place to store the same value, which is fine, and which cannot be told from here.
     */
    if (!is_known(place.write, thread) && (int)place.write.thread / WARP != thread / WARP)
        report_race("writes", place.write, "written", offset);
    for (Epoch &read : place.reads) {
        if (!is_known(read, thread))
            report_race("writes", read, "read", offset);
        read.time = 0;
    }
    place.write = {(uint32_t)thread, races.clocks[(size_t)thread][(size_t)thread]};
    place.is_async = is_async;
}

void read_place(Place &place, int thread, size_t offset, bool is_async)
{
    const uint32_t own = (uint32_t)thread, now = races.clocks[own][own];
    if (is_async && !place.is_async && place.write.time > races.fenced[place.write.thread])
        fail("race: the async proxy reads byte %zu of shared memory, which thread %u has written, and no "
             "fence.proxy.async is between them",
             offset, place.write.thread);
    if (!is_known(place.write, thread))
        report_race("reads", place.write, "written", offset);
    for (Epoch &read : place.reads) {
        if (read.time == 0 || read.thread == own || is_known(read, thread)) {
            read = {own, now};
            return;
        }
    }
    place.reads[own % READERS] = {own, now};
}

/* Has the thread, or one whose wait it knows to lie before, waited for the launches before? */
bool follows(int thread)
{
    for (uint32_t other = 0; other < races.waits.size(); other++) {
        if (races.waits[other] > 0 && is_known({other, races.waits[other]}, thread))
            return true;
    }
    return false;
}

void touch(int thread, const void *pointer, size_t bytes, bool writes, bool is_async = false)
{
    size_t offset;
    if (!races.is_on || thread < 0)
        return;
    if (!shared_offset(pointer, &offset)) {
        if (is_of_earlier_launches(pointer) && !follows(thread))
            fail("race: %s device memory before it, or a thread it has heard from, has waited for the launches before "
                 "this one",
                 writes ? "writes" : "reads");
        return;
    }
    if (races.places.size() * GRAIN < offset + bytes)
        races.places.resize((offset + bytes) / GRAIN + 1);
    for (size_t i = offset / GRAIN; i < (offset + bytes + GRAIN - 1) / GRAIN; i++)
        (writes ? write_place : read_place)(races.places[i], thread, i * GRAIN, is_async);
}

} // namespace

bool races_are_looked_for()
{
    return races.is_on;
}

void races_start_block(int threads)
{
    if (!races.is_on)
        return;
    races.threads = threads;
    races.clocks.assign((size_t)threads, Clock((size_t)threads, 0));
    for (size_t t = 0; t < (size_t)threads; t++)
        races.clocks[t][t] = 1;
    races.fenced.assign((size_t)threads, 0);
    races.waits.assign((size_t)threads, 0);
    std::fill(races.places.begin(), races.places.end(), Place{});
}

void races_read(const void *pointer, size_t bytes)
{
    touch(thread_index(), pointer, bytes, false);
}

void races_write(const void *pointer, size_t bytes)
{
    touch(thread_index(), pointer, bytes, true);
}

void races_read_async(const void *pointer, size_t bytes)
{
    touch(thread_index(), pointer, bytes, false, true);
}

void races_write_async(const void *pointer, size_t bytes)
{
    touch(thread_index(), pointer, bytes, true, true);
}

void races_fence_async()
{
    const int thread = thread_index();
    if (!races.is_on || thread < 0)
        return;
    raise(races.fenced, races.clocks[(size_t)thread]);
    races.clocks[(size_t)thread][(size_t)thread]++;
}

void races_read_by(int thread, const void *pointer, size_t bytes)
{
    touch(thread, pointer, bytes, false);
}

void races_release(Clock *clock)
{
    const int thread = thread_index();
    if (!races.is_on || thread < 0)
        return;
    races_join(clock, races.clocks[(size_t)thread]);
    races.clocks[(size_t)thread][(size_t)thread]++;
}

void races_follow()
{
    const size_t thread = (size_t)thread_index();
    if (races.is_on)
        races.waits[thread] = races.clocks[thread][thread];
}

void races_acquire(int thread, const Clock &clock)
{
    if (races.is_on && !clock.empty())
        raise(races.clocks[(size_t)thread], clock);
}

void races_join(Clock *clock, const Clock &more)
{
    if (!races.is_on || more.empty())
        return;
    if (clock->empty())
        clock->assign(more.size(), 0);
    raise(*clock, more);
}

void races_meet(uint32_t mask)
{
    const size_t first = (size_t)(thread_index() / WARP * WARP);
    Clock all;
    if (!races.is_on)
        return;
    for (uint32_t rest = mask; rest != 0; rest &= rest - 1)
        races_join(&all, races.clocks[first + (size_t)__builtin_ctz(rest)]);
    for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
        const size_t thread = first + (size_t)__builtin_ctz(rest);
        raise(races.clocks[thread], all);
        races.clocks[thread][thread]++;
    }
}

static void turn_on()
{
    races.is_on = true;
}

} // namespace emulate

/* --- what instrumented code calls -------------------------------------------------------------------------------- */

extern "C" {

void __tsan_init();
void __tsan_init()
{
    emulate::turn_on();
}

void __tsan_func_entry(void *);
void __tsan_func_entry(void *)
{
}

void __tsan_func_exit();
void __tsan_func_exit()
{
}

#define EMULATE_ACCESS(bytes)                                                                                          \
    void __tsan_read##bytes(void *pointer);                                                                            \
    void __tsan_read##bytes(void *pointer)                                                                             \
    {                                                                                                                  \
        emulate::races_read(pointer, bytes);                                                                           \
    }                                                                                                                  \
    void __tsan_write##bytes(void *pointer);                                                                           \
    void __tsan_write##bytes(void *pointer)                                                                            \
    {                                                                                                                  \
        emulate::races_write(pointer, bytes);                                                                          \
    }                                                                                                                  \
    void __tsan_unaligned_read##bytes(void *pointer);                                                                  \
    void __tsan_unaligned_read##bytes(void *pointer)                                                                   \
    {                                                                                                                  \
        emulate::races_read(pointer, bytes);                                                                           \
    }                                                                                                                  \
    void __tsan_unaligned_write##bytes(void *pointer);                                                                 \
    void __tsan_unaligned_write##bytes(void *pointer)                                                                  \
    {                                                                                                                  \
        emulate::races_write(pointer, bytes);                                                                          \
    }

EMULATE_ACCESS(1)
EMULATE_ACCESS(2)
EMULATE_ACCESS(4)
EMULATE_ACCESS(8)
EMULATE_ACCESS(16)

void __tsan_read_range(void *pointer, size_t bytes);
void __tsan_read_range(void *pointer, size_t bytes)
{
    emulate::races_read(pointer, bytes);
}

void __tsan_write_range(void *pointer, size_t bytes);
void __tsan_write_range(void *pointer, size_t bytes)
{
    emulate::races_write(pointer, bytes);
}

void __tsan_vptr_update(void **, void *);
void __tsan_vptr_update(void **, void *)
{
}

void __tsan_vptr_read(void **);
void __tsan_vptr_read(void **)
{
}
}
