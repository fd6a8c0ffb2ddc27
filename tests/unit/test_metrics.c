/* daemon/metrics and the histograms of daemon/stats: names, units, labels, and what a parser of the format insists on.
 */
#include "daemon/clock.h"
#include "daemon/metrics.h"

#include <check.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAMILIES_MAX 128

static fc_stats stats;
static fc_metrics_about about;
static fc_process_stats process;
static char *text;

static void set_up(void)
{
    fc_stats_init(&stats, 0);
    about = (fc_metrics_about){.version = "1.2", .engine = "cpu", .device = "a", .start_time_s = 1795376474.201};
    process = (fc_process_stats){.cpu_seconds = 1.5, .resident_bytes = 4096, .open_fds = 9, .max_fds = 1024};
}

static void render(void)
{
    size_t bytes = 0;
    free(text);
    ck_assert_int_eq(fc_metrics_render(&stats, &about, &process, &text, &bytes), FC_OK);
    ck_assert_uint_eq(bytes, strlen(text));
}

static void tear_down(void)
{
    free(text);
    text = NULL;
}

static void want_line(const char *line)
{
    char whole[256];
    snprintf(whole, sizeof whole, "\n%s\n", line);
    ck_assert_msg(strstr(text, whole) != NULL, "no line \"%s\" in\n%.1500s", line, text);
}

START_TEST(every_list_has_its_metrics_in_base_units)
{
    static const char *const lines[] = {
        "# TYPE flashcored_requests_total counter",
        "flashcored_requests_total{op=\"attend\"} 3",
        "flashcored_requests_total{op=\"ping\"} 0",
        "flashcored_replies_total{status=\"busy\"} 2",
        "flashcored_replies_total{status=\"ok\"} 0",
        "flashcored_kernel_requests_total{kernel=\"cpu\"} 3",
        "# HELP flashcored_received_bytes_total Message bytes received.",
        "flashcored_received_bytes_total 18446744073709551615",
        "# TYPE flashcored_launch_seconds_total counter",
        "flashcored_launch_seconds_total 2.5",
        "# TYPE flashcored_queued_bytes gauge",
        "flashcored_queued_bytes 77",
        "process_cpu_seconds_total 1.5",
        "process_resident_memory_bytes 4096",
        "process_open_fds 9",
        "process_start_time_seconds 1795376474.201",
    };
    atomic_fetch_add(&stats.requests[FC_OP_ATTEND], 3);
    atomic_fetch_add(&stats.replies[FC_BUSY], 2);
    atomic_fetch_add(&stats.kernel_requests[FC_KERNEL_CPU], 3);
    fc_stats_add(&stats, FC_COUNT_BYTES_IN, UINT64_MAX);
    fc_stats_add(&stats, FC_COUNT_LAUNCH_US, 2500000);
    fc_stats_set(&stats, FC_GAUGE_QUEUED_BYTES, 77);
    render();
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        want_line(lines[i]);
    ck_assert_ptr_null(strstr(text, "status=\"no_memory\""));
}
END_TEST

START_TEST(a_histogram_is_cumulative)
{
    fc_stats_observe(&stats, FC_HISTOGRAM_TOTAL, 0);
    fc_stats_observe(&stats, FC_HISTOGRAM_TOTAL, 1 * FC_NS_PER_US);
    fc_stats_observe(&stats, FC_HISTOGRAM_TOTAL, 1 * FC_NS_PER_US + 1);
    fc_stats_observe(&stats, FC_HISTOGRAM_TOTAL, 3 * FC_NS_PER_MS);
    fc_stats_observe(&stats, FC_HISTOGRAM_TOTAL, 10 * FC_NS_PER_S);
    fc_stats_observe(&stats, FC_HISTOGRAM_TOTAL, 10 * FC_NS_PER_S + 1);
    fc_stats_observe(&stats, FC_HISTOGRAM_BATCH, 3);
    fc_stats_observe(&stats, FC_HISTOGRAM_BATCH, 300);
    render();
    static const char *const lines[] = {
        "# TYPE flashcored_total_seconds histogram",
        "flashcored_total_seconds_bucket{le=\"1e-06\"} 2",
        "flashcored_total_seconds_bucket{le=\"2e-06\"} 3",
        "flashcored_total_seconds_bucket{le=\"0.002\"} 3",
        "flashcored_total_seconds_bucket{le=\"0.005\"} 4",
        "flashcored_total_seconds_bucket{le=\"10\"} 5",
        "flashcored_total_seconds_bucket{le=\"+Inf\"} 6",
        "flashcored_total_seconds_sum 20.003002002",
        "flashcored_total_seconds_count 6",
        "flashcored_batch_requests_bucket{le=\"2\"} 0",
        "flashcored_batch_requests_bucket{le=\"4\"} 1",
        "flashcored_batch_requests_bucket{le=\"256\"} 1",
        "flashcored_batch_requests_bucket{le=\"+Inf\"} 2",
        "flashcored_batch_requests_sum 303",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        want_line(lines[i]);
}
END_TEST

START_TEST(labels_are_escaped)
{
    about.device = "a \"GPU\" \\ with\na line";
    render();
    want_line("flashcored_build_info{version=\"1.2\",engine=\"cpu\",device=\"a \\\"GPU\\\" \\\\ with\\na line\"} 1");
}
END_TEST

/* The name of a sample line's family: without labels, and of a histogram without _bucket, _sum, _count. */
static void family_of(const char *line, const char *type, char out[64])
{
    snprintf(out, 64, "%.*s", (int)strcspn(line, "{ "), line);
    static const char *const endings[] = {"_bucket", "_sum", "_count"};
    for (size_t i = 0; strcmp(type, "histogram") == 0 && i < 3; i++) {
        size_t bytes = strlen(out), ending_bytes = strlen(endings[i]);
        if (bytes > ending_bytes && strcmp(out + bytes - ending_bytes, endings[i]) == 0) {
            out[bytes - ending_bytes] = '\0';
            return;
        }
    }
}

/* HELP, TYPE, then its samples, each family once; counters alone end in _total; every value a number. */
START_TEST(it_is_the_exposition_format)
{
    char names[FAMILIES_MAX][64], type[32] = "", name[64], family[64];
    int count = 0;
    bool has_type = false;
    render();
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "# HELP %63s %*s", name) == 1) {
            for (int i = 0; i < count; i++)
                ck_assert_str_ne(names[i], name);
            ck_assert_int_lt(count, FAMILIES_MAX);
            memcpy(names[count++], name, sizeof name);
            has_type = false;
            ck_assert_msg(line[strlen(line) - 1] == '.', "%s", line);
        } else if (sscanf(line, "# TYPE %63s %31s", name, type) == 2) {
            ck_assert_int_gt(count, 0);
            ck_assert_str_eq(name, names[count - 1]);
            has_type = true;
            bool is_total = strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0;
            ck_assert_msg(is_total == (strcmp(type, "counter") == 0), "%s is a %s", name, type);
        } else {
            char *end;
            ck_assert(has_type);
            family_of(line, type, family);
            ck_assert_str_eq(family, names[count - 1]);
            const char *value = strrchr(line, ' ');
            ck_assert_ptr_nonnull(value);
            strtod(value + 1, &end);
            ck_assert_msg(*end == '\0' && end != value + 1, "%s", line);
        }
    }
    ck_assert_int_gt(count, 30);
}
END_TEST

START_TEST(this_process_is_measured)
{
    fc_process_stats now;
    fc_process_stats_read(&now);
    ck_assert_uint_ge(now.resident_bytes, 4096);
    ck_assert_uint_ge(now.virtual_bytes, now.resident_bytes);
    ck_assert_uint_ge(now.open_fds, 1);
    ck_assert_uint_ge(now.max_fds, now.open_fds);
    ck_assert_double_ge(now.cpu_seconds, 0);
    uint64_t before = now.open_fds;
    FILE *file = fopen("/dev/null", "r");
    fc_process_stats_read(&now);
    fclose(file);
    ck_assert_uint_eq(now.open_fds, before + 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *made = tcase_create("rendered");
    tcase_add_checked_fixture(made, set_up, tear_down);
    tcase_add_test(made, every_list_has_its_metrics_in_base_units);
    tcase_add_test(made, a_histogram_is_cumulative);
    tcase_add_test(made, labels_are_escaped);
    tcase_add_test(made, it_is_the_exposition_format);
    tcase_add_test(made, this_process_is_measured);
    suite_add_tcase(suite, made);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
