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

/* Named barriers; 0 is __syncthreads(). */
constexpr int FIRST_TOKEN = 1;           /* one a consumer */
constexpr float WEIGHT_LOG2_MOST = 8.0f; /* of weights, relative to the row's largest logit */

/* Consumers take turns from so many steps on. In short pieces one would wait for another that ends or begins one. */
constexpr int32_t TURNS_FROM = 16;

/* --- a consumer: a warpgroup ------------------------------------------------------------------------------------- */

/* A thread's two rows of the 64, GROUP_ROWS / 8 apart. */
constexpr int THREAD_ROWS = 2;

/* Where the thread is: its warpgroup's share of the tile; row and column of its first logit within it. */
struct Place {
    int consumer, row_group, key_group, lane;
    int32_t row; /* of the tile; the other one is 8 below */
    int column;
};

template <typename Shape> __device__ __forceinline__ Place place_of_thread()
{
    Place p;
    p.consumer = __shfl_sync(~0u, (int)threadIdx.x / WARPGROUP - 1, 0); /* the compiler sees: the same in a warp */
    p.row_group = p.consumer % Shape::ROW_GROUPS;
    p.key_group = p.consumer / Shape::ROW_GROUPS;
    p.lane = (int)threadIdx.x % 32;
    p.row = p.row_group * GROUP_ROWS + (int)threadIdx.x / 32 % WARPS * 16 + p.lane / 4;
    p.column = p.lane % 4 * 2;
    return p;
}

/* A consumer's part of an item. Groups of keys take every other step; groups of rows skip the first ones, of which they
 * see nothing. */
struct Turn {
    uint32_t count;   /* the item's number */
    uint32_t at, end; /* of the first step, and past the item's last, among all that go through the rings */
    int32_t step;     /* the first, which is the highest; below 0: there is none */
    int32_t skipped;  /* steps before it */
};

template <typename Shape>
__device__ __forceinline__ Turn make_turn(const Item &item, uint32_t count, uint32_t steps_before, const Place &place)
{
    const int32_t first_row = place.row_group * GROUP_ROWS, last_row = min(first_row + GROUP_ROWS, item.row_count) - 1;
    const int32_t last_end = item.first_key + item.steps * Shape::KEYS;
    int32_t skipped = 0;
    if (Shape::KEY_GROUPS == 1)
        skipped =
            first_row > last_row ? item.steps : min((last_end - key_end(item, last_row)) / Shape::KEYS, item.steps);
    return {count, steps_before + place.key_group + skipped, steps_before + item.steps,
            item.steps - 1 - place.key_group - skipped, skipped};
}

/* What the thread's rows see and have seen. */
struct Rows {
    int32_t begin[THREAD_ROWS], end[THREAD_ROWS];
    int32_t all_begin, all_end; /* keys that every row of the warpgroup sees */
    float largest[THREAD_ROWS]; /* logits the weights are relative to */
    float sum[THREAD_ROWS];     /* of this thread's weights */
};

/* Rows past the tile's last are taken for it. */
__device__ __forceinline__ Rows make_rows(const Item &item, const Place &place)
{
    const int32_t last = item.row_count - 1, first_row = min(place.row_group * GROUP_ROWS, last);
    Rows rows;
    for (int i = 0; i < THREAD_ROWS; i++) {
        rows.begin[i] = key_begin(item, min(place.row + 8 * i, last));
        rows.end[i] = key_end(item, min(place.row + 8 * i, last));
        rows.largest[i] = -INFINITY;
        rows.sum[i] = 0.0f;
    }
    rows.all_begin = key_begin(item, min(first_row + GROUP_ROWS - 1, last));
    rows.all_end = key_end(item, first_row);
    return rows;
}

/* Gives a stage back, or the query: this warp's tensor cores have read it. */
__device__ __forceinline__ void release(const uint64_t &empty, const Place &place)
{
    if (place.lane == 0)
        arrive(empty);
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

/* Waits for what start_values() started; PENDING groups that were started later may still be under way. */
template <typename Shape, int PENDING>
__device__ __forceinline__ void finish_values(float (&out)[Shape::VALUES], Weights<Shape> &weights)
{
    fc_ptx_wgmma_wait<PENDING>();
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
    if (key + 2 * N > rows.all_end) {
        const int32_t end[THREAD_ROWS] = {rows.end[0] - key - column, rows.end[1] - key - column};
#pragma unroll
        for (int i = 0; i < N; i++)
            logits[i] = i / 4 * 8 + i % 2 >= end[i % 4 / 2] ? -INFINITY : logits[i];
    }
    if (key < rows.all_begin) {
        const int32_t begin[THREAD_ROWS] = {rows.begin[0] - key - column, rows.begin[1] - key - column};
#pragma unroll
        for (int i = 0; i < N; i++)
            logits[i] = i / 4 * 8 + i % 2 < begin[i % 4 / 2] ? -INFINITY : logits[i];
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
template <typename Shape> __device__ __forceinline__ bool takes_turns(const Item &item)
{
    return Shape::KEY_GROUPS == 1 && Shape::CONSUMERS > 1 && item.steps >= TURNS_FROM;
}

template <typename Shape> __device__ __forceinline__ void take_token(const Place &place, bool takes_turns)
{
    if (takes_turns)
        fc_ptx_bar_sync(FIRST_TOKEN + place.consumer, 2 * WARPGROUP);
}

template <typename Shape> __device__ __forceinline__ void pass_token(const Place &place, bool takes_turns)
{
    if (takes_turns)
        fc_ptx_bar_arrive(FIRST_TOKEN + (place.consumer + 1) % Shape::CONSUMERS, 2 * WARPGROUP);
}

/* Zeroes values that no row of the tile sees: a weight of 0 does not make 0 of a NaN. All consumers that read them
 * share the work. */
template <typename Shape>
__device__ __forceinline__ void clear_unseen(unsigned char (&v)[Shape::KV_BYTES], int keys, const Place &place)
{
    constexpr int THREADS = Shape::ROW_GROUPS * WARPGROUP, PIECES = BOX_ROW_BYTES / (int)sizeof(uint4);
    const int thread = place.row_group * WARPGROUP + (int)threadIdx.x % WARPGROUP;
    for (int i = thread; i < keys * PIECES * Shape::BOXES; i += THREADS) {
        const int box = i / (keys * PIECES), piece = i % (keys * PIECES);
        *reinterpret_cast<uint4 *>(&v[box * Shape::KV_BOX_BYTES + piece * (int)sizeof(uint4)]) = make_uint4(0, 0, 0, 0);
    }
    fc_ptx_fence_proxy_async();
    fc_ptx_bar_sync(FIRST_TOKEN + Shape::CONSUMERS + place.key_group, THREADS);
}

/* V of a step, and of an item's lowest one what may be multiplied with weights. */
template <typename Shape>
__device__ __forceinline__ void wait_for_values(Shared<Shape> &shared, const Item &item, const Place &place,
                                                uint32_t at, int32_t step)
{
    wait_full(shared.v_full, at);
    if (item.unseen_keys > 0) {
        if (step == 0)
            clear_unseen<Shape>(shared.v[at % Shape::STAGES], item.unseen_keys, place);
    }
}

/* Starts a turn: S of its first step. */
template <typename T, typename Shape>
__device__ __forceinline__ void start_turn(Shared<Shape> &shared, const Item &item, const Turn &turn,
                                           const Place &place, float (&logits)[Shape::KEYS / 2])
{
    const uint32_t query = turn.count % Shape::QUERIES;
    const bool has_turns = takes_turns<Shape>(item);
    wait_for(shared.q_full[query][place.row_group], turn.count / Shape::QUERIES % 2);
    for (uint32_t at = turn.at - turn.skipped; at != turn.at; at++) {
        wait_full(shared.k_full, at);
        take_token<Shape>(place, has_turns);
        pass_token<Shape>(place, has_turns);
        release(shared.k_empty[at % Shape::STAGES], place);
    }
    wait_full(shared.k_full, turn.at);
    take_token<Shape>(place, has_turns);
    start_logits<T, Shape>(logits, fc_ptx_shared_address(shared.q[query][place.row_group]),
                           fc_ptx_shared_address(shared.k[turn.at % Shape::STAGES]));
    pass_token<Shape>(place, has_turns);
}

/* The same for the item after this one, early: so that its products are under way while this one's rows are written.
 * False: there is nothing to start, or no memory for another query. */
template <typename T, typename Shape>
__device__ __forceinline__ bool start_next(Shared<Shape> &shared, const Turn &turn, const Place &place,
                                           float (&logits)[Shape::KEYS / 2])
{
    if (Shape::QUERIES == 1)
        return false;
    const Item &item = shared.items[(turn.count + 1) % ITEMS];
    wait_full(shared.item_full, turn.count + 1);
    const Turn next = make_turn<Shape>(item, turn.count + 1, turn.end, place);
    if (next.step < 0)
        return false;
    start_turn<T>(shared, item, next, place, logits);
    return true;
}

/* Groups of keys meet: each thread leaves half of its values to the one that has the same rows and columns in the other
 * group, and adds up the other half of both. */
template <typename Shape>
__device__ __forceinline__ void meet(Shared<Shape> &shared, const Place &place, float factor, Rows &rows,
                                     const float (&out)[Shape::VALUES],
                                     float (&half)[Shape::VALUES / Shape::KEY_GROUPS])
{
    constexpr int HALF = Shape::VALUES / 2, BARRIER = FIRST_TOKEN + Shape::CONSUMERS + Shape::KEY_GROUPS;
    const int thread = (int)threadIdx.x % WARPGROUP, other = place.consumer ^ Shape::ROW_GROUPS;
    const bool is_upper = place.key_group == 1;
    float4(&left)[Shape::MET_FLOATS / 4 + 1][WARPGROUP] = shared.met[other];
    const float4(&found)[Shape::MET_FLOATS / 4 + 1][WARPGROUP] = shared.met[place.consumer];
    static_assert(Shape::KEY_GROUPS == 2 && HALF % 4 == 0, "halves, in float4");
    fc_ptx_bar_sync(BARRIER + place.row_group, 2 * WARPGROUP); /* what was left for the item before has been read */
#pragma unroll
    for (int i = 0; i < HALF; i += 4)
        left[i / 4][thread] = is_upper
                                  ? make_float4(out[i], out[i + 1], out[i + 2], out[i + 3])
                                  : make_float4(out[HALF + i], out[HALF + i + 1], out[HALF + i + 2], out[HALF + i + 3]);
    left[HALF / 4][thread] = make_float4(rows.largest[0], rows.largest[1], rows.sum[0], rows.sum[1]);
    fc_ptx_bar_sync(BARRIER + place.row_group, 2 * WARPGROUP);
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
    if (place.lane % 4 < 2 && row < item.row_count)
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
        write_values(to + 8 * i * item.out_stride, place.row + 8 * i < item.row_count, out, i,
                     fc_softmax_inverse(sums[i]), place.lane, head_dim - column);
    if (column == 0)
        write_lse(item, place, rows, sums);
}

/* Writes what a turn made of its rows, and gives the item back. */
template <typename T, typename Shape>
__device__ __forceinline__ void end_turn(Shared<Shape> &shared, const Item &item, const Turn &turn, const Place &place,
                                         Rows &rows, const float (&out)[Shape::VALUES], int head_dim)
{
    if constexpr (Shape::KEY_GROUPS > 1) {
        float half[Shape::VALUES / 2];
        meet(shared, place, fc_softmax_factor(item.scoring), rows, out, half);
        write_rows<T>(item, place, rows, half, place.key_group * Shape::HEAD_DIM / 2, head_dim);
    } else {
        write_rows<T>(item, place, rows, out, 0, head_dim);
    }
    __syncwarp(); /* every lane has read what it wants of the item */
    release(shared.item_empty[turn.count % ITEMS], place);
}

/* A turn of which there are some keys, and whose first S is started: walks through them, starts the next turn, if it
 * can, and ends this one. Is the next one started?
 *
 * At the head of the loop a step's S is done, and the step before it has its O under way. */
template <typename T, typename Shape>
__device__ __forceinline__ bool attend(Shared<Shape> &shared, const Item &item, const Turn &turn, const Place &place,
                                       float (&logits)[Shape::KEYS / 2], int head_dim)
{
    constexpr int GROUPS = Shape::KEY_GROUPS;
    const uint32_t query = turn.count % Shape::QUERIES;
    const uint32_t q = fc_ptx_shared_address(shared.q[query][place.row_group]);
    const bool has_turns = takes_turns<Shape>(item);
    const fc_scoring scoring = item.scoring;
    const float factor = fc_softmax_factor(scoring);
    float out[Shape::VALUES] = {};
    Weights<Shape> weights = {};
    uint32_t at = turn.at;
    int32_t step = turn.step;

    Rows rows = make_rows(item, place);
    for (uint32_t skipped = turn.at - turn.skipped; skipped != turn.at; skipped++) {
        wait_full(shared.v_full, skipped);
        release(shared.v_empty[skipped % Shape::STAGES], place);
    }
    fc_ptx_wgmma_wait<0>();
    keep(logits);
    for (;;) {
        const bool is_last = step < GROUPS;
        release(shared.k_empty[at % Shape::STAGES], place);
        if (is_last)
            release(shared.q_empty[query][place.row_group], place);
        cap_and_mask(logits, scoring, rows, item.first_key + step * Shape::KEYS, place.column);
        const Move move = move_largest(logits, factor, rows);
        make_weights(logits, factor, move, rows);
        if (!is_last)
            wait_for(shared.k_full[(at + GROUPS) % Shape::STAGES],
                     ((at + GROUPS) / Shape::STAGES % 2) ^ is_negative(rows));
        finish_values<Shape, 0>(out, weights);
        if (at != turn.at)
            release(shared.v_empty[(at - GROUPS) % Shape::STAGES], place);
        if (move.is_needed)
            rescale_values(out, move.rescale);
        round_weights<T, Shape>(logits, weights);
        if (is_last)
            break;
        take_token<Shape>(place, has_turns);
        start_logits<T, Shape>(logits, q, fc_ptx_shared_address(shared.k[(at + GROUPS) % Shape::STAGES]));
        wait_full(shared.v_full, at);
        start_values<T, Shape>(out, weights, fc_ptx_shared_address(shared.v[at % Shape::STAGES]));
        pass_token<Shape>(place, has_turns);
        at += GROUPS;
        step -= GROUPS;
        fc_ptx_wgmma_wait<1>();
        keep(logits);
    }
    wait_for_values(shared, item, place, at, step);
    start_values<T, Shape>(out, weights, fc_ptx_shared_address(shared.v[at % Shape::STAGES]));
    /* Two ends: in one, the compiler would wait for everything that either may have under way. */
    if (start_next<T>(shared, turn, place, logits)) {
        finish_values<Shape, 1>(out, weights);
        release(shared.v_empty[at % Shape::STAGES], place);
        end_turn<T>(shared, item, turn, place, rows, out, head_dim);
        return true;
    }
    finish_values<Shape, 0>(out, weights);
    release(shared.v_empty[at % Shape::STAGES], place);
    end_turn<T>(shared, item, turn, place, rows, out, head_dim);
    return false;
}

/* A turn without a step: gives back what others gave, and writes rows that have seen nothing. */
template <typename T, typename Shape>
__device__ __forceinline__ void pass_turn(Shared<Shape> &shared, const Item &item, const Turn &turn, const Place &place,
                                          int head_dim)
{
    const float out[Shape::VALUES] = {};
    Rows rows = {{}, {}, 0, 0, {-INFINITY, -INFINITY}, {}};

    uint32_t at = turn.at - turn.skipped;
    wait_for(shared.q_full[turn.count % Shape::QUERIES][place.row_group], turn.count / Shape::QUERIES % 2);
    release(shared.q_empty[turn.count % Shape::QUERIES][place.row_group], place);
    for (int32_t step = turn.step + turn.skipped; step >= 0; step -= Shape::KEY_GROUPS, at += Shape::KEY_GROUPS) {
        wait_full(shared.k_full, at);
        take_token<Shape>(place, takes_turns<Shape>(item));
        pass_token<Shape>(place, takes_turns<Shape>(item));
        release(shared.k_empty[at % Shape::STAGES], place);
        wait_for_values(shared, item, place, at, step);
        release(shared.v_empty[at % Shape::STAGES], place);
    }
    end_turn<T>(shared, item, turn, place, rows, out, head_dim);
}

template <typename T, typename Shape> __device__ void consume(Shared<Shape> &shared, int head_dim)
{
    const Place place = place_of_thread<Shape>();
    float logits[Shape::KEYS / 2] = {};
    bool is_started = false;
    uint32_t steps_before = 0;
    if (place.consumer == Shape::CONSUMERS - 1)
        pass_token<Shape>(place, Shape::CONSUMERS > 1);
    for (uint32_t count = 0;; count++) {
        const Item &item = shared.items[count % ITEMS];
        wait_full(shared.item_full, count);
        if (item.steps == NO_MORE)
            break;
        const Turn turn = make_turn<Shape>(item, count, steps_before, place);
        steps_before = turn.end;
        if (turn.step >= 0) {
            if (!is_started)
                start_turn<T>(shared, item, turn, place, logits);
            is_started = attend<T>(shared, item, turn, place, logits, head_dim);
        } else {
            pass_turn<T>(shared, item, turn, place, head_dim);
            is_started = false;
        }
    }
    if (place.consumer == 0)
        take_token<Shape>(place, Shape::CONSUMERS > 1); /* it comes round a last time */
}

#endif /* FC_PTX_HOPPER */

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::THREADS, 1) hopper_kernel(const __grid_constant__ fc_device_launch launch)
{
#ifdef FC_PTX_HOPPER
    Shared<Shape> &shared = *reinterpret_cast<Shared<Shape> *>(fc_ptx_dynamic_shared());
    static_assert(sizeof(Shared<Shape>) <= SHARED_MOST, "shared memory of a block");
    constexpr unsigned PLANNER = 0, BARRIERS = 32, Q = 32, K = 64, V = 96;
    const fc_segment *segment = nullptr;
    if (threadIdx.x == PLANNER)
        segment = place_item<Shape>(launch, blockIdx.x, shared.items[0]);
    if (threadIdx.x == BARRIERS)
        init_barriers(shared);
    __syncthreads();
    if (threadIdx.x < WARPGROUP) {
        if constexpr (Shape::CONSUMERS > 1)
            fc_ptx_setmaxnreg_less<Shape::PRODUCER_REGISTERS>();
        if (threadIdx.x == PLANNER)
            plan<T>(shared, launch, segment);
        if (threadIdx.x == Q)
            produce_q(shared);
        if (threadIdx.x == K)
            produce_steps(shared, shared.k, shared.k_full, shared.k_empty, 1);
        if (threadIdx.x == V)
            produce_steps(shared, shared.v, shared.v_full, shared.v_empty, 2);
    } else {
        if constexpr (Shape::CONSUMERS > 1)
            fc_ptx_setmaxnreg_more<Shape::CONSUMER_REGISTERS>();
        consume<T>(shared, launch.head_dim);
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
#define FC_HOPPER_ROW(head_dim, row_groups, key_groups, keys, stages, queries)                                         \
    variant_of<Tile<head_dim, row_groups, key_groups, keys, stages, queries>>(),
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
