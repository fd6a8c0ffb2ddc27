/* How far two answers are apart. */
#include "client/ctl_difference.h"

#include "proto/half.h"

#include <math.h>
#include <string.h>

static double element(fc_dtype dtype, const void *data, uint64_t index)
{
    const unsigned char *at = (const unsigned char *)data + index * fc_dtype_bytes(dtype);
    if (dtype == FC_F32) {
        float value;
        memcpy(&value, at, sizeof value);
        return (double)value;
    }
    uint16_t half;
    memcpy(&half, at, sizeof half);
    return (double)(dtype == FC_F16 ? fc_f16_to_float(half) : fc_bf16_to_float(half));
}

fc_difference fc_difference_of(fc_dtype dtype, const void *a, const void *b, uint64_t count)
{
    size_t bytes = fc_dtype_bytes(dtype);
    fc_difference d = {.largest_absolute = 0};
    double sum_a = 0, sum_difference = 0;
    for (uint64_t i = 0; i < count; i++) {
        double x = element(dtype, a, i), y = element(dtype, b, i);
        bool is_same = memcmp((const char *)a + i * bytes, (const char *)b + i * bytes, bytes) == 0;
        d.differing_count += !is_same;
        if (isfinite(x))
            sum_a += x * x;
        if (is_same || x == y)
            continue;
        double difference = isfinite(x) && isfinite(y) ? fabs(y - x) : INFINITY;
        sum_difference += difference * difference;
        if (difference > d.largest_absolute) {
            d.largest_absolute = difference;
            d.largest_at = i;
        }
    }
    d.relative_frobenius = sum_difference == 0 ? 0 : sqrt(sum_difference / sum_a);
    return d;
}
