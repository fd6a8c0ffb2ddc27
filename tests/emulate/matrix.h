/* Warp instructions on matrices: ldmatrix, mma.sync, and what mma.h's WMMA is made of. */
#ifndef FC_TESTS_EMULATE_MATRIX_H
#define FC_TESTS_EMULATE_MATRIX_H

#include <cstdint>

namespace emulate
{

enum class Half { F16, BF16 };

/* ldmatrix .x1, .x2 or .x4 (count matrices), as ptx.cuh says; the row addresses of lanes past 8 * count are not used.
 */
void load_matrix(uint32_t *to, int count, uint32_t row, bool is_transposed);
/* stmatrix: the other way. */
void store_matrix(const uint32_t *from, int count, uint32_t row, bool is_transposed);

/* mma.sync m16n8k16 (a: 4 registers, b: 2) and m16n8k8 (2 and 1), fp32 sums, d += a b. */
void multiply_matrix(float *d, const uint32_t *a, const uint32_t *b, int k, Half type);

} // namespace emulate

#endif
