/* See plain_file.h. */
#include "proto/plain_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NULL_DEVICE makedev(1, 3) /* Linux: Documentation/admin-guide/devices.txt */

static fc_status refuse(fc_reason *out_reason)
{
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "not a regular file");
}

static fc_status check(int fd, fc_reason *out_reason)
{
    struct stat about;
    if (fstat(fd, &about) != 0)
        return fc_fail(FC_IO, out_reason, "%s", strerror(errno));
    bool is_null = S_ISCHR(about.st_mode) && about.st_rdev == NULL_DEVICE;
    return S_ISREG(about.st_mode) || is_null ? FC_OK : refuse(out_reason);
}

fc_status fc_plain_file_open(const char *path, FILE **out_file, fc_reason *out_reason)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ENXIO) /* a socket, or a device that is not there */
        return refuse(out_reason);
    if (fd < 0)
        return fc_fail(FC_IO, out_reason, "%s", strerror(errno));
    fc_status st = check(fd, out_reason);
    FILE *file = st == FC_OK ? fdopen(fd, "r") : NULL;
    if (file == NULL) {
        close(fd);
        return st != FC_OK ? st : fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    }
    *out_file = file;
    return FC_OK;
}
