/* client/bench_run and bench_worker against a scripted server: every answer is counted, a wrong one is caught in each
 * loop, failures keep their status, a server that is not there is an error and no measurement.
 *
 * The problem has one key, so the right output is v itself and a script can answer it.
 */
#include "client/bench_report.h"
#include "client/bench_run.h"
#include "tests/support/fake_server.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[64], url[128];
static fake_server *server;
static atomic_uint attends;

static fc_wire_reply right_reply(const fake_request *request, float *lse)
{
    fc_wire_reply reply = fake_attend_reply(request, lse);
    reply.attend.out.data = request->wire.attend.v.data;
    return reply;
}

/* An answer with one bit flipped in its last element. */
static void answer_flipped(fake_request *request)
{
    static uint8_t out[4096];
    float lse[64];
    fc_wire_reply reply = right_reply(request, lse);
    size_t bytes = reply.attend.out.data_bytes;
    ck_assert_uint_le(bytes, sizeof out);
    memcpy(out, reply.attend.out.data, bytes);
    out[bytes - 2] ^= 1;
    reply.attend.out.data = out;
    fake_answer(request, &reply);
}

static void answer_right(fake_request *request)
{
    float lse[64];
    fc_wire_reply reply = right_reply(request, lse);
    fake_answer(request, &reply);
}

static void script_right(void *context, fake_request *request)
{
    (void)context;
    if (request->wire.op == FC_OP_ATTEND)
        answer_right(request);
    else
        fake_answer_well(request);
}

/* Right while inputs are verified, then every third one wrong. */
static void script_flips(void *context, fake_request *request)
{
    (void)context;
    if (request->wire.op != FC_OP_ATTEND)
        fake_answer_well(request);
    else if (atomic_fetch_add(&attends, 1) % 3 == 2 && attends > 4)
        answer_flipped(request);
    else
        answer_right(request);
}

/* q's bytes: wrong from the first on. */
static void script_wrong(void *context, fake_request *request)
{
    (void)context;
    fake_answer_well(request);
}

static void script_fails(void *context, fake_request *request)
{
    (void)context;
    if (request->wire.op != FC_OP_ATTEND)
        fake_answer_well(request);
    else if (atomic_fetch_add(&attends, 1) % 2 == 0)
        fake_answer_status(request, FC_DEVICE_LOST, 0);
    else
        answer_right(request);
}

static void script_refuses(void *context, fake_request *request)
{
    (void)context;
    if (request->wire.op != FC_OP_ATTEND)
        fake_answer_well(request);
    else
        fake_answer_status(request, FC_UNSUPPORTED, 0);
}

static void set_up(void)
{
    strcpy(directory, "/tmp/fc-bench-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(url, sizeof url, "ipc://%s/s", directory);
    atomic_store(&attends, 0);
}

static void tear_down(void)
{
    fake_server_stop(server);
    server = NULL;
    char path[96];
    snprintf(path, sizeof path, "%s/s", directory);
    unlink(path);
    rmdir(directory);
}

static const struct {
    const char *name;
    const char *words[8]; /* beside the common ones */
} LOADS[] = {
    {"closed loop", {"--clients", "2"}},
    {"several in flight", {"--clients", "2", "--inflight", "3"}},
    {"open loop", {"--rate", "400"}},
    {"open loop, one in flight", {"--rate", "200", "--inflight", "1", "--arrival", "poisson"}},
};
#define LOAD_COUNT (sizeof LOADS / sizeof LOADS[0])

static fc_status run(int load, const char *duration_s, fc_bench_outcome *outcome, fc_bench_options *options,
                     fc_reason *reason)
{
    char *argv[32] = {(char *)"bench_client", (char *)"--url",     url,
                      (char *)"--shape",      (char *)"1,2,1,8",   (char *)"--duration",
                      (char *)duration_s,     (char *)"--warmup",  (char *)"0.02",
                      (char *)"--verify",     (char *)"--timeout", (char *)"5"};
    int argc = 12;
    for (int i = 0; i < 8 && LOADS[load].words[i] != NULL; i++)
        argv[argc++] = (char *)LOADS[load].words[i];
    ck_assert_msg(fc_bench_options_parse(argc, argv, options, reason) == FC_ARGS_RUN, "%s", reason->text);
    return fc_bench_run(options, NULL, NULL, outcome, reason);
}

/* A run on a machine under load saw too little. */
static void run_longer(fc_bench_options *options, fc_bench_outcome *outcome)
{
    fc_reason reason = {""};
    fc_tally_fini(&outcome->total);
    options->duration_s *= 4;
    ck_assert_int_eq(fc_bench_run(options, NULL, NULL, outcome, &reason), FC_OK);
}

#define ENOUGH 6 /* answers */

/* Runs and says whether the tool would fail. On a machine under load a short run may see too little: then a longer. */
static bool run_fails(int load, fake_script script, fc_bench_outcome *outcome)
{
    static const char *const DURATIONS_S[] = {"0.1", "0.4", "1.6", "6.4"};
    static fc_bench_options options;
    for (size_t i = 0; i < sizeof DURATIONS_S / sizeof DURATIONS_S[0]; i++) {
        fc_reason reason = {""};
        if (i > 0) {
            fc_tally_fini(&outcome->total);
            fake_server_stop(server);
        }
        atomic_store(&attends, 0);
        server = fake_server_start(url, script, NULL);
        fc_status st = run(load, DURATIONS_S[i], outcome, &options, &reason);
        ck_assert_msg(st == FC_OK, "%s: %s", LOADS[load].name, reason.text);
        if (outcome->total.latency.count >= ENOUGH || outcome->total.wrong >= ENOUGH)
            break;
    }
    FILE *nowhere = fopen("/dev/null", "w");
    /* Machines under load may miss a schedule; that is not what is tested here. */
    options.rate = 0;
    bool has_failed = fc_report_failed(&options, outcome, nowhere);
    fclose(nowhere);
    return has_failed;
}

START_TEST(right_answers_are_counted)
{
    fc_bench_outcome outcome;
    ck_assert(!run_fails(_i, script_right, &outcome));
    const fc_tally *t = &outcome.total;
    ck_assert_uint_ge(t->latency.count, ENOUGH);
    ck_assert_uint_eq(t->wrong, 0);
    ck_assert_uint_eq(outcome.reference_count, 4);
    /* Every answered attend was checked, those before the load included. */
    ck_assert_uint_eq(t->checked, fake_server_count(server, FC_OP_ATTEND));
    ck_assert_uint_gt(t->latency.min_ns, 0);
    fc_tally_fini(&outcome.total);
}
END_TEST

START_TEST(a_wrong_answer_under_load_fails_the_run)
{
    fc_bench_outcome outcome;
    ck_assert(run_fails(_i, script_flips, &outcome));
    ck_assert_uint_gt(outcome.total.wrong, 0);
    ck_assert_uint_lt(outcome.total.wrong, outcome.total.checked);
    ck_assert_ptr_nonnull(strstr(outcome.total.first_wrong, "element 15 of 16"));
    fc_tally_fini(&outcome.total);
}
END_TEST

START_TEST(a_server_that_is_always_wrong_fails_the_run)
{
    fc_bench_outcome outcome;
    ck_assert(run_fails(_i, script_wrong, &outcome));
    ck_assert_uint_eq(outcome.total.wrong, outcome.total.checked);
    fc_tally_fini(&outcome.total);
}
END_TEST

START_TEST(failures_keep_their_status)
{
    fc_bench_outcome outcome;
    atomic_store(&attends, 1);
    static fc_bench_options options;
    fc_reason reason = {""};
    server = fake_server_start(url, script_fails, NULL);
    /* The verifying round meets a failure: nothing is measured, and the reason says whose words those are. */
    ck_assert_int_eq(run(_i, "0.1", &outcome, &options, &reason), FC_DEVICE_LOST);
    ck_assert_ptr_nonnull(strstr(reason.text, url));
    options.wants_verify = false;
    ck_assert_int_eq(fc_bench_run(&options, NULL, NULL, &outcome, &reason), FC_OK);
    while (outcome.total.errors[FLASHCORE_DEVICE_LOST] == 0 || outcome.total.latency.count == 0)
        run_longer(&options, &outcome);
    ck_assert_uint_eq(outcome.total.errors[FLASHCORE_DEVICE_LOST], fc_tally_error_count(&outcome.total));
    fc_tally_fini(&outcome.total);
}
END_TEST

START_TEST(a_refusal_before_the_load_is_told)
{
    static fc_bench_options options;
    fc_bench_outcome outcome;
    fc_reason reason = {""};
    server = fake_server_start(url, script_refuses, NULL);
    ck_assert_int_eq(run(0, "0.1", &outcome, &options, &reason), FC_UNSUPPORTED);
    ck_assert_str_ne(reason.text, "");
    options.wants_verify = false;
    ck_assert_int_eq(fc_bench_run(&options, NULL, NULL, &outcome, &reason), FC_UNSUPPORTED);
}
END_TEST

START_TEST(no_server_is_an_error)
{
    static fc_bench_options options;
    fc_bench_outcome outcome;
    fc_reason reason = {""};
    char *argv[] = {(char *)"bench_client", (char *)"--url", url, (char *)"--timeout", (char *)"0.05", NULL};
    ck_assert_int_eq(fc_bench_options_parse(5, argv, &options, &reason), FC_ARGS_RUN);
    ck_assert_int_ne(fc_bench_run(&options, NULL, NULL, &outcome, &reason), FC_OK);
    ck_assert_ptr_nonnull(strstr(reason.text, url));
}
END_TEST

START_TEST(pings_need_no_answer_to_check)
{
    static fc_bench_options options;
    fc_bench_outcome outcome;
    fc_reason reason = {""};
    char *argv[] = {(char *)"bench_client",
                    (char *)"--url",
                    url,
                    (char *)"--op",
                    (char *)"ping",
                    (char *)"--duration",
                    (char *)"0.05",
                    (char *)"--warmup",
                    (char *)"0.01",
                    NULL};
    server = fake_server_start(url, script_right, NULL);
    ck_assert_int_eq(fc_bench_options_parse(9, argv, &options, &reason), FC_ARGS_RUN);
    ck_assert_int_eq(fc_bench_run(&options, NULL, NULL, &outcome, &reason), FC_OK);
    while (outcome.total.latency.count == 0)
        run_longer(&options, &outcome);
    ck_assert_uint_eq(fake_server_count(server, FC_OP_ATTEND), 0);
    fc_tally_fini(&outcome.total);
}
END_TEST

/* Interrupted at the first look: ends long before its duration, and says so. */
static void interrupt(void *context, const fc_bench_progress *progress)
{
    (void)context;
    if (strcmp(progress->stage, "measuring") == 0)
        fc_bench_interrupt();
}

START_TEST(an_interrupt_ends_the_run_with_a_result)
{
    static fc_bench_options options;
    fc_bench_outcome outcome;
    fc_reason reason = {""};
    char *argv[] = {(char *)"bench_client",
                    (char *)"--url",
                    url,
                    (char *)"--shape",
                    (char *)"1,2,1,8",
                    (char *)"--duration",
                    (char *)"3600",
                    (char *)"--warmup",
                    (char *)"0",
                    NULL};
    server = fake_server_start(url, script_right, NULL);
    ck_assert_int_eq(fc_bench_options_parse(9, argv, &options, &reason), FC_ARGS_RUN);
    ck_assert_int_eq(fc_bench_run(&options, interrupt, NULL, &outcome, &reason), FC_OK);
    ck_assert(outcome.was_interrupted);
    ck_assert_uint_lt(outcome.window.end_ns - outcome.window.begin_ns, 60000000000ull);
    fc_tally_fini(&outcome.total);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_run");
    TCase *tests = tcase_create("runs");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, right_answers_are_counted, 0, LOAD_COUNT);
    tcase_add_loop_test(tests, a_wrong_answer_under_load_fails_the_run, 0, LOAD_COUNT);
    tcase_add_loop_test(tests, a_server_that_is_always_wrong_fails_the_run, 0, LOAD_COUNT);
    tcase_add_loop_test(tests, failures_keep_their_status, 0, LOAD_COUNT);
    tcase_add_test(tests, a_refusal_before_the_load_is_told);
    tcase_add_test(tests, no_server_is_an_error);
    tcase_add_test(tests, pings_need_no_answer_to_check);
    tcase_add_test(tests, an_interrupt_ends_the_run_with_a_result);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
