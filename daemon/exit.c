/* See exit.h. */
#include "daemon/exit.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Standard error may be a socket, too, and somebody else's. */
static void shut_sockets(void)
{
    DIR *open_files = opendir("/proc/self/fd");
    if (open_files == NULL)
        return;
    for (const struct dirent *entry = readdir(open_files); entry != NULL; entry = readdir(open_files)) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (fd > STDERR_FILENO)
            shutdown(fd, SHUT_RDWR); /* no socket: nothing happens */
    }
}

void fc_exit_now(fc_exit code)
{
    if (code == FC_EXIT_DEVICE_LOST || code == FC_EXIT_HUNG)
        shut_sockets();
    _exit(code);
}
