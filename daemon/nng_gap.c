/* See nng_gap.h. */
#include "daemon/nng_gap.h"

#include <nng/nng.h>

#if NNG_MAJOR_VERSION == 1 && NNG_MINOR_VERSION < 8

#include "daemon/clock.h"
#include "daemon/nng_arrivals.h"
#include "daemon/nng_descriptor.h"
#include "daemon/nng_detour.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* A gap is over within milliseconds, when a thread gets its turn. Past this the end is told all the same. */
#define HELD_BACK_MAX_NS (1 * FC_NS_PER_S)
/* An end is told within moments, but where nng reads nothing for want of contexts. */
#define LONG_GONE_NS (10 * FC_NS_PER_MS)
#define POLLER "nng:poll:epoll" /* the thread that waits for all of nng's sockets */

/* Of a descriptor: no gap, the time one was opened, or that nng knows of its peer's end. */
enum { NO_GAP = 0 };
#define ENDED UINT64_MAX

static atomic_uint_fast64_t states[FC_NNG_DESCRIPTORS_MAX];
static atomic_bool is_by_hand[FC_NNG_DESCRIPTORS_MAX];       /* somebody else opens and closes its gaps */
static atomic_bool is_cut[FC_NNG_DESCRIPTORS_MAX];           /* its bytes end here */
static atomic_uint_fast64_t gone_ns[FC_NNG_DESCRIPTORS_MAX]; /* when a send first found nobody; 0: none has */

void fc_nng_gap_forget(int fd)
{
    if (!fc_nng_descriptor_is_kept(fd))
        return;
    atomic_store(&states[fd], NO_GAP);
    atomic_store(&is_by_hand[fd], false);
    atomic_store(&is_cut[fd], false);
    atomic_store(&gone_ns[fd], 0);
}

bool fc_nng_gap_cut(int fd)
{
    if (!fc_nng_descriptor_is_kept(fd))
        return false;
    atomic_store(&is_cut[fd], true);
    shutdown(fd, SHUT_RDWR); /* wakes nng, which then reads an end, and sends to nobody */
    return true;
}

bool fc_nng_gap_open(int fd)
{
    uint64_t state = NO_GAP;
    return !fc_nng_descriptor_is_kept(fd) || atomic_compare_exchange_strong(&states[fd], &state, fc_clock_now_ns()) ||
           state != ENDED;
}

void fc_nng_gap_close(int fd)
{
    uint64_t state = fc_nng_descriptor_is_kept(fd) ? atomic_load(&states[fd]) : NO_GAP;
    if (state != NO_GAP && state != ENDED)
        atomic_compare_exchange_strong(&states[fd], &state, NO_GAP);
}

bool fc_nng_gap_is_long_gone(int fd)
{
    uint64_t now_ns = fc_clock_now_ns(), since_ns = 0;
    if (!fc_nng_descriptor_is_kept(fd) || atomic_compare_exchange_strong(&gone_ns[fd], &since_ns, now_ns))
        return !fc_nng_descriptor_is_kept(fd);
    return fc_clock_elapsed_ns(since_ns, now_ns) >= LONG_GONE_NS;
}

void fc_nng_gap_take(int fd)
{
    fc_nng_gap_forget(fd);
    if (fc_nng_descriptor_is_kept(fd))
        atomic_store(&is_by_hand[fd], true);
}

bool fc_nng_gap_is_plain(int fd)
{
    return !fc_nng_descriptor_is_kept(fd) || !atomic_load(&is_by_hand[fd]);
}

bool fc_nng_gap_may_end(int fd)
{
    uint64_t state = NO_GAP;
    if (!fc_nng_descriptor_is_kept(fd) || atomic_compare_exchange_strong(&states[fd], &state, ENDED) || state == ENDED)
        return true;
    return fc_clock_elapsed_ns(state, fc_clock_now_ns()) >= HELD_BACK_MAX_NS &&
           atomic_compare_exchange_strong(&states[fd], &state, ENDED);
}

typedef int (*epoll_wait_function)(int epoll_fd, struct epoll_event *events, int count, int timeout_ms);

static fc_nng_detour_reader next_readv;
static epoll_wait_function next_epoll_wait;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* dlsym() gives objects, and ISO C no way to make functions of them. */
static void find_next(void)
{
    void *found = dlsym(RTLD_NEXT, "readv");
    memcpy(&next_readv, &found, sizeof next_readv);
    found = dlsym(RTLD_NEXT, "epoll_wait");
    memcpy(&next_epoll_wait, &found, sizeof next_epoll_wait);
}

/* What nng asks for is the rest of a part of a message: its length, or all that the length tells. */
static void note_arrival(int fd, const struct iovec *parts, int count, ssize_t got)
{
    uint64_t asked_bytes = 0;
    int error = errno;
    if (got > 0)
        fc_nng_arrivals_add((uint64_t)got);
    if (fc_nng_descriptor_is_kept(fd) && atomic_load(&is_by_hand[fd]))
        return;
    for (int i = 0; i < count; i++)
        asked_bytes += parts[i].iov_len;
    fc_nng_arrivals_note(fd, asked_bytes, got > 0 ? (uint64_t)got : 0);
    errno = error;
}

/* Held back, an end is asked for again at once: nng waits for something to read, and an end counts as such. */
__attribute__((visibility("default"))) ssize_t readv(int fd, const struct iovec *parts, int count)
{
    pthread_once(&once, find_next);
    bool ends_here = fc_nng_descriptor_is_kept(fd) && atomic_load(&is_cut[fd]);
    ssize_t got = ends_here ? 0 : fc_nng_detour_read(fd, parts, count, next_readv);
    bool is_end = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
    if (!is_end)
        note_arrival(fd, parts, count, got);
    if (!is_end || fc_nng_gap_may_end(fd))
        return got;
    errno = EAGAIN;
    return -1;
}

/* nng closes a connection with an error on it without reading, and so past readv(): it is told to read instead, which
 * tells it the same. */
__attribute__((visibility("default"))) int epoll_wait(int epoll_fd, struct epoll_event *events, int count,
                                                      int timeout_ms)
{
    char name[16] = "";
    pthread_once(&once, find_next);
    int ready = next_epoll_wait(epoll_fd, events, count, timeout_ms);
    for (int i = 0; i < ready; i++) {
        if ((events[i].events & EPOLLERR) == 0 || events[i].data.ptr == NULL)
            continue;
        if (name[0] == '\0' && pthread_getname_np(pthread_self(), name, sizeof name) != 0)
            break;
        if (strcmp(name, POLLER) == 0)
            events[i].events = EPOLLIN | EPOLLOUT;
    }
    return ready;
}

static bool is_ours(const char *name, void *ours)
{
    return dlsym(RTLD_DEFAULT, name) == ours;
}

bool fc_nng_gap_is_in_effect(void)
{
    ssize_t (*own_readv)(int, const struct iovec *, int) = readv;
    ssize_t (*own_sendmsg)(int, const struct msghdr *, int) = sendmsg;
    void *reads, *sends;
    memcpy(&reads, &own_readv, sizeof reads);
    memcpy(&sends, &own_sendmsg, sizeof sends);
    return is_ours("readv", reads) && is_ours("sendmsg", sends);
}

#else

bool fc_nng_gap_is_in_effect(void)
{
    return false;
}

void fc_nng_gap_forget(int fd)
{
    (void)fd;
}

bool fc_nng_gap_open(int fd)
{
    (void)fd;
    return true;
}

void fc_nng_gap_close(int fd)
{
    (void)fd;
}

bool fc_nng_gap_may_end(int fd)
{
    (void)fd;
    return true;
}

bool fc_nng_gap_is_long_gone(int fd)
{
    (void)fd;
    return true;
}

bool fc_nng_gap_cut(int fd)
{
    (void)fd;
    return false;
}

void fc_nng_gap_take(int fd)
{
    (void)fd;
}

bool fc_nng_gap_is_plain(int fd)
{
    (void)fd;
    return true;
}

#endif
