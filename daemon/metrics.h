/* The statistics as Prometheus reads them: text exposition format 0.0.4.
 *
 * Every family comes from a list that stands elsewhere (stats.def, vocab.def, status.def, kernel.def) or from the few
 * rows in metrics.c; docs/metrics.md is made from what this writes. Names: flashcored_*, and process_* as everybody's.
 * Pure, any thread.
 */
#ifndef FC_DAEMON_METRICS_H
#define FC_DAEMON_METRICS_H

#include "daemon/process_stats.h"
#include "daemon/stats.h"

#define FC_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* What does not change while the process lives. */
typedef struct fc_metrics_about {
    const char *version, *engine, *device;
    double start_time_s; /* since 1970 */
} fc_metrics_about;

/* Writes everything into memory of its own, which the caller free()s. FC_NO_MEMORY. */
fc_status fc_metrics_render(const fc_stats *stats, const fc_metrics_about *about, const fc_process_stats *process,
                            char **out_text, size_t *out_bytes);

#endif
