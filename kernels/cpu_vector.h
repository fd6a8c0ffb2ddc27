/* A vector of V_LANES floats in the compiler's own vector types, the part that is the same for every instruction set.
 * Included by kernels/cpu_<isa>.c after it defines V_LANES (4, 8 or 16), before the functions it adds; everything here
 * is static.
 */
#ifndef FC_KERNELS_CPU_VECTOR_H
#define FC_KERNELS_CPU_VECTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef float vf __attribute__((vector_size(V_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(V_LANES * 4)));  /* masks, and what may be negative */
typedef uint32_t vu __attribute__((vector_size(V_LANES * 4))); /* bits: their sums may wrap */
typedef float vf_any __attribute__((vector_size(V_LANES * 4), aligned(4), may_alias));

static inline vf v_load(const float *from)
{
    return (vf) * (const vf_any *)from;
}

static inline void v_store(float *to, vf value)
{
    *(vf_any *)to = (vf_any)value;
}

static inline vf v_set1(float value)
{
    return value - (vf){0};
}

static inline vi v_lane_index(void)
{
    vi index;
    for (int32_t i = 0; i < V_LANES; i++)
        index[i] = i;
    return index;
}

/* yes where mask is all ones, no where it is zero. */
static inline vf v_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

static inline vu v_bits(vf value)
{
    return (vu)value;
}

static inline vf v_from_bits(vu bits)
{
    return (vf)bits;
}

#endif
