/* Is there room for the descriptors that a daemon has open before anybody connects? Where there is not, libuv aborts
 * and others fail one by one; so it is asked first, and said what is missing. At the start, before there are threads.
 */
#ifndef FC_DAEMON_DESCRIPTOR_ROOM_H
#define FC_DAEMON_DESCRIPTOR_ROOM_H

#include "proto/status.h"

/* Room for a daemon with so many listeners, at most FC_LISTEN_MAX? FC_IO: the reason names RLIMIT_NOFILE, what it is
 * and what it would have to be, or says what else the system lacks. */
fc_status fc_descriptor_room_check(unsigned listener_count, fc_reason *out_reason);

#endif
