/* The one clock: CLOCK_MONOTONIC in nanoseconds. Any thread. Code that decides takes the time as an argument. */
#ifndef FC_DAEMON_CLOCK_H
#define FC_DAEMON_CLOCK_H

#include <stdint.h>
#include <time.h>

#define FC_NS_PER_US 1000ull
#define FC_NS_PER_MS 1000000ull
#define FC_NS_PER_S 1000000000ull

static inline uint64_t fc_clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * FC_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* How long ago then_ns was at now_ns. 0 where it lies ahead: another thread noted it after now_ns was read. */
static inline uint64_t fc_clock_elapsed_ns(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

#endif
