/* The end of a piece of work of `hopper`: groups of keys meet, rows are written. */
#ifndef FC_KERNELS_HOPPER_END_CUH
#define FC_KERNELS_HOPPER_END_CUH

#include "kernels/hopper_rows.cuh"

namespace
{

#ifdef FC_PTX_HOPPER

/* Groups of keys meet: each thread leaves half of its values to the one that has the same rows and columns in the other
 * group, and adds up the other half of both. */
template <typename Shape>
__device__ __forceinline__ void meet(Shared<Shape> &shared, const Place &place, float factor, Rows &rows,
                                     const float (&out)[Shape::VALUES],
                                     float (&half)[Shape::VALUES / Shape::KEY_GROUPS])
{
    constexpr int HALF = Shape::VALUES / 2;
    const int thread = (int)threadIdx.x % WARPGROUP, other = place.consumer ^ Shape::ROW_GROUPS;
    const bool is_upper = place.key_group == 1;
    float4(&left)[Shape::MET_FOURS][Shape::MET_THREADS] = shared.met[other];
    const float4(&found)[Shape::MET_FOURS][Shape::MET_THREADS] = shared.met[place.consumer];
    static_assert(Shape::KEY_GROUPS == 2 && HALF % 4 == 0, "halves, in float4");
    fc_ptx_bar_sync(Shape::FIRST_MEETING + place.row_group,
                    2 * WARPGROUP); /* what was left for the item before has been read */
#pragma unroll
    for (int i = 0; i < HALF; i += 4)
        left[i / 4][thread] = is_upper
                                  ? make_float4(out[i], out[i + 1], out[i + 2], out[i + 3])
                                  : make_float4(out[HALF + i], out[HALF + i + 1], out[HALF + i + 2], out[HALF + i + 3]);
    left[HALF / 4][thread] = make_float4(rows.largest[0], rows.largest[1], rows.sum[0], rows.sum[1]);
    fc_ptx_bar_sync(Shape::FIRST_MEETING + place.row_group, 2 * WARPGROUP);
    const float4 theirs = found[HALF / 4][thread];
    const float largest[THREAD_ROWS] = {theirs.x, theirs.y}, sum[THREAD_ROWS] = {theirs.z, theirs.w};
    float own_share[THREAD_ROWS], their_share[THREAD_ROWS];
    for (int row = 0; row < THREAD_ROWS; row++) {
        const float before = rows.largest[row], after = fmaxf(before, largest[row]), shift = shift_of(after, factor);
        own_share[row] = before == -INFINITY ? 0.0f : fc_ptx_ex2(shift_of(before, factor) - shift);
        their_share[row] = largest[row] == -INFINITY ? 0.0f : fc_ptx_ex2(shift_of(largest[row], factor) - shift);
        rows.sum[row] = rows.sum[row] * own_share[row] + sum[row] * their_share[row];
        rows.largest[row] = after;
    }
#pragma unroll
    for (int i = 0; i < HALF; i += 4) {
        const float4 four = found[i / 4][thread];
        const float their[4] = {four.x, four.y, four.z, four.w};
        for (int j = 0; j < 4; j++)
            half[i + j] =
                (is_upper ? out[HALF + i + j] : out[i + j]) * own_share[j / 2] + their[j] * their_share[j / 2];
    }
}

/* Word w of thread t of a quad becomes word t of its thread w: columns that lay 2 a thread come to lie 8 a thread. */
__device__ __forceinline__ void transpose_quad(uint32_t (&words)[4], int lane)
{
    const bool is_odd = lane % 2 == 1, is_upper = lane % 4 >= 2;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        const uint32_t other = __shfl_xor_sync(~0u, is_odd ? words[i] : words[i + 1], 1);
        words[i] = is_odd ? other : words[i];
        words[i + 1] = is_odd ? words[i + 1] : other;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t other = __shfl_xor_sync(~0u, is_upper ? words[i] : words[i + 2], 2);
        words[i] = is_upper ? other : words[i];
        words[i + 2] = is_upper ? words[i + 2] : other;
    }
}

/* One of the thread's rows: 32 columns at a time, 16 bytes a thread. `columns`: that there are. */
template <typename T, int N>
__device__ __forceinline__ void write_values(T *to, bool is_real, const float (&out)[N], int row, float inverse,
                                             int lane, int columns)
{
#pragma unroll
    for (int i = 0; i < N; i += 16) {
        uint32_t words[4];
        const int column = 2 * i + lane % 4 * 8;
        for (int j = 0; j < 4; j++) {
            const int at = i + 4 * j + 2 * row;
            words[j] = fc_pack_pair<T>(out[at] * inverse, out[at + 1] * inverse);
        }
        transpose_quad(words, lane);
        if (is_real && column < columns)
            *reinterpret_cast<uint4 *>(to + column) = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

/* The rows' LSE: of a quad, whose sums these are, a thread each. */
__device__ __forceinline__ void write_lse(const Item &item, const Place &place, const Rows &rows,
                                          const float (&sums)[THREAD_ROWS])
{
    const bool is_second = place.lane % 2 == 1;
    const int32_t row = place.row + (is_second ? 8 : 0);
    const float sum = is_second ? sums[1] : sums[0], largest = is_second ? rows.largest[1] : rows.largest[0];
    const float factor = fc_softmax_factor(item.scoring);
    /* The weights are relative to the shift, a rounded product: what that lost, 2^lost too much in every weight. */
    const float lost = fmaf(largest, factor, -shift_of(largest, factor));
    if (place.lane % 4 < 2 && row >= item.first_real)
        item.lse[row] = fc_softmax_lse(item.scoring, largest, sum * fc_ptx_ex2(-lost));
}

/* `column`: the first of the thread's quad. */
template <typename T, int N>
__device__ __forceinline__ void write_rows(const Item &item, const Place &place, const Rows &rows,
                                           const float (&out)[N], int column, int head_dim)
{
    const float sums[THREAD_ROWS] = {quad_sum(rows.sum[0]), quad_sum(rows.sum[1])};
    T *to = static_cast<T *>(item.out) + place.row * item.out_stride + column;
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; i++)
        write_values(to + 8 * i * item.out_stride, place.row + 8 * i >= item.first_real, out, i,
                     fc_softmax_inverse(sums[i]), place.lane, head_dim - column);
    if (column == 0)
        write_lse(item, place, rows, sums);
}

constexpr int SENT_BOX_BYTES = WARP_ROWS * BOX_ROW_BYTES;

/* Where a row's 8 columns number `piece` lie among a warp's boxes: under the 128-byte swizzle. */
__device__ __forceinline__ uint32_t sent_piece(uint32_t row, uint32_t piece)
{
    return piece / 8 * SENT_BOX_BYTES + row * BOX_ROW_BYTES + (piece % 8 ^ row % 8) * (uint32_t)sizeof(uint4);
}

/* The same by way of shared memory and the copy engine, each warp its rows: it goes on while they are on their way.
 * Rows of which the first lie before row 0 the warp brings itself: a store that begins before a tensor is an illegal
 * instruction, though no load is. */
template <typename T, typename Shape>
__device__ __forceinline__ void send_rows(Shared<Shape> &shared, const Launch &launch, const Item &item,
                                          const Place &place, const Rows &rows, const float (&out)[Shape::VALUES])
{
    const float sums[THREAD_ROWS] = {quad_sum(rows.sum[0]), quad_sum(rows.sum[1])};
    const float inverse[THREAD_ROWS] = {fc_softmax_inverse(sums[0]), fc_softmax_inverse(sums[1])};
    const int warp = (int)threadIdx.x / 32 % WARPS, first_row = place.row_group * GROUP_ROWS + warp * WARP_ROWS;
    const unsigned char *boxes = &shared.out[place.row_group][warp * Shape::BOXES * SENT_BOX_BYTES];
    const uint32_t address = fc_ptx_shared_address(boxes);
    uint32_t lane = (uint32_t)place.lane;
    fc_ptx_wgmma_keep(lane); /* addresses are made anew: kept from turn to turn they would be spilled */
    /* Of the four matrices that are stored at once, the second has the rows 8 below, the others the next 8 columns:
     * this lane's row, and whether it is of the next columns. */
    const uint32_t row = lane % WARP_ROWS, next = lane / WARP_ROWS;
    if (place.lane == 0)
        fc_ptx_tma_store_wait_read(); /* the rows of the piece of work before */
    __syncwarp();
#pragma unroll
    for (int i = 0; i < Shape::VALUES; i += 8) {
        uint32_t words[4];
        for (int j = 0; j < 4; j++)
            words[j] = fc_pack_pair<T>(out[i + 2 * j] * inverse[j % 2], out[i + 2 * j + 1] * inverse[j % 2]);
        fc_ptx_stmatrix_x4(address + sent_piece(row, i / 4 + next), words);
    }
    fc_ptx_fence_proxy_async();
    __syncwarp();
    if (first_row < item.first_real) {
        T *to = static_cast<T *>(item.out) + (first_row + (int32_t)row) * item.out_stride;
        for (int piece = (int)next; piece * 8 < launch.head_dim; piece += 2) {
            if (first_row + (int32_t)row >= item.first_real)
                *reinterpret_cast<uint4 *>(to + piece * 8) =
                    *reinterpret_cast<const uint4 *>(boxes + sent_piece(row, piece));
        }
    } else if (place.lane == 0) {
        for (int box = 0; box < Shape::BOXES; box++)
            fc_ptx_tma_store_3d(maps_of(launch, item.segment) + FC_HOPPER_MAP_OUT * MAP_BYTES,
                                address + box * SENT_BOX_BYTES, box * BOX_COLUMNS, item.q_head,
                                item.first_row + first_row);
        fc_ptx_tma_store_commit();
    }
    write_lse(item, place, rows, sums);
}

#endif /* FC_PTX_HOPPER */

} // namespace

#endif
