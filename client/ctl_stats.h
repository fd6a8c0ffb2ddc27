/* A server's counters, collected and shown. Pure but for fc_ctl_counters_collect(). */
#ifndef FC_CLIENT_CTL_STATS_H
#define FC_CLIENT_CTL_STATS_H

#include "client/ctl_options.h"
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

/* A counter's value, or `otherwise` where the server has no such. */
double fc_ctl_counters_get(const fc_ctl_counters *counters, const char *name, double otherwise);

/* Prints name and value, and below them the latencies since the server's start, if there were requests. Leaves out what
 * stands at zero and the sums of histograms unless wants_all, and their buckets. */
void fc_ctl_counters_print(const fc_ctl_counters *counters, bool wants_all, FILE *out);

/* Asks the server at that URL. */
fc_status fc_ctl_counters_collect(const fc_ctl_options *options, flashcore_client *client, uint32_t url,
                                  fc_ctl_counters *out_counters, fc_reason *out_reason);

#endif
