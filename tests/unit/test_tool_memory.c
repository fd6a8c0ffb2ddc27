/* The tools without memory: with every allocation failing in turn, each function reports it, crashes nowhere, and
 * (under ASan) leaks nothing; when none fails it works.
 */
#include "client/bench_report.h"
#include "client/bench_run.h"
#include "client/bench_verify.h"
#include "client/ctl_files.h"
#include "client/tool_json.h"
#include "client/tool_npy.h"
#include "tests/support/failing_alloc.h"
#include "tests/support/fake_server.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* nng 1.5 leaks a connection that is closed while it is being made, which is what a failure right after creating a
 * client does. Ours are still found: their stacks have no frame in there. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libnng.so\n";
}

static char directory[64];
static fc_shape shape;

static const char *in_directory(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void set_up(void)
{
    static const uint64_t dims[4] = {1, 2, 1, 8};
    static const float data[16];
    fc_shape_options options;
    fc_reason reason;
    strcpy(directory, "/tmp/fc-memory-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    fc_shape_options_default(&options);
    options.shape = (fc_arg_ints){.items = {1, 2, 1, 8}, .count = 4};
    options.dtype = FC_F32;
    ck_assert_int_eq(fc_shape_resolve(&options, &shape, &reason), FC_OK);
    ck_assert_int_eq(fc_npy_save(in_directory("x.npy"), FC_F32, 4, dims, data, &reason), FC_OK);
}

static void tear_down(void)
{
    unlink(in_directory("x.npy"));
    unlink(in_directory("s"));
    ck_assert_int_eq(rmdir(directory), 0);
}

/* Each runs one thing, undoes it when it worked, and returns how it went. No assertions in here: Check allocates too.
 */
static fc_status run_inputs(void)
{
    fc_inputs inputs;
    fc_status st = fc_inputs_init(&shape, 1, 0, &inputs);
    if (st == FC_OK)
        fc_inputs_fini(&inputs);
    return st;
}

static fc_status run_tally(void)
{
    fc_tally tally;
    fc_status st = fc_tally_init(&tally);
    if (st == FC_OK)
        fc_tally_fini(&tally);
    return st;
}

static fc_status run_load(void)
{
    static fc_ctl_options options;
    static fc_shape loaded;
    fc_inputs inputs;
    fc_reason reason = {""};
    char path[128];
    strcpy(path, in_directory("x.npy"));
    fc_shape_options_default(&options.shape_options);
    options.q_path = options.k_path = options.v_path = path;
    fc_status st = fc_ctl_files_load(&options, &loaded, &inputs, &reason);
    if (st == FC_OK)
        fc_inputs_fini(&inputs);
    else if (strstr(reason.text, "x.npy: out of memory") == NULL)
        return FC_INTERNAL;
    return st;
}

/* v is what a softmax over one key answers. */
static fc_status run_verify(void)
{
    static float q[16], k[16], v[16], lse[2];
    static fc_inputs inputs = {q, k, v};
    fc_verifier *verifier = NULL;
    fc_reason reason = {""};
    fc_status st = fc_verifier_create(&shape, &inputs, 1, &verifier, &reason);
    if (st == FC_OK)
        st = fc_verifier_check(verifier, 0, "cpu", "device", v, lse, &reason);
    fc_verifier_destroy(verifier);
    return st;
}

static fc_status run_json(void)
{
    static fc_bench_options options;
    fc_bench_outcome outcome = {.was_interrupted = false};
    fc_reason reason;
    fc_json *json = fc_report_json(&options, &outcome);
    fc_status st = fc_json_save(json, "/dev/null", &reason);
    fc_json_destroy(json);
    return st;
}

static void answer(void *context, fake_request *request)
{
    (void)context;
    float lse[2];
    if (request->wire.op != FC_OP_ATTEND) {
        fake_answer_well(request);
        return;
    }
    fc_wire_reply reply = fake_attend_reply(request, lse);
    reply.attend.out.data = request->wire.attend.v.data;
    fake_answer(request, &reply);
}

/* Everything up to the load: inputs, verification, two workers with three slots each. */
static fc_status run_bench(void)
{
    static fc_bench_options options;
    fc_bench_outcome outcome;
    fc_reason reason = {""};
    char url[160];
    snprintf(url, sizeof url, "ipc://%s", in_directory("s"));
    char *argv[] = {(char *)"bench_client",
                    (char *)"--url",
                    url,
                    (char *)"--shape",
                    (char *)"1,2,1,8",
                    (char *)"--duration",
                    (char *)"0.01",
                    (char *)"-w",
                    (char *)"0",
                    (char *)"--verify",
                    (char *)"--inflight",
                    (char *)"3",
                    (char *)"-c",
                    (char *)"2",
                    (char *)"--timeout",
                    (char *)"5",
                    NULL};
    if (fc_bench_options_parse(16, argv, &options, &reason) != FC_ARGS_RUN)
        return FC_INVALID_ARGUMENT;
    fc_status st = fc_bench_run(&options, NULL, NULL, &outcome, &reason);
    if (st != FC_OK)
        return st;
    st = outcome.total.wrong == 0 ? FC_OK : FC_INTERNAL;
    fc_tally_fini(&outcome.total);
    return st;
}

static const struct {
    const char *name;
    fc_status (*run)(void);
    unsigned allocations_min; /* fewer would mean that nothing was tested */
    bool needs_server;
} RUNS[] = {
    {"inputs", run_inputs, 3, false}, {"tally", run_tally, 2, false}, {"files", run_load, 6, false},
    {"verify", run_verify, 3, false}, {"json", run_json, 1, false},   {"bench", run_bench, 20, true},
};

START_TEST(every_allocation_may_fail)
{
    char url[160];
    snprintf(url, sizeof url, "ipc://%s", in_directory("s"));
    unsigned nth = 1;
    for (bool has_failed = true; has_failed; nth++) {
        /* A server for each: nng 1.5's listeners do not survive a client that connects and leaves at once. */
        fake_server *server = RUNS[_i].needs_server ? fake_server_start(url, answer, NULL) : NULL;
        failing_alloc_arm(nth);
        fc_status st = RUNS[_i].run();
        has_failed = failing_alloc_disarm();
        /* Memory that only spares work (a remembered answer) may be missing; a reply's costs the connection. */
        ck_assert_msg(st == FC_OK || (has_failed && (st == FC_NO_MEMORY || st == FC_CONNECTION_LOST)),
                      "%s, allocation %u: %s", RUNS[_i].name, nth, fc_status_name(st));
        fake_server_stop(server);
    }
    ck_assert_uint_gt(nth, RUNS[_i].allocations_min);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool_memory");
    TCase *tests = tcase_create("allocations");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, every_allocation_may_fail, 0, sizeof RUNS / sizeof RUNS[0]);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
