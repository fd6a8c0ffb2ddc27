/* What a request costs this machine's memory and processors with no service around it: service_floors B,H,S,D...
 * [SECONDS]
 *
 *   memcpy      of one shape's inputs, into memory of the same process, from a set far larger than the caches
 *   cpu kernel  of each shape, on all threads the process may use, on tensors that lie where they are
 */
#include "kernels/cpu.h"
#include "tests/bench/floor.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sources of the copies: more than any cache holds. */
#define COLD_BYTES ((size_t)512 << 20)

/* --- memcpy ------------------------------------------------------------------------------------------------------- */

typedef struct copying {
    unsigned char *from, *to;
    size_t bytes, at;
} copying;

static bool copy_cold(void *context)
{
    copying *c = context;
    memcpy(c->to, c->from + c->at, c->bytes);
    c->at = c->at + 2 * c->bytes <= COLD_BYTES ? c->at + c->bytes : 0;
    return true;
}

static bool copy_warm(void *context)
{
    copying *c = context;
    memcpy(c->to, c->from, c->bytes);
    return true;
}

static void print_copies(const fc_problem *problem, double seconds)
{
    floor_times cold, warm;
    copying c = {.bytes = floor_q_bytes(problem) + 2 * floor_kv_bytes(problem)};
    if (c.bytes > COLD_BYTES / 2)
        floor_fail("memcpy", "the shape is too large for it");
    c.from = malloc(COLD_BYTES);
    c.to = malloc(c.bytes);
    if (c.from == NULL || c.to == NULL)
        floor_fail("memcpy", "out of memory");
    memset(c.from, 1, COLD_BYTES);
    memset(c.to, 1, c.bytes);
    floor_times_init(&cold);
    floor_times_init(&warm);
    floor_times_take(&cold, seconds, copy_cold, &c);
    floor_times_take(&warm, seconds, copy_warm, &c);
    printf("\"memcpy\": {\"bytes\": %zu, ", c.bytes);
    floor_times_print("cold", &cold);
    printf(", ");
    floor_times_print("warm", &warm);
    printf("}");
    floor_times_fini(&cold);
    floor_times_fini(&warm);
    free(c.from);
    free(c.to);
}

/* --- the cpu kernel ----------------------------------------------------------------------------------------------- */

typedef struct computing {
    fc_cpu *cpu;
    fc_launch launch;
} computing;

static bool compute(void *context)
{
    computing *c = context;
    return fc_cpu_run(c->cpu, &c->launch) == FC_OK;
}

static int32_t thread_count(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < FC_CPU_THREADS_MAX ? count : FC_CPU_THREADS_MAX;
}

static void print_kernel(const char *sides, const fc_problem *problem, int32_t threads, double seconds)
{
    size_t q_bytes = floor_q_bytes(problem), kv_bytes = floor_kv_bytes(problem);
    const fc_device device = {.engine = FC_ENGINE_CPU, .processor_count = threads};
    const fc_cpu_config config = {.isa = FC_CPU_BEST, .thread_count = threads};
    unsigned char *memory = aligned_alloc(64, (2 * q_bytes + 2 * kv_bytes + 63) / 64 * 64);
    fc_segment *segments = calloc((size_t)problem->batch, sizeof *segments);
    computing c = {.cpu = NULL};
    floor_times times;
    if (memory == NULL || segments == NULL || fc_cpu_create(&config, &c.cpu) != FC_OK ||
        fc_plan_make(&device, FC_KERNEL_CPU, problem, &c.launch.plan, NULL) != FC_OK)
        floor_fail("cpu kernel", "cannot be set up");
    floor_fill(memory, q_bytes + 2 * kv_bytes);
    fc_tensors tensors = floor_tensors(problem, memory);
    tensors.lse = NULL; /* nobody asks for it */
    fc_problem_segments(problem, &c.launch.plan, &tensors, segments);
    c.launch.segments = c.launch.d_segments = segments;
    c.launch.segment_count = (uint32_t)problem->batch;
    floor_times_init(&times);
    floor_times_take(&times, seconds, compute, &c);
    floor_times_print(sides, &times);
    floor_times_fini(&times);
    fc_cpu_destroy(c.cpu);
    free(segments);
    free(memory);
}

int main(int argc, char **argv)
{
    fc_problem problem;
    int32_t threads = thread_count();
    int shapes = argc - 1;
    double seconds = 0.3;
    if (argc > 2 && strchr(argv[argc - 1], ',') == NULL) {
        seconds = strtod(argv[argc - 1], NULL);
        shapes--;
    }
    if (shapes < 1 || !(seconds > 0)) {
        fprintf(stderr, "usage: service_floors B,H,S,D... [SECONDS]\n");
        return 2;
    }
    for (int i = 1; i <= shapes; i++) {
        if (!floor_problem(argv[i], &problem))
            floor_fail(argv[i], "not a problem's B,H,S,D");
        printf(i == 1 ? "{" : ", ");
        if (i == 1) {
            print_copies(&problem, seconds);
            printf(", \"cpu_threads\": %d, \"cpu_isa\": \"%s\", \"cpu_kernel\": {", (int)threads,
                   fc_cpu_isa_name(fc_cpu_isa_best()));
        }
        print_kernel(argv[i], &problem, threads, seconds);
    }
    printf("}}\n");
    return 0;
}
