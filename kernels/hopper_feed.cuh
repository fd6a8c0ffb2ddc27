/* The feeding of `hopper`: shapes, shared memory, the barriers between those who load and those who work, the planner,
 * the producers.
 *
 * Shared memory holds a query tile and a ring of stages each for K and V. Every part has a full barrier (a producer
 * expects bytes, the copy engine brings them) and an empty one (a lane of each warp that read it arrives). Who waits
 * for a full part waits for the parity of its phase; a producer waits for the other parity, which a new barrier has.
 *
 * Everyone counts what has gone through a ring since the launch began; the count says which part is next, and which
 * phase of it.
 */
#ifndef FC_KERNELS_HOPPER_FEED_CUH
#define FC_KERNELS_HOPPER_FEED_CUH

#include "kernels/attention_tile.h"
#include "kernels/enqueue.cuh"
#include "kernels/ptx_hopper.cuh"
#include "kernels/softmax.cuh"
#include "kernels/work.cuh"

namespace
{

constexpr int WARPGROUP = 128;
constexpr int WARPS = WARPGROUP / 32; /* of a warpgroup */
constexpr int GROUP_ROWS = 64;        /* query rows of a consumer: a wgmma's */
constexpr int WARP_ROWS = GROUP_ROWS / WARPS;
constexpr int BOX_COLUMNS = 64; /* of a copy: 128 bytes, the swizzle's row */
constexpr int BOX_ROW_BYTES = BOX_COLUMNS * 2;
constexpr int STEP_COLUMNS = 16; /* a wgmma's k */
constexpr int ATOM_BYTES = 8 * BOX_ROW_BYTES;
constexpr int SHARED_MOST = 227 * 1024;
constexpr int CONTROL_BYTES = 2048; /* at most: barriers, pieces of work */
constexpr int MAP_BYTES = FC_HOPPER_DESCRIPTOR_BYTES / FC_HOPPER_MAPS;

constexpr bool is_power_of_two(int n)
{
    return (n & (n - 1)) == 0;
}

/* A row of hopper.def. */
template <int HEAD_DIM_, int ROW_GROUPS_, int KEY_GROUPS_, int KEYS_, int STAGES_> struct Tile {
    static constexpr int HEAD_DIM = HEAD_DIM_, KEYS = KEYS_, STAGES = STAGES_;
    static constexpr int ROW_GROUPS = ROW_GROUPS_, KEY_GROUPS = KEY_GROUPS_, CONSUMERS = ROW_GROUPS * KEY_GROUPS;
    static constexpr int ROWS = ROW_GROUPS * GROUP_ROWS;
    static constexpr int THREADS = (1 + CONSUMERS) * WARPGROUP;
    static constexpr int BOXES = HEAD_DIM / BOX_COLUMNS;                                          /* side by side */
    static constexpr int Q_BOX_BYTES = GROUP_ROWS * BOX_ROW_BYTES, Q_BYTES = BOXES * Q_BOX_BYTES; /* of a row group */
    static constexpr int KV_BOX_BYTES = KEYS * BOX_ROW_BYTES, KV_BYTES = BOXES * KV_BOX_BYTES;
    static constexpr int VALUES = HEAD_DIM / 2; /* of a thread: its share of the warpgroup's output */
    /* Where key groups meet, a thread leaves half of its values, its sums and maxima; in float4. */
    static constexpr int MET_FOURS = KEY_GROUPS > 1 ? VALUES / 8 + 1 : 1, MET_THREADS = KEY_GROUPS > 1 ? WARPGROUP : 1;
    /* One group of keys sends its rows by way of shared memory where that has room for them, as many bytes as Q. */
    static constexpr bool SENDS =
        KEY_GROUPS == 1 && 2 * ROW_GROUPS * Q_BYTES + 2 * STAGES * KV_BYTES + CONTROL_BYTES <= SHARED_MOST;
    static constexpr uint32_t MAPS = SENDS ? FC_HOPPER_MAPS : FC_HOPPER_MAP_OUT; /* of a segment, that are used */
    static constexpr int OUT_TILES = SENDS ? ROW_GROUPS : 1, OUT_BYTES = SENDS ? Q_BYTES : 16;
    /* What the launch gives every thread is dealt out anew: the producers need little, the others much. */
    static constexpr int PRODUCER_REGISTERS = CONSUMERS == 3 ? 32 : 40;
    static constexpr int CONSUMER_REGISTERS = CONSUMERS == 3 ? 160 : 232;
    /* Named barriers; 0 is __syncthreads(). One a consumer, a key group, a row group. */
    static constexpr int FIRST_TOKEN = 1, FIRST_CLEARING = FIRST_TOKEN + CONSUMERS,
                         FIRST_MEETING = FIRST_CLEARING + KEY_GROUPS;
    static_assert(FIRST_MEETING + ROW_GROUPS <= 16, "named barriers");
    static_assert(HEAD_DIM % BOX_COLUMNS == 0 && KEYS % STEP_COLUMNS == 0, "whole wgmmas");
    static_assert(STAGES >= 2, "a consumer waits for a step before it gives back the one before");
    static_assert(is_power_of_two(STAGES), "counts wrap around");
    static_assert(KEY_GROUPS <= 2, "two halves");
    static_assert(KV_BOX_BYTES % ATOM_BYTES == 0 && KEYS <= 256, "boxes are whole atoms, and what a copy can do");
    static_assert((PRODUCER_REGISTERS + CONSUMERS * CONSUMER_REGISTERS) * WARPGROUP <= 64 * 1024, "registers of an SM");
};

constexpr int32_t NO_MORE = -1;
constexpr uint32_t ITEMS = 2; /* the one at work, and the next */

/* A piece of work: a tile of one head's query rows, ready to be loaded and worked on. Producers get it as soon as it is
 * placed, consumers once it is all there. */
struct Item {
    /* Placed: */
    uint32_t segment;
    int32_t q_head, kv_head;
    int32_t first_row, first_real; /* of a head's first tile rows below first_real are none: they lie before row 0 */
    int32_t first_key;             /* of the lowest step */
    int32_t steps;                 /* NO_MORE: it is none, the launch is done */
    /* And: */
    int32_t key_begin, key_end, kv_len; /* row r sees keys [key_begin + r, key_end + r) as far as they are there */
    int32_t unseen_keys; /* of the lowest step, from its first on: nobody sees them, and they may hold anything */
    void *out;           /* of its first row */
    float *lse;
    int64_t out_stride; /* from row to row, in elements */
    fc_scoring scoring;
};

template <typename Shape> struct Shared {
    alignas(1024) unsigned char q[Shape::ROW_GROUPS][Shape::Q_BYTES];
    alignas(1024) unsigned char k[Shape::STAGES][Shape::KV_BYTES];
    alignas(1024) unsigned char v[Shape::STAGES][Shape::KV_BYTES];
    union { /* rows that one group of keys sends; or what two leave each other, where they meet */
        alignas(1024) unsigned char out[Shape::OUT_TILES][Shape::OUT_BYTES];
        float4 met[Shape::CONSUMERS][Shape::MET_FOURS][Shape::MET_THREADS];
    };
    alignas(8) uint64_t q_full[Shape::ROW_GROUPS], q_empty[Shape::ROW_GROUPS];
    uint64_t k_full[Shape::STAGES], k_empty[Shape::STAGES];
    uint64_t v_full[Shape::STAGES], v_empty[Shape::STAGES];
    uint64_t item_placed[ITEMS], item_full[ITEMS], item_empty[ITEMS];
    Item items[ITEMS];
};

/* The first key that row `row` of the tile sees, and the one past its last: fc_key_begin() and fc_key_end() of the
 * segment's row that it is. */
__device__ __forceinline__ int32_t key_begin(const Item &item, int32_t row)
{
    return min(max(item.key_begin + row, 0), item.kv_len);
}

__device__ __forceinline__ int32_t key_end(const Item &item, int32_t row)
{
    return min(max(item.key_end + row, 0), item.kv_len);
}

/* The kernel's parameter: a single segment's maps come with the launch, and nobody has to acquire them. */
struct Launch : fc_device_launch {
    alignas(64) char maps[FC_HOPPER_DESCRIPTOR_BYTES];
};

#ifdef FC_PTX_HOPPER

/* --- what producers and consumers agree on ----------------------------------------------------------------------- */

/* Who reads what, beside the one thread that loads it: a lane of each warp arrives. */
constexpr int PRODUCERS = 3; /* of Q, K and V, a thread each */

__device__ __forceinline__ void wait_for(const uint64_t &barrier, uint32_t parity)
{
    const uint32_t address = fc_ptx_shared_address(&barrier);
    while (!fc_ptx_mbarrier_try_wait(address, parity)) {
    }
}

/* Waits for the part of a ring that is number `count`, since the launch began, to be full. */
template <uint32_t PARTS> __device__ __forceinline__ void wait_full(const uint64_t (&full)[PARTS], uint32_t count)
{
    wait_for(full[count % PARTS], count / PARTS % 2);
}

template <uint32_t PARTS> __device__ __forceinline__ void wait_empty(const uint64_t (&empty)[PARTS], uint32_t count)
{
    wait_for(empty[count % PARTS], count / PARTS % 2 ^ 1);
}

__device__ __forceinline__ void arrive(const uint64_t &barrier)
{
    fc_ptx_mbarrier_arrive(fc_ptx_shared_address(&barrier));
}

template <typename Shape> __device__ void init_barriers(Shared<Shape> &shared)
{
    const auto init = [](uint64_t &barrier, int arrivals) {
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&barrier), (uint32_t)arrivals);
    };
    for (uint32_t i = 0; i < ITEMS; i++) {
        init(shared.item_placed[i], 1);
        init(shared.item_full[i], 1);
        init(shared.item_empty[i], Shape::CONSUMERS * WARPS + PRODUCERS);
    }
    for (int i = 0; i < Shape::ROW_GROUPS; i++) {
        init(shared.q_full[i], 1);
        init(shared.q_empty[i], Shape::KEY_GROUPS * WARPS);
    }
    for (int i = 0; i < Shape::STAGES; i++) {
        init(shared.k_full[i], 1);
        init(shared.v_full[i], 1);
        init(shared.k_empty[i], Shape::ROW_GROUPS * WARPS);
        init(shared.v_empty[i], Shape::ROW_GROUPS * WARPS);
    }
    fc_ptx_fence_barrier_init();
    fc_ptx_fence_proxy_async();
}

/* --- the planner: a warp, for its first lane to find segments sooner ---------------------------------------------- */

/* Masks reach over any number of tokens; past these offsets nothing changes. */
__device__ __forceinline__ int32_t bounded(int64_t offset)
{
    const int64_t most = FC_TOKENS_MAX;
    return (int32_t)(offset < -most ? -most : offset > most ? most : offset);
}

/* Its place among the segment's tiles. A head's last tile ends with its last row, and what is too much of the first
 * lies before row 0: under a causal mask the tile that is not full is then the shortest and not the longest.
 *
 * Longest first where later rows see more keys: the last tile of every head, then the one before. Without such a mask
 * the tiles of a head stay together: they share K and V. */
__device__ __forceinline__ void place_rows(const fc_segment &segment, uint32_t index, uint32_t tile_rows, Item &item)
{
    const uint32_t rows = (uint32_t)segment.q_len, tiles = (rows + tile_rows - 1) / tile_rows;
    const uint32_t q_heads = (uint32_t)segment.q_heads, kv_heads = (uint32_t)segment.kv_heads;
    const bool is_longest_first = segment.key_end_offset < FC_OFFSET_OPEN;
    const uint32_t divisor = is_longest_first ? q_heads : tiles;
    const uint32_t quotient = index / divisor, rest = index - quotient * divisor;
    const uint32_t head = is_longest_first ? rest : quotient,
                   from_last = is_longest_first ? quotient : tiles - 1 - rest;
    item.q_head = (int32_t)head;
    item.kv_head = (int32_t)(q_heads == kv_heads ? head : head / (q_heads / kv_heads));
    item.first_row = (int32_t)rows - (int32_t)((from_last + 1) * tile_rows);
    item.first_real = max(-item.first_row, 0);
}

/* Later rows see later keys: the tile's keys lie between the first row's first and the last row's last. The steps end
 * with the last, so that no step has keys behind it; what the lowest has in front of key 0 the copy engine zero-fills.
 */
template <typename Shape> __device__ __forceinline__ void place_keys(const fc_segment &segment, Item &item)
{
    item.key_begin = bounded(item.first_row + segment.key_begin_offset);
    item.key_end = bounded(item.first_row + segment.key_end_offset);
    item.kv_len = segment.kv_len;
    const int32_t begin = key_begin(item, item.first_real), end = key_end(item, Shape::ROWS - 1);
    item.steps = end > begin ? (end - begin + Shape::KEYS - 1) / Shape::KEYS : 0;
    item.first_key = end - item.steps * Shape::KEYS;
    item.unseen_keys = begin > 0 ? begin - item.first_key : 0;
}

__device__ __forceinline__ const char *maps_of(const Launch &launch, uint32_t segment)
{
    return launch.segment_count == 1 ? launch.maps : launch.descriptors + segment * (int64_t)FC_HOPPER_DESCRIPTOR_BYTES;
}

/* Maps in memory are acquired: of a launch with up to so many segments by every block, all of them, when it begins, of
 * others a segment's when it comes to it. In between the copy engine suffers: with 32 segments of 512 tokens that cost
 * a fifth of the time. */
constexpr uint32_t SEGMENTS_AT_ONCE = 128;

/* For all threads of a block, before a barrier. */
template <typename Shape> __device__ __forceinline__ void acquire_maps(const Launch &launch)
{
    if (launch.segment_count == 1 || launch.segment_count > SEGMENTS_AT_ONCE)
        return;
    for (uint32_t i = threadIdx.x; i < launch.segment_count * Shape::MAPS; i += Shape::THREADS)
        fc_ptx_tensormap_acquire(launch.descriptors + (i / Shape::MAPS * FC_HOPPER_MAPS + i % Shape::MAPS) * MAP_BYTES);
}

/* Has a segment's maps fetched, for whichever thread copies with them. */
template <typename Shape> __device__ __forceinline__ void fetch_maps(const Launch &launch, uint32_t segment)
{
    const char *maps = maps_of(launch, segment);
    for (uint32_t i = 0; i < Shape::MAPS; i++) {
        if (launch.segment_count > SEGMENTS_AT_ONCE)
            fc_ptx_tensormap_acquire(maps + i * MAP_BYTES);
        fc_ptx_tensormap_prefetch(maps + i * MAP_BYTES);
    }
}

/* Calls take(segment). A single one comes with the launch, too. */
template <typename Take>
__device__ __forceinline__ void with_segment(const Launch &launch, uint32_t index, const Take &take)
{
    if (launch.segment_count == 1)
        take(launch.first_segment);
    else
        take(launch.segments[index]);
}

/* Block of work number `block`, of segment `index`, as far as producers want to know it. */
template <typename Shape>
__device__ __forceinline__ void place_item(const Launch &launch, uint32_t index, uint32_t block, Item &item)
{
    item.segment = index;
    with_segment(launch, index, [block, &item](const fc_segment &segment) {
        place_rows(segment, block - segment.first_block, Shape::ROWS, item);
        place_keys<Shape>(segment, item);
    });
}

/* The rest of it. */
template <typename T> __device__ __forceinline__ void complete_item(const Launch &launch, Item &item)
{
    with_segment(launch, item.segment, [&item](const fc_segment &segment) {
        item.scoring = fc_scoring_make(segment.scale, segment.softcap);
        item.out = static_cast<T *>(segment.out) + item.q_head * segment.out_head_stride +
                   item.first_row * segment.out_token_stride;
        item.out_stride = segment.out_token_stride;
        item.lse = segment.lse + item.q_head * segment.lse_head_stride + item.first_row;
    });
}

/* The segment of the block's first piece of work, which is placed. Before barriers are there. */
template <typename Shape> __device__ __forceinline__ uint32_t plan_first(Shared<Shape> &shared, const Launch &launch)
{
    const uint32_t segment = fc_work_segment_by_warp(launch.segments, launch.segment_count, blockIdx.x);
    if (threadIdx.x % 32 == 0) {
        fetch_maps<Shape>(launch, segment);
        place_item<Shape>(launch, segment, blockIdx.x, shared.items[0]);
    }
    return segment;
}

/* Draws the block's next piece of work; block_count: there is none. Where there are more pieces than blocks, whoever is
 * first takes the next: then a launch draws as many tickets as it has pieces, the failing last ones included, so the
 * counter ends where it began. */
__device__ __forceinline__ uint32_t draw(const Launch &launch)
{
    uint32_t block = launch.block_count;
    if (threadIdx.x % 32 == 0 && launch.block_count > gridDim.x)
        block = min(block, gridDim.x + atomicInc(launch.tickets, launch.block_count - 1));
    return __shfl_sync(~0u, block, 0);
}

/* Hands out the block's pieces of work, one ahead; the first, of this segment, is placed. */
template <typename T, typename Shape>
__device__ void plan(Shared<Shape> &shared, const Launch &launch, uint32_t segment)
{
    const bool is_first_lane = threadIdx.x % 32 == 0;
    uint32_t count = 0;
    for (;;) {
        if (is_first_lane) {
            arrive(shared.item_placed[count % ITEMS]);
            complete_item<T>(launch, shared.items[count % ITEMS]);
            arrive(shared.item_full[count % ITEMS]);
        }
        if (count == 0)
            fc_ptx_griddep_wait();
        const uint32_t block = draw(launch);
        count++;
        if (block == launch.block_count)
            break;
        const uint32_t before = segment;
        segment = fc_work_segment_by_warp(launch.segments, launch.segment_count, block);
        if (is_first_lane) {
            if (segment != before)
                fetch_maps<Shape>(launch, segment);
            wait_empty(shared.item_empty, count);
            place_item<Shape>(launch, segment, block, shared.items[count % ITEMS]);
        }
    }
    if (is_first_lane) {
        wait_empty(shared.item_empty, count);
        shared.items[count % ITEMS].steps = NO_MORE;
        arrive(shared.item_placed[count % ITEMS]);
        arrive(shared.item_full[count % ITEMS]);
    }
}

/* Planner and producers wait for the stream's earlier launches, each when it has all but that. Consumers need not: what
 * they write they write when Q is there, which a producer loads after its wait. */

/* --- the producers: a thread each -------------------------------------------------------------------------------- */

/* Q of every item, a part of it for each group of rows. */
template <typename Shape> __device__ void produce_q(Shared<Shape> &shared, const Launch &launch)
{
    for (uint32_t count = 0;; count++) {
        const Item &item = shared.items[count % ITEMS];
        wait_full(shared.item_placed, count);
        if (item.steps == NO_MORE)
            break;
        if (count == 0)
            fc_ptx_griddep_wait();
        const char *maps = maps_of(launch, item.segment);
        for (int i = 0; i < Shape::ROW_GROUPS; i++) {
            const uint32_t full = fc_ptx_shared_address(&shared.q_full[i]);
            wait_for(shared.q_empty[i], count % 2 ^ 1);
            fc_ptx_mbarrier_arrive_expect_tx(full, Shape::Q_BYTES);
            for (int box = 0; box < Shape::BOXES; box++)
                fc_ptx_tma_load_3d(fc_ptx_shared_address(&shared.q[i][box * Shape::Q_BOX_BYTES]),
                                   maps + FC_HOPPER_MAP_Q * MAP_BYTES, full, box * BOX_COLUMNS, item.q_head,
                                   item.first_row + i * GROUP_ROWS);
        }
        arrive(shared.item_empty[count % ITEMS]);
    }
}

/* K or V of every item, whichever of the segment's maps it is: its steps from the last to the first, each into the
 * ring's next stage, once it is empty. */
template <typename Shape>
__device__ void produce_steps(Shared<Shape> &shared, const Launch &launch,
                              unsigned char (&stages)[Shape::STAGES][Shape::KV_BYTES],
                              const uint64_t (&full)[Shape::STAGES], const uint64_t (&empty)[Shape::STAGES], int map)
{
    uint32_t at = 0;
    for (uint32_t count = 0;; count++) {
        const Item &item = shared.items[count % ITEMS];
        wait_full(shared.item_placed, count);
        if (item.steps == NO_MORE)
            break;
        if (count == 0)
            fc_ptx_griddep_wait();
        const char *tensor = maps_of(launch, item.segment) + map * MAP_BYTES;
        const int32_t first_key = item.first_key, head = item.kv_head;
        for (int32_t step = item.steps - 1; step >= 0; step--, at++) {
            const uint32_t stage = at % Shape::STAGES, barrier = fc_ptx_shared_address(&full[stage]);
            wait_empty(empty, at);
            fc_ptx_mbarrier_arrive_expect_tx(barrier, Shape::KV_BYTES);
            for (int box = 0; box < Shape::BOXES; box++)
                fc_ptx_tma_load_3d(fc_ptx_shared_address(&stages[stage][box * Shape::KV_BOX_BYTES]), tensor, barrier,
                                   box * BOX_COLUMNS, first_key + step * Shape::KEYS, head);
        }
        arrive(shared.item_empty[count % ITEMS]);
    }
}

#endif /* FC_PTX_HOPPER */

} // namespace

#endif
