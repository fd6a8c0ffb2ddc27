/* The heads of launches: segments and their descriptors, in pinned memory and a copy on the device. Making one takes
 * the driver, and its copy a trip over the bus before the kernel, so a lane keeps those of launches before: who asks
 * again from and to the same addresses, now and then or in turns, pays for neither.
 *
 * Heads of few segments have places of their own, of which the one used longest ago is given up for a new one. Longer
 * ones share one place.
 *
 * Threads: the lane's. Memory is the lane's.
 */
#ifndef FC_KERNELS_CUDA_HEADS_H
#define FC_KERNELS_CUDA_HEADS_H

#include "kernels/cuda_launch.h"
#include "kernels/engine.h"

enum { FC_CUDA_HEADS_SHORT = 32, FC_CUDA_HEAD_SHORT_BYTES = 4096 };

typedef struct fc_cuda_head {
    size_t offset, room_bytes; /* in both memories */
    size_t size_bytes;
    fc_launch launch;        /* it is of; segment_count 0: of none */
    bool is_on_device;       /* the lane's to set, once it has been sent */
    uint64_t used_at;        /* the number of the launch that used it last */
    uint32_t use_count;      /* by launches since it was made */
    fc_engine_timing marked; /* the lane's: what a launch with marks took */
} fc_cuda_head;

typedef struct fc_cuda_heads {
    char *pinned, *d_copy;
    fc_cuda_head heads[FC_CUDA_HEADS_SHORT + 1]; /* the last has room for every launch */
    uint64_t launch_count;
} fc_cuda_heads;

/* What heads of launches of at most segments_max take in either memory. A multiple of the layout's alignment. */
size_t fc_cuda_heads_bytes(uint32_t segments_max);

/* Both memories, of so many bytes each, stay until the last use. */
void fc_cuda_heads_init(fc_cuda_heads *heads, uint32_t segments_max, char *pinned, char *d_copy);

/* The head of a launch that has its segments: one that is on the device, or a new one in pinned memory. Tells the
 * launch where its parts are. FC_INTERNAL: the driver refused to describe it. */
fc_status fc_cuda_heads_find(fc_cuda_heads *heads, fc_launch *launch, fc_cuda_head **out_head, fc_reason *out_reason);

/* None is on the device any more, or none can be told to be. */
void fc_cuda_heads_forget(fc_cuda_heads *heads);

#endif
