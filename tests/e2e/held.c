#include "tests/e2e/held.h"

#include <string.h>

#define FLAGS_MAX 24
#define HOLD_US 250000.0
#define TRIES 5 /* each twice as long */

bool fc_held_lane(const fc_held *held)
{
    return held->call != NULL && flashcore_wait(held->call, 0, NULL) == FLASHCORE_TIMED_OUT;
}

bool fc_held_wait(const fc_held *held, const char *counter, double at_least)
{
    while (fc_job_counter(held->client, counter) < at_least) {
        if (!fc_held_lane(held))
            return false;
    }
    return true;
}

static void take(fc_held *held, const char *const *args, int transport, double hold_us)
{
    const char *flags[FLAGS_MAX] = {"--lanes", "1"};
    for (size_t i = 0; args != NULL && args[i] != NULL && i < FLAGS_MAX - 3; i++)
        flags[2 + i] = args[i];
    memset(held, 0, sizeof *held);
    fc_e2e_start(&held->daemon, flags);
    const char *url = transport == 0 ? held->daemon.ipc_url : held->daemon.tcp_url;
    held->client = fc_job_client(&url, 1);
    fc_job_spec spec = fc_job_long_spec(url, hold_us);
    fc_job_make(&spec, &held->job);
    held->call = fc_job_submit(held->client, &held->job);
}

/* Every request has got exactly one reply by then, or its peer had left. */
static void let_go(fc_held *held)
{
    if (held->call != NULL) {
        flashcore_result result = fc_job_finish(held->call);
        ck_assert_msg(result.status == FLASHCORE_OK, "the long request: %s: %s", flashcore_status_name(result.status),
                      result.error);
    }
    if (held->daemon.pid != 0) {
        fc_job_wait_counter_down(held->client, "running", 0);
        fc_job_wait_counter_down(held->client, "queued", 0);
        ck_assert_msg(fc_job_counter(held->client, "lost_replies") == 0, "replies were lost");
        fc_e2e_stop(&held->daemon);
    } else {
        fc_e2e_forget(&held->daemon);
    }
    fc_job_free(&held->job);
    flashcore_client_destroy(held->client);
}

void fc_held_run(const char *const *args, int transport, fc_held_look look, const void *context)
{
    double hold_us = HOLD_US;
    for (int attempt = 0; attempt < TRIES; attempt++, hold_us *= 2) {
        static fc_held held;
        take(&held, args, transport, hold_us);
        bool is_seen = fc_held_wait(&held, "running", 1) && look(&held, context);
        let_go(&held);
        if (is_seen)
            return;
    }
    ck_abort_msg("%d times the lane came free before what is looked for was seen", TRIES);
}
