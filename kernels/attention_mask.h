/* The interval of keys a query row sees, for host and device code alike: the one place masks are decided. */
#ifndef FC_KERNELS_ATTENTION_MASK_H
#define FC_KERNELS_ATTENTION_MASK_H

#include "kernels/attention.h"

#ifdef __CUDACC__
#define FC_HOST_DEVICE __host__ __device__
#else
#define FC_HOST_DEVICE
#endif

/* First key row `row` sees; the row sees nothing when this is >= fc_key_end(). */
static inline FC_HOST_DEVICE int32_t fc_key_begin(const fc_segment *segment, int32_t row)
{
    int64_t begin = row + segment->key_begin_offset;
    return begin < 0 ? 0 : begin > segment->kv_len ? segment->kv_len : (int32_t)begin;
}

/* One past the last key row `row` sees. */
static inline FC_HOST_DEVICE int32_t fc_key_end(const fc_segment *segment, int32_t row)
{
    int64_t end = row + segment->key_end_offset;
    return end < 0 ? 0 : end > segment->kv_len ? segment->kv_len : (int32_t)end;
}

#endif
