/* What the rungs with tiles of K and V in shared memory have in common: a block's job, and tiles on their way. */
#ifndef FC_KERNELS_STAGE_CUH
#define FC_KERNELS_STAGE_CUH

#include "kernels/ptx.cuh"
#include "kernels/softmax.cuh"
#include "kernels/work.cuh"

/* What a block does. One thread finds it and leaves it in shared memory: the others would only find the same, and what
 * is needed once a tile takes nobody's registers. */
template <typename T> struct fc_job {
    fc_work work;
    fc_scoring scoring;
    fc_keys keys; /* that the block walks through */
    const T *k, *v;
    int64_t k_stride, v_stride;
    int head_dim;
};

template <typename T>
static __device__ __forceinline__ fc_job<T> fc_job_make(const fc_device_launch &launch, uint32_t q_tile_rows,
                                                        int32_t kv_tile_tokens)
{
    fc_job<T> job;
    job.work = fc_work_find_longest_first(launch, blockIdx.x, q_tile_rows);
    job.scoring = fc_scoring_make(job.work.segment->scale, job.work.segment->softcap);
    job.keys = fc_work_keys(job.work, kv_tile_tokens);
    job.k = fc_work_k<T>(job.work);
    job.v = fc_work_v<T>(job.work);
    job.k_stride = job.work.segment->k_token_stride;
    job.v_stride = job.work.segment->v_token_stride;
    job.head_dim = launch.head_dim;
    return job;
}

/* Starts this thread's share of copying rows [first, first + ROWS) of `from`, 16 bytes a copy. Rows at or past `end`
 * and columns at or past head_dim become zeros and are not read: a weight of 0 would not hide a NaN behind them. Rows
 * lie PITCH elements apart in shared memory and `stride` in `from`, where row 0 has to exist. The caller commits. */
template <int ROWS, int COLUMNS, int PITCH, int THREADS, typename T>
static __device__ __forceinline__ void fc_stage_rows(T *to, const T *from, int64_t stride, int32_t first, int32_t end,
                                                     int head_dim)
{
    constexpr int PIECE = 16 / (int)sizeof(T), PIECES = COLUMNS / PIECE;
    const uint32_t address = fc_ptx_shared_address(to);
#pragma unroll
    for (int begin = 0; begin < ROWS * PIECES; begin += THREADS) {
        const int i = begin + (int)threadIdx.x, row = i / PIECES, column = i % PIECES * PIECE;
        if (ROWS * PIECES % THREADS != 0 && i >= ROWS * PIECES)
            break;
        const bool is_there = first + row < end && column < head_dim;
        const T *source = is_there ? from + (first + row) * stride + column : from;
        fc_ptx_cp_async_16(address + (uint32_t)((row * PITCH + column) * sizeof(T)), source, is_there ? 16 : 0);
    }
}

/* The same for a tile of KEYS keys and values, from key `tile` of the job on, as one committed group. */
template <int KEYS, int COLUMNS, int PITCH, int THREADS, typename T>
static __device__ __forceinline__ void fc_stage_tile(T *k, T *v, const fc_job<T> &job, int32_t tile)
{
    fc_stage_rows<KEYS, COLUMNS, PITCH, THREADS>(k, job.k, job.k_stride, tile, job.keys.end, job.head_dim);
    fc_stage_rows<KEYS, COLUMNS, PITCH, THREADS>(v, job.v, job.v_stride, tile, job.keys.end, job.head_dim);
    fc_ptx_cp_async_commit();
}

#endif
