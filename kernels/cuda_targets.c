/* See cuda_targets.h. Of nvcc's targets, sm_XY runs on devices of the same X and at least Y, sm_XYa on X.Y alone, and
 * compute_XY is translated by the driver for whatever is newer. */
#include "kernels/cuda_targets.h"

#include <stdio.h>
#include <string.h>

/* FC_CUDA_TARGETS: the Makefile says it, out of what it tells nvcc. */
const char *fc_cuda_targets(void)
{
    return FC_CUDA_TARGETS;
}

typedef struct target {
    int capability;
    bool is_specific, is_virtual;
} target;

/* Reads the next word and moves past it; false at the end. */
static bool read_target(const char **words, target *out_target)
{
    char kind[16], suffix[4] = "";
    int used = 0;
    if (sscanf(*words, " %15[a-z]_%d%n%3[a-z]%n", kind, &out_target->capability, &used, suffix, &used) < 2)
        return false;
    *words += used;
    out_target->is_specific = suffix[0] != '\0';
    out_target->is_virtual = strcmp(kind, "compute") == 0;
    return true;
}

static bool runs_on(const target *t, int capability)
{
    if (t->is_specific)
        return t->capability == capability;
    return t->capability <= capability && (t->is_virtual || t->capability / 10 == capability / 10);
}

bool fc_cuda_targets_run_on(int capability)
{
    target t;
    for (const char *words = FC_CUDA_TARGETS; read_target(&words, &t);) {
        if (runs_on(&t, capability))
            return true;
    }
    return false;
}

bool fc_cuda_targets_are_specific_to(int capability)
{
    target t;
    for (const char *words = FC_CUDA_TARGETS; read_target(&words, &t);) {
        if (t.is_specific && t.capability == capability)
            return true;
    }
    return false;
}
