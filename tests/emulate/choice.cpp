/* EMULATE_KERNEL in the environment names the one rung to test: the others are then no CUDA kernels to tests/gpu. Links
 * with --wrap=fc_cuda_launch_find. */
#include "kernels/cuda_launch.h"

#include <cstdlib>
#include <cstring>

extern "C" fc_cuda_launcher __real_fc_cuda_launch_find(fc_kernel kernel);
extern "C" fc_cuda_launcher __wrap_fc_cuda_launch_find(fc_kernel kernel);

fc_cuda_launcher __wrap_fc_cuda_launch_find(fc_kernel kernel)
{
    const char *wanted = getenv("EMULATE_KERNEL");
    if (wanted != nullptr && strcmp(wanted, fc_kernel_name(kernel)) != 0)
        return nullptr;
    return __real_fc_cuda_launch_find(kernel);
}
