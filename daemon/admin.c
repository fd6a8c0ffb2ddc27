/* See admin.h. The listener and its connections are watched by an epoll of their own, so that the loop has one thing to
 * poll. */
#include "daemon/admin.h"

#include "daemon/clock.h"
#include "daemon/ipc_path.h"
#include "daemon/log.h"
#include "daemon/refusals.h"
#include "proto/codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MODE 0600
#define CONNECTIONS_MAX 16
#define EVENTS_AT_A_TIME 8
#define REPLY_BYTES 1024
#define ACCEPT_AGAIN_NS (100 * FC_NS_PER_MS)
#define REQUEST_BYTES 4096

struct fc_admin {
    fc_admin_perform perform;
    void *context;
    fc_ipc_claim claim;
    int fd, epoll_fd;
    uint64_t accept_again_ns;         /* 0: the listener is watched */
    int connections[CONNECTIONS_MAX]; /* -1: free */
};

bool fc_admin_is_op(fc_op op)
{
    return op == FC_OP_DRAIN || op == FC_OP_RELOAD || op == FC_OP_LOG_LEVEL || op == FC_OP_DEFAULT_KERNEL;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static bool is_allowed(int fd, fc_peer_identity *out_who)
{
    return fc_ipc_identify(fd, out_who) && (out_who->uid == 0 || out_who->uid == geteuid());
}

static fc_status answer(fc_admin *admin, int fd, const fc_wire_request *request, fc_reason *out_reason)
{
    fc_peer_identity who;
    if (!is_allowed(fd, &who))
        return fc_fail(FC_UNAUTHORIZED, out_reason, "the admin socket is for root and the server's own user");
    if (request->op == FC_OP_PING)
        return FC_OK;
    if (!fc_admin_is_op(request->op))
        return fc_fail(FC_UNSUPPORTED, out_reason, "op: not an operation of the admin socket");
    fc_log(FC_LOG_INFO, "admin", fc_log_text("op", fc_op_name(request->op)), fc_log_uint("uid", who.uid));
    return admin->perform(admin->context, request, out_reason);
}

/* False: the connection is over. A peer that does not read its answers has no use for them. */
static bool reply(int fd, uint64_t id, fc_status status, const fc_reason *reason)
{
    uint8_t bytes[REPLY_BYTES];
    size_t size_bytes;
    fc_wire_reply message = {.id = id, .status = fc_status_on_wire(status), .body = FC_BODY_NONE};
    if (status != FC_OK)
        message.error = fc_wire_text_make(reason->text);
    return fc_codec_encode_reply(&message, bytes, sizeof bytes, &size_bytes) == FC_OK &&
           send(fd, bytes, size_bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size_bytes;
}

static bool serve(fc_admin *admin, int fd)
{
    uint8_t bytes[REQUEST_BYTES];
    fc_wire_request request;
    fc_reason reason = {""};
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got <= 0)
        return false;
    size_t held = (size_t)got < sizeof bytes ? (size_t)got : sizeof bytes;
    fc_status st = fc_codec_decode_request(bytes, held, &request, &reason);
    if ((size_t)got > sizeof bytes)
        st = fc_fail(FC_TOO_LARGE, &reason, "%zd bytes; the admin socket's limit is %d", got, REQUEST_BYTES);
    if (st == FC_OK)
        st = answer(admin, fd, &request, &reason);
    return reply(fd, request.id, st, &reason);
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static bool watch(const fc_admin *admin, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(admin->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void accept_peer(fc_admin *admin)
{
    int fd = accept4(admin->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        fc_refusals_log_accept(errno);
        epoll_ctl(admin->epoll_fd, EPOLL_CTL_DEL, admin->fd, NULL);
        admin->accept_again_ns = fc_clock_now_ns() + ACCEPT_AGAIN_NS;
    }
    for (int i = 0; fd >= 0 && i < CONNECTIONS_MAX; i++) {
        if (admin->connections[i] >= 0)
            continue;
        if (!watch(admin, fd))
            break;
        admin->connections[i] = fd;
        return;
    }
    if (fd >= 0)
        close(fd);
}

static void end_connection(fc_admin *admin, int fd)
{
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (admin->connections[i] == fd)
            admin->connections[i] = -1;
    close(fd);
}

void fc_admin_run(fc_admin *admin)
{
    struct epoll_event events[EVENTS_AT_A_TIME];
    int count = epoll_wait(admin->epoll_fd, events, EVENTS_AT_A_TIME, 0);
    for (int i = 0; i < count; i++) {
        if (events[i].data.fd == admin->fd)
            accept_peer(admin);
        else if (!serve(admin, events[i].data.fd))
            end_connection(admin, events[i].data.fd);
    }
}

void fc_admin_tick(fc_admin *admin, uint64_t now_ns)
{
    if (admin->accept_again_ns != 0 && now_ns >= admin->accept_again_ns && watch(admin, admin->fd))
        admin->accept_again_ns = 0;
}

/* --- opening and closing ------------------------------------------------------------------------------------------ */

fc_status fc_admin_open(const char *path, fc_admin_perform perform, void *context, fc_admin **out_admin,
                        fc_reason *out_reason)
{
    fc_admin *admin = calloc(1, sizeof *admin);
    if (admin == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for the admin socket");
    *admin = (fc_admin){.perform = perform, .context = context, .claim.lock_fd = -1, .fd = -1};
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        admin->connections[i] = -1;
    admin->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    fc_status st = fc_ipc_claim_acquire(path, &admin->claim, out_reason);
    if (st != FC_OK)
        goto close_admin;
    admin->fd = fc_ipc_listen(path, SOCK_SEQPACKET, MODE, CONNECTIONS_MAX);
    if (admin->epoll_fd < 0 || admin->fd < 0 || !watch(admin, admin->fd)) {
        st = fc_fail(FC_IO, out_reason, "%s: %s", path, strerror(errno));
        goto close_admin;
    }
    *out_admin = admin;
    return FC_OK;
close_admin:
    fc_admin_close(admin);
    return st;
}

int fc_admin_fd(const fc_admin *admin)
{
    return admin->epoll_fd;
}

void fc_admin_close(fc_admin *admin)
{
    if (admin == NULL)
        return;
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (admin->connections[i] >= 0)
            close(admin->connections[i]);
    if (admin->fd >= 0) {
        close(admin->fd);
        unlink(admin->claim.path);
    }
    if (admin->epoll_fd >= 0)
        close(admin->epoll_fd);
    fc_ipc_claim_release(&admin->claim);
    free(admin);
}
