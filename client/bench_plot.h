/* The latency-over-percentile curve as an SVG file. Pure: prints to the stream it is given. */
#ifndef FC_CLIENT_BENCH_PLOT_H
#define FC_CLIENT_BENCH_PLOT_H

#include "client/bench_run.h"

#include <stdio.h>

/* Draws the run; readable on light and on dark pages. Nothing measured: an empty frame that says so. */
void fc_plot_svg(const fc_bench_options *options, const fc_bench_outcome *outcome, FILE *out);

#endif
