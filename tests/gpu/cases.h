/* The kernels' correctness table, run on the GPU at hand. */
#ifndef FC_TESTS_GPU_CASES_H
#define FC_TESTS_GPU_CASES_H

#include <stdbool.h>

/* Runs every case (is_small: those a sanitizer gets through in a minute) on every CUDA kernel, prints each failure and
 * one closing line. The number of failures. */
int cases_run(bool is_small);

/* Times every CUDA kernel on the ladder's problems and prints a table; also as JSON to that path unless NULL. The
 * number of failures (a file that cannot be written). */
int times_run(const char *json_path);

#endif
