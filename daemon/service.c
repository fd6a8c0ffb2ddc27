/* See service.h: here a message becomes an operation, and an operation an answer. */
#include "daemon/service.h"

#include "daemon/admission.h"
#include "daemon/clock.h"
#include "daemon/dispatch.h"
#include "daemon/hello.h"
#include "daemon/lanes.h"
#include "daemon/log.h"
#include "daemon/refusals.h"
#include "daemon/reply.h"
#include "daemon/service_check.h"
#include "daemon/slow_log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Contexts beyond what can wait and run: pings, rejections and `busy` while everything is taken. */
#define SPARE_REQUESTS 64
/* When to ask again for an arena: by then many a one is made or freed. */
#define ARENA_RETRY_US 20000
#define REFUSALS_LOGGED_PER_S 1

struct fc_service {
    fc_service_config config; /* tunables and all as created */
    fc_engine_info info;
    fc_admission_limits admission;
    fc_stats stats;
    fc_slow_log slow_log;
    fc_dispatch *dispatch;
    fc_arena_store *arenas; /* NULL: there are none */
    fc_lanes lanes;
    uint32_t lane_count; /* wanted */
    atomic_int default_kernel;
    atomic_bool has_lost_device; /* FC_EVENT_DEVICE_LOST or FC_EVENT_LAUNCH_HUNG was raised */
    bool has_late_keeper;        /* the arenas' thread hangs; loop thread */
    fc_log_gate refusals;

    pthread_mutex_t tunables_lock; /* guards config.tunables after creation */
};

/* --- starting and ending ------------------------------------------------------------------------------------------ */

static void on_idle(void *context)
{
    fc_service_raise(context, FC_EVENT_IDLE);
}

/* At once, from whichever thread saw it: what waits has not started, and is to be sent elsewhere rather than fail on a
 * device that fails everything. */
static void end_of_device(fc_service *service, fc_service_event event)
{
    fc_stats_set(&service->stats, FC_GAUGE_DEVICE_LOST, 1);
    fc_service_drain(service);
    fc_arena_store_end(service->arenas);
    if (!atomic_exchange(&service->has_lost_device, true))
        fc_service_raise(service, event);
}

static void on_device_lost(void *context)
{
    end_of_device(context, FC_EVENT_DEVICE_LOST);
}

static void on_launch_hung(void *context)
{
    fc_service *service = context;
    fc_stats_add(&service->stats, FC_COUNT_LAUNCHES_HUNG, 1);
    end_of_device(service, FC_EVENT_LAUNCH_HUNG);
}

void fc_service_raise(fc_service *service, fc_service_event event)
{
    if (service->config.on_event != NULL)
        service->config.on_event(service->config.event_context, event);
}

/* The system's reason is for the log. What it lacks now it may have soon. */
static void refuse_arena(fc_service *service, fc_request *request, const fc_arena_made *made)
{
    fc_log(FC_LOG_WARN, "arena_failed", fc_log_text("status", fc_status_name(made->status)),
           fc_log_text("why", made->reason.text));
    if (made->status == FC_NO_MEMORY)
        fc_reply_status(service->dispatch, request, FC_BUSY, "no memory for an arena now", ARENA_RETRY_US);
    else
        fc_reply_status(service->dispatch, request, made->status, "an arena cannot be made", 0);
}

static void on_arena_made(void *context, void *asked, const fc_arena_made *made)
{
    fc_service *service = context;
    fc_request *request = asked;
    fc_wire_reply reply;
    if (made->is_device_lost)
        on_device_lost(service);
    if (made->status == FC_NO_MEMORY || made->status == FC_IO) {
        refuse_arena(service, request, made);
        return;
    }
    if (made->status != FC_OK) {
        fc_reply_status(service->dispatch, request, made->status, made->reason.text, 0);
        return;
    }
    fc_wire_reply_init(&reply, FC_OK);
    reply.body = FC_BODY_ARENA;
    reply.arena.id = made->id;
    reply.arena.bytes = made->size_bytes;
    reply.arena.is_device = made->kind == FC_ARENA_DEVICE;
    memcpy(reply.arena.uuid, service->info.device_uuid, sizeof reply.arena.uuid);
    request->reply_fds[0] = made->fd;
    request->reply_fds[1] = made->lifeline_fd;
    fc_reply_message(service->dispatch, request, &reply);
}

static fc_status create_arenas(fc_service *service)
{
    const fc_service_config *config = &service->config;
    bool has_device = fc_hello_has_device_arenas(&service->config, &service->info);
    fc_arena_store_config store = {.total_count = FC_ARENAS_MAX, .ops = config->ops, .engine = config->engine};
    store.quotas[FC_ARENA_HOST] = (fc_arena_quota){.total_bytes = config->arena_bytes,
                                                   .why = "arena-bytes is 0",
                                                   .bytes_per_peer = config->arena_bytes_per_peer,
                                                   .granule_bytes = (size_t)sysconf(_SC_PAGESIZE)};
    store.quotas[FC_ARENA_DEVICE] = (fc_arena_quota){
        .total_bytes = has_device ? config->device_arena_bytes : 0,
        .why = service->info.memory_granule_bytes == 0 ? service->info.memory_why : "device-arena-bytes is 0",
        .bytes_per_peer = config->device_arena_bytes_per_peer,
        .granule_bytes = has_device ? service->info.memory_granule_bytes : 1};
    if (config->arena_bytes == 0 && !has_device)
        return FC_OK;
    return fc_arena_store_create(&store, &service->stats, on_arena_made, service, &service->arenas);
}

/* What several requests may have together: all a lane has room for, or what the engine does best with. */
static size_t launch_bytes(const fc_service *service)
{
    size_t room = service->config.engine_config.lane_staging_bytes, best = service->info.launch_bytes;
    return best > 0 && best < room ? best : room;
}

static fc_dispatch_limits dispatch_limits(const fc_service *service)
{
    const fc_service_tunables *tunables = &service->config.tunables;
    return (fc_dispatch_limits){
        .queue_requests = tunables->queue_requests,
        .queue_bytes = tunables->queue_bytes,
        .queue_bytes_per_peer = tunables->queue_bytes_per_peer,
        .connections_per_owner = tunables->connections_per_uid,
        .requests_per_second = tunables->requests_per_second,
        .inflight_per_peer = tunables->inflight_per_peer,
        .batch = {.requests = tunables->batch_requests,
                  .segments = service->config.engine_config.lane_segments,
                  .staging_bytes = launch_bytes(service)},
        .lane_count = service->lane_count,
        .spin_ns = service->config.engine_config.spin_us * FC_NS_PER_US,
    };
}

static void state_limits(fc_service *service, const fc_dispatch_limits *limits)
{
    fc_stats_set(&service->stats, FC_GAUGE_QUEUE_LIMIT, limits->queue_requests);
    fc_stats_set(&service->stats, FC_GAUGE_QUEUE_LIMIT_BYTES, limits->queue_bytes);
    fc_stats_set(&service->stats, FC_GAUGE_ARENA_LIMIT_BYTES, service->config.arena_bytes);
    fc_stats_set(&service->stats, FC_GAUGE_DEVICE_ARENA_LIMIT_BYTES,
                 fc_hello_has_device_arenas(&service->config, &service->info) ? service->config.device_arena_bytes : 0);
}

static fc_status start_lanes(fc_service *service, fc_reason *out_reason)
{
    service->lanes.is_cpu = service->info.device.engine == FC_ENGINE_CPU;
    fc_lane_context *context = &service->lanes.context;
    *context = (fc_lane_context){
        .ops = service->config.ops,
        .engine = service->config.engine,
        .dispatch = service->dispatch,
        .stats = &service->stats,
        .on_device_lost = on_device_lost,
        .on_launch_hung = on_launch_hung,
        .context = service,
    };
    memcpy(context->device_name, service->info.device_name, sizeof context->device_name);
    fc_status st = fc_lanes_start(&service->lanes, service->lane_count, out_reason);
    fc_stats_set(&service->stats, FC_GAUGE_LANES, service->lanes.count);
    return st;
}

/* All that computes or makes memory for it, bound as the config says. */
static fc_status start_threads(fc_service *service, fc_reason *out_reason)
{
    cpu_set_t before;
    fc_status st = fc_cpu_list_bind(&service->config.lane_cpus, &before, out_reason);
    if (st != FC_OK)
        return st;
    st = create_arenas(service);
    if (st == FC_OK)
        st = start_lanes(service, out_reason);
    else
        fc_fail(st, out_reason, "out of memory or threads for the arenas");
    fc_cpu_list_restore(&service->config.lane_cpus, &before);
    return st;
}

fc_status fc_service_create(const fc_service_config *config, fc_service **out_service, fc_reason *out_reason)
{
    fc_engine_info info = {.lane_count = 1};
    config->ops->describe(config->engine, &info);
    fc_status st = fc_service_check_config(config, out_reason);
    if (st == FC_OK)
        st = fc_service_check_tunables(&config->tunables, &info, out_reason);
    if (st != FC_OK)
        return st;
    fc_service *service = calloc(1, sizeof *service);
    if (service == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for the service");
    service->config = *config;
    service->info = info;
    service->admission = (fc_admission_limits){.tensor_bytes = config->tensor_bytes,
                                               .tokens = config->tokens,
                                               .head_dim = config->head_dim,
                                               .batch_entries = config->engine_config.lane_segments};
    atomic_init(&service->default_kernel, (int)config->tunables.default_kernel);
    pthread_mutex_init(&service->tunables_lock, NULL);
    fc_log_gate_init(&service->refusals, REFUSALS_LOGGED_PER_S);
    fc_slow_log_init(&service->slow_log, config->tunables.slow_request_ns);
    fc_stats_init(&service->stats, fc_clock_now_ns());
    service->lane_count = config->lane_count > 0 ? config->lane_count : info.lane_count;
    if (service->lane_count > FC_SERVICE_LANES_MAX)
        service->lane_count = FC_SERVICE_LANES_MAX;
    fc_dispatch_limits limits = dispatch_limits(service);
    state_limits(service, &limits);
    st = fc_dispatch_create(&limits, &service->stats, on_idle, service, &service->dispatch);
    if (st == FC_OK)
        st = start_threads(service, out_reason);
    else
        fc_fail(st, out_reason, "out of memory for the queue");
    if (st != FC_OK) {
        fc_service_destroy(service);
        return st;
    }
    *out_service = service;
    return FC_OK;
}

void fc_service_drain(fc_service *service)
{
    fc_arena_store_keep_pages(service->arenas);
    fc_reply_chain(service->dispatch, fc_dispatch_drain(service->dispatch), FC_DRAINING,
                   "the server is shutting down; the request was not started");
    if (fc_dispatch_is_idle(service->dispatch))
        fc_service_raise(service, FC_EVENT_IDLE);
}

bool fc_service_has_told_all(const fc_service *service)
{
    return fc_dispatch_has_told_all(service->dispatch);
}

bool fc_service_is_idle(const fc_service *service)
{
    return fc_dispatch_is_idle(service->dispatch);
}

void fc_service_stop(fc_service *service)
{
    fc_request *queued = fc_dispatch_stop(service->dispatch);
    fc_reply_chain(service->dispatch, queued, FC_DRAINING, "the server is shutting down; the request was not started");
    fc_lanes_join(&service->lanes);
    fc_arena_store_stop(service->arenas);
    fc_stats_set(&service->stats, FC_GAUGE_LANES, 0);
}

void fc_service_destroy(fc_service *service)
{
    if (service == NULL)
        return;
    if (service->dispatch != NULL && service->lanes.count > 0)
        fc_service_stop(service);
    fc_arena_store_destroy(service->arenas);
    fc_dispatch_destroy(service->dispatch);
    pthread_mutex_destroy(&service->tunables_lock);
    fc_slow_log_fini(&service->slow_log);
    fc_log_gate_fini(&service->refusals);
    free(service);
}

fc_status fc_service_reconfigure(fc_service *service, const fc_service_tunables *tunables, fc_reason *out_reason)
{
    fc_status st = fc_service_check_tunables(tunables, &service->info, out_reason);
    if (st != FC_OK)
        return st;
    pthread_mutex_lock(&service->tunables_lock);
    service->config.tunables = *tunables;
    fc_dispatch_limits limits = dispatch_limits(service);
    pthread_mutex_unlock(&service->tunables_lock);
    state_limits(service, &limits);
    atomic_store(&service->default_kernel, (int)tunables->default_kernel);
    fc_slow_log_set_limit(&service->slow_log, tunables->slow_request_ns);
    fc_dispatch_set_limits(service->dispatch, &limits);
    return FC_OK;
}

uint32_t fc_service_request_slots(fc_service *service)
{
    pthread_mutex_lock(&service->tunables_lock);
    const fc_service_tunables *tunables = &service->config.tunables;
    uint64_t slots =
        tunables->queue_requests + (uint64_t)service->lane_count * tunables->batch_requests + SPARE_REQUESTS;
    pthread_mutex_unlock(&service->tunables_lock);
    return slots < UINT32_MAX ? (uint32_t)slots : UINT32_MAX;
}

void fc_service_pulse_look(const fc_service *service, uint64_t now_ns, fc_service_pulse *out_pulse)
{
    *out_pulse = (fc_service_pulse){.is_draining = fc_stats_get(&service->stats, FC_GAUGE_DRAINING) != 0,
                                    .is_device_lost = fc_stats_get(&service->stats, FC_GAUGE_DEVICE_LOST) != 0};
    fc_lanes_look(&service->lanes, now_ns, out_pulse);
}

void fc_service_watch(fc_service *service, uint64_t timeout_ns, uint64_t now_ns)
{
    fc_service_pulse pulse;
    if (timeout_ns == 0)
        return;
    fc_lanes_give_up_late(&service->lanes, timeout_ns, now_ns);
    fc_service_pulse_look(service, now_ns, &pulse);
    if (service->has_late_keeper || service->arenas == NULL ||
        !fc_arena_store_is_late(service->arenas, timeout_ns, pulse.longest_launch_ns, now_ns))
        return;
    service->has_late_keeper = true;
    fc_log(FC_LOG_ERROR, "arena_hung", fc_log_text("why", "one arena takes longer than kernel-timeout"));
    end_of_device(service, FC_EVENT_LAUNCH_HUNG);
}

void fc_service_give_up(fc_service *service, uint64_t now_ns)
{
    fc_lanes_give_up_all(&service->lanes, now_ns);
}

bool fc_service_has_given_up(const fc_service *service)
{
    return service->lanes.given_up_count > 0 || service->has_late_keeper;
}

fc_stats *fc_service_stats(fc_service *service)
{
    return &service->stats;
}

/* --- operations --------------------------------------------------------------------------------------------------- */

static void answer_hello(fc_service *service, fc_request *request)
{
    fc_wire_reply reply;
    fc_wire_reply_init(&reply, FC_OK);
    reply.body = FC_BODY_HELLO;
    pthread_mutex_lock(&service->tunables_lock);
    fc_hello_describe(&service->config, &service->info, &reply.hello);
    pthread_mutex_unlock(&service->tunables_lock);
    const char *local = request->sink->side_socket != NULL ? request->sink->side_socket(request) : NULL;
    if (local != NULL)
        reply.hello.local = fc_wire_text_make(local);
    fc_reply_message(service->dispatch, request, &reply);
}

static void answer_stats(fc_service *service, fc_request *request)
{
    fc_wire_reply reply;
    fc_wire_reply_init(&reply, FC_OK);
    reply.body = FC_BODY_STATS;
    fc_stats_snapshot(&service->stats, fc_clock_now_ns(), &reply.stats);
    fc_reply_message(service->dispatch, request, &reply);
}

/* The target's own reply tells whether it was taken back in time; the cancel's says that it was heard. */
static void answer_cancel(fc_service *service, fc_request *request, uint64_t target)
{
    fc_request *cancelled = fc_dispatch_cancel(service->dispatch, request->item.peer, target);
    if (cancelled != NULL)
        fc_reply_status(service->dispatch, cancelled, FC_CANCELLED, NULL, 0);
    fc_reply_status(service->dispatch, request, FC_OK, NULL, 0);
}

/* Can the request's way in hand over arenas? */
static fc_status check_has_arenas(const fc_service *service, const fc_request *request, fc_reason *out_reason)
{
    if (!request->sink->is_local)
        return fc_fail(FC_UNSUPPORTED, out_reason, "op: arenas are the local channel's");
    if (service->arenas == NULL)
        return fc_fail(FC_UNSUPPORTED, out_reason, "op: this server has no arenas");
    return FC_OK;
}

static void enter_arena_create(fc_service *service, fc_request *request, const fc_wire_request *wire)
{
    fc_reason reason = {""};
    uint64_t retry_after_us = ARENA_RETRY_US;
    fc_status st = check_has_arenas(service, request, &reason);
    if (st == FC_OK)
        st = fc_dispatch_count(service->dispatch, request, &retry_after_us, &reason);
    if (st == FC_OK)
        st = fc_arena_store_make(service->arenas, request->item.peer, wire->arena_kind, wire->arena_bytes, request,
                                 &reason);
    if (st != FC_OK)
        fc_reply_status(service->dispatch, request, st, reason.text, retry_after_us);
}

static void answer_arena_destroy(fc_service *service, fc_request *request, uint64_t id)
{
    fc_reason reason = {""};
    fc_status st = check_has_arenas(service, request, &reason);
    if (st == FC_OK)
        st = fc_arena_store_give_back(service->arenas, request->item.peer, id, &reason);
    fc_reply_status(service->dispatch, request, st, reason.text, 0);
}

/* The kv_len entries, made ours because the message holds them packed. */
static fc_status read_kv_lens(fc_request *request, fc_reason *out_reason)
{
    if (!request->attend.has_kv_len || request->problem.batch == 0)
        return FC_OK;
    request->kv_lens = malloc(sizeof *request->kv_lens * request->attend.kv_len_count);
    if (request->kv_lens == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    fc_codec_kv_len(&request->attend, request->kv_lens);
    request->problem.kv_lens = request->kv_lens;
    return FC_OK;
}

/* Everything that can be decided before waiting: problem, kernel, plan, what it needs of a lane. */
static fc_status admit(fc_service *service, fc_request *request, fc_reason *out_reason)
{
    const fc_engine_ops *ops = service->config.ops;
    fc_engine *engine = service->config.engine;
    fc_kernel kernel = FC_KERNEL_AUTO;
    fc_status st = fc_admission_problem(&request->attend, &service->admission, &request->problem, out_reason);
    if (st == FC_OK)
        st = fc_admission_kernel(request->attend.kernel, (fc_kernel)atomic_load(&service->default_kernel),
                                 &service->info, &kernel, out_reason);
    if (st == FC_OK)
        st = read_kv_lens(request, out_reason);
    if (st == FC_OK)
        st = ops->plan(engine, kernel, &request->problem, &request->item.plan, out_reason);
    if (st == FC_OK)
        st = fc_placement_resolve(service->arenas, request->item.peer, request->sink->is_local, &request->attend,
                                  &request->placement, out_reason);
    if (st != FC_OK)
        return st;
    request->item.bytes = request->size_bytes;
    request->item.staging_bytes = ops->staging_bytes(engine, &request->problem, &request->placement.places);
    request->item.segment_count = (uint32_t)request->problem.batch;
    request->item.cost = fc_admission_cost(&request->problem);
    request->item.deadline_ns = fc_admission_deadline(request->received_ns, request->attend.deadline_us);
    request->item.halfway_ns = request->received_ns + (request->item.deadline_ns - request->received_ns) / 2;
    if (request->item.staging_bytes > service->config.engine_config.lane_staging_bytes)
        return fc_fail(FC_TOO_LARGE, out_reason, "q, k, v: need %zu bytes of a lane's memory, which has %zu",
                       request->item.staging_bytes, service->config.engine_config.lane_staging_bytes);
    return FC_OK;
}

static void enter_attend(fc_service *service, fc_request *request)
{
    fc_reason reason = {""};
    uint64_t retry_after_us = 0;
    fc_status st = admit(service, request, &reason);
    if (st == FC_OK)
        st = fc_dispatch_submit(service->dispatch, request, &retry_after_us, &reason);
    if (st != FC_OK)
        fc_reply_status(service->dispatch, request, st, reason.text, retry_after_us);
}

static void perform(fc_service *service, fc_request *request, const fc_wire_request *wire)
{
    switch (wire->op) {
    case FC_OP_HELLO:
        answer_hello(service, request);
        return;
    case FC_OP_PING:
        fc_reply_status(service->dispatch, request, FC_OK, NULL, 0);
        return;
    case FC_OP_ATTEND:
        request->attend = wire->attend;
        enter_attend(service, request);
        return;
    case FC_OP_CANCEL:
        answer_cancel(service, request, wire->cancel_target);
        return;
    case FC_OP_STATS:
        answer_stats(service, request);
        return;
    case FC_OP_ARENA_CREATE:
        enter_arena_create(service, request, wire);
        return;
    case FC_OP_ARENA_DESTROY:
        answer_arena_destroy(service, request, wire->arena);
        return;
    default: /* what is left is the admin socket's */
        fc_reply_status(service->dispatch, request, FC_UNAUTHORIZED, "op: for the admin socket alone", 0);
    }
}

void fc_service_set_lookout(fc_service *service, struct fc_lookout *lookout)
{
    fc_dispatch_set_lookout(service->dispatch, lookout);
}

fc_status fc_service_peer_open(fc_service *service, uint64_t peer, const fc_peer_identity *who)
{
    bool may = !who->is_local || fc_access_allows(&service->config.access, who->uid, who->gid);
    fc_status st = may ? fc_dispatch_open_peer(service->dispatch, peer, fc_peer_owner(who)) : FC_UNAUTHORIZED;
    if (st != FC_OK) {
        fc_stats_add(&service->stats, FC_COUNT_PIPES_REFUSED, 1);
        fc_refusals_log(&service->refusals, who, st);
    }
    return st;
}

static void begin(fc_service *service, fc_request *request, const void *bytes, size_t size_bytes, uint64_t peer)
{
    request->bytes = bytes;
    request->size_bytes = size_bytes;
    request->received_ns = fc_clock_now_ns();
    request->op = FC_OP_COUNT;
    request->item = (fc_queue_item){.peer = peer, .deadline_ns = FC_NEVER_NS};
    fc_dispatch_begin(service->dispatch, request);
    fc_stats_add(request->stats, FC_COUNT_BYTES_IN, size_bytes);
}

void fc_service_refuse(fc_service *service, fc_request *request, const void *bytes, size_t size_bytes, uint64_t peer,
                       fc_status status, const char *why)
{
    fc_wire_request wire;
    fc_reason reason = {""};
    begin(service, request, bytes, size_bytes, peer);
    fc_codec_decode_request(bytes, size_bytes, &wire, &reason);
    request->item.id = wire.id;
    fc_stats_add(&service->stats, FC_COUNT_UNDECODABLE, 1);
    fc_reply_status(service->dispatch, request, status, why, 0);
}

void fc_service_receive(fc_service *service, fc_request *request, const void *bytes, size_t size_bytes, uint64_t peer)
{
    fc_wire_request wire;
    fc_reason reason = {""};
    begin(service, request, bytes, size_bytes, peer);
    fc_status st = fc_codec_decode_request(bytes, size_bytes, &wire, &reason);
    request->item.id = wire.id;
    uint64_t retry_after_us = 0;
    if (st == FC_OK && size_bytes > service->config.message_bytes)
        st = fc_fail(FC_TOO_LARGE, &reason, "%zu bytes; the limit message_bytes is %llu", size_bytes,
                     (unsigned long long)service->config.message_bytes);
    if (st != FC_OK) {
        fc_stats_add(&service->stats, FC_COUNT_UNDECODABLE, 1);
        fc_reply_status(service->dispatch, request, st, reason.text, 0);
        return;
    }
    request->op = wire.op;
    st = fc_dispatch_check_rate(service->dispatch, request, &retry_after_us, &reason);
    if (st != FC_OK) {
        fc_stats_add(&service->stats, FC_COUNT_OVER_RATE, 1);
        fc_reply_status(service->dispatch, request, st, reason.text, retry_after_us);
        return;
    }
    atomic_fetch_add_explicit(&request->stats->requests[wire.op], 1, memory_order_relaxed);
    perform(service, request, &wire);
}

void fc_service_sent(fc_service *service, fc_request *request, bool has_left)
{
    uint64_t now_ns = fc_clock_now_ns();
    if (!has_left)
        fc_stats_add(request->stats, FC_COUNT_REPLIES_LOST, 1);
    else if (request->ran_ns != 0)
        fc_request_observe(request, now_ns);
    fc_slow_log_note(&service->slow_log, request, now_ns);
    fc_dispatch_end(service->dispatch, request);
}

void fc_service_peer_gone(fc_service *service, uint64_t peer)
{
    fc_request *next;
    for (fc_request *request = fc_dispatch_drop_peer(service->dispatch, peer); request != NULL; request = next) {
        next = fc_dispatch_next(request);
        fc_reply_drop(service->dispatch, request);
    }
    if (service->arenas != NULL)
        fc_arena_store_peer_gone(service->arenas, peer);
}

void fc_service_tick(fc_service *service, uint64_t now_ns)
{
    fc_reply_chain(service->dispatch, fc_dispatch_expire(service->dispatch, now_ns), FC_DEADLINE_EXCEEDED,
                   "deadline_us: too little is left of it, after waiting");
}
