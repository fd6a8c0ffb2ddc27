/* flashcorectl and bench_client as a user runs them, against the shipped daemon. */
#include "client/tool_npy.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES (FC_E2E_PATH_BYTES * 2)

static fc_e2e_daemon daemon_under_test;

static void set_up(void)
{
    fc_e2e_start(&daemon_under_test, NULL);
}

static void tear_down(void)
{
    fc_job_expect_service(daemon_under_test.ipc_url);
    fc_e2e_stop(&daemon_under_test);
}

/* Runs a tool with --url and these arguments; wants the exit code. */
static fc_e2e_run_result run_tool(const char *program, const char *url, const char *const *args, int exit_code)
{
    const char *all[48] = {"--url", url};
    fc_e2e_run_result run;
    size_t count = 2;
    for (; *args != NULL && count < 47; args++)
        all[count++] = *args;
    fc_e2e_run(program, all, &run);
    ck_assert_msg(run.exit_code == exit_code, "%s %s: exit code %d\n%s%s", program, all[2], run.exit_code, run.out,
                  run.err);
    return run;
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void want_parts(const fc_e2e_run_result *run, const char *const *parts)
{
    for (; *parts != NULL; parts++)
        ck_assert_msg(strstr(run->out, *parts) != NULL, "no \"%s\" in:\n%s", *parts, run->out);
}

/* --- flashcorectl ------------------------------------------------------------------------------------------------ */

START_TEST(it_shows_a_server)
{
    static const struct {
        const char *args[4], *parts[5];
    } rows[] = {
        {{"ping"}, {"://", "s"}},
        {{"ping", "--count", "5"}, {"5", "s"}},
        {{"info"}, {"flashcored", FC_VERSION, "tensor"}},
        {{"kernels"}, {""}},
        {{"stats"}, {"requests_stats"}},
        {{"stats", "--all"}, {"requests_attend", "queued", "pipes_opened"}},
        {{"stats", "--json"}, {"\"requests_stats\""}},
        {{"info", "--json"}, {"\"version\""}},
    };
    const char *urls[] = {daemon_under_test.ipc_url, daemon_under_test.tcp_url};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fc_e2e_run_result run = run_tool("flashcorectl", urls[i % 2], rows[i].args, 0);
        want_parts(&run, rows[i].parts);
        if (rows[i].args[1] != NULL && strcmp(rows[i].args[1], "--json") == 0) {
            json_t *object = json_loads(run.out, 0, NULL);
            ck_assert_msg(json_is_object(object), "not a JSON object: %s", run.out);
            json_decref(object);
        }
        fc_e2e_run_free(&run);
    }
}
END_TEST

static void save(const char *path, const flashcore_tensor *tensor)
{
    fc_reason reason;
    ck_assert_msg(fc_npy_save(path, (fc_dtype)tensor->dtype, 4, tensor->shape, tensor->data, &reason) == FC_OK, "%s",
                  reason.text);
}

static void take_answer(const char *path, void *memory, size_t bytes)
{
    fc_npy npy;
    fc_reason reason;
    ck_assert_msg(fc_npy_load(path, &npy, &reason) == FC_OK, "%s", reason.text);
    ck_assert_uint_eq(npy.header.data_bytes, bytes);
    memcpy(memory, npy.data, bytes);
    free(npy.data);
}

START_TEST(it_attends_on_files)
{
    static const struct {
        fc_job_spec spec;
        const char *args[10];
    } rows[] = {
        {{.name = "plain",
          .dtype = FLASHCORE_F32,
          .batch = 1,
          .q_heads = 2,
          .kv_heads = 2,
          .q_len = 9,
          .kv_len = 9,
          .head_dim = 16},
         {NULL}},
        {{.name = "half",
          .dtype = FLASHCORE_F16,
          .batch = 2,
          .q_heads = 4,
          .kv_heads = 1,
          .q_len = 33,
          .kv_len = 40,
          .head_dim = 64,
          .causal = FLASHCORE_CAUSAL_BOTTOM_RIGHT},
         {"--causal", "bottom_right"}},
        {{.name = "all",
          .dtype = FLASHCORE_F32,
          .layout = FLASHCORE_BSHD,
          .batch = 2,
          .q_heads = 2,
          .kv_heads = 1,
          .q_len = 20,
          .kv_len = 30,
          .head_dim = 32,
          .causal = FLASHCORE_CAUSAL_TOP_LEFT,
          .has_window = true,
          .window_left = 6,
          .window_right = -1,
          .has_kv_lens = true,
          .kv_lens = {30, 11},
          .has_scale = true,
          .scale = 0.25f,
          .softcap = 8.0f},
         {"--layout=bshd", "--causal=top_left", "--window=6,-1", "--kv-len=30,11", "--scale=0.25", "--softcap=8"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fc_job_spec spec = rows[i].spec;
        fc_job job;
        char paths[5][PATH_BYTES];
        static const char *const names[] = {"q", "k", "v", "o", "l"};
        for (int file = 0; file < 5; file++)
            snprintf(paths[file], PATH_BYTES, "%s/%s.npy", daemon_under_test.dir, names[file]);
        spec.wants_lse = true;
        fc_job_make(&spec, &job);
        save(paths[0], &job.request.q);
        save(paths[1], &job.request.k);
        save(paths[2], &job.request.v);
        const char *args[24] = {"attend", "--q", paths[0], "--k",   paths[1], "--v",
                                paths[2], "-o",  paths[3], "--lse", paths[4]};
        for (int at = 0; rows[i].args[at] != NULL; at++)
            args[11 + at] = rows[i].args[at];
        fc_e2e_run_result run = run_tool("flashcorectl", daemon_under_test.ipc_url, args, 0);
        fc_e2e_run_free(&run);
        take_answer(paths[3], job.request.out, job.out_bytes);
        take_answer(paths[4], job.request.lse, job.lse_bytes);
        fc_job_check(&job);
        fc_job_free(&job);
    }
}
END_TEST

/* A file it cannot use is named, with what was expected, and nothing is written. */
START_TEST(it_names_a_wrong_file)
{
    static const struct {
        const char *name, *header; /* of a .npy file; NULL: no such file */
        size_t data_bytes;
        const char *part;
    } rows[] = {
        {"missing", NULL, 0, "No such file"},
        {"double", "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 2, 8), }", 128, "f8"},
        {"integers", "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1, 2, 8), }", 64, "i4"},
        {"big-endian", "{'descr': '>f4', 'fortran_order': False, 'shape': (1, 1, 2, 8), }", 64, ">f4"},
        {"Fortran", "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1, 2, 8), }", 64, "order"},
        {"short", "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2, 8), }", 60, "bytes"},
        {"three-sided", "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 8), }", 64, ""},
        {"enormous", "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776, 2, 8), }", 64,
         ""},
        {"no header", "", 0, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[PATH_BYTES], out_path[PATH_BYTES];
        uint8_t file[512] = "\x93NUMPY\x01";
        snprintf(path, sizeof path, "%s/%s.npy", daemon_under_test.dir, rows[i].name);
        snprintf(out_path, sizeof out_path, "%s/never.npy", daemon_under_test.dir);
        if (rows[i].header != NULL) {
            snprintf((char *)file + 10, 118, "%-116s\n", rows[i].header);
            file[8] = 117;
            fc_e2e_write_file(path, file, rows[i].header[0] != '\0' ? 127 + rows[i].data_bytes : 3);
        }
        fc_e2e_run_result run = run_tool("flashcorectl", daemon_under_test.ipc_url,
                                         ARGS("attend", "--q", path, "--k", path, "--v", path, "-o", out_path), 1);
        ck_assert_msg((strstr(run.err, path) != NULL || strstr(run.err, "--q") != NULL) &&
                          strstr(run.err, rows[i].part) != NULL,
                      "%s: %s", rows[i].name, run.err);
        ck_assert_int_ne(access(out_path, F_OK), 0);
        fc_e2e_run_free(&run);
    }
}
END_TEST

START_TEST(it_compares_kernels)
{
    const char *url = daemon_under_test.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    flashcore_info info;
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    flashcore_client_destroy(client);
    const char *first = info.kernels[0], *last = info.kernels[info.kernel_count - 1];
    fc_e2e_run_result run =
        run_tool("flashcorectl", url,
                 ARGS("compare", "--kernel", first, "--kernel", last, "--shape", "1,2,64,32", "--repeat", "3"), 0);
    want_parts(&run, ARGS(first, last));
    fc_e2e_run_free(&run);
}
END_TEST

START_TEST(a_server_that_is_not_there_is_an_error)
{
    char url[FC_E2E_PATH_BYTES * 2];
    snprintf(url, sizeof url, "%.120s.not", daemon_under_test.ipc_url);
    fc_e2e_run_result run = run_tool("flashcorectl", url, ARGS("--timeout", "0.2", "ping"), 1);
    ck_assert_msg(strstr(run.err, url) != NULL || strstr(run.out, url) != NULL, "%s", run.err);
    fc_e2e_run_free(&run);
    run = run_tool("bench_client", url, ARGS("--timeout", "0.2", "--duration", "0.1", "--warmup", "0"), 1);
    fc_e2e_run_free(&run);
    run = run_tool("flashcorectl", url, ARGS("fly"), 2);
    fc_e2e_run_free(&run);
    run = run_tool("bench_client", url, ARGS("--clients", "0"), 2);
    fc_e2e_run_free(&run);
}
END_TEST

/* --- bench_client ------------------------------------------------------------------------------------------------ */

/* Its JSON: the keys that scripts read, in an order that figures must have. */
static void want_figures(const char *path, double least_per_s)
{
    static const char *const keys[] = {"requests_per_s", "p50_us", "p90_us", "p99_us", "max_us"};
    double figures[5];
    json_error_t error;
    json_t *object = json_load_file(path, 0, &error);
    ck_assert_msg(json_is_object(object), "%s: %s", path, error.text);
    for (int i = 0; i < 5; i++) {
        json_t *value = json_object_get(object, keys[i]);
        ck_assert_msg(json_is_number(value), "no number %s", keys[i]);
        figures[i] = json_number_value(value);
    }
    json_decref(object);
    ck_assert_msg(figures[0] >= least_per_s, "%g requests/s", figures[0]);
    ck_assert(figures[1] > 0);
    for (int i = 2; i < 5; i++)
        ck_assert_msg(figures[i] >= figures[i - 1], "%s %g is below %s %g", keys[i], figures[i], keys[i - 1],
                      figures[i - 1]);
}

START_TEST(the_load_tester_verifies_and_reports)
{
    static const struct {
        const char *args[16];
        double least_per_s;
    } rows[] = {
        {{"--verify", "--shape", "1,2,64,32"}, 1},
        {{"--verify", "--shape", "2,4,33,64", "--kv-heads", "2", "--dtype", "bf16", "--causal", "bottom_right",
          "--kv-len", "20", "--lse", "--clients", "4", "--inflight", "2"},
         1},
        {{"--op", "ping", "--clients", "2"}, 10},
        {{"--verify", "--shape", "1,1,16,16", "--rate", "20"}, 5},
        {{"--verify", "--shape", "1,1,16,16", "--rate", "20", "--arrival", "poisson", "--clients", "2"}, 1},
    };
    char json[PATH_BYTES], svg[PATH_BYTES];
    snprintf(json, sizeof json, "%s/figures.json", daemon_under_test.dir);
    snprintf(svg, sizeof svg, "%s/latency.svg", daemon_under_test.dir);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *args[32] = {"--duration", "0.5", "--warmup", "0.1", "--json", json, "--plot", svg};
        memcpy(args + 8, rows[i].args, sizeof rows[i].args);
        const char *url = i % 2 == 0 ? daemon_under_test.ipc_url : daemon_under_test.tcp_url;
        fc_e2e_run_result run = run_tool("bench_client", url, args, 0);
        want_parts(&run, ARGS("p99", "p50"));
        fc_e2e_run_free(&run);
        want_figures(json, rows[i].least_per_s);
        char *picture = fc_e2e_read_file(svg, NULL);
        ck_assert_msg(picture != NULL && strstr(picture, "<svg") != NULL && strstr(picture, "</svg>") != NULL,
                      "no picture in %s", svg);
        free(picture);
        unlink(json);
        unlink(svg);
    }
}
END_TEST

/* A rate nobody can serve: said, and no success. */
START_TEST(a_missed_schedule_is_an_error)
{
    fc_e2e_run_result run = run_tool(
        "bench_client", daemon_under_test.ipc_url,
        ARGS("--rate", "100000", "--inflight", "1", "--shape", "1,8,256,64", "--duration", "0.5", "--warmup", "0.1"),
        1);
    ck_assert_msg(strstr(run.err, "schedule") != NULL, "%s", run.err);
    fc_e2e_run_free(&run);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools");
    TCase *ctl = fc_e2e_case(suite, "flashcorectl");
    tcase_add_checked_fixture(ctl, set_up, tear_down);
    tcase_add_test(ctl, it_shows_a_server);
    tcase_add_test(ctl, it_attends_on_files);
    tcase_add_test(ctl, it_names_a_wrong_file);
    tcase_add_test(ctl, it_compares_kernels);
    tcase_add_test(ctl, a_server_that_is_not_there_is_an_error);
    TCase *bench = fc_e2e_case(suite, "bench_client");
    tcase_add_checked_fixture(bench, set_up, tear_down);
    tcase_add_test(bench, the_load_tester_verifies_and_reports);
    tcase_add_test(bench, a_missed_schedule_is_an_error);
    return fc_e2e_main(suite);
}
