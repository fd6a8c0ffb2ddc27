/* Elements of the three types, to and from float, two or eight at a time. Pointers are aligned to what they move, up to
 * 16 bytes. Loads are of inputs, which no kernel writes: they take the read-only path. Stores round to nearest even. */
#ifndef FC_KERNELS_ELEMENT_CUH
#define FC_KERNELS_ELEMENT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

static __device__ __forceinline__ float2 fc_load_pair(const __half *from)
{
    return __half22float2(__ldg(reinterpret_cast<const __half2 *>(from)));
}

static __device__ __forceinline__ float2 fc_load_pair(const __nv_bfloat16 *from)
{
    return __bfloat1622float2(__ldg(reinterpret_cast<const __nv_bfloat162 *>(from)));
}

static __device__ __forceinline__ float2 fc_load_pair(const float *from)
{
    return __ldg(reinterpret_cast<const float2 *>(from));
}

static __device__ __forceinline__ void fc_store_pair(__half *to, float2 pair)
{
    *reinterpret_cast<__half2 *>(to) = __float22half2_rn(pair);
}

static __device__ __forceinline__ void fc_store_pair(__nv_bfloat16 *to, float2 pair)
{
    *reinterpret_cast<__nv_bfloat162 *>(to) = __float22bfloat162_rn(pair);
}

static __device__ __forceinline__ void fc_store_pair(float *to, float2 pair)
{
    *reinterpret_cast<float2 *>(to) = pair;
}

/* Eight elements: one 16-byte access for the halves, two for float. */
struct alignas(16) fc_eight_halves {
    __half2 pair[4];
};

struct alignas(16) fc_eight_bfloats {
    __nv_bfloat162 pair[4];
};

/* The elements of a 16-byte piece. */
template <typename T> static __device__ __forceinline__ void fc_expand(const uint4 &bits, float (&to)[16 / sizeof(T)]);

template <> __device__ __forceinline__ void fc_expand<__half>(const uint4 &bits, float (&to)[8])
{
    fc_eight_halves eight;
    memcpy(&eight, &bits, sizeof eight);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = __half22float2(eight.pair[i]);
        to[2 * i] = pair.x;
        to[2 * i + 1] = pair.y;
    }
}

template <> __device__ __forceinline__ void fc_expand<__nv_bfloat16>(const uint4 &bits, float (&to)[8])
{
    fc_eight_bfloats eight;
    memcpy(&eight, &bits, sizeof eight);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = __bfloat1622float2(eight.pair[i]);
        to[2 * i] = pair.x;
        to[2 * i + 1] = pair.y;
    }
}

template <> __device__ __forceinline__ void fc_expand<float>(const uint4 &bits, float (&to)[4])
{
    memcpy(to, &bits, sizeof to);
}

static __device__ __forceinline__ void fc_load_eight(const __half *from, float (&to)[8])
{
    fc_expand<__half>(__ldg(reinterpret_cast<const uint4 *>(from)), to);
}

static __device__ __forceinline__ void fc_load_eight(const __nv_bfloat16 *from, float (&to)[8])
{
    fc_expand<__nv_bfloat16>(__ldg(reinterpret_cast<const uint4 *>(from)), to);
}

static __device__ __forceinline__ void fc_load_eight(const float *from, float (&to)[8])
{
    const float4 low = __ldg(reinterpret_cast<const float4 *>(from));
    const float4 high = __ldg(reinterpret_cast<const float4 *>(from) + 1);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

static __device__ __forceinline__ void fc_store_eight(__half *to, const float (&from)[8])
{
    fc_eight_halves eight;
#pragma unroll
    for (int i = 0; i < 4; i++)
        eight.pair[i] = __floats2half2_rn(from[2 * i], from[2 * i + 1]);
    *reinterpret_cast<fc_eight_halves *>(to) = eight;
}

static __device__ __forceinline__ void fc_store_eight(__nv_bfloat16 *to, const float (&from)[8])
{
    fc_eight_bfloats eight;
#pragma unroll
    for (int i = 0; i < 4; i++)
        eight.pair[i] = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
    *reinterpret_cast<fc_eight_bfloats *>(to) = eight;
}

static __device__ __forceinline__ void fc_store_eight(float *to, const float (&from)[8])
{
    reinterpret_cast<float4 *>(to)[0] = make_float4(from[0], from[1], from[2], from[3]);
    reinterpret_cast<float4 *>(to)[1] = make_float4(from[4], from[5], from[6], from[7]);
}

/* Four elements: one access. */
struct alignas(8) fc_four_halves {
    __half2 pair[2];
};

struct alignas(8) fc_four_bfloats {
    __nv_bfloat162 pair[2];
};

static __device__ __forceinline__ void fc_store_four(__half *to, float4 four)
{
    *reinterpret_cast<fc_four_halves *>(to) = {{__floats2half2_rn(four.x, four.y), __floats2half2_rn(four.z, four.w)}};
}

static __device__ __forceinline__ void fc_store_four(__nv_bfloat16 *to, float4 four)
{
    *reinterpret_cast<fc_four_bfloats *>(to) = {
        {__floats2bfloat162_rn(four.x, four.y), __floats2bfloat162_rn(four.z, four.w)}};
}

static __device__ __forceinline__ void fc_store_four(float *to, float4 four)
{
    *reinterpret_cast<float4 *>(to) = four;
}

#endif
