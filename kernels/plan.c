/* Which rung runs a problem: what every rung can do, which one `auto` takes, and what a refusal says. The tables here
 * are the only place that knows; the shape of a plan is worked out from a rung's row in plan_shape.c.
 *
 * A rung with variants lists them in a .def of its own, which its .cu expands to kernels and this file to tiles:
 *
 *     static const fc_tile TC_TILES[] = {
 *     #define FC_TC_ROW(head_dim, row_warps, key_warps, warp_keys, blocks_per_processor) \
 *         {head_dim, 16 * (row_warps), (key_warps) * (warp_keys), blocks_per_processor, 0},
 *     #include "kernels/tc.def"
 *     #undef FC_TC_ROW
 *     };
 *
 * Row i of the .def is fc_plan.variant i. The rung's row of RUNGS then names the tiles, TILES(TC_TILES). Where a tile
 * is for some problems only, and its size does not tell, the row's suits() says so: a small function beside the table.
 */
#include "kernels/plan.h"

#include "kernels/attention_tile.h"

#include <stdio.h>
#include <string.h>

/* --- what the rungs can do -------------------------------------------------------------------------------------- */

#define DTYPE_BIT(dtype) (1u << (dtype))
#define HALVES (DTYPE_BIT(FC_F16) | DTYPE_BIT(FC_BF16))
#define EVERY_DTYPE (HALVES | DTYPE_BIT(FC_F32))

#define TILES(table) .tiles = (table), .tile_count = sizeof(table) / sizeof *(table)
#define EVERY_HEAD_DIM .head_dim_step = FC_HEAD_DIM_STEP, .head_dim_most = FC_HEAD_DIM_MAX
#define AMPERE_OR_LATER .capability_least = 80, .capability_most = FC_CAPABILITY_ANY
#define HOPPER_ONLY .capability_least = 90, .capability_most = 99

static const fc_tile CPU_TILES[] = {{FC_HEAD_DIM_MAX, FC_TILE_CPU_Q, 64, 1, 0}};
static const fc_tile BASELINE_TILES[] = {{FC_HEAD_DIM_MAX, FC_TILE_BASELINE_Q, 32, 16, 0}};
static const fc_tile VEC_TILES[] = {{FC_HEAD_DIM_MAX, FC_TILE_VEC_Q, 128, 3, 0}};

static const fc_tile WARP_TILES[] = {
#define FC_WARP_ROW(head_dim, warp_rows, row_warps, key_warps, kv_tile_tokens, blocks_per_processor)                   \
    {head_dim, (warp_rows) * (row_warps), kv_tile_tokens, blocks_per_processor, 0},
#include "kernels/warp.def"
#undef FC_WARP_ROW
};

static const fc_tile TC_TILES[] = {
#define FC_TC_ROW(head_dim, row_warps, key_warps, warp_keys, blocks_per_processor)                                     \
    {head_dim, 16 * (row_warps), (key_warps) * (warp_keys), blocks_per_processor, 0},
#include "kernels/tc.def"
#undef FC_TC_ROW
};

/* Row i of fused.def is variant i. Shared memory: stages of K and V, and a query that is not held. */
static const fc_tile FUSED_TILES[] = {
#define FC_FUSED_ROW(head_dim, warp_rows, row_warps, key_warps, keys, steps, stages, holds_q, blocks_per_sm)           \
    {head_dim, (warp_rows) * (row_warps), (keys) * (key_warps), blocks_per_sm,                                         \
     2 * (head_dim) * (2 * (stages) * (steps) * (keys) * (key_warps) + ((holds_q) ? 0 : (warp_rows) * (row_warps)))},
#include "kernels/fused.def"
#undef FC_FUSED_ROW
};

static const fc_tile HOPPER_TILES[] = {
#define FC_HOPPER_ROW(head_dim, row_groups, key_groups, keys, stages)                                                  \
    {head_dim, 64 * (row_groups), (key_groups) * (keys), 1, 0},
#include "kernels/hopper.def"
#undef FC_HOPPER_ROW
};

/* Of two tiles of as many rows, the one with the longer steps is for many of them: at the edges they do more in vain,
 * and its shared memory has no room for a second query (D 128, full and causal: level at 2k keys, 7 % ahead at 16k). */
static bool hopper_suits(const fc_tile *tile, const fc_problem *problem)
{
    return tile->q_tile_rows < 128 || tile->kv_tile_tokens <= 128 || fc_problem_longest_kv_len(problem) >= 4096;
}

static const fc_rung RUNGS[FC_KERNEL_COUNT] = {
    [FC_KERNEL_CPU] = {.dtypes = EVERY_DTYPE, EVERY_HEAD_DIM, TILES(CPU_TILES)},
    [FC_KERNEL_BASELINE] = {AMPERE_OR_LATER, .dtypes = EVERY_DTYPE, EVERY_HEAD_DIM, TILES(BASELINE_TILES)},
    [FC_KERNEL_VEC] = {AMPERE_OR_LATER, .dtypes = EVERY_DTYPE, EVERY_HEAD_DIM, TILES(VEC_TILES)},
    [FC_KERNEL_WARP] = {AMPERE_OR_LATER, .dtypes = EVERY_DTYPE, EVERY_HEAD_DIM, TILES(WARP_TILES), .packs_heads = true,
                        .pace = {.flops_per_ns = 250, .step_ns = 100, .start_ns = 1500, .split_ns = 1500}},
    [FC_KERNEL_TC] = {AMPERE_OR_LATER, .dtypes = HALVES, EVERY_HEAD_DIM, TILES(TC_TILES), .packs_heads = true,
                      .pace = {.flops_per_ns = 1800, .step_ns = 150, .start_ns = 2000, .split_ns = 1500}},
    [FC_KERNEL_FUSED] =
        {AMPERE_OR_LATER, .dtypes = HALVES, EVERY_HEAD_DIM, TILES(FUSED_TILES), .packs_heads = true,
         .pace = {.flops_per_ns = 2600, .step_ns = 100, .start_ns = 2000, .row_ns = 25, .split_ns = 1500}},
    [FC_KERNEL_HOPPER] = {HOPPER_ONLY, .dtypes = HALVES, EVERY_HEAD_DIM, TILES(HOPPER_TILES), .draws_work = true,
                          .pace = {.flops_per_ns = 6000, .step_ns = 600, .start_ns = 1500},
                          .descriptor_bytes = FC_HOPPER_DESCRIPTOR_BYTES, .suits = hopper_suits},
};

static bool is_kernel(fc_kernel kernel)
{
    return (unsigned)kernel < FC_KERNEL_COUNT;
}

bool fc_kernel_runs_on(fc_kernel kernel, const fc_device *device)
{
    return is_kernel(kernel) && fc_kernel_engine(kernel) == device->engine &&
           RUNGS[kernel].capability_least <= device->compute_capability &&
           RUNGS[kernel].capability_most >= device->compute_capability;
}

fc_kernel_limits fc_kernel_limits_of(fc_kernel kernel)
{
    if (!is_kernel(kernel))
        return (fc_kernel_limits){0};
    const fc_rung *rung = &RUNGS[kernel];
    return (fc_kernel_limits){.capability_least = rung->capability_least,
                              .capability_most = rung->capability_most,
                              .dtypes = rung->dtypes,
                              .head_dim_step = rung->head_dim_step,
                              .head_dim_most = rung->head_dim_most};
}

static bool has_dtype(fc_kernel kernel, fc_dtype dtype)
{
    return (RUNGS[kernel].dtypes & DTYPE_BIT(dtype)) != 0;
}

static bool has_head_dim(fc_kernel kernel, int32_t head_dim)
{
    return head_dim % RUNGS[kernel].head_dim_step == 0 && head_dim <= RUNGS[kernel].head_dim_most;
}

static bool can_do(fc_kernel kernel, const fc_device *device, const fc_problem *problem)
{
    return fc_kernel_runs_on(kernel, device) && has_dtype(kernel, problem->dtype) &&
           has_head_dim(kernel, problem->head_dim);
}

/* --- what auto means -------------------------------------------------------------------------------------------- */

/* A range of problems, and the rung that was fastest on them. Ranges include both ends; 0 as the upper end: none. */
typedef struct auto_row {
    fc_kernel kernel;
    uint32_t dtypes; /* 0: all */
    int32_t capability_least, capability_most;
    int32_t head_dim_least, head_dim_most;
    int64_t q_len_least, q_len_most;
    int64_t rows_least, rows_most; /* batch x q_heads x q_len: all there is to do */
    int64_t kv_least, kv_most;     /* the longest kv_len of the batch */
} auto_row;

/* The first row that matches and whose rung can do the problem wins. Measured: docs/kernel-notes.md. */
static const auto_row AUTO[] = {
    /* H100, f16, B1 H8 D64: S256 fused 3.7 us, hopper 4.4; S512 6.1 and 5.8; S1024 13.1 and 8.8. Decode of one request,
     * when last timed: 9.2 and 33. */
    {.kernel = FC_KERNEL_HOPPER, .dtypes = HALVES, HOPPER_ONLY, .q_len_least = 64, .rows_least = 4096},
    {.kernel = FC_KERNEL_FUSED, .dtypes = HALVES},
    {.kernel = FC_KERNEL_WARP}, /* benchmark problem in f32: 25 us, vec 58 */
    {.kernel = FC_KERNEL_VEC},
    {.kernel = FC_KERNEL_CPU},
};

static bool is_within(int64_t value, int64_t lowest, int64_t highest)
{
    return value >= lowest && (highest == 0 || value <= highest);
}

static bool is_for(const auto_row *row, const fc_device *device)
{
    return fc_kernel_runs_on(row->kernel, device) &&
           is_within(device->compute_capability, row->capability_least, row->capability_most);
}

static bool matches(const auto_row *row, const fc_device *device, const fc_problem *p)
{
    int64_t rows = (int64_t)p->batch * p->q_heads * p->q_len;
    return is_for(row, device) && (row->dtypes == 0 || (row->dtypes & DTYPE_BIT(p->dtype)) != 0) &&
           is_within(p->head_dim, row->head_dim_least, row->head_dim_most) &&
           is_within(p->q_len, row->q_len_least, row->q_len_most) && is_within(rows, row->rows_least, row->rows_most) &&
           is_within(fc_problem_longest_kv_len(p), row->kv_least, row->kv_most);
}

static fc_kernel choose_auto(const fc_device *device, const fc_problem *problem)
{
    for (size_t i = 0; i < sizeof AUTO / sizeof *AUTO; i++) {
        if (can_do(AUTO[i].kernel, device, problem) && matches(&AUTO[i], device, problem))
            return AUTO[i].kernel;
    }
    return FC_KERNEL_COUNT;
}

fc_kernel fc_kernel_default(const fc_device *device)
{
    fc_kernel only = FC_KERNEL_COUNT;
    for (size_t i = 0; i < sizeof AUTO / sizeof *AUTO; i++) {
        if (!is_for(&AUTO[i], device))
            continue;
        if (only != FC_KERNEL_COUNT && only != AUTO[i].kernel)
            return FC_KERNEL_AUTO;
        only = AUTO[i].kernel;
    }
    return only;
}

/* --- refusals --------------------------------------------------------------------------------------------------- */

/* A list in words: "a", "a and b", "a, b and c". */
typedef struct words {
    char text[128];
    const char *last; /* not in the text yet */
    int count;
} words;

static void append(char *text, size_t text_bytes, const char *more)
{
    size_t used = strlen(text);
    snprintf(text + used, text_bytes - used, "%s", more);
}

static void words_add(words *w, const char *word)
{
    if (w->count >= 2)
        append(w->text, sizeof w->text, ", ");
    if (w->last != NULL)
        append(w->text, sizeof w->text, w->last);
    w->last = word;
    w->count++;
}

static const char *words_end(words *w)
{
    if (w->count >= 2)
        append(w->text, sizeof w->text, " and ");
    append(w->text, sizeof w->text, w->last != NULL ? w->last : "nothing");
    return w->text;
}

/* "vec does", "baseline and vec do", "nothing here does". */
static void name_able(const fc_device *device, const fc_problem *problem, words *w)
{
    for (int i = 0; i < FC_KERNEL_COUNT; i++) {
        if (can_do((fc_kernel)i, device, problem))
            words_add(w, fc_kernel_name((fc_kernel)i));
    }
    words_end(w);
    append(w->text, sizeof w->text, w->count == 0 ? " here does" : w->count == 1 ? " does" : " do");
}

static void tell_capability(const fc_rung *rung, int32_t has, words *w)
{
    int major = rung->capability_least / 10, minor = rung->capability_least % 10;
    int used = rung->capability_most == FC_CAPABILITY_ANY
                   ? snprintf(w->text, sizeof w->text, "needs compute capability %d.%d or newer", major, minor)
                   : snprintf(w->text, sizeof w->text, "needs compute capability %d.x", major);
    snprintf(w->text + used, sizeof w->text - (size_t)used, ", this device has %d.%d", (int)has / 10, (int)has % 10);
}

static void tell_dtypes(fc_kernel kernel, fc_dtype asked, words *w)
{
    append(w->text, sizeof w->text, "does ");
    for (int i = 0; i < FC_DTYPE_COUNT; i++) {
        if (has_dtype(kernel, (fc_dtype)i))
            words_add(w, fc_dtype_name((fc_dtype)i));
    }
    words_end(w);
    append(w->text, sizeof w->text, ", not ");
    append(w->text, sizeof w->text, fc_dtype_name(asked));
}

/* Why the rung cannot do the problem here, in words that complete "kernel: tc ...". */
static void tell_reason(fc_kernel kernel, const fc_device *device, const fc_problem *problem, words *w)
{
    const fc_rung *rung = &RUNGS[kernel];
    if (fc_kernel_engine(kernel) != device->engine)
        snprintf(w->text, sizeof w->text, "does not run on this server's device");
    else if (!fc_kernel_runs_on(kernel, device))
        tell_capability(rung, device->compute_capability, w);
    else if (!has_dtype(kernel, problem->dtype))
        tell_dtypes(kernel, problem->dtype, w);
    else
        snprintf(w->text, sizeof w->text, "does head_dims that are multiples of %d up to %d, not %d",
                 (int)rung->head_dim_step, (int)rung->head_dim_most, (int)problem->head_dim);
}

static fc_status refuse(fc_kernel kernel, const fc_device *device, const fc_problem *problem, fc_reason *out_reason)
{
    words why = {0}, able = {0};
    tell_reason(kernel, device, problem, &why);
    name_able(device, problem, &able);
    return fc_fail(FC_UNSUPPORTED, out_reason, "kernel: %s %s; %s", fc_kernel_name(kernel), why.text, able.text);
}

/* --- plans ------------------------------------------------------------------------------------------------------ */

static fc_status choose_kernel(const fc_device *device, fc_kernel wanted, const fc_problem *problem,
                               fc_kernel *out_kernel, fc_reason *out_reason)
{
    fc_kernel kernel = wanted;
    if (wanted != FC_KERNEL_AUTO && !is_kernel(wanted))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kernel: no such kernel");
    if (wanted == FC_KERNEL_AUTO)
        kernel = choose_auto(device, problem);
    if (kernel == FC_KERNEL_COUNT)
        return fc_fail(FC_UNSUPPORTED, out_reason, "kernel: none runs on this device");
    if (!can_do(kernel, device, problem))
        return refuse(kernel, device, problem, out_reason);
    *out_kernel = kernel;
    return FC_OK;
}

static fc_status make(const fc_device *device, fc_kernel wanted, const fc_plan_wish *wish, const fc_problem *problem,
                      fc_plan *out_plan, fc_reason *out_reason)
{
    fc_kernel kernel = FC_KERNEL_COUNT;
    fc_reason why = {""};
    fc_status st = fc_problem_check(problem, out_reason);
    if (st == FC_OK)
        st = choose_kernel(device, wanted, problem, &kernel, out_reason);
    if (st != FC_OK)
        return st;
    fc_plan plan = {.kernel = kernel, .dtype = problem->dtype, .head_dim = problem->head_dim};
    st = fc_plan_shape(&RUNGS[kernel], device, problem, wish, &plan, &why);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "kernel: %s %.*s", fc_kernel_name(kernel), FC_REASON_BYTES / 2, why.text);
    *out_plan = plan;
    return FC_OK;
}

fc_status fc_plan_make(const fc_device *device, fc_kernel wanted, const fc_problem *problem, fc_plan *out_plan,
                       fc_reason *out_reason)
{
    return make(device, wanted, NULL, problem, out_plan, out_reason);
}

uint32_t fc_kernel_variant_count(fc_kernel kernel)
{
    return is_kernel(kernel) ? RUNGS[kernel].tile_count : 0;
}

fc_status fc_plan_make_as(const fc_device *device, fc_kernel kernel, const fc_plan_wish *wish,
                          const fc_problem *problem, fc_plan *out_plan, fc_reason *out_reason)
{
    if (kernel == FC_KERNEL_AUTO)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kernel: auto takes no wishes");
    return make(device, kernel, wish, problem, out_plan, out_reason);
}

bool fc_plan_can_share(const fc_plan *a, const fc_plan *b)
{
    return a->kernel == b->kernel && a->dtype == b->dtype && a->head_dim == b->head_dim && a->variant == b->variant &&
           a->q_tile_rows == b->q_tile_rows && a->descriptor_bytes == b->descriptor_bytes;
}
