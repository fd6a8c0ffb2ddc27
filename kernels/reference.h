/* What the answer is: attention in double precision, in plain C, written from the definition and sharing nothing with
 * the kernels or their segments; and how far an honest implementation may stray from it.
 *
 * The only kernels/ header that client/bench_client may include. No state, any thread.
 */
#ifndef FC_KERNELS_REFERENCE_H
#define FC_KERNELS_REFERENCE_H

#include "kernels/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out_out: [batch, q_heads, q_len, head_dim] and out_lse: [batch, q_heads, q_len], both contiguous doubles whatever the
 * layout of the inputs. tensors->out and ->lse are not used. Inputs may have any alignment. FC_NO_MEMORY. */
fc_status fc_reference_run(const fc_problem *problem, const fc_tensors *tensors, double *out_out, double *out_lse);

/* The plain implementation whose error sets the tolerance: QK^T in fp32, P rounded to the dtype, PV in fp32, output
 * rounded to the dtype. Results widened to double, same shapes. */
fc_status fc_reference_plain(const fc_problem *problem, const fc_tensors *tensors, double *out_out, double *out_lse);

/* How far `got` is from `want`. lse entries that are -inf on both sides agree; any NaN, or an infinity on one side
 * only, makes the error infinite. */
typedef struct fc_reference_error {
    double relative_frobenius; /* ||got - want|| / ||want||, 0 when both are all zero */
    double largest_absolute;
} fc_reference_error;

fc_reference_error fc_reference_compare(const double *got, const double *want, size_t count);

/* What a verdict on one tensor rests on: the answer passes when error.largest_absolute <= 2 plain.largest_absolute +
 * unit, and error.relative_frobenius <= 2 plain.relative_frobenius + unit / norm. Plain counts for at least half a
 * unit, which rounding its result is worth: of a handful of values all may be better by luck. */
typedef struct fc_reference_figures {
    fc_reference_error error; /* of the answer, against double precision */
    fc_reference_error plain; /* the worst of plain's orders of summation that were tried */
    double unit;              /* in the last place of the dtype at the size of the largest value */
    double norm;              /* of the double-precision result */
} fc_reference_figures;

/* The right answer to one problem, against which any number of answers can be held. One thread at a time. */
typedef struct fc_reference_truth fc_reference_truth;

/* Copies the inputs and computes in double precision: every row_step-th row, from the last one down (1: all), so that
 * long sequences can be checked, too; an odd row_step meets every row of a kernel's tiles. FC_NO_MEMORY. */
fc_status fc_reference_truth_create(const fc_problem *problem, const fc_tensors *tensors, int64_t row_step,
                                    fc_reference_truth **out_truth);
void fc_reference_truth_destroy(fc_reference_truth *truth); /* NULL is fine */

/* Is an answer right? Accepts out when both of its errors are at most twice plain's (plus one unit in the last place of
 * the dtype at the size of the largest value, for the cases where plain happens to be exact). The definition fixes no
 * order of summation, so plain's error is the largest over three orders of the dot product's elements and, for halves,
 * the way tensor cores sum them: with a few rows of large logits the error of a single one is small by luck. Likewise
 * lse in f32 against 2x plain's, and that of one row and one key can be small in every order that is tried: it counts
 * for at least what rounding is expected to come to. got_out in the problem's dtype with got_strides, got_lse
 * contiguous f32 or NULL. The figures may be NULL. FC_OK, FC_INTERNAL with the figures in the reason when it is wrong.
 */
fc_status fc_reference_truth_judge(fc_reference_truth *truth, const void *got_out, fc_strides got_strides,
                                   const float *got_lse, fc_reference_figures *out_figures,
                                   fc_reference_figures *out_lse_figures, fc_reason *out_reason);

/* All of the above for one answer, every row. FC_OK, FC_INTERNAL, FC_NO_MEMORY. */
fc_status fc_reference_verify(const fc_problem *problem, const fc_tensors *tensors, const void *got_out,
                              fc_strides got_strides, const float *got_lse, fc_reason *out_reason);

#ifdef __cplusplus
}
#endif

#endif
