/* client/ctl_view: quantiles from buckets, rates, and a screen that fits 80 columns whatever the numbers are. */
#include "client/ctl_view.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fc_ctl_counters now, earlier;
static fc_ctl_view view;

static void set_up(void)
{
    now.count = earlier.count = 0;
    view = (fc_ctl_view){.url = "ipc:///run/x.sock", .version = "0.1.0", .device = "a GPU"};
}

static void add(fc_ctl_counters *counters, const char *name, double value)
{
    fc_ctl_counters_add(counters, name, value);
}

/* --- quantiles --------------------------------------------------------------------------------------------------- */

/* Buckets up to 10, 20, 50 and above hold these many. */
static const struct {
    const char *name;
    double before[4], after[4], q, wanted;
} QUANTILES[] = {
    {"nothing", {0}, {0}, 0.5, -1},
    {"nothing since", {5, 5, 5, 5}, {5, 5, 5, 5}, 0.5, -1},
    {"all in one, the middle", {0}, {0, 10, 0, 0}, 0.5, 15},
    {"all in one, the end", {0}, {0, 10, 0, 0}, 1, 20},
    {"in the first", {0}, {10, 0, 0, 0}, 0.5, 5},
    {"on the edge", {0}, {10, 10, 0, 0}, 0.5, 10},
    {"behind the edge", {0}, {10, 10, 0, 0}, 0.75, 15},
    {"over a gap", {0}, {10, 0, 10, 0}, 0.75, 35},
    {"above all", {0}, {0, 0, 0, 10}, 0.5, 50},
    {"the tail above", {0}, {98, 0, 0, 2}, 0.99, 50},
    {"only what is new", {1000, 0, 0, 0}, {1000, 0, 4, 0}, 0.5, 35},
};

START_TEST(quantiles_come_from_buckets)
{
    static const char *const names[] = {"t_us_le_10", "t_us_le_20", "t_us_le_50", "t_us_le_inf"};
    add(&now, "t_us_less", 3); /* another's name that begins alike */
    for (int i = 0; i < 4; i++) {
        add(&earlier, names[i], QUANTILES[_i].before[i]);
        add(&now, names[i], QUANTILES[_i].after[i]);
    }
    double got = fc_ctl_quantile(&now, &earlier, "t_us", QUANTILES[_i].q);
    ck_assert_msg(fabs(got - QUANTILES[_i].wanted) < 1e-9, "%s: %g", QUANTILES[_i].name, got);
}
END_TEST

/* --- what is shown ------------------------------------------------------------------------------------------------ */

static char *screen(bool has_earlier)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    fc_ctl_view_screen(&view, &now, has_earlier ? &earlier : NULL, 2.0, out);
    fclose(out);
    return text;
}

static void want(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "no \"%s\" in\n%s", part, text);
}

static const struct {
    const char *name;
    double before, after;
} COUNTERS[] = {
    {"uptime_s", 58, 60},
    {"requests_attend", 1000, 3000},
    {"requests_ping", 1, 1},
    {"replies_ok", 1001, 2901},
    {"replies_busy", 0, 100},
    {"replies_internal", 4, 4},
    {"kernel_requests_fused", 900, 2800},
    {"kernel_requests_vec", 100, 100},
    {"received_bytes", 0, 3145728},
    {"sent_bytes", 0, 1048576},
    {"launches", 500, 1000},
    {"launched_requests", 1000, 2900},
    {"launch_us", 0, 1e6},
    {"lost_replies", 0, 7},
    {"queued", 3, 12},
    {"queue_limit", 256, 256},
    {"lanes", 2, 2},
    {"pipes", 3, 17},
    {"arena_bytes", 0, 67108864},
    {"ready", 1, 1},
    {"gpu_utilization_percent", 10, 93},
    {"gpu_memory_used_bytes", 1, 12884901888},
    {"gpu_memory_bytes", 1, 85899345920},
    {"gpu_temperature_celsius", 40, 67},
    {"gpu_power_mw", 1, 512300},
    {"total_us_le_1000", 0, 0},
    {"total_us_le_2000", 0, 1900},
    {"total_us_le_inf", 0, 0},
};

static void add_counters(double factor)
{
    for (size_t i = 0; i < sizeof COUNTERS / sizeof COUNTERS[0]; i++) {
        add(&earlier, COUNTERS[i].name, COUNTERS[i].before);
        add(&now, COUNTERS[i].name, COUNTERS[i].after * factor);
    }
}

START_TEST(the_screen_shows_what_happens)
{
    add_counters(1);
    fc_ctl_view_note(&view, &now, &earlier, 2.0);
    char *text = screen(true);
    static const char *const parts[] = {"flashcored 0.1.0 at ipc:///run/x.sock",
                                        "a GPU, ready, up 60.0 s",
                                        "1,000/s",
                                        "1.50 MiB/s",
                                        "1.50 ms",
                                        "12 of 256",
                                        "25 % of 2 at work, 3.8 requests a launch",
                                        "93 %  12.0 GiB of 80.0 GiB  67 C  512 W",
                                        "17 connections",
                                        "ok 950/s",
                                        "busy 50.0/s",
                                        "fused 950/s",
                                        "lost_replies 7"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        want(text, parts[i]);
    ck_assert_ptr_null(strstr(text, "vec"));
    ck_assert_ptr_null(strstr(text, "internal"));
    free(text);
}
END_TEST

START_TEST(the_first_look_has_no_rates)
{
    add_counters(1);
    char *text = screen(false);
    want(text, "12 of 256");
    ck_assert_ptr_null(strstr(text, "950/s"));
    free(text);
}
END_TEST

/* No GPU, no self-test, an older server: what is not told is not shown. */
START_TEST(what_a_server_does_not_tell_is_left_out)
{
    add(&now, "uptime_s", 1);
    add(&earlier, "uptime_s", 0);
    char *text = screen(true);
    ck_assert_ptr_null(strstr(text, "GPU  "));
    ck_assert_ptr_null(strstr(text, "READY"));
    ck_assert_ptr_null(strstr(text, "ready"));
    ck_assert_ptr_null(strstr(text, "nan"));
    free(text);
    now.items[0].value = 1;
    add(&now, "ready", 0);
    text = screen(true);
    want(text, "NOT READY");
    free(text);
}
END_TEST

START_TEST(it_fits_eighty_columns)
{
    static const double factors[] = {0, 1, 1e3, 1e5};
    char url[300];
    memset(url, 'u', sizeof url - 1);
    url[sizeof url - 1] = '\0';
    view.url = view.device = view.version = url;
    view.is_utf8 = _i % 2 != 0;
    add_counters(factors[_i / 2]);
    static const char *const many[] = {
        "replies_invalid_argument", "replies_deadline_exceeded", "replies_draining", "replies_device_lost",
        "replies_unauthorized",     "launches_failed",           "pipes_leaked",     "undecodable"};
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
        add(&now, many[i], 1e6);
    for (int i = 0; i < 2 * FC_CTL_HISTORY_MAX; i++)
        fc_ctl_view_note(&view, &now, &earlier, 2.0);
    char *text = screen(true);
    int lines = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save), lines++)
        ck_assert_msg(fc_text_columns(line) <= FC_CTL_VIEW_COLUMNS, "%zu: %s", fc_text_columns(line), line);
    ck_assert_int_ge(lines, 15);
    free(text);
}
END_TEST

START_TEST(a_line_says_it_all)
{
    char *text = NULL;
    size_t bytes = 0;
    add_counters(1);
    FILE *out = open_memstream(&text, &bytes);
    fc_ctl_view_line(&now, &earlier, 2.0, out);
    fclose(out);
    ck_assert_str_eq(text, "requests/s 1,000  p50 1.50 ms  p99 1.99 ms  queued 12  running 0  not ok/s 50.0  "
                           "in/s 1.50 MiB  out/s 512.0 KiB\n");
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ctl_view");
    TCase *tests = tcase_create("view");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_loop_test(tests, quantiles_come_from_buckets, 0, (int)(sizeof QUANTILES / sizeof QUANTILES[0]));
    tcase_add_test(tests, the_screen_shows_what_happens);
    tcase_add_test(tests, the_first_look_has_no_rates);
    tcase_add_test(tests, what_a_server_does_not_tell_is_left_out);
    tcase_add_loop_test(tests, it_fits_eighty_columns, 0, 8);
    tcase_add_test(tests, a_line_says_it_all);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
