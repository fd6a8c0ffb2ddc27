/* hopper: every agent of an SM has a job of its own. For sm_90a.
 *
 *     producer warp     copy engine: Q, then K and V step by step, into shared memory, as far ahead as stages allow
 *     consumer          a warpgroup each owns 64 query rows; Q K^T and P V on the tensor cores, softmax in its threads
 *     warpgroups
 *
 *              keys a step                        A consumer's accumulators stay in registers: the logits S (64 x keys)
 *             +-----------+                       and the output O (64 x D). What is S's fragment of an accumulator is
 *     64 rows |  S -> P   |                       P's fragment of a left operand, so P never leaves them, either.
 *             +-----------+
 *             | V keys xD |  ->  O 64 x D
 *             +-----------+
 *
 * Tensor cores and softmax overlap twice, as FlashAttention-3 does it (Shah, Bikshandi, Zhang, Thakkar, Ramani, Dao,
 * 2024). Within a warpgroup: S of the next step and O of this one are started together, the softmax of the next step
 * runs while O is still being made.
 *
 *     tensor cores   S0     S1 O0        S2 O1        S3 O2        O3
 *     threads            P0     ....P1       ....P2       ....P3
 *
 * Between warpgroups: a token goes round, who has it starts its products; so one's softmax falls on another's products.
 *
 * A row's largest logit moves only when a new one is so much larger that weights would leave the half types' range
 * otherwise (FlashAttention-4's idea): weights are relative to an earlier largest logit, up to 2^8, which divides out.
 *
 * The grid is one block an SM; blocks draw pieces of work, longest first, until there are no more. Keys are walked from
 * the last to the first.
 *
 * The copy engine zero-fills what is outside a tensor: rows at or past q_len and kv_len, columns at or past head_dim.
 */
#include "kernels/cuda_launch.h"
#include "kernels/enqueue.cuh"
#include "kernels/hopper_feed.cuh"
#include "kernels/hopper_maps.cuh"
#include "kernels/mma_tile.cuh"
#include "kernels/softmax.cuh"
#include "kernels/work.cuh"

namespace
{

#ifdef FC_PTX_HOPPER

constexpr int FIRST_TOKEN = 1;           /* named barrier; 0 is __syncthreads() */
constexpr float WEIGHT_LOG2_MOST = 8.0f; /* of weights, relative to the row's largest logit */

/* --- a consumer: a warpgroup ------------------------------------------------------------------------------------- */

/* A thread's two rows of the 64, GROUP_ROWS / 8 apart. */
constexpr int THREAD_ROWS = 2;

/* Where the thread is: row and column of its first logit within the warpgroup's. */
struct Place {
    int consumer, warp, lane;
    int32_t row; /* of the tile; the other one is 8 below */
    int column;
};

__device__ __forceinline__ Place place_of_thread()
{
    Place p;
    p.consumer = __shfl_sync(~0u, (int)threadIdx.x / WARPGROUP - 1, 0); /* the compiler sees: the same in a warp */
    p.warp = (int)threadIdx.x / 32 % WARPS;
    p.lane = (int)threadIdx.x % 32;
    p.row = p.consumer * GROUP_ROWS + p.warp * 16 + p.lane / 4;
    p.column = p.lane % 4 * 2;
    return p;
}

/* What the thread's rows see and have seen. */
struct Rows {
    int32_t begin[THREAD_ROWS], end[THREAD_ROWS];
    int32_t all_begin, all_end; /* keys that every row of the warpgroup sees */
    float largest[THREAD_ROWS]; /* logits the weights are relative to */
    float sum[THREAD_ROWS];     /* of this thread's weights */
};

/* Rows past the tile's last are taken for it. */
__device__ __forceinline__ Rows make_rows(const fc_work &work, const Place &place)
{
    const int32_t last = work.row_count - 1, first_row = min(place.consumer * GROUP_ROWS, last);
    Rows rows;
    for (int i = 0; i < THREAD_ROWS; i++) {
        rows.begin[i] = fc_work_begin(work, min(place.row + 8 * i, last));
        rows.end[i] = fc_work_end(work, min(place.row + 8 * i, last));
        rows.largest[i] = -INFINITY;
        rows.sum[i] = 0.0f;
    }
    rows.all_begin = fc_work_begin(work, min(first_row + GROUP_ROWS - 1, last));
    rows.all_end = fc_work_end(work, first_row);
    return rows;
}

__device__ __forceinline__ Rows nothing_seen()
{
    return {{0, 0}, {0, 0}, 0, 0, {-INFINITY, -INFINITY}, {0.0f, 0.0f}};
}

__device__ __forceinline__ fc_scoring scoring_of(const fc_work &work)
{
    return fc_scoring_make(work.segment->scale, work.segment->softcap);
}

/* Gives a stage back, or the query: this warp's tensor cores have read it. */
__device__ __forceinline__ void release(const uint64_t &empty, const Place &place)
{
    if (place.lane == 0)
        fc_ptx_mbarrier_arrive(fc_ptx_shared_address(&empty));
}

template <int N> __device__ __forceinline__ void keep(float (&values)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        fc_ptx_wgmma_keep(values[i]);
}

/* Weights as a left operand. */
template <typename Shape> using Weights = uint32_t[Shape::KEYS / STEP_COLUMNS][4];

/* Starts S = Q K^T: a group of wgmmas. */
template <typename T, typename Shape>
__device__ __forceinline__ void start_logits(float (&logits)[Shape::KEYS / 2], uint32_t q, uint32_t k)
{
    keep(logits);
    fc_ptx_wgmma_keep(q); /* descriptors are made anew: kept over the loop they would be spilled */
    fc_ptx_wgmma_fence();
#pragma unroll
    for (int d = 0; d < Shape::HEAD_DIM; d += STEP_COLUMNS) {
        const int box = d / BOX_COLUMNS, within = d % BOX_COLUMNS * 2;
        const uint64_t a = fc_ptx_wgmma_descriptor(q + box * Shape::Q_BOX_BYTES + within, 0, ATOM_BYTES);
        const uint64_t b = fc_ptx_wgmma_descriptor(k + box * Shape::KV_BOX_BYTES + within, 0, ATOM_BYTES);
        fc_ptx_wgmma_ss<T, Shape::KEYS>(logits, a, b, d > 0);
    }
    fc_ptx_wgmma_commit();
}

/* Starts O += P V: the next group. */
template <typename T, typename Shape>
__device__ __forceinline__ void start_values(float (&out)[Shape::HEAD_DIM / 2], Weights<Shape> &weights, uint32_t v)
{
    keep(out);
#pragma unroll
    for (int step = 0; step < Shape::KEYS / STEP_COLUMNS; step++) {
        for (int i = 0; i < 4; i++)
            fc_ptx_wgmma_keep(weights[step][i]);
    }
    fc_ptx_wgmma_fence();
#pragma unroll
    for (int step = 0; step < Shape::KEYS / STEP_COLUMNS; step++) {
        const uint32_t rows = v + step * STEP_COLUMNS * BOX_ROW_BYTES;
        fc_ptx_wgmma_rs<T, Shape::HEAD_DIM>(out, weights[step],
                                            fc_ptx_wgmma_descriptor(rows, Shape::KV_BOX_BYTES, ATOM_BYTES));
    }
    fc_ptx_wgmma_commit();
}

template <typename Shape>
__device__ __forceinline__ void finish_values(float (&out)[Shape::HEAD_DIM / 2], Weights<Shape> &weights)
{
    fc_ptx_wgmma_wait<0>();
    keep(out);
#pragma unroll
    for (int step = 0; step < Shape::KEYS / STEP_COLUMNS; step++) {
        for (int i = 0; i < 4; i++)
            fc_ptx_wgmma_keep(weights[step][i]);
    }
}

/* Caps the logits where there is a cap, and drops keys that their row does not see; `key`: the step's first. */
template <int N>
__device__ __forceinline__ void cap_and_mask(float (&logits)[N], const fc_scoring &scoring, const Rows &rows,
                                             int32_t key, int column)
{
    if (scoring.softcap > 0.0f) {
#pragma unroll
        for (int i = 0; i < N; i++)
            logits[i] = fc_logit(scoring, logits[i]);
    }
    if (key >= rows.all_begin && key + 2 * N <= rows.all_end)
        return;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int32_t at = key + column + i / 4 * 8 + i % 2;
        const int row = i % 4 / 2;
        if (at < rows.begin[row] || at >= rows.end[row])
            logits[i] = -INFINITY;
    }
}

__device__ __forceinline__ float quad_max(float value)
{
    value = fmaxf(value, __shfl_xor_sync(~0u, value, 1));
    return fmaxf(value, __shfl_xor_sync(~0u, value, 2));
}

__device__ __forceinline__ float quad_sum(float value)
{
    value += __shfl_xor_sync(~0u, value, 1);
    return value + __shfl_xor_sync(~0u, value, 2);
}

/* A row that has seen nothing has no logits but -inf. Rounded for itself: fused with the difference of two shifts that
 * are the same, it would leave of it what rounding lost, and every step multiply the sums with a little less or more
 * than 1. */
__device__ __forceinline__ float shift_of(float largest, float factor)
{
    return largest == -INFINITY ? 0.0f : __fmul_rn(largest, factor);
}

/* What a step's logits do to the rows. */
struct Move {
    float shift[THREAD_ROWS];   /* what the weights are relative to, as a power of two */
    float rescale[THREAD_ROWS]; /* what sums so far are multiplied with */
    bool is_needed;             /* rescale is not 1 for some row of the warp */
};

/* Moves what the rows' weights are relative to, where the step's logits are too large for it. */
template <int N> __device__ __forceinline__ Move move_largest(const float (&logits)[N], float factor, Rows &rows)
{
    float largest[4] = {logits[0], logits[1], logits[2], logits[3]};
    bool moves = false;
    Move move;
#pragma unroll
    for (int i = 4; i < N; i++)
        largest[i % 4] = fmaxf(largest[i % 4], logits[i]);
#pragma unroll
    for (int row = 0; row < THREAD_ROWS; row++) {
        const float before = rows.largest[row], now = quad_max(fmaxf(largest[2 * row], largest[2 * row + 1]));
        const bool is_larger = (now - before) * factor > WEIGHT_LOG2_MOST; /* not where both are -inf */
        const float after = is_larger ? now : before;
        move.shift[row] = shift_of(after, factor);
        move.rescale[row] = before == -INFINITY ? 0.0f : fc_ptx_ex2(shift_of(before, factor) - move.shift[row]);
        if (!is_larger) /* exactly 1, whatever a compiler makes of the difference */
            move.rescale[row] = 1.0f;
        rows.largest[row] = after;
        rows.sum[row] *= move.rescale[row];
        moves = moves || is_larger;
    }
    move.is_needed = __any_sync(~0u, moves);
    return move;
}

/* Logits become weights, which are added to the rows' sums. */
template <int N>
__device__ __forceinline__ void make_weights(float (&logits)[N], float factor, const Move &move, Rows &rows)
{
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < N; i++) {
        logits[i] = fc_softmax_weight_shifted(factor, logits[i], move.shift[i % 4 / 2]);
        sum[i % 4] += logits[i];
    }
    for (int row = 0; row < THREAD_ROWS; row++)
        rows.sum[row] += sum[2 * row] + sum[2 * row + 1];
    keep(logits); /* now, not when they are wanted */
}

template <typename T, typename Shape>
__device__ __forceinline__ void round_weights(const float (&logits)[Shape::KEYS / 2], Weights<Shape> &weights)
{
#pragma unroll
    for (int i = 0; i < Shape::KEYS / 4; i++)
        weights[i / 4][i % 4] = fc_pack_pair<T>(logits[2 * i], logits[2 * i + 1]);
}

template <int N> __device__ __forceinline__ void rescale_values(float (&out)[N], const float (&rescale)[THREAD_ROWS])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        out[i] *= rescale[i % 4 / 2];
}

/* 0: sums of weights are not. The compiler does not know, so what waits for this waits for the weights. Without it they
 * are made after the wait for the product that they should run under (docs/kernel-notes.md). */
__device__ __forceinline__ uint32_t is_negative(const Rows &rows)
{
    return rows.sum[0] + rows.sum[1] < 0.0f;
}

/* The token of the right to start products: goes round among the consumers. */
template <typename Shape> __device__ __forceinline__ void take_token(const Place &place)
{
    if constexpr (Shape::CONSUMERS > 1)
        fc_ptx_bar_sync(FIRST_TOKEN + place.consumer, 2 * WARPGROUP);
}

template <typename Shape> __device__ __forceinline__ void pass_token(const Place &place)
{
    if constexpr (Shape::CONSUMERS > 1)
        fc_ptx_bar_arrive(FIRST_TOKEN + (place.consumer + 1) % Shape::CONSUMERS, 2 * WARPGROUP);
}

/* Zeroes values that no row of the tile sees: a weight of 0 does not make 0 of a NaN. All consumers share the work. */
template <typename Shape> __device__ __forceinline__ void clear_unseen(unsigned char (&v)[Shape::KV_BYTES], int keys)
{
    constexpr int THREADS = Shape::CONSUMERS * WARPGROUP, PIECES = BOX_ROW_BYTES / (int)sizeof(uint4);
    for (int i = (int)threadIdx.x - WARPGROUP; i < keys * PIECES * Shape::BOXES; i += THREADS) {
        const int box = i / (keys * PIECES), piece = i % (keys * PIECES);
        *reinterpret_cast<uint4 *>(&v[box * Shape::KV_BOX_BYTES + piece * (int)sizeof(uint4)]) = make_uint4(0, 0, 0, 0);
    }
    fc_ptx_fence_proxy_async();
    fc_ptx_bar_sync(FIRST_TOKEN + Shape::CONSUMERS, THREADS);
}

/* Walks through the item's keys, of which there are some: sums and weighted values of the warpgroup's rows. */
template <typename T, typename Shape>
__device__ __forceinline__ void attend(Shared<Shape> &shared, const Item &item, const Place &place, Rings<Shape> &rings,
                                       Rows &rows, float (&out)[Shape::HEAD_DIM / 2])
{
    const uint32_t q = fc_ptx_shared_address(shared.q[place.consumer]);
    float logits[Shape::KEYS / 2] = {};
    uint32_t weights[Shape::KEYS / STEP_COLUMNS][4];
    int32_t step = item.steps - 1, key = item.first_key + step * Shape::KEYS;

    wait_for(shared.k_full[rings.k.stage], rings.k.parity);
    take_token<Shape>(place);
    start_logits<T, Shape>(logits, q, fc_ptx_shared_address(shared.k[rings.k.stage]));
    pass_token<Shape>(place);
    rows = make_rows(item.work, place); /* meanwhile */
    const fc_scoring scoring = scoring_of(item.work);
    const float factor = fc_softmax_factor(scoring);
    fc_ptx_wgmma_wait<0>();
    keep(logits);
    release(shared.k_empty[rings.k.stage], place);
    rings.k.advance();
    if (step == 0)
        release(shared.q_empty[place.consumer], place);
    cap_and_mask(logits, scoring, rows, key, place.column);
    make_weights(logits, factor, move_largest(logits, factor, rows), rows);
    if (step > 0)
        wait_for(shared.k_full[rings.k.stage], rings.k.parity);
    round_weights<T, Shape>(logits, weights);
    while (step > 0) {
        step--;
        key -= Shape::KEYS;
        take_token<Shape>(place);
        start_logits<T, Shape>(logits, q, fc_ptx_shared_address(shared.k[rings.k.stage]));
        wait_for(shared.v_full[rings.v.stage], rings.v.parity);
        start_values<T, Shape>(out, weights, fc_ptx_shared_address(shared.v[rings.v.stage]));
        pass_token<Shape>(place);
        fc_ptx_wgmma_wait<1>();
        keep(logits);
        release(shared.k_empty[rings.k.stage], place);
        rings.k.advance();
        if (step == 0)
            release(shared.q_empty[place.consumer], place);
        cap_and_mask(logits, scoring, rows, key, place.column);
        const Move move = move_largest(logits, factor, rows);
        make_weights(logits, factor, move, rows);
        if (step > 0)
            wait_for(shared.k_full[rings.k.stage], rings.k.parity ^ is_negative(rows));
        finish_values<Shape>(out, weights);
        release(shared.v_empty[rings.v.stage], place);
        rings.v.advance();
        if (move.is_needed)
            rescale_values(out, move.rescale);
        round_weights<T, Shape>(logits, weights);
    }
    wait_for(shared.v_full[rings.v.stage], rings.v.parity);
    if (item.unseen_keys > 0)
        clear_unseen<Shape>(shared.v[rings.v.stage], item.unseen_keys);
    start_values<T, Shape>(out, weights, fc_ptx_shared_address(shared.v[rings.v.stage]));
    finish_values<Shape>(out, weights);
    release(shared.v_empty[rings.v.stage], place);
    rings.v.advance();
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

/* One of the thread's rows: 32 columns at a time, 16 bytes a thread. */
template <typename T, int N>
__device__ __forceinline__ void write_values(T *to, bool is_real, const float (&out)[N], int row, float inverse,
                                             int lane, int head_dim)
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
        if (is_real && column < head_dim)
            *reinterpret_cast<uint4 *>(to + column) = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

template <typename T, int N>
__device__ __forceinline__ void write_rows(const fc_work &work, const Place &place, const Rows &rows,
                                           const float (&out)[N], int head_dim)
{
    const fc_scoring scoring = scoring_of(work);
    const float factor = fc_softmax_factor(scoring);
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; i++) {
        const int32_t row = place.row + 8 * i;
        const bool is_real = row < work.row_count;
        const float sum = quad_sum(rows.sum[i]), largest = rows.largest[i];
        /* The weights are relative to the shift, a rounded product: what that lost, 2^lost too much in every weight. */
        const float lost = fmaf(largest, factor, -shift_of(largest, factor));
        if (is_real && place.column == 0)
            *fc_work_lse(work, row) = fc_softmax_lse(scoring, largest, sum * fc_ptx_ex2(-lost));
        write_values(is_real ? fc_work_out<T>(work, row) : nullptr, is_real, out, i, fc_softmax_inverse(sum),
                     place.lane, head_dim);
    }
}

template <typename T, typename Shape> __device__ void consume(Shared<Shape> &shared, const fc_device_launch &launch)
{
    const Place place = place_of_thread();
    Rings<Shape> rings = {};
    if (place.consumer == Shape::CONSUMERS - 1)
        pass_token<Shape>(place);
    for (uint32_t round = 0;; round++) {
        const Item &item = shared.items[rings.items.stage];
        float out[Shape::HEAD_DIM / 2] = {};
        wait_for(shared.item_full[rings.items.stage], rings.items.parity);
        if (item.steps == NO_MORE)
            break;
        Rows rows = nothing_seen();
        wait_for(shared.q_full[place.consumer], round & 1);
        if (item.steps > 0)
            attend<T, Shape>(shared, item, place, rings, rows, out);
        else
            release(shared.q_empty[place.consumer], place);
        write_rows<T>(item.work, place, rows, out, launch.head_dim);
        __syncwarp(); /* every lane has read what it wants of the item */
        release(shared.item_empty[rings.items.stage], place);
        rings.items.advance();
    }
    if (place.consumer == 0)
        take_token<Shape>(place); /* it comes round a last time */
}

#endif /* FC_PTX_HOPPER */

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::THREADS, 1) hopper_kernel(const __grid_constant__ fc_device_launch launch)
{
#ifdef FC_PTX_HOPPER
    Shared<Shape> &shared = *reinterpret_cast<Shared<Shape> *>(fc_ptx_dynamic_shared());
    static_assert(sizeof(Shared<Shape>) <= SHARED_MOST, "shared memory of a block");
    if (threadIdx.x == 0)
        init_barriers(shared);
    __syncthreads();
    if (threadIdx.x < WARPGROUP) {
        if constexpr (Shape::CONSUMERS > 1)
            fc_ptx_setmaxnreg_less<Shape::PRODUCER_REGISTERS>();
        if (threadIdx.x == 0)
            produce(shared, launch);
        if (threadIdx.x == 32)
            plan(shared, launch);
    } else {
        if constexpr (Shape::CONSUMERS > 1)
            fc_ptx_setmaxnreg_more<Shape::CONSUMER_REGISTERS>();
        consume<T>(shared, launch);
    }
#else
    fc_ptx_trap();
#endif
}

/* --- the host's side --------------------------------------------------------------------------------------------- */

struct Variant {
    fc_device_kernel kernels[2]; /* in the order of fc_dtype; not f32 */
    int rows, threads;
    size_t shared_bytes;
};

template <typename Shape> constexpr Variant variant_of()
{
    return {{hopper_kernel<__half, Shape>, hopper_kernel<__nv_bfloat16, Shape>},
            Shape::ROWS,
            Shape::THREADS,
            sizeof(Shared<Shape>)};
}

const Variant VARIANTS[] = {
#define FC_HOPPER_ROW(head_dim, consumers, keys, stages) variant_of<Tile<head_dim, consumers, keys, stages>>(),
#include "kernels/hopper.def"
#undef FC_HOPPER_ROW
};

const Variant *variant_of_plan(const fc_plan &plan)
{
    const bool is_known = plan.variant < sizeof VARIANTS / sizeof *VARIANTS &&
                          (plan.dtype == FC_F16 || plan.dtype == FC_BF16) &&
                          plan.descriptor_bytes == FC_HOPPER_DESCRIPTOR_BYTES;
    return is_known ? &VARIANTS[plan.variant] : nullptr;
}

} // namespace

extern "C" fc_status fc_cuda_hopper_launch(const fc_launch *launch, cudaStream_t stream)
{
    const Variant *variant = variant_of_plan(launch->plan);
    int device = 0, processors = 0;
    if (variant == nullptr || launch->d_tickets == nullptr || cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
        return FC_INTERNAL;
    const unsigned blocks = launch->block_count < (uint32_t)processors ? launch->block_count : (unsigned)processors;
    const fc_grid grid = {(uint32_t)variant->rows, blocks, (unsigned)variant->threads, variant->shared_bytes};
    return fc_enqueue(variant->kernels[launch->plan.dtype], grid, launch, stream);
}

extern "C" fc_status fc_cuda_hopper_describe(const fc_launch *launch, void *out_descriptors)
{
    return describe_launch(launch, out_descriptors);
}
