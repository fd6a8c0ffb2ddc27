/* See monitor.h. */
#include "daemon/monitor.h"

#include "daemon/http.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/readiness.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How soon it is looked at again while not ready. */
#define RETRY_MS 100

struct fc_monitor {
    fc_service *service;
    const fc_options *options;
    fc_probe *probe;
    fc_readiness readiness;
    bool is_ready;
    fc_reason why_not;
    fc_http *http;
    fc_metrics_about about;
};

/* --- readiness ---------------------------------------------------------------------------------------------------- */

static void look(const fc_monitor *monitor, uint64_t now_ns, fc_readiness_view *out_view)
{
    fc_service_pulse_look(monitor->service, now_ns, &out_view->pulse);
    fc_probe_look(monitor->probe, &out_view->probe);
}

/* Decides anew, and says so in log and statistics when the answer is another one. */
static void judge(fc_monitor *monitor, uint64_t now_ns)
{
    fc_readiness_view view;
    bool was_ready = monitor->is_ready;
    look(monitor, now_ns, &view);
    monitor->is_ready =
        fc_readiness_judge(&monitor->readiness, &view, monitor->options->ready_timeout_ns, now_ns, &monitor->why_not);
    fc_stats_set(fc_service_stats(monitor->service), FC_READING_READY, monitor->is_ready);
    if (was_ready && !monitor->is_ready && !view.pulse.is_draining)
        fc_log(FC_LOG_WARN, "not_ready", fc_log_text("why", monitor->why_not.text));
    else if (!was_ready && monitor->is_ready)
        fc_log(FC_LOG_INFO, "answers_ready");
}

static void step(fc_monitor *monitor, uint64_t now_ns)
{
    fc_readiness_view view;
    fc_stats *stats = fc_service_stats(monitor->service);
    uint64_t ended_ns = monitor->readiness.outcome.ended_ns;
    look(monitor, now_ns, &view);
    bool wants_probe = fc_readiness_step(&monitor->readiness, &view, monitor->options->ready_timeout_ns, now_ns);
    if (monitor->readiness.outcome.ended_ns != ended_ns)
        fc_stats_add(stats, FC_COUNT_PROBES_FAILED, monitor->readiness.outcome.status != FC_OK);
    if (wants_probe) {
        fc_stats_add(stats, FC_COUNT_PROBES, 1);
        fc_probe_send(monitor->probe, now_ns);
    }
    judge(monitor, now_ns);
}

/* --- pages -------------------------------------------------------------------------------------------------------- */

/* A body of its own, or none when there is no memory for it. */
static void say(fc_http_answer *answer, unsigned status, const char *text)
{
    answer->status = status;
    answer->body = strdup(text);
    answer->body_bytes = answer->body != NULL ? strlen(text) : 0;
}

static void get_metrics(fc_monitor *monitor, fc_http_answer *answer)
{
    fc_process_stats process;
    fc_process_stats_read(&process);
    fc_status st = fc_metrics_render(fc_service_stats(monitor->service), &monitor->about, &process, &answer->body,
                                     &answer->body_bytes);
    answer->status = st == FC_OK ? 200 : 503;
    answer->content_type = st == FC_OK ? FC_METRICS_CONTENT_TYPE : NULL;
}

static void get_health(fc_monitor *monitor, fc_http_answer *answer)
{
    (void)monitor;
    say(answer, 200, "ok\n");
}

static void get_ready(fc_monitor *monitor, fc_http_answer *answer)
{
    char text[FC_REASON_BYTES + 1];
    judge(monitor, fc_clock_now_ns());
    snprintf(text, sizeof text, "%s\n", monitor->is_ready ? "ready" : monitor->why_not.text);
    say(answer, monitor->is_ready ? 200 : 503, text);
}

typedef struct page {
    const char *path;
    void (*get)(fc_monitor *monitor, fc_http_answer *answer);
} page;

static const page PAGES[] = {{"/metrics", get_metrics}, {"/healthz", get_health}, {"/readyz", get_ready}};

static void on_get(void *context, const char *path, fc_http_answer *answer)
{
    fc_monitor *monitor = context;
    for (size_t i = 0; i < sizeof PAGES / sizeof PAGES[0]; i++) {
        if (strcmp(PAGES[i].path, path) == 0) {
            PAGES[i].get(monitor, answer);
            return;
        }
    }
    say(answer, 404, "flashcored " FC_VERSION ": /metrics /healthz /readyz\n");
}

fc_status fc_monitor_open(const fc_monitor_config *config, fc_monitor **out_monitor, fc_reason *out_reason)
{
    fc_http_address address;
    struct timespec now;
    fc_status st = fc_http_address_parse(config->options->metrics, &address, out_reason);
    if (st != FC_OK)
        return st;
    fc_monitor *monitor = calloc(1, sizeof *monitor);
    if (monitor == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for the metrics");
    clock_gettime(CLOCK_REALTIME, &now);
    monitor->service = config->service;
    monitor->options = config->options;
    monitor->about = (fc_metrics_about){.version = FC_VERSION,
                                        .engine = config->engine,
                                        .device = config->device,
                                        .start_time_s = (double)now.tv_sec + (double)(now.tv_nsec / 1000000) / 1e3};
    st = fc_probe_create(config->service, &monitor->probe);
    if (st != FC_OK)
        fc_fail(st, out_reason, "no self-test: %s", fc_status_text(st));
    else
        st =
            fc_http_open(&address, (uint32_t)config->options->socket_mode, on_get, monitor, &monitor->http, out_reason);
    if (st != FC_OK) {
        fc_monitor_close(monitor);
        return st;
    }
    *out_monitor = monitor;
    return FC_OK;
}

void fc_monitor_close(fc_monitor *monitor)
{
    if (monitor == NULL)
        return;
    fc_http_close(monitor->http);
    fc_probe_destroy(monitor->probe);
    free(monitor);
}

const char *fc_monitor_address(const fc_monitor *monitor)
{
    return fc_http_address_text(monitor->http);
}

int fc_monitor_fd(const fc_monitor *monitor)
{
    return fc_http_fd(monitor->http);
}

int64_t fc_monitor_run(fc_monitor *monitor, uint64_t now_ns)
{
    step(monitor, now_ns);
    int64_t period_ms = (int64_t)(fc_readiness_period_ns(monitor->options->ready_timeout_ns) / FC_NS_PER_MS);
    if (!monitor->is_ready && period_ms > RETRY_MS)
        period_ms = RETRY_MS;
    int64_t again_ms = fc_http_run(monitor->http, now_ns);
    return again_ms >= 0 && again_ms < period_ms ? again_ms : period_ms;
}

bool fc_monitor_is_stuck(const fc_monitor *monitor)
{
    return fc_http_is_stuck(monitor->http);
}
