/* The live view of stats --watch: what changed between two looks at a server's counters, as a screen of at most 80
 * columns or as one line. Pure: prints to the stream it is given.
 */
#ifndef FC_CLIENT_CTL_VIEW_H
#define FC_CLIENT_CTL_VIEW_H

#include "client/ctl_stats.h"

#define FC_CTL_HISTORY_MAX 44
#define FC_CTL_VIEW_COLUMNS 80

typedef struct fc_ctl_history {
    size_t count;
    double values[FC_CTL_HISTORY_MAX]; /* oldest first */
} fc_ctl_history;

typedef struct fc_ctl_view {
    const char *url, *version, *device;
    bool is_utf8;
    fc_ctl_history requests, received, sent; /* a second, look by look */
} fc_ctl_view;

/* Notes what happened between the looks (elapsed_s > 0): the small pictures grow by one. */
void fc_ctl_view_note(fc_ctl_view *view, const fc_ctl_counters *now, const fc_ctl_counters *earlier, double elapsed_s);

/* earlier NULL: the first look, without rates. */
void fc_ctl_view_screen(const fc_ctl_view *view, const fc_ctl_counters *now, const fc_ctl_counters *earlier,
                        double elapsed_s, FILE *out);

/* What fc_ctl_quantile() says of each latency: an empty line, a heading, a line each. */
void fc_ctl_view_latencies(const fc_ctl_counters *now, const fc_ctl_counters *earlier, FILE *out);

/* "requests/s 812  p50 1.20 ms  p99 3.4 ms ...", one line with its end. */
void fc_ctl_view_line(const fc_ctl_counters *now, const fc_ctl_counters *earlier, double elapsed_s, FILE *out);

/* The value (in the histogram's own unit) that a share q of what fell into the histogram between the looks stays below,
 * from its counters <name>_le_<bound>; within a bucket as if spread evenly. -1: nothing fell into it. What lies above
 * the last bound counts as that. earlier NULL: since the server's start. */
double fc_ctl_quantile(const fc_ctl_counters *now, const fc_ctl_counters *earlier, const char *name, double q);

#endif
