/* Many at once: shared launches that change no bit, a full queue that says so at once, deadlines and cancels of what
 * waits. One lane, so that a long request makes the others queue.
 */
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/held.h"
#include "tests/e2e/job.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- 64 clients ------------------------------------------------------------------------------------------------- */

#define CLIENTS 64
#define ROUNDS 4
#define KINDS 8

static const fc_job_spec MIXED[KINDS] = {
    {.name = "f16", .batch = 1, .q_heads = 4, .kv_heads = 4, .q_len = 33, .kv_len = 65, .head_dim = 64, .seed = 1},
    {.name = "f16 causal",
     .causal = FLASHCORE_CAUSAL_TOP_LEFT,
     .batch = 2,
     .q_heads = 2,
     .kv_heads = 1,
     .q_len = 64,
     .kv_len = 64,
     .head_dim = 64,
     .seed = 2,
     .wants_lse = true},
    {.name = "f16 decode",
     .batch = 3,
     .q_heads = 8,
     .kv_heads = 2,
     .q_len = 1,
     .kv_len = 200,
     .head_dim = 64,
     .seed = 3},
    {.name = "f16 kv_len",
     .has_kv_lens = true,
     .kv_lens = {7, 90},
     .batch = 2,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 21,
     .kv_len = 90,
     .head_dim = 64,
     .seed = 4},
    {.name = "f16 empty", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 9, .kv_len = 0, .head_dim = 64, .seed = 5},
    {.name = "bf16",
     .dtype = FLASHCORE_BF16,
     .batch = 1,
     .q_heads = 4,
     .kv_heads = 4,
     .q_len = 40,
     .kv_len = 50,
     .head_dim = 64,
     .seed = 6,
     .wants_lse = true},
    {.name = "f32",
     .dtype = FLASHCORE_F32,
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 40,
     .kv_len = 50,
     .head_dim = 128,
     .seed = 7},
    {.name = "f16 bshd",
     .layout = FLASHCORE_BSHD,
     .batch = 1,
     .q_heads = 4,
     .kv_heads = 4,
     .q_len = 70,
     .kv_len = 70,
     .head_dim = 64,
     .seed = 8,
     .softcap = 20.0f},
};

typedef struct caller {
    pthread_t thread;
    pthread_barrier_t *start;
    flashcore_client *client;
    fc_job jobs[KINDS];
    const fc_job *alone; /* [KINDS] */
    int index;
    uint32_t largest_batch;
    char failure[320]; /* "" when all went well */
} caller;

/* Check's assertions belong to the main thread: what is wrong travels as text. */
static void *call_in_rounds(void *argument)
{
    caller *self = argument;
    for (int round = 0; round < ROUNDS; round++) {
        if (round == 0)
            pthread_barrier_wait(self->start);
        int kind = (self->index + round) % KINDS;
        flashcore_result result;
        fc_job_poison(&self->jobs[kind]);
        flashcore_status status = flashcore_attend(self->client, &self->jobs[kind].request, &result);
        if (status != FLASHCORE_OK)
            snprintf(self->failure, sizeof self->failure, "%s: %s: %s", MIXED[kind].name, flashcore_status_name(status),
                     result.error);
        else if (!fc_job_same_answer(&self->jobs[kind], &self->alone[kind]))
            snprintf(self->failure, sizeof self->failure, "%s: differs from the answer alone, batch %u",
                     MIXED[kind].name, result.batch);
        else if (result.batch > self->largest_batch)
            self->largest_batch = result.batch;
    }
    return NULL;
}

static void make_caller(caller *out_caller, const char *url)
{
    out_caller->client = fc_job_client(&url, 1);
    for (int i = 0; i < KINDS; i++)
        fc_job_make(&MIXED[i], &out_caller->jobs[i]);
    ck_assert_int_eq(pthread_create(&out_caller->thread, NULL, call_in_rounds, out_caller), 0);
}

static void free_caller(caller *self)
{
    for (int i = 0; i < KINDS; i++)
        fc_job_free(&self->jobs[i]);
    flashcore_client_destroy(self->client);
}

static bool look_at_company(fc_held *held, const void *context)
{
    static caller callers[CLIENTS];
    const fc_job *alone = context;
    pthread_barrier_t start;
    uint32_t largest_batch = 0;
    pthread_barrier_init(&start, NULL, CLIENTS + 1);
    for (int i = 0; i < CLIENTS; i++) {
        callers[i] = (caller){.start = &start, .alone = alone, .index = i};
        make_caller(&callers[i], i % 2 == 0 ? held->daemon.ipc_url : held->daemon.tcp_url);
    }
    pthread_barrier_wait(&start);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(callers[i].thread, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        ck_assert_msg(callers[i].failure[0] == '\0', "client %d: %s", i, callers[i].failure);
        if (callers[i].largest_batch > largest_batch)
            largest_batch = callers[i].largest_batch;
        free_caller(&callers[i]);
    }
    pthread_barrier_destroy(&start);
    return largest_batch > 1 && fc_job_counter(held->client, "shared_launches") >= 1;
}

/* Answers of requests that had the daemon to themselves, then of 64 clients at once. */
START_TEST(company_changes_no_bit)
{
    fc_e2e_daemon daemon;
    fc_job alone[KINDS];
    fc_e2e_start(&daemon, NULL);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    for (int i = 0; i < KINDS; i++) {
        flashcore_result result;
        fc_job_make(&MIXED[i], &alone[i]);
        fc_job_attend(client, &alone[i], &result);
        ck_assert_uint_eq(result.batch, 1);
    }
    flashcore_client_destroy(client);
    fc_e2e_stop(&daemon);
    fc_held_run(NULL, 0, look_at_company, alone);
    for (int i = 0; i < KINDS; i++)
        fc_job_free(&alone[i]);
}
END_TEST

/* --- with the lane held ----------------------------------------------------------------------------------------- */

static const fc_job_spec SMALL = {
    .name = "small", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 8, .kv_len = 8, .head_dim = 16};

#define CROWD_MAX 40

/* Requests submitted together. */
typedef struct crowd {
    int count;
    fc_job jobs[CROWD_MAX];
    flashcore_call *calls[CROWD_MAX];
} crowd;

static crowd many;

static void submit_crowd(flashcore_client *client, const fc_job_spec *spec, int count)
{
    many.count = count;
    for (int i = 0; i < count; i++) {
        fc_job_make(spec, &many.jobs[i]);
        many.calls[i] = fc_job_submit(client, &many.jobs[i]);
    }
}

/* All right, but the one with another status (-1: no such one). */
static void finish_crowd(int other, flashcore_status other_status)
{
    for (int i = 0; i < many.count; i++) {
        flashcore_result result = fc_job_finish(many.calls[i]);
        flashcore_status want = i == other ? other_status : FLASHCORE_OK;
        ck_assert_msg(result.status == want, "%d: %s: %s", i, flashcore_status_name(result.status), result.error);
        if (result.status == FLASHCORE_OK)
            fc_job_check(&many.jobs[i]);
        fc_job_free(&many.jobs[i]);
    }
}

static bool look_at_a_full_queue(fc_held *held, const void *context)
{
    enum { QUEUED = 2, REFUSED = 12 };
    fc_bytes replies[REFUSED] = {{0}};
    (void)context;
    submit_crowd(held->client, &SMALL, QUEUED);
    bool is_seen = fc_held_wait(held, "queued", QUEUED);
    for (int i = 0; is_seen && i < REFUSED; i++) {
        fc_foreign foreign = fc_foreign_open(i % 2 == 0 ? held->daemon.ipc_url : held->daemon.tcp_url);
        fc_bytes request = {0};
        fc_pack_attend(&request, 500 + (uint64_t)i);
        fc_foreign_call(&foreign, &request, &replies[i]);
        fc_bytes_fini(&request);
        fc_foreign_close(&foreign);
    }
    is_seen = is_seen && fc_held_lane(held); /* then all these were answered at once */
    for (int i = 0; is_seen && i < REFUSED; i++) {
        ck_assert(fc_value_is_text(fc_reply_get(&replies[i], "status"), "busy"));
        ck_assert_uint_eq(fc_value_uint(fc_reply_get(&replies[i], "id")), 500 + (uint64_t)i);
        ck_assert_uint_gt(fc_value_uint(fc_reply_get(&replies[i], "retry_after_us")), 0);
    }
    if (is_seen)
        ck_assert(fc_job_counter(held->client, "replies_busy") == REFUSED);
    finish_crowd(-1, FLASHCORE_OK);
    for (int i = 0; i < REFUSED; i++)
        fc_bytes_fini(&replies[i]);
    return is_seen;
}

START_TEST(a_full_queue_says_busy_at_once)
{
    static const char *const args[] = {"--queue-requests", "2", "--batch-requests", "1", NULL};
    fc_held_run(args, 0, look_at_a_full_queue, NULL);
}
END_TEST

/* The shipped client asks again until there is room: all get through a queue of two. */
static bool look_at_a_patient_crowd(fc_held *held, const void *context)
{
    (void)context;
    submit_crowd(held->client, &SMALL, CROWD_MAX);
    finish_crowd(-1, FLASHCORE_OK);
    return fc_job_counter(held->client, "replies_busy") > 0;
}

START_TEST(a_patient_crowd_gets_through_a_tiny_queue)
{
    static const char *const args[] = {"--queue-requests", "2", "--batch-requests", "1", NULL};
    fc_held_run(args, 1, look_at_a_patient_crowd, NULL);
}
END_TEST

/* Two of these are more than the queue may hold, one is less; and the request that holds a quick GPU's lane, 20 MiB, is
 * still a message. */
#define LARGE_BYTES (24 << 20)
#define LARGE_QUEUE "40M"

static bool look_at_large_requests(fc_held *held, const void *large_request)
{
    static const fc_job_spec spec = {.name = "large",
                                     .dtype = FLASHCORE_F32,
                                     .batch = 1,
                                     .q_heads = 1,
                                     .kv_heads = 1,
                                     .q_len = LARGE_BYTES / 128,
                                     .kv_len = 1,
                                     .head_dim = 32};
    fc_bytes reply = {0};
    fc_foreign foreign = fc_foreign_open(held->daemon.ipc_url);
    submit_crowd(held->client, &spec, 1);
    bool is_seen = fc_held_wait(held, "queued", 1);
    if (is_seen) {
        fc_foreign_call(&foreign, large_request, &reply);
        is_seen = fc_held_lane(held);
    }
    if (is_seen)
        ck_assert(fc_value_is_text(fc_reply_get(&reply, "status"), "busy"));
    finish_crowd(-1, FLASHCORE_OK);
    ck_assert_int_eq(fc_job_finish(held->call).status, FLASHCORE_OK);
    held->call = NULL;
    fc_foreign_expect(&foreign, "into the empty queue", large_request, 1, "ok", NULL);
    fc_bytes_fini(&reply);
    fc_foreign_close(&foreign);
    return is_seen;
}

START_TEST(a_queue_is_bounded_in_bytes_too)
{
    static const char *const args[] = {"--queue-bytes",
                                       LARGE_QUEUE,
                                       "--message-bytes",
                                       LARGE_QUEUE,
                                       "--batch-requests",
                                       "1",
                                       "--arena-bytes",
                                       "0",
                                       NULL};
    fc_bytes request = {0};
    fc_pack_large_attend(&request, 1, LARGE_BYTES);
    fc_held_run(args, 0, look_at_large_requests, &request);
    fc_bytes_fini(&request);
}
END_TEST

/* One connection may not have more under way than it was told; somebody else still gets in meanwhile. */
static bool look_at_a_greedy_connection(fc_held *held, const void *context)
{
    (void)context;
    submit_crowd(held->client, &SMALL, 8);
    fc_foreign foreign = fc_foreign_open(held->daemon.ipc_url);
    fc_bytes request = {0};
    fc_pack_attend(&request, 1);
    fc_foreign_expect(&foreign, "other connection", &request, 1, "ok", NULL);
    fc_bytes_fini(&request);
    fc_foreign_close(&foreign);
    finish_crowd(-1, FLASHCORE_OK);
    return fc_job_counter(held->client, "replies_busy") > 0;
}

START_TEST(a_greedy_connection_is_told_busy)
{
    static const char *const args[] = {"--inflight-per-peer", "3", NULL};
    fc_held_run(args, 0, look_at_a_greedy_connection, NULL);
}
END_TEST

static bool look_at_a_deadline(fc_held *held, const void *context)
{
    fc_job_spec spec = SMALL;
    (void)context;
    spec.deadline_us = 1000;
    submit_crowd(held->client, &spec, 1);
    flashcore_result result = fc_job_finish(many.calls[0]);
    bool is_seen = fc_held_lane(held); /* then it was answered while all lanes were busy */
    if (is_seen) {
        /* Once a launch has shown how long it takes, nobody is kept waiting for it in vain. */
        ck_assert(result.status == FLASHCORE_DEADLINE_EXCEEDED || result.status == FLASHCORE_BUSY);
        for (size_t i = 0; i < many.jobs[0].out_bytes; i++)
            ck_assert_uint_eq(((const uint8_t *)many.jobs[0].request.out)[i], 0xff);
    }
    fc_job_free(&many.jobs[0]);
    return is_seen;
}

START_TEST(a_deadline_covers_the_queue)
{
    fc_held_run(NULL, 0, look_at_a_deadline, NULL);
}
END_TEST

static bool look_at_a_far_deadline(fc_held *held, const void *context)
{
    fc_job_spec spec = SMALL;
    (void)context;
    spec.deadline_us = 3600u * 1000000u;
    submit_crowd(held->client, &spec, 3);
    bool is_seen = fc_held_wait(held, "queued", 3);
    finish_crowd(-1, FLASHCORE_OK);
    return is_seen;
}

START_TEST(a_deadline_that_holds_changes_nothing)
{
    fc_held_run(NULL, 1, look_at_a_far_deadline, NULL);
}
END_TEST

static bool look_at_a_cancel(fc_held *held, const void *context)
{
    enum { COUNT = 5, VICTIM = 2 };
    (void)context;
    submit_crowd(held->client, &SMALL, COUNT);
    bool is_seen = fc_held_wait(held, "queued", COUNT);
    if (is_seen) {
        ck_assert_int_eq(flashcore_cancel(many.calls[VICTIM]), FLASHCORE_OK);
        (void)flashcore_wait(many.calls[VICTIM], UINT64_MAX, NULL);
        is_seen = fc_held_lane(held); /* then it did not wait for the lane */
    }
    if (is_seen) {
        finish_crowd(VICTIM, FLASHCORE_CANCELLED);
        return true;
    }
    for (int i = 0; i < COUNT; i++) {
        (void)fc_job_finish(many.calls[i]);
        fc_job_free(&many.jobs[i]);
    }
    return false;
}

START_TEST(a_queued_request_can_be_taken_back)
{
    static const char *const args[] = {"--batch-requests", "1", NULL};
    fc_held_run(args, 0, look_at_a_cancel, NULL);
}
END_TEST

/* What runs is not torn out: a cancel that comes too late leaves the answer as it is. */
static bool look_at_a_late_cancel(fc_held *held, const void *context)
{
    (void)context;
    ck_assert_int_eq(flashcore_cancel(held->call), FLASHCORE_OK);
    return true;
}

START_TEST(a_running_request_ends_as_it_would)
{
    fc_held_run(NULL, 0, look_at_a_late_cancel, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("load");
    tcase_add_test(fc_e2e_case(suite, "company"), company_changes_no_bit);
    TCase *queue = fc_e2e_case(suite, "queue");
    tcase_add_test(queue, a_full_queue_says_busy_at_once);
    tcase_add_test(queue, a_patient_crowd_gets_through_a_tiny_queue);
    tcase_add_test(queue, a_queue_is_bounded_in_bytes_too);
    tcase_add_test(queue, a_greedy_connection_is_told_busy);
    tcase_add_test(queue, a_deadline_covers_the_queue);
    tcase_add_test(queue, a_deadline_that_holds_changes_nothing);
    tcase_add_test(queue, a_queued_request_can_be_taken_back);
    tcase_add_test(queue, a_running_request_ends_as_it_would);
    return fc_e2e_main(suite);
}
