/* The `cpu` kernel's frame: picks the instruction set, cuts a launch into blocks of query rows, hands the blocks to
 * threads, longest first, and walks a block's tiles of keys. The arithmetic is kernels/cpu_tile.h's and cpu_amx.c's.
 *
 * How rows fall into blocks depends on the launch and the thread count, and must never change a bit: see cpu_isa.h.
 */
#include "kernels/cpu.h"

#include "kernels/attention_mask.h"
#include "kernels/cpu_isa.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define CACHE_LINE 64
/* Multiplications of q with k, some 100 us of them, that a thread more must have to do. */
#define PRODUCTS_PER_THREAD (4 * 1024 * 1024)
/* A block's packed q and its sums stay in L2 beside a tile of K and V. */
#define BLOCK_BYTES (512 * 1024)
#define BLOCK_ROWS_MAX 512
/* Fewer rows would pack K and V more often than it pays. */
#define BLOCK_ROWS_MIN 64
#define BLOCKS_PER_THREAD 4

/* Query rows that share K and V: head_count heads of one GQA group, query_count queries each. */
typedef struct block {
    uint32_t segment;
    int32_t head, head_count;
    int32_t query, query_count;
    int64_t cost; /* rows x keys, about */
} block;

/* Keys that some row of a group sees, begin >= end: none; and those that every row sees. */
typedef struct key_range {
    int32_t begin, end;
    int32_t all_begin, all_end;
} key_range;

/* One thread's memory, cut out of one allocation. */
typedef struct scratch {
    char *q, *k, *v;
    float *scores, *out, *row_max, *row_sum;
    int32_t *row_begin, *row_end;
    key_range *group_range; /* [groups] */
} scratch;

struct fc_cpu {
    const fc_cpu_isa *isa;
    int32_t thread_count;
    char *memory;
    size_t memory_bytes;
    block *blocks;
    size_t block_capacity;
};

/* One call of fc_cpu_run(). */
typedef struct run {
    const fc_cpu *cpu;
    const fc_launch *launch;
    const fc_cpu_kernels *kernels;
    int32_t block_rows; /* at most, a multiple of row_step */
    int32_t dim;        /* padded */
    size_t scratch_bytes;
    size_t block_count;
    atomic_size_t next_block;
} run;

static const fc_cpu_isa *const isas[FC_CPU_ISA_COUNT] = {
    [FC_CPU_PORTABLE] = &fc_cpu_isa_portable,
    [FC_CPU_AVX2] = &fc_cpu_isa_avx2,
    [FC_CPU_AVX512] = &fc_cpu_isa_avx512,
    [FC_CPU_AMX] = &fc_cpu_isa_amx,
};

const char *fc_cpu_isa_name(fc_cpu_isa_id isa)
{
    return (unsigned)isa < FC_CPU_ISA_COUNT ? isas[isa]->name : "unknown";
}

bool fc_cpu_isa_is_supported(fc_cpu_isa_id isa)
{
    return (unsigned)isa < FC_CPU_ISA_COUNT && isas[isa]->is_supported();
}

fc_cpu_isa_id fc_cpu_isa_best(void)
{
    fc_cpu_isa_id isa = FC_CPU_ISA_COUNT - 1;
    while (isa > FC_CPU_PORTABLE && !fc_cpu_isa_is_supported(isa))
        isa--;
    return isa;
}

fc_status fc_cpu_create(const fc_cpu_config *config, fc_cpu **out_cpu)
{
    if (config->thread_count < 1 || config->thread_count > FC_CPU_THREADS_MAX)
        return FC_INVALID_ARGUMENT;
    fc_cpu_isa_id isa = config->isa == FC_CPU_BEST ? fc_cpu_isa_best() : config->isa;
    if (!fc_cpu_isa_is_supported(isa))
        return FC_UNSUPPORTED;
    fc_cpu *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL)
        return FC_NO_MEMORY;
    cpu->isa = isas[isa];
    cpu->thread_count = config->thread_count;
    *out_cpu = cpu;
    return FC_OK;
}

void fc_cpu_destroy(fc_cpu *cpu)
{
    if (cpu == NULL)
        return;
    free(cpu->memory);
    free(cpu->blocks);
    free(cpu);
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

static size_t round_up(size_t value, size_t step)
{
    return (value + step - 1) / step * step;
}

/* The next `bytes` of what starts at base; NULL while base is. */
static void *take(char *base, size_t *offset, size_t bytes)
{
    void *start = base == NULL ? NULL : base + *offset;
    *offset += round_up(bytes, CACHE_LINE);
    return start;
}

/* Lays a thread's arrays out from base, or with base NULL only measures them. Returns their bytes together. */
static size_t lay_out(const run *r, char *base, scratch *out_scratch)
{
    const fc_cpu_kernels *kernels = r->kernels;
    size_t rows = (size_t)r->block_rows, dim = (size_t)r->dim, keys = (size_t)kernels->key_tile;
    size_t element_bytes = (size_t)kernels->packed_bytes * (size_t)kernels->part_count, offset = 0;
    *out_scratch = (scratch){
        .q = take(base, &offset, rows * dim * element_bytes),
        .k = take(base, &offset, keys * dim * element_bytes),
        .v = take(base, &offset, keys * dim * element_bytes),
        .scores = take(base, &offset, (size_t)kernels->scores_bytes),
        .out = take(base, &offset, rows * dim * sizeof(float)),
        .row_max = take(base, &offset, rows * sizeof(float)),
        .row_sum = take(base, &offset, rows * FC_CPU_SUM_LANES * sizeof(float)),
        .row_begin = take(base, &offset, rows * sizeof(int32_t)),
        .row_end = take(base, &offset, rows * sizeof(int32_t)),
        .group_range = take(base, &offset, rows / (size_t)kernels->row_step * sizeof(key_range)),
    };
    return offset;
}

static fc_status grow_memory(fc_cpu *cpu, size_t bytes)
{
    if (bytes <= cpu->memory_bytes)
        return FC_OK;
    char *memory = aligned_alloc(CACHE_LINE, bytes);
    if (memory == NULL)
        return FC_NO_MEMORY;
    free(cpu->memory);
    cpu->memory = memory;
    cpu->memory_bytes = bytes;
    return FC_OK;
}

/* --- blocks ------------------------------------------------------------------------------------------------------- */

static int32_t at_least(int32_t value, int32_t floor)
{
    return value > floor ? value : floor;
}

static int32_t at_most(int32_t value, int32_t ceiling)
{
    return value < ceiling ? value : ceiling;
}

/* Rows of a block: many, so that packing is paid once for many; fewer where threads would otherwise idle. */
static int32_t choose_block_rows(const run *r)
{
    int64_t rows = 0;
    for (uint32_t i = 0; i < r->launch->segment_count; i++)
        rows += (int64_t)r->launch->segments[i].q_heads * r->launch->segments[i].q_len;
    int64_t wanted = rows / ((int64_t)r->cpu->thread_count * BLOCKS_PER_THREAD);
    size_t row_bytes = (size_t)r->dim * (sizeof(float) + (size_t)(r->kernels->packed_bytes * r->kernels->part_count));
    int32_t most = at_most((int32_t)(BLOCK_BYTES / row_bytes), BLOCK_ROWS_MAX);
    int32_t chosen = wanted > most ? most : at_least((int32_t)wanted, BLOCK_ROWS_MIN);
    return (int32_t)round_up((size_t)chosen, (size_t)r->kernels->row_step);
}

static int64_t block_cost(const fc_segment *segment, const block *b)
{
    int64_t begin = fc_key_begin(segment, b->query);
    int64_t end = fc_key_end(segment, b->query + b->query_count - 1);
    return (int64_t)b->head_count * b->query_count * (end > begin ? end - begin : 0);
}

static fc_status add_block(run *r, fc_cpu *cpu, const block *added)
{
    if (r->block_count == cpu->block_capacity) {
        size_t capacity = cpu->block_capacity * 2 + 64;
        block *blocks = realloc(cpu->blocks, capacity * sizeof *blocks);
        if (blocks == NULL)
            return FC_NO_MEMORY;
        cpu->blocks = blocks;
        cpu->block_capacity = capacity;
    }
    cpu->blocks[r->block_count++] = *added;
    return FC_OK;
}

static fc_status cut_segment(run *r, fc_cpu *cpu, uint32_t index)
{
    const fc_segment *segment = &r->launch->segments[index];
    if (segment->q_len == 0)
        return FC_OK;
    int32_t group = segment->q_heads / segment->kv_heads;
    int32_t parts = (segment->q_len + r->block_rows - 1) / r->block_rows;
    int32_t even = (segment->q_len + parts - 1) / parts;
    int32_t queries = at_most((int32_t)round_up((size_t)even, (size_t)r->kernels->row_step), segment->q_len);
    int32_t heads = parts > 1 ? 1 : at_least(at_most(r->block_rows / segment->q_len, group), 1);
    for (int32_t head = 0; head < segment->q_heads;) {
        int32_t head_count = at_most(heads, group - head % group);
        for (int32_t query = 0; query < segment->q_len; query += queries) {
            block b = {.segment = index,
                       .head = head,
                       .head_count = head_count,
                       .query = query,
                       .query_count = at_most(queries, segment->q_len - query)};
            b.cost = block_cost(segment, &b);
            fc_status st = add_block(r, cpu, &b);
            if (st != FC_OK)
                return st;
        }
        head += head_count;
    }
    return FC_OK;
}

static int by_falling_cost(const void *a, const void *b)
{
    int64_t left = ((const block *)a)->cost, right = ((const block *)b)->cost;
    return (left < right) - (left > right);
}

static fc_status cut_launch(run *r, fc_cpu *cpu)
{
    for (uint32_t i = 0; i < r->launch->segment_count; i++) {
        fc_status st = cut_segment(r, cpu, i);
        if (st != FC_OK)
            return st;
    }
    bool is_sorted = true;
    for (size_t i = 1; i < r->block_count && is_sorted; i++)
        is_sorted = cpu->blocks[i - 1].cost >= cpu->blocks[i].cost;
    if (!is_sorted)
        qsort(cpu->blocks, r->block_count, sizeof *cpu->blocks, by_falling_cost);
    return FC_OK;
}

/* --- one block ---------------------------------------------------------------------------------------------------- */

static const char *element_at(const void *base, int64_t index, fc_dtype dtype)
{
    return (const char *)base + index * (int64_t)fc_dtype_bytes(dtype);
}

static key_range range_of_rows(const scratch *s, int32_t first, int32_t count)
{
    key_range range = {.begin = INT32_MAX, .end = 0, .all_begin = 0, .all_end = INT32_MAX};
    for (int32_t row = first; row < first + count; row++) {
        range.all_begin = at_least(range.all_begin, s->row_begin[row]);
        range.all_end = at_most(range.all_end, s->row_end[row]);
        if (s->row_begin[row] >= s->row_end[row])
            continue;
        range.begin = at_most(range.begin, s->row_begin[row]);
        range.end = at_least(range.end, s->row_end[row]);
    }
    return range;
}

/* Where in the launch a block's row lies: row r is query r % query_count of its head r / query_count. */
typedef struct place {
    int64_t head, query;
} place;

static place first_place(const block *b)
{
    return (place){b->head, b->query};
}

static place next_place(const block *b, place at)
{
    if (++at.query < b->query + b->query_count)
        return at;
    return (place){at.head + 1, b->query};
}

static void start_rows(const run *r, const block *b, const fc_segment *segment, const scratch *s)
{
    int32_t rows = b->head_count * b->query_count, step = r->kernels->row_step;
    int32_t padded = (int32_t)round_up((size_t)rows, (size_t)step);
    for (int32_t row = 0; row < b->query_count; row++) {
        s->row_begin[row] = fc_key_begin(segment, b->query + row);
        s->row_end[row] = fc_key_end(segment, b->query + row);
    }
    for (int32_t row = b->query_count; row < rows; row++) {
        s->row_begin[row] = s->row_begin[row - b->query_count];
        s->row_end[row] = s->row_end[row - b->query_count];
    }
    for (int32_t row = 0; row < padded; row++)
        s->row_max[row] = -INFINITY;
    for (int32_t row = 0; row < rows; row += step)
        s->group_range[row / step] = range_of_rows(s, row, at_most(step, rows - row));
    memset(s->row_sum, 0, (size_t)padded * FC_CPU_SUM_LANES * sizeof(float));
    memset(s->out, 0, (size_t)padded * (size_t)r->dim * sizeof(float));
}

static void pack_queries(const run *r, const block *b, const fc_segment *segment, const scratch *s)
{
    const void *row[FC_CPU_ROWS_MAX];
    int32_t rows = b->head_count * b->query_count, step = r->kernels->row_step;
    size_t row_bytes = (size_t)r->dim * (size_t)(r->kernels->packed_bytes * r->kernels->part_count);
    fc_cpu_rows group = {.row = row, .dtype = r->launch->plan.dtype, .head_dim = r->launch->plan.head_dim};
    place at = first_place(b);
    for (int32_t first = 0; first < rows; first += step) {
        group.count = at_most(step, rows - first);
        for (int32_t i = 0; i < group.count; i++, at = next_place(b, at))
            row[i] = element_at(segment->q, at.head * segment->q_head_stride + at.query * segment->q_token_stride,
                                group.dtype);
        r->kernels->pack_q(&group, s->q + (size_t)first * row_bytes);
    }
}

static void pack_keys(const run *r, const fc_segment *segment, int32_t kv_head, int32_t first, const scratch *s)
{
    const void *row[FC_CPU_ROWS_MAX];
    fc_cpu_rows tile = {.row = row,
                        .count = at_most(r->kernels->key_tile, segment->kv_len - first),
                        .dtype = r->launch->plan.dtype,
                        .head_dim = r->launch->plan.head_dim};
    const char *k = element_at(segment->k, kv_head * segment->k_head_stride, tile.dtype);
    const char *v = element_at(segment->v, kv_head * segment->v_head_stride, tile.dtype);
    for (int32_t i = 0; i < tile.count; i++)
        row[i] = element_at(k, (first + i) * segment->k_token_stride, tile.dtype);
    r->kernels->pack_k(&tile, s->k);
    for (int32_t i = 0; i < tile.count; i++)
        row[i] = element_at(v, (first + i) * segment->v_token_stride, tile.dtype);
    r->kernels->pack_v(&tile, s->v);
}

/* All row groups of a block against the packed tile that starts at key `first_key`. */
static void attend_tile(const run *r, int32_t rows, int32_t first_key, const fc_cpu_scaling *scaling, const scratch *s)
{
    const fc_cpu_kernels *kernels = r->kernels;
    size_t row_bytes = (size_t)r->dim * (size_t)(kernels->packed_bytes * kernels->part_count);
    for (int32_t row = 0; row < rows; row += kernels->row_step) {
        int32_t count = at_most(kernels->row_step, rows - row), key_step = kernels->key_step;
        key_range seen = s->group_range[row / kernels->row_step];
        int32_t begin = at_least(seen.begin - first_key, 0);
        int32_t end = at_most(seen.end - first_key, kernels->key_tile);
        if (begin >= end)
            continue;
        fc_cpu_step step = {.rows = count,
                            .head_dim = r->launch->plan.head_dim,
                            .key_begin = begin / key_step * key_step,
                            .key_end = (end + key_step - 1) / key_step * key_step,
                            .first_key = first_key,
                            .row_begin = s->row_begin + row,
                            .row_end = s->row_end + row,
                            .scaling = scaling,
                            .q = s->q + (size_t)row * row_bytes,
                            .k = s->k,
                            .v = s->v,
                            .scores = s->scores,
                            .row_max = s->row_max + row,
                            .row_sum = s->row_sum + (ptrdiff_t)row * FC_CPU_SUM_LANES,
                            .out = s->out + (ptrdiff_t)row * r->dim};
        step.is_masked = seen.all_begin > first_key + step.key_begin || seen.all_end < first_key + step.key_end;
        kernels->scores(&step);
        kernels->softmax(&step);
        kernels->accumulate(&step);
    }
}

static void finish_rows(const run *r, const block *b, const fc_segment *segment, double max_unit, const scratch *s)
{
    void *to[FC_CPU_ROWS_MAX];
    float lse[FC_CPU_ROWS_MAX];
    int32_t rows = b->head_count * b->query_count, step = r->kernels->row_step;
    fc_cpu_result group = {.head_dim = r->launch->plan.head_dim,
                           .dtype = r->launch->plan.dtype,
                           .max_unit = max_unit,
                           .to = to,
                           .lse = lse};
    place at = first_place(b);
    for (int32_t first = 0; first < rows; first += step) {
        place lse_at = at;
        group.rows = at_most(step, rows - first);
        group.row_max = s->row_max + first;
        group.row_sum = s->row_sum + (ptrdiff_t)first * FC_CPU_SUM_LANES;
        group.out = s->out + (ptrdiff_t)first * r->dim;
        for (int32_t i = 0; i < group.rows; i++, at = next_place(b, at))
            to[i] = (void *)element_at(
                segment->out, at.head * segment->out_head_stride + at.query * segment->out_token_stride, group.dtype);
        r->kernels->finish(&group);
        for (int32_t i = 0; i < group.rows && segment->lse != NULL; i++, lse_at = next_place(b, lse_at))
            memcpy((char *)segment->lse +
                       (lse_at.head * segment->lse_head_stride + lse_at.query) * (int64_t)sizeof *lse,
                   &lse[i], sizeof *lse);
    }
}

static fc_cpu_scaling make_scaling(const fc_segment *segment)
{
    const double log2e = 1.4426950408889634074, ln2 = 0.69314718055994530942;
    bool has_softcap = segment->softcap > 0.0f;
    double factor = (has_softcap ? (double)segment->softcap : (double)segment->scale) * log2e;
    fc_cpu_scaling scaling = {.factor = (float)factor, .max_unit = ln2};
    if (has_softcap)
        scaling.inner = (float)((double)segment->scale / (double)segment->softcap);
    if (scaling.factor > 0.0f && isfinite(scaling.factor))
        scaling.max_unit = ln2 * factor / (double)scaling.factor;
    return scaling;
}

static void run_block(const run *r, const block *b, const scratch *s)
{
    const fc_segment *segment = &r->launch->segments[b->segment];
    int32_t rows = b->head_count * b->query_count, key_tile = r->kernels->key_tile;
    int32_t kv_head = b->head / (segment->q_heads / segment->kv_heads);
    fc_cpu_scaling scaling = make_scaling(segment);
    start_rows(r, b, segment, s);
    key_range seen = range_of_rows(s, 0, rows);
    if (seen.begin < seen.end)
        pack_queries(r, b, segment, s);
    for (int32_t first = seen.begin < seen.end ? seen.begin / key_tile * key_tile : 0; first < seen.end;
         first += key_tile) {
        pack_keys(r, segment, kv_head, first, s);
        attend_tile(r, rows, first, &scaling, s);
    }
    finish_rows(r, b, segment, scaling.max_unit, s);
}

/* --- the launch --------------------------------------------------------------------------------------------------- */

static void run_thread(run *r, size_t thread_index)
{
    scratch s;
    lay_out(r, r->cpu->memory + thread_index * r->scratch_bytes, &s);
    if (r->kernels->enter != NULL)
        r->kernels->enter();
    for (;;) {
        size_t next = atomic_fetch_add_explicit(&r->next_block, 1, memory_order_relaxed);
        if (next >= r->block_count)
            break;
        run_block(r, &r->cpu->blocks[next], &s);
    }
    if (r->kernels->leave != NULL)
        r->kernels->leave();
}

/* No more threads than blocks, nor than the work repays: waking one takes longer than a small launch, and on a busy
 * machine its share of the launch may wait for a whole scheduling turn. */
static int32_t choose_threads(const run *r)
{
    int64_t products = 0;
    for (size_t i = 0; i < r->block_count; i++)
        products += r->cpu->blocks[i].cost * r->dim;
    int64_t repaid = 1 + products / PRODUCTS_PER_THREAD;
    int64_t threads = repaid < r->cpu->thread_count ? repaid : r->cpu->thread_count;
    return r->block_count < (size_t)threads ? (int32_t)r->block_count : (int32_t)threads;
}

fc_status fc_cpu_run(fc_cpu *cpu, const fc_launch *launch)
{
    run r = {.cpu = cpu, .launch = launch, .kernels = cpu->isa->kernels[launch->plan.dtype]};
    scratch unused;
    r.dim = (int32_t)round_up((size_t)launch->plan.head_dim, (size_t)r.kernels->dim_step);
    r.block_rows = choose_block_rows(&r);
    r.scratch_bytes = lay_out(&r, NULL, &unused);
    fc_status st = cut_launch(&r, cpu);
    if (st != FC_OK || r.block_count == 0)
        return st;
    int32_t threads = choose_threads(&r);
    st = grow_memory(cpu, (size_t)threads * r.scratch_bytes);
    if (st != FC_OK)
        return st;
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
    run_thread(&r, (size_t)omp_get_thread_num());
#else
    run_thread(&r, 0);
#endif
    return FC_OK;
}
