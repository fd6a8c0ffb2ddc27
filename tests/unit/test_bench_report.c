/* bench_picture, bench_report, bench_plot: what is printed is what was counted, fits its width, and is well formed. */
#include "client/bench_plot.h"
#include "client/bench_report.h"
#include "client/tool_text.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define S 1000000000ull
static fc_bench_options options;
static fc_bench_outcome outcome;

/* 2000 answers of 100.0 to 299.9 us in 2 s, each 10 us queue, 20 us kernel and 50 us in the daemon. */
static void fill(void)
{
    fc_reason reason;
    char *argv[] = {(char *)"bench_client", NULL};
    ck_assert_int_eq(fc_bench_options_parse(1, argv, &options, &reason), FC_ARGS_RUN);
    outcome = (fc_bench_outcome){.window = {.begin_ns = 1 * S, .end_ns = 3 * S}};
    ck_assert_int_eq(fc_tally_init(&outcome.total), FC_OK);
    flashcore_result result = {.status = FLASHCORE_OK,
                               .kernel = "cpu",
                               .device = "a <device> & more",
                               .queue_us = 10,
                               .kernel_us = 20,
                               .server_total_us = 50,
                               .batch = 1};
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t sent_ns = 1 * S + i * 900000;
        fc_sample sample = {.intended_ns = sent_ns,
                            .sent_ns = sent_ns,
                            .done_ns = sent_ns + 100000 + i * 100,
                            .result = &result,
                            .is_checked = true};
        fc_tally_add(&outcome.total, &outcome.window, &sample);
    }
}

static void empty(void)
{
    fc_tally_fini(&outcome.total);
}

typedef void (*printer)(FILE *out);

static char *print(printer what)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    what(out);
    fclose(out);
    return text;
}

static fc_canvas canvas;

static void print_percentiles(FILE *out)
{
    fc_picture_percentiles(&outcome.total.latency, &canvas, out);
}

static void print_report(FILE *out)
{
    fc_report_print(&options, &outcome, &canvas, out);
}

static void print_plot(FILE *out)
{
    fc_plot_svg(&options, &outcome, out);
}

static void check_width(const char *text, size_t columns)
{
    char *copy = strdup(text), *rest = NULL;
    for (char *line = strtok_r(copy, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        ck_assert_msg(fc_text_columns(line) <= columns, "\"%s\" is wider than %zu", line, columns);
    free(copy);
}

static bool is_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text >= 0x80)
            return false;
    }
    return true;
}

START_TEST(bars_have_the_length_they_mean)
{
    char bar[FC_BAR_BYTES];
    fc_text_bar(0.5, 10, false, bar);
    ck_assert_str_eq(bar, "#####");
    fc_text_bar(0, 10, false, bar);
    ck_assert_str_eq(bar, "");
    fc_text_bar(0.0001, 10, false, bar);
    ck_assert_str_eq(bar, "|");
    fc_text_bar(7, 10, false, bar);
    ck_assert_uint_eq(strlen(bar), 10);
    fc_text_bar(0.0 / 0.0, 10, true, bar);
    ck_assert_str_eq(bar, "");
    fc_text_bar(0.0001, 10, true, bar);
    ck_assert_str_eq(bar, "\xe2\x96\x8f");
    fc_text_bar(0.25 + 0.0125, 10, true, bar); /* two and five eighths */
    ck_assert_str_eq(bar, "\xe2\x96\x88\xe2\x96\x88\xe2\x96\x8b");
    fc_text_bar(1, 100000, true, bar);
    ck_assert_uint_eq(fc_text_columns(bar), FC_BAR_COLUMNS_MAX);
}
END_TEST

START_TEST(the_percentile_picture_fits)
{
    static const size_t COLUMNS[] = {40, 64, 80, 200};
    for (size_t i = 0; i < 8; i++) {
        canvas = (fc_canvas){.columns = COLUMNS[i / 2], .is_utf8 = i % 2 == 1};
        char *text = print(print_percentiles);
        check_width(text, canvas.columns);
        ck_assert_int_eq(is_ascii(text), !canvas.is_utf8);
        ck_assert_ptr_nonnull(strstr(text, "p50   200 us"));
        ck_assert_ptr_nonnull(strstr(text, "max   300 us"));
        ck_assert_ptr_nonnull(strstr(text, "p99.9   300 us"));
        ck_assert_ptr_null(strstr(text, "p99.99 ")); /* 2000 answers cannot tell */
        ck_assert_ptr_null(strstr(text, "logarithmic"));
        free(text);
    }
    fc_histogram_record(&outcome.total.latency, 50 * S);
    char *text = print(print_percentiles);
    ck_assert_ptr_nonnull(strstr(text, "logarithmic"));
    free(text);
}
END_TEST

START_TEST(the_report_says_what_was_counted)
{
    canvas = (fc_canvas){.columns = 80, .is_utf8 = false};
    options.wants_verify = true;
    outcome.reference_count = 4;
    char *text = print(print_report);
    check_width(text, 110);
    ck_assert(is_ascii(text));
    static const char *const WANTED[] = {"1,8,512,64 f16",
                                         "2,000, 1,000 requests/s",
                                         "Errors    none",
                                         "2,000 answers, all right (4 by the reference",
                                         "closed loop",
                                         "kernel                  20.0 us   10.0 %",
                                         "rest of the daemon      20.0 us"};
    for (size_t i = 0; i < sizeof WANTED / sizeof WANTED[0]; i++)
        ck_assert_msg(strstr(text, WANTED[i]) != NULL, "no \"%s\" in\n%s", WANTED[i], text);
    free(text);
    ck_assert(!fc_report_failed(&options, &outcome, stderr));
}
END_TEST

START_TEST(parts_add_up)
{
    fc_bench_parts parts = fc_report_parts(&outcome.total);
    double sum = parts.wait_us + parts.queue_us + parts.copy_in_us + parts.kernel_us + parts.copy_out_us +
                 parts.server_us + parts.transport_us;
    ck_assert_double_eq_tol(sum, parts.client_us, 1e-6);
    ck_assert_double_eq_tol(parts.client_us, 199.95, 1e-6);
    ck_assert_double_eq_tol(parts.server_us, 20, 1e-6);
    ck_assert_double_eq_tol(parts.batch, 1, 1e-9);
}
END_TEST

static json_t *make_json(void)
{
    char path[] = "/tmp/fc-report-XXXXXX";
    fc_reason reason = {""};
    close(mkstemp(path));
    fc_json *json = fc_report_json(&options, &outcome);
    ck_assert_msg(fc_json_save(json, path, &reason) == FC_OK, "%s", reason.text);
    fc_json_destroy(json);
    json_t *root = json_load_file(path, 0, NULL);
    unlink(path);
    ck_assert_ptr_nonnull(root);
    return root;
}

START_TEST(the_document_has_the_promised_keys)
{
    static const struct {
        const char *key;
        double value;
    } TOP[] = {{"requests_per_s", 1000}, {"p50_us", 200},   {"p90_us", 280},    {"p99_us", 298},
               {"p999_us", 299.8},       {"max_us", 299.9}, {"mean_us", 199.95}};
    json_t *root = make_json();
    for (size_t i = 0; i < sizeof TOP / sizeof TOP[0]; i++) {
        json_t *value = json_object_get(root, TOP[i].key);
        ck_assert_msg(json_is_real(value), "%s", TOP[i].key);
        ck_assert_double_eq_tol(json_real_value(value), TOP[i].value, 0.002 * TOP[i].value);
    }
    ck_assert_int_eq(json_integer_value(json_object_get(root, "wrong_answers")), 0);
    json_t *config = json_object_get(root, "config");
    ck_assert_uint_eq(json_array_size(json_object_get(config, "shape")), 4);
    ck_assert_str_eq(json_string_value(json_object_get(config, "loop")), "closed");
    ck_assert_ptr_null(json_object_get(root, "schedule"));
    json_decref(root);
    options.rate = 500;
    fc_tally_fini(&outcome.total); /* nothing measured: the keys stay, their values are null */
    ck_assert_int_eq(fc_tally_init(&outcome.total), FC_OK);
    root = make_json();
    ck_assert(json_is_null(json_object_get(root, "p50_us")));
    ck_assert(json_is_false(json_object_get(json_object_get(root, "schedule"), "missed")));
    json_decref(root);
}
END_TEST

/* Every way a run fails, and the words for it. */
START_TEST(failures_are_told)
{
    static const char *const WORDS[] = {"1 wrong answers; first: element 7", "2 requests failed; first: full",
                                        "the schedule was missed", "no answer to measure"};
    char *text = NULL;
    size_t bytes = 0;
    fc_tally *total = &outcome.total;
    switch (_i) {
    case 0:
        total->wrong = 1;
        strcpy(total->first_wrong, "element 7");
        break;
    case 1:
        total->errors[FLASHCORE_BUSY] = 2;
        strcpy(total->first_error, "full");
        break;
    case 2:
        options.rate = 2000;
        total->due_in_window = 4000;
        break;
    default:
        fc_tally_fini(total);
        ck_assert_int_eq(fc_tally_init(total), FC_OK);
        break;
    }
    FILE *err = open_memstream(&text, &bytes);
    ck_assert(fc_report_failed(&options, &outcome, err));
    fclose(err);
    ck_assert_msg(strstr(text, WORDS[_i]) != NULL, "%s", text);
    free(text);
    canvas = (fc_canvas){.columns = 80, .is_utf8 = true};
    free(print(print_report)); /* and the table survives it */
}
END_TEST

static size_t count_of(const char *text, const char *word)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += strncmp(text, word, strlen(word)) == 0;
    return count;
}

START_TEST(the_plot_is_well_formed)
{
    char *text = print(print_plot);
    ck_assert_ptr_nonnull(strstr(text, "<svg "));
    ck_assert_str_eq(text + strlen(text) - 7, "</svg>\n");
    ck_assert_uint_eq(count_of(text, "<text"), count_of(text, "</text>"));
    ck_assert_ptr_nonnull(strstr(text, "a &lt;device> &amp; more"));
    static const char *const WANTED[] = {">90 %<",
                                         ">99.9 %<",
                                         ">p50 200 us<",
                                         "requests/s",
                                         "1,8,512,64 f16",
                                         ">100 us<",
                                         ">300 us<",
                                         "latency, client send to receive",
                                         "prefers-color-scheme: dark"};
    for (size_t i = 0; i < sizeof WANTED / sizeof WANTED[0]; i++)
        ck_assert_msg(strstr(text, WANTED[i]) != NULL, "no \"%s\"", WANTED[i]);
    ck_assert_ptr_null(strstr(text, "nan"));
    ck_assert_ptr_null(strstr(text, "inf"));
    free(text);
    fc_histogram_record(&outcome.total.latency, 50 * S);
    text = print(print_plot);
    ck_assert_ptr_nonnull(strstr(text, "(logarithmic)"));
    free(text);
}
END_TEST

START_TEST(plots_of_little_are_well_formed)
{
    static const uint64_t VALUES[] = {0, 1, 999, 123456, 60 * S};
    for (size_t i = 0; i <= sizeof VALUES / sizeof VALUES[0]; i++) {
        char *text = print(print_plot);
        ck_assert_str_eq(text + strlen(text) - 7, "</svg>\n");
        ck_assert_ptr_null(strstr(text, "nan"));
        ck_assert_ptr_null(strstr(text, "inf"));
        free(text);
        if (i == 0) {
            fc_tally_fini(&outcome.total);
            ck_assert_int_eq(fc_tally_init(&outcome.total), FC_OK);
            text = print(print_plot);
            ck_assert_ptr_nonnull(strstr(text, "nothing was measured"));
            free(text);
        }
        if (i < sizeof VALUES / sizeof VALUES[0])
            fc_histogram_record(&outcome.total.latency, VALUES[i]);
    }
}
END_TEST

static const char *stage;

static void print_progress(FILE *out)
{
    fc_bench_progress progress = {
        .stage = stage, .done_s = 1.5, .total_s = 2, .tally = &outcome.total, .window = &outcome.window};
    fc_picture_progress(&progress, &canvas, out);
}

START_TEST(the_progress_line_fits)
{
    static const char *const STAGES[] = {"verifying", "warming up", "measuring", "waiting for the last answers"};
    outcome.total.wrong = 3;
    for (size_t i = 0; i < 4 * 2 * 3; i++) {
        stage = STAGES[i % 4];
        canvas = (fc_canvas){.columns = 40 + i / 8 * 40, .is_utf8 = i % 8 >= 4};
        char *text = print(print_progress);
        ck_assert_uint_le(fc_text_columns(text), canvas.columns);
        ck_assert_ptr_null(strchr(text, '\n'));
        ck_assert(strncmp(text, stage, 9) == 0);
        if (canvas.columns == 120)
            ck_assert_ptr_nonnull(strstr(text, "3 failed"));
        free(text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_report");
    TCase *tests = tcase_create("reports");
    tcase_add_checked_fixture(tests, fill, empty);
    tcase_add_test(tests, bars_have_the_length_they_mean);
    tcase_add_test(tests, the_percentile_picture_fits);
    tcase_add_test(tests, the_report_says_what_was_counted);
    tcase_add_test(tests, parts_add_up);
    tcase_add_test(tests, the_document_has_the_promised_keys);
    tcase_add_loop_test(tests, failures_are_told, 0, 4);
    tcase_add_test(tests, the_plot_is_well_formed);
    tcase_add_test(tests, plots_of_little_are_well_formed);
    tcase_add_test(tests, the_progress_line_fits);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
