/* Tiles of 16-bit elements between shared memory and the operands of mma.m16n8k16.
 *
 * A tile is rows of HEAD_DIM elements, in pieces of 16 bytes (8 elements). ldmatrix reads the same piece of 8 rows at a
 * time, and so do the warps that copy a tile in: eight pieces lie in eight different groups of 4 banks if and only if
 * their places differ modulo 8. Hence the swizzle, piece p of row r at place p ^ s(r):
 *
 *   HEAD_DIM a multiple of 64: rows start at place 0 modulo 8, and s(r) = r % 8 takes each value once in 8 rows.
 *   else a multiple of 32: rows start at place 0 and 4 in turn, and s(r) = r / 2 % 4 takes each value once for the
 *   even rows and once for the odd ones; bit 2 of p ^ s(r) is that of p, so the two sets of four stay apart.
 *
 * s(r) has as many bits as the number of pieces in a row has factors of two at least: places stay within the row. A row
 * written by one warp (HEAD_DIM / 8 lanes, consecutive pieces) is a permutation of consecutive pieces: no conflicts.
 * For addresses: rows apart by 8 have the same s, and p ^ s(r) = (p & ~7) + ((p & 7) ^ s(r)), so an operand's address
 * is one of a few values of the lane plus a constant.
 */
#ifndef FC_KERNELS_MMA_TILE_CUH
#define FC_KERNELS_MMA_TILE_CUH

#include "kernels/ptx.cuh"

#include <cstring>

constexpr int FC_PIECE_ELEMENTS = 8;
constexpr int FC_PIECE_BYTES = 16;

template <int HEAD_DIM> struct fc_mma_tile {
    static_assert(HEAD_DIM % 32 == 0, "the swizzle needs four pieces");
    static constexpr int PIECES = HEAD_DIM / FC_PIECE_ELEMENTS; /* in a row */
    static constexpr int ROW_BYTES = HEAD_DIM * 2;
    static constexpr uint32_t SWIZZLE_BITS = HEAD_DIM % 64 == 0 ? 7 : 3;

    static __device__ __forceinline__ uint32_t swizzle(int row)
    {
        return (uint32_t)(HEAD_DIM % 64 == 0 ? row : row / 2) & SWIZZLE_BITS;
    }

    /* Bytes from the tile's start to a piece. */
    static __device__ __forceinline__ uint32_t offset(int row, int piece)
    {
        return row * ROW_BYTES + ((uint32_t)piece ^ swizzle(row)) * FC_PIECE_BYTES;
    }
};

/* How far from a tile's start a lane finds its row of the operand at row 0, column 0. Matrices of an ldmatrix.x4 come
 * from 16 rows x 16 columns; lanes of matrix i give the rows of
 *     by columns: half i / 2 of the rows, half i % 2 of the columns   (K: b0 and b1 of 8 keys, then of the next 8)
 *     by rows:    half i % 2 of the rows, half i / 2 of the columns   (Q: a0 to a3; V transposed: b0 and b1 of 8
 * columns, then of the next 8) */
template <int HEAD_DIM> static __device__ __forceinline__ uint32_t fc_mma_lane(bool is_by_columns)
{
    const int lane = threadIdx.x % 32, matrix = lane / 8;
    const int row = lane % 8 + (is_by_columns ? matrix / 2 : matrix % 2) * 8;
    return fc_mma_tile<HEAD_DIM>::offset(row, is_by_columns ? matrix % 2 : matrix / 2);
}

/* The address of the lane's row of the 16 x 16 elements at row 16 * row_step, column 16 * column_step. lane: the same
 * at row 0, column 0. Tiles start at multiples of 128 bytes, so the swizzled bits of a column are bits of the address.
 */
template <int HEAD_DIM>
static __device__ __forceinline__ uint32_t fc_mma_address(uint32_t lane, int row_step, int column_step)
{
    constexpr uint32_t TWISTED = fc_mma_tile<HEAD_DIM>::SWIZZLE_BITS * FC_PIECE_BYTES;
    const uint32_t column = column_step * 2 * FC_PIECE_BYTES;
    return (lane ^ (column & TWISTED)) + (column & ~TWISTED) + row_step * 16 * fc_mma_tile<HEAD_DIM>::ROW_BYTES;
}

/* Two numbers rounded to T, as operands hold them. */
template <typename T> static __device__ __forceinline__ uint32_t fc_pack_pair(float low, float high);

template <> __device__ __forceinline__ uint32_t fc_pack_pair<__half>(float low, float high)
{
    const __half2 pair = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

template <> __device__ __forceinline__ uint32_t fc_pack_pair<__nv_bfloat16>(float low, float high)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

#endif
