/* How far an answer may be from the right one: the arithmetic of reference.h's verdicts. Pure. */
#ifndef FC_KERNELS_REFERENCE_ERROR_H
#define FC_KERNELS_REFERENCE_ERROR_H

#include "kernels/reference.h"

/* Of a right result in doubles that is to be held in the dtype: all but the answer's and plain's error. */
fc_reference_figures fc_reference_figures_of(fc_dtype dtype, const double *want, size_t count);

fc_reference_error fc_reference_worse(fc_reference_error a, fc_reference_error b);

/* FC_INTERNAL: the answer errs more than the figures allow; the reason says by how much. name: "out", "lse". */
fc_status fc_reference_judge(const char *name, const fc_reference_figures *figures, fc_reason *out_reason);

#endif
