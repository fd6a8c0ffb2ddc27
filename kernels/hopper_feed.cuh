/* The feeding of `hopper`: shapes, shared memory, the barriers between the producer and the consumers, the producer.
 *
 * Shared memory holds the query tile and a ring of stages each for K and V. Every part has a full barrier (the producer
 * expects bytes, the copy engine brings them) and an empty one (a lane of each consumer warp arrives). Who waits for a
 * full part waits for the parity of its phase; the producer waits for the other parity, which a new barrier has.
 */
#ifndef FC_KERNELS_HOPPER_FEED_CUH
#define FC_KERNELS_HOPPER_FEED_CUH

#include "kernels/attention_tile.h"
#include "kernels/enqueue.cuh"
#include "kernels/ptx_hopper.cuh"
#include "kernels/work.cuh"

namespace
{

constexpr int WARPGROUP = 128;
constexpr int WARPS = WARPGROUP / 32; /* of a warpgroup */
constexpr int GROUP_ROWS = 64;        /* query rows of a consumer: a wgmma's */
constexpr int BOX_COLUMNS = 64;       /* of a copy: 128 bytes, the swizzle's row */
constexpr int BOX_ROW_BYTES = BOX_COLUMNS * 2;
constexpr int STEP_COLUMNS = 16; /* a wgmma's k */
constexpr int ATOM_BYTES = 8 * BOX_ROW_BYTES;
constexpr int SHARED_MOST = 227 * 1024;
constexpr int MAP_BYTES = FC_HOPPER_DESCRIPTOR_BYTES / FC_HOPPER_MAPS;

template <int HEAD_DIM_, int CONSUMERS_, int KEYS_, int STAGES_> struct Tile {
    static constexpr int HEAD_DIM = HEAD_DIM_, CONSUMERS = CONSUMERS_, KEYS = KEYS_, STAGES = STAGES_;
    static constexpr int ROWS = CONSUMERS * GROUP_ROWS;
    static constexpr int THREADS = (1 + CONSUMERS) * WARPGROUP;
    static constexpr int BOXES = HEAD_DIM / BOX_COLUMNS;                                          /* side by side */
    static constexpr int Q_BOX_BYTES = GROUP_ROWS * BOX_ROW_BYTES, Q_BYTES = BOXES * Q_BOX_BYTES; /* of a consumer */
    static constexpr int KV_BOX_BYTES = KEYS * BOX_ROW_BYTES, KV_BYTES = BOXES * KV_BOX_BYTES;
    /* What the launch gives every thread is dealt out anew: the producer needs little, the others much. */
    static constexpr int PRODUCER_REGISTERS = CONSUMERS == 3 ? 32 : 40;
    static constexpr int CONSUMER_REGISTERS = CONSUMERS == 3 ? 160 : 232;
    static_assert(HEAD_DIM % BOX_COLUMNS == 0 && KEYS % STEP_COLUMNS == 0, "whole wgmmas");
    static_assert(STAGES >= 2, "a consumer waits for a step before it gives back the one before");
    static_assert(KV_BOX_BYTES % ATOM_BYTES == 0 && KEYS <= 256, "boxes are whole atoms, and what a copy can do");
    static_assert((PRODUCER_REGISTERS + CONSUMERS * CONSUMER_REGISTERS) * WARPGROUP <= 64 * 1024, "registers of an SM");
};

constexpr int32_t NO_MORE = -1;
constexpr int ITEMS = 2; /* the one at work, and the next */

/* A piece of work as the producer hands it to the consumers. */
struct Item {
    fc_work work;
    int32_t first_key;   /* of the lowest step */
    int32_t steps;       /* NO_MORE: it is none, the launch is done */
    bool is_elsewhere;   /* not of the segment of the piece before: its maps are new to the block */
    int32_t unseen_keys; /* of the lowest step, from its first on: nobody sees them, and they may hold anything */
};

template <typename Shape> struct Shared {
    alignas(1024) unsigned char q[Shape::CONSUMERS][Shape::Q_BYTES];
    alignas(1024) unsigned char k[Shape::STAGES][Shape::KV_BYTES];
    alignas(1024) unsigned char v[Shape::STAGES][Shape::KV_BYTES];
    alignas(8) uint64_t q_full[Shape::CONSUMERS], q_empty[Shape::CONSUMERS];
    uint64_t k_full[Shape::STAGES], k_empty[Shape::STAGES];
    uint64_t v_full[Shape::STAGES], v_empty[Shape::STAGES];
    uint64_t item_full[ITEMS], item_empty[ITEMS];
    Item items[ITEMS];
};

#ifdef FC_PTX_HOPPER

/* --- what producer and consumers agree on ------------------------------------------------------------------------ */

/* Where in the ring of stages somebody is, and the parity of the stage's current phase. */
template <int STAGES> struct Ring {
    uint32_t stage, parity;

    __device__ __forceinline__ void advance()
    {
        stage++;
        if (stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

template <typename Shape> struct Rings {
    Ring<Shape::STAGES> k, v;
    Ring<ITEMS> items;
};

__device__ __forceinline__ void wait_for(const uint64_t &barrier, uint32_t parity)
{
    const uint32_t address = fc_ptx_shared_address(&barrier);
    while (!fc_ptx_mbarrier_try_wait(address, parity)) {
    }
}

template <typename Shape> __device__ void init_barriers(Shared<Shape> &shared)
{
    constexpr int CONSUMER_WARPS = Shape::CONSUMERS * WARPS;
    for (int i = 0; i < ITEMS; i++) {
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.item_full[i]), 1);
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.item_empty[i]), CONSUMER_WARPS + 1); /* and the producer */
    }
    for (int i = 0; i < Shape::CONSUMERS; i++) {
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.q_full[i]), 1);
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.q_empty[i]), WARPS);
    }
    for (int i = 0; i < Shape::STAGES; i++) {
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.k_full[i]), 1);
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.v_full[i]), 1);
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.k_empty[i]), CONSUMER_WARPS);
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.v_empty[i]), CONSUMER_WARPS);
    }
    fc_ptx_fence_barrier_init();
    fc_ptx_fence_proxy_async();
}

/* --- the planner: one thread ------------------------------------------------------------------------------------- */

struct Maps {
    const char *q, *k, *v;
};

__device__ __forceinline__ Maps maps_of(const fc_device_launch &launch, const fc_segment *segment)
{
    const char *maps = launch.descriptors + (segment - launch.segments) * (int64_t)FC_HOPPER_DESCRIPTOR_BYTES;
    return {maps, maps + MAP_BYTES, maps + 2 * MAP_BYTES};
}

/* Later rows see later keys: the tile's keys lie between the first row's first and the last row's last. The steps end
 * with the last, so that no step has keys behind it; what the lowest has in front of key 0 the copy engine zero-fills.
 */
template <typename Shape> __device__ __forceinline__ Item make_item(const fc_device_launch &launch, uint32_t block)
{
    Item item;
    item.work = fc_work_find_longest_first(launch, block, Shape::ROWS);
    const int32_t begin = fc_work_begin(item.work, 0), end = fc_work_end(item.work, item.work.row_count - 1);
    item.steps = end > begin ? (end - begin + Shape::KEYS - 1) / Shape::KEYS : 0;
    item.first_key = end - item.steps * Shape::KEYS;
    item.unseen_keys = begin > 0 ? begin - item.first_key : 0;
    return item;
}

/* Finds the block's pieces of work, one ahead: whoever is first takes the next. A launch draws as many tickets as it
 * has blocks of work, the failing last ones included, so the counter ends where it began. */
template <typename Shape> __device__ void plan(Shared<Shape> &shared, const fc_device_launch &launch)
{
    Ring<ITEMS> ring = {};
    const fc_segment *before = nullptr;
    for (uint32_t block = blockIdx.x; block < launch.block_count; ring.advance()) {
        const uint32_t next = gridDim.x + atomicInc(launch.tickets, launch.block_count - 1);
        Item item = make_item<Shape>(launch, block);
        item.is_elsewhere = item.work.segment != before;
        before = item.work.segment;
        const Maps maps = maps_of(launch, item.work.segment);
        fc_ptx_tensormap_prefetch(maps.q);
        fc_ptx_tensormap_prefetch(maps.k);
        fc_ptx_tensormap_prefetch(maps.v);
        wait_for(shared.item_empty[ring.stage], ring.parity ^ 1);
        shared.items[ring.stage] = item;
        fc_ptx_mbarrier_arrive(fc_ptx_shared_address(&shared.item_full[ring.stage]));
        block = next;
    }
    wait_for(shared.item_empty[ring.stage], ring.parity ^ 1);
    shared.items[ring.stage].steps = NO_MORE;
    fc_ptx_mbarrier_arrive(fc_ptx_shared_address(&shared.item_full[ring.stage]));
}

/* --- the producer: one thread ------------------------------------------------------------------------------------ */

/* A consumer's part of a tile of Q: packed heads run within tokens, as the rows of the tile do. */
template <typename Shape>
__device__ __forceinline__ void load_q(Shared<Shape> &shared, const char *map, const fc_work &work, int consumer)
{
    const uint32_t full = fc_ptx_shared_address(&shared.q_full[consumer]);
    const int32_t token = (work.first_row + consumer * GROUP_ROWS) / work.segment->packed_heads;
    fc_ptx_mbarrier_arrive_expect_tx(full, Shape::Q_BYTES);
    for (int box = 0; box < Shape::BOXES; box++)
        fc_ptx_tma_load_3d(fc_ptx_shared_address(&shared.q[consumer][box * Shape::Q_BOX_BYTES]), map, full,
                           box * BOX_COLUMNS, work.q_head, token);
}

/* A step of K or V into the ring's stage, once it is empty; moves the ring on. */
template <typename Shape>
__device__ __forceinline__ void load_step(unsigned char (&stages)[Shape::STAGES][Shape::KV_BYTES],
                                          const uint64_t (&full)[Shape::STAGES], const uint64_t (&empty)[Shape::STAGES],
                                          Ring<Shape::STAGES> &ring, const char *map, int32_t key, int32_t head)
{
    const uint32_t barrier = fc_ptx_shared_address(&full[ring.stage]);
    wait_for(empty[ring.stage], ring.parity ^ 1);
    fc_ptx_mbarrier_arrive_expect_tx(barrier, Shape::KV_BYTES);
    for (int box = 0; box < Shape::BOXES; box++)
        fc_ptx_tma_load_3d(fc_ptx_shared_address(&stages[ring.stage][box * Shape::KV_BOX_BYTES]), map, barrier,
                           box * BOX_COLUMNS, key, head);
    ring.advance();
}

/* Everything for a piece of work, in the order in which memory comes free: the last step's K while the consumers are
 * still at the piece before, Q as each of them is done with it; then V of a step after K of the next. */
template <typename Shape>
__device__ __forceinline__ void load_item(Shared<Shape> &shared, const Maps &maps, const Item &item,
                                          Rings<Shape> &rings, uint32_t q_parity)
{
    const int32_t head = item.work.kv_head;
    for (int32_t step = item.steps - 1; step >= -1; step--) {
        const int32_t key = item.first_key + step * Shape::KEYS;
        if (step >= 0)
            load_step<Shape>(shared.k, shared.k_full, shared.k_empty, rings.k, maps.k, key, head);
        for (int i = 0; i < Shape::CONSUMERS && step == item.steps - 1; i++) {
            wait_for(shared.q_empty[i], q_parity ^ 1);
            load_q(shared, maps.q, item.work, i);
        }
        if (step < item.steps - 1)
            load_step<Shape>(shared.v, shared.v_full, shared.v_empty, rings.v, maps.v, key + Shape::KEYS, head);
    }
}

template <typename Shape> __device__ void produce(Shared<Shape> &shared, const fc_device_launch &launch)
{
    Rings<Shape> rings = {};
    for (uint32_t round = 0;; round++) {
        wait_for(shared.item_full[rings.items.stage], rings.items.parity);
        const Item item = shared.items[rings.items.stage];
        if (item.steps == NO_MORE)
            break;
        const Maps maps = maps_of(launch, item.work.segment);
        if (item.is_elsewhere) {
            fc_ptx_tensormap_acquire(maps.q);
            fc_ptx_tensormap_acquire(maps.k);
            fc_ptx_tensormap_acquire(maps.v);
        }
        load_item(shared, maps, item, rings, round & 1);
        fc_ptx_mbarrier_arrive(fc_ptx_shared_address(&shared.item_empty[rings.items.stage]));
        rings.items.advance();
    }
}

#endif /* FC_PTX_HOPPER */

} // namespace

#endif
