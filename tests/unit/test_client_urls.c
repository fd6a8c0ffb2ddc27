/* client/: servers that die, come back, drain or speak something else; several URLs; the choice among them. */
#include "client/flashcore.h"
#include "client/route.h"
#include "tests/support/client_fixture.h"

#include <check.h>
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <stdlib.h>
#include <string.h>

/* --- the pure choice ---------------------------------------------------------------------------------------------- */

typedef struct choice {
    const char *name;
    fc_route_url urls[4];
    uint32_t url_count;
    uint64_t excluded_mask;
    uint32_t cursor, expected;
} choice;

#define UP(inflight)                                                                                                   \
    {                                                                                                                  \
        .is_connected = true, .inflight_count = (inflight)                                                             \
    }
#define DOWN                                                                                                           \
    {                                                                                                                  \
        .is_connected = false                                                                                          \
    }
#define DRAINS(inflight)                                                                                               \
    {                                                                                                                  \
        .is_connected = true, .is_draining = true, .inflight_count = (inflight)                                        \
    }

static const choice CHOICES[] = {
    {"nothing connected", {DOWN, DOWN}, 2, 0, 0, FC_ROUTE_NONE},
    {"the only one", {DOWN, UP(9)}, 2, 0, 0, 1},
    {"fewest in flight", {UP(2), UP(1), UP(2)}, 3, 0, 0, 1},
    {"ties from the cursor", {UP(1), UP(1), UP(1)}, 3, 0, 2, 2},
    {"ties wrap round", {UP(1), UP(2), UP(2)}, 3, 0, 1, 0},
    {"excluded", {UP(0), UP(5)}, 2, 1, 0, 1},
    {"all excluded", {UP(0), UP(5)}, 2, 3, 0, FC_ROUTE_NONE},
    {"draining only when there is nothing else", {DRAINS(0), UP(5)}, 2, 0, 0, 1},
    {"draining when there is nothing else", {DRAINS(3), DOWN, DRAINS(2)}, 3, 0, 0, 2},
};

START_TEST(the_choice_is_least_in_flight_then_round_robin)
{
    const choice *row = &CHOICES[_i];
    uint32_t cursor = row->cursor;
    uint32_t chosen = fc_route_choose(row->urls, row->url_count, row->excluded_mask, &cursor);
    ck_assert_msg(chosen == row->expected, "%s: %u", row->name, chosen);
    ck_assert_uint_eq(cursor, chosen == FC_ROUTE_NONE ? row->cursor : (chosen + 1) % row->url_count);
}
END_TEST

#define MS 1000000ull

START_TEST(a_busy_servers_word_counts_for_a_while)
{
    fc_route_url urls[3] = {{.is_connected = true}, {.is_connected = true}, {.is_connected = false}};
    ck_assert_uint_eq(fc_route_turning_away(urls, 3, 50 * MS, 10 * MS), 0);
    fc_route_refused(&urls[0], 80000, 10 * MS); /* till 90 ms */
    ck_assert(fc_route_turns_away(&urls[0], 90 * MS, 10 * MS));
    ck_assert(!fc_route_turns_away(&urls[0], 91 * MS, 10 * MS)); /* it can wait */
    ck_assert(!fc_route_turns_away(&urls[0], 95 * MS, 90 * MS)); /* the time has come */
    ck_assert(!fc_route_turns_away(&urls[0], UINT64_MAX, 10 * MS));
    fc_route_refused(&urls[2], 80000, 10 * MS);
    ck_assert_uint_eq(fc_route_turning_away(urls, 3, 50 * MS, 10 * MS), 1);
    fc_route_refused(&urls[1], UINT64_MAX, 20 * MS); /* for ever, which nobody believes for long */
    ck_assert_uint_eq(fc_route_turning_away(urls, 3, 1000 * MS, 119 * MS), 2);
    ck_assert_uint_eq(fc_route_turning_away(urls, 3, 1000 * MS, 120 * MS), 0);
    ck_assert(!fc_route_turns_away(&urls[1], UINT64_MAX, 20 * MS));
}
END_TEST

/* The server at the first URL is busy for longer than anybody waits. */
static void script_busy_at_the_first(void *context, fake_request *request)
{
    const fixture_server *server = context;
    if (request->wire.op == FC_OP_ATTEND && server == &server->owner->servers[0])
        fake_answer_status(request, FC_BUSY, 3600u * 1000000u);
    else
        fake_answer_well(request);
}

/* Until the server's word counts no more, another call does not bother it; what it says to one, the others are told. A
 * slow machine may take longer than that, and send a second: tried again. */
START_TEST(a_call_that_cannot_wait_does_not_ask_a_busy_server)
{
    fixture f;
    fixture_open(&f, 1, script_busy_at_the_first);
    flashcore_result result;
    unsigned asked = 0;
    for (unsigned calls = 0; asked == calls; asked = fake_server_count(f.servers[0].server, FC_OP_ATTEND)) {
        ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_BUSY);
        calls++;
        ck_assert_uint_gt(result.retry_after_us, 3500u * 1000000u);
        ck_assert_uint_le(result.retry_after_us, 3600u * 1000000u + 1);
    }
    ck_assert_uint_ge(asked, 1);
    ck_assert_ptr_nonnull(strstr(result.error, "not sent"));
    fixture_check_untouched(&f);
    fixture_close(&f);
}
END_TEST

/* Its time is longer than the server's, its deadline is not. */
START_TEST(a_deadline_ends_a_call_that_was_refused)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.timeout_us = 0;
    f.request.deadline_us = 60 * 1000000u;
    fixture_start_server(&f, 0, script_busy_at_the_first);
    fixture_connect(&f);
    flashcore_result result;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_BUSY);
    ck_assert_uint_eq(result.retry_after_us, 3600u * 1000000u);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 1);
    fixture_close(&f);
}
END_TEST

START_TEST(while_one_server_is_busy_another_is_asked)
{
    fixture f;
    fixture_open(&f, 2, script_busy_at_the_first);
    unsigned refused = 0;
    for (int i = 0; i < 8; i++) {
        flashcore_status status = flashcore_attend(f.client, &f.request, NULL);
        ck_assert(status == FLASHCORE_OK || status == FLASHCORE_BUSY);
        refused += status == FLASHCORE_BUSY;
    }
    ck_assert_uint_eq(refused, fake_server_count(f.servers[0].server, FC_OP_ATTEND)); /* and nobody without asking */
    ck_assert_uint_ge(fake_server_count(f.servers[1].server, FC_OP_ATTEND), 4);
    fixture_close(&f);
}
END_TEST

/* --- dying servers ------------------------------------------------------------------------------------------------ */

/* However short the time is that the client gives a connection. */
static void await_connection(const fixture *f, uint32_t url_index)
{
    while (flashcore_ping(f->client, url_index, NULL) != FLASHCORE_OK)
        continue;
}

static flashcore_call *submit(fixture *f)
{
    flashcore_call *call = NULL;
    ck_assert_msg(flashcore_submit(f->client, &f->request, NULL, NULL, &call) == FLASHCORE_OK, "%s",
                  flashcore_last_error());
    return call;
}

START_TEST(a_death_is_reported_and_nothing_is_repeated)
{
    fixture f;
    fixture_open(&f, 1, script_hold);
    flashcore_call *call = submit(&f);
    flashcore_result result;
    fixture_await_held(&f, 0);
    fixture_stop_server(&f, 0);
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, &result), FLASHCORE_CONNECTION_LOST);
    ck_assert_ptr_nonnull(strstr(result.error, f.urls[0]));
    flashcore_call_release(call);
    fixture_check_untouched(&f);
    fixture_start_server(&f, 0, script_well);
    ck_assert_int_eq(flashcore_ping(f.client, 0, NULL), FLASHCORE_OK);
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
    fixture_check_answer(&f);
    /* A repeated one would have come before both: a connection keeps its order. */
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 1);
    fixture_close(&f);
}
END_TEST

START_TEST(calls_survive_restarts_between_them)
{
    fixture f;
    fixture_open(&f, 1, script_well);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
        fixture_check_answer(&f);
        fixture_clear_answer(&f);
        /* Once a held call is reported lost the client knows; before that a new one may still go to the old server. */
        f.servers[0].script = script_hold;
        flashcore_call *call = submit(&f);
        fixture_await_held(&f, 0);
        fixture_stop_server(&f, 0);
        ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), FLASHCORE_CONNECTION_LOST);
        flashcore_call_release(call);
        fixture_start_server(&f, 0, script_well);
    }
    fixture_close(&f);
}
END_TEST

START_TEST(a_server_of_another_protocol_is_no_connection)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.connect_timeout_us = 200 * 1000;
    nng_socket publisher;
    ck_assert_int_eq(nng_pub0_open(&publisher), 0);
    ck_assert_int_eq(nng_listen(publisher, f.urls[0], NULL, 0), 0);
    fixture_connect(&f);
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_UNREACHABLE);
    nng_close(publisher);
    fixture_start_server(&f, 0, script_well);
    f.options.connect_timeout_us = 5000 * 1000;
    flashcore_client_destroy(f.client);
    fixture_connect(&f);
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
    fixture_close(&f);
}
END_TEST

/* nng drops a connection whose message is too large; its REQ would then ask again for ever. */
START_TEST(an_oversized_reply_is_one_lost_connection)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.reply_bytes_max = 256;
    fixture_start_server(&f, 0, script_well);
    fixture_connect(&f);
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_CONNECTION_LOST);
    ck_assert_int_eq(flashcore_ping(f.client, 0, NULL), FLASHCORE_OK);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 1);
    fixture_check_untouched(&f);
    fixture_close(&f);
}
END_TEST

/* --- several URLs ------------------------------------------------------------------------------------------------- */

START_TEST(requests_are_spread)
{
    enum { CALLS = 12, URLS = 3 };
    fixture f;
    fixture_open(&f, URLS, script_hold);
    flashcore_call *calls[CALLS];
    unsigned answered_by[URLS] = {0};
    for (int i = 0; i < CALLS; i++)
        calls[i] = submit(&f);
    for (uint32_t u = 0; u < URLS; u++) {
        for (unsigned i = 0; i < CALLS / URLS; i++)
            fixture_await_held(&f, u);
        for (unsigned i = 0; i < CALLS / URLS; i++)
            fake_answer_well(fixture_take_held(&f, u, i));
    }
    for (int i = 0; i < CALLS; i++) {
        flashcore_result result;
        ck_assert_int_eq(flashcore_wait(calls[i], UINT64_MAX, &result), FLASHCORE_OK);
        answered_by[result.url_index]++;
        flashcore_call_release(calls[i]);
    }
    for (uint32_t u = 0; u < URLS; u++)
        ck_assert_uint_eq(answered_by[u], CALLS / URLS);
    fixture_close(&f);
}
END_TEST

static void script_drain(void *context, fake_request *request)
{
    fixture_server *server = context;
    if (request->wire.op != FC_OP_ATTEND) {
        fake_answer_well(request);
        return;
    }
    fake_answer_status(request, FC_DRAINING, 0);
    sem_post(&server->has_received);
}

/* One at a time, so that both are always equally busy. */
START_TEST(equals_take_turns)
{
    enum { COUNT = 20 };
    fixture f;
    fixture_open(&f, 2, script_well);
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
    for (uint32_t i = 0; i < 2; i++)
        ck_assert_uint_ge(fake_server_count(f.servers[i].server, FC_OP_ATTEND), COUNT / 2 - 4);
    fixture_close(&f);
}
END_TEST

START_TEST(draining_alone_is_reported)
{
    fixture f;
    fixture_open(&f, 1, script_drain);
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_DRAINING);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 1);
    fixture_check_untouched(&f);
    fixture_close(&f);
}
END_TEST

START_TEST(draining_goes_to_another_url)
{
    fixture f;
    fixture_open(&f, 2, script_well);
    f.servers[0].script = script_drain;
    for (int i = 0; i < 10; i++) {
        flashcore_result result;
        fixture_clear_answer(&f);
        ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_OK);
        ck_assert_uint_eq(result.url_index, 1);
        fixture_check_answer(&f);
    }
    /* Once it said so, nothing more is sent there. */
    ck_assert_uint_le(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 1);
    ck_assert_uint_eq(fake_server_count(f.servers[1].server, FC_OP_ATTEND), 10);
    fixture_close(&f);
}
END_TEST

START_TEST(draining_everywhere_is_reported)
{
    fixture f;
    fixture_open(&f, 3, script_drain);
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_DRAINING);
    for (uint32_t u = 0; u < 3; u++)
        ck_assert_uint_eq(fake_server_count(f.servers[u].server, FC_OP_ATTEND), 1);
    fixture_close(&f);
}
END_TEST

/* _i 0: the other URL never comes; 1: it comes while the call waits for it. */
START_TEST(draining_waits_for_another_url_to_connect)
{
    fixture f;
    fixture_prepare(&f, 2);
    f.options.connect_timeout_us = _i == 0 ? 100 * 1000 : UINT64_MAX;
    fixture_start_server(&f, 0, script_drain);
    fixture_connect(&f);
    await_connection(&f, 0); /* so the call waits for the other one alone */
    flashcore_call *call = submit(&f);
    fixture_await_held(&f, 0);
    if (_i == 1)
        fixture_start_server(&f, 1, script_well);
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), _i == 0 ? FLASHCORE_DRAINING : FLASHCORE_OK);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 1);
    flashcore_call_release(call);
    fixture_close(&f);
}
END_TEST

/* Both say so, one after the other; the first has been replaced meanwhile. */
START_TEST(draining_goes_to_whoever_takes_its_place)
{
    fixture f;
    fixture_prepare(&f, 2);
    f.options.connect_timeout_us = UINT64_MAX;
    fixture_start_server(&f, 0, script_drain);
    fixture_connect(&f);
    flashcore_call *call = submit(&f);
    fixture_await_held(&f, 0);
    fixture_start_server(&f, 1, script_hold);
    fixture_await_held(&f, 1); /* so the first's word has come */
    fixture_stop_server(&f, 0);
    fixture_start_server(&f, 0, script_well);
    await_connection(&f, 0);
    fake_answer_status(fixture_take_held(&f, 1, 0), FC_DRAINING, 0);
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), FLASHCORE_OK);
    ck_assert_uint_eq(fake_server_count(f.servers[1].server, FC_OP_ATTEND), 1);
    flashcore_call_release(call);
    fixture_close(&f);
}
END_TEST

START_TEST(a_dead_url_is_left_out)
{
    fixture f;
    fixture_open(&f, 2, script_hold);
    flashcore_call *calls[2] = {submit(&f), submit(&f)};
    fixture_await_held(&f, 0);
    fixture_await_held(&f, 1);
    f.servers[1].script = script_well;
    fake_answer_well(fixture_take_held(&f, 1, 0));
    fixture_stop_server(&f, 0);
    unsigned lost = 0;
    for (int i = 0; i < 2; i++) {
        lost += flashcore_wait(calls[i], UINT64_MAX, NULL) == FLASHCORE_CONNECTION_LOST;
        flashcore_call_release(calls[i]);
    }
    ck_assert_uint_eq(lost, 1);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
    ck_assert_uint_eq(fake_server_count(f.servers[1].server, FC_OP_ATTEND), 11);
    fixture_close(&f);
}
END_TEST

/* A server that reads nothing while it works: requests of 4 MiB pile up before its connection. When it dies, exactly
 * those that never reached it run elsewhere.
 */
START_TEST(what_was_never_sent_goes_elsewhere)
{
    enum { CALLS = 6, ROWS = 16 * 1024, COLUMNS = 64 };
    static float big[ROWS * COLUMNS], out[CALLS][ROWS * COLUMNS];
    fixture f;
    fixture_prepare(&f, 2);
    f.options.connect_timeout_us = UINT64_MAX;
    f.servers[0].open_max = 1;
    fixture_start_server(&f, 0, script_hold);
    fixture_connect(&f);
    flashcore_tensor tensor = {FLASHCORE_F32, {1, 1, ROWS, COLUMNS}, big};
    f.request.q = f.request.k = f.request.v = tensor;
    f.request.lse = NULL;
    flashcore_call *calls[CALLS];
    for (int i = 0; i < CALLS; i++) {
        f.request.out = out[i];
        calls[i] = submit(&f);
    }
    fixture_await_held(&f, 0); /* the first; nng takes one or two more off the connection */
    fixture_start_server(&f, 1, script_well);
    ck_assert_int_eq(flashcore_ping(f.client, 1, NULL), FLASHCORE_OK);
    fixture_stop_server(&f, 0);
    unsigned lost = 0, moved = 0;
    for (int i = 0; i < CALLS; i++) {
        flashcore_result result;
        flashcore_wait(calls[i], UINT64_MAX, &result);
        lost += result.status == FLASHCORE_CONNECTION_LOST;
        moved += result.status == FLASHCORE_OK && result.url_index == 1;
        flashcore_call_release(calls[i]);
    }
    ck_assert_uint_eq(lost + moved, CALLS);
    ck_assert_uint_ge(lost, 1);
    ck_assert_uint_ge(moved, 1);
    ck_assert_uint_eq(fake_server_count(f.servers[1].server, FC_OP_ATTEND), moved);
    fixture_close(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client_urls");
    TCase *urls = tcase_create("urls");
    tcase_set_timeout(urls, 120);
    tcase_add_loop_test(urls, the_choice_is_least_in_flight_then_round_robin, 0, sizeof CHOICES / sizeof CHOICES[0]);
    tcase_add_test(urls, a_busy_servers_word_counts_for_a_while);
    tcase_add_test(urls, a_call_that_cannot_wait_does_not_ask_a_busy_server);
    tcase_add_test(urls, a_deadline_ends_a_call_that_was_refused);
    tcase_add_test(urls, while_one_server_is_busy_another_is_asked);
    tcase_add_test(urls, a_death_is_reported_and_nothing_is_repeated);
    tcase_add_test(urls, calls_survive_restarts_between_them);
    tcase_add_test(urls, a_server_of_another_protocol_is_no_connection);
    tcase_add_test(urls, an_oversized_reply_is_one_lost_connection);
    tcase_add_test(urls, requests_are_spread);
    tcase_add_test(urls, equals_take_turns);
    tcase_add_test(urls, draining_alone_is_reported);
    tcase_add_test(urls, draining_goes_to_another_url);
    tcase_add_test(urls, draining_everywhere_is_reported);
    tcase_add_loop_test(urls, draining_waits_for_another_url_to_connect, 0, 2);
    tcase_add_test(urls, draining_goes_to_whoever_takes_its_place);
    tcase_add_test(urls, a_dead_url_is_left_out);
    tcase_add_test(urls, what_was_never_sent_goes_elsewhere);
    suite_add_tcase(suite, urls);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
