/* What plans are chosen from: what a rung can do, and in which tiles. For plan.c, plan_shape.c and their tests;
 * everyone else sees plans alone (attention.h). Pure values and functions, any thread.
 */
#ifndef FC_KERNELS_PLAN_H
#define FC_KERNELS_PLAN_H

#include "kernels/attention.h"

/* One compiled variant of a kernel. */
typedef struct fc_tile {
    int32_t head_dim;             /* the widest it does; narrower ones are padded */
    int32_t q_tile_rows;          /* query rows of a block */
    int32_t kv_tile_tokens;       /* keys of one step of a block */
    int32_t blocks_per_processor; /* that run at the same time, as far as registers go */
    int32_t shared_bytes;         /* of a block; 0: never what limits how many run */
} fc_tile;

/* How fast a rung is, roughly: enough to tell its own tiles and split counts from each other. All for one processor. */
typedef struct fc_pace {
    double flops_per_ns; /* of an occupied processor: 4 x rows x keys x head_dim count */
    double step_ns;      /* of every step, whatever its size */
    double start_ns;     /* of every block: its first loads */
    double row_ns;       /* of every row of a block: its query, its output */
    double split_ns;     /* of leaving partial results and drawing a ticket; 0: the rung splits no keys */
} fc_pace;

#define FC_CAPABILITY_ANY INT32_MAX

/* What a rung can do. Where only some head_dims, dtypes or devices will do, the rung says so here and nowhere else. */
typedef struct fc_rung {
    int32_t capability_least, capability_most; /* compute capabilities, as in fc_device; 0 and 0 on the CPU */
    uint32_t dtypes;                           /* bit 1 << fc_dtype each */
    int32_t head_dim_step, head_dim_most;
    const fc_tile *tiles; /* in any order; fc_plan.variant indexes it */
    uint32_t tile_count;
    bool packs_heads;
    bool draws_work;      /* blocks draw their work, with the launch's first ticket; such a rung splits no keys */
    int32_t packs_divide; /* packed_heads have to divide this; 0: any will do */
    fc_pace pace;
    uint32_t descriptor_bytes; /* see fc_plan */
    /* Is the tile meant for such problems? NULL: every tile is. One of each width has to be. */
    bool (*suits)(const fc_tile *tile, const fc_problem *problem);
} fc_rung;

/* The longest kv_len of the batch. */
int64_t fc_problem_longest_kv_len(const fc_problem *problem);

/* Does any query see fewer keys than another of its batch entry may? */
bool fc_problem_is_masked(const fc_problem *problem);

/* Fills variant, q_tile_rows, packed_heads, split_count, ticket_count, workspace_bytes and descriptor_bytes of the plan
 * for a problem that was checked and that the rung can do: of the tiles of the least width that holds the head_dim, and
 * of the split counts, the pair that by the rung's pace is over soonest. wish: what is not to be chosen; NULL: nothing.
 * The reason of FC_UNSUPPORTED, which only wishes meet, completes "kernel: tc ...". */
fc_status fc_plan_shape(const fc_rung *rung, const fc_device *device, const fc_problem *problem,
                        const fc_plan_wish *wish, fc_plan *out_plan, fc_reason *out_reason);

/* Most parts the keys are ever cut into: one block has to merge them all. */
#define FC_SPLITS_MAX 128

/* Least steps of a part: below that, starting and ending a block is most of its work. */
#define FC_SPLIT_STEPS_MIN 2

#endif
