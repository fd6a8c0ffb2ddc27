/* libuv's handles around the drain state machine. Nothing here waits for a device or a peer. */
#include "daemon/loop.h"

#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/nng_arrivals.h"

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <uv.h>

#define TICK_MS 10     /* how late an expired request may be answered while all lanes are busy */
#define REPORT_MS 1000 /* transport's housekeeping and STATUS= */

enum { SIGNAL_TERM, SIGNAL_INT, SIGNAL_HUP, SIGNAL_COUNT };
static const int SIGNALS[SIGNAL_COUNT] = {SIGTERM, SIGINT, SIGHUP};

struct fc_loop {
    uv_loop_t uv;
    uv_signal_t signals[SIGNAL_COUNT];
    uv_async_t wake;
    uv_timer_t tick, report, watchdog, monitor_timer;
    uv_poll_t monitor_poll, admin_poll;
    atomic_uint events; /* bit per fc_service_event, set by any thread, taken by the loop */
    fc_drain drain;
    bool has_shut;         /* nobody is let in any more */
    fc_loop_config config; /* of the run */
};

static const char *cause_name(fc_drain_cause cause)
{
    static const char *const NAMES[] = {[FC_DRAIN_BY_SIGNAL] = "signal",
                                        [FC_DRAIN_BY_ADMIN] = "admin",
                                        [FC_DRAIN_BY_DEVICE_LOST] = "device_lost",
                                        [FC_DRAIN_BY_LAUNCH_HUNG] = "launch_hung",
                                        [FC_DRAIN_BY_PIPES_LEAKED] = "pipes_leaked"};
    return NAMES[cause];
}

/* --- the way to the end ------------------------------------------------------------------------------------------- */

static uint64_t sum(const atomic_uint_fast64_t *counters, int count)
{
    uint64_t total = 0;
    for (int i = 0; i < count; i++)
        total += atomic_load_explicit(&counters[i], memory_order_relaxed);
    return total;
}

static void step_drain(fc_loop *loop)
{
    if (loop->drain.state == FC_DRAIN_SERVING)
        return;
    fc_drain_view view = {.is_idle = fc_service_is_idle(loop->config.service),
                          .is_all_told = fc_service_has_told_all(loop->config.service),
                          .arrived_count = sum(fc_service_stats(loop->config.service)->requests, FC_OP_COUNT) +
                                           fc_nng_arrivals_bytes()};
    view.is_flushed =
        view.is_idle && fc_transport_is_flushed(loop->config.transport) && fc_local_is_flushed(loop->config.local);
    uint64_t now_ns = fc_clock_now_ns();
    bool gave_up = loop->drain.gives_up;
    bool is_over = fc_drain_step(&loop->drain, &view, now_ns) == FC_DRAIN_OVER;
    if (is_over)
        uv_stop(&loop->uv);
    if ((is_over || loop->drain.is_shut) && !loop->has_shut) {
        loop->has_shut = true;
        fc_transport_refuse_peers(loop->config.transport);
        fc_local_refuse_peers(loop->config.local);
    }
    if (loop->drain.gives_up && !gave_up)
        fc_service_give_up(loop->config.service, now_ns);
}

static void ask_drain(fc_loop *loop, fc_drain_cause cause)
{
    uint64_t timeout_ns = loop->config.options->drain_timeout_ns;
    bool is_first = fc_drain_ask(&loop->drain, cause, fc_clock_now_ns(), timeout_ns);
    fc_log(cause == FC_DRAIN_BY_SIGNAL || cause == FC_DRAIN_BY_ADMIN ? FC_LOG_INFO : FC_LOG_ERROR,
           is_first ? "draining" : "asked_again", fc_log_text("cause", cause_name(cause)),
           fc_log_real("timeout_s", (double)timeout_ns / (double)FC_NS_PER_S));
    if (is_first) {
        fc_notify_send(loop->config.notify, "STOPPING=1\nSTATUS=draining");
        fc_service_drain(loop->config.service);
    }
    step_drain(loop);
}

/* --- callbacks ---------------------------------------------------------------------------------------------------- */

static fc_status reload(fc_loop *loop, fc_reason *out_reason)
{
    if (loop->drain.state != FC_DRAIN_SERVING)
        return fc_fail(FC_DRAINING, out_reason, "the server is shutting down");
    fc_notify_reloading(loop->config.notify, fc_clock_now_ns());
    fc_status st = loop->config.reload(loop->config.reload_context, out_reason);
    fc_notify_send(loop->config.notify, "READY=1");
    return st;
}

static void on_signal(uv_signal_t *handle, int number)
{
    fc_reason why;
    if (number == SIGHUP)
        reload(handle->data, &why); /* which logs what came of it */
    else
        ask_drain(handle->data, FC_DRAIN_BY_SIGNAL);
}

fc_status fc_loop_administer(void *context, const fc_wire_request *request, fc_reason *out_reason)
{
    fc_loop *loop = context;
    switch (request->op) {
    case FC_OP_DRAIN:
        ask_drain(loop, FC_DRAIN_BY_ADMIN);
        return FC_OK;
    case FC_OP_RELOAD:
        return reload(loop, out_reason);
    default:
        return loop->config.set(loop->config.reload_context, request, out_reason);
    }
}

static void on_admin_poll(uv_poll_t *handle, int status, int events)
{
    fc_loop *loop = handle->data;
    (void)status, (void)events;
    fc_admin_run(loop->config.admin);
}

static void on_wake(uv_async_t *handle)
{
    fc_loop *loop = handle->data;
    /* Take all: wake-ups coalesce, one may stand for many. */
    unsigned events = atomic_exchange(&loop->events, 0);
    if ((events & 1u << FC_EVENT_DEVICE_LOST) != 0)
        ask_drain(loop, FC_DRAIN_BY_DEVICE_LOST);
    if ((events & 1u << FC_EVENT_LAUNCH_HUNG) != 0)
        ask_drain(loop, FC_DRAIN_BY_LAUNCH_HUNG);
    if ((events & 1u << FC_EVENT_PIPES_LEAKED) != 0)
        ask_drain(loop, FC_DRAIN_BY_PIPES_LEAKED);
    step_drain(loop);
}

static void on_tick(uv_timer_t *handle)
{
    fc_loop *loop = handle->data;
    uint64_t now_ns = fc_clock_now_ns();
    fc_service_tick(loop->config.service, now_ns);
    fc_service_watch(loop->config.service, loop->config.options->kernel_timeout_ns, now_ns);
    fc_transport_relieve(loop->config.transport, now_ns);
    if (loop->config.admin != NULL)
        fc_admin_tick(loop->config.admin, now_ns);
    step_drain(loop);
}

static void on_monitor_timer(uv_timer_t *handle);
static void on_monitor_poll(uv_poll_t *handle, int status, int events);

static void run_monitor(fc_loop *loop)
{
    int64_t again_ms = fc_monitor_run(loop->config.monitor, fc_clock_now_ns());
    if (fc_monitor_is_stuck(loop->config.monitor))
        uv_poll_stop(&loop->monitor_poll);
    uv_timer_start(&loop->monitor_timer, on_monitor_timer, (uint64_t)again_ms, 0);
}

static void on_monitor_timer(uv_timer_t *handle)
{
    fc_loop *loop = handle->data;
    if (loop->monitor_poll.data != NULL && !uv_is_active((uv_handle_t *)&loop->monitor_poll))
        uv_poll_start(&loop->monitor_poll, UV_READABLE, on_monitor_poll);
    run_monitor(loop);
}

static void on_monitor_poll(uv_poll_t *handle, int status, int events)
{
    (void)status, (void)events;
    run_monitor(handle->data);
}

static void on_report(uv_timer_t *handle)
{
    fc_loop *loop = handle->data;
    uint64_t now_ns = fc_clock_now_ns();
    fc_transport_tick(loop->config.transport, now_ns);
    fc_stats *stats = fc_service_stats(loop->config.service);
    fc_gpu_watch_copy(loop->config.gpu_watch, stats, now_ns);
    fc_notify_send(loop->config.notify,
                   "STATUS=%s: %" PRIu64 " answered, %" PRIu64 " queued, %" PRIu64 " running, %" PRIu64 " connections",
                   loop->drain.state == FC_DRAIN_SERVING ? "serving" : "draining", sum(stats->replies, FC_STATUS_COUNT),
                   fc_stats_get(stats, FC_GAUGE_QUEUED), fc_stats_get(stats, FC_GAUGE_RUNNING),
                   fc_stats_get(stats, FC_GAUGE_PIPES));
}

static void on_watchdog(uv_timer_t *handle)
{
    fc_loop *loop = handle->data;
    fc_notify_send(loop->config.notify, "WATCHDOG=1");
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Also of a loop whose handles are only partly set up. */
static void close_uv(fc_loop *loop)
{
    uv_walk(&loop->uv, close_handle, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
}

static void mask_signals(int how)
{
    sigset_t ours;
    sigemptyset(&ours);
    for (int i = 0; i < SIGNAL_COUNT; i++)
        sigaddset(&ours, SIGNALS[i]);
    pthread_sigmask(how, &ours, NULL); /* cannot fail */
}

static int init_handles(fc_loop *loop)
{
    int error = uv_async_init(&loop->uv, &loop->wake, on_wake);
    if (error != 0)
        return error;
    loop->wake.data = loop;
    uv_timer_t *timers[] = {&loop->tick, &loop->report, &loop->watchdog, &loop->monitor_timer};
    for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++) {
        uv_timer_init(&loop->uv, timers[i]); /* cannot fail */
        timers[i]->data = loop;
    }
    for (int i = 0; i < SIGNAL_COUNT && error == 0; i++) {
        error = uv_signal_init(&loop->uv, &loop->signals[i]);
        if (error != 0)
            return error;
        loop->signals[i].data = loop;
        error = uv_signal_start(&loop->signals[i], on_signal, SIGNALS[i]);
    }
    return error;
}

fc_status fc_loop_create(fc_loop **out_loop, fc_reason *out_reason)
{
    int error;
    fc_loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "loop: out of memory");
    error = uv_loop_init(&loop->uv);
    if (error != 0)
        goto free_loop;
    error = init_handles(loop);
    if (error != 0)
        goto close_loop;
    mask_signals(SIG_BLOCK);
    *out_loop = loop;
    return FC_OK;
close_loop:
    close_uv(loop);
free_loop:
    free(loop);
    return fc_fail(error == UV_ENOMEM ? FC_NO_MEMORY : FC_INTERNAL, out_reason, "loop: %s", uv_strerror(error));
}

void fc_loop_wake(void *context, fc_service_event event)
{
    fc_loop *loop = context;
    atomic_fetch_or(&loop->events, 1u << event);
    uv_async_send(&loop->wake);
}

static void start_poll(fc_loop *loop, uv_poll_t *handle, int fd, uv_poll_cb on_poll, const char *event_without_it)
{
    int error = uv_poll_init(&loop->uv, handle, fd);
    if (error == 0) {
        handle->data = loop;
        error = uv_poll_start(handle, UV_READABLE, on_poll);
    }
    if (error != 0)
        fc_log(FC_LOG_WARN, event_without_it, fc_log_text("reason", uv_strerror(error)));
}

static void start_admin(fc_loop *loop)
{
    if (loop->config.admin != NULL)
        start_poll(loop, &loop->admin_poll, fc_admin_fd(loop->config.admin), on_admin_poll, "admin_unavailable");
}

/* Without a poll handle the timer alone serves it: slow, but it answers. */
static void start_monitor(fc_loop *loop)
{
    if (loop->config.monitor == NULL)
        return;
    start_poll(loop, &loop->monitor_poll, fc_monitor_fd(loop->config.monitor), on_monitor_poll, "metrics_slow");
    run_monitor(loop);
}

fc_exit fc_loop_run(fc_loop *loop, const fc_loop_config *config)
{
    loop->config = *config;
    uv_timer_start(&loop->tick, on_tick, TICK_MS, TICK_MS);
    uv_timer_start(&loop->report, on_report, 0, REPORT_MS);
    uint64_t watchdog_ms = config->notify->watchdog_ns / FC_NS_PER_MS / 2;
    if (config->notify->watchdog_ns != 0)
        uv_timer_start(&loop->watchdog, on_watchdog, 0, watchdog_ms != 0 ? watchdog_ms : 1);
    start_monitor(loop);
    start_admin(loop);
    /* uv_stop() alone ends it: a handle is always alive. */
    mask_signals(SIG_UNBLOCK);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    mask_signals(SIG_BLOCK);

    static const char *const CUTS[] = {[FC_DRAIN_NOT_CUT] = "no",
                                       [FC_DRAIN_CUT_BY_TIMEOUT] = "drain-timeout passed",
                                       [FC_DRAIN_CUT_BY_SIGNAL] = "second signal"};
    const fc_drain *drain = &loop->drain;
    fc_log(drain->cut == FC_DRAIN_NOT_CUT ? FC_LOG_INFO : FC_LOG_WARN, "drained",
           fc_log_text("cause", cause_name(drain->cause)), fc_log_text("cut_short", CUTS[drain->cut]),
           fc_log_uint("running", fc_stats_get(fc_service_stats(config->service), FC_GAUGE_RUNNING)),
           fc_log_uint("replying", fc_stats_get(fc_service_stats(config->service), FC_GAUGE_REPLYING)));
    return fc_drain_exit(drain);
}

void fc_loop_destroy(fc_loop *loop)
{
    if (loop == NULL)
        return;
    mask_signals(SIG_UNBLOCK); /* what waits comes while there are handlers to take it */
    close_uv(loop);
    free(loop);
}
