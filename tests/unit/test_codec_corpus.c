/* Replays what the fuzzers once found worth keeping, and every golden message, without a fuzzer. An input that broke
 * something stays in tests/fuzz/corpus for good. */
#include "tests/fuzz/entry.h"
#include "tests/support/golden.h"

#include <check.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct folder {
    const char *pattern;
    void (*entry)(const uint8_t *bytes, size_t size);
    size_t least; /* files there must be, lest an empty glob passes */
} folder;

static const folder FOLDERS[] = {
    {"tests/fuzz/corpus/request/*", fc_fuzz_request, 20},
    {"tests/fuzz/corpus/reply/*", fc_fuzz_reply, 20},
};

static void replay(const char *path, void (*entry)(const uint8_t *bytes, size_t size))
{
    static uint8_t bytes[1 << 17];
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "cannot read %s", path);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    ck_assert_uint_lt(size, sizeof bytes);
    fprintf(stderr, "%s\n", path); /* the last one named is the one that aborted */
    entry(bytes, size);
}

START_TEST(the_corpus_holds)
{
    glob_t found;
    ck_assert_msg(glob(FOLDERS[_i].pattern, 0, NULL, &found) == 0, "no %s here", FOLDERS[_i].pattern);
    ck_assert_uint_ge(found.gl_pathc, FOLDERS[_i].least);
    for (size_t i = 0; i < found.gl_pathc; i++)
        replay(found.gl_pathv[i], FOLDERS[_i].entry);
    globfree(&found);
}
END_TEST

START_TEST(golden_messages_hold)
{
    static fc_golden goldens[FC_GOLDEN_MAX];
    size_t count = fc_golden_load_all(goldens);
    for (size_t i = 0; i < count; i++) {
        fc_fuzz_request(goldens[i].bytes, goldens[i].size);
        fc_fuzz_reply(goldens[i].bytes, goldens[i].size);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codec_corpus");
    TCase *corpus = tcase_create("corpus");
    tcase_set_timeout(corpus, 60);
    tcase_add_loop_test(corpus, the_corpus_holds, 0, sizeof FOLDERS / sizeof FOLDERS[0]);
    tcase_add_test(corpus, golden_messages_hold);
    suite_add_tcase(suite, corpus);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
