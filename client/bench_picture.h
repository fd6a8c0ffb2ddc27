/* Pictures for a terminal: a percentile picture, the progress line. Pure: they print to the stream they are given
 * and look at nothing else.
 */
#ifndef FC_CLIENT_BENCH_PICTURE_H
#define FC_CLIENT_BENCH_PICTURE_H

#include "client/bench_histogram.h"
#include "client/bench_run.h"

#include <stdio.h>

/* How to draw. */
typedef struct fc_canvas {
    size_t columns; /* of a line, >= 40 */
    bool is_utf8;   /* false: ASCII alone */
} fc_canvas;

/* A line a percentile, min to max: its value and a bar of it. Longest answers far beyond the rest are drawn on a
 * logarithmic axis, and the title says so. */
void fc_picture_percentiles(const fc_histogram *latency, const fc_canvas *canvas, FILE *out);

/* One line without its end, at most canvas->columns wide: stage, time, rate, percentiles, errors. */
void fc_picture_progress(const fc_bench_progress *progress, const fc_canvas *canvas, FILE *out);

#endif
