/* More than the daemon can do: it answers as much as it could before, holds its bounds, and works for nobody who has
 * given up. Rates are compared within one run, a few times if need be: other work on the machine may spoil one
 * comparison, a daemon that breaks down under load spoils all.
 */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 4, CALLS_MAX = 128, TRIES = 6 };

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

static bool has_given_up(flashcore_status status)
{
    return status == FLASHCORE_TIMED_OUT || status == FLASHCORE_DEADLINE_EXCEEDED || status == FLASHCORE_BUSY;
}

/* Ends one turn of a slot. True: it goes on with the next at once. */
static bool end_turn(slot *s, flashcore_status status, const char *error)
{
    load *l = s->load;
    pthread_mutex_lock(&l->lock);
    l->answered += status == FLASHCORE_OK;
    if (status != FLASHCORE_OK && (l->period_us == 0 || !has_given_up(status))) {
        l->failed++;
        snprintf(l->failure, sizeof l->failure, "%s: %.200s", flashcore_status_name(status), error);
    }
    s->is_resting = l->period_us > 0 && !l->is_stopping;
    bool goes_on = l->period_us == 0 && !l->is_stopping && l->failed == 0;
    l->active_count -= !goes_on && !s->is_resting;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return goes_on;
}

static void begin(slot *s)
{
    s->begun_us = fc_e2e_now_us();
    flashcore_status status = flashcore_submit(s->client, &s->job.request, on_end, s, &s->call);
    if (status != FLASHCORE_OK) /* whoever is slow enough gives up before it has begun */
        end_turn(s, status, flashcore_last_error());
}

static void on_end(void *context, flashcore_call *call, const flashcore_result *result)
{
    slot *s = context;
    bool goes_on = end_turn(s, result->status, result->error);
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
    long kib = fc_e2e_resident_kib(daemon);
    ck_assert_int_ge(kib, 0);
    return kib;
}

typedef struct scene {
    fc_e2e_daemon daemon;
    flashcore_client *observer;
    fc_job job;
    uint32_t queue;
} scene;

/* Much to compute, a millisecond or so, of few bytes. */
static const fc_job_spec SPEC = {
    .name = "long", .batch = 1, .q_heads = 1, .kv_heads = 1, .q_len = 1024, .kv_len = 1024, .head_dim = 16};

/* So that what it spends on refusals is what answers lack, and the load does not take it either. */
static void start_on_one_processor(fc_e2e_daemon *daemon, const char *const *args)
{
    cpu_set_t all_cpus, half;
    ck_assert_int_eq(sched_getaffinity(0, sizeof all_cpus, &all_cpus), 0);
    int first = 0;
    while (!CPU_ISSET(first, &all_cpus))
        first++;
    CPU_ZERO(&half);
    CPU_SET(first, &half);
    ck_assert_int_eq(sched_setaffinity(0, sizeof half, &half), 0);
    fc_e2e_start(daemon, args);
    if (CPU_COUNT(&all_cpus) > 1)
        CPU_XOR(&half, &half, &all_cpus); /* all others */
    ck_assert_int_eq(sched_setaffinity(0, sizeof half, &half), 0);
}

static void open_scene(scene *s, uint32_t queue)
{
    char text[16];
    snprintf(text, sizeof text, "%u", queue);
    const char *args[] = {"--queue-requests", text, "--lanes", "1", NULL};
    start_on_one_processor(&s->daemon, args);
    const char *url = s->daemon.ipc_url;
    s->queue = queue;
    s->observer = fc_job_client(&url, 1);
    fc_job_make(&SPEC, &s->job);
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

/* Four and eight times what can be done is asked for by callers who wait for half of what a full queue takes: first
 * come, first served would run each just too late, for nobody, and whoever is refused would only take time. */
START_TEST(impatient_callers_get_what_can_be_done)
{
    enum { QUEUE = 128, FITTING = 16 };
    static const uint32_t TIMES[] = {4, 8};
    static scene s;
    double share = 0, left = 0;
    open_scene(&s, QUEUE);
    for (int i = 0; i < TRIES && (share < 0.7 || left < 0.7); i++) {
        double most = rate_of(&s, FITTING, 0, long_us());
        uint64_t patience_us = (uint64_t)(QUEUE / most * 1e6) / 2;
        double run = fc_job_counter(s.observer, "launched_requests");
        double past = rate_of(&s, TIMES[_i] * QUEUE / 2 / CLIENTS, patience_us, 16 * patience_us);
        run = fc_job_counter(s.observer, "launched_requests") - run;
        share = run > 0 ? (double)all.answered / run : 0;
        left = past / most;
        printf("%.0f answers/s; %u times as many calls that wait for %.1f ms: %.2f times that, %.2f of what ran was in "
               "time\n",
               most, TIMES[_i], (double)patience_us / 1e3, left, share);
        fflush(stdout);
    }
    ck_assert_msg(left >= 0.7, "%d times less than 0.7 of the rate was left, at last %.2f", TRIES, left);
    ck_assert_msg(share >= 0.7, "%d times much of what ran was for nobody, at last but %.2f of it was not", TRIES,
                  share);
    close_scene(&s);
}
END_TEST

int main(void)
{
    unsetenv("FC_TEST_ENGINE_ARGS"); /* the daemon is what is tried, and a stand-in for a GPU is too slow for that */
    Suite *suite = suite_create("overload");
    TCase *core = fc_e2e_case(suite, "core");
    tcase_add_test(core, past_saturation_the_answers_do_not_get_fewer);
    tcase_add_loop_test(core, impatient_callers_get_what_can_be_done, 0, 2);
    return fc_e2e_main(suite);
}
