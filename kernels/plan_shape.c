/* The shape of a plan: which tile, how many heads share one, into how many parts the keys are cut. Pure arithmetic over
 * the problem and the device; nothing here knows a rung by name, and nothing may ever look at what shares a launch.
 *
 * Tile and split count come from an estimate: blocks run in waves, as many at a time as the processors hold; a wave
 * takes its steps through the keys; splitting shortens the waves, but adds blocks, and a merge at the end. It need not
 * be right, only right about which of two shapes is sooner over; where it is not, a rung's pace or suits() is to say
 * so.
 */
#include "kernels/plan.h"

/* More rows than this are not packed: tiles are full without it, and the device counts packed rows in 32 bits. */
#define PACKED_ROWS_MAX (1 << 20)

/* What a processor takes in from memory that all share, and from the cache that all share, when all do; and the most
 * it can take in from the cache when the others are idle. From memory it gets no more then: its own latency is in the
 * way (decode of one request on an H100: 21 to 24). */
#define MEMORY_BYTES_PER_NS 24.0
#define CACHE_BYTES_PER_NS 60.0
#define PROCESSOR_BYTES_PER_NS 90.0

/* Partial results that the last block of a tile takes in as it merges. Decode of one request on an H100, 4k keys: 9.2
 * us in 16 parts, 10.2 in 32. */
#define MERGED_BYTES_PER_NS 20.0

/* What splitting has to bring the time down to: the estimate is not good enough to tell less. */
#define WORTH_SPLITTING 0.9

/* Past this many waves of blocks the last one, however empty, matters little. */
#define WAVES_WITHOUT_SPLITS 4

static uint64_t parts_of(uint64_t whole, uint64_t part)
{
    return whole / part + (whole % part != 0);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- tiles ------------------------------------------------------------------------------------------------------ */

/* The width of the tiles for a head_dim. */
static int32_t width_of(const fc_rung *rung, int32_t head_dim)
{
    int32_t width = INT32_MAX;
    for (uint32_t i = 0; i < rung->tile_count; i++) {
        if (rung->tiles[i].head_dim >= head_dim && rung->tiles[i].head_dim < width)
            width = rung->tiles[i].head_dim;
    }
    return width;
}

/* The largest number of heads that read the same keys and that the rung can pack. */
static int32_t widest_packing(const fc_rung *rung, const fc_problem *p)
{
    int32_t group = p->q_heads / p->kv_heads, a = group, b = rung->packs_divide;
    if (!rung->packs_heads)
        return 1;
    while (b > 0) { /* the greatest common divisor; the group itself where packs_divide is 0 */
        int32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Heads that read the same keys share a tile where that saves tiles. */
static int32_t choose_packing(const fc_rung *rung, const fc_problem *p, int32_t q_tile_rows)
{
    int32_t heads = widest_packing(rung, p);
    int64_t rows = (int64_t)heads * p->q_len;
    if (p->q_len == 0 || p->q_len >= q_tile_rows || rows > PACKED_ROWS_MAX)
        return 1;
    return parts_of((uint64_t)rows, (uint64_t)q_tile_rows) < (uint64_t)heads ? heads : 1;
}

static uint64_t count_tiles(const fc_problem *p, int32_t packed_heads, int32_t q_tile_rows)
{
    uint64_t rows = (uint64_t)p->q_len * (uint64_t)packed_heads;
    uint64_t packs = (uint64_t)p->batch * (uint64_t)(p->q_heads / packed_heads);
    return packs * parts_of(rows, (uint64_t)q_tile_rows);
}

/* --- masks ------------------------------------------------------------------------------------------------------ */

bool fc_problem_is_masked(const fc_problem *p)
{
    return (p->causal != FC_CAUSAL_NONE && p->q_len > 1) || p->window_left >= 0 || p->window_right >= 0;
}

int64_t fc_problem_longest_kv_len(const fc_problem *p)
{
    uint32_t longest = 0;
    if (p->kv_lens == NULL)
        return p->kv_len;
    for (int32_t b = 0; b < p->batch; b++)
        longest = p->kv_lens[b] > longest ? p->kv_lens[b] : longest;
    return (int64_t)longest;
}

/* The most keys one tile walks through, masks considered. tile_tokens: how many neighbouring queries share a tile. */
static uint64_t longest_walk(const fc_problem *p, int64_t tile_tokens)
{
    uint64_t longest = (uint64_t)fc_problem_longest_kv_len(p);
    int64_t left = p->window_left, right = p->causal == FC_CAUSAL_NONE ? p->window_right : 0;
    if (p->causal == FC_CAUSAL_TOP_LEFT)
        longest = least(longest, (uint64_t)p->q_len);
    if (left >= 0 && left <= FC_TOKENS_MAX && right >= 0 && right <= FC_TOKENS_MAX)
        longest = least(longest, (uint64_t)(left + right + tile_tokens));
    return longest;
}

/* --- the estimate ----------------------------------------------------------------------------------------------- */

/* A tile with its packing, and what all split counts of it have in common. */
typedef struct candidate {
    const fc_rung *rung;
    const fc_tile *tile;
    uint32_t variant;
    int32_t packed_heads;
    int32_t head_dim;
    uint64_t processors;
    uint64_t together;     /* blocks that run at the same time on one */
    uint64_t tiles, steps; /* of the whole problem; of the longest tile */
    uint64_t rows;         /* of a tile that are there */
    uint64_t readers;      /* tiles that read the same keys: all but the first find them in the cache */
    uint64_t split_most;
} candidate;

/* Shared memory of a processor: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". */
static uint64_t shared_bytes_of(const fc_device *device)
{
    switch (device->compute_capability) {
    case 80:
    case 87:
        return 164 << 10;
    case 86:
    case 89:
    case 120:
    case 121:
        return 100 << 10;
    default:
        return 228 << 10;
    }
}

/* A block takes a KiB for the driver and static shared memory besides. */
static uint64_t blocks_together(const fc_device *device, const fc_tile *tile)
{
    uint64_t by_registers = (uint64_t)tile->blocks_per_processor;
    uint64_t by_shared = shared_bytes_of(device) / ((uint64_t)tile->shared_bytes + 2048);
    return tile->shared_bytes == 0 || by_shared > by_registers ? by_registers : by_shared > 0 ? by_shared : 1;
}

static candidate candidate_make(const fc_rung *rung, const fc_device *device, const fc_problem *p, uint32_t variant,
                                int32_t packed_heads)
{
    const fc_tile *tile = &rung->tiles[variant];
    int32_t packed = packed_heads > 0 ? packed_heads : choose_packing(rung, p, tile->q_tile_rows);
    uint64_t rows = (uint64_t)p->batch * (uint64_t)p->q_heads * (uint64_t)p->q_len;
    uint64_t partial_bytes = rows * FC_PARTIAL_FLOATS((uint64_t)p->head_dim) * sizeof(float);
    uint64_t tile_tokens = parts_of((uint64_t)tile->q_tile_rows, (uint64_t)packed) + 1;
    candidate c = {
        .rung = rung,
        .tile = tile,
        .variant = variant,
        .packed_heads = packed,
        .head_dim = p->head_dim,
        .processors = device->processor_count > 0 ? (uint64_t)device->processor_count : 1,
        .together = blocks_together(device, tile),
        .tiles = count_tiles(p, packed, tile->q_tile_rows),
        .steps = parts_of(longest_walk(p, (int64_t)tile_tokens), (uint64_t)tile->kv_tile_tokens),
        .rows = least((uint64_t)p->q_len * (uint64_t)packed, (uint64_t)tile->q_tile_rows),
        .readers = parts_of((uint64_t)p->q_len * (uint64_t)packed, (uint64_t)tile->q_tile_rows) *
                   (uint64_t)(p->q_heads / p->kv_heads / packed),
        .split_most = FC_SPLITS_MAX,
    };
    if (c.readers < 1)
        c.readers = 1; /* without queries nobody reads */
    if (partial_bytes > 0)
        c.split_most = least(c.split_most, FC_LAUNCH_WORKSPACE_BYTES_MAX / partial_bytes);
    if (rung->pace.split_ns == 0 || c.tiles > FC_LAUNCH_TICKETS_MAX || c.split_most < 1)
        c.split_most = 1;
    return c;
}

/* What one of `active` processors gets of what all of them together would take in at `bytes_per_ns` each. */
static double rate_of(const candidate *c, double bytes_per_ns, uint64_t active)
{
    double rate = bytes_per_ns * (double)c->processors / (double)(active < c->processors ? active : c->processors);
    return rate < PROCESSOR_BYTES_PER_NS ? rate : PROCESSOR_BYTES_PER_NS;
}

/* One step of each of `blocks` blocks that share a processor, `splits` as below. */
static double step_ns(const candidate *c, double blocks, uint64_t splits)
{
    const uint64_t active = c->tiles * splits;
    double products = (double)c->tile->q_tile_rows * c->tile->kv_tile_tokens * c->tile->head_dim;
    double bytes = 4.0 * c->tile->kv_tile_tokens * c->head_dim;
    double compute_ns = c->rung->pace.flops_per_ns > 0 ? 4 * products / c->rung->pace.flops_per_ns : 0;
    double cache_ns = bytes / rate_of(c, CACHE_BYTES_PER_NS, active);
    double memory_ns = bytes / MEMORY_BYTES_PER_NS / (double)c->readers;
    double load_ns = cache_ns > memory_ns ? cache_ns : memory_ns;
    compute_ns = c->rung->pace.step_ns + blocks * compute_ns; /* hidden by loads that take longer */
    return compute_ns > blocks * load_ns ? compute_ns : blocks * load_ns;
}

static double wave_ns(const candidate *c, uint64_t blocks, uint64_t splits)
{
    const fc_pace *pace = &c->rung->pace;
    return (double)parts_of(c->steps, splits) * step_ns(c, (double)blocks, splits) + pace->start_ns +
           pace->row_ns * c->tile->q_tile_rows;
}

/* How long the busiest processor takes. */
static double time_ns(const candidate *c, uint64_t splits)
{
    uint64_t together = c->together;
    uint64_t blocks = parts_of(c->tiles, c->processors);
    double time = 0;
    if (splits > 1) {
        double partials = (double)splits * (double)c->rows * FC_PARTIAL_FLOATS(c->head_dim) * sizeof(float);
        blocks = parts_of(c->tiles * splits, c->processors);
        time = c->rung->pace.split_ns + partials / MERGED_BYTES_PER_NS;
    }
    if (blocks >= together)
        time += (double)(blocks / together) * wave_ns(c, together, splits);
    if (blocks % together > 0)
        time += wave_ns(c, blocks % together, splits);
    return time;
}

/* The split count that is over soonest; the least of several. 1: better whole. */
static uint64_t choose_splits(const candidate *c, double *out_ns)
{
    uint64_t slots = c->processors * c->together, best = 1;
    uint64_t most = least(c->split_most, c->steps / FC_SPLIT_STEPS_MIN);
    double whole_ns = time_ns(c, 1), best_ns = whole_ns;
    if (c->tiles / slots >= WAVES_WITHOUT_SPLITS)
        most = 1;
    for (uint64_t splits = 2; splits <= most; splits++) {
        double ns = time_ns(c, splits);
        if (ns < best_ns) {
            best = splits;
            best_ns = ns;
        }
    }
    if (best_ns > WORTH_SPLITTING * whole_ns) {
        best = 1;
        best_ns = whole_ns;
    }
    *out_ns = best_ns;
    return best;
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
    if (packed < 0 ||
        (packed > 1 && (widest_packing(rung, p) % packed != 0 || (int64_t)p->q_len * packed > PACKED_ROWS_MAX)))
        return fc_fail(FC_UNSUPPORTED, out_reason, "cannot pack %d heads of %d that read the same keys", (int)packed,
                       (int)group);
    if (wish->split_count > 1 && rung->pace.split_ns == 0)
        return fc_fail(FC_UNSUPPORTED, out_reason, "splits no keys");
    return FC_OK;
}

/* --- the choice ------------------------------------------------------------------------------------------------- */

static bool is_candidate(const fc_rung *rung, const fc_problem *p, const fc_plan_wish *wish, uint32_t variant)
{
    const fc_tile *tile = &rung->tiles[variant];
    if (wish->variant >= 0)
        return variant == (uint32_t)wish->variant;
    return tile->head_dim == width_of(rung, p->head_dim) && (rung->suits == NULL || rung->suits(tile, p));
}

static uint64_t empty_rows(const candidate *c)
{
    return (uint64_t)c->tile->q_tile_rows - c->rows;
}

/* Of two that take the same time, the one whose tiles are fuller; else the one that stands first. */
static bool is_better(const candidate *c, double ns, const candidate *best, double best_ns)
{
    return best->rung == NULL || ns < best_ns || (ns == best_ns && empty_rows(c) < empty_rows(best));
}

/* The best of the candidates; its split count. */
static candidate choose(const fc_rung *rung, const fc_device *device, const fc_problem *p, const fc_plan_wish *wish,
                        uint64_t *out_splits)
{
    candidate best = {.rung = NULL};
    double best_ns = 0;
    for (uint32_t i = 0; i < rung->tile_count; i++) {
        double ns;
        if (!is_candidate(rung, p, wish, i))
            continue;
        candidate c = candidate_make(rung, device, p, i, wish->packed_heads);
        uint64_t splits = choose_splits(&c, &ns);
        if (is_better(&c, ns, &best, best_ns)) {
            best = c;
            best_ns = ns;
            *out_splits = splits;
        }
    }
    return best;
}

static const fc_plan_wish NO_WISH = {.variant = -1};

fc_status fc_plan_shape(const fc_rung *rung, const fc_device *device, const fc_problem *problem,
                        const fc_plan_wish *wish, fc_plan *out_plan, fc_reason *out_reason)
{
    const fc_plan_wish *w = wish != NULL ? wish : &NO_WISH;
    uint64_t splits = 1, row_bytes = FC_PARTIAL_FLOATS((uint64_t)problem->head_dim) * sizeof(float);
    fc_status st = check_wish(rung, problem, w, out_reason);
    if (st != FC_OK)
        return st;
    candidate c = choose(rung, device, problem, w, &splits);
    if (w->split_count > 1 && w->split_count > c.split_most)
        return fc_fail(FC_UNSUPPORTED, out_reason, "cannot split so many rows into %lu parts",
                       (unsigned long)w->split_count);
    splits = w->split_count > 0 ? w->split_count : splits;
    out_plan->variant = c.variant;
    out_plan->q_tile_rows = (uint32_t)c.tile->q_tile_rows;
    out_plan->packed_heads = c.packed_heads;
    out_plan->split_count = (uint32_t)splits;
    out_plan->ticket_count = splits > 1 ? (uint32_t)c.tiles : rung->draws_work ? 1 : 0;
    out_plan->workspace_bytes = 0;
    if (splits > 1)
        out_plan->workspace_bytes =
            (size_t)splits * (size_t)problem->batch * (size_t)problem->q_heads * (size_t)problem->q_len * row_bytes;
    out_plan->descriptor_bytes = rung->descriptor_bytes;
    return FC_OK;
}
