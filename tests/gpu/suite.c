/* See suite.h. A case is made once, its answer found once, and every kernel tried on it in turn. */
#include "tests/gpu/suite.h"

#include "kernels/cuda_launch.h"
#include "tests/gpu/report.h"
#include "tests/gpu/trial.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    ARENA_MIB = 3072,
    ARENA_SMALL_MIB = 256,
    COMPANY = 64,
    COMPANY_SMALL = 8,
    PRINTED_FAILURES = 25,
    PROGRESS_SECONDS = 5
};

typedef struct suite {
    const suite_options *options;
    device_arena arena;
    fc_device device;
    report report;
    double began, shown, fixture_seconds, kernel_seconds[FC_KERNEL_COUNT];
    int printed;
    bool is_cut_short;
} suite;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_trial(suite *s, const fixture *f, const fc_plan *plan, const char *label)
{
    char activity[128];
    trial t;
    snprintf(activity, sizeof activity, "%s %s%s", fc_kernel_name(plan->kernel), f->what.name, label);
    device_set_activity(activity);
    trial_run(f, &s->arena, &s->device, plan, s->options->is_small ? COMPANY_SMALL : COMPANY, &t);
    report_add(&s->report, plan->kernel, f->what.name, label, &t);
    if (!t.is_right && s->printed++ < PRINTED_FAILURES)
        printf("FAIL %s: %s\n", activity, t.wrong.text);
}

/* A plan as wished, unless the kernel cannot do it, or it is what was run already. */
static void run_wish(suite *s, const fixture *f, const fc_plan *chosen, const fc_plan_wish *wish)
{
    char label[48];
    fc_plan plan;
    if (fc_plan_make_as(&s->device, chosen->kernel, wish, &f->problem, &plan, NULL) != FC_OK)
        return;
    if (plan.variant == chosen->variant && plan.split_count == chosen->split_count &&
        plan.packed_heads == chosen->packed_heads)
        return;
    snprintf(label, sizeof label, " v%u s%u p%d", (unsigned)plan.variant, (unsigned)plan.split_count,
             (int)plan.packed_heads);
    run_trial(s, f, &plan, label);
}

static void run_wishes(suite *s, const fixture *f, const fc_plan *chosen)
{
    const uint32_t splits[] = {1, 2, 3, 7};
    const int32_t group = f->problem.q_heads / f->problem.kv_heads;
    const fc_plan_wish apart = {.variant = -1, .packed_heads = 1}, packed = {.variant = -1, .packed_heads = group};
    const fc_plan_wish both = {.variant = -1, .packed_heads = group, .split_count = 3};
    for (uint32_t v = 0; v < fc_kernel_variant_count(chosen->kernel); v++) {
        const fc_plan_wish wish = {.variant = (int32_t)v};
        run_wish(s, f, chosen, &wish);
    }
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        const fc_plan_wish wish = {.variant = -1, .split_count = splits[i]};
        run_wish(s, f, chosen, &wish);
    }
    run_wish(s, f, chosen, &apart);
    run_wish(s, f, chosen, &packed);
    run_wish(s, f, chosen, &both);
}

static void run_kernel(suite *s, const fixture *f, fc_kernel kernel)
{
    double began = now();
    fc_plan plan;
    fc_reason reason;
    fc_status st = fc_plan_make(&s->device, kernel, &f->problem, &plan, &reason);
    if (st == FC_UNSUPPORTED) {
        s->report.tallies[kernel].unsupported++;
        return;
    }
    if (st != FC_OK) {
        printf("FAIL %s %s: no plan: %s\n", fc_kernel_name(kernel), f->what.name, reason.text);
        s->report.tallies[kernel].failed++;
        return;
    }
    run_trial(s, f, &plan, "");
    if ((f->what.extras & EXTRA_WISHES) != 0)
        run_wishes(s, f, &plan);
    s->kernel_seconds[kernel] += now() - began;
}

static bool is_wanted(const suite_options *o, fc_kernel kernel)
{
    return fc_cuda_launch_find(kernel) != NULL && (o->only == FC_KERNEL_COUNT || o->only == kernel);
}

static void run_case(suite *s, const gpu_case *what, size_t index)
{
    double began = now();
    fixture f = {0};
    device_set_activity(what->name);
    fixture_init(&f, &s->arena, what, index + 1);
    s->fixture_seconds += now() - began;
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++) {
        if (is_wanted(s->options, (fc_kernel)kernel))
            run_kernel(s, &f, (fc_kernel)kernel);
    }
    fixture_fini(&f);
}

static void show_progress(suite *s, size_t done, size_t total)
{
    if (now() - s->shown < PROGRESS_SECONDS)
        return;
    s->shown = now();
    fprintf(stderr, "%5.0f s: case %zu of %zu, %d failures\n", s->shown - s->began, done, total,
            report_failures(&s->report));
}

static void run_table(suite *s)
{
    const suite_options *o = s->options;
    size_t count = case_count(), stride = o->seconds > 0 ? 1009 : 1; /* a prime: meets every case once */
    for (size_t i = 0; i < count && !s->is_cut_short; i++) {
        size_t index = i * stride % count;
        gpu_case what = case_at(index);
        if ((o->is_small && !what.is_small) || (o->substring != NULL && strstr(what.name, o->substring) == NULL))
            continue;
        run_case(s, &what, index);
        show_progress(s, i + 1, count);
        s->is_cut_short = o->seconds > 0 && now() - s->began > o->seconds;
    }
}

static void print_end(const suite *s)
{
    printf("%.1f s in all, %.1f s of them for problems and the reference%s\n", now() - s->began, s->fixture_seconds,
           s->is_cut_short ? "; cut short by --seconds" : "");
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++) {
        const report_tally *t = &s->report.tallies[kernel];
        if (is_wanted(s->options, (fc_kernel)kernel))
            printf("%s: %d trials, %d failed, %d cases unsupported, worst error %.2f of what is allowed, %.1f s\n",
                   fc_kernel_name((fc_kernel)kernel), t->run, t->failed, t->unsupported, t->worst,
                   s->kernel_seconds[kernel]);
    }
}

int suite_run(const suite_options *options)
{
    suite s = {.options = options, .began = now()};
    struct cudaDeviceProp properties;
    CUDA_OK(cudaGetDeviceProperties(&properties, 0));
    s.shown = s.began;
    s.device = (fc_device){.engine = FC_ENGINE_CUDA,
                           .compute_capability = properties.major * 10 + properties.minor,
                           .processor_count = properties.multiProcessorCount};
    device_arena_init(&s.arena, (size_t)(options->is_small ? ARENA_SMALL_MIB : ARENA_MIB) << 20);
    if (!report_open(&s.report, options->json_path))
        return 1;
    run_table(&s);
    bool is_whole = !options->is_small && options->substring == NULL && !s.is_cut_short;
    bool is_written = report_close(&s.report, properties.name, is_whole);
    device_arena_fini(&s.arena);
    print_end(&s);
    int run = 0;
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++)
        run += s.report.tallies[kernel].run;
    return report_failures(&s.report) + !is_written + (run == 0);
}
