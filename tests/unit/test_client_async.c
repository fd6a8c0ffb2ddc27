/* client/: calls under way: waiting, callbacks, cancelling, back pressure, destroying the client, many threads. */
#include "client/flashcore.h"
#include "tests/support/client_fixture.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static flashcore_call *submit(fixture *f)
{
    flashcore_call *call = NULL;
    flashcore_status status = flashcore_submit(f->client, &f->request, NULL, NULL, &call);
    ck_assert_msg(status == FLASHCORE_OK, "%s", flashcore_last_error());
    ck_assert_ptr_nonnull(call);
    return call;
}

START_TEST(wait_looks_and_waits)
{
    fixture f;
    fixture_open(&f, 1, script_hold);
    flashcore_call *call = submit(&f);
    flashcore_result result = {.status = FLASHCORE_INTERNAL};
    fixture_await_held(&f, 0);
    ck_assert_int_eq(flashcore_wait(call, 0, &result), FLASHCORE_TIMED_OUT);
    ck_assert_int_eq(flashcore_wait(call, 1000, &result), FLASHCORE_TIMED_OUT);
    ck_assert_int_eq(result.status, FLASHCORE_INTERNAL);
    ck_assert_int_eq(flashcore_has_ended(call), 0);
    fake_answer_well(fixture_take_held(&f, 0, 0));
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, &result), FLASHCORE_OK);
    ck_assert_int_eq(result.status, FLASHCORE_OK);
    ck_assert_int_eq(flashcore_has_ended(call), 1);
    ck_assert_int_eq(flashcore_wait(call, 0, NULL), FLASHCORE_OK);
    fixture_check_answer(&f);
    flashcore_call_release(call);
    fixture_close(&f);
}
END_TEST

START_TEST(answers_in_any_order_find_their_calls)
{
    fixture f;
    fixture_open(&f, 1, script_hold);
    enum { CALLS = 8 };
    float q[CALLS][FIXTURE_ELEMENTS], out[CALLS][FIXTURE_ELEMENTS];
    flashcore_call *calls[CALLS];
    for (int i = 0; i < CALLS; i++) {
        for (int j = 0; j < FIXTURE_ELEMENTS; j++)
            q[i][j] = (float)(i * 1000 + j);
        f.request.q.data = q[i];
        f.request.out = out[i];
        f.request.lse = NULL;
        calls[i] = submit(&f);
        fixture_await_held(&f, 0);
    }
    for (int i = CALLS; i-- > 0;)
        fake_answer_well(fixture_take_held(&f, 0, (unsigned)i));
    for (int i = 0; i < CALLS; i++) {
        ck_assert_int_eq(flashcore_wait(calls[i], UINT64_MAX, NULL), FLASHCORE_OK);
        ck_assert_mem_eq(out[i], q[i], sizeof q[i]);
        flashcore_call_release(calls[i]);
    }
    fixture_close(&f);
}
END_TEST

/* --- callbacks --------------------------------------------------------------------------------------------------- */

typedef struct chain {
    fixture *f;
    int turns_left;
    sem_t done;
    flashcore_status in_wait, in_attend, in_second, in_third;
    flashcore_call *extra;
    int in_has_ended;
} chain;

static void on_chain(void *context, flashcore_call *call, const flashcore_result *result)
{
    chain *c = context;
    ck_assert_int_eq(result->status, FLASHCORE_OK);
    c->in_has_ended = flashcore_has_ended(call);
    c->in_wait = flashcore_wait(call, UINT64_MAX, NULL);
    c->in_attend = flashcore_attend(c->f->client, &c->f->request, NULL);
    flashcore_call_release(call);
    if (--c->turns_left == 0) {
        sem_post(&c->done);
        return;
    }
    flashcore_call *next = NULL;
    ck_assert_int_eq(flashcore_submit(c->f->client, &c->f->request, on_chain, c, &next), FLASHCORE_OK);
}

/* inflight_max 1: a call's place is free before its callback runs. */
START_TEST(a_callback_may_submit_and_release)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.inflight_max = 1;
    fixture_start_server(&f, 0, script_well);
    fixture_connect(&f);
    chain c = {.f = &f, .turns_left = 50};
    sem_init(&c.done, 0, 0);
    flashcore_call *call = NULL;
    ck_assert_int_eq(flashcore_submit(f.client, &f.request, on_chain, &c, &call), FLASHCORE_OK);
    while (sem_wait(&c.done) != 0)
        continue;
    ck_assert_int_eq(c.in_has_ended, 1);
    ck_assert_int_eq(c.in_wait, FLASHCORE_OK);
    ck_assert_int_eq(c.in_attend, FLASHCORE_INVALID_ARGUMENT);
    fixture_close(&f);
    sem_destroy(&c.done);
}
END_TEST

static void on_full(void *context, flashcore_call *call, const flashcore_result *result)
{
    chain *c = context;
    flashcore_call *none = NULL;
    (void)call;
    (void)result;
    c->in_second = flashcore_submit(c->f->client, &c->f->request, NULL, NULL, &c->extra);
    c->in_third = flashcore_submit(c->f->client, &c->f->request, NULL, NULL, &none);
    ck_assert_ptr_null(none);
}

START_TEST(inflight_max_holds_back)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.inflight_max = 2;
    f.options.connect_timeout_us = 500 * 1000;
    fixture_start_server(&f, 0, script_hold);
    fixture_connect(&f);
    chain c = {.f = &f};
    flashcore_call *first = NULL, *second = submit(&f), *third = NULL;
    fixture_await_held(&f, 0);
    ck_assert_int_eq(flashcore_submit(f.client, &f.request, on_full, &c, &first), FLASHCORE_OK);
    fixture_await_held(&f, 0);
    ck_assert_int_eq(flashcore_submit(f.client, &f.request, NULL, NULL, &third), FLASHCORE_BUSY);
    ck_assert_ptr_nonnull(strstr(flashcore_last_error(), "inflight_max"));
    ck_assert_int_eq(flashcore_ping(f.client, 0, NULL), FLASHCORE_OK); /* small operations pass */
    fake_answer_well(fixture_take_held(&f, 0, 0));
    third = submit(&f); /* waits at most until second has ended */
    ck_assert_int_eq(flashcore_wait(second, UINT64_MAX, NULL), FLASHCORE_OK);
    fixture_await_held(&f, 0);
    fake_answer_well(fixture_take_held(&f, 0, 2));
    ck_assert_int_eq(flashcore_wait(third, UINT64_MAX, NULL), FLASHCORE_OK);
    flashcore_call *fourth = submit(&f), *fifth = NULL;
    fixture_await_held(&f, 0);
    ck_assert_int_eq(flashcore_submit(f.client, &f.request, NULL, NULL, &fifth), FLASHCORE_BUSY);
    fake_answer_well(fixture_take_held(&f, 0, 1)); /* first, whose callback finds one place, then none */
    ck_assert_int_eq(flashcore_wait(first, UINT64_MAX, NULL), FLASHCORE_OK);
    ck_assert_int_eq(c.in_second, FLASHCORE_OK);
    ck_assert_int_eq(c.in_third, FLASHCORE_BUSY);
    fixture_await_held(&f, 0);
    fake_answer_well(fixture_take_held(&f, 0, 3));
    fake_answer_well(fixture_take_held(&f, 0, 4));
    ck_assert_int_eq(flashcore_wait(fourth, UINT64_MAX, NULL), FLASHCORE_OK);
    ck_assert_int_eq(flashcore_wait(c.extra, UINT64_MAX, NULL), FLASHCORE_OK);
    flashcore_call_release(c.extra);
    flashcore_call_release(first);
    flashcore_call_release(second);
    flashcore_call_release(third);
    flashcore_call_release(fourth);
    fixture_close(&f);
}
END_TEST

/* --- cancel ------------------------------------------------------------------------------------------------------- */

START_TEST(cancel_takes_a_sent_request_back)
{
    fixture f;
    fixture_open(&f, 1, script_hold);
    flashcore_call *call = submit(&f);
    fixture_await_held(&f, 0);
    ck_assert_int_eq(flashcore_cancel(call), FLASHCORE_OK);
    ck_assert_int_eq(flashcore_cancel(call), FLASHCORE_OK);
    fixture_await_cancel(&f, 0);
    fake_request *held = fixture_take_held(&f, 0, 0);
    ck_assert_uint_eq(f.servers[0].cancel_target, held->wire.id);
    fake_answer_status(held, FC_CANCELLED, 0);
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), FLASHCORE_CANCELLED);
    ck_assert_int_eq(flashcore_cancel(call), FLASHCORE_OK);
    ck_assert_int_eq(flashcore_ping(f.client, 0, NULL), FLASHCORE_OK);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_CANCEL), 1);
    flashcore_call_release(call);
    fixture_close(&f);
}
END_TEST

/* variant: what the server answers to a request that was cancelled too late, or that it had refused anyway. */
START_TEST(cancel_that_comes_too_late_changes_nothing)
{
    static const struct {
        fc_status answer;
        flashcore_status expected;
    } rows[] = {{FC_OK, FLASHCORE_OK},
                {FC_INTERNAL, FLASHCORE_INTERNAL},
                {FC_BUSY, FLASHCORE_CANCELLED},
                {FC_DRAINING, FLASHCORE_CANCELLED}};
    fixture f;
    fixture_open(&f, 1, script_hold);
    flashcore_call *call = submit(&f);
    fixture_await_held(&f, 0);
    ck_assert_int_eq(flashcore_cancel(call), FLASHCORE_OK);
    fixture_await_cancel(&f, 0);
    fake_request *held = fixture_take_held(&f, 0, 0);
    if (rows[_i].answer == FC_OK)
        fake_answer_well(held);
    else
        fake_answer_status(held, rows[_i].answer, 0);
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), rows[_i].expected);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 1);
    flashcore_call_release(call);
    fixture_close(&f);
}
END_TEST

START_TEST(cancel_ends_the_wait_for_a_connection)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.connect_timeout_us = UINT64_MAX;
    f.options.timeout_us = 0;
    fixture_connect(&f);
    flashcore_call *call = submit(&f);
    flashcore_result result;
    ck_assert_int_eq(flashcore_cancel(call), FLASHCORE_OK);
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, &result), FLASHCORE_CANCELLED);
    ck_assert_str_ne(result.error, "");
    flashcore_call_release(call);
    fixture_close(&f);
}
END_TEST

static void script_busy_for_ever(void *context, fake_request *request)
{
    fixture_server *server = context;
    if (request->wire.op != FC_OP_ATTEND) {
        fake_answer_well(request);
        return;
    }
    fake_answer_status(request, FC_BUSY, 3600u * 1000000u);
    sem_post(&server->has_received);
}

START_TEST(cancel_ends_the_wait_for_a_busy_server)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.timeout_us = 0;
    fixture_start_server(&f, 0, script_busy_for_ever);
    fixture_connect(&f);
    flashcore_call *call = submit(&f);
    fixture_await_held(&f, 0);
    ck_assert_int_eq(flashcore_cancel(call), FLASHCORE_OK);
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), FLASHCORE_CANCELLED);
    flashcore_call_release(call);
    fixture_close(&f);
}
END_TEST

/* --- destroy ------------------------------------------------------------------------------------------------------ */

static void on_end(void *context, flashcore_call *call, const flashcore_result *result)
{
    atomic_int *cancelled = context;
    (void)call;
    *cancelled += result->status == FLASHCORE_CANCELLED;
}

/* variant 0: sent and unanswered; 1: waiting for a connection; 2: waiting for a busy server. */
START_TEST(destroy_ends_calls_under_way)
{
    enum { CALLS = 10 };
    fixture f;
    fixture_prepare(&f, 1);
    f.options.timeout_us = 0;
    f.options.connect_timeout_us = UINT64_MAX;
    if (_i != 1)
        fixture_start_server(&f, 0, _i == 0 ? script_hold : script_busy_for_ever);
    fixture_connect(&f);
    atomic_int cancelled = 0;
    flashcore_call *calls[CALLS];
    for (int i = 0; i < CALLS; i++) {
        ck_assert_int_eq(flashcore_submit(f.client, &f.request, on_end, &cancelled, &calls[i]), FLASHCORE_OK);
        if (_i != 1)
            fixture_await_held(&f, 0);
    }
    flashcore_call_release(calls[0]); /* goes on unobserved */
    flashcore_client_destroy(f.client);
    f.client = NULL;
    ck_assert_int_eq(cancelled, CALLS);
    for (int i = 1; i < CALLS; i++) {
        flashcore_result result;
        ck_assert_int_eq(flashcore_wait(calls[i], 0, &result), FLASHCORE_CANCELLED);
        ck_assert_str_ne(result.error, "");
        ck_assert_int_eq(flashcore_cancel(calls[i]), FLASHCORE_OK);
        flashcore_call_release(calls[i]);
    }
    fixture_check_untouched(&f);
    fixture_close(&f);
}
END_TEST

/* LeakSanitizer asks this at exit. nng 1.5.2 forgets an endpoint that is closed in the middle of its handshake, which
 * is what the next test is about.
 */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
static int is_leak_check_off;
int __lsan_is_turned_off(void)
{
    return is_leak_check_off;
}

START_TEST(a_client_can_go_at_once)
{
    is_leak_check_off = 1;
    for (int i = 0; i < 50; i++) {
        fixture f;
        fixture_prepare(&f, 2);
        if (i % 2 == 0)
            fixture_start_server(&f, 0, script_well);
        fixture_connect(&f);
        flashcore_call *call = i % 3 == 0 ? submit(&f) : NULL;
        flashcore_call_release(call);
        fixture_close(&f);
    }
}
END_TEST

/* --- many threads ------------------------------------------------------------------------------------------------- */

enum { THREADS = 16, ROUNDS = 100 };

typedef struct hammer {
    pthread_t thread;
    fixture *f;
    unsigned seed;
    unsigned failures;
} hammer;

static unsigned roll(hammer *h)
{
    h->seed = h->seed * 1664525u + 1013904223u; /* Numerical Recipes */
    return h->seed >> 16;
}

static void on_hammered(void *context, flashcore_call *call, const flashcore_result *result)
{
    (void)call;
    (void)result;
    sem_post(context);
}

static bool hammer_once(hammer *h, float *q, float *out, sem_t *called)
{
    flashcore_request request = h->f->request;
    flashcore_call *call = NULL;
    unsigned way = roll(h) % 5;
    for (int i = 0; i < FIXTURE_ELEMENTS; i++)
        q[i] = (float)roll(h);
    request.q.data = q;
    request.out = out;
    request.lse = NULL;
    memset(out, 0, FIXTURE_ELEMENTS * sizeof *out);
    if (way == 0)
        return flashcore_ping(h->f->client, roll(h) % h->f->url_count, NULL) == FLASHCORE_OK;
    if (way == 1)
        return flashcore_attend(h->f->client, &request, NULL) == FLASHCORE_OK &&
               memcmp(out, q, FIXTURE_ELEMENTS * sizeof *out) == 0;
    if (flashcore_submit(h->f->client, &request, way == 2 ? on_hammered : NULL, called, &call) != FLASHCORE_OK)
        return false;
    if (way == 3)
        flashcore_cancel(call);
    flashcore_status status = flashcore_wait(call, UINT64_MAX, NULL);
    flashcore_call_release(call);
    if (way == 2)
        while (sem_wait(called) != 0)
            continue;
    return (status == FLASHCORE_CANCELLED && way == 3) ||
           (status == FLASHCORE_OK && memcmp(out, q, FIXTURE_ELEMENTS * sizeof *out) == 0);
}

static void *hammer_thread(void *arg)
{
    hammer *h = arg;
    float q[FIXTURE_ELEMENTS], out[FIXTURE_ELEMENTS];
    sem_t called;
    sem_init(&called, 0, 0);
    for (int i = 0; i < ROUNDS; i++)
        h->failures += !hammer_once(h, q, out, &called);
    sem_destroy(&called);
    return NULL;
}

/* Every fourth attend is refused as busy. */
static void script_hammered(void *context, fake_request *request)
{
    fixture_server *server = context;
    if (request->wire.op == FC_OP_ATTEND && server->turns++ % 4 == 3)
        fake_answer_status(request, FC_BUSY, 100);
    else
        fake_answer_well(request);
}

START_TEST(sixteen_threads_get_their_own_answers)
{
    fixture f;
    fixture_prepare(&f, 2);
    f.options.inflight_max = 10; /* fewer than threads: some wait for a place */
    fixture_start_server(&f, 0, script_hammered);
    fixture_start_server(&f, 1, script_hammered);
    fixture_connect(&f);
    hammer hammers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        hammers[i] = (hammer){.f = &f, .seed = i};
        ck_assert_int_eq(pthread_create(&hammers[i].thread, NULL, hammer_thread, &hammers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(hammers[i].thread, NULL);
        ck_assert_uint_eq(hammers[i].failures, 0);
    }
    ck_assert_uint_gt(fake_server_count(f.servers[0].server, FC_OP_ATTEND), THREADS);
    ck_assert_uint_gt(fake_server_count(f.servers[1].server, FC_OP_ATTEND), THREADS);
    fixture_close(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client_async");
    TCase *calls = tcase_create("calls");
    tcase_set_timeout(calls, 120);
    tcase_add_test(calls, wait_looks_and_waits);
    tcase_add_test(calls, answers_in_any_order_find_their_calls);
    tcase_add_test(calls, a_callback_may_submit_and_release);
    tcase_add_test(calls, inflight_max_holds_back);
    tcase_add_test(calls, cancel_takes_a_sent_request_back);
    tcase_add_loop_test(calls, cancel_that_comes_too_late_changes_nothing, 0, 4);
    tcase_add_test(calls, cancel_ends_the_wait_for_a_connection);
    tcase_add_test(calls, cancel_ends_the_wait_for_a_busy_server);
    tcase_add_loop_test(calls, destroy_ends_calls_under_way, 0, 3);
    tcase_add_test(calls, a_client_can_go_at_once);
    tcase_add_test(calls, sixteen_threads_get_their_own_answers);
    suite_add_tcase(suite, calls);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
