/* The fake's streams and events: what is put on a stream is put off until somebody waits for it. All of it under the
 * lock of fake_cudart.c, in the thread that waits.
 */
#include "tests/fake/fake_cuda.h"
#include "tests/fake/fake_state.h"

#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { PENDING = 2 };

typedef enum step_kind { STEP_COPY, STEP_SET, STEP_LAUNCH, STEP_RECORD } step_kind;

typedef struct step {
    struct step *next;
    step_kind kind;
    void *to;
    const void *from;
    size_t bytes;
    int value;
    enum cudaMemcpyKind direction;
    fc_launch launch;
    bool hangs; /* a launch */
    cudaEvent_t event;
} step;

struct fake_stream {
    step *first, *last;
};

struct fake_event {
    float ms;
    bool is_recorded;
    unsigned queries;    /* since it was put on */
    cudaStream_t stream; /* where it was put last; NULL: nowhere */
};

static struct {
    unsigned long launches;
    unsigned last_segments, pending;
    fake_cuda_copies copies;
    float clock_ms;
} did = {.pending = PENDING};

/* --- controls --------------------------------------------------------------------------------------------------- */

void fake_stream_set_pending(unsigned queries)
{
    did.pending = queries;
}

void fake_stream_reset(void)
{
    did.pending = PENDING;
    did.launches = 0;
    did.copies = (fake_cuda_copies){0};
}

EXPORT void fake_cuda_pending(unsigned queries)
{
    fake_lock();
    did.pending = queries;
    fake_unlock();
}

EXPORT fake_cuda_copies fake_cuda_copied(void)
{
    fake_lock();
    fake_cuda_copies copies = did.copies;
    fake_unlock();
    return copies;
}

EXPORT unsigned long fake_cuda_launches(unsigned *out_last_segments)
{
    fake_lock();
    unsigned long launches = did.launches;
    *out_last_segments = did.last_segments;
    fake_unlock();
    return launches;
}

/* --- streams and events ------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaStreamCreateWithFlags);
    struct fake_stream *made = error == cudaSuccess ? calloc(1, sizeof *made) : NULL;
    (void)flags;
    if (error == cudaSuccess && made == NULL)
        error = cudaErrorMemoryAllocation;
    if (error == cudaSuccess) {
        fake_count(1);
        *stream = made;
    }
    return fake_leave(error);
}

static void drop_steps(cudaStream_t stream)
{
    while (stream->first != NULL) {
        step *s = stream->first;
        stream->first = s->next;
        free(s);
    }
    stream->last = NULL;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaStreamDestroy);
    drop_steps(stream);
    free(stream);
    fake_count(-1);
    return fake_leave(error);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaEventCreateWithFlags);
    struct fake_event *made = error == cudaSuccess ? calloc(1, sizeof *made) : NULL;
    (void)flags;
    if (error == cudaSuccess && made == NULL)
        error = cudaErrorMemoryAllocation;
    if (error == cudaSuccess) {
        fake_count(1);
        *event = made;
    }
    return fake_leave(error);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaEventDestroy);
    free(event);
    fake_count(-1);
    return fake_leave(error);
}

static cudaError_t put_off(cudaStream_t stream, step what)
{
    step *s = malloc(sizeof *s);
    if (s == NULL)
        return cudaErrorMemoryAllocation;
    *s = what;
    s->next = NULL;
    if (stream->last != NULL)
        stream->last->next = s;
    else
        stream->first = s;
    stream->last = s;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaMemcpyAsync);
    bool is_in = kind == cudaMemcpyHostToDevice;
    const void *host = is_in ? from : to, *device = is_in ? to : from;
    if (error == cudaSuccess && (!fake_is_pinned(host, bytes) || fake_device_bytes(device, bytes) == NULL))
        error = cudaErrorInvalidValue;
    if (error == cudaSuccess && is_in)
        error = fake_order_error("copy");
    if (error == cudaSuccess)
        error = put_off(stream, (step){.kind = STEP_COPY, .to = to, .from = from, .bytes = bytes, .direction = kind});
    if (error == cudaSuccess) {
        *(is_in ? &did.copies.in : &did.copies.out) += 1;
        *(is_in ? &did.copies.in_bytes : &did.copies.out_bytes) += bytes;
    }
    return fake_leave(error);
}

cudaError_t cudaMemsetAsync(void *d_pointer, int value, size_t bytes, cudaStream_t stream)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaMemsetAsync);
    if (error == cudaSuccess && fake_device_bytes(d_pointer, bytes) == NULL)
        error = cudaErrorInvalidValue;
    if (error == cudaSuccess)
        error = put_off(stream, (step){.kind = STEP_SET, .to = d_pointer, .bytes = bytes, .value = value});
    return fake_leave(error);
}

/* A stream that hangs tells of nothing else that goes wrong. */
static bool hangs(cudaStream_t stream)
{
    bool may_hang = false;
    for (const step *s = stream->first; s != NULL && !may_hang; s = s->next)
        may_hang = s->hangs;
    return may_hang && !fake_order_is_over();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaEventRecord);
    if (hangs(stream))
        error = cudaSuccess;
    if (error == cudaSuccess)
        error = put_off(stream, (step){.kind = STEP_RECORD, .event = event});
    if (error == cudaSuccess) {
        event->is_recorded = false;
        event->queries = 0;
        event->stream = stream;
    }
    return fake_leave(error);
}

fc_status fake_stream_launch(cudaStream_t stream, const fc_launch *launch)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaLaunchKernelExC);
    if (error == cudaSuccess)
        error = cudaPeekAtLastError(); /* the real one tells a launch about errors nobody has asked for */
    if (error == cudaSuccess)
        error = fake_order_error("launch");
    if (error == cudaSuccess)
        error = put_off(stream, (step){.kind = STEP_LAUNCH, .launch = *launch, .hangs = fake_order_hangs("hang")});
    else
        fake_kernel_abandon(launch);
    return fake_leave(error) == cudaSuccess ? FC_OK : FC_INTERNAL;
}

static cudaError_t run_step(const step *s)
{
    if (s->kind == STEP_LAUNCH) {
        did.launches++;
        did.last_segments = s->launch.segment_count;
        return fake_kernel_run(&s->launch);
    }
    if (s->kind == STEP_RECORD) {
        s->event->ms = did.clock_ms += 0.25f;
        s->event->is_recorded = true;
    } else if (s->kind == STEP_SET) {
        memset(fake_device_bytes(s->to, s->bytes), s->value, s->bytes);
    } else if (s->direction == cudaMemcpyHostToDevice) {
        memcpy(fake_device_bytes(s->to, s->bytes), s->from, s->bytes);
    } else {
        memcpy(s->to, fake_device_bytes(s->from, s->bytes), s->bytes);
    }
    return cudaSuccess;
}

/* Does all that is on the stream. A step that fails breaks the device for good, as kernels that go wrong do. */
static cudaError_t run_steps(cudaStream_t stream)
{
    cudaError_t error = cudaSuccess;
    for (const step *s = stream->first; s != NULL && error == cudaSuccess; s = s->next)
        error = run_step(s);
    fake_break(error);
    drop_steps(stream);
    return error;
}

/* Blocks while the stream hangs, without the lock: other streams go on. error: of the call so far. */
static cudaError_t finish(cudaStream_t stream, cudaError_t error)
{
    bool has_hung = hangs(stream);
    while (hangs(stream))
        fake_order_wait();
    if (has_hung)
        error = fake_broken();
    if (error == cudaSuccess)
        error = fake_order_error("wait");
    return error == cudaSuccess ? run_steps(stream) : error;
}

static bool is_put_off(cudaEvent_t event)
{
    return event->stream != NULL && !event->is_recorded;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaStreamSynchronize);
    return fake_leave(finish(stream, error));
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaEventQuery);
    if (is_put_off(event) && hangs(event->stream))
        error = cudaErrorNotReady;
    else if (error == cudaSuccess && is_put_off(event))
        error = event->queries++ < did.pending ? cudaErrorNotReady : finish(event->stream, error);
    return fake_leave(error);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaEventSynchronize);
    return fake_leave(is_put_off(event) ? finish(event->stream, error) : error);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaEventElapsedTime);
    if (error == cudaSuccess && !(start->is_recorded && end->is_recorded))
        error = cudaErrorInvalidValue;
    if (error == cudaSuccess)
        *ms = end->ms - start->ms;
    return fake_leave(error);
}
