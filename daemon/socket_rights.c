/* See socket_rights.h. */
#include "daemon/socket_rights.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* asm-generic/socket.h of Linux 6.16 */
#endif

bool fc_socket_rights_are_refused(int fd)
{
    int passes = 1;
    socklen_t size = sizeof passes;
    return getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &passes, &size) == 0 && passes == 0;
}

/* Before the first peer can connect. What is no UNIX socket, or an older system, says no, and listens all the same. */
__attribute__((visibility("default"))) int listen(int fd, int backlog)
{
    int no = 0, error = errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof no);
    errno = error;
    return (int)syscall(SYS_listen, fd, backlog);
}
