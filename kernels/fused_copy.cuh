/* How the rung `fused` brings the query, K and V into shared memory. Only fused.cu includes this.
 *
 * A stage is STEPS steps of keys, and as many of values, one step behind: while step j multiplies with K, the products
 * with V are those of step j - 1. Stage g thus has keys [g * STEPS, (g + 1) * STEPS) and values [g * STEPS - 1, (g + 1)
 * * STEPS - 1), counted in steps.
 */
#ifndef FC_KERNELS_FUSED_COPY_CUH
#define FC_KERNELS_FUSED_COPY_CUH

#include "kernels/fused_shape.cuh"

namespace fused
{

/* What a thread needs to go on copying: it always copies the same piece of a row. */
template <typename T> struct Copies {
    const T *k, *v; /* that piece of its next rows */
    uint32_t to;    /* and of its first row in the first stage */
    uint32_t bytes; /* 0: the piece is past head_dim */
    int32_t row;    /* its first row, among the keys of a step that are copied together */
    int32_t first;  /* the first of those keys, among all of a step */
};

/* Rows that so many threads copy at a time. */
template <typename S, int THREADS> constexpr int PASS_ROWS = THREADS / fc_mma_tile<S::HEAD_DIM>::PIECES;

template <typename T, typename S>
__device__ __forceinline__ Copies<T> copies_make(uint32_t shared, const Block<T> &block, int key_warp)
{
    using Tile = fc_mma_tile<S::HEAD_DIM>;
    static_assert(S::COPY_ROWS % PASS_ROWS<S, S::COPY_THREADS> == 0, "whole passes");
    const int thread = threadIdx.x % S::COPY_THREADS, row = thread / Tile::PIECES, piece = thread % Tile::PIECES;
    const bool is_column = piece * FC_PIECE_ELEMENTS < block.head_dim;
    const int column = is_column ? piece * FC_PIECE_ELEMENTS : 0, first = S::COPIES_ALONE ? key_warp * S::KEYS : 0;
    return {block.k + (first + row) * block.k_stride + column,
            block.v + (first + row) * block.v_stride + column,
            shared + Tile::offset(first, 0) + Tile::offset(row, piece),
            is_column ? FC_PIECE_BYTES : 0u,
            row,
            first};
}

/* Rows of so many steps, of which the first `left` are there; the others become zeros. `from` moves on. */
template <typename T, typename S, int STEPS>
__device__ __forceinline__ void copy_rows(const Copies<T> &copies, uint32_t offset, const T *&from, int64_t stride,
                                          int32_t left, const T *some)
{
    using Tile = fc_mma_tile<S::HEAD_DIM>;
    constexpr int PASS = PASS_ROWS<S, S::COPY_THREADS>, PASSES = STEPS * S::COPY_ROWS / PASS;
    const uint32_t to = copies.to + offset;
    const auto place = [=](int pass) { /* the thread's row, its number below PASS, so many rows on */
                                       return (to ^ (pass * PASS & Tile::SWIZZLE_BITS) * FC_PIECE_BYTES) +
                                              pass * PASS * Tile::ROW_BYTES;
    };
    static_assert((PASS & (PASS - 1)) == 0 && Tile::SWIZZLE_BITS == 7, "bits of the row are bits of the address");
    if (left >= STEPS * S::COPY_ROWS) {
#pragma unroll
        for (int pass = 0; pass < PASSES; pass++) {
            fc_ptx_cp_async_16(place(pass), from, copies.bytes);
            from += PASS * stride;
        }
    } else {
#pragma unroll 1
        for (int pass = 0; pass < PASSES; pass++) {
            const bool is_there = copies.row + pass * PASS < left;
            fc_ptx_cp_async_16(place(pass), is_there ? from : some, is_there ? copies.bytes : 0);
            from += PASS * stride;
        }
    }
    from += STEPS * (S::STEP - S::COPY_ROWS) * stride;
}

/* The stage that begins with the keys of `step`, `stage` bytes from the first. Closes a group of copies. */
template <typename T, typename S>
__device__ __forceinline__ void copy_stage(Copies<T> &copies, const Block<T> &block, int32_t step, uint32_t stage)
{
    const int32_t left = block.count - step * S::STEP - copies.first; /* keys from `step` on */
    if (left > 0)
        copy_rows<T, S, S::STEPS>(copies, stage, copies.k, block.k_stride, left, block.k);
    if (left > -S::STEP)
        copy_rows<T, S, S::STEPS>(copies, S::V_OFFSET + stage, copies.v, block.v_stride, left + S::STEP, block.v);
    fc_ptx_cp_async_commit();
}

/* The first stage, which has no values of a step before. */
template <typename T, typename S> __device__ __forceinline__ void copy_first(Copies<T> &copies, const Block<T> &block)
{
    const int32_t left = block.count - copies.first;
    copy_rows<T, S, S::STEPS>(copies, 0, copies.k, block.k_stride, left, block.k);
    if constexpr (S::STEPS > 1)
        copy_rows<T, S, S::STEPS - 1>(copies, S::V_OFFSET + S::TILE_BYTES, copies.v, block.v_stride, left, block.v);
    fc_ptx_cp_async_commit();
}

/* Waits until all but the latest PENDING groups of copies are there, for all who read them. */
template <typename S, int PENDING> __device__ __forceinline__ void await_copies()
{
    fc_ptx_cp_async_wait<PENDING>();
    if constexpr (S::COPIES_ALONE)
        __syncwarp();
    else
        __syncthreads();
}

/* The tile's query rows to `to`. There is a row 0. */
template <typename T, typename S> __device__ __forceinline__ void copy_query(uint32_t to, const Block<T> &block)
{
    using Tile = fc_mma_tile<S::HEAD_DIM>;
    constexpr int PASS = PASS_ROWS<S, S::THREADS>;
    const fc_work &work = block.work;
    const int first = threadIdx.x / Tile::PIECES, piece = threadIdx.x % Tile::PIECES;
    const bool is_column = piece * FC_PIECE_ELEMENTS < block.head_dim;
    const int column = is_column ? piece * FC_PIECE_ELEMENTS : 0;
    if (S::ROWS < PASS && first >= S::ROWS)
        return;
    if (work.segment->packed_heads == 1 && work.row_count == S::ROWS) {
        const int64_t stride = work.segment->q_token_stride;
        const T *from = fc_work_q<T>(work, 0) + first * stride + column;
#pragma unroll
        for (int row = 0; row < S::ROWS; row += PASS) {
            fc_ptx_cp_async_16(to + Tile::offset(first + row, piece), from, is_column ? FC_PIECE_BYTES : 0);
            from += PASS * stride;
        }
        return;
    }
#pragma unroll 1
    for (int row = first; row < S::ROWS; row += PASS)
        fc_ptx_cp_async_16(to + Tile::offset(row, piece), fc_work_q<T>(work, min(row, work.row_count - 1)) + column,
                           row < work.row_count && is_column ? FC_PIECE_BYTES : 0);
}

} // namespace fused

#endif
