/* One case made real: its tensors on the host and the device, and the answer it should have.
 *
 * One thread. */
#ifndef FC_TESTS_GPU_FIXTURE_H
#define FC_TESTS_GPU_FIXTURE_H

#include "kernels/reference.h"
#include "tests/gpu/cases.h"

typedef struct fixture {
    gpu_case what;
    uint32_t kv_lens[CASE_BATCH_MAX];
    fc_problem problem;
    tensor q, k, v, out, lse, scratch_out, scratch_lse; /* the scratch ones take answers nobody looks at */
    fc_reference_truth *truth;
} fixture;

/* Fills q, k and v with random numbers, K and V rows that no query may see with NaN and infinity, uploads them, and
 * finds the right answer. Takes the arena from its beginning. The fixture must not move afterwards. */
void fixture_init(fixture *f, device_arena *arena, const gpu_case *what, uint64_t seed);
void fixture_fini(fixture *f);

fc_tensors fixture_device_tensors(const fixture *f);

#endif
