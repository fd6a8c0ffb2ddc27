/* daemon/gpu_watch on a driver's library of our own, which answers, refuses, or hangs. */
#include "daemon/clock.h"
#include "daemon/gpu_watch.h"
#include "tests/fake/nvml/nvml.h"

#include <check.h>
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t UUID[] = "fake-gpu-number0";
static const uint8_t OTHER_UUID[] = "fake-gpu-number1";
static const uint8_t NO_UUID[FC_UUID_BYTES];

static char library[256];
static fake_nvml_state *nvml;
static fc_stats stats;
static fc_gpu_watch *watch;

static void set_up(void)
{
    const char *build = getenv("FC_TEST_BUILD");
    snprintf(library, sizeof library, "%.200s/tests/nvml/libnvidia-ml.so.1", build != NULL ? build : "build");
    void *object = dlopen(library, RTLD_NOW);
    ck_assert_msg(object != NULL, "%s", dlerror());
    nvml = dlsym(object, "fake_nvml");
    ck_assert_ptr_nonnull(nvml);
    fc_stats_init(&stats, 0);
}

static void start(const uint8_t *uuid)
{
    ck_assert_int_eq(fc_gpu_watch_start(uuid, library, &watch), FC_OK);
    while (!fc_gpu_watch_has_read(watch))
        sched_yield();
    fc_gpu_watch_copy(watch, &stats, fc_clock_now_ns());
}

START_TEST(the_drivers_numbers_are_read)
{
    start(UUID);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_MEMORY), 80ull << 30);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_MEMORY_USED), 12ull << 30);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_BUSY), 93);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_CELSIUS), 67);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_POWER), 512300);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_CLOCK), 1755);
    fc_gpu_watch_stop(watch);
    ck_assert_int_eq(nvml->shutdown_count, 1);
}
END_TEST

START_TEST(what_the_device_does_not_know_is_absent)
{
    nvml->has_no_power = true;
    start(UUID);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_POWER), FC_STAT_ABSENT);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_CELSIUS), 67);
    fc_gpu_watch_stop(watch);
}
END_TEST

static const struct {
    const char *name, *library; /* NULL: the fake */
    const uint8_t *uuid;
    bool has_no_driver;
} ABSENT[] = {
    {"no library", "/nonexistent/libnvidia-ml.so.1", UUID, false},
    {"another library", "libc.so.6", UUID, false},
    {"no driver", NULL, UUID, true},
    {"another device", NULL, OTHER_UUID, false},
    {"no device", NULL, NO_UUID, false},
};

START_TEST(without_it_everything_is_absent)
{
    nvml->has_no_driver = ABSENT[_i].has_no_driver;
    if (ABSENT[_i].library != NULL)
        snprintf(library, sizeof library, "%s", ABSENT[_i].library);
    start(ABSENT[_i].uuid);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_MEMORY), FC_STAT_ABSENT);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_BUSY), FC_STAT_ABSENT);
    ck_assert((watch == NULL) == (strcmp(ABSENT[_i].name, "no device") == 0));
    fc_gpu_watch_stop(watch);
}
END_TEST

START_TEST(a_driver_that_hangs_holds_nobody_up)
{
    nvml->hangs = true;
    ck_assert_int_eq(fc_gpu_watch_start(UUID, library, &watch), FC_OK);
    while (!nvml->is_hanging)
        sched_yield();
    fc_gpu_watch_copy(watch, &stats, fc_clock_now_ns());
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_MEMORY), FC_STAT_ABSENT);
    fc_gpu_watch_stop(watch);
    ck_assert_int_eq(nvml->shutdown_count, 0);
    nvml->hangs = false; /* the thread cleans up after itself */
    while (nvml->shutdown_count == 0)
        sched_yield();
}
END_TEST

/* Old numbers are none: an operator would take them for a GPU that is well. */
START_TEST(what_was_read_long_ago_is_absent)
{
    start(UUID);
    uint64_t now_ns = fc_clock_now_ns();
    fc_gpu_watch_copy(watch, &stats, now_ns + FC_GPU_WATCH_STALE_NS / 2);
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_CELSIUS), 67);
    for (int i = 0; i < 2; i++) {
        fc_gpu_watch_copy(watch, &stats, now_ns + FC_GPU_WATCH_STALE_NS + FC_NS_PER_S * 3600);
        ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_CELSIUS), FC_STAT_ABSENT);
        ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_MEMORY), FC_STAT_ABSENT);
    }
    fc_gpu_watch_copy(watch, &stats, fc_clock_now_ns()); /* it answers again */
    ck_assert_uint_eq(fc_stats_get(&stats, FC_READING_GPU_CELSIUS), 67);
    fc_gpu_watch_stop(watch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gpu_watch");
    TCase *cases = tcase_create("gpu_watch");
    tcase_add_checked_fixture(cases, set_up, NULL);
    tcase_add_test(cases, the_drivers_numbers_are_read);
    tcase_add_test(cases, what_the_device_does_not_know_is_absent);
    tcase_add_loop_test(cases, without_it_everything_is_absent, 0, (int)(sizeof ABSENT / sizeof ABSENT[0]));
    tcase_add_test(cases, what_was_read_long_ago_is_absent);
    tcase_add_test(cases, a_driver_that_hangs_holds_nobody_up);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
