/* What the driver says about the GPU: memory, load, temperature, power. Asked for with NVML (libnvidia-ml.so.1, opened
 * at run time) by a thread of its own, every two seconds, because a driver in trouble may take its time.
 *
 * Loop thread. Where there is no NVML, or it does not know a number, that number is absent.
 */
#ifndef FC_DAEMON_GPU_WATCH_H
#define FC_DAEMON_GPU_WATCH_H

#include "daemon/stats.h"

typedef struct fc_gpu_watch fc_gpu_watch;

/* uuid: the device's; all zero: there is none, and *out_watch is NULL. library: NULL for the driver's own. Says in the
 * log what is wrong with NVML, once. FC_NO_MEMORY, FC_INTERNAL: no thread. */
fc_status fc_gpu_watch_start(const uint8_t uuid[FC_UUID_BYTES], const char *library, fc_gpu_watch **out_watch);

/* Sets the readings to what was read last, or to absent where that is FC_GPU_WATCH_STALE_NS ago: the driver hangs,
 * which is logged once. NULL is fine. */
#define FC_GPU_WATCH_STALE_NS 10000000000u
void fc_gpu_watch_copy(fc_gpu_watch *watch, fc_stats *stats, uint64_t now_ns);

/* Has NVML been asked at least once since start, whatever it said? NULL: yes. */
bool fc_gpu_watch_has_read(const fc_gpu_watch *watch);

/* Waits a moment for the thread; one that hangs in the driver is left to the end of the process. NULL is fine. */
void fc_gpu_watch_stop(fc_gpu_watch *watch);

#endif
