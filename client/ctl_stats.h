/* A server's counters, collected and shown. Pure but for fc_ctl_stats() itself. */
#ifndef FC_CLIENT_CTL_STATS_H
#define FC_CLIENT_CTL_STATS_H

#include "client/tool_text.h"

#define FC_CTL_COUNTERS_MAX 320

typedef struct fc_ctl_counters {
    size_t count;
    struct {
        char name[48];
        double value;
    } items[FC_CTL_COUNTERS_MAX];
} fc_ctl_counters;

/* Appends one; what does not fit is dropped. Has flashcore_counter_visit's shape, context an fc_ctl_counters. */
void fc_ctl_counters_add(void *context, const char *name, double value);

/* A counter's value as its name's ending says: ..bytes.. "1.50 MiB", .._us and .._s times, else a count. */
fc_text fc_ctl_counter_text(const char *name, double value);

/* Prints name, value and, with the counters of elapsed_s ago in earlier (else NULL), the change a second. Leaves out
 * what stands at zero unless wants_all. */
void fc_ctl_counters_print(const fc_ctl_counters *now, const fc_ctl_counters *earlier, double elapsed_s, bool wants_all,
                           FILE *out);

#endif
