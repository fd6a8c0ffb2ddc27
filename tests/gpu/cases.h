/* The table of problems every CUDA kernel has to get right: groups of element types x head_dims x shapes x conditions,
 * spelled out one after another. Pure values, no CUDA: any thread.
 */
#ifndef FC_TESTS_GPU_CASES_H
#define FC_TESTS_GPU_CASES_H

#include "kernels/attention.h"
#include "tests/gpu/tensor.h"

enum { CASE_BATCH_MAX = 4 };

/* What is done to a kernel on a case besides one run against the reference, a second run and one in company. */
typedef enum case_extra {
    EXTRA_REPEATS = 1, /* a thousand runs, all alike, and chains of launches, one on the heels of the other */
    EXTRA_WISHES = 2,  /* every compiled variant, several splits and packings: not only what the plan chooses */
} case_extra;

typedef struct gpu_case {
    char name[80];
    fc_problem problem; /* kv_lens is NULL: see has_kv_lens */
    bool has_kv_lens;   /* all, 2/3, 1/3 and none of kv_len, by batch entry */
    arrangement how;
    float q_spread;
    unsigned outlier_every; /* one element of q and k in so many is from N(0, 100); 0: none */
    int64_t row_step;       /* every how many rows are held against the reference */
    unsigned extras;        /* of case_extra */
    bool is_small;          /* cheap enough for a sanitizer, or for a GPU that is emulated */
} gpu_case;

size_t case_count(void);
gpu_case case_at(size_t index);

#endif
