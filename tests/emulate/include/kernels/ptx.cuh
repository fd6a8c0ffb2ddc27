/* kernels/ptx.cuh for the emulator: the same functions, of the same meaning, in C++. A function added there is added
 * here. */
#ifndef FC_KERNELS_PTX_CUH
#define FC_KERNELS_PTX_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "tests/emulate/matrix.h"
#include "tests/emulate/races.h"

static __device__ __forceinline__ float fc_ptx_ex2(float x)
{
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y; /* NaN stays */
}

static __device__ __forceinline__ float fc_ptx_rcp(float x)
{
    return 1.0f / x;
}

static __device__ __forceinline__ uint32_t fc_ptx_draw(uint32_t *counter, uint32_t last)
{
    return atomicInc(counter, last);
}

static __device__ __forceinline__ void fc_ptx_griddep_launch_dependents()
{
}

static __device__ __forceinline__ void fc_ptx_griddep_wait()
{
    emulate::races_follow();
}

static __device__ __forceinline__ unsigned char *fc_ptx_dynamic_shared()
{
    return emulate::dynamic_shared();
}

static __device__ __forceinline__ uint32_t fc_ptx_shared_address(const void *pointer)
{
    return emulate::shared_address(pointer, "fc_ptx_shared_address");
}

static __device__ __forceinline__ uint32_t fc_ptx_keep(uint32_t x)
{
    return x;
}

static __device__ __forceinline__ void fc_ptx_cp_async_16(uint32_t to, const void *from, uint32_t bytes)
{
    emulate::copy_async(to, from, 16, bytes);
}

static __device__ __forceinline__ void fc_ptx_cp_async_commit()
{
    emulate::copy_commit();
}

template <int PENDING> static __device__ __forceinline__ void fc_ptx_cp_async_wait()
{
    emulate::copy_wait(PENDING);
}

static __device__ __forceinline__ void fc_ptx_ldmatrix_x4(uint32_t (&to)[4], uint32_t row)
{
    emulate::load_matrix(to, 4, row, false);
}

static __device__ __forceinline__ void fc_ptx_ldmatrix_x4_trans(uint32_t (&to)[4], uint32_t row)
{
    emulate::load_matrix(to, 4, row, true);
}

template <typename T>
static __device__ __forceinline__ void fc_ptx_mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    const uint32_t b[2] = {b0, b1};
    emulate::multiply_matrix(d, a, b, 16, std::is_same<T, __half>::value ? emulate::Half::F16 : emulate::Half::BF16);
}

#endif
