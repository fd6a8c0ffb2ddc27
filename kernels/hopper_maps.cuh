/* The tensor maps of `hopper`: how the copy engine finds a segment's Q, K, V and output. Host code alone.
 *
 * A map holds a whole tensor of one segment: base, extents, strides, and the box that one copy moves, 64 columns wide
 * under the 128-byte swizzle. Extents begin at 0 and end at q_len and kv_len: what is outside reads as 0, whatever the
 * memory holds. Rows of Q run over the packed heads within a token, as those of a tile do (fc_plan); those of the
 * output, a warp's at a time, are of one head: the kernel packs none.
 */
#ifndef FC_KERNELS_HOPPER_MAPS_CUH
#define FC_KERNELS_HOPPER_MAPS_CUH

#include "kernels/attention_tile.h"
#include "kernels/cuda_launch.h"

#include <cuda.h>
#include <cudaTypedefs.h>

#include <cstring>

namespace
{

constexpr uint32_t MAP_BOX_COLUMNS = 64, MAP_Q_ROWS = 64, MAP_OUT_ROWS = 16; /* of the boxes */

static_assert(sizeof(CUtensorMap) * FC_HOPPER_MAPS == FC_HOPPER_DESCRIPTOR_BYTES, "what the plan reserves");

/* Keys of a step, by fc_plan.variant. */
const uint32_t MAP_KEYS[] = {
#define FC_HOPPER_ROW(head_dim, row_groups, key_groups, keys, stages) keys,
#include "kernels/hopper.def"
#undef FC_HOPPER_ROW
};

/* The driver's own function: the runtime has none, and the engine does not link the driver. */
PFN_cuTensorMapEncodeTiled_v12000 find_encoder()
{
    void *found = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
    return error == cudaSuccess && result == cudaDriverEntryPointSuccess
               ? reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(found)
               : nullptr;
}

/* A tensor of 16-bit elements whose rows are contiguous, and the box a copy moves. */
struct Tensor {
    const void *base;
    int64_t columns, counts[2], strides[2]; /* strides in elements */
    uint32_t box[2];
};

/* False: the driver would not. */
bool encode(PFN_cuTensorMapEncodeTiled_v12000 encoder, fc_dtype dtype, const Tensor &tensor, CUtensorMap *out_map)
{
    cuuint64_t dims[3] = {(cuuint64_t)tensor.columns}, strides[2];
    const cuuint32_t box[3] = {MAP_BOX_COLUMNS, tensor.box[0], tensor.box[1]}, steps[3] = {1, 1, 1};
    for (int i = 0; i < 2; i++) {
        /* The stride of a single row or head means nothing, but the driver wants a good one. */
        const int64_t stride = tensor.counts[i] > 1 ? tensor.strides[i] : FC_HEAD_DIM_MAX;
        dims[i + 1] = (cuuint64_t)tensor.counts[i];
        strides[i] = (cuuint64_t)stride * 2;
    }
    return encoder(out_map, dtype == FC_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3,
                   const_cast<void *>(tensor.base), dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                   CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* The four maps of a segment. Tensors without tokens have none, nobody reads them. */
bool describe_segment(PFN_cuTensorMapEncodeTiled_v12000 encoder, const fc_plan &plan, uint32_t keys,
                      const fc_segment &s, CUtensorMap *out_maps)
{
    const uint32_t heads = (uint32_t)s.packed_heads;
    const Tensor q = {
        s.q, plan.head_dim, {s.q_heads, s.q_len}, {s.q_head_stride, s.q_token_stride}, {heads, MAP_Q_ROWS / heads}};
    const Tensor k = {s.k, plan.head_dim, {s.kv_len, s.kv_heads}, {s.k_token_stride, s.k_head_stride}, {keys, 1}};
    const Tensor v = {s.v, plan.head_dim, {s.kv_len, s.kv_heads}, {s.v_token_stride, s.v_head_stride}, {keys, 1}};
    const Tensor out = {
        s.out, plan.head_dim, {s.q_heads, s.q_len}, {s.out_head_stride, s.out_token_stride}, {1, MAP_OUT_ROWS}};
    if (MAP_Q_ROWS % heads != 0)
        return false;
    return (s.q_len == 0 || (encode(encoder, plan.dtype, q, &out_maps[FC_HOPPER_MAP_Q]) &&
                             encode(encoder, plan.dtype, out, &out_maps[FC_HOPPER_MAP_OUT]))) &&
           (s.kv_len == 0 || (encode(encoder, plan.dtype, k, &out_maps[FC_HOPPER_MAP_K]) &&
                              encode(encoder, plan.dtype, v, &out_maps[FC_HOPPER_MAP_V])));
}

/* See fc_cuda_describer. */
fc_status describe_launch(const fc_launch *launch, void *out_descriptors)
{
    static const PFN_cuTensorMapEncodeTiled_v12000 encoder = find_encoder();
    const fc_plan &plan = launch->plan;
    char *to = static_cast<char *>(out_descriptors);
    if (encoder == nullptr || plan.variant >= sizeof MAP_KEYS / sizeof *MAP_KEYS ||
        plan.descriptor_bytes != FC_HOPPER_DESCRIPTOR_BYTES)
        return FC_INTERNAL;
    for (uint32_t i = 0; i < launch->segment_count; i++) {
        CUtensorMap maps[FC_HOPPER_MAPS] =
            {}; /* aligned as the driver wants it, which the caller's memory need not be */
        if (!describe_segment(encoder, plan, MAP_KEYS[plan.variant], launch->segments[i], maps))
            return FC_INTERNAL;
        memcpy(to + (size_t)i * sizeof maps, maps, sizeof maps);
    }
    return FC_OK;
}

} // namespace

#endif
