/* See descriptor_room.h. */
#include "daemon/descriptor_room.h"

#include "daemon/options.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Beyond the standard three a daemon with one listener has 16, with metrics and the admin socket 21, and an ipc
 * listener has 4; CUDA's driver has 33 and NVML 7 (one H100). The rest is room for the first to connect. */
enum { BASE_COUNT = 80, LISTENER_COUNT = 8, WANTED_MAX = BASE_COUNT + LISTENER_COUNT * FC_LISTEN_MAX };

static fc_status fail(int error, unsigned missing_count, fc_reason *out_reason)
{
    struct rlimit limit;
    if (error != EMFILE || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return fc_fail(FC_IO, out_reason, "descriptors: %s", strerror(error));
    return fc_fail(FC_IO, out_reason,
                   "too few descriptors: RLIMIT_NOFILE is %llu, expected at least %llu (ulimit -n, LimitNOFILE=)",
                   (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_cur + missing_count);
}

fc_status fc_descriptor_room_check(unsigned listener_count, fc_reason *out_reason)
{
    int fds[WANTED_MAX], error = 0;
    unsigned wanted_count = BASE_COUNT + LISTENER_COUNT * listener_count, count = 0;
    assert(listener_count <= FC_LISTEN_MAX);
    while (count < wanted_count && error == 0) {
        fds[count] = dup(STDERR_FILENO);
        if (fds[count] >= 0)
            count++;
        else
            error = errno;
    }
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    return error == 0 ? FC_OK : fail(error, wanted_count - count, out_reason);
}
