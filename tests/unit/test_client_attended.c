/* A thread that waits for one answer after another reads them itself (fc_exchange_attend()): it never runs other calls'
 * callbacks, holds nobody up, and lets the client go.
 */
#include "tests/support/client_fixture.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

/* More than it takes until the caller reads its replies itself. */
enum { WARMING_CALLS = 12 };

/* Asleep, and awake, while it waits. */
static const uint64_t SPINS_US[] = {0, 2000};

static void open_spinning(fixture *f, fake_script script, int spin)
{
    fixture_prepare(f, 1);
    f->options.spin_us = SPINS_US[spin];
    fixture_start_server(f, 0, script);
    fixture_connect(f);
}

static void warm(fixture *f)
{
    for (int i = 0; i < WARMING_CALLS; i++)
        ck_assert_int_eq(flashcore_ping(f->client, 0, NULL), FLASHCORE_OK);
}

/* A thread inside flashcore_attend(). */
typedef struct waiter {
    fixture *f;
    float out[FIXTURE_ELEMENTS + 1], lse[FIXTURE_ROWS + 1];
    pthread_t thread;
    flashcore_status status;
} waiter;

static void *wait_inside(void *argument)
{
    waiter *w = argument;
    flashcore_request request = w->f->request;
    request.out = w->out;
    request.lse = w->lse;
    w->status = flashcore_attend(w->f->client, &request, NULL);
    return NULL;
}

static void start_waiter(fixture *f, waiter *w)
{
    *w = (waiter){.f = f};
    ck_assert_int_eq(pthread_create(&w->thread, NULL, wait_inside, w), 0);
    fixture_await_held(f, 0);
}

static void note_thread(void *context, flashcore_call *call, const flashcore_result *result)
{
    (void)call;
    (void)result;
    *(pthread_t *)context = pthread_self();
}

START_TEST(a_callback_never_runs_on_a_thread_that_waits)
{
    fixture f;
    waiter w;
    flashcore_call *call;
    pthread_t ran_on;
    open_spinning(&f, script_hold, _i);
    warm(&f);
    start_waiter(&f, &w);
    ck_assert_int_eq(flashcore_submit(f.client, &f.request, note_thread, &ran_on, &call), FLASHCORE_OK);
    fixture_await_held(&f, 0);
    fake_answer_well(fixture_take_held(&f, 0, 1));
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), FLASHCORE_OK);
    ck_assert(!pthread_equal(ran_on, w.thread) && !pthread_equal(ran_on, pthread_self()));
    fake_answer_well(fixture_take_held(&f, 0, 0));
    pthread_join(w.thread, NULL);
    ck_assert_int_eq(w.status, FLASHCORE_OK);
    flashcore_call_release(call);
    fixture_close(&f);
}
END_TEST

START_TEST(a_call_that_nobody_waits_for_ends_after_ones_that_were)
{
    fixture f;
    pthread_t ran_on;
    open_spinning(&f, script_well, _i);
    for (int i = 0; i < 50; i++) {
        flashcore_call *call;
        warm(&f);
        ck_assert_int_eq(flashcore_submit(f.client, &f.request, note_thread, &ran_on, &call), FLASHCORE_OK);
        ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), FLASHCORE_OK);
        ck_assert(!pthread_equal(ran_on, pthread_self()));
        flashcore_call_release(call);
    }
    fixture_close(&f);
}
END_TEST

START_TEST(threads_that_wait_at_once_all_get_their_answers)
{
    enum { WAITERS = 4 };
    fixture f;
    waiter waiters[WAITERS];
    open_spinning(&f, script_hold, _i);
    for (int round = 0; round < 5; round++) {
        unsigned held = (unsigned)round * WAITERS;
        warm(&f);
        for (int i = 0; i < WAITERS; i++)
            start_waiter(&f, &waiters[i]);
        for (unsigned i = WAITERS; i-- > 0;)
            fake_answer_well(fixture_take_held(&f, 0, held + i));
        for (int i = 0; i < WAITERS; i++) {
            pthread_join(waiters[i].thread, NULL);
            ck_assert_int_eq(waiters[i].status, FLASHCORE_OK);
        }
    }
    fixture_close(&f);
}
END_TEST

START_TEST(destroying_the_client_ends_the_wait)
{
    fixture f;
    waiter w;
    open_spinning(&f, script_hold, _i);
    warm(&f);
    start_waiter(&f, &w);
    flashcore_client_destroy(f.client);
    f.client = NULL;
    pthread_join(w.thread, NULL);
    ck_assert_int_eq(w.status, FLASHCORE_CANCELLED);
    fixture_close(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client_attended");
    TCase *attended = tcase_create("attended");
    tcase_set_timeout(attended, 60);
    const int spins = sizeof SPINS_US / sizeof SPINS_US[0];
    tcase_add_loop_test(attended, a_callback_never_runs_on_a_thread_that_waits, 0, spins);
    tcase_add_loop_test(attended, a_call_that_nobody_waits_for_ends_after_ones_that_were, 0, spins);
    tcase_add_loop_test(attended, threads_that_wait_at_once_all_get_their_answers, 0, spins);
    tcase_add_loop_test(attended, destroying_the_client_ends_the_wait, 0, spins);
    suite_add_tcase(suite, attended);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
