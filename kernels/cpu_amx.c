/* Placeholder until the tiles are written: unsupported everywhere. */
#include "kernels/cpu_isa.h"

static bool is_supported(void)
{
    return false;
}

const fc_cpu_isa fc_cpu_isa_amx = {.name = "amx", .is_supported = is_supported};
