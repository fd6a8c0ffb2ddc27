/* Which descriptor an nng connection has. nng does not tell; but asked who its peer is, it asks the system, by a
 * getsockopt() or getpeername() of the daemon's own, which libnng.so's calls resolve to because the executable comes
 * first in symbol lookup. Any thread.
 */
#ifndef FC_DAEMON_NNG_DESCRIPTOR_H
#define FC_DAEMON_NNG_DESCRIPTOR_H

#include <stdbool.h>

#define FC_NNG_DESCRIPTORS_MAX 65536 /* nothing is kept of those past it */

static inline bool fc_nng_descriptor_is_kept(int fd)
{
    return fd >= 0 && fd < FC_NNG_DESCRIPTORS_MAX;
}

/* From now on what this thread asks of a socket's peer stores its descriptor in *out_fd, the last stays; NULL: no
 * more. */
void fc_nng_descriptor_await(int *out_fd);

#endif
