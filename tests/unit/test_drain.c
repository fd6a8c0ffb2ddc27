/* daemon/drain: every way to the end, step by step. */
#include "daemon/drain.h"

#include <check.h>
#include <stdlib.h>

#define TIMEOUT 100
#define BEGIN 1000

typedef enum what { ASK_SIGNAL, ASK_LOST, ASK_LEAKED, STEP, END } what;

/* One thing that happens at BEGIN + at, and what must hold then. For ASK is_idle says whether it is the first. */
typedef struct happening {
    what what;
    uint64_t at;
    bool is_idle, is_flushed;
    fc_drain_state state;
} happening;

static const struct {
    const char *name;
    happening steps[8];
    fc_drain_cut cut;
    fc_exit exit;
} ROWS[] = {
    {"nothing happens while serving",
     {{STEP, 500, true, true, FC_DRAIN_SERVING}, {END, 0, 0, 0, 0}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"idle and flushed at once",
     {{ASK_SIGNAL, 0, true, 0, FC_DRAIN_FINISHING}, {STEP, 0, true, true, FC_DRAIN_OVER}, {END, 0, 0, 0, 0}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"finish, flush, over",
     {{ASK_SIGNAL, 0, true, 0, FC_DRAIN_FINISHING},
      {STEP, 1, false, false, FC_DRAIN_FINISHING},
      {STEP, 2, true, false, FC_DRAIN_FLUSHING},
      {STEP, 99, true, false, FC_DRAIN_FLUSHING},
      {STEP, 100, true, true, FC_DRAIN_OVER},
      {END, 0, 0, 0, 0}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"a late request makes it busy again",
     {{ASK_SIGNAL, 0, true, 0, FC_DRAIN_FINISHING},
      {STEP, 1, true, false, FC_DRAIN_FLUSHING},
      {STEP, 2, false, true, FC_DRAIN_FINISHING},
      {STEP, 3, true, true, FC_DRAIN_OVER},
      {END, 0, 0, 0, 0}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_OK},
    {"the timeout comes while finishing",
     {{ASK_SIGNAL, 0, true, 0, FC_DRAIN_FINISHING},
      {STEP, TIMEOUT - 1, false, false, FC_DRAIN_FINISHING},
      {STEP, TIMEOUT, false, false, FC_DRAIN_OVER},
      {END, 0, 0, 0, 0}},
     FC_DRAIN_CUT_BY_TIMEOUT,
     FC_EXIT_CUT_SHORT},
    {"the timeout comes while flushing",
     {{ASK_SIGNAL, 0, true, 0, FC_DRAIN_FINISHING}, {STEP, TIMEOUT, true, false, FC_DRAIN_OVER}, {END, 0, 0, 0, 0}},
     FC_DRAIN_CUT_BY_TIMEOUT,
     FC_EXIT_CUT_SHORT},
    {"a second signal",
     {{ASK_SIGNAL, 0, true, 0, FC_DRAIN_FINISHING},
      {STEP, 1, false, false, FC_DRAIN_FINISHING},
      {ASK_SIGNAL, 2, false, 0, FC_DRAIN_OVER},
      {ASK_SIGNAL, 3, false, 0, FC_DRAIN_OVER},
      {STEP, 4, true, true, FC_DRAIN_OVER},
      {END, 0, 0, 0, 0}},
     FC_DRAIN_CUT_BY_SIGNAL,
     FC_EXIT_CUT_SHORT},
    {"device lost, twice, then the signal of a supervisor",
     {{ASK_LOST, 0, true, 0, FC_DRAIN_FINISHING},
      {ASK_LOST, 1, false, 0, FC_DRAIN_FINISHING},
      {ASK_SIGNAL, 2, false, 0, FC_DRAIN_FINISHING},
      {STEP, 3, true, true, FC_DRAIN_OVER},
      {END, 0, 0, 0, 0}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_FAILURE},
    {"a device lost while a signal drains is a failure",
     {{ASK_SIGNAL, 0, true, 0, FC_DRAIN_FINISHING},
      {ASK_LOST, 1, false, 0, FC_DRAIN_FINISHING},
      {STEP, 3, true, true, FC_DRAIN_OVER},
      {END, 0, 0, 0, 0}},
     FC_DRAIN_NOT_CUT,
     FC_EXIT_FAILURE},
    {"leaked pipes and the timeout",
     {{ASK_LEAKED, 0, true, 0, FC_DRAIN_FINISHING}, {STEP, 1000, false, false, FC_DRAIN_OVER}, {END, 0, 0, 0, 0}},
     FC_DRAIN_CUT_BY_TIMEOUT,
     FC_EXIT_FAILURE},
};

START_TEST(the_end_comes_as_told)
{
    fc_drain drain = {0};
    for (const happening *h = ROWS[_i].steps; h->what != END; h++) {
        uint64_t now_ns = BEGIN + h->at;
        if (h->what == STEP) {
            ck_assert_int_eq(fc_drain_step(&drain, h->is_idle, h->is_flushed, now_ns), h->state);
        } else {
            static const fc_drain_cause CAUSES[] = {FC_DRAIN_BY_SIGNAL, FC_DRAIN_BY_DEVICE_LOST,
                                                    FC_DRAIN_BY_PIPES_LEAKED};
            ck_assert_int_eq(fc_drain_ask(&drain, CAUSES[h->what], now_ns, TIMEOUT), h->is_idle);
        }
        ck_assert_msg(drain.state == h->state, "%s: state %d after step %d", ROWS[_i].name, (int)drain.state,
                      (int)(h - ROWS[_i].steps));
    }
    ck_assert_int_eq(drain.cut, ROWS[_i].cut);
    ck_assert_int_eq(fc_drain_exit(&drain), ROWS[_i].exit);
}
END_TEST

START_TEST(a_timeout_past_the_end_of_time_never_comes)
{
    fc_drain drain = {0};
    ck_assert(fc_drain_ask(&drain, FC_DRAIN_BY_SIGNAL, UINT64_MAX - 5, 100));
    ck_assert_int_eq(fc_drain_step(&drain, false, false, UINT64_MAX - 1), FC_DRAIN_FINISHING);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("drain");
    TCase *ways = tcase_create("ways");
    tcase_add_loop_test(ways, the_end_comes_as_told, 0, (int)(sizeof ROWS / sizeof ROWS[0]));
    tcase_add_test(ways, a_timeout_past_the_end_of_time_never_comes);
    suite_add_tcase(suite, ways);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
