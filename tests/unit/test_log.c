/* daemon/log: what a line looks like, that a peer's text cannot forge one, and when journald's form is used. */
#include "daemon/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int ends[2];
static char got[2 * FC_LOG_LINE_BYTES];

static void open_pipe(void)
{
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    unsetenv("JOURNAL_STREAM");
}

static void close_pipe(void)
{
    close(ends[0]);
    close(ends[1]);
}

/* What was logged since the last call, "" for nothing. */
static const char *logged(void)
{
    ssize_t bytes = read(ends[0], got, sizeof got - 1);
    got[bytes > 0 ? bytes : 0] = '\0';
    return got;
}

/* The line behind its time, which no test can know. */
static const char *logged_behind_time(void)
{
    const char *line = logged();
    double seconds;
    int used = 0;
    ck_assert_int_eq(sscanf(line, "t=%lf %n", &seconds, &used), 1);
    ck_assert(seconds >= 0 && seconds < 3600);
    return line + used;
}

static const struct {
    const char *text, *written;
} QUOTED[] = {
    {"plain-word_1.5/x:y,z", "plain-word_1.5/x:y,z"},
    {"", "\"\""},
    {NULL, "\"\""},
    {"two words", "\"two words\""},
    {"a=b", "\"a=b\""},
    {"say \"hi\"", "\"say \\\"hi\\\"\""},
    {"back\\slash", "\"back\\\\slash\""},
    {"x\nt=0.1 level=error event=forged", "\"x\\nt=0.1 level=error event=forged\""},
    {"\r\t\x1b[31m\x7f\xff", "\"\\x0d\\x09\\x1b[31m\\x7f\\xff\""},
};

START_TEST(text_is_quoted_where_it_needs_it)
{
    fc_log_start(ends[1], FC_LOG_INFO);
    fc_log(FC_LOG_INFO, "e", fc_log_text("k", QUOTED[_i].text));
    char want[256];
    snprintf(want, sizeof want, "level=info event=e k=%s\n", QUOTED[_i].written);
    ck_assert_str_eq(logged_behind_time(), want);
}
END_TEST

START_TEST(every_kind_of_field_is_written)
{
    fc_log_start(ends[1], FC_LOG_TRACE);
    fc_log(FC_LOG_TRACE, "event", fc_log_uint("u", UINT64_MAX), fc_log_int("i", INT64_MIN), fc_log_real("r", 0.25),
           (fc_log_field){.key = "none"}, fc_log_text("t", "x"));
    ck_assert_str_eq(logged_behind_time(),
                     "level=trace event=event u=18446744073709551615 i=-9223372036854775808 r=0.25 t=x\n");
    fc_log(FC_LOG_ERROR, "bare");
    ck_assert_str_eq(logged_behind_time(), "level=error event=bare\n");
}
END_TEST

START_TEST(the_level_decides_and_fields_are_not_evaluated)
{
    int evaluated = 0;
    fc_log_start(ends[1], FC_LOG_WARN);
    for (int level = 0; level < FC_LOG_LEVEL_COUNT; level++) {
        ck_assert_int_eq(fc_log_is_on((fc_log_level)level), level <= FC_LOG_WARN);
        fc_log((fc_log_level)level, "e", fc_log_int("n", evaluated++));
        ck_assert_int_eq(logged()[0] != '\0', level <= FC_LOG_WARN);
    }
    ck_assert_int_eq(evaluated, 2);
    fc_log_set_level(FC_LOG_DEBUG);
    ck_assert(fc_log_is_on(FC_LOG_DEBUG) && !fc_log_is_on(FC_LOG_TRACE));
}
END_TEST

START_TEST(a_long_line_is_cut_and_says_so)
{
    static char text[3 * FC_LOG_LINE_BYTES];
    memset(text, 'x', sizeof text - 1);
    text[5] = ' ';
    fc_log_start(ends[1], FC_LOG_INFO);
    fc_log(FC_LOG_INFO, "e", fc_log_text("k", text), fc_log_text("lost", "y"));
    const char *line = logged();
    size_t bytes = strlen(line);
    ck_assert_uint_lt(bytes, FC_LOG_LINE_BYTES);
    ck_assert_uint_gt(bytes, FC_LOG_LINE_BYTES - 8);
    ck_assert_str_eq(line + bytes - 4, "...\n");
    ck_assert_ptr_null(strstr(line, "lost"));
}
END_TEST

static void point_journal_stream_at(int fd, unsigned inode_offset)
{
    struct stat st;
    char text[64];
    ck_assert_int_eq(fstat(fd, &st), 0);
    snprintf(text, sizeof text, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino + inode_offset);
    setenv("JOURNAL_STREAM", text, 1);
}

START_TEST(the_journal_gets_priorities_and_no_time)
{
    static const char *const LINES[FC_LOG_LEVEL_COUNT] = {
        "<3>level=error event=e\n", "<4>level=warn event=e\n",  "<6>level=info event=e\n",
        "<7>level=debug event=e\n", "<7>level=trace event=e\n",
    };
    point_journal_stream_at(ends[1], 0);
    fc_log_start(ends[1], FC_LOG_TRACE);
    for (int level = 0; level < FC_LOG_LEVEL_COUNT; level++) {
        fc_log((fc_log_level)level, "e");
        ck_assert_str_eq(logged(), LINES[level]);
    }
}
END_TEST

START_TEST(another_stream_or_nonsense_is_not_the_journal)
{
    point_journal_stream_at(ends[1], 1);
    fc_log_start(ends[1], FC_LOG_INFO);
    fc_log(FC_LOG_INFO, "e");
    ck_assert_str_eq(logged_behind_time(), "level=info event=e\n");
    setenv("JOURNAL_STREAM", "nonsense", 1);
    fc_log_start(ends[1], FC_LOG_INFO);
    fc_log(FC_LOG_INFO, "e");
    ck_assert_str_eq(logged_behind_time(), "level=info event=e\n");
}
END_TEST

START_TEST(errno_survives_and_a_closed_stderr_is_harmless)
{
    fc_log_start(-1, FC_LOG_INFO);
    errno = ENOENT;
    fc_log(FC_LOG_INFO, "lost");
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

/* Without O_NONBLOCK, as a supervisor's pipe is: whoever reads it may have stopped to. Hangs when logging waits. */
START_TEST(a_full_stderr_loses_lines_and_waits_for_nobody)
{
    ck_assert_int_eq(fcntl(ends[1], F_SETFL, 0), 0);
    fc_log_start(ends[1], FC_LOG_INFO);
    for (int i = 0; i < 10000; i++)
        fc_log(FC_LOG_INFO, "many", fc_log_int("i", i));
    while (logged()[0] != '\0')
        ;
    fc_log(FC_LOG_INFO, "again");
    ck_assert_str_eq(logged_behind_time(), "level=info event=again\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *lines = tcase_create("lines");
    tcase_add_checked_fixture(lines, open_pipe, close_pipe);
    tcase_add_loop_test(lines, text_is_quoted_where_it_needs_it, 0, (int)(sizeof QUOTED / sizeof QUOTED[0]));
    tcase_add_test(lines, every_kind_of_field_is_written);
    tcase_add_test(lines, the_level_decides_and_fields_are_not_evaluated);
    tcase_add_test(lines, a_long_line_is_cut_and_says_so);
    tcase_add_test(lines, the_journal_gets_priorities_and_no_time);
    tcase_add_test(lines, another_stream_or_nonsense_is_not_the_journal);
    tcase_add_test(lines, errno_survives_and_a_closed_stderr_is_harmless);
    tcase_add_test(lines, a_full_stderr_loses_lines_and_waits_for_nobody);
    suite_add_tcase(suite, lines);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
