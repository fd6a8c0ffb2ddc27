/* deploy/flashcored.conf and the option list of flashcored(8) are what the option table makes of them, and the sample
 * is a config file that changes nothing. Runs from the repository's root, like every test.
 */
#include "daemon/options.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES 65536

static void read_all(FILE *file, char text[FILE_BYTES])
{
    ck_assert_ptr_nonnull(file);
    size_t bytes = fread(text, 1, FILE_BYTES - 1, file);
    text[bytes] = '\0';
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_lt(bytes, FILE_BYTES - 1);
}

static const struct {
    const char *arguments, *file;
} ROWS[] = {
    {"config", "deploy/flashcored.conf"},
    {"metrics", "docs/metrics.md"},
    {"flashcored <docs/man/flashcored.8", "docs/man/flashcored.8"},
    {"bench_client <docs/man/bench_client.1", "docs/man/bench_client.1"},
    {"flashcorectl <docs/man/flashcorectl.1", "docs/man/flashcorectl.1"},
};

START_TEST(what_is_made_from_the_table_is_up_to_date)
{
    static char fresh[FILE_BYTES], kept[FILE_BYTES];
    char command[256];
    const char *build = getenv("FC_TEST_BUILD");
    snprintf(command, sizeof command, "%s/tools/docs %s", build != NULL ? build : "build", ROWS[_i].arguments);
    FILE *pipe = popen(command, "r");
    read_all(pipe, fresh);
    ck_assert_int_eq(pclose(pipe), 0);
    FILE *file = fopen(ROWS[_i].file, "r");
    read_all(file, kept);
    fclose(file);
    ck_assert_msg(strcmp(fresh, kept) == 0, "%s is out of date: run `make docs`", ROWS[_i].file);
}
END_TEST

static void no_change(void *context, const char *name, const char *value, bool is_applied)
{
    (void)context, (void)is_applied;
    ck_abort_msg("the sample changes %s to %s", name, value);
}

START_TEST(the_sample_changes_nothing)
{
    static fc_options options, defaults;
    fc_reason reason = {""};
    fc_options_defaults(&options);
    defaults = options;
    ck_assert_msg(fc_config_file_read("deploy/flashcored.conf", &options, &reason) == FC_OK, "%s", reason.text);
    fc_options_reload(&defaults, &options, no_change, NULL);
}
END_TEST

/* Every line of the sample is right once its comment sign is taken away. */
START_TEST(every_line_of_the_sample_is_right)
{
    static fc_options options;
    fc_reason reason = {""};
    char line[512], name[64], value[256];
    int count = 0;
    FILE *file = fopen("deploy/flashcored.conf", "r");
    ck_assert_ptr_nonnull(file);
    fc_options_defaults(&options);
    while (fgets(line, sizeof line, file) != NULL) {
        value[0] = '\0';
        if (sscanf(line, "#%63[a-z-] = %255[^\n]", name, value) < 1 || strchr(line, '=') == NULL)
            continue;
        fc_status st = fc_options_set(&options, name, value, FC_FROM_FILE, &reason);
        ck_assert_msg(st == FC_OK, "%s: %s", line, reason.text);
        count++;
    }
    fclose(file);
    for (int id = 0; id < FC_OPTION_COUNT; id++)
        count -= fc_options_row((fc_option_id)id)->when != FC_WHEN_ONCE;
    ck_assert_int_eq(count, 0);
}
END_TEST

/* Whoever is told to look at a metric finds it: what these files name is in docs/metrics.md. */
static const char *const NAMING[] = {"docs/runbook.md", "deploy/prometheus/flashcored.rules.yml",
                                     "deploy/prometheus/flashcored.dashboard.json"};

static bool is_documented(const char *page, const char *name)
{
    static const char *const endings[] = {"", "_bucket", "_sum", "_count"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t bytes = strlen(name), ending_bytes = strlen(endings[i]);
        char row[128];
        if (bytes <= ending_bytes || strcmp(name + bytes - ending_bytes, endings[i]) != 0)
            continue;
        snprintf(row, sizeof row, "| `%.*s` | %s", (int)(bytes - ending_bytes), name, i > 0 ? "histogram" : "");
        if (strstr(page, row) != NULL)
            return true;
    }
    return false;
}

START_TEST(every_metric_that_is_named_exists)
{
    static char page[FILE_BYTES], text[FILE_BYTES];
    static const char *const beginnings[] = {"flashcored_", "process_"};
    int count = 0;
    FILE *file = fopen("docs/metrics.md", "r");
    read_all(file, page);
    fclose(file);
    file = fopen(NAMING[_i], "r");
    read_all(file, text);
    fclose(file);
    for (int b = 0; b < 2; b++) {
        for (const char *found = strstr(text, beginnings[b]); found != NULL; found = strstr(found + 1, beginnings[b])) {
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)strspn(found, "abcdefghijklmnopqrstuvwxyz0123456789_"), found);
            ck_assert_msg(is_documented(page, name), "%s names %s, which is no metric", NAMING[_i], name);
            count++;
        }
    }
    ck_assert_int_gt(count, 10);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("docs");
    TCase *made = tcase_create("made from the table");
    tcase_add_loop_test(made, what_is_made_from_the_table_is_up_to_date, 0, (int)(sizeof ROWS / sizeof ROWS[0]));
    tcase_add_test(made, the_sample_changes_nothing);
    tcase_add_test(made, every_line_of_the_sample_is_right);
    tcase_add_loop_test(made, every_metric_that_is_named_exists, 0, (int)(sizeof NAMING / sizeof NAMING[0]));
    suite_add_tcase(suite, made);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
