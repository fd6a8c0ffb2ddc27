/* Hopper's own instructions, one small function each, nothing else: for sm_90a alone, and empty elsewhere.
 *
 * The rules of ptx.cuh hold here, too: semantics are those of the PTX ISA manual, tests/emulate replaces this file as a
 * whole. Code that uses it stands between #ifdef FC_PTX_HOPPER, so that the other targets do not see it.
 *
 * Three agents share the memory here: threads, the copy engine (TMA) and the tensor cores (wgmma); the last two reach
 * shared memory through the async proxy. What each function says of "agents" is which of them it orders.
 */
#ifndef FC_KERNELS_PTX_HOPPER_CUH
#define FC_KERNELS_PTX_HOPPER_CUH

#include "kernels/ptx.cuh"

/* The host's pass over the file parses device code, too. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FC_PTX_HOPPER 1
#endif

/* Ends the kernel with an error: for a body that a target lacks. */
static __device__ __forceinline__ void fc_ptx_trap()
{
    asm volatile("trap;");
}

#ifdef FC_PTX_HOPPER

/* --- mbarriers: 8 bytes of shared memory, named by their address ------------------------------------------------- */

/* Phase 0 begins; each phase completes after `arrivals` arrivals, and once all bytes it expects have come. One thread;
 * others may use the barrier after fc_ptx_fence_barrier_init() by that thread and a __syncthreads(). */
static __device__ __forceinline__ void fc_ptx_mbarrier_init(uint32_t barrier, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/* Makes barriers that this thread initialised known to the copy engine. */
static __device__ __forceinline__ void fc_ptx_fence_barrier_init()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* One arrival; what this thread did before is seen by whoever waits for the phase. */
static __device__ __forceinline__ void fc_ptx_mbarrier_arrive(uint32_t barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* One arrival, and `bytes` more that the phase expects of the copy engine. */
static __device__ __forceinline__ void fc_ptx_mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/* Has the phase of this parity completed (0: phases 0, 2, ...)? On a new barrier, parity 1 has. Waits a short while
 * before it says no, so callers loop. After yes, the phase's copies are there for threads and tensor cores alike. */
static __device__ __forceinline__ bool fc_ptx_mbarrier_try_wait(uint32_t barrier, uint32_t parity)
{
    uint32_t is_complete;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n"
                 "}"
                 : "=r"(is_complete)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return is_complete != 0;
}

/* --- the copy engine --------------------------------------------------------------------------------------------- */

/* This thread's ordinary accesses to shared memory before come before accesses of the async proxy that follow. */
static __device__ __forceinline__ void fc_ptx_fence_proxy_async()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Makes a tensor map in global memory, written before the kernel began, good for this thread's copies. map: 128 bytes
 * as cuTensorMapEncodeTiled() made them, 64-byte aligned. */
static __device__ __forceinline__ void fc_ptx_tensormap_acquire(const void *map)
{
    asm volatile("fence.proxy.tensormap::generic.acquire.sys [%0], 128;" ::"l"(map) : "memory");
}

/* Brings a tensor map near; a hint. */
static __device__ __forceinline__ void fc_ptx_tensormap_prefetch(const void *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* Starts to copy the map's box at coordinates (x, y, z) to shared memory, 1024-byte aligned; coordinates may be outside
 * the tensor, elements there become 0. The whole box's bytes count towards the barrier's current phase. One thread. */
static __device__ __forceinline__ void fc_ptx_tma_load_3d(uint32_t to, const void *map, uint32_t barrier, int32_t x,
                                                          int32_t y, int32_t z)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
                 "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

/* Starts to copy shared memory, aligned as for a load, to the map's box at coordinates (x, y, z), none below 0 (on an
 * H100 that is an illegal instruction); what of it is past the tensor's end is not written. Threads' writes to it need
 * fc_ptx_fence_proxy_async(). One thread; part of its open group.
 */
static __device__ __forceinline__ void fc_ptx_tma_store_3d(const void *map, uint32_t from, int32_t x, int32_t y,
                                                           int32_t z)
{
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
                 "r"(from), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

/* Closes the thread's open group. */
static __device__ __forceinline__ void fc_ptx_tma_store_commit()
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* Waits until all of the thread's closed groups have read shared memory, which may then be written again. */
static __device__ __forceinline__ void fc_ptx_tma_store_wait_read()
{
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

/* --- a warp's matrices ------------------------------------------------------------------------------------------- */

/* Stores four 8x8 matrices of 16-bit elements to shared memory, as fc_ptx_ldmatrix_x4() loads them: row l % 8 of matrix
 * l / 8 goes to the 16 bytes at lane l's `row`. All lanes. */
static __device__ __forceinline__ void fc_ptx_stmatrix_x4(uint32_t row, const uint32_t (&from)[4])
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(from[0]),
                 "r"(from[1]), "r"(from[2]), "r"(from[3])
                 : "memory");
}

/* --- warpgroups: four warps, the first a multiple of four ------------------------------------------------------- */

/* From now on this warpgroup's threads have REGISTERS registers, a multiple of 8 from 24 to 256. All four warps. `more`
 * waits until others have given back enough. */
template <int REGISTERS> static __device__ __forceinline__ void fc_ptx_setmaxnreg_less()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS> static __device__ __forceinline__ void fc_ptx_setmaxnreg_more()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

/* Named barriers, 0 (that of __syncthreads) to 15: `threads` of them, whole warps, arrive; those that sync wait for the
 * others. */
static __device__ __forceinline__ void fc_ptx_bar_sync(uint32_t barrier, uint32_t threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

static __device__ __forceinline__ void fc_ptx_bar_arrive(uint32_t barrier, uint32_t threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/* --- wgmma: d += a b on the tensor cores, asynchronously -------------------------------------------------------- */

/* Before the first wgmma that uses registers which threads have touched, all four warps. */
static __device__ __forceinline__ void fc_ptx_wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* Closes the group of the wgmmas issued so far. */
static __device__ __forceinline__ void fc_ptx_wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Waits until at most PENDING of the latest groups are under way. Until then their d and a registers are the tensor
 * cores'; the compiler learns of the end from fc_ptx_wgmma_keep() after the wait. */
template <int PENDING> static __device__ __forceinline__ void fc_ptx_wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* No instruction: uses of the register stay on their side of the asm statements around. */
static __device__ __forceinline__ void fc_ptx_wgmma_keep(float &value)
{
    asm volatile("" : "+f"(value)::"memory");
}

static __device__ __forceinline__ void fc_ptx_wgmma_keep(uint32_t &value)
{
    asm volatile("" : "+r"(value)::"memory");
}

/* Matrices in shared memory lie as the copy engine leaves boxes of 64 columns of 16-bit elements under the 128-byte
 * swizzle: a row has 128 bytes, 8 rows are an atom of 1024 bytes, 1024-byte aligned, and in row r of an atom 16-byte
 * piece p stands at place p ^ r. A descriptor is what wgmma takes for one:
 *     bits 0-13 address / 16, 16-29 leading offset / 16, 32-45 stride offset / 16, 62-63 = 1 (this swizzle).
 * The stride offset leads to the next 8 rows. The leading offset leads to the next 64 columns where rows run along k
 * (a transposed b, N > 64); it means nothing where columns do (k is 16, a quarter of a row: +32 bytes a step). */
static __device__ __forceinline__ uint64_t fc_ptx_wgmma_descriptor(uint32_t address, uint32_t leading_bytes,
                                                                   uint32_t stride_bytes)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(leading_bytes >> 4) << 16 |
           (uint64_t)(stride_bytes >> 4) << 32 | (uint64_t)1 << 62;
}

/* d (64 x N) = a (64 x 16) b^T, + d where accumulates: a has 64 rows, b N rows, of 16 columns, both in shared memory.
 * T is their type. Thread t of the warpgroup, with w = t / 32, g = t % 32 / 4 and c = t % 4, has of d
 *     d[4 j], d[4 j + 1]:     row 16 w + g,     columns 8 j + 2 c and the next
 *     d[4 j + 2], d[4 j + 3]: row 16 w + g + 8, the same columns. */
template <typename T, int N>
static __device__ __forceinline__ void fc_ptx_wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulates);

/* d (64 x N) += a (64 x 16) b: a in registers as fc_ptx_mma() has its a, each warp 16 rows: a[0], a[1] are rows g and
 * g + 8 at columns 2 c and the next, a[2], a[3] the same rows at columns 2 c + 8. b has 16 rows of N columns. */
template <typename T, int N>
static __device__ __forceinline__ void fc_ptx_wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b);

#define FC_PTX_WGMMA_SS(T, TYPE, N, NAMES, SUMS, A, B, ACCUMULATES)                                                    \
    template <>                                                                                                        \
    __device__ __forceinline__ void fc_ptx_wgmma_ss<T, N>(float(&d)[N / 2], uint64_t a, uint64_t b, bool accumulates)  \
    {                                                                                                                  \
        asm volatile("{\n"                                                                                             \
                     ".reg .pred p;\n"                                                                                 \
                     "setp.ne.b32 p, " ACCUMULATES ", 0;\n"                                                            \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" NAMES "}, " A ", " B         \
                     ", p, 1, 1, 0, 0;\n"                                                                              \
                     "}"                                                                                               \
                     : SUMS                                                                                            \
                     : "l"(a), "l"(b), "r"((int)accumulates));                                                         \
    }

#define FC_PTX_WGMMA_RS(T, TYPE, N, NAMES, SUMS, A, B)                                                                 \
    template <>                                                                                                        \
    __device__ __forceinline__ void fc_ptx_wgmma_rs<T, N>(float(&d)[N / 2], const uint32_t(&a)[4], uint64_t b)         \
    {                                                                                                                  \
        asm volatile("{\n"                                                                                             \
                     ".reg .pred p;\n"                                                                                 \
                     "setp.ne.b32 p, 1, 0;\n"                                                                          \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" NAMES "}, " A ", " B         \
                     ", p, 1, 1, 1;\n"                                                                                 \
                     "}"                                                                                               \
                     : SUMS                                                                                            \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                            \
    }

/* Asm statements name their operands by number: the sums come first, 8 to 128 of them. */
#define FC_PTX_NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define FC_PTX_NAMES_16 FC_PTX_NAMES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define FC_PTX_NAMES_24 FC_PTX_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define FC_PTX_NAMES_32 FC_PTX_NAMES_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define FC_PTX_NAMES_40 FC_PTX_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define FC_PTX_NAMES_48 FC_PTX_NAMES_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define FC_PTX_NAMES_56 FC_PTX_NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define FC_PTX_NAMES_64 FC_PTX_NAMES_56 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define FC_PTX_NAMES_72 FC_PTX_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define FC_PTX_NAMES_80 FC_PTX_NAMES_72 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define FC_PTX_NAMES_88 FC_PTX_NAMES_80 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define FC_PTX_NAMES_96 FC_PTX_NAMES_88 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define FC_PTX_NAMES_104 FC_PTX_NAMES_96 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define FC_PTX_NAMES_112 FC_PTX_NAMES_104 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define FC_PTX_NAMES_120 FC_PTX_NAMES_112 ", %112, %113, %114, %115, %116, %117, %118, %119"
#define FC_PTX_NAMES_128 FC_PTX_NAMES_120 ", %120, %121, %122, %123, %124, %125, %126, %127"
#define FC_PTX_SUMS_8 "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
#define FC_PTX_SUMS_16                                                                                                 \
    FC_PTX_SUMS_8, "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define FC_PTX_SUMS_24                                                                                                 \
    FC_PTX_SUMS_16, "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]),         \
        "+f"(d[23])
#define FC_PTX_SUMS_32                                                                                                 \
    FC_PTX_SUMS_24, "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),         \
        "+f"(d[31])
#define FC_PTX_SUMS_40                                                                                                 \
    FC_PTX_SUMS_32, "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]),         \
        "+f"(d[39])
#define FC_PTX_SUMS_48                                                                                                 \
    FC_PTX_SUMS_40, "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]),         \
        "+f"(d[47])
#define FC_PTX_SUMS_56                                                                                                 \
    FC_PTX_SUMS_48, "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]),         \
        "+f"(d[55])
#define FC_PTX_SUMS_64                                                                                                 \
    FC_PTX_SUMS_56, "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]),         \
        "+f"(d[63])
#define FC_PTX_SUMS_72                                                                                                 \
    FC_PTX_SUMS_64, "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]),         \
        "+f"(d[71])
#define FC_PTX_SUMS_80                                                                                                 \
    FC_PTX_SUMS_72, "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]),         \
        "+f"(d[79])
#define FC_PTX_SUMS_88                                                                                                 \
    FC_PTX_SUMS_80, "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]),         \
        "+f"(d[87])
#define FC_PTX_SUMS_96                                                                                                 \
    FC_PTX_SUMS_88, "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]),         \
        "+f"(d[95])
#define FC_PTX_SUMS_104                                                                                                \
    FC_PTX_SUMS_96, "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]),      \
        "+f"(d[103])
#define FC_PTX_SUMS_112                                                                                                \
    FC_PTX_SUMS_104, "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), \
        "+f"(d[111])
#define FC_PTX_SUMS_120                                                                                                \
    FC_PTX_SUMS_112, "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), \
        "+f"(d[119])
#define FC_PTX_SUMS_128                                                                                                \
    FC_PTX_SUMS_120, "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), \
        "+f"(d[127])

FC_PTX_WGMMA_SS(__half, "f16", 64, FC_PTX_NAMES_32, FC_PTX_SUMS_32, "%32", "%33", "%34")
FC_PTX_WGMMA_SS(__nv_bfloat16, "bf16", 64, FC_PTX_NAMES_32, FC_PTX_SUMS_32, "%32", "%33", "%34")
FC_PTX_WGMMA_SS(__half, "f16", 80, FC_PTX_NAMES_40, FC_PTX_SUMS_40, "%40", "%41", "%42")
FC_PTX_WGMMA_SS(__nv_bfloat16, "bf16", 80, FC_PTX_NAMES_40, FC_PTX_SUMS_40, "%40", "%41", "%42")
FC_PTX_WGMMA_SS(__half, "f16", 112, FC_PTX_NAMES_56, FC_PTX_SUMS_56, "%56", "%57", "%58")
FC_PTX_WGMMA_SS(__nv_bfloat16, "bf16", 112, FC_PTX_NAMES_56, FC_PTX_SUMS_56, "%56", "%57", "%58")
FC_PTX_WGMMA_SS(__half, "f16", 128, FC_PTX_NAMES_64, FC_PTX_SUMS_64, "%64", "%65", "%66")
FC_PTX_WGMMA_SS(__nv_bfloat16, "bf16", 128, FC_PTX_NAMES_64, FC_PTX_SUMS_64, "%64", "%65", "%66")
FC_PTX_WGMMA_SS(__half, "f16", 176, FC_PTX_NAMES_88, FC_PTX_SUMS_88, "%88", "%89", "%90")
FC_PTX_WGMMA_SS(__nv_bfloat16, "bf16", 176, FC_PTX_NAMES_88, FC_PTX_SUMS_88, "%88", "%89", "%90")
FC_PTX_WGMMA_SS(__half, "f16", 192, FC_PTX_NAMES_96, FC_PTX_SUMS_96, "%96", "%97", "%98")
FC_PTX_WGMMA_SS(__nv_bfloat16, "bf16", 192, FC_PTX_NAMES_96, FC_PTX_SUMS_96, "%96", "%97", "%98")
FC_PTX_WGMMA_RS(__half, "f16", 64, FC_PTX_NAMES_32, FC_PTX_SUMS_32, "{%32, %33, %34, %35}", "%36")
FC_PTX_WGMMA_RS(__nv_bfloat16, "bf16", 64, FC_PTX_NAMES_32, FC_PTX_SUMS_32, "{%32, %33, %34, %35}", "%36")
FC_PTX_WGMMA_RS(__half, "f16", 128, FC_PTX_NAMES_64, FC_PTX_SUMS_64, "{%64, %65, %66, %67}", "%68")
FC_PTX_WGMMA_RS(__nv_bfloat16, "bf16", 128, FC_PTX_NAMES_64, FC_PTX_SUMS_64, "{%64, %65, %66, %67}", "%68")
FC_PTX_WGMMA_RS(__half, "f16", 192, FC_PTX_NAMES_96, FC_PTX_SUMS_96, "{%96, %97, %98, %99}", "%100")
FC_PTX_WGMMA_RS(__nv_bfloat16, "bf16", 192, FC_PTX_NAMES_96, FC_PTX_SUMS_96, "{%96, %97, %98, %99}", "%100")
FC_PTX_WGMMA_RS(__half, "f16", 256, FC_PTX_NAMES_128, FC_PTX_SUMS_128, "{%128, %129, %130, %131}", "%132")
FC_PTX_WGMMA_RS(__nv_bfloat16, "bf16", 256, FC_PTX_NAMES_128, FC_PTX_SUMS_128, "{%128, %129, %130, %131}", "%132")

#endif /* FC_PTX_HOPPER */

#endif
