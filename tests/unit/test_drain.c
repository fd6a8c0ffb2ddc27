/* daemon/drain: every way to the end, step by step. */
#include "daemon/drain.h"

#include <check.h>
#include <stdlib.h>

#define MS 1000000ull
#define TIMEOUT (2000 * MS)
#define BEGIN (7000 * MS)

typedef enum what { END, ASK_SIGNAL, ASK_ADMIN, ASK_LOST, ASK_HUNG, ASK_LEAKED, STEP } what;

/* One thing that happens, in ms behind BEGIN, and the state it must lead to. STEP: what is seen then. */
typedef struct happening {
    what what;
    uint64_t at_ms;
    fc_drain_state state;
    bool is_idle, is_flushed;
    uint64_t arrived_count;
} happening;

#define SERVING FC_DRAIN_SERVING
#define FINISHING FC_DRAIN_FINISHING
#define FLUSHING FC_DRAIN_FLUSHING
#define LINGERING FC_DRAIN_LINGERING
#define LEAVING FC_DRAIN_LEAVING
#define OVER FC_DRAIN_OVER

static const struct {
    const char *name;
    happening steps[12];
    fc_drain_cut cut;
    fc_exit exit;
} ROWS[] = {
    {"nothing happens while serving", {{STEP, 500, SERVING, 1, 1, 9}}, FC_DRAIN_NOT_CUT, FC_EXIT_OK},
    {"idle, flushed and quiet",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0},
      {STEP, 0, LINGERING, 1, 1, 5},
      {STEP, 49, LINGERING, 1, 1, 5},
      {STEP, 50, LEAVING, 1, 1, 5},
      {STEP, 99, LEAVING, 1, 1, 5},
      {STEP, 100, OVER, 1, 1, 5}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"finish, flush, linger, over",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0},
      {STEP, 1, FINISHING, 0, 0, 5},
      {STEP, 20, FLUSHING, 1, 0, 5},
      {STEP, 40, LINGERING, 1, 1, 5},
      {STEP, 51, LEAVING, 1, 1, 5},
      {STEP, 101, OVER, 1, 1, 5}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"quiet since long when the last reply leaves",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0},
      {STEP, 1, FINISHING, 0, 0, 5},
      {STEP, 99, LEAVING, 1, 1, 5},
      {STEP, 149, OVER, 1, 1, 5}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"a late request is answered too",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0},
      {STEP, 1, LINGERING, 1, 1, 5},
      {STEP, 40, FINISHING, 0, 0, 6},
      {STEP, 60, FLUSHING, 1, 0, 6},
      {STEP, 70, LINGERING, 1, 1, 6},
      {STEP, 89, LINGERING, 1, 1, 6},
      {STEP, 90, LEAVING, 1, 1, 6},
      {STEP, 120, FLUSHING, 1, 0, 7},
      {STEP, 125, LEAVING, 1, 1, 7},
      {STEP, 170, OVER, 1, 1, 7}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"peers that never stop are not waited for",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0},
      {STEP, 1, LINGERING, 1, 1, 5},
      {STEP, 300, LINGERING, 1, 1, 50},
      {STEP, 500, LINGERING, 1, 1, 90},
      {STEP, 501, LEAVING, 1, 1, 99},
      {STEP, 550, LEAVING, 1, 1, 110},
      {STEP, 1049, LEAVING, 1, 1, 111},
      {STEP, 1050, OVER, 1, 1, 112}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"the timeout comes while finishing",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0}, {STEP, 1999, FINISHING, 0, 0, 1}, {STEP, 2000, OVER, 0, 0, 1}},
     FC_DRAIN_CUT_BY_TIMEOUT,
     FC_EXIT_CUT_SHORT},
    {"the timeout comes while flushing",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0}, {STEP, 2000, OVER, 1, 0, 1}},
     FC_DRAIN_CUT_BY_TIMEOUT,
     FC_EXIT_CUT_SHORT},
    {"the timeout comes while lingering: nothing is lost",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0},
      {STEP, 1990, LINGERING, 1, 1, 1},
      {STEP, 2000, LEAVING, 1, 1, 2},
      {STEP, 2001, OVER, 1, 1, 3}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"a second signal",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0},
      {STEP, 1, FINISHING, 0, 0, 1},
      {ASK_SIGNAL, 2, OVER, 0, 0, 0},
      {ASK_SIGNAL, 3, OVER, 0, 0, 0},
      {STEP, 4, OVER, 1, 1, 1}},
     FC_DRAIN_CUT_BY_SIGNAL,
     FC_EXIT_CUT_SHORT},
    {"a second signal while lingering loses nothing",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0}, {STEP, 1, LINGERING, 1, 1, 1}, {ASK_SIGNAL, 2, OVER, 0, 0, 0}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"device lost, twice, then the signal of a supervisor",
     {{ASK_LOST, 0, FINISHING, 0, 0, 0},
      {ASK_LOST, 1, FINISHING, 0, 0, 0},
      {ASK_SIGNAL, 2, FINISHING, 0, 0, 0},
      {STEP, 3, LINGERING, 1, 1, 1},
      {STEP, 53, LEAVING, 1, 1, 1},
      {STEP, 103, OVER, 1, 1, 1}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_DEVICE_LOST},
    {"a device lost while a signal drains is a failure",
     {{ASK_SIGNAL, 0, FINISHING, 0, 0, 0},
      {ASK_LOST, 1, FINISHING, 0, 0, 0},
      {STEP, 2500, LEAVING, 1, 1, 1},
      {STEP, 2501, OVER, 1, 1, 1}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_DEVICE_LOST},
    {"a launch hangs, is given up by who saw it, and all is told",
     {{ASK_HUNG, 0, FINISHING, 0, 0, 0},
      {STEP, 1, LINGERING, 1, 1, 1},
      {STEP, 51, LEAVING, 1, 1, 1},
      {STEP, 101, OVER, 1, 1, 1}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_HUNG},
    {"what else runs is given up at the timeout, and those answers leave",
     {{ASK_HUNG, 0, FINISHING, 0, 0, 0},
      {STEP, 1999, FINISHING, 0, 0, 1},
      {STEP, 2000, FINISHING, 0, 0, 1},
      {STEP, 2500, FLUSHING, 1, 0, 1},
      {STEP, 2999, LEAVING, 1, 1, 1},
      {STEP, 3000, OVER, 1, 1, 1}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_HUNG},
    {"but not for longer than a moment",
     {{ASK_LOST, 0, FINISHING, 0, 0, 0},
      {ASK_HUNG, 1, FINISHING, 0, 0, 0},
      {STEP, 2000, FINISHING, 0, 0, 1},
      {STEP, 2999, FLUSHING, 1, 0, 1},
      {STEP, 3000, OVER, 1, 0, 1}},
     FC_DRAIN_CUT_BY_TIMEOUT,
     FC_EXIT_DEVICE_LOST},
    {"peers that do not read are not given more time",
     {{ASK_LOST, 0, FINISHING, 0, 0, 0}, {STEP, 2000, OVER, 1, 0, 1}},
     FC_DRAIN_CUT_BY_TIMEOUT,
     FC_EXIT_DEVICE_LOST},
    {"of two failures the first says why",
     {{ASK_LEAKED, 0, FINISHING, 0, 0, 0},
      {ASK_LOST, 1, FINISHING, 0, 0, 0},
      {STEP, 2500, LEAVING, 1, 1, 1},
      {STEP, 2501, OVER, 1, 1, 1}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_FAILURE},
    {"an administrator asks again: nothing is cut short",
     {{ASK_ADMIN, 0, FINISHING, 0, 0, 0},
      {ASK_ADMIN, 1, FINISHING, 0, 0, 0},
      {ASK_SIGNAL, 2, FINISHING, 0, 0, 0},
      {STEP, 3, LINGERING, 1, 1, 1},
      {STEP, 53, LEAVING, 1, 1, 1},
      {STEP, 103, OVER, 1, 1, 1}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"leaked pipes and the timeout",
     {{ASK_LEAKED, 0, FINISHING, 0, 0, 0}, {STEP, 2000, OVER, 0, 0, 1}},
     FC_DRAIN_CUT_BY_TIMEOUT,
     FC_EXIT_FAILURE},
};

START_TEST(the_end_comes_as_told)
{
    fc_drain drain = {0};
    for (const happening *h = ROWS[_i].steps; h->what != END; h++) {
        uint64_t now_ns = BEGIN + h->at_ms * MS;
        if (h->what == STEP) {
            fc_drain_view view = {h->is_idle, h->is_flushed, true, h->arrived_count};
            ck_assert_int_eq(fc_drain_step(&drain, &view, now_ns), drain.state);
        } else {
            static const fc_drain_cause CAUSES[] = {[ASK_SIGNAL] = FC_DRAIN_BY_SIGNAL,
                                                    [ASK_LOST] = FC_DRAIN_BY_DEVICE_LOST,
                                                    [ASK_HUNG] = FC_DRAIN_BY_LAUNCH_HUNG,
                                                    [ASK_ADMIN] = FC_DRAIN_BY_ADMIN,
                                                    [ASK_LEAKED] = FC_DRAIN_BY_PIPES_LEAKED};
            ck_assert_int_eq(fc_drain_ask(&drain, CAUSES[h->what], now_ns, TIMEOUT), h == ROWS[_i].steps);
        }
        ck_assert_msg(drain.state == h->state, "%s: state %d after step %d", ROWS[_i].name, (int)drain.state,
                      (int)(h - ROWS[_i].steps));
    }
    ck_assert_int_eq(drain.cut, ROWS[_i].cut);
    ck_assert_int_eq(fc_drain_exit(&drain), ROWS[_i].exit);
}
END_TEST

START_TEST(who_asked_a_moment_ago_is_told_first)
{
    fc_drain drain = {0};
    fc_drain_view view = {true, true, false, 1};
    ck_assert(fc_drain_ask(&drain, FC_DRAIN_BY_SIGNAL, BEGIN, TIMEOUT));
    ck_assert_int_eq(fc_drain_step(&drain, &view, BEGIN), LINGERING);
    ck_assert_int_eq(fc_drain_step(&drain, &view, BEGIN + 499 * MS), LINGERING);
    fc_drain late = drain;
    ck_assert_int_eq(fc_drain_step(&late, &view, BEGIN + 500 * MS), LEAVING); /* and not waited for without end */
    view.is_all_told = true;
    ck_assert_int_eq(fc_drain_step(&drain, &view, BEGIN + 499 * MS), LEAVING);
    ck_assert(drain.is_shut);
}
END_TEST

START_TEST(a_timeout_past_the_end_of_time_never_comes)
{
    fc_drain drain = {0};
    fc_drain_view view = {.is_idle = false};
    ck_assert(fc_drain_ask(&drain, FC_DRAIN_BY_SIGNAL, UINT64_MAX - 5, 100));
    ck_assert_int_eq(fc_drain_step(&drain, &view, UINT64_MAX - 1), FC_DRAIN_FINISHING);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("drain");
    TCase *ways = tcase_create("ways");
    tcase_add_loop_test(ways, the_end_comes_as_told, 0, (int)(sizeof ROWS / sizeof ROWS[0]));
    tcase_add_test(ways, who_asked_a_moment_ago_is_told_first);
    tcase_add_test(ways, a_timeout_past_the_end_of_time_never_comes);
    suite_add_tcase(suite, ways);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
