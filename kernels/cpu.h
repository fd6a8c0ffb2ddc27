/* The `cpu` kernel: attention over segments in host memory, cache-blocked online softmax, SIMD chosen at run time,
 * OpenMP over the query blocks of all segments.
 *
 * Threads: one fc_cpu belongs to one caller at a time; it starts OpenMP threads of its own inside fc_cpu_run(). The ISA
 * functions: any thread. Lifetime: nothing of a launch is kept after fc_cpu_run() returns.
 */
#ifndef FC_KERNELS_CPU_H
#define FC_KERNELS_CPU_H

#include "kernels/attention.h"

/* The instruction sets this build knows, slowest first; FC_CPU_BEST means the last one the machine supports. Answers of
 * different ISAs differ in rounding; a server uses one. */
typedef enum fc_cpu_isa_id {
    FC_CPU_PORTABLE,
    FC_CPU_AVX2,   /* AVX2, FMA, F16C */
    FC_CPU_AVX512, /* AVX-512 F BW VL DQ */
    FC_CPU_AMX,    /* AVX-512 with BF16, and AMX tiles of bf16 */
    FC_CPU_ISA_COUNT,
    FC_CPU_BEST = FC_CPU_ISA_COUNT
} fc_cpu_isa_id;

/* "avx512"; "unknown" outside the enum. Static string. */
const char *fc_cpu_isa_name(fc_cpu_isa_id isa);

/* Can this machine and this process run it? For AMX this asks the kernel for the tile registers, once a process. */
bool fc_cpu_isa_is_supported(fc_cpu_isa_id isa);

/* The last one that is supported: what FC_CPU_BEST stands for. */
fc_cpu_isa_id fc_cpu_isa_best(void);

#define FC_CPU_THREADS_MAX 1024

typedef struct fc_cpu fc_cpu;

typedef struct fc_cpu_config {
    fc_cpu_isa_id isa;    /* FC_CPU_BEST, or one that is supported */
    int32_t thread_count; /* 1 to FC_CPU_THREADS_MAX; threads of one launch. A build without OpenMP uses one whatever
                             this says. */
} fc_cpu_config;

/* FC_INVALID_ARGUMENT: thread_count; FC_UNSUPPORTED: the machine lacks the ISA; FC_NO_MEMORY. */
fc_status fc_cpu_create(const fc_cpu_config *config, fc_cpu **out_cpu);
void fc_cpu_destroy(fc_cpu *cpu); /* NULL is fine */

/* Runs a launch on launch->segments and returns when every output is written. Uses plan.dtype and plan.head_dim; which
 * thread does what follows from the lengths, and no output bit depends on it. Segments may have any alignment and any
 * strides whose outputs do not overlap; their lse may be NULL here, then it is dropped. FC_NO_MEMORY: scratch, which
 * grows with the head_dim and with the number of query blocks and is kept for the next launch; nothing was written. */
fc_status fc_cpu_run(fc_cpu *cpu, const fc_launch *launch);

#endif
