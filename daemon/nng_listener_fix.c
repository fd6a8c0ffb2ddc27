/* See nng_listener_fix.h. */
#include "daemon/nng_listener_fix.h"

#include <nng/nng.h>

#if NNG_MAJOR_VERSION == 1 && NNG_MINOR_VERSION < 8

#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_uint_fast64_t calls;

__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
    if (sent < 0 && errno == EPIPE)
        errno = ECONNRESET;
    return sent;
}

bool fc_nng_listener_fix_is_needed(void)
{
    return true;
}

uint64_t fc_nng_listener_fix_calls(void)
{
    return atomic_load_explicit(&calls, memory_order_relaxed);
}

#else

bool fc_nng_listener_fix_is_needed(void)
{
    return false;
}

uint64_t fc_nng_listener_fix_calls(void)
{
    return 0;
}

#endif
