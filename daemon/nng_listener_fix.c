/* See nng_listener_fix.h. */
#include "daemon/nng_listener_fix.h"

#include "daemon/ipc_path.h"
#include "daemon/log.h"
#include "daemon/nng_detour.h"
#include "daemon/nng_gap.h"

#include <nng/nng.h>

#if NNG_MAJOR_VERSION == 1 && NNG_MINOR_VERSION < 8

#include "daemon/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PARTS_MAX 16 /* nng sends at most so many */
/* nng holds a lock all connections share while it sends, so a peer that does not read gets little patience. */
#define WAIT_MS 1
#define SEND_BUFFER_MAX (4 << 20)
#define PATIENCE_NS (5 * FC_NS_PER_MS)

static atomic_uint_fast64_t calls;
static atomic_bool keeps_greetings;

static bool is_greeting(const struct msghdr *message)
{
    return message->msg_iovlen == 1 && message->msg_iov[0].iov_len == 8 &&
           memcmp(message->msg_iov[0].iov_base, "\0SP", 4) == 0;
}

/* What a peer that has long gone was sent counts as sent: see the header. */
static ssize_t send_now(int fd, const struct msghdr *message, int flags)
{
    ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
    if (sent >= 0 || (errno != EPIPE && errno != ECONNRESET))
        return sent;
    if (!is_greeting(message) && fc_nng_gap_is_long_gone(fd))
        return (ssize_t)fc_nng_detour_message_bytes(message);
    errno = is_greeting(message) ? ECONNRESET : EAGAIN;
    return -1;
}

static bool is_local(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

/* Sends what comes after the first skip_bytes. */
static ssize_t send_rest(int fd, const struct msghdr *message, size_t skip_bytes, int flags)
{
    struct iovec parts[PARTS_MAX];
    struct msghdr rest = {.msg_iov = parts};
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        struct iovec part = message->msg_iov[i];
        size_t skipped = skip_bytes < part.iov_len ? skip_bytes : part.iov_len;
        part.iov_base = (char *)part.iov_base + skipped;
        part.iov_len -= skipped;
        skip_bytes -= skipped;
        parts[rest.msg_iovlen++] = part;
    }
    return send_now(fd, &rest, flags);
}

/* Room in the socket for the whole message, as far as the system allows (net.core.wmem_max): what fits needs no wait.
 */
static void enlarge(int fd, size_t size_bytes)
{
    int wanted = size_bytes < SEND_BUFFER_MAX ? (int)size_bytes : SEND_BUFFER_MAX;
    int current = 0;
    socklen_t size = sizeof current;
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &current, &size) == 0 && current < 2 * wanted)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
}

/* Sends more of a message of which `sent` bytes are gone, while the peer reads; how many are gone then. */
static ssize_t send_on(int fd, const struct msghdr *message, size_t sent, int flags)
{
    size_t size_bytes = fc_nng_detour_message_bytes(message);
    if (is_local(fd)) /* TCP sizes its buffers itself, and stops when told one */
        enlarge(fd, size_bytes);
    uint64_t end_ns = fc_clock_now_ns() + PATIENCE_NS;
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    while (sent < size_bytes && fc_clock_now_ns() < end_ns && poll(&writable, 1, WAIT_MS) == 1) {
        ssize_t more = send_rest(fd, message, sent, flags);
        if (more < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        if (more > 0)
            sent += (size_t)more;
    }
    return (ssize_t)sent;
}

static ssize_t send_for_nng(int fd, const struct msghdr *message, int flags)
{
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    bool is_plain = fc_nng_gap_is_plain(fd);
    if (is_greeting(message) && fc_nng_listener_fix_keeps_greetings()) {
        errno = ECONNRESET;
        return -1;
    }
    if (is_greeting(message))
        fc_nng_gap_forget(fd);
    else if (is_plain)
        fc_nng_gap_close(fd);
    ssize_t sent = send_now(fd, message, flags);
    size_t size_bytes = sent > 0 ? fc_nng_detour_message_bytes(message) : 0;
    /* A message's first call has its headers as parts of their own. The rest of one whose reader was too slow for us
     * has not: nng sends that from threads all connections share, which must not wait. */
    bool is_first = message->msg_iovlen > 1 && message->msg_iovlen <= PARTS_MAX;
    if (sent > 0 && (size_t)sent < size_bytes && is_first)
        sent = send_on(fd, message, (size_t)sent, flags);
    if (sent > 0 && (size_t)sent < size_bytes && is_plain && !fc_nng_gap_open(fd))
        return (ssize_t)size_bytes;
    return sent;
}

__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return fc_nng_detour_send(fd, message, flags, send_for_nng);
}

bool fc_nng_listener_fix_is_needed(void)
{
    return true;
}

uint64_t fc_nng_listener_fix_calls(void)
{
    return atomic_load_explicit(&calls, memory_order_relaxed);
}

bool fc_nng_listener_fix_keep_greetings(bool are_kept)
{
    atomic_store(&keeps_greetings, are_kept);
    return true;
}

bool fc_nng_listener_fix_keeps_greetings(void)
{
    return atomic_load_explicit(&keeps_greetings, memory_order_relaxed);
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

bool fc_nng_listener_fix_keep_greetings(bool are_kept)
{
    (void)are_kept;
    return false;
}

bool fc_nng_listener_fix_keeps_greetings(void)
{
    return false;
}

#endif

fc_status fc_nng_listener_fix_probe(const char *path, fc_reason *out_reason)
{
    if (!fc_nng_listener_fix_is_needed())
        return FC_OK;
    uint64_t calls_before = fc_nng_listener_fix_calls();
    if (!fc_ipc_path_answers(path, 2000))
        return fc_fail(FC_IO, out_reason, "ipc://%s: does not answer its own probe", path);
    if (fc_nng_listener_fix_calls() == calls_before)
        fc_log(FC_LOG_WARN, "listener_unprotected", fc_log_text("path", path),
               fc_log_text("why", "a peer that connects and closes at once can stop this listener: the program does "
                                  "not export its sendmsg"));
    return FC_OK;
}
