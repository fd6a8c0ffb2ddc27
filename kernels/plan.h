/* What plans are chosen from: what a rung can do, and in which tiles. For plan.c, plan_shape.c and their tests;
 * everyone else sees plans alone (attention.h). Pure values and functions, any thread.
 */
#ifndef FC_KERNELS_PLAN_H
#define FC_KERNELS_PLAN_H

#include "kernels/attention.h"

/* One compiled variant of a kernel. */
typedef struct fc_tile {
    int32_t head_dim;    /* the widest it does; narrower ones are padded */
    int32_t q_tile_rows; /* query rows of a block */
    int32_t kv_tile_tokens;
    int32_t blocks_per_processor; /* that run at the same time */
} fc_tile;

#define FC_CAPABILITY_ANY INT32_MAX

/* What a rung can do. Where only some head_dims, dtypes or devices will do, the rung says so here and nowhere else. */
typedef struct fc_rung {
    int32_t capability_least, capability_most; /* compute capabilities, as in fc_device; 0 and 0 on the CPU */
    uint32_t dtypes;                           /* bit 1 << fc_dtype each */
    int32_t head_dim_step, head_dim_most;
    const fc_tile *tiles; /* by head_dim, narrow first; of one head_dim, many rows first. fc_plan.variant indexes it */
    uint32_t tile_count;
    bool packs_heads;
    uint32_t split_cost;       /* what splitting adds to a block's time, in tiles of keys; 0: it splits no keys */
    uint32_t descriptor_bytes; /* see fc_plan */
} fc_rung;

/* Fills variant, q_tile_rows, packed_heads, split_count, ticket_count, workspace_bytes and descriptor_bytes of the plan
 * for a problem that was checked and that the rung can do. wish: what is not to be chosen; NULL: nothing. The reason of
 * FC_UNSUPPORTED, which only wishes meet, completes "kernel: tc ...". */
fc_status fc_plan_shape(const fc_rung *rung, const fc_device *device, const fc_problem *problem,
                        const fc_plan_wish *wish, fc_plan *out_plan, fc_reason *out_reason);

/* How a launch of tiles would fill a device. */
typedef struct fc_split_question {
    uint64_t tiles;      /* of the problem, unsplit */
    uint64_t kv_tiles;   /* the most that one of them walks through */
    uint64_t slots;      /* blocks the device runs at once */
    uint32_t cost;       /* fc_rung.split_cost */
    uint64_t split_most; /* memory's limit */
} fc_split_question;

/* The split count with which the problem alone is over soonest; the least of several. 1: better whole. */
uint32_t fc_plan_splits(const fc_split_question *question);

/* Most parts the keys are ever cut into: one block has to merge them all. */
#define FC_SPLITS_MAX 128

/* Least tiles of keys a part gets: below that, starting and ending a block is most of its work. */
#define FC_SPLIT_KV_TILES_MIN 2

#endif
