/* Device memory that others can map, on the fake runtime and driver of tests/fake: cleared, computed on where it lies,
 * seen by whoever maps its descriptor, and gone without a trace whichever call fails.
 */
#include "kernels/engine.h"
#include "kernels/reference.h"
#include "tests/fake/fake_cuda.h"

#include <check.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    HEADS = 2,
    TOKENS = 9,
    HEAD_DIM = 16,
    COUNT = HEADS * TOKENS * HEAD_DIM,
    TENSOR_BYTES = COUNT * 4,
    PLACE = 4096
};

static struct {
    const fc_engine_ops *ops;
    fake_cuda_fail_fn break_call;
    fake_cuda_live_fn live;
    fake_cuda_reset_fn reset;
} fake;

static void *symbol(void *object, const char *name)
{
    void *address = object != NULL ? dlsym(object, name) : NULL;
    if (address == NULL) {
        fprintf(stderr, "no %s: %s\n", name, dlerror());
        exit(EXIT_FAILURE);
    }
    return address;
}

static void load_fake(void)
{
    const char *build = getenv("FC_TEST_BUILD");
    char path[512];
    fc_engine_entry entry;
    snprintf(path, sizeof path, "%s/tests/flashcore-cuda-fake.so", build != NULL ? build : "build");
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    *(void **)&entry = symbol(object, FC_ENGINE_SYMBOL);
    fake.ops = entry();
    *(void **)&fake.break_call = symbol(object, "fake_cuda_fail");
    *(void **)&fake.live = symbol(object, "fake_cuda_live");
    *(void **)&fake.reset = symbol(object, "fake_cuda_reset");
}

static fc_engine *open_engine(void)
{
    static const fc_engine_config config = {.lane_staging_bytes = 1 << 20, .lane_segments = 16, .lane_jobs = 4};
    fc_engine *engine = NULL;
    fc_reason reason = {""};
    ck_assert_msg(fake.ops->open(&config, &engine, &reason) == FC_OK, "%s", reason.text);
    return engine;
}

static uint8_t *map(const fc_engine_memory *memory)
{
    uint8_t *bytes = mmap(NULL, memory->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
    ck_assert_ptr_ne(bytes, MAP_FAILED);
    return bytes;
}

static void setup(void)
{
    fake.reset();
}

static void teardown(void)
{
    ck_assert_int_eq(fake.live(), 0);
}

START_TEST(it_is_whole_granules_of_zeroes)
{
    fc_engine_info info;
    fc_engine_memory memory = {.fd = -1};
    fc_reason reason = {""};
    fc_engine *engine = open_engine();
    fake.ops->describe(engine, &info);
    ck_assert_uint_gt(info.memory_granule_bytes, 0);
    ck_assert_str_eq(info.memory_why, "");
    ck_assert_mem_eq(info.device_uuid, "fake-gpu-number0", sizeof info.device_uuid);
    long before = fake.live();
    fc_status st = fake.ops->memory_open(engine, info.memory_granule_bytes + 1, &memory, &reason);
    ck_assert_msg(st == FC_OK, "%s", reason.text);
    ck_assert_uint_eq(memory.size_bytes, 2 * info.memory_granule_bytes);
    uint8_t *bytes = map(&memory);
    for (size_t i = 0; i < memory.size_bytes; i++)
        ck_assert_uint_eq(bytes[i], 0);
    munmap(bytes, memory.size_bytes);
    fake.ops->memory_close(engine, &memory);
    ck_assert_ptr_null(memory.d_base);
    ck_assert_int_eq(memory.fd, -1);
    fake.ops->memory_close(engine, &memory);
    ck_assert_int_eq(fake.live(), before);
    ck_assert_int_eq(fake.ops->memory_open(engine, SIZE_MAX, &memory, &reason), FC_NO_MEMORY);
    fake.ops->close(engine);
}
END_TEST

/* A job whose q, k, v, out and lse lie at 0, PLACE, 2 PLACE, ... of the memory, in all or (which) some of them. */
static fc_engine_job make_job(fc_engine *engine, void *d_base, uint8_t *bytes, unsigned in_device)
{
    fc_strides strides = fc_strides_contiguous(FC_BHSD, HEADS, TOKENS, HEAD_DIM);
    fc_engine_job job = {.problem = {.dtype = FC_F32,
                                     .batch = 1,
                                     .q_heads = HEADS,
                                     .kv_heads = HEADS,
                                     .q_len = TOKENS,
                                     .kv_len = TOKENS,
                                     .head_dim = HEAD_DIM,
                                     .window_left = -1,
                                     .window_right = -1,
                                     .scale = 0.25f}};
    char *at[5];
    fc_memory_place *places[5] = {&job.places.q, &job.places.k, &job.places.v, &job.places.out, &job.places.lse};
    for (int i = 0; i < 5; i++) {
        bool is_device = (in_device >> i & 1) != 0;
        at[i] = is_device ? (char *)d_base + i * PLACE : (char *)bytes + i * PLACE;
        places[i]->kind = is_device ? FC_MEMORY_DEVICE : FC_MEMORY_HOST;
    }
    job.tensors = (fc_tensors){at[0], at[1], at[2], at[3], (float *)(void *)at[4], strides, strides, strides, strides};
    ck_assert_int_eq(fake.ops->plan(engine, FC_KERNEL_VEC, &job.problem, &job.plan, NULL), FC_OK);
    return job;
}

START_TEST(jobs_run_where_their_tensors_lie)
{
    fc_engine_memory memory;
    fc_engine_lane *lane;
    fc_engine_timing timing;
    fc_reason reason = {""};
    fc_engine *engine = open_engine();
    ck_assert_int_eq(fake.ops->memory_open(engine, 5 * PLACE, &memory, &reason), FC_OK);
    ck_assert_int_eq(fake.ops->lane_open(engine, &lane, &reason), FC_OK);
    uint8_t *bytes = map(&memory);
    float *values = (float *)(void *)bytes;
    for (unsigned in_device = 0; in_device < 32; in_device++) {
        memset(bytes, 0xee, 5 * PLACE);
        for (int i = 0; i < 3; i++)
            for (int k = 0; k < COUNT; k++)
                values[i * PLACE / 4 + k] = (float)((k * 7 + i * 3 + (int)in_device) % 13 - 6) / 4;
        fc_engine_job job = make_job(engine, memory.d_base, bytes, in_device);
        size_t staged = fake.ops->staging_bytes(engine, &job.problem, &job.places);
        ck_assert_int_eq(staged == 0, in_device == 31);
        fc_status st = fake.ops->lane_run(lane, &job, 1, &timing, &reason);
        ck_assert_msg(st == FC_OK, "%u: %s", in_device, reason.text);
        fc_tensors seen = job.tensors;
        seen.q = bytes;
        seen.k = bytes + PLACE;
        seen.v = bytes + 2 * PLACE;
        st = fc_reference_verify(&job.problem, &seen, bytes + 3 * PLACE, seen.out_strides,
                                 (float *)(void *)(bytes + 4 * PLACE), &reason);
        ck_assert_msg(st == FC_OK, "%u: %s", in_device, reason.text);
        ck_assert_uint_eq(bytes[3 * PLACE + TENSOR_BYTES], 0xee);
    }
    munmap(bytes, memory.size_bytes);
    fake.ops->lane_close(lane);
    fake.ops->memory_close(engine, &memory);
    fake.ops->close(engine);
}
END_TEST

static const struct failure_row {
    int error;
    bool is_sticky;
    fc_status status;
} FAILURES[] = {{2, false, FC_NO_MEMORY}, {700, false, FC_INTERNAL}, {700, true, FC_DEVICE_LOST}};

START_TEST(every_call_may_fail)
{
    const struct failure_row *row = &FAILURES[_i];
    unsigned long call = 1;
    for (bool is_done = false; !is_done; call++) {
        fc_engine_memory memory = {.d_base = NULL, .fd = -1};
        fc_reason reason = {""};
        fake.reset();
        fc_engine *engine = open_engine();
        long before = fake.live();
        fake.break_call(call, row->error, row->is_sticky);
        fc_status st = fake.ops->memory_open(engine, 1, &memory, &reason);
        is_done = st == FC_OK && call > 12;
        if (st != FC_OK) {
            ck_assert_msg(st == row->status, "call %lu: %s", call, reason.text);
            ck_assert_ptr_nonnull(strstr(reason.text, "cudaError"));
            ck_assert_ptr_null(memory.d_base);
        }
        if (st == FC_DEVICE_LOST) { /* for whoever comes next, too */
            fc_engine_lane *lane;
            ck_assert_int_eq(fake.ops->lane_open(engine, &lane, &reason), FC_DEVICE_LOST);
            ck_assert_int_eq(fake.ops->memory_open(engine, 1, &memory, &reason), FC_DEVICE_LOST);
        }
        fake.ops->memory_close(engine, &memory);
        ck_assert_msg(fake.live() == before, "call %lu leaves something", call);
        fake.ops->close(engine);
        ck_assert_uint_lt(call, 40);
    }
    ck_assert_uint_ge(call, 10);
}
END_TEST

int main(void)
{
    load_fake();
    Suite *suite = suite_create("cuda_shared");
    TCase *tests = tcase_create("cuda_shared");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, it_is_whole_granules_of_zeroes);
    tcase_add_test(tests, jobs_run_where_their_tensors_lie);
    tcase_add_loop_test(tests, every_call_may_fail, 0, sizeof FAILURES / sizeof FAILURES[0]);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
