/* client/ without memory: with every allocation of the calling thread failing in turn, create and each way to ask
 * report it, nothing leaks (under ASan), and the client works again afterwards.
 */
#include "tests/support/client_fixture.h"
#include "tests/support/failing_alloc.h"

#include <check.h>
#include <stdlib.h>

/* Nobody listens there: an nng 1.5 listener does not survive a client that connects and leaves at once. */
static flashcore_status run_create(fixture *f)
{
    static const char *const urls[] = {"ipc:///tmp/fc-client-nobody.sock", "tcp://127.0.0.1:1"};
    flashcore_options options = f->options;
    options.urls = urls;
    options.url_count = 2;
    flashcore_client *client = NULL;
    flashcore_status status = flashcore_client_create(&options, &client);
    flashcore_client_destroy(client);
    return status;
}

static flashcore_status run_attend(fixture *f)
{
    return flashcore_attend(f->client, &f->request, NULL);
}

static flashcore_status run_submit_and_cancel(fixture *f)
{
    flashcore_call *call = NULL;
    flashcore_status status = flashcore_submit(f->client, &f->request, NULL, NULL, &call);
    if (status != FLASHCORE_OK)
        return call == NULL ? status : FLASHCORE_INTERNAL;
    flashcore_cancel(call); /* what it cannot send it does without */
    status = flashcore_wait(call, UINT64_MAX, NULL);
    flashcore_call_release(call);
    return status == FLASHCORE_CANCELLED ? FLASHCORE_OK : status;
}

static flashcore_status run_hello(fixture *f)
{
    flashcore_info info;
    return flashcore_hello(f->client, 0, &info);
}

static flashcore_status run_stats(fixture *f)
{
    return flashcore_stats(f->client, 0, NULL, NULL);
}

static const struct {
    const char *name;
    flashcore_status (*run)(fixture *f);
    unsigned allocations_min; /* fewer would mean that nothing was tested */
} RUNS[] = {
    {"create", run_create, 10}, {"attend", run_attend, 2}, {"submit", run_submit_and_cancel, 2},
    {"hello", run_hello, 2},    {"stats", run_stats, 3},
};

START_TEST(every_allocation_may_fail)
{
    fixture f;
    fixture_open(&f, 1, script_well);
    unsigned nth = 1;
    for (bool has_failed = true; has_failed; nth++) {
        fixture_clear_answer(&f);
        failing_alloc_arm(nth);
        flashcore_status status = RUNS[_i].run(&f);
        has_failed = failing_alloc_disarm();
        /* A waiting caller reads its reply itself; one that there is no memory for costs the connection. */
        bool is_told = status == FLASHCORE_NO_MEMORY || status == FLASHCORE_CONNECTION_LOST;
        ck_assert_msg(status == FLASHCORE_OK || (has_failed && is_told), "%s, allocation %u: %s", RUNS[_i].name, nth,
                      flashcore_status_name(status));
        ck_assert(status == FLASHCORE_OK || *flashcore_last_error() != '\0');
        ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
        fixture_check_answer(&f);
    }
    ck_assert_uint_gt(nth, RUNS[_i].allocations_min);
    fixture_close(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client_memory");
    TCase *allocations = tcase_create("allocations");
    tcase_set_timeout(allocations, 60);
    tcase_add_loop_test(allocations, every_allocation_may_fail, 0, sizeof RUNS / sizeof RUNS[0]);
    suite_add_tcase(suite, allocations);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
