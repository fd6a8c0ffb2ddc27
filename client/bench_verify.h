/* Is an answer right? The first answer to each input set (from each kernel on each device: their roundings differ) is
 * compared with the double-precision reference under kernels/reference.h's tolerance; every later one must be the same
 * bits, because the service promises answers that do not depend on company or time. That is stricter than checking each
 * against the tolerance, and as cheap as memcmp.
 *
 * fc_verifier_check() may be called from any thread.
 */
#ifndef FC_CLIENT_BENCH_VERIFY_H
#define FC_CLIENT_BENCH_VERIFY_H

#include "client/tool_shape.h"

typedef struct fc_verifier fc_verifier;

/* Borrows shape and inputs[input_count] for its life. FC_INVALID_ARGUMENT: the reference cannot do this problem, with a
 * reason; FC_NO_MEMORY. */
fc_status fc_verifier_create(const fc_shape *shape, const fc_inputs *inputs, size_t input_count,
                             fc_verifier **out_verifier, fc_reason *out_reason);
void fc_verifier_destroy(fc_verifier *verifier);

/* Checks the answer to inputs[input]: out in the shape's dtype and layout, lse may be NULL. FC_OK: right. FC_INTERNAL:
 * wrong, the reason says how. FC_NO_MEMORY: could not be checked. Slow (the reference) the first time. */
fc_status fc_verifier_check(fc_verifier *verifier, size_t input, const char *kernel, const char *device,
                            const void *out, const float *lse, fc_reason *out_reason);

/* Answers compared with the reference so far. */
uint64_t fc_verifier_reference_count(fc_verifier *verifier);

#endif
