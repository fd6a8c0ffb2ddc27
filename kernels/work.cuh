/* Which piece of which request a block works on, and where its rows lie. */
#ifndef FC_KERNELS_WORK_CUH
#define FC_KERNELS_WORK_CUH

#include "kernels/attention_mask.h"
#include "kernels/enqueue.cuh"

/* A part of a tile. Row r of the tile is query token fc_work_token(r) of head fc_work_head(r): see fc_plan. */
struct fc_work {
    const fc_segment *segment;
    int32_t q_head, kv_head; /* q_head: the first of the packed ones */
    int32_t first_row;       /* of its tile, among the rows of the packed heads */
    int32_t row_count;       /* real rows of the tile, >= 1 */
    uint32_t split;          /* which part of the keys, below segment->split_count */
    uint32_t ticket;         /* of the tile, in launch.tickets */
};

/* The last segment whose first block is not past `block`. Segments without blocks share their successor's number and
 * are passed over. */
static __device__ __forceinline__ uint32_t fc_work_segment(const fc_segment *segments, uint32_t count, uint32_t block)
{
    uint32_t low = 0, high = count; /* the answer is in [low, high) */
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (segments[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The same for a whole warp, in as many loads one after the other as 32 goes into count by powers. */
static __device__ __forceinline__ uint32_t fc_work_segment_by_warp(const fc_segment *segments, uint32_t count,
                                                                   uint32_t block)
{
    uint32_t low = 0, high = count; /* the answer is in [low, high) */
    while (high - low > 1) {
        const uint32_t stride = (high - low + 31) / 32, probe = low + threadIdx.x % 32 * stride;
        const bool is_before = probe < high && segments[probe].first_block <= block;
        const uint32_t before = __popc(__ballot_sync(0xffffffff, is_before)); /* the first `before` lanes; >= 1 */
        low += (before - 1) * stride;
        high = min(high, low + stride);
    }
    return low;
}

/* Block `index` of a segment. Blocks run over the packs of heads, within a pack over its tiles, within a tile over the
 * splits; longest first, over the tiles from the last on, within a tile over the packs. */
static __device__ __forceinline__ fc_work fc_work_make(const fc_segment &segment, uint32_t index, uint32_t q_tile_rows,
                                                       bool is_longest_first)
{
    const uint32_t rows = (uint32_t)segment.q_len * segment.packed_heads;
    const uint32_t tiles = (rows + q_tile_rows - 1) / q_tile_rows;
    const uint32_t packs = (uint32_t)segment.q_heads / (uint32_t)segment.packed_heads;
    const uint32_t tile_index = segment.split_count == 1 ? index : index / segment.split_count; /* divisions are slow */
    const uint32_t pack = is_longest_first ? tile_index % packs : tile_index / tiles;
    const uint32_t tile = is_longest_first ? tiles - 1 - tile_index / packs : tile_index % tiles;
    fc_work work;
    work.segment = &segment;
    work.q_head = (int32_t)pack * segment.packed_heads;
    work.kv_head = segment.q_heads == segment.kv_heads
                       ? work.q_head
                       : (int32_t)((uint32_t)work.q_head / ((uint32_t)segment.q_heads / (uint32_t)segment.kv_heads));
    work.first_row = (int32_t)(tile * q_tile_rows);
    work.row_count = min((int32_t)q_tile_rows, (int32_t)rows - work.first_row);
    work.split = index - tile_index * segment.split_count;
    work.ticket = segment.first_ticket + pack * tiles + tile;
    return work;
}

static __device__ __forceinline__ fc_work fc_work_find(const fc_device_launch &launch, uint32_t block,
                                                       uint32_t q_tile_rows)
{
    const fc_segment *segment = launch.segments + fc_work_segment(launch.segments, launch.segment_count, block);
    return fc_work_make(*segment, block - segment->first_block, q_tile_rows, false);
}

/* The same blocks in an order that ends with little work where later rows see more keys. Without such a mask packs stay
 * together: their tiles share K and V. */
static __device__ __forceinline__ fc_work fc_work_find_longest_first(const fc_device_launch &launch, uint32_t block,
                                                                     uint32_t q_tile_rows)
{
    const fc_segment *segment = launch.segments + fc_work_segment(launch.segments, launch.segment_count, block);
    return fc_work_make(*segment, block - segment->first_block, q_tile_rows, segment->key_end_offset < FC_OFFSET_OPEN);
}

/* A copy of the segment that the block belongs to, in shared memory, for a whole warp: one round trip to global memory
 * among up to 32 segments and another for the segment, none where there is but one. */
static __device__ __forceinline__ void fc_work_get_segment(fc_segment &to, const fc_device_launch &launch,
                                                           uint32_t block)
{
    constexpr int WORDS = sizeof(fc_segment) / sizeof(uint64_t);
    static_assert(sizeof(fc_segment) % sizeof(uint64_t) == 0 && WORDS <= 32, "a word a lane");
    const uint32_t word = threadIdx.x % 32;
    uint64_t *const words = reinterpret_cast<uint64_t *>(&to);
    if (launch.segment_count > 1) {
        const uint32_t index = fc_work_segment_by_warp(launch.segments, launch.segment_count, block);
        if (word < WORDS)
            words[word] = reinterpret_cast<const uint64_t *>(launch.segments + index)[word];
    } else if (word < WORDS) {
        words[word] = reinterpret_cast<const uint64_t *>(&launch.first_segment)[word];
    }
    __syncwarp();
}

/* Block `index` of a segment, in an order that ends with little work where later rows see more keys. */
static __device__ __forceinline__ fc_work fc_work_make_any(const fc_segment &segment, uint32_t index,
                                                           uint32_t q_tile_rows)
{
    return fc_work_make(segment, index, q_tile_rows, segment.key_end_offset < FC_OFFSET_OPEN);
}

/* Where nothing is packed, nothing is divided: twenty instructions saved, for every row a thread addresses. */
static __device__ __forceinline__ int32_t fc_work_token(const fc_work &work, int32_t row)
{
    const uint32_t packed = work.segment->packed_heads, index = work.first_row + row;
    return (int32_t)(packed == 1 ? index : index / packed);
}

static __device__ __forceinline__ int32_t fc_work_head(const fc_work &work, int32_t row)
{
    const uint32_t packed = work.segment->packed_heads, index = work.first_row + row;
    return work.q_head + (int32_t)(packed == 1 ? 0 : index % packed);
}

/* The addresses of row `row` of the tile: its query, its output, its LSE. */
template <typename T> static __device__ __forceinline__ const T *fc_work_q(const fc_work &work, int32_t row)
{
    return static_cast<const T *>(work.segment->q) + fc_work_head(work, row) * work.segment->q_head_stride +
           fc_work_token(work, row) * work.segment->q_token_stride;
}

template <typename T> static __device__ __forceinline__ T *fc_work_out(const fc_work &work, int32_t row)
{
    return static_cast<T *>(work.segment->out) + fc_work_head(work, row) * work.segment->out_head_stride +
           fc_work_token(work, row) * work.segment->out_token_stride;
}

static __device__ __forceinline__ float *fc_work_lse(const fc_work &work, int32_t row)
{
    return work.segment->lse + fc_work_head(work, row) * work.segment->lse_head_stride + fc_work_token(work, row);
}

/* Key 0 of the tile's kv head; keys lie segment->k_token_stride and v_token_stride apart. */
template <typename T> static __device__ __forceinline__ const T *fc_work_k(const fc_work &work)
{
    return static_cast<const T *>(work.segment->k) + work.kv_head * work.segment->k_head_stride;
}

template <typename T> static __device__ __forceinline__ const T *fc_work_v(const fc_work &work)
{
    return static_cast<const T *>(work.segment->v) + work.kv_head * work.segment->v_head_stride;
}

/* The interval of keys row `row` sees. */
static __device__ __forceinline__ int32_t fc_work_begin(const fc_work &work, int32_t row)
{
    return fc_key_begin(work.segment, fc_work_token(work, row));
}

static __device__ __forceinline__ int32_t fc_work_end(const fc_work &work, int32_t row)
{
    return fc_key_end(work.segment, fc_work_token(work, row));
}

/* Keys [begin, end); none when they are not in this order. */
struct fc_keys {
    int32_t begin, end;
};

/* The keys a block walks through in steps of `step`: its split's share of the steps that its tile takes. */
static __device__ __forceinline__ fc_keys fc_work_keys(const fc_work &work, int32_t step)
{
    /* Later rows see later keys: the tile's keys lie between the first row's first and the last row's last. */
    const int32_t begin = fc_work_begin(work, 0), end = fc_work_end(work, work.row_count - 1);
    const int64_t splits = work.segment->split_count;
    if (splits == 1 || begin >= end)
        return {begin, end};
    const int64_t steps = ((int64_t)end - begin + step - 1) / step;
    const int32_t first = (int32_t)(steps * work.split / splits), after = (int32_t)(steps * (work.split + 1) / splits);
    return {begin + first * step, after == steps ? end : begin + after * step};
}

/* FC_PARTIAL_FLOATS(head_dim) floats: the partial result of row `row` over part `split` of the keys. */
static __device__ __forceinline__ float *fc_work_partial(const fc_device_launch &launch, const fc_work &work,
                                                         uint32_t split, int32_t row)
{
    const fc_segment &segment = *work.segment;
    const int64_t index =
        ((int64_t)split * segment.q_heads + fc_work_head(work, row)) * segment.q_len + fc_work_token(work, row);
    return reinterpret_cast<float *>(launch.workspace + segment.workspace_offset) +
           index * FC_PARTIAL_FLOATS(launch.head_dim);
}

#endif
