/* Engines that are there, absent, broken, foreign or of another version: each says so in one line. The shared objects
 * are made by the compiler at hand; without one those rows are left out.
 */
#include "daemon/engine_loader.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char directory[64];

static void make_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/fc-loader-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

/* Compiles source to a shared object. False: there is no compiler. */
static bool build_object(const char *name, const char *source)
{
    char command[512];
    snprintf(command, sizeof command, "cc -I. -shared -fPIC -x c -o %s - 2>/dev/null", path_of(name));
    FILE *compiler = popen(command, "w");
    ck_assert_ptr_nonnull(compiler);
    fputs(source, compiler);
    return pclose(compiler) == 0;
}

START_TEST(the_cpu_is_always_there)
{
    const fc_engine_ops *ops = NULL;
    fc_reason reason = {""};
    ck_assert_int_eq(fc_engine_load(FC_ENGINE_CPU, NULL, &ops, &reason), FC_OK);
    ck_assert_str_eq(ops->name, "cpu");
    ck_assert_uint_eq(ops->abi_version, FC_ENGINE_ABI_VERSION);
}
END_TEST

START_TEST(what_cannot_be_loaded_says_why)
{
    static const struct {
        const char *file, *source, *names;
    } rows[] = {
        {"absent.so", NULL, "absent.so"},
        {"text.so", "", "text.so"},
        {"foreign.so", "int unrelated;", "has no flashcore_engine_cuda"},
        {"nothing.so", "void *flashcore_engine_cuda(void) { return 0; }", "has no flashcore_engine_cuda"},
        {"old.so",
         "#include \"kernels/engine.h\"\n"
         "static const fc_engine_ops ops = {.abi_version = FC_ENGINE_ABI_VERSION + 1, .name = \"cuda\"};\n"
         "const fc_engine_ops *flashcore_engine_cuda(void);\n"
         "const fc_engine_ops *flashcore_engine_cuda(void) { return &ops; }\n",
         "version"},
    };
    make_directory();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const fc_engine_ops *ops = NULL;
        fc_reason reason = {""};
        const char *source = rows[i].source;
        if (source != NULL && source[0] == '\0') {
            FILE *file = fopen(path_of(rows[i].file), "w");
            ck_assert_ptr_nonnull(file);
            fputs("this is no shared object\n", file);
            fclose(file);
        } else if (source != NULL && !build_object(rows[i].file, source)) {
            continue;
        }
        fc_status st = fc_engine_load(FC_ENGINE_CUDA, path_of(rows[i].file), &ops, &reason);
        ck_assert_msg(st == FC_UNSUPPORTED && ops == NULL && strstr(reason.text, rows[i].names) != NULL &&
                          strchr(reason.text, '\n') == NULL,
                      "%s: %s, \"%s\"", rows[i].file, fc_status_name(st), reason.text);
    }
    remove_directory();
}
END_TEST

START_TEST(a_good_object_gives_its_table)
{
    const fc_engine_ops *ops = NULL;
    fc_reason reason = {""};
    make_directory();
    if (build_object("good.so",
                     "#include \"kernels/engine.h\"\n"
                     "static const fc_engine_ops ops = {.abi_version = FC_ENGINE_ABI_VERSION, .name = \"cuda\"};\n"
                     "const fc_engine_ops *flashcore_engine_cuda(void);\n"
                     "const fc_engine_ops *flashcore_engine_cuda(void) { return &ops; }\n")) {
        ck_assert_msg(fc_engine_load(FC_ENGINE_CUDA, path_of("good.so"), &ops, &reason) == FC_OK, "%s", reason.text);
        ck_assert_str_eq(ops->name, "cuda");
    }
    remove_directory();
}
END_TEST

START_TEST(searching_names_both_places)
{
    const fc_engine_ops *ops = NULL;
    fc_reason reason = {""};
    /* The test program's own folder holds no engine. */
    ck_assert_int_eq(fc_engine_load(FC_ENGINE_CUDA, "", &ops, &reason), FC_UNSUPPORTED);
    ck_assert_msg(strstr(reason.text, FC_ENGINE_CUDA_FILE) != NULL, "%s", reason.text);
    ck_assert_msg(strstr(reason.text, "beside the program") != NULL || strstr(reason.text, "/") != NULL, "%s",
                  reason.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_loader");
    TCase *loading = tcase_create("loading");
    tcase_set_timeout(loading, 60);
    tcase_add_test(loading, the_cpu_is_always_there);
    tcase_add_test(loading, what_cannot_be_loaded_says_why);
    tcase_add_test(loading, a_good_object_gives_its_table);
    tcase_add_test(loading, searching_names_both_places);
    suite_add_tcase(suite, loading);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
