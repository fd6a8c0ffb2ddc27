/* How the rung `fused` ends: sums over lanes and key warps, and the answer or a partial result to global memory. Only
 * fused.cu includes this. */
#ifndef FC_KERNELS_FUSED_END_CUH
#define FC_KERNELS_FUSED_END_CUH

#include "kernels/element.cuh"
#include "kernels/fused_shape.cuh"

namespace fused
{

/* A row's sum over the four lanes that share it. */
template <typename S> __device__ void gather_sums(State<S> &state)
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float &sum = state.sum[m][half];
            sum += __shfl_xor_sync(0xffffffff, sum, 1);
            sum += __shfl_xor_sync(0xffffffff, sum, 2);
        }
    }
}

/* A split's partial result of the warp's rows, straight from the registers. */
template <typename S>
__device__ void leave_rows(const fc_device_launch &launch, const fc_work &work, const State<S> &state, int warp_row)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = warp_row + m * 16 + half * 8 + lane / 4;
            if (row >= work.row_count)
                continue;
            float *partial = fc_work_partial(launch, work, work.split, row);
#pragma unroll
            for (int n = 0; n < S::HEAD_DIM / 8; n++) {
                if (n * 8 < launch.head_dim)
                    *reinterpret_cast<float2 *>(partial + n * 8 + lane % 4 * 2) =
                        make_float2(state.out[m][n][2 * half], state.out[m][n][2 * half + 1]);
            }
            if (lane % 4 == 0)
                fc_partial_put_sums(partial, launch.head_dim, {state.reference[m][half], state.sum[m][half]});
        }
    }
}

/* The warp's rows from shared memory, where they lie rounded, in whole pieces to where they belong. */
template <typename T, typename S>
__device__ __forceinline__ void send_rows(const unsigned char *from, const fc_work &work, int warp_row, int head_dim)
{
    using Tile = fc_mma_tile<S::HEAD_DIM>;
    constexpr int PASS = 32 / Tile::PIECES; /* rows at a time */
    const int lane = threadIdx.x % 32, piece = lane % Tile::PIECES, first = lane / Tile::PIECES;
    const int rows = min(S::WARP_ROWS, work.row_count - warp_row);
    if (piece * FC_PIECE_ELEMENTS >= head_dim || first >= rows)
        return;
    T *to = fc_work_out<T>(work, warp_row + first) + piece * FC_PIECE_ELEMENTS;
    if (work.segment->packed_heads == 1 && rows == S::WARP_ROWS) {
        const int64_t stride = work.segment->out_token_stride;
#pragma unroll
        for (int row = 0; row < S::WARP_ROWS; row += PASS) {
            *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(from + Tile::offset(first + row, piece));
            to += PASS * stride;
        }
        return;
    }
#pragma unroll 1
    for (int row = first; row < rows; row += PASS)
        *reinterpret_cast<uint4 *>(fc_work_out<T>(work, warp_row + row) + piece * FC_PIECE_ELEMENTS) =
            *reinterpret_cast<const uint4 *>(from + Tile::offset(row, piece));
}

/* The LSE of the warp's rows: a lane takes one of those that its four lanes share. */
template <typename S>
__device__ __forceinline__ void write_lse(const fc_work &work, const fc_scoring &scoring, const State<S> &state,
                                          int warp_row)
{
    const int lane = threadIdx.x % 32, which = lane % 4, row = warp_row + which * 8 + lane / 4;
    float reference = 0.0f, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 2 * S::M; i++) {
        reference = which == i ? state.reference[i / 2][i % 2] : reference;
        sum = which == i ? state.sum[i / 2][i % 2] : sum;
    }
    if (which < 2 * S::M && row < work.row_count)
        *fc_work_lse(work, row) = fc_softmax_lse(scoring, reference, sum);
}

/* The answer for the warp's rows, by way of shared memory at `to`. */
template <typename T, typename S>
__device__ __forceinline__ void write_rows(unsigned char *to, const fc_work &work, const fc_scoring &scoring,
                                           const State<S> &state, int warp_row, int head_dim)
{
    using Tile = fc_mma_tile<S::HEAD_DIM>;
    static_assert(S::M <= 2, "four lanes for the rows of a quarter");
    const int lane = threadIdx.x % 32;
    unsigned char *at[8]; /* pieces of the lane's first row; those of rows apart by 8 are swizzled alike */
#pragma unroll
    for (int n = 0; n < 8; n++)
        at[n] = to + Tile::offset(lane / 4, n) + lane % 4 * 4;
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float sum = state.sum[m][half], inverse = sum > 0.0f ? fc_ptx_rcp(sum) : 0.0f;
#pragma unroll
            for (int n = 0; n < S::HEAD_DIM / 8; n++)
                *reinterpret_cast<uint32_t *>(at[n % 8] + (m * 16 + half * 8) * Tile::ROW_BYTES + n / 8 * 128) =
                    fc_pack_pair<T>(state.out[m][n][2 * half] * inverse, state.out[m][n][2 * half + 1] * inverse);
        }
    }
    __syncwarp();
    send_rows<T, S>(to, work, warp_row, head_dim);
    write_lse<S>(work, scoring, state, warp_row);
}

/* Key warps leave their parts in shared memory. */
template <typename S>
__device__ void leave_parts(unsigned char *shared, const State<S> &state, int warp_row, int key_warp)
{
    const int lane = threadIdx.x % 32;
    fc_partial_sums *sums = reinterpret_cast<fc_partial_sums *>(shared) + key_warp * S::ROWS;
    float *parts = reinterpret_cast<float *>(shared + S::PARTS_OFFSET) + key_warp * S::ROWS * S::PART_PITCH;
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = warp_row + m * 16 + half * 8 + lane / 4;
#pragma unroll
            for (int n = 0; n < S::HEAD_DIM / 8; n++)
                *reinterpret_cast<float2 *>(parts + row * S::PART_PITCH + n * 8 + lane % 4 * 2) =
                    make_float2(state.out[m][n][2 * half], state.out[m][n][2 * half + 1]);
            if (lane % 4 == 0)
                sums[row] = {state.reference[m][half], state.sum[m][half]};
        }
    }
}

/* Adds four columns of a row over the key warps, in their order. */
template <typename S>
__device__ __forceinline__ fc_partial_sums add_parts(const unsigned char *shared, const fc_scoring &scoring, int row,
                                                     int column, float4 &total)
{
    const fc_partial_sums *sums = reinterpret_cast<const fc_partial_sums *>(shared) + row;
    const float *parts = reinterpret_cast<const float *>(shared + S::PARTS_OFFSET) + row * S::PART_PITCH + column;
    fc_partial_sums all = {-INFINITY, 0.0f};
#pragma unroll
    for (int warp = 0; warp < S::KEY_WARPS; warp++)
        all.largest = fmaxf(all.largest, sums[warp * S::ROWS].largest);
#pragma unroll
    for (int warp = 0; warp < S::KEY_WARPS; warp++) {
        const fc_partial_sums part = sums[warp * S::ROWS];
        const float rescale = fc_softmax_rescale(scoring, part.largest, all.largest);
        all.sum = fmaf(part.sum, rescale, all.sum);
        total = fc_fma_four(*reinterpret_cast<const float4 *>(parts + warp * S::ROWS * S::PART_PITCH), rescale, total);
    }
    return all;
}

/* What the key warps left together: the answer, or a split's partial result. */
template <typename T, typename S>
__device__ __forceinline__ void write_parts(const unsigned char *shared, const fc_device_launch &launch,
                                            const fc_work &work, const fc_scoring &scoring)
{
    constexpr int PIECES = S::HEAD_DIM / 4;
#pragma unroll 1
    for (int index = threadIdx.x; index < work.row_count * PIECES; index += S::THREADS) {
        const int row = index / PIECES, column = index % PIECES * 4;
        float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (column >= launch.head_dim)
            continue;
        const fc_partial_sums all = add_parts<S>(shared, scoring, row, column, total);
        fc_merge_put<T>(launch, work, scoring, row, column, all, total);
    }
}

} // namespace fused

#endif
