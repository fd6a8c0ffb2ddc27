/* One kernel, in one of its plans, on one fixture: is the answer right, is it alone in what it writes, and does it stay
 * the same bits run after run and in company?
 *
 * One thread. */
#ifndef FC_TESTS_GPU_TRIAL_H
#define FC_TESTS_GPU_TRIAL_H

#include "tests/gpu/fixture.h"

/* Raw figures; is_right is the verdict on them. */
typedef struct trial {
    fc_reference_figures out, lse;
    int run_count, equal_count; /* runs, the first one included, and those that gave its bits */
    int64_t stray_count;        /* bytes written outside out, lse and the workspace; tickets not back at 0 */
    bool is_right;              /* all of that in order */
    fc_reason wrong;            /* what is not */
} trial;

/* company: how many segments a launch in company has, at least the fixture's own. A CUDA error ends the program. */
void trial_run(const fixture *f, device_arena *arena, const fc_device *device, const fc_plan *plan, int company,
               trial *out_trial);

#endif
