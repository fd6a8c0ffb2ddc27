/* From --engine and --kernel to an open engine. */
#include "daemon/engine_open.h"

#include "daemon/engine_loader.h"
#include "daemon/service.h"

#include <string.h>

/* Columns of --list-kernels. */
#define LIST_FORMAT "%-10s %-7s %-10s %-11s %-13s %-9s %s\n"

static const char *engine_name(fc_engine_kind kind)
{
    return kind == FC_ENGINE_CUDA ? "cuda" : "cpu";
}

fc_status fc_engine_attempts(fc_engine_choice engine, fc_kernel kernel, fc_engine_attempt_list *out_attempts,
                             fc_reason *out_reason)
{
    fc_engine_attempt_list attempts = {.count = 1};
    if (engine == FC_ENGINE_CHOICE_AUTO && kernel == FC_KERNEL_AUTO) {
        attempts = (fc_engine_attempt_list){.count = 2, .kinds = {FC_ENGINE_CUDA, FC_ENGINE_CPU}};
    } else if (engine == FC_ENGINE_CHOICE_AUTO) {
        attempts.kinds[0] = fc_kernel_engine(kernel);
    } else {
        attempts.kinds[0] = engine == FC_ENGINE_CHOICE_CUDA ? FC_ENGINE_CUDA : FC_ENGINE_CPU;
        if (kernel != FC_KERNEL_AUTO && fc_kernel_engine(kernel) != attempts.kinds[0])
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kernel: %s runs on the %s engine, but --engine is %s",
                           fc_kernel_name(kernel), engine_name(fc_kernel_engine(kernel)),
                           engine_name(attempts.kinds[0]));
    }
    *out_attempts = attempts;
    return FC_OK;
}

/* Threads of the CPU engine: they are bound to where its lane is. */
static int32_t count_threads(const fc_options *options)
{
    fc_cpu_list cpus = {.count = 0};
    if (options->cpu_threads == 0)
        (void)fc_cpu_list_parse(options->lane_cpus, &cpus, NULL);
    return (int32_t)(cpus.count > 0 ? cpus.count : options->cpu_threads);
}

static fc_status open_kind(fc_engine_kind kind, const fc_options *options, fc_opened_engine *out_opened,
                           fc_reason *out_reason)
{
    fc_opened_engine opened = {.config = {.device_index = (int32_t)options->device_index,
                                          .thread_count = count_threads(options),
                                          .lane_staging_bytes = options->lane_staging_bytes,
                                          .lane_segments = (uint32_t)options->batch_entries,
                                          .lane_jobs = FC_BATCH_REQUESTS_MAX,
                                          .spin_us = (uint32_t)options->spin_us,
                                          .scrubs = options->scrub}};
    fc_status st = fc_engine_load(kind, options->cuda_engine, &opened.ops, out_reason);
    if (st != FC_OK)
        return st;
    st = opened.ops->open(&opened.config, &opened.engine, out_reason);
    if (st != FC_OK)
        return st;
    opened.ops->describe(opened.engine, &opened.info);
    *out_opened = opened;
    return FC_OK;
}

const char *fc_engine_kernel_list(const fc_engine_info *info, char text[FC_KERNEL_LIST_BYTES])
{
    text[0] = '\0';
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++) {
        size_t used = strlen(text);
        if (info->has_kernel[kernel])
            snprintf(text + used, FC_KERNEL_LIST_BYTES - used, "%s%s", used == 0 ? "" : ", ",
                     fc_kernel_name((fc_kernel)kernel));
    }
    return text;
}

static fc_status check_kernel(const fc_opened_engine *opened, fc_kernel kernel, fc_reason *out_reason)
{
    char kernels[FC_KERNEL_LIST_BYTES];
    if (kernel == FC_KERNEL_AUTO || opened->info.has_kernel[kernel])
        return FC_OK;
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kernel: the %s engine here has no %s, it has: %s",
                   opened->ops->name, fc_kernel_name(kernel), fc_engine_kernel_list(&opened->info, kernels));
}

fc_status fc_engine_open(const fc_options *options, fc_opened_engine *out_opened, fc_reason *out_reason)
{
    fc_engine_attempt_list attempts;
    fc_status st = fc_engine_attempts(options->engine, options->kernel, &attempts, out_reason);
    for (uint32_t i = 0; st == FC_OK && i < attempts.count; i++) {
        fc_reason why;
        fc_opened_engine opened;
        fc_status failed = open_kind(attempts.kinds[i], options, &opened, &why);
        if (failed == FC_OK) {
            st = check_kernel(&opened, options->kernel, out_reason);
            if (st == FC_OK)
                *out_opened = opened;
            else
                opened.ops->close(opened.engine);
            return st;
        }
        if (i + 1 == attempts.count)
            return fc_fail(failed, out_reason, "%s", why.text);
        fc_log(FC_LOG_INFO, "engine_fallback", fc_log_text("from", engine_name(attempts.kinds[i])),
               fc_log_text("to", engine_name(attempts.kinds[i + 1])), fc_log_text("reason", why.text));
    }
    return st;
}

/* "f16 bf16 f32" */
static const char *dtype_list(uint32_t dtypes, char *text, size_t text_bytes)
{
    text[0] = '\0';
    for (int i = 0; i < FC_DTYPE_COUNT; i++) {
        size_t used = strlen(text);
        if ((dtypes & 1u << i) != 0)
            snprintf(text + used, text_bytes - used, "%s%s", used == 0 ? "" : " ", fc_dtype_name((fc_dtype)i));
    }
    return text;
}

/* Compute capabilities: "-" on the CPU, ">= 8.0", "9.x". */
static const char *capability_text(const fc_kernel_limits *limits, char *text, size_t text_bytes)
{
    int major = limits->capability_least / 10, minor = limits->capability_least % 10;
    if (major == 0)
        snprintf(text, text_bytes, "-");
    else if (limits->capability_most == INT32_MAX)
        snprintf(text, text_bytes, ">= %d.%d", major, minor);
    else
        snprintf(text, text_bytes, "%d.x", major);
    return text;
}

static void list_kernel(FILE *out, fc_kernel kernel, bool is_available)
{
    char dtypes[32], capability[32], head_dims[32];
    fc_kernel_limits limits = fc_kernel_limits_of(kernel);
    snprintf(head_dims, sizeof head_dims, "%d..%d", (int)limits.head_dim_step, (int)limits.head_dim_most);
    fprintf(out, LIST_FORMAT, fc_kernel_name(kernel), engine_name(fc_kernel_engine(kernel)),
            is_available ? "yes" : "no", capability_text(&limits, capability, sizeof capability),
            dtype_list(limits.dtypes, dtypes, sizeof dtypes), head_dims, fc_kernel_idea(kernel));
}

void fc_engine_list_kernels(FILE *out, const fc_options *options)
{
    static const fc_engine_kind KINDS[] = {FC_ENGINE_CPU, FC_ENGINE_CUDA};
    fprintf(out, LIST_FORMAT, "KERNEL", "ENGINE", "AVAILABLE", "CAPABILITY", "DTYPES", "HEAD_DIM", "IDEA");
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++) {
        fc_opened_engine opened;
        fc_reason why = {""};
        fc_status st = open_kind(KINDS[i], options, &opened, &why);
        for (int k = 0; k < FC_KERNEL_COUNT; k++) {
            if (fc_kernel_engine((fc_kernel)k) == KINDS[i])
                list_kernel(out, (fc_kernel)k, st == FC_OK && opened.info.has_kernel[k]);
        }
        if (st == FC_OK) {
            fprintf(out, "  %s engine: %s; auto: %s\n", engine_name(KINDS[i]), opened.info.device_name,
                    opened.info.default_kernel == FC_KERNEL_AUTO ? "depends on the request"
                                                                 : fc_kernel_name(opened.info.default_kernel));
            opened.ops->close(opened.engine);
        } else {
            fprintf(out, "  %s engine: none: %s\n", engine_name(KINDS[i]), why.text);
        }
    }
}
