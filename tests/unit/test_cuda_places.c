/* Where tensors lie, and what a lane of the CUDA engine makes of it, on the fake runtime of tests/fake: how many copies
 * there are, and that nobody's bytes are touched but the outputs'.
 */
#include "tests/support/cuda_bench.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 1 << 16, FILL = 0x3c, Q_BYTES = 2 * 16 * 64 * 2, LSE_BYTES = 2 * 16 * 4 };

static cuda_fake fake;

static const fc_engine_config CONFIG = {
    .lane_staging_bytes = 8 << 20, .lane_segments = 16, .lane_jobs = 8, .spin_us = 1000000};

/* Q_BYTES each of q, k, v and out, LSE_BYTES of lse. */
static const job_row ROW = {FC_F16, 1, 2, 2, 16, 16, 64, FC_BHSD, FC_CAUSAL_NONE, -1, -1, 0, false, true, false};

static char *arena_open(fc_engine *engine)
{
    char *arena = aligned_alloc(4096, ARENA_BYTES);
    ck_assert_ptr_nonnull(arena);
    memset(arena, FILL, ARENA_BYTES);
    ck_assert_int_eq(fake.ops->memory_register(engine, arena, ARENA_BYTES, NULL), FC_OK);
    return arena;
}

static void arena_close(fc_engine *engine, char *arena)
{
    fake.ops->memory_unregister(engine, arena);
    free(arena);
}

static void *moved(char *arena, int at, const void *tensor, size_t bytes)
{
    if (at < 0)
        return (void *)tensor;
    memcpy(arena + at, tensor, bytes);
    return arena + at;
}

/* Offsets in an arena of q, k, v, out and lse; -1: stays where it is. */
typedef struct offsets {
    int q, k, v, out, lse;
} offsets;

/* The job with its tensors moved to where the offsets say. */
static fc_engine_job job_in(const made_job *made, char *arena, offsets at)
{
    fc_engine_job job = made->job;
    const fc_memory_place in = {.kind = FC_MEMORY_REGISTERED, .region = arena}, out = {.kind = FC_MEMORY_HOST};
    job.tensors.q = moved(arena, at.q, job.tensors.q, Q_BYTES);
    job.tensors.k = moved(arena, at.k, job.tensors.k, Q_BYTES);
    job.tensors.v = moved(arena, at.v, job.tensors.v, Q_BYTES);
    job.tensors.out = moved(arena, at.out, job.tensors.out, Q_BYTES);
    job.tensors.lse = moved(arena, at.lse, job.tensors.lse, LSE_BYTES);
    job.places = (fc_memory_places){.q = at.q < 0 ? out : in,
                                    .k = at.k < 0 ? out : in,
                                    .v = at.v < 0 ? out : in,
                                    .out = at.out < 0 ? out : in,
                                    .lse = at.lse < 0 ? out : in};
    return job;
}

static void run(rig *r, const fc_engine_job *jobs, uint32_t count)
{
    fc_engine_timing timing;
    fc_reason reason = {""};
    fc_status st = fake.ops->lane_run(r->lane, jobs, count, &timing, &reason);
    ck_assert_msg(st == FC_OK, "%s", reason.text);
    for (uint32_t i = 0; i < count; i++)
        check_answer(&jobs[i], (int)i);
}

/* Copies since then, both ways. */
static void check_copies(fake_cuda_copies before, const char *what, unsigned long in, unsigned long out)
{
    fake_cuda_copies now = fake.copied();
    ck_assert_msg(now.in - before.in == in && now.out - before.out == out, "%s: %lu in, %lu out", what,
                  now.in - before.in, now.out - before.out);
}

static bool is_in(const char *at, const void *tensor, size_t bytes)
{
    const char *begin = tensor;
    return at >= begin && at < begin + bytes;
}

/* Every byte of the arena that is none of the job's is as it was. */
static void check_untouched(const char *arena, const fc_engine_job *job)
{
    const fc_tensors *t = &job->tensors;
    for (const char *at = arena; at < arena + ARENA_BYTES; at++) {
        if (!is_in(at, t->q, Q_BYTES) && !is_in(at, t->k, Q_BYTES) && !is_in(at, t->v, Q_BYTES) &&
            !is_in(at, t->out, Q_BYTES) && !is_in(at, t->lse, LSE_BYTES))
            ck_assert_msg(*at == FILL, "byte %td was written", at - arena);
    }
}

static void setup(void)
{
    fake.reset();
}

static void teardown(void)
{
    ck_assert_int_eq(fake.live(), 0);
}

/* Copies of the second of two equal launches: the first also sends segments and descriptors. */
static const struct arrangement {
    const char *name;
    offsets at;
    unsigned long in, out;
} ARRANGEMENTS[] = {
    {"all in a row", {0, 4096, 8192, 12288, 16384}, 1, 1},
    {"backwards", {8192, 4096, 0, 16512, 12288}, 1, 2},
    {"gaps between inputs", {0, 4096 + 64, 8192 + 256, 16384, 16384 + 4096}, 3, 1},
    {"large gaps", {0, 8192, 16384, 24576, 32768}, 3, 2},
    {"a gap between outputs", {0, 4096, 8192, 12288, 16384 + 64}, 1, 2},
    {"k is v", {0, 4096, 4096, 12288, 16384}, 1, 1},
    {"all inputs are one", {0, 0, 0, 4096, 8192}, 1, 1},
    {"inputs overlap", {0, 2048, 1024, 8192, 12288}, 1, 1},
    {"q is not aligned", {8, 8192, 12288, 16384, 20480}, 2, 1},
    {"out is not aligned", {0, 4096, 8192, 16388, 24576}, 1, 2},
    {"all lie askew", {3, 4106, 8209, 12310, 16700}, 3, 2},
    {"inputs lie askew alike", {13, 4109, 8205, 12301, 16700}, 1, 2},
    {"q came in the message", {-1, 4096, 8192, 12288, 16384}, 2, 1},
    {"out goes with the message", {0, 4096, 8192, -1, 12288}, 1, 2},
    {"lse goes with the message", {0, 4096, 8192, 12288, -1}, 1, 2},
    {"outputs go with the message", {0, 4096, 8192, -1, -1}, 1, 1},
    {"all came in the message", {-1, -1, -1, -1, -1}, 1, 1},
};
enum { ARRANGEMENT_COUNT = sizeof ARRANGEMENTS / sizeof *ARRANGEMENTS };

START_TEST(what_is_registered_is_not_copied_by_hand)
{
    const struct arrangement *a = &ARRANGEMENTS[_i];
    static const fc_kernel KERNELS[] = {FC_KERNEL_VEC, FC_KERNEL_HOPPER};
    rig r;
    made_job made;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    for (size_t i = 0; i < sizeof KERNELS / sizeof *KERNELS; i++) {
        char *arena = arena_open(r.engine);
        make_job(&made, &ROW, KERNELS[i], &fake, r.engine);
        fc_engine_job job = job_in(&made, arena, a->at);
        run(&r, &job, 1);
        fake_cuda_copies before = fake.copied();
        run(&r, &job, 1);
        check_copies(before, a->name, a->in, a->out);
        check_untouched(arena, &job);
        free_job(&made);
        arena_close(r.engine, arena);
    }
    rig_close(&r, &fake);
}
END_TEST

/* Tensors as the client library allocates them together: each on 64 bytes. What lies between inputs comes along, what
 * lies between outputs is left alone. */
START_TEST(gaps_of_alignment_travel_with_inputs)
{
    static const job_row NARROW = {FC_F16, 1, 2, 2, 5, 5, 24, FC_BHSD, FC_CAUSAL_NONE, -1, -1, 0, false, true, false};
    enum { BYTES = 2 * 5 * 24 * 2, NARROW_LSE_BYTES = 2 * 5 * 4, APART = 512 };
    rig r;
    made_job made;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    char *arena = arena_open(r.engine);
    const fc_memory_place in = {.kind = FC_MEMORY_REGISTERED, .region = arena};
    make_job(&made, &NARROW, FC_KERNEL_VEC, &fake, r.engine);
    fc_engine_job job = made.job;
    job.tensors.q = moved(arena, 0, made.job.tensors.q, BYTES);
    job.tensors.k = moved(arena, APART, made.job.tensors.k, BYTES);
    job.tensors.v = moved(arena, 2 * APART, made.job.tensors.v, BYTES);
    job.tensors.out = (void *)(arena + 3 * APART);
    job.tensors.lse = (float *)(void *)(arena + 4 * APART);
    job.places = (fc_memory_places){in, in, in, in, in};
    run(&r, &job, 1);
    fake_cuda_copies before = fake.copied();
    run(&r, &job, 1);
    check_copies(before, "64-byte gaps", 1, 2);
    ck_assert_uint_eq(fake.copied().in_bytes - before.in_bytes, 2 * APART + BYTES);
    ck_assert_uint_eq(fake.copied().out_bytes - before.out_bytes, BYTES + NARROW_LSE_BYTES);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(arena[i * APART + BYTES], FILL);
    free_job(&made);
    arena_close(r.engine, arena);
    rig_close(&r, &fake);
}
END_TEST

/* Two arenas that happen to lie side by side are two registrations, which no copy may cross. */
START_TEST(neighbouring_regions_are_apart)
{
    rig r;
    made_job made;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    char *memory = aligned_alloc(4096, ARENA_BYTES);
    ck_assert_ptr_nonnull(memory);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(fake.ops->memory_register(r.engine, memory + i * 8192, 8192, NULL), FC_OK);
    make_job(&made, &ROW, FC_KERNEL_VEC, &fake, r.engine);
    fc_engine_job job = job_in(&made, memory, (offsets){0, 4096, 8192, 12288, -1});
    job.places.v.region = job.places.out.region = memory + 8192;
    run(&r, &job, 1);
    fake_cuda_copies before = fake.copied();
    run(&r, &job, 1);
    check_copies(before, "side by side", 2, 2);
    for (int i = 0; i < 2; i++)
        fake.ops->memory_unregister(r.engine, memory + i * 8192);
    free(memory);
    free_job(&made);
    rig_close(&r, &fake);
}
END_TEST

/* Those of the last launches stay on the device, until a failure. */
START_TEST(segments_are_sent_once)
{
    rig r;
    made_job made;
    fc_reason reason;
    fc_engine_timing timing;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    char *arena = arena_open(r.engine);
    make_job(&made, &ROW, FC_KERNEL_VEC, &fake, r.engine);
    fc_engine_job job = job_in(&made, arena, (offsets){0, 4096, 8192, 12288, 16384});
    fc_engine_job others[] = {job, job, job};
    others[0].problem.scale *= 2;
    ck_assert_int_eq(fake.ops->plan(r.engine, FC_KERNEL_HOPPER, &job.problem, &others[1].plan, NULL), FC_OK);
    others[2] = job_in(&made, arena, (offsets){-1, 4096, 8192, 12288, 16384});
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        fake_cuda_copies before = fake.copied();
        run(&r, &job, 1);
        check_copies(before, "the job", i == 0 ? 2 : 1, 1);
        before = fake.copied();
        run(&r, &others[i], 1);
        check_copies(before, "then another", 2, 1); /* the last has a second copy of tensors, and the job's segments */
        before = fake.copied();
        run(&r, &others[i], 1);
        check_copies(before, "and again", i == 2 ? 2 : 1, 1);
    }
    run(&r, &job, 1);
    fake.break_call(3, CUDA_OUT_OF_MEMORY, 0);
    ck_assert_int_eq(fake.ops->lane_run(r.lane, &job, 1, &timing, &reason), FC_NO_MEMORY);
    fake_cuda_copies before = fake.copied();
    run(&r, &job, 1);
    check_copies(before, "after a failure", 2, 1);
    free_job(&made);
    arena_close(r.engine, arena);
    rig_close(&r, &fake);
}
END_TEST

/* Runs the job at so many scales in turn, and says how many copies in that took. */
static unsigned long copies_of_turns(rig *r, const fc_engine_job *of, int scales)
{
    unsigned long before = fake.copied().in;
    for (int i = 0; i < scales; i++) {
        fc_engine_job job = *of;
        job.problem.scale = 0.125f + (float)i / 256;
        run(r, &job, 1);
    }
    return fake.copied().in - before;
}

/* The launches of callers who take turns; past what is kept the one used longest ago goes. */
START_TEST(so_many_segments_stay)
{
    enum { KEPT = 32 };
    rig r;
    made_job made;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    char *arena = arena_open(r.engine);
    make_job(&made, &ROW, FC_KERNEL_VEC, &fake, r.engine);
    fc_engine_job job = job_in(&made, arena, (offsets){0, 4096, 8192, 12288, 16384});
    ck_assert_uint_eq(copies_of_turns(&r, &job, KEPT), 2 * KEPT);
    ck_assert_uint_eq(copies_of_turns(&r, &job, KEPT), KEPT);
    ck_assert_uint_eq(copies_of_turns(&r, &job, KEPT + 1), KEPT + 2); /* the first is given up for the last */
    ck_assert_uint_eq(copies_of_turns(&r, &job, 1), 2);
    ck_assert_uint_eq(copies_of_turns(&r, &job, 1), 1);
    free_job(&made);
    arena_close(r.engine, arena);
    rig_close(&r, &fake);
}
END_TEST

/* Launches that repeat one have no marks of their own, but for some; all have times. */
START_TEST(repeats_are_timed_like_the_first)
{
    rig r;
    made_job made;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    make_job(&made, &ROW, FC_KERNEL_VEC, &fake, r.engine);
    for (int i = 0; i < 40; i++) {
        fc_engine_timing timing = {0};
        made.job.problem.scale = i < 35 ? 0.125f : 0.25f;
        ck_assert_int_eq(fake.ops->lane_run(r.lane, &made.job, 1, &timing, NULL), FC_OK);
        ck_assert_double_eq(timing.kernel_us, 250);
        ck_assert_double_eq(timing.copy_out_us, 250);
    }
    check_answer(&made.job, 0);
    free_job(&made);
    rig_close(&r, &fake);
}
END_TEST

/* Tensors on the device are used where they lie; a caller's own lse is brought to it. */
START_TEST(what_is_on_the_device_stays_there)
{
    rig r;
    made_job made;
    void *bytes;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    char *d_memory = fake.allocate(ARENA_BYTES, &bytes);
    ck_assert_ptr_nonnull(d_memory);
    make_job(&made, &ROW, FC_KERNEL_VEC, &fake, r.engine);
    for (int has_lse = 0; has_lse < 2; has_lse++) {
        const offsets at = {0, 4096, 8192, 12288, has_lse ? 16384 : -1};
        fc_engine_job seen = job_in(&made, bytes, at), job = seen;
        const fc_memory_place device = {.kind = FC_MEMORY_DEVICE};
        job.tensors.q = d_memory + at.q;
        job.tensors.k = d_memory + at.k;
        job.tensors.v = d_memory + at.v;
        job.tensors.out = d_memory + at.out;
        job.tensors.lse = has_lse ? (float *)(void *)(d_memory + at.lse) : seen.tensors.lse;
        job.places = (fc_memory_places){device, device, device, device, {.kind = FC_MEMORY_HOST}};
        if (has_lse)
            job.places.lse = device;
        ck_assert_uint_eq(fake.ops->staging_bytes(r.engine, &job.problem, &job.places), has_lse ? 0 : 256);
        for (int again = 0; again < 2; again++) {
            fc_engine_timing timing;
            fake_cuda_copies before = fake.copied();
            ck_assert_int_eq(fake.ops->lane_run(r.lane, &job, 1, &timing, NULL), FC_OK);
            check_answer(&seen, 0);
            ck_assert_double_eq(timing.copy_in_us, 0);
            check_copies(before, "on the device", !again, !has_lse);
        }
    }
    fake.release(d_memory);
    free_job(&made);
    rig_close(&r, &fake);
}
END_TEST

/* What kernels cannot read is refused before anything is begun, naming the tensor. */
START_TEST(what_lies_badly_on_the_device_is_refused)
{
    rig r;
    made_job made;
    fc_engine_timing timing;
    fc_reason reason;
    const fc_memory_place device = {.kind = FC_MEMORY_DEVICE};
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    make_job(&made, &ROW, FC_KERNEL_VEC, &fake, r.engine);
    fc_engine_job job = made.job;
    job.places.k = device;
    job.tensors.k = (void *)(uintptr_t)0x1008;
    ck_assert_int_eq(fake.ops->lane_run(r.lane, &job, 1, &timing, &reason), FC_INTERNAL);
    ck_assert_str_eq(reason.text, "k: in device memory, and not aligned to 16 bytes");
    job.tensors.k = (void *)(uintptr_t)0x1000;
    job.tensors.k_strides.token += 4;
    ck_assert_int_eq(fake.ops->lane_run(r.lane, &job, 1, &timing, &reason), FC_INTERNAL);
    ck_assert_uint_eq(fake.copied().in, 0);
    run(&r, &made.job, 1);
    free_job(&made);
    rig_close(&r, &fake);
}
END_TEST

/* One launch of jobs from two arenas and from messages: a copy in for each arena, one for the rest, and likewise out;
 * one for the segments, once. */
START_TEST(all_kinds_share_a_launch)
{
    rig r;
    made_job made[4];
    fc_engine_job jobs[4];
    unsigned segments;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    char *arenas[] = {arena_open(r.engine), arena_open(r.engine)};
    for (int i = 0; i < 4; i++) {
        make_job(&made[i], &ROW, FC_KERNEL_VEC, &fake, r.engine);
        jobs[i] = made[i].job;
        if (i % 2 == 0)
            jobs[i] = job_in(&made[i], arenas[i / 2], (offsets){0, 4096, 8192, 12288, 16384});
    }
    jobs[2].tensors.lse = NULL;
    jobs[2].places.lse = (fc_memory_place){.kind = FC_MEMORY_HOST};
    for (int again = 0; again < 2; again++) {
        fake_cuda_copies before = fake.copied();
        run(&r, jobs, 4);
        check_copies(before, "together", again ? 3 : 4, 3);
    }
    ck_assert_uint_eq(fake.launches(&segments), 2);
    ck_assert_uint_eq(segments, 4);
    check_untouched(arenas[0], &jobs[0]);
    for (int i = 0; i < 4; i++)
        free_job(&made[i]);
    for (int i = 0; i < 2; i++)
        arena_close(r.engine, arenas[i]);
    rig_close(&r, &fake);
}
END_TEST

/* Large tensors of a message go to the device piece by piece, and arrive whole. */
START_TEST(large_tensors_go_in_pieces)
{
    static const job_row LARGE[] = {
        {FC_F16, 1, 1, 1, 2, 9000, 64, FC_BHSD, FC_CAUSAL_NONE, -1, -1, 0, false, true, false},
        {FC_F16, 1, 2, 2, 2, 4500, 64, FC_BHSD, FC_CAUSAL_NONE, -1, -1, 0, false, true, true},
    };
    static const unsigned long COPIES[] = {6, 3}; /* strided ones are packed whole; one is the segments' */
    rig r;
    made_job made;
    ck_assert_int_eq(rig_open(&r, &fake, &CONFIG, NULL), FC_OK);
    make_job(&made, &LARGE[_i], FC_KERNEL_VEC, &fake, r.engine);
    fake_cuda_copies before = fake.copied();
    run(&r, &made.job, 1);
    check_copies(before, "large", COPIES[_i], 1);
    free_job(&made);
    rig_close(&r, &fake);
}
END_TEST

/* A lane that is to sleep at once, and one whose launch takes longer than it stays awake. */
START_TEST(a_lane_sleeps_when_its_time_is_up)
{
    static const uint32_t SPIN_US[] = {0, 1, 200};
    fc_engine_config config = CONFIG;
    config.spin_us = SPIN_US[_i];
    rig r;
    made_job made;
    fake.pending(UINT32_MAX);
    ck_assert_int_eq(rig_open(&r, &fake, &config, NULL), FC_OK);
    make_job(&made, &ROW, FC_KERNEL_VEC, &fake, r.engine);
    for (int again = 0; again < 2; again++)
        run(&r, &made.job, 1);
    free_job(&made);
    rig_close(&r, &fake);
}
END_TEST

int main(void)
{
    fake = cuda_fake_load(CUDA_FAKE);
    Suite *suite = suite_create("cuda_places");
    TCase *tests = tcase_create("cuda_places");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, what_is_registered_is_not_copied_by_hand, 0, ARRANGEMENT_COUNT);
    tcase_add_test(tests, gaps_of_alignment_travel_with_inputs);
    tcase_add_test(tests, neighbouring_regions_are_apart);
    tcase_add_test(tests, segments_are_sent_once);
    tcase_add_test(tests, so_many_segments_stay);
    tcase_add_test(tests, repeats_are_timed_like_the_first);
    tcase_add_test(tests, what_is_on_the_device_stays_there);
    tcase_add_test(tests, what_lies_badly_on_the_device_is_refused);
    tcase_add_test(tests, all_kinds_share_a_launch);
    tcase_add_loop_test(tests, large_tensors_go_in_pieces, 0, 2);
    tcase_add_loop_test(tests, a_lane_sleeps_when_its_time_is_up, 0, 3);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
