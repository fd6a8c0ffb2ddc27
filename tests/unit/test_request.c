/* The request's states, the table behind ids, and the counters: what moves is counted, what may not happen aborts.
 */
#include "daemon/id_table.h"
#include "daemon/request.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(the_life_of_a_request_moves_the_gauges)
{
    static const struct {
        fc_request_state state;
        uint64_t queued, running, replying;
    } steps[] = {
        {FC_REQUEST_RECEIVED, 0, 0, 0}, {FC_REQUEST_QUEUED, 1, 0, 0}, {FC_REQUEST_RUNNING, 0, 1, 0},
        {FC_REQUEST_REPLYING, 0, 0, 1}, {FC_REQUEST_DONE, 0, 0, 0},   {FC_REQUEST_RECEIVED, 0, 0, 0},
        {FC_REQUEST_REPLYING, 0, 0, 1}, {FC_REQUEST_DONE, 0, 0, 0},
    };
    fc_stats stats;
    fc_request request;
    fc_stats_init(&stats, 0);
    fc_request_init(&request, NULL);
    request.stats = &stats;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        fc_request_set_state(&request, steps[i].state);
        ck_assert_int_eq(request.state, steps[i].state);
        ck_assert_uint_eq(fc_stats_get(&stats, FC_GAUGE_QUEUED), steps[i].queued);
        ck_assert_uint_eq(fc_stats_get(&stats, FC_GAUGE_RUNNING), steps[i].running);
        ck_assert_uint_eq(fc_stats_get(&stats, FC_GAUGE_REPLYING), steps[i].replying);
    }
}
END_TEST

START_TEST(only_these_steps_are_legal)
{
    static const char *const legal[] = {
        "done received",   "received queued", "received replying", "received done", "queued running",
        "queued replying", "queued done",     "running replying",  "running done",  "replying done",
    };
    size_t found = 0;
    for (int from = 0; from < FC_REQUEST_STATE_COUNT; from++) {
        for (int to = 0; to < FC_REQUEST_STATE_COUNT; to++) {
            char step[64];
            bool is_legal = false;
            snprintf(step, sizeof step, "%s %s", fc_request_state_name((fc_request_state)from),
                     fc_request_state_name((fc_request_state)to));
            for (size_t i = 0; i < sizeof legal / sizeof legal[0]; i++)
                is_legal = is_legal || strcmp(step, legal[i]) == 0;
            ck_assert_msg(fc_request_state_may_follow((fc_request_state)from, (fc_request_state)to) == is_legal, "%s",
                          step);
            found += is_legal;
        }
    }
    ck_assert_uint_eq(found, sizeof legal / sizeof legal[0]);
    ck_assert_str_eq(fc_request_state_name(FC_REQUEST_STATE_COUNT), "unknown");
}
END_TEST

START_TEST(an_illegal_step_aborts)
{
    fc_stats stats;
    fc_request request;
    fc_stats_init(&stats, 0);
    fc_request_init(&request, NULL);
    request.stats = &stats;
    fc_request_set_state(&request, FC_REQUEST_REPLYING); /* a second reply */
}
END_TEST

/* Against a plain array, through growth and removals that shift runs. */
START_TEST(ids_are_found_again)
{
    enum { IDS = 300 };
    uint64_t expected[IDS + 1] = {0};
    fc_id_table table;
    fc_id_table_init(&table);
    ck_assert_ptr_null(fc_id_table_find(&table, 1));
    fc_id_table_remove(&table, 1);
    srand(1);
    for (int step = 0; step < 20000; step++) {
        uint64_t id = (uint64_t)(rand() % IDS) + 1;
        if (rand() % 3 == 0) {
            fc_id_table_remove(&table, id);
            expected[id] = 0;
        } else {
            uint64_t *value = fc_id_table_put(&table, id);
            ck_assert_ptr_nonnull(value);
            ck_assert_uint_eq(*value, expected[id]);
            *value = expected[id] = (uint64_t)step + 1;
        }
    }
    size_t count = 0;
    for (uint64_t id = 1; id <= IDS; id++) {
        const uint64_t *value = fc_id_table_find(&table, id);
        ck_assert_uint_eq(value != NULL ? *value : 0, expected[id]);
        count += expected[id] != 0;
    }
    ck_assert_uint_eq(table.count, count);
    fc_id_table_fini(&table);
}
END_TEST

START_TEST(a_snapshot_names_every_number)
{
    fc_stats stats;
    fc_wire_stats snapshot;
    fc_stats_init(&stats, 1000);
    fc_stats_add(&stats, FC_COUNT_LAUNCHES, 3);
    fc_stats_set(&stats, FC_GAUGE_PIPES, 5);
    fc_stats_sub(&stats, FC_GAUGE_PIPES, 1);
    atomic_fetch_add(&stats.requests[FC_OP_PING], 7);
    atomic_fetch_add(&stats.replies[FC_BUSY], 9);
    fc_stats_snapshot(&stats, 2000001000, &snapshot);
    static const struct {
        const char *name;
        double value;
    } rows[] = {{"uptime_s", 2},   {"requests_ping", 7}, {"requests_hello", 0}, {"replies_busy", 9},
                {"replies_ok", 0}, {"launches", 3},      {"pipes", 4},          {"draining", 0}};
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        int found = 0;
        for (uint32_t i = 0; i < snapshot.counter_count; i++) {
            const fc_wire_counter *counter = &snapshot.counters[i];
            if (counter->name.bytes == strlen(rows[row].name) &&
                memcmp(counter->name.text, rows[row].name, counter->name.bytes) == 0) {
                found++;
                ck_assert_double_eq(counter->value, rows[row].value);
            }
        }
        ck_assert_msg(found == 1, "%s: %d times", rows[row].name, found);
    }
    ck_assert_uint_lt(snapshot.counter_count, FC_COUNTER_MAX);
    for (int stat = 0; stat < FC_STAT_COUNT; stat++)
        ck_assert_str_ne(fc_stat_name((fc_stat)stat), "unknown");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("request");
    TCase *states = tcase_create("states");
    tcase_add_test(states, the_life_of_a_request_moves_the_gauges);
    tcase_add_test(states, only_these_steps_are_legal);
    tcase_add_test_raise_signal(states, an_illegal_step_aborts, SIGABRT);
    tcase_add_test(states, ids_are_found_again);
    tcase_add_test(states, a_snapshot_names_every_number);
    suite_add_tcase(suite, states);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
