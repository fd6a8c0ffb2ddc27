/* The CUDA engine's host code, on the fake runtime of tests/fake: right answers for every kind of job, alone and
 * together; every CUDA call made to fail in turn, once and for good; nothing left behind.
 */
#include "tests/support/cuda_bench.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static cuda_fake fake;

/* --- jobs ------------------------------------------------------------------------------------------------------- */

static const job_row ROWS[] = {
    {FC_F16, 1, 2, 2, 33, 40, 64, FC_BHSD, FC_CAUSAL_NONE, -1, -1, 0, false, true, false},
    {FC_BF16, 2, 4, 2, 17, 20, 72, FC_BSHD, FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 0, true, true, false},
    {FC_F32, 3, 3, 1, 5, 9, 8, FC_BHSD, FC_CAUSAL_TOP_LEFT, 2, -1, 5, true, false, false},
    {FC_F32, 1, 1, 1, 1, 1, 256, FC_BSHD, FC_CAUSAL_NONE, -1, -1, 0, false, true, false},
    {FC_F16, 2, 2, 1, 6, 7, 16, FC_BHSD, FC_CAUSAL_NONE, 1, 1, 0, true, true, true},
    {FC_F16, 1, 2, 2, 0, 7, 16, FC_BHSD, FC_CAUSAL_NONE, -1, -1, 0, false, true, false},
    {FC_F16, 0, 2, 2, 3, 7, 16, FC_BHSD, FC_CAUSAL_NONE, -1, -1, 0, false, true, false},
    {FC_F16, 2, 2, 2, 3, 0, 16, FC_BSHD, FC_CAUSAL_NONE, -1, -1, 0, false, true, false},
    {FC_F32, 2, 2, 1, 4, 6, 24, FC_BHSD, FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 0, true, true, true},
};
enum { ROW_COUNT = sizeof ROWS / sizeof *ROWS, ARENA_BYTES = 1 << 16 };

/* Makes the job's plan one that splits its keys and packs its heads, whatever its kernel can really do: the lane takes
 * plans as they come. */
static void split_by_hand(made_job *made, uint32_t splits, int32_t packed_heads)
{
    const fc_problem *p = &made->job.problem;
    fc_plan *plan = &made->job.plan;
    uint32_t rows = (uint32_t)(p->q_len * packed_heads);
    uint32_t packs = (uint32_t)(p->batch * p->q_heads / packed_heads);
    size_t partials = (size_t)splits * (size_t)(p->batch * p->q_heads * p->q_len);
    plan->packed_heads = packed_heads;
    plan->split_count = splits;
    plan->ticket_count = packs * ((rows + plan->q_tile_rows - 1) / plan->q_tile_rows);
    plan->workspace_bytes = partials * (size_t)FC_PARTIAL_FLOATS(p->head_dim) * sizeof(float);
}

/* --- an engine with one lane -------------------------------------------------------------------------------------- */

static const fc_engine_config CONFIG = {
    .lane_staging_bytes = 1 << 20, .lane_segments = 16, .lane_jobs = 20, .spin_us = 1000000};

static void setup(void)
{
    fake.reset();
}

static void teardown(void)
{
    ck_assert_int_eq(fake.live(), 0);
}

/* --- tests ------------------------------------------------------------------------------------------------------ */

START_TEST(every_job_is_answered)
{
    rig r;
    made_job made;
    fc_engine_timing timing;
    fc_reason reason = {""};
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, &reason), FC_OK);
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++) {
        fc_problem problem = {
            .dtype = ROWS[_i].dtype, .q_heads = 1, .kv_heads = 1, .head_dim = ROWS[_i].head_dim, .window_left = -1};
        fc_plan plan;
        problem.window_right = -1;
        if (fake.ops->plan(r.engine, (fc_kernel)kernel, &problem, &plan, NULL) == FC_UNSUPPORTED)
            continue; /* cannot do this dtype or head_dim */
        make_job(&made, &ROWS[_i], (fc_kernel)kernel, &fake, r.engine);
        ck_assert_int_le(fake.ops->staging_bytes(r.engine, &made.job.problem, NULL), CONFIG.lane_staging_bytes);
        fc_status st = fake.ops->lane_run(r.lane, &made.job, 1, &timing, &reason);
        ck_assert_msg(st == FC_OK, "row %d: %s", _i, reason.text);
        check_answer(&made.job, _i);
        ck_assert_double_eq(timing.kernel_us, ROWS[_i].batch * ROWS[_i].q_len > 0 ? 250 : 0);
        free_job(&made);
    }
    rig_close(&r, &fake);
}
END_TEST

/* Every variant of every rung, however split and packed, that will do the row; and the launches of twins. */
START_TEST(every_variant_is_answered)
{
    rig r;
    made_job made;
    fc_engine_info info;
    fc_engine_timing timing;
    fc_reason reason = {""};
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, &reason), FC_OK);
    fake.ops->describe(r.engine, &info);
    make_job(&made, &ROWS[_i], FC_KERNEL_VEC, &fake, r.engine);
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++) {
        for (uint32_t i = 0; i < 6 * fc_kernel_variant_count((fc_kernel)kernel); i++) {
            fc_plan_wish wish = {.variant = (int32_t)i / 6, .split_count = i % 3, .packed_heads = i % 6 < 3 ? 1 : 2};
            fc_plan *plan = &made.job.plan;
            if (fc_plan_make_as(&info.device, (fc_kernel)kernel, &wish, &made.job.problem, plan, NULL) != FC_OK)
                continue;
            fc_engine_job twins[2] = {made.job, made.job};
            fc_status st = fake.ops->lane_run(r.lane, twins, 2, &timing, &reason);
            ck_assert_msg(st == FC_OK, "%s %d: %s", fc_kernel_name((fc_kernel)kernel), wish.variant, reason.text);
            check_answer(&made.job, _i);
        }
    }
    free_job(&made);
    rig_close(&r, &fake);
}
END_TEST

/* Tickets that were never zeroed, a workspace that is too small or shared by two would be found by the fake. */
START_TEST(split_jobs_are_answered)
{
    rig r;
    made_job made[3];
    fc_engine_job jobs[3];
    fc_engine_timing timing;
    fc_reason reason = {""};
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, &reason), FC_OK);
    for (int i = 0; i < 3; i++) {
        make_job(&made[i], &ROWS[1], FC_KERNEL_VEC, &fake, r.engine);
        if (i != 1)
            split_by_hand(&made[i], 2 + (uint32_t)i, i == 2 ? 2 : 1);
        jobs[i] = made[i].job;
    }
    for (uint32_t count = 1; count <= 3; count++) {
        fc_status st = fake.ops->lane_run(r.lane, jobs, count, &timing, &reason);
        ck_assert_msg(st == FC_OK, "%u jobs: %s", count, reason.text);
        for (uint32_t i = 0; i < count; i++)
            check_answer(&made[i].job, 1);
    }
    for (int i = 0; i < 3; i++)
        free_job(&made[i]);
    rig_close(&r, &fake);
}
END_TEST

/* All rows that can share: the f16 ones of head_dim 16. One launch, one segment a batch entry. */
START_TEST(jobs_together_are_one_launch)
{
    rig r;
    made_job made[ROW_COUNT];
    fc_engine_job jobs[ROW_COUNT];
    int rows[ROW_COUNT];
    uint32_t count = 0;
    unsigned segments = 0, wanted_segments = 0;
    fc_engine_timing timing;
    fc_reason reason = {""};
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, &reason), FC_OK);
    for (int i = 0; i < ROW_COUNT; i++) {
        if (ROWS[i].dtype != FC_F16 || ROWS[i].head_dim != 16)
            continue;
        make_job(&made[count], &ROWS[i], FC_KERNEL_VEC, &fake, r.engine);
        jobs[count] = made[count].job;
        ck_assert(fc_plan_can_share(&jobs[0].plan, &jobs[count].plan));
        wanted_segments += (unsigned)ROWS[i].batch;
        rows[count++] = i;
    }
    ck_assert_uint_ge(count, 4);
    ck_assert_msg(fake.ops->lane_run(r.lane, jobs, count, &timing, &reason) == FC_OK, "%s", reason.text);
    ck_assert_uint_eq(fake.launches(&segments), 1);
    ck_assert_uint_eq(segments, wanted_segments);
    for (uint32_t i = 0; i < count; i++) {
        check_answer(&made[i].job, rows[i]);
        free_job(&made[i]);
    }
    rig_close(&r, &fake);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    rig r;
    made_job made;
    fc_engine_job jobs[17];
    fc_engine_timing timing;
    fc_reason reason;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, &reason), FC_OK);
    make_job(&made, &ROWS[3], FC_KERNEL_VEC, &fake, r.engine);
    for (int i = 0; i < 17; i++)
        jobs[i] = made.job;
    ck_assert_int_eq(fake.ops->lane_run(r.lane, jobs, 16, &timing, &reason), FC_OK);
    ck_assert_int_eq(fake.ops->lane_run(r.lane, jobs, 17, &timing, &reason), FC_INTERNAL);
    ck_assert_ptr_nonnull(strstr(reason.text, "16 batch entries"));
    jobs[0].problem.kv_len = 1 << 20;
    ck_assert_uint_gt(fake.ops->staging_bytes(r.engine, &jobs[0].problem, NULL), CONFIG.lane_staging_bytes);
    ck_assert_int_eq(fake.ops->lane_run(r.lane, jobs, 1, &timing, &reason), FC_INTERNAL);
    ck_assert_ptr_nonnull(strstr(reason.text, "1048576 staging bytes"));
    jobs[0] = jobs[1];
    jobs[0].plan.workspace_bytes = FC_LAUNCH_WORKSPACE_BYTES_MAX;
    jobs[1].plan.workspace_bytes = 1;
    ck_assert_int_eq(fake.ops->lane_run(r.lane, jobs, 2, &timing, &reason), FC_INTERNAL);
    ck_assert_ptr_nonnull(strstr(reason.text, "33554432 workspace bytes"));
    jobs[1].plan.workspace_bytes = 0;
    jobs[0].plan.ticket_count = FC_LAUNCH_TICKETS_MAX;
    ck_assert_int_eq(fake.ops->lane_run(r.lane, jobs, 2, &timing, &reason), FC_OK);
    jobs[1].plan.ticket_count = 1;
    ck_assert_int_eq(fake.ops->lane_run(r.lane, jobs, 2, &timing, &reason), FC_INTERNAL);
    ck_assert_ptr_nonnull(strstr(reason.text, "4096 tickets"));
    jobs[0].plan.descriptor_bytes = 64; /* which vec knows nothing of */
    ck_assert_int_eq(fake.ops->lane_run(r.lane, jobs, 1, &timing, &reason), FC_INTERNAL);
    ck_assert_str_eq(reason.text, "the driver refused to describe a launch of vec");
    free_job(&made);
    rig_close(&r, &fake);
}
END_TEST

/* Registering can fail like everything else; nothing is left behind, and what is registered twice is refused. */
START_TEST(memory_is_registered_and_released)
{
    static const struct {
        int error;
        fc_status status;
    } FAILURES[] = {{0, FC_OK}, {CUDA_OUT_OF_MEMORY, FC_NO_MEMORY}, {CUDA_ILLEGAL_ADDRESS, FC_INTERNAL}};
    enum { BYTES = 4 * 4096 };
    rig r;
    fc_reason reason = {""};
    char *memory = aligned_alloc(4096, BYTES);
    ck_assert_ptr_nonnull(memory);
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, &reason), FC_OK);
    long live = fake.live();
    for (unsigned long call = 1; call <= 2; call++) {
        for (size_t i = 0; i < sizeof FAILURES / sizeof *FAILURES; i++) {
            fake.break_call(FAILURES[i].error != 0 ? call : 0, FAILURES[i].error, 0);
            ck_assert_int_eq(fake.ops->memory_register(r.engine, memory, BYTES, &reason), FAILURES[i].status);
            ck_assert_int_eq(fake.live(), live + (FAILURES[i].status == FC_OK));
            if (FAILURES[i].status != FC_OK)
                ck_assert_ptr_nonnull(strstr(reason.text, "while registering memory"));
            else
                fake.ops->memory_unregister(r.engine, memory);
            ck_assert_int_eq(fake.live(), live);
        }
    }
    ck_assert_int_eq(fake.ops->memory_register(r.engine, memory, BYTES, &reason), FC_OK);
    ck_assert_int_eq(fake.ops->memory_register(r.engine, memory, BYTES, &reason), FC_INTERNAL);
    ck_assert_str_eq(reason.text, "cudaErrorHostMemoryAlreadyRegistered while registering memory");
    fake.ops->memory_unregister(r.engine, memory);
    fake.break_call(1, CUDA_ILLEGAL_ADDRESS, 1);
    ck_assert_int_eq(fake.ops->memory_register(r.engine, memory, BYTES, &reason), FC_DEVICE_LOST);
    ck_assert_str_eq(reason.text, "cudaErrorIllegalAddress while registering memory");
    ck_assert_int_eq(fake.ops->memory_register(r.engine, memory, BYTES, &reason), FC_DEVICE_LOST);
    rig_close(&r, &fake);
    free(memory);
}
END_TEST

static const struct machine_row {
    int devices, capability, driver;
    int32_t device_index;
    fc_status status;
    const char *reason;
} MACHINES[] = {
    {1, 90, 13000, 0, FC_OK, ""},
    {2, 80, 13010, 1, FC_OK, ""},
    {1, 90, 0, 0, FC_UNSUPPORTED, "no NVIDIA driver is installed"},
    {1, 90, 12080, 0, FC_UNSUPPORTED, "the NVIDIA driver is too old: it knows CUDA 12.8, 13.0 is needed"},
    {0, 90, 13000, 0, FC_UNSUPPORTED, "no usable NVIDIA GPU (cudaErrorNoDevice)"},
    {2, 90, 13000, 2, FC_UNSUPPORTED, "no device 2: there are 2, numbered from 0"},
    {1, 90, 13000, -1, FC_UNSUPPORTED, "no device -1: there is 1, numbered from 0"},
    {1, 75, 13000, 0, FC_UNSUPPORTED, "Fake GPU has compute capability 7.5; 8.0 or newer is needed"},
};

START_TEST(a_machine_that_will_not_do_is_told_why)
{
    const struct machine_row *row = &MACHINES[_i];
    fc_engine_config config = CONFIG;
    fc_engine *engine = NULL;
    fc_reason reason = {""};
    config.device_index = row->device_index;
    fake.machine(row->devices, row->capability, row->driver);
    ck_assert_int_eq(fake.ops->open(&config, &engine, &reason), row->status);
    ck_assert_str_eq(reason.text, row->reason);
    fake.ops->close(engine);
}
END_TEST

/* A build without Hopper's own code, on a Hopper: what is left is offered, and auto makes do with it. */
START_TEST(a_build_for_other_gpus_does_without_hopper)
{
    cuda_fake plain = cuda_fake_load(CUDA_FAKE_PLAIN);
    fc_problem problem = {.dtype = FC_F16, .batch = 4, .q_heads = 8, .kv_heads = 8, .q_len = 1024, .kv_len = 1024};
    fc_engine *engine;
    fc_engine_info info;
    fc_plan plan;
    fc_reason reason = {""};
    problem.head_dim = 64;
    problem.window_left = problem.window_right = -1;
    plain.reset();
    ck_assert_int_eq(fake.ops->open(&CONFIG, &engine, &reason), FC_OK);
    ck_assert_int_eq(fake.ops->plan(engine, FC_KERNEL_AUTO, &problem, &plan, &reason), FC_OK);
    ck_assert_int_eq(plan.kernel, FC_KERNEL_HOPPER);
    fake.ops->close(engine);
    ck_assert_int_eq(plain.ops->open(&CONFIG, &engine, &reason), FC_OK);
    plain.ops->describe(engine, &info);
    ck_assert(info.has_kernel[FC_KERNEL_FUSED] && !info.has_kernel[FC_KERNEL_HOPPER]);
    ck_assert_int_eq(plain.ops->plan(engine, FC_KERNEL_AUTO, &problem, &plan, &reason), FC_OK);
    ck_assert_int_eq(plan.kernel, FC_KERNEL_FUSED);
    problem.dtype = FC_F32; /* which fused does not do */
    ck_assert_int_eq(plain.ops->plan(engine, FC_KERNEL_AUTO, &problem, &plan, &reason), FC_OK);
    problem.dtype = FC_F16;
    ck_assert_int_eq(plain.ops->plan(engine, FC_KERNEL_HOPPER, &problem, &plan, &reason), FC_UNSUPPORTED);
    ck_assert_str_eq(reason.text, "kernel: this engine was built without hopper for this GPU");
    plain.ops->close(engine);
    plain.machine(1, 80, 13000);
    ck_assert_int_eq(plain.ops->open(&CONFIG, &engine, &reason), FC_UNSUPPORTED);
    ck_assert_str_eq(reason.text, "Fake GPU has compute capability 8.0; this engine was built for sm_89 compute_89");
}
END_TEST

START_TEST(the_engine_says_what_it_is)
{
    fc_engine_info info;
    rig r;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    fake.ops->describe(r.engine, &info);
    ck_assert_uint_eq(fake.ops->abi_version, FC_ENGINE_ABI_VERSION);
    ck_assert_str_eq(fake.ops->name, "cuda");
    ck_assert_str_eq(info.device_name, "Fake GPU");
    ck_assert_int_eq(info.device.compute_capability, 90);
    ck_assert_int_eq(info.device.processor_count, 132);
    ck_assert(!info.has_kernel[FC_KERNEL_CPU]);
    for (int i = 0; i < FC_KERNEL_COUNT; i++)
        ck_assert_msg(info.has_kernel[i] == (fc_kernel_engine((fc_kernel)i) == FC_ENGINE_CUDA), "%s has no launcher",
                      fc_kernel_name((fc_kernel)i));
    ck_assert_int_eq(info.default_kernel, fc_kernel_default(&info.device));
    ck_assert_uint_ge(info.lane_count, 2);
    rig_close(&r, &fake);
    fake.ops->close(NULL);
    fake.ops->lane_close(NULL);
}
END_TEST

/* What a failing CUDA call makes of the calls of ours that meet it. */
static fc_status status_of(int error)
{
    return error == CUDA_OUT_OF_MEMORY ? FC_NO_MEMORY : FC_INTERNAL;
}

/* The job with k, v and out in memory that is registered, if that does not fail: then it is plain memory. */
static fc_engine_job with_arena(const rig *r, const made_job *made, char *arena)
{
    enum { KV_BYTES = 11520 }; /* of row 1 */
    fc_engine_job job = made->job;
    job.tensors.k = memcpy(arena, made->job.tensors.k, KV_BYTES);
    job.tensors.v = memcpy(arena + KV_BYTES, made->job.tensors.v, KV_BYTES);
    job.tensors.out = (void *)(arena + 2 * (size_t)KV_BYTES);
    const fc_memory_place in = {.kind = FC_MEMORY_REGISTERED, .region = arena};
    if (fake.ops->memory_register(r->engine, arena, ARENA_BYTES, NULL) == FC_OK)
        job.places.k = job.places.v = job.places.out = in;
    return job;
}

/* Runs the job; on success the answer has to be right, on failure status and reason have to be the documented ones. */
static fc_status run_one(rig *r, const fc_engine_job *job, unsigned long call, fc_status failure)
{
    fc_engine_timing timing;
    fc_reason reason = {""};
    fc_status st = fake.ops->lane_run(r->lane, job, 1, &timing, &reason);
    if (st == FC_OK) {
        check_answer(job, 1);
        return st;
    }
    ck_assert_msg(st == failure, "call %lu: %s, %s", call, fc_status_name(st), reason.text);
    ck_assert_msg(strstr(reason.text, "cudaError") != NULL || strstr(reason.text, "earlier") != NULL, "call %lu: %s",
                  call, reason.text);
    return st;
}

/* Opens, runs a job three times, once with an arena, closes, with the call-th CUDA call failing, once or from then on.
 * True: all went well, as if nothing had happened. */
static bool run_with_failure(unsigned long call, int error, bool is_sticky)
{
    rig r;
    made_job made;
    fc_reason reason = {""};
    fc_status runs[3];
    fake.reset();
    fake.break_call(call, error, is_sticky);
    fc_status st = rig_open(&r, &fake, &CONFIG, &reason);
    if (st != FC_OK) {
        ck_assert_msg(st == status_of(error) || st == FC_UNSUPPORTED, "call %lu: %s", call, reason.text);
        ck_assert_msg(strstr(reason.text, "cudaError") != NULL, "call %lu: %s", call, reason.text);
        ck_assert_int_eq(fake.live(), 0);
        return false;
    }
    make_job(&made, &ROWS[1], FC_KERNEL_BASELINE, &fake, r.engine);
    split_by_hand(&made, 3, 2);
    char *arena = aligned_alloc(4096, ARENA_BYTES);
    ck_assert_ptr_nonnull(arena);
    for (int i = 0; i < 3; i++) {
        fc_engine_job job = i == 1 ? with_arena(&r, &made, arena) : made.job;
        runs[i] = run_one(&r, &job, call, is_sticky ? FC_DEVICE_LOST : status_of(error));
        if (job.places.k.kind == FC_MEMORY_REGISTERED)
            fake.ops->memory_unregister(r.engine, arena);
    }
    free(arena);
    int failed = (runs[0] != FC_OK) + (runs[1] != FC_OK) + (runs[2] != FC_OK);
    if (is_sticky && failed > 0) {
        fc_engine_lane *lane;
        ck_assert_int_eq(runs[2], FC_DEVICE_LOST);
        ck_assert_int_eq(fake.ops->lane_open(r.engine, &lane, &reason), FC_DEVICE_LOST);
        ck_assert_int_eq(fake.ops->memory_register(r.engine, NULL, 4096, &reason), FC_DEVICE_LOST);
    }
    ck_assert_msg(is_sticky || failed <= 1, "call %lu: the lane did not recover", call);
    rig_close(&r, &fake);
    free_job(&made);
    ck_assert_int_eq(fake.live(), 0);
    return failed == 0;
}

static const struct failure_row {
    int error;
    bool is_sticky;
} FAILURES[] = {
    {CUDA_OUT_OF_MEMORY, false},
    {CUDA_ILLEGAL_ADDRESS, false},
    {CUDA_ILLEGAL_ADDRESS, true},
};

START_TEST(every_cuda_call_may_fail)
{
    unsigned long call = 1, quiet = 0, noisy = 0;
    /* A failing timer and a failing release are nobody's business: up to this many in a row end nothing. */
    enum { SILENT_CALLS = 16, PLENTY = 200 };
    for (; quiet <= SILENT_CALLS && call < PLENTY; call++) {
        bool is_quiet = run_with_failure(call, FAILURES[_i].error, FAILURES[_i].is_sticky);
        quiet = is_quiet ? quiet + 1 : 0;
        noisy += !is_quiet;
    }
    ck_assert_uint_lt(call, PLENTY);
    ck_assert_uint_ge(noisy, 32); /* 3 to open, 10 for the lane, 8 a run, 1 for the tickets */
}
END_TEST

/* --- scrubbing ---------------------------------------------------------------------------------------------------- */

/* Runs a job full of a mark; `call` fails (0: none). Returns how much of the lane's memory still holds the mark. */
static unsigned long marks_left(bool scrubs, unsigned long call)
{
    enum { MARK = 0x5a };
    uint8_t mark[16];
    rig r;
    made_job made;
    fc_reason reason = {""};
    fc_engine_timing timing;
    fc_engine_config config = CONFIG;
    config.scrubs = scrubs;
    memset(mark, MARK, sizeof mark);
    ck_assert_int_eq(rig_open(&r, &fake, &config, &reason), FC_OK);
    make_job(&made, &ROWS[0], FC_KERNEL_BASELINE, &fake, r.engine);
    split_by_hand(&made, 3, 1);
    const fc_problem *p = &made.job.problem;
    size_t q_bytes = 2u * (size_t)(p->batch * p->q_heads * p->q_len * p->head_dim);
    size_t k_bytes = 2u * (size_t)(p->batch * p->kv_heads * p->kv_len * p->head_dim);
    memset((void *)(uintptr_t)made.job.tensors.q, MARK, q_bytes);
    memset((void *)(uintptr_t)made.job.tensors.k, MARK, k_bytes);
    memset((void *)(uintptr_t)made.job.tensors.v, MARK, k_bytes);
    fake.break_call(call, CUDA_OUT_OF_MEMORY, 0);
    fc_status st = fake.ops->lane_run(r.lane, &made.job, 1, &timing, &reason);
    fake.break_call(0, 0, 0);
    ck_assert(call > 0 || st == FC_OK);
    unsigned long left = fake.holders(mark, sizeof mark);
    free_job(&made);
    rig_close(&r, &fake);
    return left;
}

START_TEST(a_lane_that_scrubs_keeps_nothing)
{
    ck_assert_uint_ge(marks_left(false, 0), 2); /* staging and device */
    ck_assert_uint_eq(marks_left(true, 0), 0);
    /* Nor of a launch that failed in its first calls: later ones are the scrubbing's own. */
    for (unsigned long call = 1; call <= 4; call++)
        ck_assert_msg(marks_left(true, call) == 0, "call %lu", call);
}
END_TEST

int main(void)
{
    fake = cuda_fake_load(CUDA_FAKE);
    Suite *suite = suite_create("cuda_engine");
    TCase *tests = tcase_create("cuda_engine");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, every_job_is_answered, 0, ROW_COUNT);
    tcase_add_loop_test(tests, every_variant_is_answered, 0, ROW_COUNT);
    tcase_add_test(tests, split_jobs_are_answered);
    tcase_add_test(tests, jobs_together_are_one_launch);
    tcase_add_test(tests, what_does_not_fit_is_refused);
    tcase_add_test(tests, memory_is_registered_and_released);
    tcase_add_loop_test(tests, a_machine_that_will_not_do_is_told_why, 0, sizeof MACHINES / sizeof *MACHINES);
    tcase_add_test(tests, a_build_for_other_gpus_does_without_hopper);
    tcase_add_test(tests, the_engine_says_what_it_is);
    tcase_add_loop_test(tests, every_cuda_call_may_fail, 0, sizeof FAILURES / sizeof *FAILURES);
    tcase_add_test(tests, a_lane_that_scrubs_keeps_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
