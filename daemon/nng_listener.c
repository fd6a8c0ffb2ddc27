/* See nng_listener.h. */
#include "daemon/nng_listener.h"

#include "daemon/nng_descriptor.h"

#include <errno.h>
#include <nng/transport/ipc/ipc.h>
#include <stdio.h>
#include <string.h>

static fc_status status_of(int error)
{
    switch (error) {
    case NNG_EADDRINUSE:
        return FC_BUSY;
    case NNG_EADDRINVAL:
    case NNG_EINVAL:
    case NNG_ENOTSUP:
        return FC_INVALID_ARGUMENT;
    case NNG_ENOMEM:
        return FC_NO_MEMORY;
    default:
        return FC_IO;
    }
}

static bool begins_with(const char *url, const char *scheme)
{
    return strncmp(url, scheme, strlen(scheme)) == 0;
}

fc_status fc_nng_listener_open(nng_socket socket, const char *url, uint32_t ipc_mode, nng_listener *out_listener,
                               fc_reason *out_reason)
{
    nng_listener listener;
    bool is_ipc = begins_with(url, "ipc://");
    if (!is_ipc && !begins_with(url, "tcp://") && !begins_with(url, "tls+tcp://"))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: expected ipc://, tls+tcp:// or tcp://", url);
    int error = nng_listener_create(&listener, socket, url);
    if (error != 0)
        return fc_fail(status_of(error), out_reason, "%s: %s", url, nng_strerror(error));
    if (is_ipc && ipc_mode != 0)
        error = nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, (int)ipc_mode);
    if (!is_ipc)
        error = nng_listener_set_bool(listener, NNG_OPT_TCP_KEEPALIVE, true); /* finds hosts that vanished */
    if (error == 0)
        error = nng_listener_start(listener, 0);
    if (error != 0) {
        nng_listener_close(listener);
        return fc_fail(status_of(error), out_reason, "%s: %s", url, nng_strerror(error));
    }
    *out_listener = listener;
    return FC_OK;
}

void fc_nng_listener_url(nng_listener listener, const char *url, char *out_url, size_t out_bytes)
{
    char *bound_url = NULL;
    bool is_known = nng_listener_get_string(listener, NNG_OPT_URL, &bound_url) == 0;
    snprintf(out_url, out_bytes, "%s", is_known ? bound_url : url);
    if (is_known)
        nng_strfree(bound_url);
}

bool fc_nng_listener_has_peer(nng_pipe pipe)
{
    nng_sockaddr peer;
    int error = nng_pipe_get_addr(pipe, NNG_OPT_REMADDR, &peer);
    return error != NNG_ECLOSED && error != (NNG_ESYSERR | ENOTCONN);
}

fc_peer_identity fc_nng_listener_identify(nng_pipe pipe, int *out_fd)
{
    uint64_t uid = 0, gid = 0;
    nng_sockaddr address = {.s_family = NNG_AF_UNSPEC};
    fc_peer_identity who = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    *out_fd = -1;
    fc_nng_descriptor_await(out_fd);
    (void)nng_pipe_get_addr(pipe, NNG_OPT_REMADDR, &address);
    who.is_local = address.s_family != NNG_AF_INET && address.s_family != NNG_AF_INET6;
    if (address.s_family == NNG_AF_INET)
        who.host = address.s_in.sa_addr;
    for (size_t i = 0; address.s_family == NNG_AF_INET6 && i < 8; i++) /* a network of one's own has 64 bits of them */
        who.host = who.host << 8 | address.s_in6.sa_addr[i];
    if (who.is_local && nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_UID, &uid) == 0 &&
        nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_GID, &gid) == 0) {
        who.uid = (uid_t)uid;
        who.gid = (gid_t)gid;
    }
    fc_nng_descriptor_await(NULL);
    return who;
}
