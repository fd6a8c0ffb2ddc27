/* Says how the plan would run a problem, for the model (tests/sass/predict.py):
 *
 *     plan COMPUTE_CAPABILITY PROCESSORS KERNEL DTYPE BATCH Q_HEADS KV_HEADS Q_LEN KV_LEN HEAD_DIM
 *
 * prints "variant q_tile_rows packed_heads split_count". Exits with 1 and the reason where there is no plan. */
#include "kernels/attention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int32_t number(const char *text)
{
    return (int32_t)strtol(text, NULL, 10);
}

int main(int argc, char **argv)
{
    fc_kernel kernel;
    fc_plan plan;
    fc_reason reason;

    if (argc != 11 || !fc_kernel_from_name(argv[3], strlen(argv[3]), &kernel)) {
        fprintf(stderr, "plan: no such kernel, or not ten arguments\n");
        return 1;
    }
    const fc_device device = {
        .engine = FC_ENGINE_CUDA, .compute_capability = number(argv[1]), .processor_count = number(argv[2])};
    const fc_problem problem = {.dtype = strcmp(argv[4], "f32") == 0    ? FC_F32
                                         : strcmp(argv[4], "bf16") == 0 ? FC_BF16
                                                                        : FC_F16,
                                .batch = number(argv[5]),
                                .q_heads = number(argv[6]),
                                .kv_heads = number(argv[7]),
                                .q_len = number(argv[8]),
                                .kv_len = number(argv[9]),
                                .head_dim = number(argv[10]),
                                .window_left = -1,
                                .window_right = -1,
                                .scale = 0.125f};
    if (fc_plan_make(&device, kernel, &problem, &plan, &reason) != FC_OK) {
        fprintf(stderr, "plan: %s\n", reason.text);
        return 1;
    }
    printf("%u %u %d %u\n", plan.variant, plan.q_tile_rows, plan.packed_heads, plan.split_count);
    return 0;
}
