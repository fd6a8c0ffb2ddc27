/* Which piece of which request a block works on, and where its rows lie. */
#ifndef FC_KERNELS_WORK_CUH
#define FC_KERNELS_WORK_CUH

#include "kernels/attention_mask.h"

struct fc_work {
    const fc_segment *segment;
    int32_t q_head, kv_head;
    int32_t first_row; /* of its q tile */
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

/* Blocks of a segment run over its heads, and within a head over its q tiles. */
static __device__ __forceinline__ fc_work fc_work_find(const fc_segment *segments, uint32_t count, uint32_t q_tile)
{
    fc_work work;
    work.segment = segments + fc_work_segment(segments, count, blockIdx.x);
    const uint32_t index = blockIdx.x - work.segment->first_block;
    const uint32_t tiles = ((uint32_t)work.segment->q_len + q_tile - 1) / q_tile;
    work.q_head = (int32_t)(index / tiles);
    work.kv_head = work.q_head / (work.segment->q_heads / work.segment->kv_heads);
    work.first_row = (int32_t)(index % tiles * q_tile);
    return work;
}

template <typename T> static __device__ __forceinline__ const T *fc_work_q(const fc_work &work, int32_t row)
{
    return static_cast<const T *>(work.segment->q) + work.q_head * work.segment->q_head_stride +
           row * work.segment->q_token_stride;
}

template <typename T> static __device__ __forceinline__ const T *fc_work_k(const fc_work &work)
{
    return static_cast<const T *>(work.segment->k) + work.kv_head * work.segment->k_head_stride;
}

template <typename T> static __device__ __forceinline__ const T *fc_work_v(const fc_work &work)
{
    return static_cast<const T *>(work.segment->v) + work.kv_head * work.segment->v_head_stride;
}

template <typename T> static __device__ __forceinline__ T *fc_work_out(const fc_work &work, int32_t row)
{
    return static_cast<T *>(work.segment->out) + work.q_head * work.segment->out_head_stride +
           row * work.segment->out_token_stride;
}

static __device__ __forceinline__ float *fc_work_lse(const fc_work &work, int32_t row)
{
    return work.segment->lse + work.q_head * work.segment->lse_head_stride + row;
}

#endif
