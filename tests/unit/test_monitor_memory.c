/* daemon/monitor and gpu_watch with their 1st, 2nd, ... allocation failing: made whole or not at
 * all, with a reason; and a monitor that cannot be made leaves neither socket nor lock.
 */
#include "daemon/gpu_watch.h"
#include "daemon/monitor.h"
#include "tests/support/failing_alloc.h"
#include "tests/support/service_bench.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ATTEMPTS_MAX 100

static int count_entries(const char *path)
{
    int count = -2; /* "." and ".." */
    DIR *folder = opendir(path);
    ck_assert_ptr_nonnull(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

START_TEST(a_monitor_is_made_or_not)
{
    static fc_options options;
    service_bench b;
    char folder[] = "/tmp/test_monitor.XXXXXX";
    service_bench_open(&b);
    fc_options_defaults(&options);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(options.metrics, sizeof options.metrics, "unix:%s/http", folder);
    fc_monitor_config config = {.service = b.service, .options = &options, .engine = "fake", .device = "fake"};
    for (unsigned number = 1;; number++) {
        fc_monitor *monitor = NULL;
        fc_reason reason = {""};
        ck_assert_uint_lt(number, ATTEMPTS_MAX);
        failing_alloc_arm(number);
        fc_status st = fc_monitor_open(&config, &monitor, &reason);
        bool has_failed = failing_alloc_disarm();
        ck_assert(has_failed || st == FC_OK);
        ck_assert(st == FC_OK || (st == FC_NO_MEMORY && reason.text[0] != '\0' && monitor == NULL));
        fc_monitor_close(monitor);
        ck_assert_int_eq(count_entries(folder), 0);
        if (!has_failed)
            break;
        ck_assert_int_ne(st, FC_OK);
    }
    rmdir(folder);
    service_bench_close(&b);
}
END_TEST

START_TEST(a_gpu_watch_is_made_or_not)
{
    static const uint8_t uuid[] = "fake-gpu-number0";
    fc_gpu_watch *watch = NULL;
    failing_alloc_arm(1);
    fc_status st = fc_gpu_watch_start(uuid, "/nonexistent", &watch);
    ck_assert(failing_alloc_disarm());
    ck_assert_int_eq(st, FC_NO_MEMORY);
    ck_assert_ptr_null(watch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("monitor_memory");
    TCase *cases = tcase_create("allocation by allocation");
    tcase_add_test(cases, a_monitor_is_made_or_not);
    tcase_add_test(cases, a_gpu_watch_is_made_or_not);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
