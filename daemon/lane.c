/* See lane.h. Outputs land in the reply messages, or in the arenas the requests name: the engine writes them there,
 * nothing copies them again. */
#include "daemon/lane.h"

#include "daemon/admission.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/reply.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIVEN_UP UINT64_MAX
/* Of the requests of a launch that hangs, so many are logged one by one. */
#define HUNG_LOGGED_MAX 16

struct fc_lane {
    const fc_lane_context *context;
    uint32_t index;
    pthread_t thread;
    fc_engine_lane *engine_lane;
    fc_request *requests[FC_BATCH_REQUESTS_MAX];
    fc_engine_job jobs[FC_BATCH_REQUESTS_MAX];

    /* Who answers the launch under way: the lane, once it has exchanged running_since_ns for 0, or whoever exchanged it
     * for GIVEN_UP before that. Until then requests and request_count are nobody's to write. */
    atomic_uint_fast64_t running_since_ns; /* 0: none is under way */
    _Atomic double multiplications;        /* of the launch under way, or the one before */
    uint32_t request_count;                /* likewise */
    atomic_uint_fast64_t ran_ns;           /* end of the last launch that went well; 0: none has */

    pthread_mutex_t lock; /* guards the three below, which start() waits for */
    pthread_cond_t opened;
    bool is_opened;
    fc_status open_status;
    fc_reason open_reason;
};

/* What does not lie in an arena lies in the message, or goes into the reply. */
static fc_memory_places places_of(const fc_request *request)
{
    fc_arena *const *arenas = request->placement.arenas;
    fc_memory_places places = request->placement.places;
    if (arenas[FC_PLACE_Q] == NULL)
        places.q = request->bytes_place;
    if (arenas[FC_PLACE_K] == NULL)
        places.k = request->bytes_place;
    if (arenas[FC_PLACE_V] == NULL)
        places.v = request->bytes_place;
    if (arenas[FC_PLACE_OUT] == NULL)
        places.out = request->reply_place;
    if (arenas[FC_PLACE_LSE] == NULL)
        places.lse = request->reply_place;
    return places;
}

static fc_engine_job make_job(const fc_request *request)
{
    const fc_problem *problem = &request->problem;
    fc_strides q = fc_strides_contiguous(request->attend.layout, problem->q_heads, problem->q_len, problem->head_dim);
    fc_strides k = fc_strides_contiguous(request->attend.layout, problem->kv_heads, problem->kv_len, problem->head_dim);
    float *lse = request->placement.lse;
    if (lse == NULL && request->attend.wants_lse)
        lse = (float *)(void *)request->writer.lse_data;
    return (fc_engine_job){
        .problem = *problem,
        .plan = request->item.plan,
        .tensors =
            {
                .q = request->attend.q.data,
                .k = request->attend.k.data,
                .v = request->attend.v.data,
                .out = request->placement.out != NULL ? request->placement.out : request->writer.out_data,
                .lse = lse,
                .q_strides = q,
                .k_strides = k,
                .v_strides = k,
                .out_strides = q,
            },
        .places = places_of(request),
    };
}

/* Makes the replies' memory and the jobs; requests without memory are answered here and fall out. Returns what is left,
 * in lane->requests and lane->jobs. */
static uint32_t prepare(fc_lane *lane, uint32_t count)
{
    const fc_lane_context *context = lane->context;
    double multiplications = 0;
    uint32_t ready = 0;
    for (uint32_t i = 0; i < count; i++) {
        fc_request *request = lane->requests[i];
        fc_status st = fc_reply_attend_begin(request, fc_kernel_name(request->item.plan.kernel), context->device_name);
        if (st != FC_OK) {
            fc_reply_status(context->dispatch, request, st, "no memory for the reply", 0);
            continue;
        }
        lane->jobs[ready] = make_job(request);
        lane->requests[ready++] = request;
        multiplications += fc_admission_multiplications(&request->problem);
    }
    lane->request_count = ready;
    atomic_store_explicit(&lane->multiplications, multiplications, memory_order_relaxed);
    return ready;
}

/* Everything about a launch that its requests are told. */
typedef struct launch_result {
    fc_status status;
    fc_reason reason;
    fc_engine_timing timing;
    uint64_t start_ns, end_ns;
    uint32_t request_count;
} launch_result;

static void answer(const fc_lane_context *context, fc_request *request, const launch_result *launch)
{
    if (launch->status != FC_OK) {
        /* The engine's reason is for the log; a peer learns the status. */
        fc_reply_status(context->dispatch, request, launch->status, NULL, 0);
        return;
    }
    request->ran_ns = launch->end_ns;
    request->timing = (fc_wire_timing){
        .queue_us = (double)(launch->start_ns - request->received_ns) / FC_NS_PER_US,
        .copy_in_us = launch->timing.copy_in_us,
        .kernel_us = launch->timing.kernel_us,
        .copy_out_us = launch->timing.copy_out_us,
        .total_us = (double)(launch->end_ns - request->received_ns) / FC_NS_PER_US,
        .batch = launch->request_count,
    };
    fc_reply_attend_end(context->dispatch, request, fc_kernel_name(request->item.plan.kernel), context->device_name,
                        &request->timing);
}

static void observe_us(fc_stats *stats, fc_histogram_id id, double us)
{
    fc_stats_observe(stats, id, us > 0 ? (uint64_t)(us * (double)FC_NS_PER_US) : 0);
}

/* Nobody's launch but the daemon's own? */
static bool is_own(const fc_lane *lane, const launch_result *launch)
{
    return launch->request_count == 1 && lane->requests[0]->own_stats != NULL;
}

static void count_launch(const fc_lane *lane, const launch_result *launch)
{
    fc_stats *stats = is_own(lane, launch) ? lane->requests[0]->own_stats : lane->context->stats;
    fc_stats_add(stats, FC_COUNT_LAUNCHES, 1);
    fc_stats_add(stats, FC_COUNT_LAUNCHES_FAILED, launch->status != FC_OK);
    fc_stats_add(stats, FC_COUNT_LAUNCHED_REQUESTS, launch->request_count);
    fc_stats_add(stats, FC_COUNT_SHARED_LAUNCHES, launch->request_count > 1);
    fc_stats_add(stats, FC_COUNT_LAUNCH_US, (launch->end_ns - launch->start_ns) / FC_NS_PER_US);
    fc_stats_observe(stats, FC_HISTOGRAM_BATCH, launch->request_count);
    if (launch->status == FC_OK) {
        observe_us(stats, FC_HISTOGRAM_COPY_IN, launch->timing.copy_in_us);
        observe_us(stats, FC_HISTOGRAM_KERNEL, launch->timing.kernel_us);
        observe_us(stats, FC_HISTOGRAM_COPY_OUT, launch->timing.copy_out_us);
    }
}

static void log_launch(const fc_lane *lane, const launch_result *launch)
{
    if (launch->status != FC_OK)
        fc_log(FC_LOG_ERROR, "launch_failed", fc_log_uint("lane", lane->index),
               fc_log_text("status", fc_status_name(launch->status)), fc_log_text("why", launch->reason.text),
               fc_log_text("kernel", fc_kernel_name(lane->jobs[0].plan.kernel)),
               fc_log_uint("requests", launch->request_count));
    else
        fc_log(FC_LOG_DEBUG, "launch", fc_log_uint("lane", lane->index),
               fc_log_text("kernel", fc_kernel_name(lane->jobs[0].plan.kernel)),
               fc_log_uint("requests", launch->request_count), fc_log_real("kernel_us", launch->timing.kernel_us));
}

/* Runs what is prepared. False: it was given up meanwhile, and its requests are not the lane's any more. */
static bool launch_and_wait(fc_lane *lane, launch_result *launch)
{
    const fc_lane_context *context = lane->context;
    uint64_t since_ns = launch->start_ns;
    atomic_store_explicit(&lane->running_since_ns, since_ns, memory_order_release);
    launch->status =
        context->ops->lane_run(lane->engine_lane, lane->jobs, launch->request_count, &launch->timing, &launch->reason);
    launch->end_ns = fc_clock_now_ns();
    if (launch->status == FC_OK)
        atomic_store_explicit(&lane->ran_ns, launch->end_ns, memory_order_relaxed);
    if (atomic_compare_exchange_strong(&lane->running_since_ns, &since_ns, 0))
        return true;
    fc_log(FC_LOG_WARN, "launch_returned", fc_log_uint("lane", lane->index),
           fc_log_text("status", fc_status_name(launch->status)),
           fc_log_real("after_s", (double)(launch->end_ns - launch->start_ns) / (double)FC_NS_PER_S));
    return false;
}

/* False: the lane is to end. */
static bool run(fc_lane *lane, uint32_t taken)
{
    const fc_lane_context *context = lane->context;
    launch_result launch = {.start_ns = fc_clock_now_ns()};
    launch.end_ns = launch.start_ns;
    launch.request_count = prepare(lane, taken);
    if (launch.request_count > 0 && !launch_and_wait(lane, &launch))
        return false;
    fc_dispatch_ran(context->dispatch, taken, launch.start_ns, launch.end_ns);
    if (launch.request_count == 0)
        return true;
    count_launch(lane, &launch);
    log_launch(lane, &launch);
    if (launch.status == FC_DEVICE_LOST)
        context->on_device_lost(context->context);
    for (uint32_t i = 0; i < launch.request_count; i++)
        answer(context, lane->requests[i], &launch);
    return true;
}

static void log_hung(const fc_lane *lane, const launch_result *launch)
{
    const fc_request *first = lane->requests[0];
    fc_log(FC_LOG_ERROR, "launch_hung", fc_log_uint("lane", lane->index),
           fc_log_text("kernel", fc_kernel_name(first->item.plan.kernel)),
           fc_log_text("dtype", fc_dtype_name(first->problem.dtype)), fc_log_uint("requests", launch->request_count),
           fc_log_real("after_s", (double)(launch->end_ns - launch->start_ns) / (double)FC_NS_PER_S));
    for (uint32_t i = 0; i < launch->request_count && i < HUNG_LOGGED_MAX; i++) {
        const fc_request *request = lane->requests[i];
        char shape[FC_SHAPE_BYTES];
        fc_log(FC_LOG_ERROR, "hung_request", fc_log_uint("peer", request->item.peer),
               fc_log_uint("id", request->item.id), fc_log_text("shape", fc_request_shape(request, shape)));
    }
}

bool fc_lane_give_up(fc_lane *lane, uint64_t since_ns, uint64_t now_ns)
{
    const fc_lane_context *context = lane->context;
    uint64_t start_ns = since_ns;
    if (!atomic_compare_exchange_strong(&lane->running_since_ns, &since_ns, GIVEN_UP))
        return false;
    /* It may have begun after whoever gives it up read the clock. */
    const launch_result launch = {.status = FC_DEVICE_LOST,
                                  .start_ns = start_ns,
                                  .end_ns = start_ns + fc_clock_elapsed_ns(start_ns, now_ns),
                                  .request_count = lane->request_count};
    count_launch(lane, &launch);
    log_hung(lane, &launch);
    context->on_launch_hung(context->context);
    for (uint32_t i = 0; i < launch.request_count; i++) {
        fc_request_abandon(lane->requests[i]);
        answer(context, lane->requests[i], &launch);
    }
    return true;
}

static bool open_engine_lane(fc_lane *lane)
{
    fc_reason reason = {""};
    fc_status st = lane->context->ops->lane_open(lane->context->engine, &lane->engine_lane, &reason);
    pthread_mutex_lock(&lane->lock);
    lane->is_opened = true;
    lane->open_status = st;
    lane->open_reason = reason;
    pthread_cond_signal(&lane->opened);
    pthread_mutex_unlock(&lane->lock);
    return st == FC_OK;
}

static void *lane_main(void *argument)
{
    fc_lane *lane = argument;
    const fc_lane_context *context = lane->context;
    if (!open_engine_lane(lane))
        return NULL;
    for (uint32_t count = 0;;) {
        fc_request *expired = NULL;
        count = fc_dispatch_take(context->dispatch, count > 0, lane->requests, &expired);
        if (count == 0 && expired == NULL)
            break;
        fc_reply_chain(context->dispatch, expired, FC_DEADLINE_EXCEEDED,
                       "deadline_us: too little is left of it, after waiting");
        if (count > 0 && !run(lane, count))
            break;
    }
    context->ops->lane_close(lane->engine_lane);
    return NULL;
}

fc_status fc_lane_start(const fc_lane_context *context, uint32_t index, fc_lane **out_lane, fc_reason *out_reason)
{
    fc_status st = FC_OK;
    char name[16];
    fc_lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for a lane");
    lane->context = context;
    lane->index = index;
    pthread_mutex_init(&lane->lock, NULL);
    pthread_cond_init(&lane->opened, NULL);
    if (pthread_create(&lane->thread, NULL, lane_main, lane) != 0) {
        st = fc_fail(FC_INTERNAL, out_reason, "cannot start a lane's thread");
        goto free_lane;
    }
    snprintf(name, sizeof name, "lane-%u", index);
    pthread_setname_np(lane->thread, name);

    pthread_mutex_lock(&lane->lock);
    while (!lane->is_opened)
        pthread_cond_wait(&lane->opened, &lane->lock);
    pthread_mutex_unlock(&lane->lock);
    if (lane->open_status != FC_OK) {
        st = fc_fail(lane->open_status, out_reason, "%s", lane->open_reason.text);
        goto join_thread;
    }
    *out_lane = lane;
    return FC_OK;
join_thread:
    pthread_join(lane->thread, NULL);
free_lane:
    pthread_cond_destroy(&lane->opened);
    pthread_mutex_destroy(&lane->lock);
    free(lane);
    return st;
}

void fc_lane_look(const fc_lane *lane, fc_lane_view *out_view)
{
    uint64_t since_ns = atomic_load_explicit(&lane->running_since_ns, memory_order_acquire);
    out_view->running_since_ns = since_ns != GIVEN_UP ? since_ns : 0;
    out_view->multiplications = atomic_load_explicit(&lane->multiplications, memory_order_relaxed);
    out_view->ran_ns = atomic_load_explicit(&lane->ran_ns, memory_order_relaxed);
}

void fc_lane_join(fc_lane *lane)
{
    if (lane == NULL)
        return;
    pthread_join(lane->thread, NULL);
    pthread_cond_destroy(&lane->opened);
    pthread_mutex_destroy(&lane->lock);
    free(lane);
}
