/* What sm_90 adds, for include/kernels/ptx_hopper.cuh: mbarriers, the copy engine (TMA), wgmma. */
#ifndef FC_TESTS_EMULATE_HOPPER_H
#define FC_TESTS_EMULATE_HOPPER_H

#include "tests/emulate/matrix.h"
#include "tests/emulate/races.h"

#include <cuda.h>

#include <cstdint>

namespace emulate
{

/* --- mbarriers, by their shared address -------------------------------------------------------------------------- */

void mbarrier_init(uint32_t barrier, uint32_t arrivals);
/* One arrival after `bytes` more are expected in the phase. */
void mbarrier_arrive(uint32_t barrier, uint32_t bytes);
/* Waits until the phase of this parity has completed. */
void mbarrier_wait(uint32_t barrier, uint32_t parity);
/* For the copy engine: `bytes` of the phase have come; `clock`: what whoever waits for them then knows. */
void mbarrier_complete(uint32_t barrier, uint32_t bytes, const Clock &clock);
/* Fails unless it is one, which its initialiser has made known with fence.mbarrier_init or fence.proxy.async. */
void mbarrier_check_known(uint32_t barrier, const char *instruction);
void mbarrier_fence();

/* --- the copy engine --------------------------------------------------------------------------------------------- */

/* Starts the copy of a box to shared memory. coordinates: as many as the map has dimensions, which must be `rank`. The
 * destination is NaN until the copy is done, and that is late: when nobody else can go on, in any order. */
void tensor_load(uint32_t to, const void *map, uint32_t barrier, const int32_t *coordinates, int rank);

/* Starts the copy of a box from shared memory, in the thread's open group. It is read late, too, and must not have been
 * written to by then. What is past the tensor's end is left alone; coordinates below 0 fail. */
void tensor_store(const void *map, uint32_t from, const int32_t *coordinates, int rank);
void tensor_store_commit();
/* Waits until all of the thread's stores are done; fails where one is in an open group, which nothing waits for. */
void tensor_store_wait();

/* cuTensorMapEncodeTiled: what is behind the driver's entry point. Checks what the manual asks for. */
CUresult tensor_map_encode(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                           const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box,
                           const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                           CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);

/* --- wgmma, one warp of the warpgroup's four at a time ----------------------------------------------------------- */

/* d (64 x n): this thread's n / 2 sums, NaN from here to the wait. a_registers: 4 of them, or NULL: a is the matrix of
 * descriptor a. b is transposed where its rows run along k. */
struct Wgmma {
    float *d;
    int n;
    const uint32_t *a_registers;
    uint64_t a, b;
    bool is_a_transposed, is_b_transposed, accumulates;
    Half type;
};
void wgmma(const Wgmma &operands);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int pending);

/* setmaxnreg: changes nothing; all four warps of a warpgroup have to. */
void set_registers(int count);

} // namespace emulate

#endif
