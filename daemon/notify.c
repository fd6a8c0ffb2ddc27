/* One datagram a message to the supervisor's socket. */
#include "daemon/notify.h"

#include "daemon/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static uint64_t watchdog_from_environment(void)
{
    const char *period = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (period == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    char *end;
    errno = 0;
    unsigned long long period_us = strtoull(period, &end, 10);
    bool is_number = end != period && *end == '\0' && errno == 0 && period_us <= UINT64_MAX / FC_NS_PER_US;
    return is_number ? period_us * FC_NS_PER_US : 0;
}

fc_status fc_notify_open(fc_notify *out_notify, fc_reason *out_reason)
{
    const char *path = getenv("NOTIFY_SOCKET");
    *out_notify = (fc_notify){.fd = -1};
    if (path == NULL || path[0] == '\0')
        return FC_OK;

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t path_bytes = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || path_bytes >= sizeof address.sun_path)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "NOTIFY_SOCKET: expected /path or @name, got \"%.100s\"", path);
    memcpy(address.sun_path, path, path_bytes);
    bool is_abstract = path[0] == '@';
    if (is_abstract)
        address.sun_path[0] = '\0';
    socklen_t address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_bytes + !is_abstract);

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fc_fail(FC_IO, out_reason, "NOTIFY_SOCKET: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, address_bytes) != 0) {
        fc_status st = fc_fail(FC_IO, out_reason, "NOTIFY_SOCKET %.100s: %s", path, strerror(errno));
        close(fd);
        return st;
    }
    out_notify->fd = fd;
    out_notify->watchdog_ns = watchdog_from_environment();
    return FC_OK;
}

void fc_notify_close(fc_notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    *notify = (fc_notify){.fd = -1};
}

fc_status fc_notify_send(const fc_notify *notify, const char *format, ...)
{
    char text[512];
    if (notify->fd < 0)
        return FC_OK;
    va_list args;
    va_start(args, format);
    int bytes = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t text_bytes = bytes < 0 ? 0 : (size_t)bytes < sizeof text ? (size_t)bytes : sizeof text - 1;
    return send(notify->fd, text, text_bytes, MSG_NOSIGNAL) < 0 ? FC_IO : FC_OK;
}

fc_status fc_notify_reloading(const fc_notify *notify, uint64_t now_ns)
{
    return fc_notify_send(notify, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, (uint64_t)(now_ns / FC_NS_PER_US));
}
