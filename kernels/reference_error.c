/* See reference_error.h. */
#include "kernels/reference_error.h"

#include <math.h>

static const fc_reference_error HOPELESS = {.relative_frobenius = INFINITY, .largest_absolute = INFINITY};

fc_reference_error fc_reference_compare(const double *got, const double *want, size_t count)
{
    fc_reference_error error = {0, 0};
    double error_squares = 0, want_squares = 0;
    for (size_t i = 0; i < count; i++) {
        if (isinf(want[i]) && got[i] == want[i])
            continue;
        double difference = fabs(got[i] - want[i]);
        if (!isfinite(difference))
            return HOPELESS;
        error_squares += difference * difference;
        want_squares += want[i] * want[i];
        error.largest_absolute = fmax(error.largest_absolute, difference);
    }
    if (error_squares > 0)
        error.relative_frobenius = want_squares > 0 ? sqrt(error_squares / want_squares) : INFINITY;
    return error;
}

/* One unit in the last place of a value of this size. */
static double unit_in_last_place(fc_dtype dtype, double size)
{
    static const int DIGITS[FC_DTYPE_COUNT] = {[FC_F16] = 11, [FC_BF16] = 8, [FC_F32] = 24};
    static const int LEAST[FC_DTYPE_COUNT] = {[FC_F16] = -24, [FC_BF16] = -133, [FC_F32] = -149};
    int exponent;
    frexp(size, &exponent);
    exponent -= DIGITS[dtype];
    return ldexp(1.0, exponent > LEAST[dtype] ? exponent : LEAST[dtype]);
}

static double largest_finite(const double *values, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        if (isfinite(values[i]))
            largest = fmax(largest, fabs(values[i]));
    }
    return largest;
}

fc_reference_figures fc_reference_figures_of(fc_dtype dtype, const double *want, size_t count)
{
    fc_reference_figures f = {.unit = unit_in_last_place(dtype, largest_finite(want, count))};
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += isfinite(want[i]) ? want[i] * want[i] : 0;
    f.norm = sqrt(squares);
    return f;
}

fc_status fc_reference_judge(const char *name, const fc_reference_figures *f, fc_reason *out_reason)
{
    double relative_unit = f->norm > 0 ? f->unit / f->norm : 0;
    double most_relative = 2 * fmax(f->plain.relative_frobenius, relative_unit / 2) + relative_unit;
    double most_absolute = 2 * fmax(f->plain.largest_absolute, f->unit / 2) + f->unit;
    if (isfinite(f->error.largest_absolute) && f->error.largest_absolute <= most_absolute &&
        f->error.relative_frobenius <= most_relative)
        return FC_OK;
    return fc_fail(FC_INTERNAL, out_reason, "%s is wrong: relative error %.3g of %.3g allowed, largest %.3g of %.3g",
                   name, f->error.relative_frobenius, most_relative, f->error.largest_absolute, most_absolute);
}

fc_reference_error fc_reference_worse(fc_reference_error a, fc_reference_error b)
{
    return (fc_reference_error){.relative_frobenius = fmax(a.relative_frobenius, b.relative_frobenius),
                                .largest_absolute = fmax(a.largest_absolute, b.largest_absolute)};
}
