/* client/: calls against a scripted server, what they report when it answers, lies, dies or keeps silent. */
#include "client/flashcore.h"
#include "tests/support/client_fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(a_call_brings_out_and_lse_back)
{
    fixture f;
    fixture_open(&f, 1, script_well);
    flashcore_result result;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_OK);
    fixture_check_answer(&f);
    ck_assert_int_eq(result.status, FLASHCORE_OK);
    ck_assert_str_eq(result.error, "");
    ck_assert_str_eq(result.kernel, "fake");
    ck_assert_str_eq(result.device, "none");
    ck_assert_double_eq(result.queue_us, 1);
    ck_assert_double_eq(result.server_total_us, 20);
    ck_assert_uint_eq(result.batch, 5);
    ck_assert_double_gt(result.client_total_us, 0);
    ck_assert_str_eq(flashcore_last_error(), "");
    fixture_close(&f);
}
END_TEST

START_TEST(the_small_operations_answer)
{
    fixture f;
    fixture_open(&f, 1, script_well);
    double us = 0;
    ck_assert_int_eq(flashcore_ping(f.client, 0, &us), FLASHCORE_OK);
    ck_assert_double_gt(us, 0);
    flashcore_info info;
    ck_assert_int_eq(flashcore_hello(f.client, 0, &info), FLASHCORE_OK);
    ck_assert_str_eq(info.server, "fake");
    ck_assert_uint_eq(info.kernel_count, 2);
    ck_assert_str_eq(info.kernels[1], "reference");
    ck_assert_uint_eq(info.message_bytes_max, 1 << 20);
    ck_assert_int_eq(flashcore_ping(f.client, 1, &us), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_str_ne(flashcore_last_error(), "");
    fixture_close(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client");
    TCase *calls = tcase_create("calls");
    tcase_set_timeout(calls, 60);
    tcase_add_test(calls, a_call_brings_out_and_lse_back);
    tcase_add_test(calls, the_small_operations_answer);
    suite_add_tcase(suite, calls);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
