/* Runs the table of cases.h on the CUDA kernels of the GPU at hand. */
#ifndef FC_TESTS_GPU_SUITE_H
#define FC_TESTS_GPU_SUITE_H

#include "kernels/attention.h"

typedef struct suite_options {
    fc_kernel only;        /* FC_KERNEL_COUNT: every CUDA kernel */
    const char *substring; /* of the cases' names; NULL: all */
    bool is_small;         /* the cheap cases alone */
    double seconds;        /* stop after so many, cases taken from all over the table; 0: no limit */
    const char *json_path; /* raw figures of every trial go there; NULL: nowhere */
} suite_options;

/* Prints each failure, progress and a closing table. The number of failures, at least 1 when nothing was run. */
int suite_run(const suite_options *options);

#endif
