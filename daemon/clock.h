/* The one clock: CLOCK_MONOTONIC in nanoseconds. Any thread. Code that decides takes the time as an argument. */
#ifndef FC_DAEMON_CLOCK_H
#define FC_DAEMON_CLOCK_H

#include <pthread.h>
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

static inline struct timespec fc_clock_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / FC_NS_PER_S), .tv_nsec = (long)(ns % FC_NS_PER_S)};
}

/* A condition whose timed waits end by this clock. */
static inline void fc_clock_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* How long ago then_ns was at now_ns. 0 where it lies ahead: another thread noted it after now_ns was read. */
static inline uint64_t fc_clock_elapsed_ns(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

#endif
