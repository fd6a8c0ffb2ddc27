/* A lane of the CUDA engine: one stream, one pinned and one device buffer laid out alike (cuda_layout.h), all made when
 * it opens. Beside them on the device: a workspace for partial results, and the tickets of blocks that meet at one
 * tile. Kernels leave tickets at 0, as they find them; a launch that failed may not have, so the next one zeroes them
 * first.
 *
 * A launch is: lay out, copies in, kernel, copies out, one wait, unpack. The device starts at once with what it fetches
 * by itself; what the processor has to pack goes in pieces, each on its way while the next is packed. Both buffers
 * begin with heads of launches (cuda_heads.h), of which one is only sent where it is not on the device from before.
 *
 * What earlier requests left in the buffers never reaches a caller: kernels write every element of out and lse, and
 * nothing else is copied to anybody. A launch that fails half way is waited for before the lane returns, so no copy is
 * ever under way in memory that somebody else uses next.
 */
#include "kernels/cuda_engine.h"

#include "kernels/cuda_heads.h"
#include "kernels/cuda_launch.h"
#include "kernels/cuda_layout.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TICKETS_BYTES = FC_LAUNCH_TICKETS_MAX * sizeof(uint32_t) };

/* Sent as soon as it is packed. A core packs 0.5 MiB in 40 to 50 us and the device fetches it in 14, so only the last
 * piece is waited for; smaller ones cost more calls than they save. */
enum { PIECE_BYTES = 512 << 10 };

/* Ends of the copies in, of the kernel and of the copies out. Three take 5 us of a launch of 62, and one at the start 6
 * more: there is none at the start, which is when the processor asked for the first copy, and of launches with the same
 * head one in USES_A_MARK has marks. The others tell what that one told. */
typedef enum mark { MARK_COPIED_IN, MARK_COMPUTED, MARK_COPIED_OUT, MARK_COUNT } mark;
enum { USES_A_MARK = 16 };

struct fc_engine_lane {
    fc_engine *engine;
    size_t buffer_bytes;
    char *staging;  /* pinned */
    char *d_buffer; /* the same, on the device */
    void *d_workspace;
    uint32_t *d_tickets;
    bool has_clean_tickets;
    fc_cuda_heads heads;
    fc_segment *segments;
    fc_cuda_job *jobs;
    cudaStream_t stream;
    cudaEvent_t marks[MARK_COUNT];
    cudaEvent_t end;   /* of a launch without marks */
    cudaEvent_t alarm; /* wakes who sleeps */
};

/* A launch laid out in the buffers. Of the pinned buffer, [sent, packed) waits to be sent. */
typedef struct batch {
    fc_launch launch;
    fc_cuda_head *head;
    fc_cuda_layout layout;
    uint32_t job_count;
    size_t sent, packed;
    bool has_marks;
    uint64_t begin_ns, end_ns; /* as the processor saw them */
} batch;

size_t fc_cuda_staging_bytes(const fc_engine *engine, const fc_problem *problem, const fc_memory_places *places)
{
    (void)engine;
    return fc_cuda_layout_job_bytes(problem, places);
}

/* --- laying out --------------------------------------------------------------------------------------------------- */

static fc_status check_counts(const fc_engine_config *config, uint32_t job_count, uint64_t segments, uint64_t tickets,
                              fc_reason *out_reason)
{
    if (job_count > config->lane_jobs)
        return fc_fail(FC_INTERNAL, out_reason, "a launch holds more than the lane's %lu jobs",
                       (unsigned long)config->lane_jobs);
    if (segments > config->lane_segments)
        return fc_fail(FC_INTERNAL, out_reason, "a launch holds more than the lane's %lu batch entries",
                       (unsigned long)config->lane_segments);
    if (tickets > FC_LAUNCH_TICKETS_MAX)
        return fc_fail(FC_INTERNAL, out_reason, "a launch needs more than the lane's %d tickets",
                       FC_LAUNCH_TICKETS_MAX);
    return FC_OK;
}

static fc_status check_fit(const fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count,
                           fc_reason *out_reason)
{
    const fc_engine_config *config = &lane->engine->config;
    size_t bytes = 0, workspace = 0;
    uint64_t segments = 0, tickets = 0;
    for (uint32_t i = 0; i < job_count; i++) {
        size_t more = fc_cuda_layout_job_bytes(&jobs[i].problem, &jobs[i].places);
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
    return check_counts(config, job_count, segments, tickets, out_reason);
}

static uint32_t count_segments(const fc_engine_job *jobs, uint32_t job_count)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < job_count; i++)
        count += (uint32_t)jobs[i].problem.batch;
    return count;
}

static fc_status lay_out(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count, batch *b,
                         fc_reason *out_reason)
{
    const fc_plan *plan = &jobs[0].plan;
    uint32_t count = count_segments(jobs, job_count);
    fc_segment *segments = lane->segments;
    fc_status st = fc_cuda_layout_make(jobs, job_count, fc_cuda_heads_bytes(lane->engine->config.lane_segments),
                                       lane->jobs, &b->layout, out_reason);
    if (st != FC_OK)
        return st;
    for (uint32_t i = 0; i < job_count; i++) {
        fc_tensors d_tensors = fc_cuda_layout_tensors(&lane->jobs[i], lane->d_buffer);
        fc_problem_segments(&jobs[i].problem, &jobs[i].plan, &d_tensors, segments);
        segments += jobs[i].problem.batch;
    }
    b->job_count = job_count;
    b->launch = (fc_launch){
        .plan = *plan,
        .segments = lane->segments,
        .segment_count = count,
        .block_count = fc_launch_index(plan, lane->segments, count),
        .d_workspace = lane->d_workspace,
        .workspace_bytes = FC_LAUNCH_WORKSPACE_BYTES_MAX,
        .d_tickets = lane->d_tickets,
    };
    if (b->launch.block_count == UINT32_MAX)
        return fc_fail(FC_INTERNAL, out_reason, "a launch needs more blocks than a grid holds");
    st = fc_cuda_heads_find(&lane->heads, &b->launch, &b->head, out_reason);
    b->has_marks = (b->head->use_count - 1) % USES_A_MARK == 0;
    b->sent = b->packed = b->layout.head_end;
    return st;
}

/* --- failing ------------------------------------------------------------------------------------------------------ */

/* After a CUDA error in the middle of a launch: waits until nothing is under way, and finds out whether the context
 * survived. Errors of the device itself come back from every call until the process ends. */
static fc_status settle(fc_engine_lane *lane, cudaError_t error, const char *doing, fc_reason *out_reason)
{
    fc_status st = fc_cuda_fail(error, doing, out_reason);
    lane->has_clean_tickets = false;
    fc_cuda_heads_forget(&lane->heads);
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

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- copies in ---------------------------------------------------------------------------------------------------- */

static cudaError_t fetch(fc_engine_lane *lane, size_t offset, const char *from, size_t bytes)
{
    if (bytes == 0)
        return cudaSuccess;
    return cudaMemcpyAsync(lane->d_buffer + offset, from, bytes, cudaMemcpyHostToDevice, lane->stream);
}

/* What the device fetches by itself goes first: the processor packs meanwhile. */
static cudaError_t fetch_direct(fc_engine_lane *lane, const batch *b)
{
    cudaError_t error = cudaSuccess;
    for (uint32_t i = 0; i < b->job_count; i++) {
        for (int j = 0; j < FC_CUDA_INPUTS && error == cudaSuccess; j++) {
            const fc_cuda_tensor *t = &lane->jobs[i].tensors[j];
            if (t->way == FC_CUDA_DIRECT)
                error = fetch(lane, t->offset, t->base, t->run_bytes);
        }
    }
    return error;
}

/* Sends what is packed, once it is `least` bytes. */
static cudaError_t send_packed(fc_engine_lane *lane, batch *b, size_t least)
{
    size_t begin = b->sent;
    if (b->packed - begin < least)
        return cudaSuccess;
    b->sent = b->packed;
    return fetch(lane, begin, lane->staging + begin, b->packed - begin);
}

static cudaError_t pack_tensor(fc_engine_lane *lane, batch *b, const fc_cuda_tensor *t)
{
    size_t bytes = fc_cuda_tensor_bytes(t);
    cudaError_t error = cudaSuccess;
    if (!fc_cuda_tensor_is_packed(t)) {
        fc_cuda_tensor_pack(t, lane->staging + t->offset);
        b->packed = t->offset + bytes;
        return send_packed(lane, b, PIECE_BYTES);
    }
    for (size_t at = 0, piece; at < bytes && error == cudaSuccess; at += piece) {
        piece = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        memcpy(lane->staging + t->offset + at, t->base + at, piece);
        b->packed = t->offset + at + piece;
        error = send_packed(lane, b, PIECE_BYTES);
    }
    return error;
}

static fc_status copy_in(fc_engine_lane *lane, batch *b, fc_reason *out_reason)
{
    const fc_cuda_head *head = b->head;
    b->begin_ns = now_ns();
    cudaError_t error =
        head->is_on_device ? cudaSuccess : fetch(lane, head->offset, lane->staging + head->offset, head->size_bytes);
    if (error == cudaSuccess)
        error = fetch_direct(lane, b);
    for (uint32_t i = 0; i < b->job_count; i++) {
        for (int j = 0; j < FC_CUDA_INPUTS && error == cudaSuccess; j++) {
            const fc_cuda_tensor *t = &lane->jobs[i].tensors[j];
            if (t->way == FC_CUDA_STAGED)
                error = pack_tensor(lane, b, t);
        }
    }
    if (error == cudaSuccess)
        error = send_packed(lane, b, 0);
    if (error == cudaSuccess && b->has_marks)
        error = cudaEventRecord(lane->marks[MARK_COPIED_IN], lane->stream);
    return error == cudaSuccess ? FC_OK : settle(lane, error, "copying in", out_reason);
}

/* --- the kernel --------------------------------------------------------------------------------------------------- */

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
    if (error == cudaSuccess && b->has_marks)
        error = cudaEventRecord(lane->marks[MARK_COMPUTED], lane->stream);
    return error == cudaSuccess ? FC_OK : settle(lane, error, "launching the kernel", out_reason);
}

/* --- copies out, and the wait ---------------------------------------------------------------------------------------
 */

static cudaError_t bring(fc_engine_lane *lane, char *to, size_t offset, size_t bytes)
{
    if (bytes == 0)
        return cudaSuccess;
    return cudaMemcpyAsync(to, lane->d_buffer + offset, bytes, cudaMemcpyDeviceToHost, lane->stream);
}

static cudaEvent_t end_of(const fc_engine_lane *lane, const batch *b)
{
    return b->has_marks ? lane->marks[MARK_COPIED_OUT] : lane->end;
}

static fc_status copy_out(fc_engine_lane *lane, const batch *b, fc_reason *out_reason)
{
    size_t staged = b->layout.inputs_end;
    cudaError_t error = bring(lane, lane->staging + staged, staged, b->layout.outputs_end - staged);
    for (uint32_t i = 0; i < b->job_count; i++) {
        for (int j = FC_CUDA_INPUTS; j < FC_CUDA_TENSORS && error == cudaSuccess; j++) {
            const fc_cuda_tensor *t = &lane->jobs[i].tensors[j];
            if (t->way == FC_CUDA_DIRECT)
                error = bring(lane, t->base, t->offset, t->run_bytes);
        }
    }
    if (error == cudaSuccess)
        error = cudaEventRecord(end_of(lane, b), lane->stream);
    return error == cudaSuccess ? FC_OK : settle(lane, error, "copying out", out_reason);
}

static cudaError_t sleep_until_end(fc_engine_lane *lane)
{
    cudaError_t error = cudaEventRecord(lane->alarm, lane->stream);
    return error == cudaSuccess ? cudaEventSynchronize(lane->alarm) : error;
}

/* Awake for a while, then asleep: to be woken costs about as much as the whole launch may take. */
static fc_status wait_for_end(fc_engine_lane *lane, batch *b, fc_reason *out_reason)
{
    uint64_t deadline_ns = now_ns() + (uint64_t)lane->engine->config.spin_us * 1000;
    cudaError_t error = cudaErrorNotReady;
    while (error == cudaErrorNotReady && now_ns() < deadline_ns) {
        error = cudaEventQuery(end_of(lane, b));
        if (error == cudaErrorNotReady)
            sched_yield(); /* to whoever brings the next request, where cores are few */
    }
    (void)cudaGetLastError(); /* which "not ready" became, and the next launch would be told of */
    if (error == cudaErrorNotReady)
        error = sleep_until_end(lane);
    b->end_ns = now_ns();
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

static bool has_copies_in(const fc_engine_lane *lane, const batch *b)
{
    for (uint32_t i = 0; i < b->job_count; i++) {
        for (int j = 0; j < FC_CUDA_INPUTS; j++) {
            const fc_cuda_tensor *t = &lane->jobs[i].tensors[j];
            if (t->way != FC_CUDA_RESIDENT && fc_cuda_tensor_bytes(t) > 0)
                return true;
        }
    }
    return false;
}

static fc_engine_timing timing_of(fc_engine_lane *lane, const batch *b)
{
    if (b->has_marks)
        b->head->marked = (fc_engine_timing){.kernel_us = elapsed_us(lane, MARK_COPIED_IN),
                                             .copy_out_us = elapsed_us(lane, MARK_COMPUTED)};
    fc_engine_timing timing = b->head->marked;
    /* What the processor waited for, and was neither kernel nor copy out. */
    double us = (double)(b->end_ns - b->begin_ns) / 1000 - timing.kernel_us - timing.copy_out_us;
    timing.copy_in_us = us > 0 && has_copies_in(lane, b) ? us : 0;
    return timing;
}

static void unpack(const fc_engine_lane *lane, const batch *b)
{
    for (uint32_t i = 0; i < b->job_count; i++) {
        for (int j = FC_CUDA_INPUTS; j < FC_CUDA_TENSORS; j++) {
            const fc_cuda_tensor *t = &lane->jobs[i].tensors[j];
            if (t->way == FC_CUDA_STAGED)
                fc_cuda_tensor_unpack(t, lane->staging + t->offset);
        }
    }
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static fc_status run_batch(fc_engine_lane *lane, batch *b, fc_reason *out_reason)
{
    fc_status st = clean_tickets(lane, out_reason);
    if (st == FC_OK)
        st = copy_in(lane, b, out_reason);
    if (st == FC_OK)
        st = compute(lane, b, out_reason);
    if (st == FC_OK)
        st = copy_out(lane, b, out_reason);
    if (st == FC_OK)
        st = wait_for_end(lane, b, out_reason);
    if (st == FC_OK)
        b->head->is_on_device = true;
    return st;
}

/* Clears what the launch left in the lane's memory. What it leaves in its callers' memory is theirs. */
static fc_status scrub(fc_engine_lane *lane, const batch *b, const fc_engine_job *jobs, fc_reason *out_reason)
{
    size_t workspace_bytes = 0;
    for (uint32_t i = 0; i < b->job_count; i++)
        workspace_bytes += jobs[i].plan.workspace_bytes;
    const fc_cuda_head *head = b->head;
    size_t begin = b->layout.head_end, bytes = b->layout.end - begin;
    fc_cuda_heads_forget(&lane->heads);
    memset(lane->staging + head->offset, 0, head->size_bytes);
    memset(lane->staging + begin, 0, bytes);
    cudaError_t error = cudaMemsetAsync(lane->d_buffer + head->offset, 0, head->size_bytes, lane->stream);
    if (error == cudaSuccess)
        error = cudaMemsetAsync(lane->d_buffer + begin, 0, bytes, lane->stream);
    if (error == cudaSuccess && workspace_bytes > 0)
        error = cudaMemsetAsync(lane->d_workspace, 0, workspace_bytes, lane->stream);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(lane->stream);
    return error == cudaSuccess ? FC_OK : settle(lane, error, "scrubbing", out_reason);
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
        st = lay_out(lane, jobs, job_count, &b, out_reason);
    if (st != FC_OK)
        return st;
    *out_timing = (fc_engine_timing){0};
    if (b.launch.block_count == 0) /* no queries at all */
        return FC_OK;
    st = run_batch(lane, &b, out_reason);
    if (st == FC_OK) {
        *out_timing = timing_of(lane, &b);
        unpack(lane, &b);
    }
    if (lane->engine->config.scrubs && st != FC_DEVICE_LOST) {
        fc_status scrubbed = scrub(lane, &b, jobs, out_reason);
        st = st == FC_OK ? scrubbed : st;
    }
    return st;
}

/* --- opening and closing ---------------------------------------------------------------------------------------- */

/* Releases whatever of a lane exists, the lane too. Errors change nothing any more. */
static void release(fc_engine_lane *lane)
{
    if (lane->alarm != NULL)
        (void)cudaEventDestroy(lane->alarm);
    if (lane->end != NULL)
        (void)cudaEventDestroy(lane->end);
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
    free(lane->segments);
    free(lane->jobs);
    free(lane);
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
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&lane->end, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&lane->alarm, cudaEventBlockingSync | cudaEventDisableTiming);
    return error;
}

/* Counts of the config, which may be 0. */
static size_t at_least_one(uint32_t count)
{
    return count > 0 ? count : 1;
}

fc_status fc_cuda_lane_open(fc_engine *engine, fc_engine_lane **out_lane, fc_reason *out_reason)
{
    const fc_engine_config *config = &engine->config;
    fc_engine_lane *lane;
    cudaError_t error;
    if (atomic_load(&engine->is_lost))
        return fc_cuda_lost(out_reason);
    lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "no memory for a lane");
    lane->engine = engine;
    lane->buffer_bytes =
        fc_cuda_heads_bytes(config->lane_segments) + fc_cuda_layout_aligned(config->lane_staging_bytes);
    lane->segments = calloc(at_least_one(config->lane_segments), sizeof *lane->segments);
    lane->jobs = calloc(at_least_one(config->lane_jobs), sizeof *lane->jobs);
    if (lane->segments == NULL || lane->jobs == NULL) {
        release(lane);
        return fc_fail(FC_NO_MEMORY, out_reason, "no memory for a lane");
    }
    error = acquire(lane);
    if (error != cudaSuccess) {
        release(lane);
        return fc_cuda_fail(error, "setting up a lane", out_reason);
    }
    fc_cuda_heads_init(&lane->heads, config->lane_segments, lane->staging, lane->d_buffer);
    *out_lane = lane;
    return FC_OK;
}

void fc_cuda_lane_close(fc_engine_lane *lane)
{
    if (lane != NULL)
        release(lane);
}
