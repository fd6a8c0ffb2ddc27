/* The `cpu` kernel for tests/bench/cpu_vs_torch.py: one handle, contiguous bhsd tensors, no daemon. */
#include "kernels/cpu.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT fc_cpu *bench_open(int32_t isa, int32_t threads);
EXPORT void bench_close(fc_cpu *cpu);
EXPORT const char *bench_isa_name(int32_t isa);
EXPORT int bench_run(fc_cpu *cpu, const int32_t *sides, float scale, const void *const *inputs, void *out, float *lse);

/* isa: an fc_cpu_isa_id, or -1 for the best. NULL: unsupported. */
fc_cpu *bench_open(int32_t isa, int32_t threads)
{
    fc_cpu_config config = {.isa = isa < 0 ? FC_CPU_BEST : (fc_cpu_isa_id)isa, .thread_count = threads};
    fc_cpu *cpu = NULL;
    return fc_cpu_create(&config, &cpu) == FC_OK ? cpu : NULL;
}

void bench_close(fc_cpu *cpu)
{
    fc_cpu_destroy(cpu);
}

const char *bench_isa_name(int32_t isa)
{
    return fc_cpu_isa_name(isa < 0 ? fc_cpu_isa_best() : (fc_cpu_isa_id)isa);
}

/* sides: dtype, is_causal, batch, q_heads, kv_heads, q_len, kv_len, head_dim; inputs: q, k, v. Includes what a lane
 * does for a request: checks, plan and segments. batch is 1 to 16. */
int bench_run(fc_cpu *cpu, const int32_t *sides, float scale, const void *const *inputs, void *out, float *lse)
{
    const fc_device device = {.engine = FC_ENGINE_CPU, .processor_count = 2};
    fc_problem problem = {.dtype = (fc_dtype)sides[0],
                          .causal = sides[1] ? FC_CAUSAL_TOP_LEFT : FC_CAUSAL_NONE,
                          .batch = sides[2],
                          .q_heads = sides[3],
                          .kv_heads = sides[4],
                          .q_len = sides[5],
                          .kv_len = sides[6],
                          .head_dim = sides[7],
                          .window_left = -1,
                          .window_right = -1,
                          .scale = scale};
    fc_tensors tensors = {.q = inputs[0], .k = inputs[1], .v = inputs[2], .out = out, .lse = lse};
    fc_segment segments[16];
    fc_plan plan;
    if (problem.batch > 16)
        return FC_TOO_LARGE;
    tensors.q_strides = fc_strides_contiguous(FC_BHSD, problem.q_heads, problem.q_len, problem.head_dim);
    tensors.k_strides = fc_strides_contiguous(FC_BHSD, problem.kv_heads, problem.kv_len, problem.head_dim);
    tensors.v_strides = tensors.k_strides;
    tensors.out_strides = tensors.q_strides;
    fc_status st = fc_plan_make(&device, FC_KERNEL_CPU, &problem, &plan, NULL);
    if (st != FC_OK)
        return st;
    fc_problem_segments(&problem, &plan, &tensors, segments);
    fc_launch launch = {
        .plan = plan, .segments = segments, .d_segments = segments, .segment_count = (uint32_t)problem.batch};
    return fc_cpu_run(cpu, &launch);
}
