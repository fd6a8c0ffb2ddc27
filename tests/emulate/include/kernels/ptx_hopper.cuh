/* kernels/ptx_hopper.cuh for the emulator: the same functions, of the same meaning, in C++. A function added there is
 * added here. */
#ifndef FC_KERNELS_PTX_HOPPER_CUH
#define FC_KERNELS_PTX_HOPPER_CUH

#include "kernels/ptx.cuh"

#include "tests/emulate/hopper.h"

#define FC_PTX_HOPPER 1

static __device__ __forceinline__ void fc_ptx_trap()
{
    emulate::fail("trap");
}

static __device__ __forceinline__ void fc_ptx_mbarrier_init(uint32_t barrier, uint32_t arrivals)
{
    emulate::mbarrier_init(barrier, arrivals);
}

static __device__ __forceinline__ void fc_ptx_fence_barrier_init()
{
    emulate::mbarrier_fence();
}

static __device__ __forceinline__ void fc_ptx_mbarrier_arrive(uint32_t barrier)
{
    emulate::mbarrier_arrive(barrier, 0);
}

static __device__ __forceinline__ void fc_ptx_mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes)
{
    emulate::mbarrier_arrive(barrier, bytes);
}

/* Never says no: a thread waits here. */
static __device__ __forceinline__ bool fc_ptx_mbarrier_try_wait(uint32_t barrier, uint32_t parity)
{
    emulate::mbarrier_wait(barrier, parity);
    return true;
}

static __device__ __forceinline__ void fc_ptx_fence_proxy_async()
{
    emulate::mbarrier_fence();
    emulate::races_fence_async();
}

static __device__ __forceinline__ void fc_ptx_tensormap_acquire(const void *map)
{
    emulate::check_global(map, 64, "fence.proxy.tensormap");
}

static __device__ __forceinline__ void fc_ptx_tensormap_prefetch(const void *map)
{
    emulate::check_global(map, 64, "prefetch.tensormap");
}

static __device__ __forceinline__ void fc_ptx_tma_load_3d(uint32_t to, const void *map, uint32_t barrier, int32_t x,
                                                          int32_t y, int32_t z)
{
    const int32_t coordinates[3] = {x, y, z};
    emulate::tensor_load(to, map, barrier, coordinates, 3);
}

static __device__ __forceinline__ void fc_ptx_tma_store_3d(const void *map, uint32_t from, int32_t x, int32_t y,
                                                           int32_t z)
{
    const int32_t coordinates[3] = {x, y, z};
    emulate::tensor_store(map, from, coordinates, 3);
}

static __device__ __forceinline__ void fc_ptx_tma_store_commit()
{
    emulate::tensor_store_commit();
}

static __device__ __forceinline__ void fc_ptx_tma_store_wait_read()
{
    emulate::tensor_store_wait();
}

static __device__ __forceinline__ void fc_ptx_stmatrix_x4(uint32_t row, const uint32_t (&from)[4])
{
    emulate::store_matrix(from, 4, row, false);
}

template <int REGISTERS> static __device__ __forceinline__ void fc_ptx_setmaxnreg_less()
{
    emulate::set_registers(REGISTERS);
}

template <int REGISTERS> static __device__ __forceinline__ void fc_ptx_setmaxnreg_more()
{
    emulate::set_registers(REGISTERS);
}

static __device__ __forceinline__ void fc_ptx_bar_sync(uint32_t barrier, uint32_t threads)
{
    emulate::barrier_wait(barrier, threads, "bar.sync");
}

static __device__ __forceinline__ void fc_ptx_bar_arrive(uint32_t barrier, uint32_t threads)
{
    emulate::barrier_arrive(barrier, threads);
}

static __device__ __forceinline__ void fc_ptx_wgmma_fence()
{
    emulate::wgmma_fence();
}

static __device__ __forceinline__ void fc_ptx_wgmma_commit()
{
    emulate::wgmma_commit();
}

template <int PENDING> static __device__ __forceinline__ void fc_ptx_wgmma_wait()
{
    emulate::wgmma_wait(PENDING);
}

static __device__ __forceinline__ void fc_ptx_wgmma_keep(float &)
{
}

static __device__ __forceinline__ void fc_ptx_wgmma_keep(uint32_t &)
{
}

static __device__ __forceinline__ uint64_t fc_ptx_wgmma_descriptor(uint32_t address, uint32_t leading_bytes,
                                                                   uint32_t stride_bytes)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(leading_bytes >> 4) << 16 |
           (uint64_t)(stride_bytes >> 4) << 32 | (uint64_t)1 << 62;
}

template <typename T> constexpr emulate::Half fc_ptx_half()
{
    return std::is_same<T, __half>::value ? emulate::Half::F16 : emulate::Half::BF16;
}

template <typename T, int N>
static __device__ __forceinline__ void fc_ptx_wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulates)
{
    emulate::wgmma({d, N, nullptr, a, b, false, false, accumulates, fc_ptx_half<T>()});
}

template <typename T, int N>
static __device__ __forceinline__ void fc_ptx_wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b)
{
    emulate::wgmma({d, N, a, 0, b, false, true, true, fc_ptx_half<T>()});
}

#endif
