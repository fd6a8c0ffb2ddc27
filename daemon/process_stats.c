/* See process_stats.h. */
#include "daemon/process_stats.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static void read_memory(fc_process_stats *stats)
{
    uint64_t virtual_pages = 0, resident_pages = 0;
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return;
    if (fscanf(file, "%" SCNu64 " %" SCNu64, &virtual_pages, &resident_pages) == 2) {
        stats->virtual_bytes = virtual_pages * page_bytes;
        stats->resident_bytes = resident_pages * page_bytes;
    }
    fclose(file);
}

static uint64_t count_fds(void)
{
    uint64_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return 0;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the folder's own */
}

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

void fc_process_stats_read(fc_process_stats *out_stats)
{
    struct rusage usage;
    struct rlimit limit;
    *out_stats = (fc_process_stats){.open_fds = count_fds()};
    read_memory(out_stats);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        out_stats->cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        out_stats->max_fds = limit.rlim_cur;
}
