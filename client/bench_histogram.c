/* Latencies in log-linear bins. A value of b significant bits beyond the first SUB_BITS + 1 is shifted right until it
 * has SUB_BITS + 1 of them; the shift is the bin's group, what is left its place in the group.
 */
#include "client/bench_histogram.h"

#include <math.h>
#include <stdlib.h>

#define SUB_COUNT (1u << FC_HISTOGRAM_SUB_BITS)

static uint32_t bin_of(uint64_t value)
{
    if (value >> FC_HISTOGRAM_VALUE_BITS != 0)
        return FC_HISTOGRAM_BINS - 1;
    if (value < 2 * SUB_COUNT)
        return (uint32_t)value;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - FC_HISTOGRAM_SUB_BITS;
    return shift * SUB_COUNT + (uint32_t)(value >> shift);
}

/* The largest value that lands in a bin. */
static uint64_t bin_end(uint32_t bin)
{
    if (bin < 2 * SUB_COUNT)
        return bin;
    uint32_t shift = bin / SUB_COUNT - 1;
    uint64_t base = bin - shift * SUB_COUNT;
    return ((base + 1) << shift) - 1;
}

fc_status fc_histogram_init(fc_histogram *histogram)
{
    *histogram = (fc_histogram){.bins = calloc(FC_HISTOGRAM_BINS, sizeof *histogram->bins)};
    return histogram->bins != NULL ? FC_OK : FC_NO_MEMORY;
}

void fc_histogram_fini(fc_histogram *histogram)
{
    free(histogram->bins);
    *histogram = (fc_histogram){.bins = NULL};
}

void fc_histogram_record(fc_histogram *histogram, uint64_t value_ns)
{
    histogram->bins[bin_of(value_ns)]++;
    if (histogram->count == 0 || value_ns < histogram->min_ns)
        histogram->min_ns = value_ns;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
    histogram->count++;
    histogram->sum_ns += (double)value_ns;
}

void fc_histogram_merge(fc_histogram *into, const fc_histogram *from)
{
    if (from->count == 0)
        return;
    for (uint32_t bin = 0; bin < FC_HISTOGRAM_BINS; bin++)
        into->bins[bin] += from->bins[bin];
    if (into->count == 0 || from->min_ns < into->min_ns)
        into->min_ns = from->min_ns;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    into->count += from->count;
    into->sum_ns += from->sum_ns;
}

uint64_t fc_histogram_percentile_ns(const fc_histogram *histogram, double percent)
{
    if (histogram->count == 0)
        return 0;
    /* 99.9 / 100 * 1000 is 999.0000000000001 in doubles: without the slack that would be the 1000th value. */
    double wanted = ceil(percent / 100.0 * (double)histogram->count * (1.0 - 1e-12));
    uint64_t rank = wanted < 1 ? 1 : (uint64_t)wanted;
    if (rank >= histogram->count)
        return histogram->max_ns;
    uint64_t seen = 0;
    for (uint32_t bin = 0; bin < FC_HISTOGRAM_BINS; bin++) {
        seen += histogram->bins[bin];
        if (seen >= rank) {
            uint64_t end = bin == FC_HISTOGRAM_BINS - 1 ? histogram->max_ns : bin_end(bin);
            return end < histogram->max_ns ? end : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}

double fc_histogram_mean_ns(const fc_histogram *histogram)
{
    return histogram->count == 0 ? 0 : histogram->sum_ns / (double)histogram->count;
}
