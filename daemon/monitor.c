/* See monitor.h. */
#include "daemon/monitor.h"

#include "daemon/http.h"
#include "daemon/metrics.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct fc_monitor {
    fc_service *service;
    fc_http *http;
    fc_metrics_about about;
};

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

typedef struct page {
    const char *path;
    void (*get)(fc_monitor *monitor, fc_http_answer *answer);
} page;

static const page PAGES[] = {{"/metrics", get_metrics}, {"/healthz", get_health}};

static void on_get(void *context, const char *path, fc_http_answer *answer)
{
    fc_monitor *monitor = context;
    for (size_t i = 0; i < sizeof PAGES / sizeof PAGES[0]; i++) {
        if (strcmp(PAGES[i].path, path) == 0) {
            PAGES[i].get(monitor, answer);
            return;
        }
    }
    say(answer, 404, "flashcored " FC_VERSION ": /metrics /healthz\n");
}

fc_status fc_monitor_open(const fc_monitor_config *config, fc_monitor **out_monitor, fc_reason *out_reason)
{
    fc_http_address address;
    struct timespec now;
    fc_status st = fc_http_address_parse(config->address, &address, out_reason);
    if (st != FC_OK)
        return st;
    fc_monitor *monitor = calloc(1, sizeof *monitor);
    if (monitor == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for the metrics");
    clock_gettime(CLOCK_REALTIME, &now);
    monitor->service = config->service;
    monitor->about = (fc_metrics_about){.version = FC_VERSION,
                                        .engine = config->engine,
                                        .device = config->device,
                                        .start_time_s = (double)now.tv_sec + (double)(now.tv_nsec / 1000000) / 1e3};
    st = fc_http_open(&address, config->unix_mode, on_get, monitor, &monitor->http, out_reason);
    if (st != FC_OK) {
        free(monitor);
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
    return fc_http_run(monitor->http, now_ns);
}
