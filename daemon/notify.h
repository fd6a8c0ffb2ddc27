/* Talks to the supervisor: systemd's notification protocol over $NOTIFY_SOCKET (sd_notify(3)), without its library.
 *
 * Loop thread only. Every call is harmless when nobody supervises.
 */
#ifndef FC_DAEMON_NOTIFY_H
#define FC_DAEMON_NOTIFY_H

#include "proto/status.h"

#include <stdint.h>

typedef struct fc_notify {
    int fd;               /* -1: nobody supervises */
    uint64_t watchdog_ns; /* the supervisor wants a sign of life this often; 0: never */
} fc_notify;

/* Reads the environment: NOTIFY_SOCKET (a path, or @name for the abstract namespace), WATCHDOG_USEC, WATCHDOG_PID.
 * FC_OK without a socket in it. FC_INVALID_ARGUMENT or FC_IO with a reason: it is set and cannot be used; the notify is
 * silent then. */
fc_status fc_notify_open(fc_notify *out_notify, fc_reason *out_reason);

void fc_notify_close(fc_notify *notify); /* twice is fine */

/* Sends "READY=1\nSTATUS=...", printf-style, as one datagram; never blocks. FC_IO: it was not taken. */
fc_status fc_notify_send(const fc_notify *notify, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "RELOADING=1" with the time stamp Type=notify-reload wants; READY=1 must follow. */
fc_status fc_notify_reloading(const fc_notify *notify, uint64_t now_ns);

#endif
