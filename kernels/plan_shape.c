/* The shape of a plan: which tile, how many heads share one, into how many parts the keys are cut. Pure arithmetic over
 * the problem and the device; nothing here knows a rung by name, and nothing may ever look at what shares a launch.
 */
#include "kernels/plan.h"

/* More rows than this are not packed: tiles are full without it, and the device counts packed rows in 32 bits. */
#define PACKED_ROWS_MAX (1 << 20)

/* Tiles are not made smaller than this to occupy more processors: each reads all of its keys and values again. */
#define FILL_ROWS_MIN 64

/* What starting and ending a block takes, in tiles of keys. */
#define BLOCK_COST 1

/* Past this many waves of blocks the last one, however empty, matters little. */
#define WAVES_WITHOUT_SPLITS 4

/* Partial results that the merging block takes up in the time of a tile of keys. */
#define MERGED_A_TILE 8

static uint64_t parts_of(uint64_t whole, uint64_t part)
{
    return whole / part + (whole % part != 0);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- tiles ------------------------------------------------------------------------------------------------------ */

/* Heads that read the same keys share a tile where that saves tiles. */
static int32_t choose_packing(const fc_problem *p, int32_t q_tile_rows)
{
    int64_t group = p->q_heads / p->kv_heads, rows = group * p->q_len;
    if (p->q_len == 0 || p->q_len >= q_tile_rows || rows > PACKED_ROWS_MAX)
        return 1;
    return parts_of((uint64_t)rows, (uint64_t)q_tile_rows) < (uint64_t)group ? (int32_t)group : 1;
}

static uint64_t count_tiles(const fc_problem *p, int32_t packed_heads, int32_t q_tile_rows)
{
    uint64_t rows = (uint64_t)p->q_len * (uint64_t)packed_heads;
    uint64_t packs = (uint64_t)p->batch * (uint64_t)(p->q_heads / packed_heads);
    return packs * parts_of(rows, (uint64_t)q_tile_rows);
}

/* The first of the tiles that are as narrow as the head_dim allows. */
static uint32_t first_tile(const fc_rung *rung, int32_t head_dim)
{
    uint32_t i = 0;
    while (i + 1 < rung->tile_count && rung->tiles[i].head_dim < head_dim)
        i++;
    return i;
}

static bool has_next_tile(const fc_rung *rung, uint32_t variant)
{
    return variant + 1 < rung->tile_count && rung->tiles[variant + 1].head_dim == rung->tiles[variant].head_dim;
}

/* From the largest tile down: a smaller one where it holds all rows all the same, or where the device would stand
 * idle. */
static uint32_t choose_tile(const fc_rung *rung, const fc_device *device, const fc_problem *p, uint32_t largest,
                            int32_t packed_heads)
{
    uint32_t variant = largest;
    while (has_next_tile(rung, variant)) {
        int32_t smaller = rung->tiles[variant + 1].q_tile_rows;
        uint64_t tiles = count_tiles(p, packed_heads, rung->tiles[variant].q_tile_rows);
        bool holds_all = (int64_t)p->q_len * packed_heads <= smaller;
        bool is_idle = tiles < (uint64_t)device->processor_count && smaller >= FILL_ROWS_MIN;
        if (!holds_all && !is_idle)
            break;
        variant++;
    }
    return variant;
}

/* --- splits ----------------------------------------------------------------------------------------------------- */

/* The most keys one tile walks through: that of the longest batch entry, masks considered. tile_tokens: how many
 * neighbouring queries share a tile. */
static uint64_t longest_walk(const fc_problem *p, int64_t tile_tokens)
{
    uint64_t longest = 0;
    for (int32_t b = 0; b < p->batch; b++) {
        uint64_t kv_len = p->kv_lens != NULL ? p->kv_lens[b] : (uint64_t)p->kv_len;
        longest = kv_len > longest ? kv_len : longest;
        if (p->kv_lens == NULL)
            break;
    }
    if (p->causal == FC_CAUSAL_TOP_LEFT)
        longest = least(longest, (uint64_t)p->q_len);
    int64_t left = p->window_left, right = p->causal == FC_CAUSAL_NONE ? p->window_right : 0;
    if (left >= 0 && left <= FC_TOKENS_MAX && right >= 0 && right <= FC_TOKENS_MAX)
        longest = least(longest, (uint64_t)(left + right + tile_tokens));
    return longest;
}

/* The time of s parts in tiles of keys: full waves of blocks, and the merging behind them. */
static uint64_t time_of(const fc_split_question *q, uint64_t splits)
{
    uint64_t waves = parts_of(q->tiles * splits, q->slots);
    uint64_t merging = splits > 1 ? q->cost + splits / MERGED_A_TILE : 0;
    return waves * (parts_of(q->kv_tiles, splits) + BLOCK_COST) + merging;
}

uint32_t fc_plan_splits(const fc_split_question *q)
{
    uint64_t most = least(least(q->split_most, FC_SPLITS_MAX), q->kv_tiles / FC_SPLIT_KV_TILES_MIN);
    uint64_t best = 1;
    if (q->cost == 0 || q->tiles == 0 || q->slots == 0 || q->tiles / q->slots >= WAVES_WITHOUT_SPLITS)
        return 1;
    for (uint64_t splits = 2; splits <= most; splits++) {
        if (time_of(q, splits) < time_of(q, best))
            best = splits;
    }
    return (uint32_t)best;
}

/* The question behind the plan's split count, and what a partial result of every row would take. */
static fc_split_question ask(const fc_rung *rung, const fc_device *device, const fc_problem *p, const fc_plan *plan,
                             uint64_t *out_partial_bytes)
{
    const fc_tile *tile = &rung->tiles[plan->variant];
    uint64_t rows = (uint64_t)p->batch * (uint64_t)p->q_heads * (uint64_t)p->q_len;
    uint64_t partial_bytes = rows * FC_PARTIAL_FLOATS((uint64_t)p->head_dim) * sizeof(float);
    uint64_t tile_tokens = parts_of((uint64_t)tile->q_tile_rows, (uint64_t)plan->packed_heads) + 1;
    *out_partial_bytes = partial_bytes;
    return (fc_split_question){
        .tiles = count_tiles(p, plan->packed_heads, tile->q_tile_rows),
        .kv_tiles = parts_of(longest_walk(p, (int64_t)tile_tokens), (uint64_t)tile->kv_tile_tokens),
        .slots = (uint64_t)device->processor_count * (uint64_t)tile->blocks_per_processor,
        .cost = rung->split_cost,
        .split_most = partial_bytes > 0 ? FC_LAUNCH_WORKSPACE_BYTES_MAX / partial_bytes : 1,
    };
}

static fc_status split(const fc_rung *rung, const fc_device *device, const fc_problem *p, uint32_t wanted,
                       fc_plan *plan, fc_reason *out_reason)
{
    uint64_t partial_bytes;
    fc_split_question question = ask(rung, device, p, plan, &partial_bytes);
    if (wanted > 1 && rung->split_cost == 0)
        return fc_fail(FC_UNSUPPORTED, out_reason, "splits no keys");
    if (wanted > 1 && (wanted > FC_SPLITS_MAX || (partial_bytes > 0 && wanted > question.split_most) ||
                       question.tiles > FC_LAUNCH_TICKETS_MAX))
        return fc_fail(FC_UNSUPPORTED, out_reason, "cannot split so many rows into %lu parts", (unsigned long)wanted);
    plan->split_count = wanted > 0 ? wanted : question.tiles > FC_LAUNCH_TICKETS_MAX ? 1 : fc_plan_splits(&question);
    plan->ticket_count = plan->split_count > 1 ? (uint32_t)question.tiles : 0;
    plan->workspace_bytes = plan->split_count > 1 ? (size_t)(plan->split_count * partial_bytes) : 0;
    return FC_OK;
}

/* --- wishes ----------------------------------------------------------------------------------------------------- */

static fc_status check_wish(const fc_rung *rung, const fc_problem *p, const fc_plan_wish *wish, fc_reason *out_reason)
{
    int32_t group = p->q_heads / p->kv_heads, packed = wish->packed_heads;
    if (wish->variant >= 0 && (uint32_t)wish->variant >= rung->tile_count)
        return fc_fail(FC_UNSUPPORTED, out_reason, "has %lu variants", (unsigned long)rung->tile_count);
    if (wish->variant >= 0 && rung->tiles[wish->variant].head_dim < p->head_dim)
        return fc_fail(FC_UNSUPPORTED, out_reason, "does head_dims up to %d in variant %d",
                       (int)rung->tiles[wish->variant].head_dim, (int)wish->variant);
    if (packed > 1 && !rung->packs_heads)
        return fc_fail(FC_UNSUPPORTED, out_reason, "packs no heads");
    if (packed < 0 || (packed > 1 && (group % packed != 0 || (int64_t)p->q_len * packed > PACKED_ROWS_MAX)))
        return fc_fail(FC_UNSUPPORTED, out_reason, "cannot pack %d heads of %d that read the same keys", (int)packed,
                       (int)group);
    return FC_OK;
}

static const fc_plan_wish NO_WISH = {.variant = -1};

fc_status fc_plan_shape(const fc_rung *rung, const fc_device *device, const fc_problem *problem,
                        const fc_plan_wish *wish, fc_plan *out_plan, fc_reason *out_reason)
{
    const fc_plan_wish *w = wish != NULL ? wish : &NO_WISH;
    uint32_t largest = first_tile(rung, problem->head_dim);
    fc_status st = check_wish(rung, problem, w, out_reason);
    if (st != FC_OK)
        return st;
    out_plan->packed_heads = w->packed_heads;
    if (out_plan->packed_heads == 0)
        out_plan->packed_heads = rung->packs_heads ? choose_packing(problem, rung->tiles[largest].q_tile_rows) : 1;
    out_plan->variant =
        w->variant >= 0 ? (uint32_t)w->variant : choose_tile(rung, device, problem, largest, out_plan->packed_heads);
    out_plan->q_tile_rows = (uint32_t)rung->tiles[out_plan->variant].q_tile_rows;
    out_plan->descriptor_bytes = rung->descriptor_bytes;
    return split(rung, device, problem, w->split_count, out_plan, out_reason);
}
