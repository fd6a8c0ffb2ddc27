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

/* Sums over a row's keys, before and after they are seen as relative to one logit. */
static __device__ __forceinline__ float4 fc_scaled(float4 a, float factor)
{
    return make_float4(a.x * factor, a.y * factor, a.z * factor, a.w * factor);
}

static __device__ __forceinline__ float4 fc_fma_four(float4 a, float factor, float4 b)
{
    return make_float4(fmaf(a.x, factor, b.x), fmaf(a.y, factor, b.y), fmaf(a.z, factor, b.z), fmaf(a.w, factor, b.w));
}

/* Four columns of a row that nothing is added to any more: what belongs into out, and with column 0 the LSE. */
template <typename T>
static __device__ __forceinline__ void fc_row_put(const fc_work &work, const fc_scoring &scoring, int32_t row,
                                                  int column, fc_partial_sums all, float4 total)
{
    fc_store_four(fc_work_out<T>(work, row) + column, fc_scaled(total, fc_softmax_inverse(all.sum)));
    if (column == 0)
        *fc_work_lse(work, row) = fc_softmax_lse(scoring, all.largest, all.sum);
}

/* Four columns of a row, complete in this block: the answer, or where the keys are split a part of the partial result.
 */
template <typename T>
static __device__ __forceinline__ void fc_merge_put(const fc_device_launch &launch, const fc_work &work,
                                                    const fc_scoring &scoring, int32_t row, int column,
                                                    fc_partial_sums all, float4 total)
{
    if (work.segment->split_count == 1) {
        fc_row_put<T>(work, scoring, row, column, all, total);
        return;
    }
    float *partial = fc_work_partial(launch, work, work.split, row);
    *reinterpret_cast<float4 *>(partial + column) = total;
    if (column == 0)
        fc_partial_put_sums(partial, launch.head_dim, all);
}

/* True in the one block of the tile whose siblings have all left their partial results. For all threads of the block,
 * after their own writes; leaves the ticket at 0 behind the last. */
static __device__ __forceinline__ bool fc_merge_is_last(const fc_device_launch &launch, const fc_work &work)
{
    __shared__ uint32_t drawn;
    const uint32_t last = work.segment->split_count - 1;
    __syncthreads(); /* what one thread releases then is what all have written */
    if (threadIdx.x == 0)
        drawn = fc_ptx_draw(launch.tickets + work.ticket, last); /* wraps to 0 after `last` */
    __syncthreads();
    return drawn == last;
}

/* Four columns of one row, over all splits, in their order; not yet divided by the sum of weights. */
static __device__ __forceinline__ fc_partial_sums fc_merge_piece(const fc_device_launch &launch, const fc_work &work,
                                                                 const fc_scoring &scoring, int32_t row, int column,
                                                                 float4 &total)
{
    constexpr uint32_t GROUP = 8; /* splits whose loads are under way together */
    const fc_segment &segment = *work.segment;
    const uint32_t splits = segment.split_count;
    const int64_t stride = (int64_t)segment.q_heads * segment.q_len * FC_PARTIAL_FLOATS(launch.head_dim);
    const float *from = fc_work_partial(launch, work, 0, row);
    fc_partial_sums all = {-INFINITY, 0.0f};
#pragma unroll 1
    for (uint32_t first = 0; first < splits; first += GROUP) {
        fc_partial_sums parts[GROUP];
        float4 values[GROUP];
        float largest = all.largest;
#pragma unroll
        for (uint32_t i = 0; i < GROUP; i++) {
            const float *partial = from + min(first + i, splits - 1) * stride; /* one that is there */
            parts[i] = fc_partial_sums_of(partial, launch.head_dim);
            values[i] = __ldcg(reinterpret_cast<const float4 *>(partial + column));
        }
#pragma unroll
        for (uint32_t i = 0; i < GROUP; i++) {
            if (first + i >= splits || parts[i].sum == 0.0f) /* values may be anything */
                parts[i] = {-INFINITY, 0.0f};
            largest = fmaxf(largest, parts[i].largest);
        }
        const float before = fc_softmax_rescale(scoring, all.largest, largest);
        all = {largest, all.sum * before};
        total = fc_scaled(total, before);
#pragma unroll
        for (uint32_t i = 0; i < GROUP; i++) {
            const float rescale = fc_softmax_rescale(scoring, parts[i].largest, largest);
            all.sum = fmaf(parts[i].sum, rescale, all.sum);
            if (parts[i].sum != 0.0f)
                total = fc_fma_four(values[i], rescale, total);
        }
    }
    return all;
}

/* Writes out and LSE of the tile's rows from all partial results. For all threads of the block that is last. */
template <typename T>
static __device__ __forceinline__ void fc_merge_rows(const fc_device_launch &launch, const fc_work &work,
                                                     const fc_scoring &scoring)
{
    const int pieces = launch.head_dim / 4;
#pragma unroll 1
    for (int i = threadIdx.x; i < work.row_count * pieces; i += blockDim.x) {
        const int row = i / pieces, column = i % pieces * 4;
        float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        const fc_partial_sums all = fc_merge_piece(launch, work, scoring, row, column, total);
        fc_row_put<T>(work, scoring, row, column, all, total);
    }
}

#endif
