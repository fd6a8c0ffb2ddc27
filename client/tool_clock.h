/* The tools' clock: monotonic nanoseconds. What decides takes times as arguments; only loops and mains read it. */
#ifndef FC_CLIENT_TOOL_CLOCK_H
#define FC_CLIENT_TOOL_CLOCK_H

#include <errno.h>
#include <stdint.h>
#include <time.h>

#define FC_NS_PER_S 1000000000ull

static inline uint64_t fc_clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * FC_NS_PER_S + (uint64_t)now.tv_nsec;
}

static inline struct timespec fc_clock_timespec(uint64_t time_ns)
{
    return (struct timespec){.tv_sec = (time_t)(time_ns / FC_NS_PER_S), .tv_nsec = (long)(time_ns % FC_NS_PER_S)};
}

/* Returns at until_ns, or at once when that has passed. A signal may end it early. */
static inline void fc_clock_sleep_until(uint64_t until_ns)
{
    struct timespec until = fc_clock_timespec(until_ns);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

#endif
