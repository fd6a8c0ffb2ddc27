/* kernels/plan: who may run what, what a refusal says, tiles, packing and splits. */
#include "kernels/plan.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const fc_device CPU = {.engine = FC_ENGINE_CPU, .processor_count = 2};
static const fc_device L4 = {.engine = FC_ENGINE_CUDA, .compute_capability = 89, .processor_count = 58};
static const fc_device H100 = {.engine = FC_ENGINE_CUDA, .compute_capability = 90, .processor_count = 132};
static const fc_device BLACKWELL = {.engine = FC_ENGINE_CUDA, .compute_capability = 100, .processor_count = 148};
static const fc_device TURING = {.engine = FC_ENGINE_CUDA, .compute_capability = 75, .processor_count = 40};

static fc_problem good_problem(void)
{
    return (fc_problem){.dtype = FC_F16,
                        .batch = 1,
                        .q_heads = 8,
                        .kv_heads = 8,
                        .q_len = 512,
                        .kv_len = 512,
                        .head_dim = 64,
                        .window_left = -1,
                        .window_right = -1,
                        .scale = 0.125f};
}

/* --- refusals and auto ------------------------------------------------------------------------------------------ */

static const struct refusal_row {
    const fc_device *device;
    fc_kernel wanted;
    fc_dtype dtype;
    int32_t head_dim;
    const char *reason;
} REFUSALS[] = {
    {&CPU, FC_KERNEL_VEC, FC_F16, 64, "kernel: vec does not run on this server's device; cpu does"},
    {&TURING, FC_KERNEL_VEC, FC_F16, 64,
     "kernel: vec needs compute capability 8.0 or newer, this device has 7.5; nothing here does"},
    {&TURING, FC_KERNEL_AUTO, FC_F16, 64, "kernel: none runs on this device"},
    {&L4, FC_KERNEL_TC, FC_F32, 64, "kernel: tc does f16 and bf16, not f32; baseline, vec and warp do"},
    {&L4, FC_KERNEL_FUSED, FC_F32, 64, "kernel: fused does f16 and bf16, not f32; baseline, vec and warp do"},
    {&L4, FC_KERNEL_HOPPER, FC_F16, 64,
     "kernel: hopper needs compute capability 9.x, this device has 8.9; baseline, vec, warp, tc and fused do"},
};

START_TEST(a_refusal_says_what_can)
{
    const struct refusal_row *row = &REFUSALS[_i];
    fc_problem problem = good_problem();
    fc_plan plan;
    fc_reason reason = {""};
    problem.dtype = row->dtype;
    problem.head_dim = row->head_dim;
    ck_assert_int_eq(fc_plan_make(row->device, row->wanted, &problem, &plan, &reason), FC_UNSUPPORTED);
    ck_assert_str_eq(reason.text, row->reason);
}
END_TEST

START_TEST(other_devices_name_their_own)
{
    fc_problem problem = good_problem();
    fc_plan plan;
    fc_reason reason = {""};
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_CPU, &problem, &plan, &reason), FC_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(reason.text, "kernel: cpu does not run on this server's device; baseline"));
    ck_assert_int_eq(fc_plan_make(&L4, FC_KERNEL_COUNT, &problem, &plan, &reason), FC_INVALID_ARGUMENT);
}
END_TEST

/* A stream of numbers that is the same every time. */
static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static int32_t pick(uint64_t *state, const int32_t *values, size_t count)
{
    return values[next_random(state) % count];
}
#define PICK(state, ...)                                                                                               \
    pick(state, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static fc_problem random_problem(uint64_t *state)
{
    fc_problem p = good_problem();
    p.dtype = (fc_dtype)(next_random(state) % FC_DTYPE_COUNT);
    p.causal = (fc_causal)(next_random(state) % FC_CAUSAL_COUNT);
    p.head_dim = 8 * (1 + (int32_t)(next_random(state) % 32));
    p.batch = PICK(state, 0, 1, 2, 7, 64, 4096);
    p.kv_heads = PICK(state, 1, 2, 3, 8, 71);
    p.q_heads = p.kv_heads * PICK(state, 1, 2, 4, 8, 71, 1000);
    p.q_len = PICK(state, 0, 1, 2, 15, 16, 17, 127, 128, 512, 4096, 1 << 20, FC_TOKENS_MAX);
    p.kv_len = PICK(state, 0, 1, 15, 64, 127, 1000, 8192, 65536, FC_TOKENS_MAX);
    p.window_left = PICK(state, -1, -1, 0, 100, 4096, FC_TOKENS_MAX);
    p.window_right = PICK(state, -1, -1, 0, 100, 4096, FC_TOKENS_MAX);
    return p;
}

/* Everything that has to hold of any plan. */
static void check_plan(const fc_problem *p, const fc_plan *plan)
{
    uint64_t rows = (uint64_t)p->q_len * (uint64_t)plan->packed_heads;
    uint64_t packs = (uint64_t)p->batch * (uint64_t)(p->q_heads / plan->packed_heads);
    uint64_t tiles = packs * ((rows + plan->q_tile_rows - 1) / plan->q_tile_rows);
    uint64_t partials = (uint64_t)p->batch * (uint64_t)p->q_heads * (uint64_t)p->q_len * plan->split_count;
    ck_assert_int_eq(p->q_heads / p->kv_heads % plan->packed_heads, 0);
    ck_assert_uint_ge(plan->q_tile_rows, 1);
    ck_assert_uint_ge(plan->split_count, 1);
    ck_assert_uint_le(plan->split_count, FC_SPLITS_MAX);
    ck_assert(plan->packed_heads == 1 || rows <= INT32_MAX);
    ck_assert_uint_le(plan->ticket_count, FC_LAUNCH_TICKETS_MAX);
    ck_assert_uint_le(plan->workspace_bytes, FC_LAUNCH_WORKSPACE_BYTES_MAX);
    ck_assert_uint_eq(plan->ticket_count, plan->split_count > 1 ? tiles : plan->kernel == FC_KERNEL_HOPPER);
    ck_assert_uint_eq(plan->workspace_bytes,
                      plan->split_count > 1 ? partials * FC_PARTIAL_FLOATS((uint64_t)p->head_dim) * 4 : 0);
    ck_assert_uint_eq(plan->descriptor_bytes % 64, 0);
    ck_assert_uint_le(plan->descriptor_bytes, FC_DESCRIPTOR_BYTES_MAX);
}

START_TEST(auto_always_finds_a_rung_that_can)
{
    static const fc_device *const DEVICES[] = {&CPU, &L4, &H100, &BLACKWELL};
    uint64_t state = 1;
    for (int i = 0; i < 100000; i++) {
        const fc_device *device = DEVICES[i % 4];
        fc_problem p = random_problem(&state);
        fc_plan plan, again, named;
        fc_reason reason = {""};
        memset(&plan, 0xaa, sizeof plan);
        if (fc_problem_check(&p, NULL) != FC_OK)
            continue; /* more elements than 64 bits can address */
        ck_assert_msg(fc_plan_make(device, FC_KERNEL_AUTO, &p, &plan, &reason) == FC_OK, "%d: %s", i, reason.text);
        ck_assert(fc_kernel_runs_on(plan.kernel, device));
        check_plan(&p, &plan);
        ck_assert_int_eq(fc_plan_make(device, FC_KERNEL_AUTO, &p, &again, NULL), FC_OK);
        ck_assert_int_eq(fc_plan_make(device, plan.kernel, &p, &named, NULL), FC_OK);
        ck_assert(fc_plan_can_share(&plan, &again) && fc_plan_can_share(&plan, &named));
        ck_assert_uint_eq(plan.split_count, again.split_count);
        ck_assert_int_eq(plan.packed_heads, again.packed_heads);
        for (int k = 0; k < FC_KERNEL_COUNT; k++) {
            if (fc_plan_make(device, (fc_kernel)k, &p, &named, NULL) == FC_OK)
                check_plan(&p, &named);
        }
    }
}
END_TEST

START_TEST(auto_says_what_it_is)
{
    static const fc_device *const DEVICES[] = {&CPU, &L4, &H100, &BLACKWELL};
    ck_assert_int_eq(fc_kernel_default(&TURING), FC_KERNEL_COUNT);
    ck_assert_int_eq(fc_kernel_default(&CPU), FC_KERNEL_CPU);
    for (size_t i = 0; i < sizeof DEVICES / sizeof *DEVICES; i++) {
        fc_kernel only = fc_kernel_default(DEVICES[i]);
        uint64_t state = 7;
        for (int k = 0; k < 1000 && only != FC_KERNEL_AUTO; k++) {
            fc_problem p = random_problem(&state);
            fc_plan plan;
            if (fc_plan_make(DEVICES[i], FC_KERNEL_AUTO, &p, &plan, NULL) == FC_OK)
                ck_assert_int_eq(plan.kernel, only);
        }
    }
}
END_TEST

/* Where docs/kernel-notes.md has one rung's time beside another's: a change of the table is a change here. */
static const struct fastest_row {
    int32_t q_len, kv_len;
    fc_dtype dtype;
    fc_kernel kernel;
} FASTEST_ON_HOPPER[] = {
    {256, 256, FC_F16, FC_KERNEL_FUSED}, {512, 512, FC_F16, FC_KERNEL_HOPPER}, {2048, 2048, FC_BF16, FC_KERNEL_HOPPER},
    {1, 4096, FC_F16, FC_KERNEL_FUSED},  {512, 512, FC_F32, FC_KERNEL_WARP},
};

START_TEST(auto_takes_the_fastest)
{
    const struct fastest_row *row = &FASTEST_ON_HOPPER[_i];
    fc_problem p = good_problem();
    fc_plan plan;
    p.q_len = row->q_len;
    p.kv_len = row->kv_len;
    p.dtype = row->dtype;
    ck_assert_int_eq(fc_plan_make(&H100, FC_KERNEL_AUTO, &p, &plan, NULL), FC_OK);
    ck_assert_int_eq(plan.kernel, row->kernel);
}
END_TEST

START_TEST(limits_are_those_of_the_plans)
{
    for (int k = 0; k < FC_KERNEL_COUNT; k++) {
        fc_kernel_limits limits = fc_kernel_limits_of((fc_kernel)k);
        const fc_device *device = fc_kernel_engine((fc_kernel)k) == FC_ENGINE_CPU ? &CPU : &H100;
        ck_assert_int_ge(device->compute_capability, limits.capability_least);
        for (int d = 0; d < FC_DTYPE_COUNT; d++) {
            for (int32_t head_dim = 8; head_dim <= FC_HEAD_DIM_MAX; head_dim += 8) {
                fc_problem p = good_problem();
                fc_plan plan;
                bool can = (limits.dtypes & 1u << d) != 0 && head_dim % limits.head_dim_step == 0 &&
                           head_dim <= limits.head_dim_most;
                p.dtype = (fc_dtype)d;
                p.head_dim = head_dim;
                ck_assert_int_eq(fc_plan_make(device, (fc_kernel)k, &p, &plan, NULL), can ? FC_OK : FC_UNSUPPORTED);
            }
        }
    }
    ck_assert_uint_eq(fc_kernel_limits_of(FC_KERNEL_COUNT).dtypes, 0);
}
END_TEST

/* --- shapes ----------------------------------------------------------------------------------------------------- */

/* A rung with everything: two widths, three tiles in the first. */
static const fc_tile TILES[] = {{64, 128, 64, 1, 0}, {64, 64, 64, 1, 0}, {64, 16, 64, 4, 0}, {128, 64, 32, 1, 0}};
static const fc_rung RUNG = {.capability_least = 80,
                             .capability_most = FC_CAPABILITY_ANY,
                             .dtypes = 7,
                             .head_dim_step = 8,
                             .head_dim_most = 128,
                             .tiles = TILES,
                             .tile_count = 4,
                             .packs_heads = true,
                             .pace = {.flops_per_ns = 2600, .step_ns = 50, .start_ns = 1500, .split_ns = 2000},
                             .descriptor_bytes = 256};

static const struct shape_row {
    const char *name;
    int32_t batch, q_heads, kv_heads, q_len, kv_len, head_dim;
    fc_causal causal;
    int64_t left;
    uint32_t variant;
    int32_t packed_heads;
    uint32_t splits_least, splits_most;
} SHAPES[] = {
    {"many tiles: the largest", 8, 16, 16, 1024, 1024, 64, FC_CAUSAL_NONE, -1, 0, 1, 1, 1},
    {"a narrower head_dim is padded", 8, 16, 16, 1024, 1024, 8, FC_CAUSAL_NONE, -1, 0, 1, 1, 1},
    {"a wider head_dim has its own tile", 8, 16, 16, 1024, 1024, 72, FC_CAUSAL_NONE, -1, 3, 1, 1, 1},
    {"few tiles: smaller ones, but not the smallest", 1, 8, 8, 512, 512, 64, FC_CAUSAL_NONE, -1, 1, 1, 1, 4},
    {"few rows: the smallest tile that holds them", 64, 32, 32, 3, 1024, 64, FC_CAUSAL_NONE, -1, 2, 1, 1, 1},
    {"decode under GQA packs", 64, 32, 8, 1, 8192, 64, FC_CAUSAL_NONE, -1, 2, 4, 1, 2},
    {"packed rows may want a larger tile", 256, 32, 1, 3, 8192, 64, FC_CAUSAL_NONE, -1, 0, 32, 1, 16},
    {"no packing where tiles are full", 8, 32, 8, 128, 1024, 64, FC_CAUSAL_NONE, -1, 0, 1, 1, 1},
    {"no packing where it saves nothing", 64, 16, 8, 127, 1024, 64, FC_CAUSAL_NONE, -1, 0, 1, 1, 1},
    {"one query, long keys: many parts", 1, 32, 8, 1, 65536, 64, FC_CAUSAL_NONE, -1, 2, 4, 8, 128},
    {"a short window leaves nothing to split", 1, 32, 8, 1, 65536, 64, FC_CAUSAL_BOTTOM_RIGHT, 100, 2, 4, 1, 1},
    {"top_left sees no more keys than queries", 1, 32, 8, 1, 65536, 64, FC_CAUSAL_TOP_LEFT, -1, 2, 4, 1, 1},
    {"no keys", 1, 32, 8, 1, 0, 64, FC_CAUSAL_NONE, -1, 2, 4, 1, 1},
    {"no queries", 1, 32, 8, 0, 65536, 64, FC_CAUSAL_NONE, -1, 2, 1, 1, 1},
    {"no batch", 0, 32, 8, 1, 65536, 64, FC_CAUSAL_NONE, -1, 2, 4, 1, 1},
    {"as large as it gets", INT32_MAX, 1, 1, 1 << 20, FC_TOKENS_MAX, 64, FC_CAUSAL_NONE, -1, 0, 1, 1, 1},
};

START_TEST(a_shape_follows_from_the_problem)
{
    const struct shape_row *row = &SHAPES[_i];
    fc_problem p = good_problem();
    p.batch = row->batch;
    p.q_heads = row->q_heads;
    p.kv_heads = row->kv_heads;
    p.q_len = row->q_len;
    p.kv_len = row->kv_len;
    p.head_dim = row->head_dim;
    p.causal = row->causal;
    p.window_left = row->left;
    fc_plan plan = {.head_dim = p.head_dim};
    ck_assert_int_eq(fc_plan_shape(&RUNG, &H100, &p, NULL, &plan, NULL), FC_OK);
    ck_assert_msg(plan.variant == row->variant, "%s: variant %u", row->name, plan.variant);
    ck_assert_msg(plan.packed_heads == row->packed_heads, "%s: %d packed", row->name, plan.packed_heads);
    ck_assert_msg(plan.split_count >= row->splits_least && plan.split_count <= row->splits_most, "%s: %u splits",
                  row->name, plan.split_count);
    ck_assert_uint_eq(plan.q_tile_rows, (uint32_t)TILES[row->variant].q_tile_rows);
    ck_assert_uint_eq(plan.descriptor_bytes, 256);
    check_plan(&p, &plan);
}
END_TEST

START_TEST(the_longest_batch_entry_counts)
{
    uint32_t kv_lens[4] = {0, 128, 16384, 7};
    fc_problem p = good_problem();
    fc_plan one, plan;
    p.batch = 4;
    p.q_len = 1;
    p.kv_len = 65536;
    p.kv_lens = kv_lens;
    ck_assert_int_eq(fc_plan_shape(&RUNG, &H100, &p, NULL, &plan, NULL), FC_OK);
    p.kv_lens = NULL;
    p.kv_len = 16384;
    ck_assert_int_eq(fc_plan_shape(&RUNG, &H100, &p, NULL, &one, NULL), FC_OK);
    ck_assert_uint_eq(plan.split_count, one.split_count);
    ck_assert_uint_gt(plan.split_count, 1);
    kv_lens[2] = 1;
    p.kv_lens = kv_lens;
    ck_assert_int_eq(fc_plan_shape(&RUNG, &H100, &p, NULL, &plan, NULL), FC_OK);
    ck_assert_uint_eq(plan.split_count, 1);
}
END_TEST

START_TEST(memory_bounds_the_splits)
{
    fc_problem p = good_problem();
    p.q_heads = p.kv_heads = 1;
    p.q_len = 64 * 130;
    p.kv_len = FC_TOKENS_MAX;
    for (int32_t q_len = 64; q_len < 64 * 400; q_len += 64) {
        fc_plan plan = {.head_dim = 64};
        p.q_len = q_len;
        ck_assert_int_eq(fc_plan_shape(&RUNG, &H100, &p, NULL, &plan, NULL), FC_OK);
        check_plan(&p, &plan);
    }
}
END_TEST

static const struct wish_row {
    fc_plan_wish wish;
    const char *reason; /* NULL: granted */
} WISHES[] = {
    {{-1, 0, 0}, NULL},
    {{0, 1, 1}, NULL},
    {{2, 3, 4}, NULL},
    {{3, FC_SPLITS_MAX, 2}, NULL},
    {{4, 0, 0}, "has 4 variants"},
    {{-1, FC_SPLITS_MAX + 1, 0}, "cannot split so many rows into 129 parts"},
    {{-1, 0, 3}, "cannot pack 3 heads of 4 that read the same keys"},
    {{-1, 0, 8}, "cannot pack 8 heads of 4 that read the same keys"},
    {{-1, 0, -1}, "cannot pack -1 heads of 4 that read the same keys"},
};

START_TEST(wishes_are_granted_or_refused)
{
    const fc_plan_wish *wish = &WISHES[_i].wish;
    fc_problem p = good_problem();
    fc_reason reason = {""};
    fc_plan plan = {.head_dim = 64};
    p.kv_heads = 2;
    p.q_len = 3;
    fc_status st = fc_plan_shape(&RUNG, &H100, &p, wish, &plan, &reason);
    ck_assert_int_eq(st, WISHES[_i].reason == NULL ? FC_OK : FC_UNSUPPORTED);
    ck_assert_str_eq(reason.text, WISHES[_i].reason == NULL ? "" : WISHES[_i].reason);
    if (st != FC_OK)
        return;
    check_plan(&p, &plan);
    ck_assert(wish->variant < 0 || plan.variant == (uint32_t)wish->variant);
    ck_assert(wish->split_count == 0 || plan.split_count == wish->split_count);
    ck_assert(wish->packed_heads == 0 || plan.packed_heads == wish->packed_heads);
}
END_TEST

START_TEST(a_rung_refuses_what_it_has_not)
{
    static const struct {
        fc_plan_wish wish;
        const char *reason;
    } ROWS[] = {
        {{1, 0, 0}, "kernel: vec has 1 variants"},
        {{-1, 2, 0}, "kernel: vec splits no keys"},
        {{-1, 0, 2}, "kernel: vec packs no heads"},
    };
    fc_problem p = good_problem();
    fc_plan plan;
    fc_reason reason;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        ck_assert_int_eq(fc_plan_make_as(&L4, FC_KERNEL_VEC, &ROWS[i].wish, &p, &plan, &reason), FC_UNSUPPORTED);
        ck_assert_str_eq(reason.text, ROWS[i].reason);
    }
    fc_plan_wish narrow = {1, 0, 0};
    p.head_dim = 72;
    ck_assert_int_eq(fc_plan_shape(&RUNG, &L4, &p, &narrow, &plan, &reason), FC_UNSUPPORTED);
    ck_assert_str_eq(reason.text, "does head_dims up to 64 in variant 1");
}
END_TEST

/* One tile alone, so that only the splits are chosen. */
static fc_plan plan_of(fc_problem p, double split_ns)
{
    static const fc_tile TILE[] = {{64, 16, 64, 2, 0}};
    fc_rung rung = RUNG;
    fc_plan plan = {.head_dim = 64};
    rung.tiles = TILE;
    rung.tile_count = 1;
    rung.pace.split_ns = split_ns;
    ck_assert_int_eq(fc_plan_shape(&rung, &H100, &p, NULL, &plan, NULL), FC_OK);
    check_plan(&p, &plan);
    return plan;
}

static const struct split_row {
    const char *name;
    int32_t tiles, kv_len;
    double split_ns;
    uint32_t least, most;
} SPLITS[] = {
    {"eight tiles fill 264 slots", 8, 65536, 2000, 16, 33},
    {"a tile alone", 1, 1 << 20, 2000, 100, FC_SPLITS_MAX},
    {"a rung that cannot", 1, 1 << 20, 0, 1, 1},
    {"dear merging", 1, 1 << 20, 1e9, 1, 1},
    {"too few keys", 1, 3 * 64, 1, 1, 1},
    {"no keys", 1, 0, 1, 1, 1},
    {"one whole wave", 264, 8192, 2000, 1, 1},
    {"a wave and a bit", 265, 65536, 2000, 2, FC_SPLITS_MAX},
    {"wave upon wave", 264 * 4, 65536, 1, 1, 1},
};

START_TEST(splits_fill_the_device)
{
    const struct split_row *row = &SPLITS[_i];
    fc_problem p = good_problem();
    p.batch = row->tiles;
    p.q_heads = p.kv_heads = p.q_len = 1;
    p.kv_len = row->kv_len;
    fc_plan plan = plan_of(p, row->split_ns);
    ck_assert_msg(plan.split_count >= row->least && plan.split_count <= row->most, "%s: %u", row->name,
                  plan.split_count);
}
END_TEST

START_TEST(parts_are_not_too_short)
{
    fc_problem p = good_problem();
    p.q_heads = p.kv_heads = p.q_len = 1;
    for (p.kv_len = 1; p.kv_len < 20000; p.kv_len += 63) {
        for (p.batch = 1; p.batch < 200; p.batch += 31) {
            fc_plan plan = plan_of(p, 1);
            ck_assert(plan.split_count == 1 || (uint32_t)(p.kv_len + 63) / 64 / plan.split_count >= FC_SPLIT_STEPS_MIN);
        }
    }
}
END_TEST

/* Of two tiles that differ in shared memory alone, the first where both fit as often, else the one that fits more
 * often. */
START_TEST(shared_memory_counts)
{
    static const fc_tile TILES_BY_SHARED[] = {{64, 64, 64, 2, 64 << 10}, {64, 64, 64, 2, 40 << 10}};
    fc_problem p = good_problem();
    fc_rung rung = RUNG;
    fc_plan plan;
    rung.tiles = TILES_BY_SHARED;
    rung.tile_count = 2;
    p.q_heads = p.kv_heads = 32;
    p.q_len = p.kv_len = 4096;
    ck_assert_int_eq(fc_plan_shape(&rung, &H100, &p, NULL, &plan, NULL), FC_OK);
    ck_assert_uint_eq(plan.variant, 0);
    ck_assert_int_eq(fc_plan_shape(&rung, &L4, &p, NULL, &plan, NULL), FC_OK);
    ck_assert_uint_eq(plan.variant, 1);
}
END_TEST

START_TEST(packing_may_be_bound_to_divisors)
{
    static const int32_t ROWS[][2] = {{1, 1}, {4, 4}, {8, 8}, {12, 4}, {71, 1}, {128, 64}, {96, 32}};
    fc_rung rung = RUNG;
    rung.packs_divide = 64;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        fc_plan_wish wish = {.variant = -1, .packed_heads = ROWS[i][0]};
        fc_problem p = good_problem();
        fc_plan plan;
        p.q_heads = ROWS[i][0] * 8;
        p.q_len = 1;
        ck_assert_int_eq(fc_plan_shape(&rung, &H100, &p, NULL, &plan, NULL), FC_OK);
        ck_assert_int_eq(plan.packed_heads, ROWS[i][1]);
        ck_assert_int_eq(fc_plan_shape(&rung, &H100, &p, &wish, &plan, NULL),
                         ROWS[i][0] == ROWS[i][1] ? FC_OK : FC_UNSUPPORTED);
    }
}
END_TEST

static bool suits_short(const fc_tile *tile, const fc_problem *problem)
{
    return fc_problem_is_masked(problem) == (tile->q_tile_rows == 16);
}

START_TEST(tiles_may_be_meant_for_some)
{
    fc_rung rung = RUNG;
    fc_problem p = good_problem();
    fc_plan plan;
    rung.suits = suits_short;
    ck_assert_int_eq(fc_plan_shape(&rung, &H100, &p, NULL, &plan, NULL), FC_OK);
    ck_assert_uint_ne(plan.q_tile_rows, 16);
    p.causal = FC_CAUSAL_TOP_LEFT;
    ck_assert_int_eq(fc_plan_shape(&rung, &H100, &p, NULL, &plan, NULL), FC_OK);
    ck_assert_uint_eq(plan.q_tile_rows, 16);
    p.q_len = 1; /* one query sees all there is to see */
    ck_assert(fc_problem_is_masked(&p) == false);
    p.window_right = 0;
    ck_assert(fc_problem_is_masked(&p));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan");
    TCase *tests = tcase_create("plan");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_refusal_says_what_can, 0, sizeof REFUSALS / sizeof *REFUSALS);
    tcase_add_test(tests, other_devices_name_their_own);
    tcase_add_test(tests, auto_always_finds_a_rung_that_can);
    tcase_add_test(tests, auto_says_what_it_is);
    tcase_add_loop_test(tests, auto_takes_the_fastest, 0, sizeof FASTEST_ON_HOPPER / sizeof *FASTEST_ON_HOPPER);
    tcase_add_test(tests, limits_are_those_of_the_plans);
    tcase_add_loop_test(tests, a_shape_follows_from_the_problem, 0, sizeof SHAPES / sizeof *SHAPES);
    tcase_add_test(tests, the_longest_batch_entry_counts);
    tcase_add_test(tests, memory_bounds_the_splits);
    tcase_add_loop_test(tests, wishes_are_granted_or_refused, 0, sizeof WISHES / sizeof *WISHES);
    tcase_add_test(tests, a_rung_refuses_what_it_has_not);
    tcase_add_loop_test(tests, splits_fill_the_device, 0, sizeof SPLITS / sizeof *SPLITS);
    tcase_add_test(tests, parts_are_not_too_short);
    tcase_add_test(tests, shared_memory_counts);
    tcase_add_test(tests, packing_may_be_bound_to_divisors);
    tcase_add_test(tests, tiles_may_be_meant_for_some);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
