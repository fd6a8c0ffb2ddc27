/* daemon/engine_open: which engine a wish leads to, and what is said when it cannot be had. The loader is our own: it
 * hands out engines the test makes up.
 */
#include "daemon/engine_open.h"

#include "daemon/engine_loader.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool has_cuda_object, has_gpu, has_baseline_only;
    int open_count, close_count, load_count;
    fc_engine_config config;
} world;

static fc_status open_engine(const fc_engine_config *config, fc_engine **out_engine, fc_reason *out_reason)
{
    static char engine;
    (void)out_reason;
    world.open_count++;
    world.config = *config;
    *out_engine = (fc_engine *)&engine;
    return FC_OK;
}

static fc_status open_gpu(const fc_engine_config *config, fc_engine **out_engine, fc_reason *out_reason)
{
    if (!world.has_gpu)
        return fc_fail(FC_UNSUPPORTED, out_reason, "no GPU");
    return open_engine(config, out_engine, out_reason);
}

static void close_engine(fc_engine *engine)
{
    ck_assert_ptr_nonnull(engine);
    world.close_count++;
}

static void describe(fc_engine_info *out_info, fc_engine_kind kind)
{
    memset(out_info, 0, sizeof *out_info);
    snprintf(out_info->device_name, sizeof out_info->device_name, "a %s", kind == FC_ENGINE_CPU ? "cpu" : "gpu");
    for (int k = 0; k < FC_KERNEL_COUNT; k++)
        out_info->has_kernel[k] =
            fc_kernel_engine((fc_kernel)k) == kind && !(k > FC_KERNEL_BASELINE && world.has_baseline_only);
}

static void describe_cpu(const fc_engine *engine, fc_engine_info *out_info)
{
    (void)engine;
    describe(out_info, FC_ENGINE_CPU);
}

static void describe_gpu(const fc_engine *engine, fc_engine_info *out_info)
{
    (void)engine;
    describe(out_info, FC_ENGINE_CUDA);
}

static const fc_engine_ops CPU = {.name = "cpu", .open = open_engine, .close = close_engine, .describe = describe_cpu};
static const fc_engine_ops GPU = {.name = "cuda", .open = open_gpu, .close = close_engine, .describe = describe_gpu};

fc_status fc_engine_load(fc_engine_kind kind, const char *path, const fc_engine_ops **out_ops, fc_reason *out_reason)
{
    (void)path;
    world.load_count++;
    if (kind == FC_ENGINE_CUDA && !world.has_cuda_object)
        return fc_fail(FC_UNSUPPORTED, out_reason, "no object");
    *out_ops = kind == FC_ENGINE_CPU ? &CPU : &GPU;
    return FC_OK;
}

#define AUTO FC_ENGINE_CHOICE_AUTO
static const struct {
    bool has_cuda_object, has_gpu, has_baseline_only;
    fc_engine_choice engine;
    fc_kernel kernel;
    const char *opened, *reason; /* the engine, or NULL and the complaint */
} ROWS[] = {
    {1, 1, 0, AUTO, FC_KERNEL_AUTO, "cuda", NULL},
    {1, 0, 0, AUTO, FC_KERNEL_AUTO, "cpu", NULL},
    {0, 0, 0, AUTO, FC_KERNEL_AUTO, "cpu", NULL},
    {1, 1, 0, AUTO, FC_KERNEL_CPU, "cpu", NULL},
    {1, 1, 0, AUTO, FC_KERNEL_VEC, "cuda", NULL},
    {1, 0, 0, AUTO, FC_KERNEL_VEC, NULL, "no GPU"},
    {0, 0, 0, AUTO, FC_KERNEL_VEC, NULL, "no object"},
    {1, 1, 1, AUTO, FC_KERNEL_VEC, NULL, "kernel: the cuda engine here has no vec, it has: baseline"},
    {1, 1, 0, FC_ENGINE_CHOICE_CPU, FC_KERNEL_AUTO, "cpu", NULL},
    {1, 1, 0, FC_ENGINE_CHOICE_CPU, FC_KERNEL_VEC, NULL, "kernel: vec runs on the cuda engine, but --engine is cpu"},
    {1, 1, 0, FC_ENGINE_CHOICE_CUDA, FC_KERNEL_AUTO, "cuda", NULL},
    {0, 0, 0, FC_ENGINE_CHOICE_CUDA, FC_KERNEL_AUTO, NULL, "no object"},
    {1, 0, 0, FC_ENGINE_CHOICE_CUDA, FC_KERNEL_AUTO, NULL, "no GPU"},
    {1, 1, 0, FC_ENGINE_CHOICE_CUDA, FC_KERNEL_CPU, NULL, "kernel: cpu runs on the cpu engine, but --engine is cuda"},
};

static fc_options make_options(fc_engine_choice engine, fc_kernel kernel)
{
    fc_options options;
    fc_options_defaults(&options);
    options.engine = engine;
    options.kernel = kernel;
    options.device_index = 3;
    options.cpu_threads = 5;
    options.lane_staging_bytes = 7 << 20;
    options.batch_entries = 9;
    return options;
}

START_TEST(the_wish_decides)
{
    memset(&world, 0, sizeof world);
    world.has_cuda_object = ROWS[_i].has_cuda_object;
    world.has_gpu = ROWS[_i].has_gpu;
    world.has_baseline_only = ROWS[_i].has_baseline_only;
    fc_options options = make_options(ROWS[_i].engine, ROWS[_i].kernel);
    fc_opened_engine opened = {0};
    fc_reason reason = {""};
    fc_status st = fc_engine_open(&options, &opened, &reason);
    ck_assert_int_eq(st == FC_OK, ROWS[_i].opened != NULL);
    if (st == FC_OK) {
        ck_assert_str_eq(opened.ops->name, ROWS[_i].opened);
        ck_assert_int_eq(world.open_count - world.close_count, 1);
        ck_assert_int_eq(world.config.device_index, 3);
        ck_assert_int_eq(world.config.thread_count, 5);
        ck_assert_uint_eq(world.config.lane_staging_bytes, 7 << 20);
        ck_assert_uint_eq(world.config.lane_segments, 9);
    } else {
        ck_assert_str_eq(reason.text, ROWS[_i].reason);
        ck_assert_int_eq(world.open_count, world.close_count);
        ck_assert_ptr_null(opened.engine);
    }
}
END_TEST

START_TEST(a_fallback_is_one_line_that_says_why)
{
    int ends[2];
    char line[512];
    ck_assert_int_eq(pipe(ends), 0);
    fc_log_start(ends[1], FC_LOG_INFO);
    memset(&world, 0, sizeof world);
    fc_options options = make_options(AUTO, FC_KERNEL_AUTO);
    fc_opened_engine opened;
    fc_reason reason;
    ck_assert_int_eq(fc_engine_open(&options, &opened, &reason), FC_OK);
    close(ends[1]);
    ssize_t bytes = read(ends[0], line, sizeof line - 1);
    ck_assert_int_gt(bytes, 0);
    line[bytes] = '\0';
    ck_assert_ptr_nonnull(strstr(line, " level=info event=engine_fallback from=cuda to=cpu reason=\"no object\"\n"));
    ck_assert_ptr_eq(strchr(line, '\n'), line + bytes - 1);
    close(ends[0]);
}
END_TEST

static const char *listed(bool has_gpu)
{
    static char text[4096];
    memset(&world, 0, sizeof world);
    world.has_cuda_object = true;
    world.has_gpu = has_gpu;
    fc_options options = make_options(AUTO, FC_KERNEL_AUTO);
    FILE *out = fmemopen(text, sizeof text, "w");
    fc_engine_list_kernels(out, &options);
    fclose(out);
    ck_assert_int_eq(world.open_count, world.close_count);
    return text;
}

static const char *capability_of(fc_kernel kernel)
{
    if (fc_kernel_engine(kernel) == FC_ENGINE_CPU)
        return "-";
    return fc_kernel_limits_of(kernel).capability_most == INT32_MAX ? ">= 8.0" : "9.x";
}

START_TEST(the_list_names_every_kernel_and_what_is_missing)
{
    for (int has_gpu = 0; has_gpu < 2; has_gpu++) {
        const char *text = listed(has_gpu);
        for (int k = 0; k < FC_KERNEL_COUNT; k++) {
            fc_kernel kernel = (fc_kernel)k;
            char row[64];
            bool is_available = fc_kernel_engine(kernel) == FC_ENGINE_CPU || has_gpu;
            snprintf(row, sizeof row, "%-10s %-7s %-10s %-11s ", fc_kernel_name(kernel),
                     fc_kernel_engine(kernel) == FC_ENGINE_CPU ? "cpu" : "cuda", is_available ? "yes" : "no",
                     capability_of(kernel));
            ck_assert_msg(strstr(text, row) != NULL, "%s in\n%s", row, text);
            ck_assert_ptr_nonnull(strstr(text, fc_kernel_idea(kernel)));
        }
        ck_assert_ptr_nonnull(strstr(text, has_gpu ? "cuda engine: a gpu" : "cuda engine: none: no GPU"));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_open");
    TCase *wishes = tcase_create("wishes");
    tcase_add_loop_test(wishes, the_wish_decides, 0, (int)(sizeof ROWS / sizeof ROWS[0]));
    tcase_add_test(wishes, a_fallback_is_one_line_that_says_why);
    tcase_add_test(wishes, the_list_names_every_kernel_and_what_is_missing);
    suite_add_tcase(suite, wishes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
