/* See ipc_path.h. */
#include "daemon/ipc_path.h"

#include "daemon/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCK_SUFFIX ".lock"
#define LOCK_PATH_BYTES (FC_IPC_PATH_BYTES + sizeof LOCK_SUFFIX)

static void lock_path_of(const char *path, char out_path[LOCK_PATH_BYTES])
{
    snprintf(out_path, LOCK_PATH_BYTES, "%s" LOCK_SUFFIX, path);
}

/* Is fd the file that path names now? A releasing daemon unlinks its lock file: who waited for the old file would hold
 * a lock nobody else can see. 1: yes; 0: no; -1: that cannot be told, errno says why. */
static int is_same_file(int fd, const char *path)
{
    struct stat by_fd;
    struct stat by_path;
    if (fstat(fd, &by_fd) != 0)
        return -1;
    if (stat(path, &by_path) != 0)
        return errno == ENOENT ? 0 : -1;
    return by_fd.st_dev == by_path.st_dev && by_fd.st_ino == by_path.st_ino;
}

static fc_status lock_file(const char *lock_path, const char *path, int *out_fd, fc_reason *out_reason)
{
    for (;;) {
        int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return fc_fail(FC_IO, out_reason, "cannot make the lock file %s: %s", lock_path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int error = errno;
            close(fd);
            if (error == EWOULDBLOCK)
                return fc_fail(FC_BUSY, out_reason, "%s: another flashcored serves this socket", path);
            return fc_fail(FC_IO, out_reason, "%s: %s", lock_path, strerror(error));
        }
        int is_ours = is_same_file(fd, lock_path);
        if (is_ours == 1) {
            *out_fd = fd;
            return FC_OK;
        }
        int error = errno;
        close(fd);
        if (is_ours < 0)
            return fc_fail(FC_IO, out_reason, "%s: %s", lock_path, strerror(error));
    }
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* With the lock held: only something other than a flashcored can be alive there. */
static fc_status remove_stale(const char *path, fc_reason *out_reason)
{
    struct stat found;
    if (lstat(path, &found) != 0)
        return errno == ENOENT ? FC_OK : fc_fail(FC_IO, out_reason, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(found.st_mode))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: exists and is no socket", path);
    int fd = connect_to(path);
    if (fd >= 0 || errno == EAGAIN) {
        if (fd >= 0)
            close(fd);
        return fc_fail(FC_BUSY, out_reason, "%s: another process serves this socket", path);
    }
    if (errno == EPROTOTYPE) /* alive, and of another type than stream */
        return fc_fail(FC_BUSY, out_reason, "%s: another process serves this socket", path);
    if (errno != ECONNREFUSED && errno != ENOENT)
        return fc_fail(FC_IO, out_reason, "%s: %s", path, strerror(errno));
    if (unlink(path) != 0 && errno != ENOENT)
        return fc_fail(FC_IO, out_reason, "%s: stale, and cannot be removed: %s", path, strerror(errno));
    return FC_OK;
}

fc_status fc_ipc_claim_acquire(const char *path, fc_ipc_claim *out_claim, fc_reason *out_reason)
{
    char lock_path[LOCK_PATH_BYTES];
    int fd = -1;
    size_t length = strlen(path);
    if (length == 0 || length >= FC_IPC_PATH_BYTES)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%.64s: an ipc path has 1 to %d bytes", path,
                       FC_IPC_PATH_BYTES - 1);
    lock_path_of(path, lock_path);
    fc_status st = lock_file(lock_path, path, &fd, out_reason);
    if (st != FC_OK)
        return st;
    *out_claim = (fc_ipc_claim){.lock_fd = fd};
    memcpy(out_claim->path, path, length + 1);
    st = remove_stale(path, out_reason);
    if (st != FC_OK)
        fc_ipc_claim_release(out_claim);
    return st;
}

void fc_ipc_claim_release(fc_ipc_claim *claim)
{
    char lock_path[LOCK_PATH_BYTES];
    if (claim->lock_fd < 0)
        return;
    lock_path_of(claim->path, lock_path);
    unlink(lock_path);
    close(claim->lock_fd);
    claim->lock_fd = -1;
}

/* Signals do not shorten the wait. */
static bool wait_readable(int fd, int timeout_ms)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    uint64_t now_ns = fc_clock_now_ns();
    uint64_t end_ns = now_ns + (uint64_t)timeout_ms * FC_NS_PER_MS;
    for (; now_ns < end_ns; now_ns = fc_clock_now_ns()) {
        int ready = poll(&readable, 1, (int)((end_ns - now_ns) / FC_NS_PER_MS) + 1);
        if (ready >= 0 || errno != EINTR)
            return ready == 1;
    }
    return false;
}

bool fc_ipc_path_answers(const char *path, int timeout_ms)
{
    /* SP handshake: NUL "SP" version, protocol (REQ is 0x30), reserved. */
    static const uint8_t hello[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    uint8_t answer[8];
    int fd = connect_to(path);
    if (fd < 0)
        return false;
    bool answers = send(fd, hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello && wait_readable(fd, timeout_ms) &&
                   recv(fd, answer, sizeof answer, 0) == sizeof answer && memcmp(answer, hello, 4) == 0;
    close(fd);
    return answers;
}

fc_status fc_ipc_path_beside(const char *path, const char *suffix, char out_path[FC_IPC_PATH_BYTES],
                             fc_reason *out_reason)
{
    char folder[FC_IPC_PATH_BYTES] = "";
    if (path[0] != '/' && getcwd(folder, sizeof folder) == NULL)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%.64s: the current folder's path is too long", path);
    int length = snprintf(out_path, FC_IPC_PATH_BYTES, "%s%s%s%s", folder, folder[0] != '\0' ? "/" : "", path, suffix);
    if (length >= FC_IPC_PATH_BYTES)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%.64s%s: an ipc path has 1 to %d bytes", path, suffix,
                       FC_IPC_PATH_BYTES - 1);
    return FC_OK;
}

int fc_ipc_listen(const char *path, int type, uint32_t mode, int backlog)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    bool is_bound = bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    if (is_bound && (mode == 0 || chmod(path, mode) == 0) && listen(fd, backlog) == 0)
        return fd;
    int error = errno;
    if (is_bound)
        unlink(path);
    close(fd);
    errno = error;
    return -1;
}

fc_status fc_ipc_give(const char *path, const fc_socket_owner *owner, fc_reason *out_reason)
{
    bool is_wanted = owner != NULL && (owner->uid != (uid_t)-1 || owner->gid != (gid_t)-1);
    if (!is_wanted || lchown(path, owner->uid, owner->gid) == 0)
        return FC_OK;
    return fc_fail(FC_IO, out_reason, "%s: cannot be given to uid %lld and gid %lld (socket-owner, socket-group): %s",
                   path, owner->uid == (uid_t)-1 ? -1LL : (long long)owner->uid,
                   owner->gid == (gid_t)-1 ? -1LL : (long long)owner->gid, strerror(errno));
}

bool fc_ipc_identify(int fd, fc_peer_identity *out_who)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return false;
    *out_who = (fc_peer_identity){.is_local = true, .uid = peer.uid, .gid = peer.gid};
    return true;
}
