/* Small kernels for tests/sass/run: one as the rules of `tc` want it, and copies with one thing wrong each. It is only
 * ever compiled and read. -DPLANT_x picks what is wrong. */
#include "kernels/ptx.cuh"

namespace
{

#ifdef PLANT_SPILL
constexpr int THREADS = 1024, SUMS = 40; /* 160 sums a thread where 64 registers are to be had */
#else
constexpr int THREADS = 128, SUMS = 8;
#endif

__global__ void __launch_bounds__(THREADS) planted(const uint4 *from, float *to, int count)
{
    const uint32_t shared = fc_ptx_shared_address(fc_ptx_dynamic_shared());
    float sums[SUMS][4] = {};
    for (int i = 0; i < count; i++) {
#ifdef PLANT_COPY
        reinterpret_cast<uint4 *>(fc_ptx_dynamic_shared())[threadIdx.x] = from[i * THREADS + threadIdx.x];
#else
        fc_ptx_cp_async_16(shared + threadIdx.x * 16, from + i * THREADS + threadIdx.x, 16);
        fc_ptx_cp_async_commit();
        fc_ptx_cp_async_wait<0>();
#endif
        __syncthreads();
        uint32_t a[4];
        fc_ptx_ldmatrix_x4(a, shared + threadIdx.x % 32 * 16);
#pragma unroll
        for (int j = 0; j < SUMS; j++) {
#ifdef PLANT_SCALAR
            for (int k = 0; k < 4; k++)
                sums[j][k] = fmaf(__uint_as_float(a[k]), (float)j, sums[j][k]);
#else
            fc_ptx_mma<__half>(sums[j], a, a[j % 4], a[(j + 1) % 4]);
#endif
        }
        __syncthreads();
    }
#ifdef PLANT_INDEX
    to[threadIdx.x] = sums[count % SUMS][count % 4]; /* an index known at run time alone: the array goes to memory */
#else
    for (int j = 0; j < SUMS; j++)
        for (int k = 0; k < 4; k++)
            to[(j * 4 + k) * THREADS + threadIdx.x] = sums[j][k];
#endif
}

} // namespace

/* What keeps the kernel in the binary. */
extern "C" const void *planted_kernel(void);
extern "C" const void *planted_kernel(void)
{
    return reinterpret_cast<const void *>(planted);
}
