/* hopper: every agent of an SM has a job of its own. For sm_90a.
 *
 *     planner, a warp        which pieces of work this block does, made ready one ahead
 *     producers, 3 threads   copy engine: Q, and K and V step by step, into shared memory, while there is room
 *     consumers              a warpgroup each: 64 query rows, Q K^T and P V on tensor cores, softmax in its threads
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
 * Between warpgroups: one's softmax falls on another's products. A token sees to it, in pieces of work of more than one
 * step: who has it starts its products.
 *
 * The grid is one block an SM; blocks draw pieces of work, longest first, until there are no more. Keys are walked from
 * the last to the first. Where there is too little work for all SMs, two groups of consumers share a tile's keys, and
 * meet in the end.
 *
 * The copy engine zero-fills what is outside a tensor: rows before the first and at or past kv_len, columns at or past
 * head_dim. Where shared memory has room it carries rows out, too, a warp's 16 at a time, while the warp goes on.
 */
#include "kernels/cuda_launch.h"
#include "kernels/enqueue.cuh"
#include "kernels/hopper_end.cuh"
#include "kernels/hopper_feed.cuh"
#include "kernels/hopper_maps.cuh"
#include "kernels/hopper_rows.cuh"

namespace
{

#ifdef FC_PTX_HOPPER

/* Consumers take turns from so many steps on; a piece of one step has nothing to take turns in. */
constexpr int32_t TURNS_FROM = 2;

/* --- a consumer: a warpgroup ------------------------------------------------------------------------------------- */

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
    const int32_t last_row = (place.row_group + 1) * GROUP_ROWS - 1;
    const int32_t last_end = item.first_key + item.steps * Shape::KEYS;
    int32_t skipped = 0;
    if (Shape::KEY_GROUPS == 1)
        skipped = last_row < item.first_real ? item.steps
                                             : min((last_end - key_end(item, last_row)) / Shape::KEYS, item.steps);
    return {count, steps_before + place.key_group + skipped, steps_before + item.steps,
            item.steps - 1 - place.key_group - skipped, skipped};
}

/* Gives a stage back, or the query: this warp's tensor cores have read it. */
__device__ __forceinline__ void release(const uint64_t &empty, const Place &place)
{
    if (place.lane == 0)
        arrive(empty);
}

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

/* Waits for what start_values() started. */
template <typename Shape>
__device__ __forceinline__ void finish_values(float (&out)[Shape::VALUES], Weights<Shape> &weights)
{
    fc_ptx_wgmma_wait<0>();
    keep(out);
#pragma unroll
    for (int step = 0; step < Shape::KEYS / STEP_COLUMNS; step++) {
        for (int i = 0; i < 4; i++)
            fc_ptx_wgmma_keep(weights[step][i]);
    }
}

/* The token of the right to start products: goes round among the consumers. */
template <typename Shape> __device__ __forceinline__ bool takes_turns(const Item &item)
{
    return Shape::KEY_GROUPS == 1 && Shape::CONSUMERS > 1 && item.steps >= TURNS_FROM;
}

template <typename Shape> __device__ __forceinline__ void take_token(const Place &place, bool takes_turns)
{
    if (takes_turns)
        fc_ptx_bar_sync(Shape::FIRST_TOKEN + place.consumer, 2 * WARPGROUP);
}

template <typename Shape> __device__ __forceinline__ void pass_token(const Place &place, bool takes_turns)
{
    if (takes_turns)
        fc_ptx_bar_arrive(Shape::FIRST_TOKEN + (place.consumer + 1) % Shape::CONSUMERS, 2 * WARPGROUP);
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
    fc_ptx_bar_sync(Shape::FIRST_CLEARING + place.key_group, THREADS);
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
    const bool has_turns = takes_turns<Shape>(item);
    wait_for(shared.q_full[place.row_group], turn.count % 2);
    for (uint32_t at = turn.at - turn.skipped; at != turn.at; at++) {
        wait_full(shared.k_full, at);
        take_token<Shape>(place, has_turns);
        pass_token<Shape>(place, has_turns);
        release(shared.k_empty[at % Shape::STAGES], place);
    }
    wait_full(shared.k_full, turn.at);
    take_token<Shape>(place, has_turns);
    start_logits<T, Shape>(logits, fc_ptx_shared_address(shared.q[place.row_group]),
                           fc_ptx_shared_address(shared.k[turn.at % Shape::STAGES]));
    pass_token<Shape>(place, has_turns);
}

/* Writes what a turn made of its rows, and gives the item back. */
template <typename T, typename Shape>
__device__ __forceinline__ void end_turn(Shared<Shape> &shared, const Item &item, const Turn &turn, const Place &place,
                                         Rows &rows, const float (&out)[Shape::VALUES], const Launch &launch)
{
    if constexpr (Shape::KEY_GROUPS > 1) {
        float half[Shape::VALUES / 2];
        meet(shared, place, fc_softmax_factor(item.scoring), rows, out, half);
        write_rows<T>(item, place, rows, half, place.key_group * Shape::HEAD_DIM / 2, launch.head_dim);
    } else if constexpr (Shape::SENDS) {
        send_rows<T>(shared, launch, item, place, rows, out);
    } else {
        write_rows<T>(item, place, rows, out, 0, launch.head_dim);
    }
    __syncwarp(); /* every lane has read what it wants of the item */
    release(shared.item_empty[turn.count % ITEMS], place);
}

/* Walks through a turn's steps, of which there are some and the first S is started, up to the last O, which is under
 * way when it returns. Returns that step's place in the rings.
 *
 * At the head of the loop a step's S is done, and the step before it has its O under way. */
template <typename T, typename Shape>
__device__ __forceinline__ uint32_t walk(Shared<Shape> &shared, const Item &item, const Turn &turn, const Place &place,
                                         float (&logits)[Shape::KEYS / 2], float (&out)[Shape::VALUES],
                                         Weights<Shape> &weights, Rows &rows)
{
    constexpr int GROUPS = Shape::KEY_GROUPS;
    const uint32_t q = fc_ptx_shared_address(shared.q[place.row_group]);
    const bool has_turns = takes_turns<Shape>(item);
    const fc_scoring scoring = item.scoring;
    const float factor = fc_softmax_factor(scoring);
    uint32_t at = turn.at;
    int32_t step = turn.step, key = item.first_key + step * Shape::KEYS;

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
            release(shared.q_empty[place.row_group], place);
        cap_and_mask(logits, scoring, rows, key, place.column);
        const Move move = move_largest(logits, factor, rows);
        make_weights(logits, factor, move, rows);
        if (!is_last)
            wait_for(shared.k_full[(at + GROUPS) % Shape::STAGES],
                     ((at + GROUPS) / Shape::STAGES % 2) ^ is_negative(rows));
        finish_values<Shape>(out, weights);
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
        key -= GROUPS * Shape::KEYS;
        fc_ptx_wgmma_wait<1>();
        keep(logits);
    }
    wait_for_values(shared, item, place, at, step);
    start_values<T, Shape>(out, weights, fc_ptx_shared_address(shared.v[at % Shape::STAGES]));
    return at;
}

/* A turn: starts it, walks through its steps, and ends it.
 *
 * A group of keys without a step comes this way too: groups meet in one place of the code, as synccheck wants it. */
template <typename T, typename Shape>
__device__ __forceinline__ void attend(Shared<Shape> &shared, const Item &item, const Turn &turn, const Place &place,
                                       const Launch &launch, float (&logits)[Shape::KEYS / 2])
{
    float out[Shape::VALUES] = {};
    Weights<Shape> weights = {};
    Rows rows = make_rows(item, place);

    if (Shape::KEY_GROUPS > 1 && turn.step < 0) {
        wait_for(shared.q_full[place.row_group], turn.count % 2);
        release(shared.q_empty[place.row_group], place);
    } else {
        start_turn<T>(shared, item, turn, place, logits);
        const uint32_t at = walk<T>(shared, item, turn, place, logits, out, weights, rows);
        finish_values<Shape>(out, weights);
        release(shared.v_empty[at % Shape::STAGES], place);
    }
    end_turn<T>(shared, item, turn, place, rows, out, launch);
}

/* A turn of which a group of rows sees no step: gives back what others gave, and writes rows that have seen nothing. */
template <typename T, typename Shape>
__device__ __forceinline__ void pass_turn(Shared<Shape> &shared, const Item &item, const Turn &turn, const Place &place,
                                          const Launch &launch)
{
    const float out[Shape::VALUES] = {};
    Rows rows = {{}, {}, 0, 0, {-INFINITY, -INFINITY}, {}};

    uint32_t at = turn.at - turn.skipped;
    wait_for(shared.q_full[place.row_group], turn.count % 2);
    release(shared.q_empty[place.row_group], place);
    for (int32_t step = turn.step + turn.skipped; step >= 0; step--, at++) {
        wait_full(shared.k_full, at);
        take_token<Shape>(place, takes_turns<Shape>(item));
        pass_token<Shape>(place, takes_turns<Shape>(item));
        release(shared.k_empty[at % Shape::STAGES], place);
        wait_for_values(shared, item, place, at, step);
        release(shared.v_empty[at % Shape::STAGES], place);
    }
    end_turn<T>(shared, item, turn, place, rows, out, launch);
}

template <typename T, typename Shape> __device__ void consume(Shared<Shape> &shared, const Launch &launch)
{
    const Place place = place_of_thread<Shape>();
    float logits[Shape::KEYS / 2] = {};
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
        if (Shape::KEY_GROUPS > 1 || turn.step >= 0)
            attend<T>(shared, item, turn, place, launch, logits);
        else
            pass_turn<T>(shared, item, turn, place, launch);
    }
    if (place.consumer == 0)
        take_token<Shape>(place, Shape::CONSUMERS > 1); /* it comes round a last time */
    if (Shape::SENDS && place.lane == 0)
        fc_ptx_tma_store_wait_read(); /* shared memory goes when the block does */
}

#endif /* FC_PTX_HOPPER */

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::THREADS, 1) hopper_kernel(const __grid_constant__ Launch launch)
{
#ifdef FC_PTX_HOPPER
    Shared<Shape> &shared = *reinterpret_cast<Shared<Shape> *>(fc_ptx_dynamic_shared());
    static_assert(sizeof(Shared<Shape>) <= SHARED_MOST, "shared memory of a block");
    constexpr unsigned Q = 32, K = 64, V = 96; /* the producers; the planner is the first warp */
    uint32_t segment = 0;
    fc_ptx_griddep_launch_dependents();
    if (threadIdx.x < 32)
        segment = plan_first(shared, launch);
    if (threadIdx.x == Q)
        init_barriers(shared);
    acquire_maps<Shape>(launch);
    __syncthreads();
    if (threadIdx.x < WARPGROUP) {
        if constexpr (Shape::CONSUMERS > 1)
            fc_ptx_setmaxnreg_less<Shape::PRODUCER_REGISTERS>();
        if (threadIdx.x < 32)
            plan<T>(shared, launch, segment);
        if (threadIdx.x == Q)
            produce_q(shared, launch);
        if (threadIdx.x == K)
            produce_steps(shared, launch, shared.k, shared.k_full, shared.k_empty, FC_HOPPER_MAP_K);
        if (threadIdx.x == V)
            produce_steps(shared, launch, shared.v, shared.v_full, shared.v_empty, FC_HOPPER_MAP_V);
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

static_assert(MAP_BOX_COLUMNS == BOX_COLUMNS && MAP_Q_ROWS == GROUP_ROWS && MAP_OUT_ROWS == WARP_ROWS,
              "maps are of the boxes that are copied");

struct Variant {
    void (*kernels[2])(const Launch); /* in the order of fc_dtype; not f32 */
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
#define FC_HOPPER_ROW(head_dim, row_groups, key_groups, keys, stages)                                                  \
    variant_of<Tile<head_dim, row_groups, key_groups, keys, stages>>(),
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
    int processors = 0;
    if (variant == nullptr || launch->d_tickets == nullptr || launch->descriptors == nullptr ||
        !fc_device_attribute(cudaDevAttrMultiProcessorCount, &processors))
        return FC_INTERNAL;
    const unsigned blocks = launch->block_count < (uint32_t)processors ? launch->block_count : (unsigned)processors;
    const fc_grid grid = {(uint32_t)variant->rows, blocks, (unsigned)variant->threads, variant->shared_bytes};
    Launch argument = {};
    if (launch->segment_count == 1)
        memcpy(argument.maps, launch->descriptors, sizeof argument.maps);
    return fc_enqueue(variant->kernels[launch->plan.dtype], grid, launch, stream, argument);
}

extern "C" fc_status fc_cuda_hopper_describe(const fc_launch *launch, void *out_descriptors)
{
    return describe_launch(launch, out_descriptors);
}
