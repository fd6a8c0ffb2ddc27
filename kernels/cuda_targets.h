/* What GPUs the machine code in this shared object is for, as it was built. Any thread; pure. */
#ifndef FC_KERNELS_CUDA_TARGETS_H
#define FC_KERNELS_CUDA_TARGETS_H

#include <stdbool.h>

/* What it was built for, in nvcc's words: "sm_80 sm_90a compute_80". */
const char *fc_cuda_targets(void);

/* Is there code that a device of this compute capability (89: 8.9) can run? */
bool fc_cuda_targets_run_on(int capability);

/* Is there code with what that capability alone has ("sm_90a")? */
bool fc_cuda_targets_are_specific_to(int capability);

#endif
