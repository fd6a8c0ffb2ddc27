/* What the kernel says about this process. Any thread; reads /proc, which never waits for a device or a peer. */
#ifndef FC_DAEMON_PROCESS_STATS_H
#define FC_DAEMON_PROCESS_STATS_H

#include <stdint.h>

typedef struct fc_process_stats {
    double cpu_seconds;
    uint64_t virtual_bytes, resident_bytes;
    uint64_t open_fds, max_fds;
} fc_process_stats;

/* What cannot be read is 0. */
void fc_process_stats_read(fc_process_stats *out_stats);

#endif
