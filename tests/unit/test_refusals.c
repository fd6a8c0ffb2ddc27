/* daemon/refusals: however many there are, the log has a few. */
#include "daemon/refusals.h"

#include "daemon/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COUNT = 400 };

static unsigned count_lines(int fd, const char *event)
{
    static char text[1 << 16];
    ssize_t bytes = read(fd, text, sizeof text - 1);
    unsigned lines = 0;
    text[bytes > 0 ? bytes : 0] = '\0';
    for (const char *at = text; (at = strstr(at, event)) != NULL; at++)
        lines++;
    return lines;
}

/* Two seconds' worth: one may begin meanwhile. */
START_TEST(a_flood_is_a_few_lines)
{
    int ends[2];
    unsetenv("JOURNAL_STREAM");
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    fc_log_start(ends[1], FC_LOG_INFO);
    for (uint64_t i = 0; i < COUNT; i++)
        fc_refusals_log_cut(i, "reads no replies");
    unsigned lines = count_lines(ends[0], "event=peer_cut");
    ck_assert_uint_ge(lines, 1);
    ck_assert_uint_le(lines, 8);
    for (uint64_t i = 0; i < COUNT; i++)
        fc_refusals_log_accept(EMFILE);
    lines = count_lines(ends[0], "event=accept_failed");
    ck_assert_uint_ge(lines, 1);
    ck_assert_uint_le(lines, 2);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("refusals");
    TCase *core = tcase_create("core");
    tcase_add_test(core, a_flood_is_a_few_lines);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
