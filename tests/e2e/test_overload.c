/* More than the daemon can do: it answers as much as it could before, holds its bounds, and works for nobody who has
 * given up. Rates are compared within one run, a few times if need be: other work on the machine may spoil one
 * comparison, a daemon that breaks down under load spoils all.
 */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 4, CALLS_MAX = 128, TRIES = 6 };
#define LAUNCH_US 1000.0 /* of one request, about */

/* Calls that are made again: as soon as they end, or once a period. */
typedef struct slot {
    struct load *load;
    flashcore_client *client;
    fc_job job;
    flashcore_call *call;
    uint64_t begun_us;
    bool is_resting; /* load->lock */
} slot;

typedef struct load {
    flashcore_client *clients[CLIENTS];
    slot slots[CLIENTS * CALLS_MAX];
    uint32_t slot_count;
    uint64_t period_us; /* from one call of a slot to its next; 0: at once */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    uint64_t answered, given_up, failed;
    uint32_t active_count;
    bool is_stopping;
    char failure[256];
} load;

static load all;

static void on_end(void *context, flashcore_call *call, const flashcore_result *result);

/* True: over, for this slot. */
static bool leave(load *l, const char *failure)
{
    pthread_mutex_lock(&l->lock);
    bool is_over = l->is_stopping || failure != NULL;
    l->active_count -= is_over;
    l->failed += failure != NULL;
    if (failure != NULL)
        snprintf(l->failure, sizeof l->failure, "submit: %s", failure);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return is_over;
}

static void begin(slot *s)
{
    s->begun_us = fc_e2e_now_us();
    if (!leave(s->load, NULL) && flashcore_submit(s->client, &s->job.request, on_end, s, &s->call) != FLASHCORE_OK)
        leave(s->load, flashcore_last_error());
}

static bool has_given_up(flashcore_status status)
{
    return status == FLASHCORE_TIMED_OUT || status == FLASHCORE_DEADLINE_EXCEEDED || status == FLASHCORE_BUSY;
}

static void on_end(void *context, flashcore_call *call, const flashcore_result *result)
{
    slot *s = context;
    load *l = s->load;
    pthread_mutex_lock(&l->lock);
    l->answered += result->status == FLASHCORE_OK;
    if (result->status != FLASHCORE_OK && (l->period_us == 0 || !has_given_up(result->status))) {
        l->failed++;
        snprintf(l->failure, sizeof l->failure, "%s: %.200s", flashcore_status_name(result->status), result->error);
    }
    s->is_resting = l->period_us > 0 && !l->is_stopping;
    bool goes_on = !s->is_resting;
    pthread_mutex_unlock(&l->lock);
    flashcore_call_release(call);
    if (goes_on)
        begin(s);
}

/* Makes the calls whose period is over. */
static void begin_rested(load *l, uint64_t now_us)
{
    for (uint32_t i = 0; l->period_us > 0 && i < l->slot_count; i++) {
        slot *s = &l->slots[i];
        pthread_mutex_lock(&l->lock);
        bool is_due = s->is_resting && now_us >= s->begun_us + l->period_us;
        if (is_due)
            s->is_resting = false;
        pthread_mutex_unlock(&l->lock);
        if (is_due)
            begin(s);
    }
}

/* Starts calls_per_client calls of each client; patience_us: when they give up, which is also when they are made again;
 * 0: they do not. */
static void start(const fc_e2e_daemon *daemon, const fc_job *inputs, uint32_t calls_per_client, uint64_t patience_us)
{
    const char *url = daemon->ipc_url;
    flashcore_options options;
    flashcore_options_init(&options);
    options.urls = &url;
    options.url_count = 1;
    options.timeout_us = patience_us;
    options.path = FLASHCORE_PATH_INLINE; /* what is refused has been carried */
    memset(&all, 0, sizeof all);
    pthread_mutex_init(&all.lock, NULL);
    pthread_cond_init(&all.changed, NULL);
    all.period_us = patience_us;
    all.active_count = all.slot_count = CLIENTS * calls_per_client;
    for (int i = 0; i < CLIENTS; i++) {
        ck_assert_int_eq(flashcore_client_create(&options, &all.clients[i]), FLASHCORE_OK);
        while (flashcore_ping(all.clients[i], 0, NULL) != FLASHCORE_OK) {
        } /* until it is connected: patience is for calls, and short */
    }
    for (uint32_t i = 0; i < all.slot_count; i++) {
        all.slots[i].load = &all;
        all.slots[i].client = all.clients[i % CLIENTS];
        fc_job_share(inputs, &all.slots[i].job);
    }
    for (uint32_t i = 0; i < all.slot_count; i++)
        begin(&all.slots[i]);
}

static void stop(void)
{
    pthread_mutex_lock(&all.lock);
    all.is_stopping = true;
    for (uint32_t i = 0; i < all.slot_count; i++) {
        all.active_count -= all.slots[i].is_resting;
        all.slots[i].is_resting = false;
    }
    while (all.active_count > 0)
        pthread_cond_wait(&all.changed, &all.lock);
    pthread_mutex_unlock(&all.lock);
    for (int i = 0; i < CLIENTS; i++)
        flashcore_client_destroy(all.clients[i]);
    for (uint32_t i = 0; i < all.slot_count; i++)
        fc_job_free(&all.slots[i].job);
    pthread_cond_destroy(&all.changed);
    pthread_mutex_destroy(&all.lock);
    ck_assert_msg(all.failed == 0, "%lu calls failed, the last: %s", (unsigned long)all.failed, all.failure);
}

/* Answers a second, from a first lot of answers on to `counted` more, or until limit_us; looks at the queue meanwhile.
 */
static double measure(flashcore_client *observer, uint64_t counted, uint64_t limit_us, double queued_max)
{
    uint64_t begin_us = 0, begin_count = 0, end_us = fc_e2e_now_us() + limit_us;
    for (;;) {
        double queued = fc_job_counter(observer, "queued");
        ck_assert_msg(queued <= queued_max, "%.0f are queued", queued);
        uint64_t now_us = fc_e2e_now_us();
        begin_rested(&all, now_us);
        pthread_mutex_lock(&all.lock);
        uint64_t count = all.answered;
        pthread_mutex_unlock(&all.lock);
        if (begin_us == 0 && (count >= counted / 4 || now_us >= end_us)) {
            begin_us = now_us;
            begin_count = count;
            end_us = now_us + limit_us;
        } else if (begin_us != 0 && (count >= begin_count + counted || now_us >= end_us)) {
            return (double)(count - begin_count) * 1e6 / (double)(now_us - begin_us);
        }
    }
}

static long resident_kib(const fc_e2e_daemon *daemon)
{
    char path[64];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)daemon->pid);
    char *text = fc_e2e_read_file(path, NULL);
    const char *line = text != NULL ? strstr(text, "RssAnon:") : NULL;
    if (line != NULL)
        kib = strtol(line + strlen("RssAnon:"), NULL, 10);
    free(text);
    ck_assert_int_ge(kib, 0);
    return kib;
}

typedef struct scene {
    fc_e2e_daemon daemon;
    flashcore_client *observer;
    fc_job job;
    uint32_t queue;
} scene;

/* Much to compute of few bytes: about LAUNCH_US on one lane, found by timing. */
static void make_job(const char *url, fc_job *out_job)
{
    fc_job_spec spec = {
        .name = "long", .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 256, .kv_len = 256, .head_dim = 16};
    flashcore_client *client = fc_job_client(&url, 1);
    for (;; spec.q_len *= 2, spec.kv_len *= 2) {
        flashcore_result result;
        fc_job_make(&spec, out_job);
        ck_assert_int_eq(flashcore_attend(client, &out_job->request, &result), FLASHCORE_OK);
        if ((result.server_total_us - result.queue_us) * 2 > LAUNCH_US || spec.q_len >= 4096)
            break;
        fc_job_free(out_job);
    }
    flashcore_client_destroy(client);
}

static void open_scene(scene *s, uint32_t queue)
{
    char text[16];
    snprintf(text, sizeof text, "%u", queue);
    const char *args[] = {"--queue-requests", text, "--lanes", "1", NULL};
    fc_e2e_start(&s->daemon, args);
    const char *url = s->daemon.ipc_url;
    s->queue = queue;
    s->observer = fc_job_client(&url, 1);
    make_job(url, &s->job);
}

/* Everything has been answered, and nothing is left. */
static void close_scene(scene *s)
{
    fc_job_wait_counter_down(s->observer, "queued", 0);
    fc_job_wait_counter_down(s->observer, "running", 0);
    ck_assert(fc_job_counter(s->observer, "lost_replies") == 0);
    flashcore_client_destroy(s->observer);
    fc_job_free(&s->job);
    fc_e2e_stop(&s->daemon);
}

/* One rate under a load. Those who are told that it is too late count as queued until all of them have been. */
static double rate_of(scene *s, uint32_t calls_per_client, uint64_t patience_us, uint64_t limit_us)
{
    start(&s->daemon, &s->job, calls_per_client, patience_us);
    double rate = measure(s->observer, 4 * s->queue, limit_us, patience_us == 0 ? s->queue : 2 * s->queue);
    stop();
    return rate;
}

static uint64_t long_us(void)
{
    return (uint64_t)fc_e2e_limit_ms(10000) * 1000u;
}

START_TEST(past_saturation_the_answers_do_not_get_fewer)
{
    enum { QUEUE = 64, FITTING = 12, TOO_MANY = 128, MEMORY_KIB = 96 << 10 };
    static scene s;
    double ratio = 0, refused = 0, answers = 0;
    open_scene(&s, QUEUE);
    double before_kib = (double)resident_kib(&s.daemon);
    for (int i = 0; i < TRIES && ratio < 0.7; i++) {
        double most = rate_of(&s, FITTING, 0, long_us());
        refused = fc_job_counter(s.observer, "replies_busy");
        answers = fc_job_counter(s.observer, "launched_requests");
        ratio = rate_of(&s, TOO_MANY, 0, long_us()) / most;
        refused = fc_job_counter(s.observer, "replies_busy") - refused;
        answers = fc_job_counter(s.observer, "launched_requests") - answers;
        printf("%.0f answers/s, with ten times the calls %.2f times that, %.2f refusals an answer\n", most, ratio,
               refused / answers);
        fflush(stdout);
    }
    ck_assert_msg(ratio >= 0.7, "%d times less than 0.7 of the rate was left, at last %.2f", TRIES, ratio);
    ck_assert(refused > 0);
    ck_assert_msg(refused <= 4 * answers, "%.0f refusals for %.0f answers", refused, answers);
    double grown_kib = (double)resident_kib(&s.daemon) - before_kib;
    ck_assert_msg(grown_kib <= fc_e2e_limit_ms(MEMORY_KIB), "%.0f KiB more", grown_kib);
    close_scene(&s);
}
END_TEST

/* Four times what can be done is asked for by callers who wait for half of what a full queue takes: first come, first
 * served would run each just too late. */
START_TEST(what_is_run_is_run_in_time)
{
    enum { QUEUE = 256, FITTING = 16, TOO_MANY = 4 * QUEUE / 2 / CLIENTS };
    static scene s;
    double ratio = 0;
    open_scene(&s, QUEUE);
    for (int i = 0; i < TRIES && ratio < 0.4; i++) {
        double most = rate_of(&s, FITTING, 0, long_us());
        uint64_t patience_us = (uint64_t)(QUEUE / most * 1e6) / 2;
        ratio = rate_of(&s, TOO_MANY, patience_us, 16 * patience_us) / most;
        printf("%.0f answers/s, when all wait for %.1f ms and no longer %.2f times that\n", most,
               (double)patience_us / 1e3, ratio);
        fflush(stdout);
    }
    ck_assert_msg(ratio >= 0.4, "%d times less than 0.4 of the rate was left, at last %.2f", TRIES, ratio);
    close_scene(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("overload");
    TCase *core = fc_e2e_case(suite, "core");
    tcase_add_test(core, past_saturation_the_answers_do_not_get_fewer);
    tcase_add_test(core, what_is_run_is_run_in_time);
    return fc_e2e_main(suite);
}
