/* Tiles of K and V on their way to shared memory. */
#ifndef FC_KERNELS_STAGE_CUH
#define FC_KERNELS_STAGE_CUH

#include "kernels/ptx.cuh"

/* Starts this thread's share of copying rows [first, first + ROWS) of `from`, 16 bytes a copy. Rows at or past `end`
 * and columns at or past head_dim become zeros and are not read: a weight of 0 would not hide a NaN behind them. Rows
 * lie PITCH elements apart in shared memory and `stride` in `from`, where row 0 has to exist. The caller commits. */
template <int ROWS, int COLUMNS, int PITCH, int THREADS, typename T>
static __device__ __forceinline__ void fc_stage_rows(T *to, const T *from, int64_t stride, int32_t first, int32_t end,
                                                     int head_dim)
{
    constexpr int PIECE = 16 / (int)sizeof(T), PIECES = COLUMNS / PIECE;
    const uint32_t address = fc_ptx_shared_address(to);
#pragma unroll
    for (int begin = 0; begin < ROWS * PIECES; begin += THREADS) {
        const int i = begin + (int)threadIdx.x, row = i / PIECES, column = i % PIECES * PIECE;
        if (ROWS * PIECES % THREADS != 0 && i >= ROWS * PIECES)
            break;
        const bool is_there = first + row < end && column < head_dim;
        const T *source = is_there ? from + (first + row) * stride + column : from;
        fc_ptx_cp_async_16(address + (uint32_t)((row * PITCH + column) * sizeof(T)), source, is_there ? 16 : 0);
    }
}

#endif
