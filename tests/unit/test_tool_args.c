/* client/tool_args and the two tools' tables: values arrive, mistakes are named with what was expected, help shows all.
 */
#include "client/bench_options.h"
#include "client/ctl_options.h"
#include "client/tool_args.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct values {
    bool flag;
    const char *text;
    fc_arg_texts texts;
    uint64_t number;
    double real;
    int choice;
    fc_arg_ints ints;
} values;

#define AT(field) offsetof(values, field)
static const fc_arg_row ROWS[] = {
    {.name = "flag", .letter = 'f', .type = FC_ARG_FLAG, .offset = AT(flag), .group = "All", .help = "a flag"},
    {.name = "text", .type = FC_ARG_TEXT, .metavar = "T", .offset = AT(text), .group = "All", .help = "a text"},
    {.name = "texts",
     .type = FC_ARG_TEXTS,
     .metavar = "T",
     .offset = AT(texts),
     .count_max = 2,
     .group = "All",
     .help = "texts"},
    {.name = "number",
     .letter = 'n',
     .type = FC_ARG_UINT,
     .metavar = "N",
     .offset = AT(number),
     .default_text = "7",
     .min = 1,
     .max = 9,
     .group = "All",
     .help = "a number"},
    {.name = "real",
     .type = FC_ARG_REAL,
     .metavar = "X",
     .offset = AT(real),
     .default_text = "0.5",
     .max = 2,
     .group = "Some",
     .help = "a real",
     .commands = 1u << 1},
    {.name = "choice",
     .type = FC_ARG_CHOICE,
     .metavar = "C",
     .offset = AT(choice),
     .default_text = "two",
     .choices = "one|two|three|",
     .group = "Some",
     .help = "a choice"},
    {.name = "ints",
     .type = FC_ARG_INTS,
     .metavar = "A,B",
     .offset = AT(ints),
     .min = -1,
     .max = 100,
     .count_min = 2,
     .count_max = 3,
     .group = "Some",
     .help = "integers"},
};
static const fc_arg_command COMMANDS[] = {{"go", "", "goes", NULL}, {"stop", "[--real X]", "stops", "Really."}};
static const fc_arg_tool TOOL = {.name = "tool",
                                 .usage = "COMMAND",
                                 .summary = "Does things.",
                                 .commands = COMMANDS,
                                 .command_count = 2,
                                 .rows = ROWS,
                                 .row_count = sizeof ROWS / sizeof ROWS[0],
                                 .closing = "Examples: none.\n"};

#define WORDS_MAX 8
static fc_args_outcome parse(const char *const *words, values *out, int *out_command, fc_reason *reason)
{
    char *argv[WORDS_MAX + 2] = {(char *)"tool"};
    int argc = 1;
    for (; argc <= WORDS_MAX && words[argc - 1] != NULL; argc++)
        argv[argc] = (char *)words[argc - 1];
    *out = (values){.choice = -1};
    *reason = (fc_reason){""};
    return fc_args_parse(&TOOL, argc, argv, out, out_command, reason);
}

START_TEST(values_and_defaults_arrive)
{
    values v;
    int command;
    fc_reason reason;
    const char *const words[] = {"-f", "stop", "--text=hello", "--texts", "a", "--texts=b", "--ints", "-1,5", NULL};
    ck_assert_int_eq(parse(words, &v, &command, &reason), FC_ARGS_RUN);
    ck_assert_int_eq(command, 1);
    ck_assert(v.flag);
    ck_assert_str_eq(v.text, "hello");
    ck_assert_uint_eq(v.texts.count, 2);
    ck_assert_str_eq(v.texts.items[1], "b");
    ck_assert_uint_eq(v.number, 7);
    ck_assert_double_eq(v.real, 0.5);
    ck_assert_int_eq(v.choice, 1);
    ck_assert_uint_eq(v.ints.count, 2);
    ck_assert_int_eq(v.ints.items[0], -1);
    ck_assert_int_eq(v.ints.items[1], 5);
    const char *const abbreviated[] = {"go", "--num", "3", "-n4", NULL};
    ck_assert_int_eq(parse(abbreviated, &v, &command, &reason), FC_ARGS_WRONG); /* the same option twice */
    const char *const short_form[] = {"go", "-n4", "--choice", "three", NULL};
    ck_assert_int_eq(parse(short_form, &v, &command, &reason), FC_ARGS_RUN);
    ck_assert_uint_eq(v.number, 4);
    ck_assert_int_eq(v.choice, 2);
}
END_TEST

static const struct {
    const char *words[WORDS_MAX];
    const char *reason;
} WRONG[] = {
    {{"go", "--number", "0"}, "--number: expected an integer from 1 to 9, found \"0\""},
    {{"go", "--number", "10"}, "1 to 9"},
    {{"go", "--number", "-1"}, "1 to 9"},
    {{"go", "--number", "3x"}, "found \"3x\""},
    {{"go", "--number", ""}, "found \"\""},
    {{"go", "--number", " 3"}, "1 to 9"},
    {{"go", "--number", "99999999999999999999"}, "1 to 9"},
    {{"go", "--number"}, "--number: a value is missing"},
    {{"stop", "--real", "nan"}, "from 0 to 2"},
    {{"stop", "--real", "2.1"}, "from 0 to 2"},
    {{"stop", "--real", "inf"}, "from 0 to 2"},
    {{"go", "--real", "1"}, "--real is not an option of go"},
    {{"go", "--choice", "four"}, "one of one, two, three, found \"four\""},
    {{"go", "--choice", "on"}, "one of one, two, three"},
    {{"go", "--choice", ""}, "one of one, two, three"},
    {{"go", "--ints", "1"}, "2 to 3 integers"},
    {{"go", "--ints", "1,2,3,4"}, "2 to 3 integers"},
    {{"go", "--ints", "1,,2"}, "integers"},
    {{"go", "--ints", "1,2,"}, "integers"},
    {{"go", "--ints", "1,101"}, "from -1 to 100"},
    {{"go", "--text", ""}, "--text"},
    {{"go", "--texts", "a", "--texts", "b", "--texts", "c"}, "more than 2 times"},
    {{"go", "--flag=yes"}, "--flag takes no value"},
    {{"go", "--nubmer", "3"}, "unknown option --nubmer; did you mean --number?"},
    {{"go", "--something-else"}, "unknown option --something-else; --help"},
    {{"go", "-x"}, "unknown option -x"},
    {{"run"}, "unknown command \"run\"; expected one of go, stop"},
    {{"go", "now"}, "unexpected word \"now\" after go"},
    {{NULL}, "a command is missing"},
};

START_TEST(mistakes_say_what_was_expected)
{
    values v;
    int command;
    fc_reason reason;
    ck_assert_int_eq(parse(WRONG[_i].words, &v, &command, &reason), FC_ARGS_WRONG);
    ck_assert_msg(strstr(reason.text, WRONG[_i].reason) != NULL, "\"%s\" does not say \"%s\"", reason.text,
                  WRONG[_i].reason);
}
END_TEST

START_TEST(help_and_version_win)
{
    values v;
    int command;
    fc_reason reason;
    ck_assert_int_eq(parse((const char *[]){"--help", NULL}, &v, &command, &reason), FC_ARGS_HELP);
    ck_assert_int_eq(command, -1);
    ck_assert_int_eq(parse((const char *[]){"stop", "-h", NULL}, &v, &command, &reason), FC_ARGS_HELP);
    ck_assert_int_eq(command, 1);
    ck_assert_int_eq(parse((const char *[]){"-V", NULL}, &v, &command, &reason), FC_ARGS_VERSION);
    ck_assert_int_eq(parse((const char *[]){"--version", "--help", NULL}, &v, &command, &reason), FC_ARGS_HELP);
}
END_TEST

static char *help_of(const fc_arg_tool *tool, int command, size_t width)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    fc_args_help(tool, command, width, out);
    fclose(out);
    return text;
}

START_TEST(help_shows_every_row_its_range_and_its_default)
{
    char *all = help_of(&TOOL, -1, 80), *go = help_of(&TOOL, 0, 80), *stop = help_of(&TOOL, 1, 80);
    for (size_t i = 0; i < TOOL.row_count; i++) {
        char flag[32];
        snprintf(flag, sizeof flag, "--%s", ROWS[i].name);
        ck_assert_ptr_nonnull(strstr(all, flag));
    }
    ck_assert_ptr_nonnull(strstr(all, "[default 7; 1 to 9]"));
    ck_assert_ptr_nonnull(strstr(all, "[default two; one of one, two, three]"));
    ck_assert_ptr_nonnull(strstr(all, "Examples: none."));
    ck_assert_ptr_null(strstr(go, "--real"));
    ck_assert_ptr_nonnull(strstr(stop, "--real"));
    ck_assert_ptr_nonnull(strstr(stop, "Really."));
    free(all);
    free(go);
    free(stop);
}
END_TEST

/* Nothing to break at. */
static bool is_one_word(const char *line)
{
    return strchr(line + strspn(line, " "), ' ') == NULL;
}

START_TEST(the_tools_help_fits_its_width)
{
    static const size_t WIDTHS[] = {60, 80, 100};
    for (size_t w = 0; w < 3; w++) {
        for (int tool = 0; tool < 2; tool++) {
            fc_arg_tool plain = tool == 0 ? FC_BENCH_TOOL : FC_CTL_TOOL;
            if (WIDTHS[w] < 80)
                plain.closing = NULL; /* printed as it is */
            char *text = help_of(&plain, -1, WIDTHS[w]), *rest = NULL;
            ck_assert_ptr_nonnull(strstr(text, "Usage: "));
            for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
                ck_assert_msg(strlen(line) <= WIDTHS[w] || is_one_word(line), "\"%s\" is longer than %zu", line,
                              WIDTHS[w]);
            free(text);
        }
    }
}
END_TEST

/* A heading is a line that begins at the margin and ends in a colon. */
START_TEST(the_tools_help_has_each_heading_once)
{
    for (int tool = 0; tool < 2; tool++) {
        char *text = help_of(tool == 0 ? &FC_BENCH_TOOL : &FC_CTL_TOOL, -1, 80), *end;
        for (char *line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            char heading[64];
            size_t bytes = (size_t)(end - line);
            if (bytes < 2 || bytes + 2 > sizeof heading || line[0] == ' ' || end[-1] != ':')
                continue;
            snprintf(heading, sizeof heading, "\n%.*s", (int)bytes + 1, line);
            ck_assert_msg(strstr(end, heading) == NULL, "two headings \"%s\"", heading + 1);
        }
        free(text);
    }
}
END_TEST

START_TEST(choices_by_index)
{
    char word[16];
    fc_args_choice("one|two|", 1, word, sizeof word);
    ck_assert_str_eq(word, "two");
    fc_args_choice("one|two|", 2, word, sizeof word);
    ck_assert_str_eq(word, "");
    fc_args_choice("one|two", -1, word, sizeof word);
    ck_assert_str_eq(word, "");
}
END_TEST

/* --- the tools' own rules -------------------------------------------------------------------------------------- */

static const struct {
    const char *words[WORDS_MAX];
    const char *reason; /* NULL: fine */
} BENCH_LINES[] = {
    {{NULL}, NULL},
    {{"--rate", "100", "--arrival", "poisson"}, NULL},
    {{"--arrival", "poisson"}, "--arrival"},
    {{"--op", "ping", "--inflight", "2"}, "--inflight"},
    {{"--op", "ping", "--verify"}, "--verify"},
    {{"--shape", "1,8,512,64", "--kv-heads", "3"}, "8 query heads are no multiple of 3"},
    {{"--shape", "2,8,512,64", "--kv-len", "1,2,3"}, "3 numbers for a batch of 2"},
    {{"--shape", "100000,100000,100000,256"}, "--shape"},
    {{"--window", "-1,128", "--causal", "bottom_right"}, NULL},
    {{"--window", "-2,0"}, "--window"},
    {{"word"}, "unexpected word"},
};

START_TEST(bench_lines)
{
    static fc_bench_options options;
    fc_reason reason = {""};
    char *argv[WORDS_MAX + 2] = {(char *)"bench_client"};
    int argc = 1;
    for (; argc <= WORDS_MAX && BENCH_LINES[_i].words[argc - 1] != NULL; argc++)
        argv[argc] = (char *)BENCH_LINES[_i].words[argc - 1];
    fc_args_outcome outcome = fc_bench_options_parse(argc, argv, &options, &reason);
    if (BENCH_LINES[_i].reason == NULL) {
        ck_assert_msg(outcome == FC_ARGS_RUN, "%s", reason.text);
        return;
    }
    ck_assert_int_eq(outcome, FC_ARGS_WRONG);
    ck_assert_msg(strstr(reason.text, BENCH_LINES[_i].reason) != NULL, "%s", reason.text);
}
END_TEST

START_TEST(bench_defaults_are_the_benchmark_problem)
{
    static fc_bench_options o;
    fc_reason reason = {""};
    char *argv[] = {(char *)"bench_client", NULL};
    unsetenv("FLASHCORE_URL");
    ck_assert_int_eq(fc_bench_options_parse(1, argv, &o, &reason), FC_ARGS_RUN);
    ck_assert_uint_eq(o.shape.batch, 1);
    ck_assert_uint_eq(o.shape.q_heads, 8);
    ck_assert_uint_eq(o.shape.kv_heads, 8);
    ck_assert_uint_eq(o.shape.q_len, 512);
    ck_assert_uint_eq(o.shape.kv_tokens, 512);
    ck_assert_uint_eq(o.shape.head_dim, 64);
    ck_assert_int_eq(o.shape.dtype, FC_F16);
    ck_assert(isnan(o.shape.scale));
    ck_assert(!o.shape.has_kv_lens);
    ck_assert_uint_eq(o.clients, 1);
    ck_assert_uint_eq(o.inflight, 1);
    ck_assert_str_eq(o.urls.items[0], "ipc:///run/flashcored/flashcored.sock");
    setenv("FLASHCORE_URL", "ipc:///a,tcp://b:1", 1);
    ck_assert_int_eq(fc_bench_options_parse(1, argv, &o, &reason), FC_ARGS_RUN);
    ck_assert_uint_eq(o.urls.count, 2);
    ck_assert_str_eq(o.urls.items[1], "tcp://b:1");
}
END_TEST

static const struct {
    const char *words[WORDS_MAX];
    const char *reason;
} CTL_LINES[] = {
    {{"ping"}, NULL},
    {{"--url", "ipc:///x", "ping", "--count", "3"}, NULL},
    {{"attend", "--q", "q", "--k", "k"}, "--v is missing"},
    {{"attend", "--q", "q", "--k", "k", "--v", "v"}, "--out is missing"},
    {{"compare", "--kernel", "cpu"}, "expected two --kernel, found 1"},
    {{"compare", "--kernel", "cpu", "--kernel", "vec", "--q", "q"}, "--k is missing"},
    {{"compare", "--kernel", "cpu", "--kernel", "vec"}, NULL},
    {{"stats", "--watch", "--json"}, "--watch"},
    {{"info", "--watch"}, "--watch is not an option of info"},
    {{"attend", "--shape", "1,1,1,8"}, "--shape is not an option of attend"},
};

START_TEST(ctl_lines)
{
    static fc_ctl_options options;
    fc_reason reason = {""};
    int command;
    char *argv[WORDS_MAX + 2] = {(char *)"flashcorectl"};
    int argc = 1;
    for (; argc <= WORDS_MAX && CTL_LINES[_i].words[argc - 1] != NULL; argc++)
        argv[argc] = (char *)CTL_LINES[_i].words[argc - 1];
    fc_args_outcome outcome = fc_ctl_options_parse(argc, argv, &options, &command, &reason);
    if (CTL_LINES[_i].reason == NULL) {
        ck_assert_msg(outcome == FC_ARGS_RUN, "%s", reason.text);
        return;
    }
    ck_assert_int_eq(outcome, FC_ARGS_WRONG);
    ck_assert_msg(strstr(reason.text, CTL_LINES[_i].reason) != NULL, "%s", reason.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool_args");
    TCase *tests = tcase_create("lines");
    tcase_add_test(tests, values_and_defaults_arrive);
    tcase_add_loop_test(tests, mistakes_say_what_was_expected, 0, sizeof WRONG / sizeof WRONG[0]);
    tcase_add_test(tests, help_and_version_win);
    tcase_add_test(tests, help_shows_every_row_its_range_and_its_default);
    tcase_add_test(tests, the_tools_help_fits_its_width);
    tcase_add_test(tests, the_tools_help_has_each_heading_once);
    tcase_add_test(tests, choices_by_index);
    tcase_add_loop_test(tests, bench_lines, 0, sizeof BENCH_LINES / sizeof BENCH_LINES[0]);
    tcase_add_test(tests, bench_defaults_are_the_benchmark_problem);
    tcase_add_loop_test(tests, ctl_lines, 0, sizeof CTL_LINES / sizeof CTL_LINES[0]);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
