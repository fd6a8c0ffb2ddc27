/* Latencies in log-linear bins, after Gil Tene's HdrHistogram: between two powers of two lie 1024 equal bins, so a
 * value read back is at most 0.1 % above the one recorded, over the whole range, in fixed memory and without sorting.
 *
 * Values are nanoseconds. Below 2048 ns bins are exact. One thread a histogram; merge to combine.
 */
#ifndef FC_CLIENT_BENCH_HISTOGRAM_H
#define FC_CLIENT_BENCH_HISTOGRAM_H

#include "proto/status.h"

#include <stdint.h>

#define FC_HISTOGRAM_SUB_BITS 10
#define FC_HISTOGRAM_VALUE_BITS 40 /* up to 2^40 ns = 18 minutes; longer ones land in the last bin */
#define FC_HISTOGRAM_BINS ((FC_HISTOGRAM_VALUE_BITS - FC_HISTOGRAM_SUB_BITS + 1) << FC_HISTOGRAM_SUB_BITS)

typedef struct fc_histogram {
    uint64_t *bins; /* [FC_HISTOGRAM_BINS] */
    uint64_t count;
    uint64_t min_ns, max_ns; /* exact; 0 while count is 0 */
    double sum_ns;
} fc_histogram;

/* FC_NO_MEMORY. fini takes a zeroed one too. */
fc_status fc_histogram_init(fc_histogram *histogram);
void fc_histogram_fini(fc_histogram *histogram);

void fc_histogram_record(fc_histogram *histogram, uint64_t value_ns);

/* Adds from's values to into. */
void fc_histogram_merge(fc_histogram *into, const fc_histogram *from);

/* The smallest recorded value (to within its bin: the bin's upper end, never above max_ns) that at least `percent` of
 * all values do not exceed. 0 <= percent <= 100; 0 when nothing was recorded. */
uint64_t fc_histogram_percentile_ns(const fc_histogram *histogram, double percent);

double fc_histogram_mean_ns(const fc_histogram *histogram); /* exact; 0 when empty */

#endif
