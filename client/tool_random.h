/* Repeatable random numbers: SplitMix64 (Steele, Lea, Flood 2014), good enough for inputs and arrival times. Plain
 * value, one thread each.
 */
#ifndef FC_CLIENT_TOOL_RANDOM_H
#define FC_CLIENT_TOOL_RANDOM_H

#include <math.h>
#include <stdint.h>

typedef struct fc_random {
    uint64_t state;
} fc_random;

static inline uint64_t fc_random_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Streams of one seed start at unrelated places of the sequence. */
static inline fc_random fc_random_make(uint64_t seed, uint64_t stream)
{
    return (fc_random){.state = fc_random_mix(fc_random_mix(seed + 1) ^ (stream + 0x9e3779b97f4a7c15u))};
}

static inline uint64_t fc_random_bits(fc_random *random)
{
    return fc_random_mix(random->state += 0x9e3779b97f4a7c15u);
}

/* Uniform in (0, 1]: its logarithm is finite. */
static inline double fc_random_unit(fc_random *random)
{
    return (double)((fc_random_bits(random) >> 11) + 1) * 0x1p-53;
}

/* Two values of N(0, 1), by Box and Muller. */
static inline void fc_random_normals(fc_random *random, double *out_a, double *out_b)
{
    double radius = sqrt(-2.0 * log(fc_random_unit(random)));
    double angle = 6.283185307179586 * fc_random_unit(random);
    *out_a = radius * cos(angle);
    *out_b = radius * sin(angle);
}

#endif
