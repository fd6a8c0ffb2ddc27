/* See trial.h. */
#include "tests/gpu/trial.h"

#include "kernels/cuda_launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COMPANY_MAX = 64,
    SEGMENTS_MAX = COMPANY_MAX + CASE_BATCH_MAX,
    GUARD_BYTES = 4096,
    REPEATS = 1000,
    CHAINS = 25,
    LINKS = 6
};

/* Downloads of out and lse, guards included. */
typedef struct answer {
    char *out, *lse;
} answer;

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL)
        abort();
    return memory;
}

static answer answer_make(const fixture *f)
{
    return (answer){allocate(f->out.bytes), allocate(f->lse.bytes)};
}

static void answer_free(answer a)
{
    free(a.out);
    free(a.lse);
}

static bool same_bits(const fixture *f, answer a, answer b)
{
    return memcmp(a.out, b.out, f->out.bytes) == 0 && memcmp(a.lse, b.lse, f->lse.bytes) == 0;
}

/* --- a launch --------------------------------------------------------------------------------------------------- */

typedef struct launch {
    fc_launch launch;
    fc_segment segments[SEGMENTS_MAX];
    fc_segment *d_segments;
    char descriptors[SEGMENTS_MAX * FC_DESCRIPTOR_BYTES_MAX];
    size_t ticket_count;
    fc_status described;
} launch;

static void add_request(launch *l, const fc_plan *plan)
{
    l->launch.workspace_bytes += plan->workspace_bytes;
    l->ticket_count += plan->ticket_count;
}

/* A segment of the company: fewer queries of the same tensors, planned for themselves, answered into scratch memory. */
static void add_stranger(launch *l, const fixture *f, const fc_device *device, const fc_plan *like)
{
    const fc_plan_wish wish = {.variant = (int32_t)like->variant};
    uint32_t index = l->launch.segment_count;
    int32_t fewer = 1 + (int32_t)index * 5 % 40;
    fc_problem p = f->problem;
    fc_tensors t = fixture_device_tensors(f);
    fc_segment all[CASE_BATCH_MAX];
    fc_plan plan;
    p.q_len = p.q_len < fewer ? p.q_len : fewer;
    t.out = tensor_d_elements(&f->scratch_out);
    t.lse = tensor_d_elements(&f->scratch_lse);
    if (fc_plan_make_as(device, like->kernel, &wish, &p, &plan, NULL) != FC_OK || !fc_plan_can_share(like, &plan)) {
        p.q_len = f->problem.q_len;
        plan = *like;
    }
    fc_problem_segments(&p, &plan, &t, all);
    add_request(l, &plan); /* of the whole batch, more than one of its segments needs */
    l->segments[l->launch.segment_count++] = all[index % (uint32_t)p.batch];
}

static void fill_segments(launch *l, const fixture *f, const fc_tensors *t, const fc_device *device,
                          const fc_plan *plan, int company)
{
    fc_segment mine[CASE_BATCH_MAX];
    uint32_t batch = (uint32_t)f->problem.batch, apart = (uint32_t)company / (batch + 1);
    fc_problem_segments(&f->problem, plan, t, mine);
    add_request(l, plan);
    for (uint32_t b = 0; b < batch; b++) {
        while (company > 0 && l->launch.segment_count < (b + 1) * apart)
            add_stranger(l, f, device, plan);
        l->segments[l->launch.segment_count++] = mine[b];
    }
    while (l->launch.segment_count < (uint32_t)company)
        add_stranger(l, f, device, plan);
}

/* What fc_launch_index() gave out has to fit what the plans asked for. */
static bool fits_workspace(const launch *l)
{
    size_t partial = FC_PARTIAL_FLOATS((size_t)l->launch.plan.head_dim) * sizeof(float);
    for (uint32_t i = 0; i < l->launch.segment_count; i++) {
        const fc_segment *s = &l->segments[i];
        size_t bytes = s->split_count * (size_t)s->q_heads * (size_t)s->q_len * partial;
        if (s->split_count > 1 && s->workspace_offset + bytes > l->launch.workspace_bytes)
            return false;
    }
    return true;
}

/* The descriptors, where the plan asks for any. */
static fc_status describe(launch *l, device_arena *arena)
{
    fc_cuda_describer describer = fc_cuda_describe_find(l->launch.plan.kernel);
    size_t bytes = (size_t)l->launch.segment_count * l->launch.plan.descriptor_bytes;
    if (bytes == 0)
        return FC_OK;
    if (describer == NULL)
        return FC_INTERNAL;
    void *d_descriptors = device_arena_take(arena, bytes);
    fc_status st = describer(&l->launch, l->descriptors);
    if (st == FC_OK)
        CUDA_OK(cudaMemcpy(d_descriptors, l->descriptors, bytes, cudaMemcpyHostToDevice));
    l->launch.descriptors = l->descriptors;
    l->launch.d_descriptors = d_descriptors;
    return st;
}

/* Makes the launch of the fixture on these tensors, alone (company 0) or among others, and everything it needs on the
 * device. */
static void launch_init(launch *l, const fixture *f, const fc_tensors *t, device_arena *arena, const fc_device *device,
                        const fc_plan *plan, int company)
{
    memset(l, 0, sizeof *l);
    l->launch.plan = *plan;
    l->launch.segments = l->segments;
    fill_segments(l, f, t, device, plan, company);
    size_t segments_bytes = l->launch.segment_count * sizeof *l->segments;
    l->launch.block_count = fc_launch_index(plan, l->segments, l->launch.segment_count);
    l->d_segments = device_arena_take(arena, segments_bytes);
    l->launch.d_segments = l->d_segments;
    CUDA_OK(cudaMemcpy(l->d_segments, l->segments, segments_bytes, cudaMemcpyHostToDevice));
    l->launch.d_tickets = device_arena_take(arena, l->ticket_count * sizeof(uint32_t) + GUARD_BYTES);
    l->launch.d_workspace = device_arena_take(arena, l->launch.workspace_bytes + GUARD_BYTES);
    CUDA_OK(cudaMemset(l->launch.d_tickets, 0, l->ticket_count * sizeof(uint32_t) + GUARD_BYTES));
    l->described = describe(l, arena);
}

/* Bytes behind the workspace that changed, and tickets (or bytes behind them) that are not 0. */
static int64_t stray_bytes(const launch *l, unsigned char poison)
{
    size_t ticket_bytes = l->ticket_count * sizeof(uint32_t) + GUARD_BYTES;
    unsigned char *bytes = allocate(ticket_bytes > GUARD_BYTES ? ticket_bytes : GUARD_BYTES);
    int64_t stray = 0;
    CUDA_OK(cudaMemcpy(bytes, l->launch.d_tickets, ticket_bytes, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < ticket_bytes; i++)
        stray += bytes[i] != 0;
    CUDA_OK(cudaMemcpy(bytes, (char *)l->launch.d_workspace + l->launch.workspace_bytes, GUARD_BYTES,
                       cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < GUARD_BYTES; i++)
        stray += bytes[i] != poison;
    free(bytes);
    return stray;
}

static bool enqueue(const launch *l, cudaStream_t stream, trial *t)
{
    fc_status st = l->described;
    if (st == FC_OK)
        st = fc_cuda_launch_find(l->launch.plan.kernel)(&l->launch, stream);
    CUDA_OK(cudaPeekAtLastError());
    if (st == FC_OK)
        return true;
    fc_fail(st, &t->wrong, "the launch was refused: %s", fc_status_name(st));
    return false;
}

static void download(const fixture *f, answer to)
{
    CUDA_OK(cudaDeviceSynchronize());
    tensor_download(&f->out, to.out);
    tensor_download(&f->lse, to.lse);
}

/* Over poisoned outputs and a workspace full of `poison`. */
static bool run(const fixture *f, const launch *l, unsigned char poison, answer to, trial *t)
{
    tensor_poison(&f->out);
    tensor_poison(&f->lse);
    CUDA_OK(cudaMemset(l->launch.d_workspace, poison, l->launch.workspace_bytes + GUARD_BYTES));
    if (!enqueue(l, NULL, t))
        return false;
    download(f, to);
    t->run_count++;
    t->stray_count += stray_bytes(l, poison);
    t->stray_count += tensor_stray_bytes(&f->out, to.out) + tensor_stray_bytes(&f->lse, to.lse);
    return true;
}

/* --- the trial -------------------------------------------------------------------------------------------------- */

static bool compare(const fixture *f, answer first, answer again, const char *what, trial *t)
{
    bool is_same = same_bits(f, first, again);
    t->equal_count += is_same;
    if (!is_same)
        fc_fail(FC_INTERNAL, &t->wrong, "%s differs", what);
    return is_same;
}

static bool repeat(const fixture *f, const launch *l, answer first, answer again, trial *t)
{
    for (int i = 0; i < REPEATS; i++) {
        if (!enqueue(l, NULL, t))
            return false;
        download(f, again);
        t->run_count++;
        if (!compare(f, first, again, "one of the repeats", t))
            return false;
    }
    return true;
}

/* Attention whose query is the output of the one before, LINKS times, from the fixture's query to `to`: each launch on
 * the heels of the other, or alone. */
static bool run_chain(const fixture *f, const launch links[2], bool is_waited_for, answer to, trial *t)
{
    CUDA_OK(cudaMemcpy(f->scratch_out.device, f->q.device, f->q.bytes, cudaMemcpyDeviceToDevice));
    for (int i = 0; i < LINKS; i++) {
        if (!enqueue(&links[i % 2], cudaStreamPerThread, t))
            return false;
        if (is_waited_for)
            CUDA_OK(cudaDeviceSynchronize());
    }
    CUDA_OK(cudaDeviceSynchronize());
    tensor_download(&f->scratch_out, to.out);
    tensor_download(&f->scratch_lse, to.lse);
    return true;
}

/* A launch that begins while the one before it ends must not look at what that one writes, nor write what it reads. */
static bool chain(const fixture *f, device_arena *arena, const fc_device *device, const fc_plan *plan, answer first,
                  answer again, trial *t)
{
    launch links[2];
    fc_tensors there = fixture_device_tensors(f), back = there;
    there.q = back.out = tensor_d_elements(&f->scratch_out);
    back.q = there.out;
    back.lse = tensor_d_elements(&f->scratch_lse);
    launch_init(&links[0], f, &there, arena, device, plan, 0);
    launch_init(&links[1], f, &back, arena, device, plan, 0);
    links[1].launch.d_workspace = links[0].launch.d_workspace;
    links[1].launch.d_tickets = links[0].launch.d_tickets;
    if (!run_chain(f, links, true, first, t))
        return false;
    for (int i = 0; i < CHAINS; i++) {
        if (!run_chain(f, links, false, again, t))
            return false;
        t->run_count++;
        if (!compare(f, first, again, "the end of a chain of launches", t))
            return false;
    }
    return true;
}

static bool judge(const fixture *f, answer first, trial *t)
{
    const float *lse = (const float *)(const void *)(first.lse + TENSOR_GUARD_BYTES);
    return fc_reference_truth_judge(f->truth, first.out + TENSOR_GUARD_BYTES, f->out.strides, lse, &t->out, &t->lse,
                                    &t->wrong) == FC_OK;
}

static bool is_right(const fixture *f, device_arena *arena, const fc_device *device, const fc_plan *plan, int company,
                     answer first, answer again, trial *t)
{
    const fc_tensors tensors = fixture_device_tensors(f);
    launch alone, among;
    launch_init(&alone, f, &tensors, arena, device, plan, 0);
    if (!fits_workspace(&alone))
        return fc_fail(FC_INTERNAL, &t->wrong, "the plan asks for too little workspace") == FC_OK;
    if (alone.launch.block_count == UINT32_MAX)
        return fc_fail(FC_INTERNAL, &t->wrong, "more blocks than a launch can hold") == FC_OK;
    if (!run(f, &alone, 0xff, first, t))
        return false;
    t->equal_count++;
    if (!judge(f, first, t) || !run(f, &alone, 0x3c, again, t) || !compare(f, first, again, "a second run", t))
        return false;
    launch_init(&among, f, &tensors, arena, device, plan, company);
    if (!run(f, &among, 0xff, again, t) || !compare(f, first, again, "a run in company", t))
        return false;
    if ((f->what.extras & EXTRA_REPEATS) != 0 &&
        (!repeat(f, &alone, first, again, t) || !chain(f, arena, device, plan, first, again, t)))
        return false;
    if (t->stray_count > 0)
        fc_fail(FC_INTERNAL, &t->wrong, "%lld bytes written where nothing is its own", (long long)t->stray_count);
    return t->stray_count == 0;
}

void trial_run(const fixture *f, device_arena *arena, const fc_device *device, const fc_plan *plan, int company,
               trial *out_trial)
{
    answer first = answer_make(f), again = answer_make(f);
    size_t used = arena->used;
    memset(out_trial, 0, sizeof *out_trial);
    out_trial->is_right = is_right(f, arena, device, plan, company, first, again, out_trial);
    arena->used = used;
    answer_free(first);
    answer_free(again);
}
