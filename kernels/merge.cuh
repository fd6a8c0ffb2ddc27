/* Meeting of the blocks that share a tile's keys (split-KV): each leaves a partial result of every row in the launch's
 * workspace, whichever draws the tile's last ticket adds them up. "Flash-Decoding" (Dao, Haziza, Massa, Sizov, 2023) in
 * one launch.
 *
 * The sums run over the splits in order, whoever does them: the answer does not depend on which block came last. A
 * partial result is fc_work_partial(): head_dim sums of weighted values, the logit that the weights are relative to
 * (-inf: nothing was seen), the sum of the weights. Where that sum is 0 the values need not be written.
 */
#ifndef FC_KERNELS_MERGE_CUH
#define FC_KERNELS_MERGE_CUH

#include "kernels/element.cuh"
#include "kernels/softmax.cuh"
#include "kernels/work.cuh"

struct fc_partial_sums {
    float largest, sum;
};

static __device__ __forceinline__ void fc_partial_put_sums(float *partial, int head_dim, fc_partial_sums sums)
{
    *reinterpret_cast<float2 *>(partial + head_dim) = make_float2(sums.largest, sums.sum);
}

/* Reads go past the L1 cache: other SMs wrote them during this launch. */
static __device__ __forceinline__ fc_partial_sums fc_partial_sums_of(const float *partial, int head_dim)
{
    const float2 pair = __ldcg(reinterpret_cast<const float2 *>(partial + head_dim));
    return {pair.x, pair.y};
}

/* Eight columns of a row, complete in this block but not yet divided by the sum of weights: the answer, or where the
 * keys are split a part of the partial result. */
template <typename T>
static __device__ __forceinline__ void fc_merge_put(const fc_device_launch &launch, const fc_work &work,
                                                    const fc_scoring &scoring, int32_t row, int column,
                                                    fc_partial_sums all, float (&total)[8])
{
    if (work.segment->split_count > 1) {
        float *partial = fc_work_partial(launch, work, work.split, row);
#pragma unroll
        for (int i = 0; i < 8; i += 2)
            *reinterpret_cast<float2 *>(partial + column + i) = make_float2(total[i], total[i + 1]);
        if (column == 0)
            fc_partial_put_sums(partial, launch.head_dim, all);
        return;
    }
    const float inverse = fc_softmax_inverse(all.sum);
#pragma unroll
    for (int i = 0; i < 8; i++)
        total[i] *= inverse;
    fc_store_eight(fc_work_out<T>(work, row) + column, total);
    if (column == 0)
        *fc_work_lse(work, row) = fc_softmax_lse(scoring, all.largest, all.sum);
}

/* True in the one block of the tile whose siblings have all left their partial results. For all threads of the block,
 * after their own writes; leaves the ticket at 0 behind the last. */
static __device__ __forceinline__ bool fc_merge_is_last(const fc_device_launch &launch, const fc_work &work)
{
    __shared__ uint32_t drawn;
    const uint32_t last = work.segment->split_count - 1;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
        drawn = atomicInc(launch.tickets + work.ticket, last); /* wraps to 0 after `last` */
    __syncthreads();
    __threadfence();
    return drawn == last;
}

/* Eight columns of one row, over all splits; not yet divided by the sum of weights. */
static __device__ __forceinline__ fc_partial_sums fc_merge_piece(const fc_device_launch &launch, const fc_work &work,
                                                                 const fc_scoring &scoring, int32_t row, int column,
                                                                 float (&total)[8])
{
    const fc_segment &segment = *work.segment;
    const uint32_t splits = segment.split_count;
    const int head_dim = launch.head_dim;
    const int64_t stride = (int64_t)segment.q_heads * segment.q_len * FC_PARTIAL_FLOATS(head_dim);
    const float *first = fc_work_partial(launch, work, 0, row);
    fc_partial_sums all = {-INFINITY, 0.0f};
#pragma unroll 8 /* the loads of several splits are under way together */
    for (uint32_t split = 0; split < splits; split++)
        all.largest = fmaxf(all.largest, fc_partial_sums_of(first + split * stride, head_dim).largest);
#pragma unroll 4
    for (uint32_t split = 0; split < splits; split++) {
        const float *partial = first + split * stride;
        const fc_partial_sums part = fc_partial_sums_of(partial, head_dim);
        const bool is_empty = part.sum == 0.0f;
        const float rescale = fc_softmax_rescale(scoring, part.largest, all.largest);
        all.sum = fmaf(part.sum, rescale, all.sum);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 pair = make_float2(0.0f, 0.0f);
            if (!is_empty)
                pair = __ldcg(reinterpret_cast<const float2 *>(partial + column) + i);
            total[2 * i] = fmaf(pair.x, rescale, total[2 * i]);
            total[2 * i + 1] = fmaf(pair.y, rescale, total[2 * i + 1]);
        }
    }
    return all;
}

/* Writes out and LSE of the tile's rows from all partial results. For all threads of the block that is last. */
template <typename T>
static __device__ __forceinline__ void fc_merge_rows(const fc_device_launch &launch, const fc_work &work,
                                                     const fc_scoring &scoring)
{
    const int pieces = launch.head_dim / 8;
    for (int i = threadIdx.x; i < work.row_count * pieces; i += blockDim.x) {
        const int row = i / pieces, column = i % pieces * 8;
        float total[8] = {};
        const fc_partial_sums all = fc_merge_piece(launch, work, scoring, row, column, total);
        const float inverse = fc_softmax_inverse(all.sum);
        for (int j = 0; j < 8; j++)
            total[j] *= inverse;
        fc_store_eight(fc_work_out<T>(work, row) + column, total);
        if (column == 0)
            *fc_work_lse(work, row) = fc_softmax_lse(scoring, all.largest, all.sum);
    }
}

#endif
