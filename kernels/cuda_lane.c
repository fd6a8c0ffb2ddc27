/* A lane of the CUDA engine: one stream, one pinned and one device buffer of the same layout, all made when it opens.
 *
 *     | segments | descriptors | q k v of job 0 | q k v of job 1 | ... | out lse of job 0 | out lse of job 1 | ...
 *     '------------------ one copy to the device ---------------------' '---------- one copy back -----------'
 *
 * Beside them on the device: a workspace for partial results, and the tickets of blocks that meet at one tile. Kernels
 * leave tickets at 0, as they find them; a launch that failed may not have, so the next one zeroes them all first.
 *
 * Every tensor starts on 256 bytes, and an offset means the same in both buffers. A launch is: pack, copy in, kernel,
 * copy out, one wait, unpack. What earlier requests left in the buffers never reaches a caller: kernels write every
 * element of out and lse, and nothing else is copied to anybody. A launch that fails half way is waited for before the
 * lane returns, so no copy is ever under way in a buffer that the next launch fills.
 */
#include "kernels/cuda_engine.h"

#include "kernels/cuda_launch.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN_BYTES = 256, TICKETS_BYTES = FC_LAUNCH_TICKETS_MAX * sizeof(uint32_t) };

/* Between them lie the copy in, the kernel and the copy out. */
typedef enum mark { MARK_START, MARK_COPIED_IN, MARK_COMPUTED, MARK_COPIED_OUT, MARK_COUNT } mark;

struct fc_engine_lane {
    fc_engine *engine;
    size_t buffer_bytes;
    char *staging;  /* pinned */
    char *d_buffer; /* the same, on the device */
    void *d_workspace;
    uint32_t *d_tickets;
    bool has_clean_tickets;
    cudaStream_t stream;
    cudaEvent_t marks[MARK_COUNT];
};

/* A launch laid out in the buffers. */
typedef struct batch {
    fc_launch launch;
    size_t outputs_begin, outputs_end;
} batch;

/* --- sizes ------------------------------------------------------------------------------------------------------ */

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* The next free place, and moves past it. */
static size_t take(size_t *cursor, size_t bytes)
{
    size_t place = *cursor;
    *cursor += aligned(bytes);
    return place;
}

static size_t q_bytes(const fc_problem *p)
{
    return (size_t)p->batch * (size_t)p->q_heads * (size_t)p->q_len * (size_t)p->head_dim * fc_dtype_bytes(p->dtype);
}

static size_t kv_bytes(const fc_problem *p)
{
    return (size_t)p->batch * (size_t)p->kv_heads * (size_t)p->kv_len * (size_t)p->head_dim * fc_dtype_bytes(p->dtype);
}

static size_t lse_bytes(const fc_problem *p)
{
    return (size_t)p->batch * (size_t)p->q_heads * (size_t)p->q_len * sizeof(float);
}

/* What a tensor takes in the lane's buffers. */
static size_t staged_bytes(fc_memory_place place, size_t bytes)
{
    return place.kind == FC_MEMORY_DEVICE ? 0 : aligned(bytes);
}

size_t fc_cuda_staging_bytes(const fc_engine *engine, const fc_problem *problem, const fc_memory_places *places)
{
    static const fc_memory_places HOST = {.q = {.kind = FC_MEMORY_HOST}};
    const fc_memory_places *at = places != NULL ? places : &HOST;
    (void)engine;
    return staged_bytes(at->q, q_bytes(problem)) + staged_bytes(at->k, kv_bytes(problem)) +
           staged_bytes(at->v, kv_bytes(problem)) + staged_bytes(at->out, q_bytes(problem)) +
           staged_bytes(at->lse, lse_bytes(problem));
}

/* What precedes the tensors in the buffers. */
static size_t head_bytes(uint32_t segment_count, uint32_t descriptor_bytes)
{
    return aligned((size_t)segment_count * sizeof(fc_segment)) + aligned((size_t)segment_count * descriptor_bytes);
}

/* --- packing ---------------------------------------------------------------------------------------------------- */

/* A tensor in the caller's memory, [batch, heads, tokens, head_dim] by its strides. */
typedef struct view {
    const void *base;
    fc_strides strides;
    int64_t batch, heads, tokens;
    size_t row_bytes, element_bytes;
} view;

static view view_of(const fc_problem *p, const void *base, fc_strides strides, int32_t heads, int32_t tokens)
{
    size_t element_bytes = fc_dtype_bytes(p->dtype);
    return (view){base, strides, p->batch, heads, tokens, (size_t)p->head_dim * element_bytes, element_bytes};
}

static bool has_strides(const view *v, fc_strides s)
{
    return (v->batch <= 1 || v->strides.batch == s.batch) && (v->heads <= 1 || v->strides.head == s.head) &&
           (v->tokens <= 1 || v->strides.token == s.token);
}

/* The layout whose contiguous tensor this is; FC_LAYOUT_COUNT: neither. */
static fc_layout layout_of(const view *v)
{
    int64_t head_dim = (int64_t)(v->row_bytes / v->element_bytes);
    if (has_strides(v, fc_strides_contiguous(FC_BHSD, v->heads, v->tokens, head_dim)))
        return FC_BHSD;
    return has_strides(v, fc_strides_contiguous(FC_BSHD, v->heads, v->tokens, head_dim)) ? FC_BSHD : FC_LAYOUT_COUNT;
}

/* The strides a tensor has in the buffers: its own where it is contiguous, so that one memcpy moves it. */
static fc_strides packed_strides(const view *v)
{
    fc_layout layout = layout_of(v);
    int64_t head_dim = (int64_t)(v->row_bytes / v->element_bytes);
    return fc_strides_contiguous(layout == FC_LAYOUT_COUNT ? FC_BHSD : layout, v->heads, v->tokens, head_dim);
}

/* Moves the rows of a tensor that is not contiguous: into the packed copy, or out of it. */
static void copy_rows(const view *v, char *packed, bool is_out)
{
    for (int64_t row = 0; row < v->batch * v->heads * v->tokens; row++) {
        int64_t b = row / (v->heads * v->tokens), h = row / v->tokens % v->heads, t = row % v->tokens;
        int64_t element = b * v->strides.batch + h * v->strides.head + t * v->strides.token;
        char *theirs = (char *)v->base + element * (int64_t)v->element_bytes;
        char *ours = packed + row * (int64_t)v->row_bytes;
        memcpy(is_out ? theirs : ours, is_out ? ours : theirs, v->row_bytes);
    }
}

static size_t view_bytes(const view *v)
{
    return (size_t)(v->batch * v->heads * v->tokens) * v->row_bytes;
}

static void pack(const view *v, char *packed)
{
    if (layout_of(v) == FC_LAYOUT_COUNT)
        copy_rows(v, packed, false);
    else if (view_bytes(v) > 0)
        memcpy(packed, v->base, view_bytes(v));
}

static void unpack(const view *v, char *packed)
{
    if (layout_of(v) == FC_LAYOUT_COUNT)
        copy_rows(v, packed, true);
    else if (view_bytes(v) > 0)
        memcpy((void *)v->base, packed, view_bytes(v));
}

/* Copies one input to the staging memory; where it will be on the device, and how it lies there. */
static const void *pack_input(fc_engine_lane *lane, const view *v, size_t *cursor, fc_strides *out_strides)
{
    size_t place = take(cursor, view_bytes(v));
    pack(v, lane->staging + place);
    *out_strides = packed_strides(v);
    return lane->d_buffer + place;
}

static view out_view(const fc_engine_job *job)
{
    const fc_problem *p = &job->problem;
    return view_of(p, job->tensors.out, job->tensors.out_strides, p->q_heads, p->q_len);
}

static fc_tensors pack_inputs(fc_engine_lane *lane, const fc_engine_job *job, size_t *cursor)
{
    const fc_problem *p = &job->problem;
    view q = view_of(p, job->tensors.q, job->tensors.q_strides, p->q_heads, p->q_len);
    view k = view_of(p, job->tensors.k, job->tensors.k_strides, p->kv_heads, p->kv_len);
    view v = view_of(p, job->tensors.v, job->tensors.v_strides, p->kv_heads, p->kv_len);
    fc_tensors d_tensors = {0};
    d_tensors.q = pack_input(lane, &q, cursor, &d_tensors.q_strides);
    d_tensors.k = pack_input(lane, &k, cursor, &d_tensors.k_strides);
    d_tensors.v = pack_input(lane, &v, cursor, &d_tensors.v_strides);
    return d_tensors;
}

static uint32_t count_segments(const fc_engine_job *jobs, uint32_t job_count)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < job_count; i++)
        count += (uint32_t)jobs[i].problem.batch;
    return count;
}

/* Where the outputs of the jobs begin: behind everyone's inputs. */
static size_t inputs_bytes(const fc_engine_job *jobs, uint32_t job_count)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < job_count; i++)
        bytes += aligned(q_bytes(&jobs[i].problem)) + 2 * aligned(kv_bytes(&jobs[i].problem));
    return bytes;
}

static fc_status check_fit(const fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count,
                           fc_reason *out_reason)
{
    const fc_engine_config *config = &lane->engine->config;
    size_t bytes = 0, workspace = 0;
    uint64_t segments = 0, tickets = 0;
    for (uint32_t i = 0; i < job_count; i++) {
        size_t more = fc_cuda_staging_bytes(lane->engine, &jobs[i].problem, &jobs[i].places);
        if (more > config->lane_staging_bytes - bytes)
            return fc_fail(FC_INTERNAL, out_reason, "a launch needs more than the lane's %zu staging bytes",
                           config->lane_staging_bytes);
        if (jobs[i].plan.workspace_bytes > FC_LAUNCH_WORKSPACE_BYTES_MAX - workspace)
            return fc_fail(FC_INTERNAL, out_reason, "a launch needs more than the lane's %zu workspace bytes",
                           FC_LAUNCH_WORKSPACE_BYTES_MAX);
        bytes += more;
        workspace += jobs[i].plan.workspace_bytes;
        tickets += jobs[i].plan.ticket_count;
        segments += (uint64_t)jobs[i].problem.batch;
    }
    if (segments > config->lane_segments)
        return fc_fail(FC_INTERNAL, out_reason, "a launch holds more than the lane's %lu batch entries",
                       (unsigned long)config->lane_segments);
    if (tickets > FC_LAUNCH_TICKETS_MAX)
        return fc_fail(FC_INTERNAL, out_reason, "a launch needs more than the lane's %d tickets",
                       FC_LAUNCH_TICKETS_MAX);
    return FC_OK;
}

/* Packs the inputs, sets the outputs aside, and writes the segments. */
static void pack_jobs(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count, size_t inputs,
                      batch *out_batch)
{
    fc_segment *segments = (fc_segment *)lane->staging;
    size_t outputs = inputs + inputs_bytes(jobs, job_count);
    out_batch->outputs_begin = outputs;
    for (uint32_t i = 0; i < job_count; i++) {
        const fc_problem *p = &jobs[i].problem;
        fc_tensors d_tensors = pack_inputs(lane, &jobs[i], &inputs);
        view out = out_view(&jobs[i]);
        d_tensors.out = lane->d_buffer + take(&outputs, q_bytes(p));
        d_tensors.out_strides = packed_strides(&out);
        d_tensors.lse = (float *)(void *)(lane->d_buffer + take(&outputs, lse_bytes(p)));
        fc_problem_segments(p, &jobs[i].plan, &d_tensors, segments);
        segments += p->batch;
    }
    out_batch->outputs_end = outputs;
}

/* Writes the descriptors of a launch whose segments stand. */
static fc_status describe(fc_engine_lane *lane, fc_launch *launch, fc_reason *out_reason)
{
    size_t place = head_bytes(launch->segment_count, 0);
    fc_cuda_describer describer = fc_cuda_describe_find(launch->plan.kernel);
    if (launch->plan.descriptor_bytes == 0)
        return FC_OK;
    if (describer == NULL || describer(launch, lane->staging + place) != FC_OK)
        return fc_fail(FC_INTERNAL, out_reason, "the driver refused to describe a launch of %s",
                       fc_kernel_name(launch->plan.kernel));
    launch->d_descriptors = lane->d_buffer + place;
    return FC_OK;
}

static fc_status pack_batch(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count, batch *out_batch,
                            fc_reason *out_reason)
{
    const fc_plan *plan = &jobs[0].plan;
    fc_segment *segments = (fc_segment *)lane->staging;
    uint32_t count = count_segments(jobs, job_count);
    pack_jobs(lane, jobs, job_count, head_bytes(count, plan->descriptor_bytes), out_batch);
    out_batch->launch = (fc_launch){
        .plan = *plan,
        .segments = segments,
        .d_segments = (const fc_segment *)(const void *)lane->d_buffer,
        .segment_count = count,
        .block_count = fc_launch_index(plan, segments, count),
        .d_workspace = lane->d_workspace,
        .workspace_bytes = FC_LAUNCH_WORKSPACE_BYTES_MAX,
        .d_tickets = lane->d_tickets,
    };
    if (out_batch->launch.block_count == UINT32_MAX)
        return fc_fail(FC_INTERNAL, out_reason, "a launch needs more blocks than a grid holds");
    return describe(lane, &out_batch->launch, out_reason);
}

static void unpack_batch(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count, const batch *b)
{
    size_t outputs = b->outputs_begin;
    for (uint32_t i = 0; i < job_count; i++) {
        const fc_problem *p = &jobs[i].problem;
        view out = out_view(&jobs[i]);
        size_t lse;
        unpack(&out, lane->staging + take(&outputs, q_bytes(p)));
        lse = take(&outputs, lse_bytes(p));
        if (jobs[i].tensors.lse != NULL && lse_bytes(p) > 0)
            memcpy(jobs[i].tensors.lse, lane->staging + lse, lse_bytes(p));
    }
}

/* --- running ---------------------------------------------------------------------------------------------------- */

/* After a CUDA error in the middle of a launch: waits until nothing is under way, and finds out whether the context
 * survived. Errors of the device itself come back from every call until the process ends. */
static fc_status settle(fc_engine_lane *lane, cudaError_t error, const char *doing, fc_reason *out_reason)
{
    fc_status st = fc_cuda_fail(error, doing, out_reason);
    lane->has_clean_tickets = false;
    if (cudaStreamSynchronize(lane->stream) == cudaSuccess)
        return st;
    (void)cudaGetLastError();
    atomic_store(&lane->engine->is_lost, true);
    return FC_DEVICE_LOST;
}

static fc_status clean_tickets(fc_engine_lane *lane, fc_reason *out_reason)
{
    cudaError_t error;
    if (lane->has_clean_tickets)
        return FC_OK;
    error = cudaMemsetAsync(lane->d_tickets, 0, TICKETS_BYTES, lane->stream);
    if (error != cudaSuccess)
        return settle(lane, error, "zeroing the tickets", out_reason);
    lane->has_clean_tickets = true;
    return FC_OK;
}

static fc_status copy_in(fc_engine_lane *lane, const batch *b, fc_reason *out_reason)
{
    cudaError_t error = cudaEventRecord(lane->marks[MARK_START], lane->stream);
    if (error == cudaSuccess)
        error = cudaMemcpyAsync(lane->d_buffer, lane->staging, b->outputs_begin, cudaMemcpyHostToDevice, lane->stream);
    if (error == cudaSuccess)
        error = cudaEventRecord(lane->marks[MARK_COPIED_IN], lane->stream);
    return error == cudaSuccess ? FC_OK : settle(lane, error, "copying in", out_reason);
}

/* A wrapper that refuses a launch leaves the runtime's last error; without one the plan was not the kernel's. */
static cudaError_t launch_kernel(const fc_launch *launch, cudaStream_t stream)
{
    fc_cuda_launcher launcher = fc_cuda_launch_find(launch->plan.kernel);
    cudaError_t error;
    if (launcher == NULL)
        return cudaErrorInvalidDeviceFunction;
    if (launcher(launch, stream) == FC_OK)
        return cudaSuccess;
    error = cudaPeekAtLastError();
    return error != cudaSuccess ? error : cudaErrorInvalidValue;
}

static fc_status compute(fc_engine_lane *lane, const batch *b, fc_reason *out_reason)
{
    cudaError_t error = launch_kernel(&b->launch, lane->stream);
    if (error == cudaSuccess)
        error = cudaEventRecord(lane->marks[MARK_COMPUTED], lane->stream);
    return error == cudaSuccess ? FC_OK : settle(lane, error, "launching the kernel", out_reason);
}

static fc_status copy_out(fc_engine_lane *lane, const batch *b, fc_reason *out_reason)
{
    cudaError_t error = cudaMemcpyAsync(lane->staging + b->outputs_begin, lane->d_buffer + b->outputs_begin,
                                        b->outputs_end - b->outputs_begin, cudaMemcpyDeviceToHost, lane->stream);
    if (error == cudaSuccess)
        error = cudaEventRecord(lane->marks[MARK_COPIED_OUT], lane->stream);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(lane->stream);
    return error == cudaSuccess ? FC_OK : settle(lane, error, "waiting for the answer", out_reason);
}

/* Microseconds from one mark to the next; 0 when the runtime will not say, which is no reason to fail a request. */
static double elapsed_us(const fc_engine_lane *lane, mark from)
{
    float ms = 0;
    if (cudaEventElapsedTime(&ms, lane->marks[from], lane->marks[from + 1]) == cudaSuccess)
        return 1000.0 * (double)ms;
    (void)cudaGetLastError();
    return 0;
}

static fc_status run_batch(fc_engine_lane *lane, const batch *b, fc_engine_timing *out_timing, fc_reason *out_reason)
{
    fc_status st = clean_tickets(lane, out_reason);
    if (st == FC_OK)
        st = copy_in(lane, b, out_reason);
    if (st == FC_OK)
        st = compute(lane, b, out_reason);
    if (st == FC_OK)
        st = copy_out(lane, b, out_reason);
    if (st != FC_OK)
        return st;
    *out_timing = (fc_engine_timing){.copy_in_us = elapsed_us(lane, MARK_START),
                                     .kernel_us = elapsed_us(lane, MARK_COPIED_IN),
                                     .copy_out_us = elapsed_us(lane, MARK_COMPUTED)};
    return FC_OK;
}

fc_status fc_cuda_lane_run(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count,
                           fc_engine_timing *out_timing, fc_reason *out_reason)
{
    batch b;
    fc_status st;
    if (atomic_load(&lane->engine->is_lost))
        return fc_cuda_lost(out_reason);
    st = check_fit(lane, jobs, job_count, out_reason);
    if (st == FC_OK)
        st = pack_batch(lane, jobs, job_count, &b, out_reason);
    if (st != FC_OK)
        return st;
    if (b.launch.block_count == 0) { /* no queries at all */
        *out_timing = (fc_engine_timing){0};
        return FC_OK;
    }
    st = run_batch(lane, &b, out_timing, out_reason);
    if (st == FC_OK)
        unpack_batch(lane, jobs, job_count, &b);
    return st;
}

/* --- opening and closing ---------------------------------------------------------------------------------------- */

/* Releases whatever of a lane exists. Errors change nothing any more. */
static void release(fc_engine_lane *lane)
{
    for (int i = 0; i < MARK_COUNT; i++) {
        if (lane->marks[i] != NULL)
            (void)cudaEventDestroy(lane->marks[i]);
    }
    if (lane->d_tickets != NULL)
        (void)cudaFree(lane->d_tickets);
    if (lane->d_workspace != NULL)
        (void)cudaFree(lane->d_workspace);
    if (lane->d_buffer != NULL)
        (void)cudaFree(lane->d_buffer);
    if (lane->staging != NULL)
        (void)cudaFreeHost(lane->staging);
    if (lane->stream != NULL)
        (void)cudaStreamDestroy(lane->stream);
    (void)cudaGetLastError();
}

static cudaError_t acquire(fc_engine_lane *lane)
{
    cudaError_t error = cudaSetDevice(lane->engine->config.device_index);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&lane->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaMallocHost((void **)&lane->staging, lane->buffer_bytes);
    if (error == cudaSuccess)
        error = cudaMalloc((void **)&lane->d_buffer, lane->buffer_bytes);
    if (error == cudaSuccess)
        error = cudaMalloc(&lane->d_workspace, FC_LAUNCH_WORKSPACE_BYTES_MAX);
    if (error == cudaSuccess)
        error = cudaMalloc((void **)&lane->d_tickets, TICKETS_BYTES);
    for (int i = 0; i < MARK_COUNT && error == cudaSuccess; i++)
        error = cudaEventCreateWithFlags(&lane->marks[i], cudaEventDefault);
    return error;
}

fc_status fc_cuda_lane_open(fc_engine *engine, fc_engine_lane **out_lane, fc_reason *out_reason)
{
    fc_engine_lane *lane;
    cudaError_t error;
    if (atomic_load(&engine->is_lost))
        return fc_cuda_lost(out_reason);
    lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "no memory for a lane");
    lane->engine = engine;
    lane->buffer_bytes =
        head_bytes(engine->config.lane_segments, FC_DESCRIPTOR_BYTES_MAX) + aligned(engine->config.lane_staging_bytes);
    error = acquire(lane);
    if (error != cudaSuccess) {
        release(lane);
        free(lane);
        return fc_cuda_fail(error, "setting up a lane", out_reason);
    }
    *out_lane = lane;
    return FC_OK;
}

void fc_cuda_lane_close(fc_engine_lane *lane)
{
    if (lane == NULL)
        return;
    release(lane);
    free(lane);
}
