/* Many at once: shared launches that change no bit, a full queue that says so at once, deadlines and cancels of what
 * waits. One lane, so that a long request makes the others queue.
 */
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long the request that holds the lane runs: long against everything done meanwhile. */
#define HOLD_US (fc_e2e_limit_ms(400) * 1000.0)

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

static uint32_t run_callers(fc_e2e_daemon *daemon, flashcore_client *client, const fc_job *alone)
{
    static caller callers[CLIENTS];
    pthread_barrier_t start;
    uint32_t largest_batch = 0;
    pthread_barrier_init(&start, NULL, CLIENTS + 1);
    for (int i = 0; i < CLIENTS; i++) {
        callers[i] = (caller){.start = &start, .alone = alone, .index = i};
        make_caller(&callers[i], i % 2 == 0 ? daemon->ipc_url : daemon->tcp_url);
    }
    fc_job_spec spec = fc_job_long_spec(daemon->ipc_url, HOLD_US);
    fc_job hold;
    fc_job_make(&spec, &hold);
    flashcore_call *held = fc_job_submit(client, &hold);
    fc_job_wait_counter(client, "running", 1);
    pthread_barrier_wait(&start);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(callers[i].thread, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        ck_assert_msg(callers[i].failure[0] == '\0', "client %d: %s", i, callers[i].failure);
        if (callers[i].largest_batch > largest_batch)
            largest_batch = callers[i].largest_batch;
        free_caller(&callers[i]);
    }
    ck_assert_int_eq(fc_job_finish(held).status, FLASHCORE_OK);
    fc_job_free(&hold);
    pthread_barrier_destroy(&start);
    return largest_batch;
}

START_TEST(company_changes_no_bit)
{
    static const char *const args[] = {"--lanes", "1", NULL};
    fc_e2e_daemon daemon;
    fc_job alone[KINDS];
    fc_e2e_start(&daemon, args);
    const char *url = daemon.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    for (int i = 0; i < KINDS; i++) {
        flashcore_result result;
        fc_job_make(&MIXED[i], &alone[i]);
        fc_job_attend(client, &alone[i], &result);
        ck_assert_uint_eq(result.batch, 1);
    }
    uint32_t largest_batch = run_callers(&daemon, client, alone);
    ck_assert_msg(largest_batch > 1, "no launch held more than one request");
    ck_assert_msg(fc_job_counter(client, "shared_launches") >= 1, "stats know of no shared launch");
    for (int i = 0; i < KINDS; i++)
        fc_job_free(&alone[i]);
    flashcore_client_destroy(client);
    fc_e2e_stop(&daemon);
}
END_TEST

/* --- with the lane held ----------------------------------------------------------------------------------------- */

typedef struct held_lane {
    fc_e2e_daemon daemon;
    flashcore_client *client;
    fc_job hold;
    flashcore_call *call;
} held_lane;

static held_lane held;

static void hold_lane(const char *const *args)
{
    fc_e2e_start(&held.daemon, args);
    const char *url = held.daemon.ipc_url;
    held.client = fc_job_client(&url, 1);
    fc_job_spec spec = fc_job_long_spec(url, HOLD_US);
    fc_job_make(&spec, &held.hold);
    held.call = fc_job_submit(held.client, &held.hold);
    fc_job_wait_counter(held.client, "running", 1);
}

static bool lane_is_held(void)
{
    return flashcore_wait(held.call, 0, NULL) == FLASHCORE_TIMED_OUT;
}

/* Every request got exactly one reply by then. */
static void let_go(void)
{
    if (held.call != NULL)
        ck_assert_int_eq(fc_job_finish(held.call).status, FLASHCORE_OK);
    fc_job_wait_counter_down(held.client, "running", 0);
    fc_job_wait_counter_down(held.client, "queued", 0);
    fc_job_wait_counter_down(held.client, "replying", 1); /* this very stats */
    ck_assert_msg(fc_job_counter(held.client, "replies_lost") == 0, "replies were lost");
    fc_job_free(&held.hold);
    flashcore_client_destroy(held.client);
    fc_e2e_stop(&held.daemon);
}

static const fc_job_spec SMALL = {
    .name = "small", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 8, .kv_len = 8, .head_dim = 16};

START_TEST(a_full_queue_says_busy_at_once)
{
    enum { QUEUED = 2, REFUSED = 12 };
    static const char *const args[] = {"--lanes", "1", "--queue-requests", "2", "--batch-requests", "1", NULL};
    fc_job jobs[QUEUED];
    flashcore_call *calls[QUEUED];
    hold_lane(args);
    for (int i = 0; i < QUEUED; i++) {
        fc_job_make(&SMALL, &jobs[i]);
        calls[i] = fc_job_submit(held.client, &jobs[i]);
    }
    fc_job_wait_counter(held.client, "queued", QUEUED);
    for (int i = 0; i < REFUSED; i++) {
        fc_foreign foreign = fc_foreign_open(i % 2 == 0 ? held.daemon.ipc_url : held.daemon.tcp_url);
        fc_bytes request = {0}, reply = {0};
        fc_pack_attend(&request, 500 + (uint64_t)i);
        fc_foreign_call(&foreign, &request, &reply);
        ck_assert(fc_value_is_text(fc_reply_get(&reply, "status"), "busy"));
        ck_assert_uint_eq(fc_value_uint(fc_reply_get(&reply, "id")), 500 + (uint64_t)i);
        ck_assert_uint_gt(fc_value_uint(fc_reply_get(&reply, "retry_after_us")), 0);
        fc_bytes_fini(&request);
        fc_bytes_fini(&reply);
        fc_foreign_close(&foreign);
    }
    ck_assert_msg(lane_is_held(), "the refusals waited for the lane");
    ck_assert(fc_job_counter(held.client, "replies_busy") == REFUSED);
    for (int i = 0; i < QUEUED; i++) {
        ck_assert_int_eq(fc_job_finish(calls[i]).status, FLASHCORE_OK);
        fc_job_check(&jobs[i]);
        fc_job_free(&jobs[i]);
    }
    let_go();
}
END_TEST

/* The shipped client asks again until there is room: all get through a queue of two. */
START_TEST(a_patient_crowd_gets_through_a_tiny_queue)
{
    enum { CROWD = 40 };
    static const char *const args[] = {"--lanes", "1", "--queue-requests", "2", "--batch-requests", "1", NULL};
    static fc_job jobs[CROWD];
    static flashcore_call *calls[CROWD];
    hold_lane(args);
    for (int i = 0; i < CROWD; i++) {
        fc_job_make(&SMALL, &jobs[i]);
        calls[i] = fc_job_submit(held.client, &jobs[i]);
    }
    for (int i = 0; i < CROWD; i++) {
        flashcore_result result = fc_job_finish(calls[i]);
        ck_assert_msg(result.status == FLASHCORE_OK, "%d: %s: %s", i, flashcore_status_name(result.status),
                      result.error);
        fc_job_check(&jobs[i]);
        fc_job_free(&jobs[i]);
    }
    ck_assert_msg(fc_job_counter(held.client, "replies_busy") > 0, "the queue was never full");
    let_go();
}
END_TEST

START_TEST(a_queue_is_bounded_in_bytes_too)
{
    static const char *const args[] = {
        "--lanes", "1", "--queue-bytes", "12M", "--message-bytes", "12M", "--batch-requests", "1", NULL};
    enum { BYTES = 7 << 20 };
    static const fc_job_spec spec = {.name = "7 MiB",
                                     .dtype = FLASHCORE_F32,
                                     .batch = 1,
                                     .q_heads = 1,
                                     .kv_heads = 1,
                                     .q_len = BYTES / 128,
                                     .kv_len = 1,
                                     .head_dim = 32};
    fc_job job;
    fc_bytes request = {0}, reply = {0};
    hold_lane(args);
    fc_job_make(&spec, &job);
    flashcore_call *call = fc_job_submit(held.client, &job);
    fc_job_wait_counter(held.client, "queued", 1);
    fc_foreign foreign = fc_foreign_open(held.daemon.ipc_url);
    fc_pack_head(&request, 1, "attend", 3);
    fc_pack_tensor(&request, "q", "f32", (uint64_t[]){1, 1, BYTES / 128, 32}, BYTES);
    fc_pack_tensor(&request, "k", "f32", (uint64_t[]){1, 1, 1, 32}, 128);
    fc_pack_tensor(&request, "v", "f32", (uint64_t[]){1, 1, 1, 32}, 128);
    fc_foreign_call(&foreign, &request, &reply);
    ck_assert(fc_value_is_text(fc_reply_get(&reply, "status"), "busy"));
    ck_assert_int_eq(fc_job_finish(call).status, FLASHCORE_OK);
    ck_assert_int_eq(fc_job_finish(held.call).status, FLASHCORE_OK);
    held.call = NULL;
    fc_job_wait_counter_down(held.client, "running", 0);
    fc_foreign_expect(&foreign, "into the empty queue", &request, 1, "ok", NULL);
    fc_bytes_fini(&request);
    fc_bytes_fini(&reply);
    fc_foreign_close(&foreign);
    fc_job_free(&job);
    let_go();
}
END_TEST

START_TEST(a_deadline_covers_the_queue)
{
    static const char *const args[] = {"--lanes", "1", NULL};
    fc_job_spec spec = SMALL;
    fc_job job;
    hold_lane(args);
    spec.deadline_us = 1000;
    fc_job_make(&spec, &job);
    flashcore_result result = fc_job_finish(fc_job_submit(held.client, &job));
    ck_assert_int_eq(result.status, FLASHCORE_DEADLINE_EXCEEDED);
    ck_assert_msg(lane_is_held(), "the expired request waited for the lane");
    for (size_t i = 0; i < job.out_bytes; i++)
        ck_assert_uint_eq(((const uint8_t *)job.request.out)[i], 0xff);
    fc_job_free(&job);
    let_go();
}
END_TEST

START_TEST(a_deadline_that_holds_changes_nothing)
{
    static const char *const args[] = {"--lanes", "1", NULL};
    fc_job_spec spec = SMALL;
    fc_job job;
    hold_lane(args);
    spec.deadline_us = 3600u * 1000000u;
    fc_job_make(&spec, &job);
    ck_assert_int_eq(fc_job_finish(fc_job_submit(held.client, &job)).status, FLASHCORE_OK);
    fc_job_check(&job);
    fc_job_free(&job);
    let_go();
}
END_TEST

START_TEST(a_queued_request_can_be_taken_back)
{
    static const char *const args[] = {"--lanes", "1", "--batch-requests", "1", NULL};
    enum { COUNT = 5, VICTIM = 2 };
    fc_job jobs[COUNT];
    flashcore_call *calls[COUNT];
    hold_lane(args);
    for (int i = 0; i < COUNT; i++) {
        fc_job_make(&SMALL, &jobs[i]);
        calls[i] = fc_job_submit(held.client, &jobs[i]);
    }
    fc_job_wait_counter(held.client, "queued", COUNT);
    ck_assert_int_eq(flashcore_cancel(calls[VICTIM]), FLASHCORE_OK);
    ck_assert_int_eq(fc_job_finish(calls[VICTIM]).status, FLASHCORE_CANCELLED);
    ck_assert_msg(lane_is_held(), "the cancelled request waited for the lane");
    fc_job_free(&jobs[VICTIM]);
    for (int i = 0; i < COUNT; i++) {
        if (i == VICTIM)
            continue;
        ck_assert_int_eq(fc_job_finish(calls[i]).status, FLASHCORE_OK);
        fc_job_check(&jobs[i]);
        fc_job_free(&jobs[i]);
    }
    let_go();
}
END_TEST

/* What runs is not torn out: a cancel that comes too late leaves the answer as it is. */
START_TEST(a_running_request_ends_as_it_would)
{
    static const char *const args[] = {"--lanes", "1", NULL};
    hold_lane(args);
    ck_assert_int_eq(flashcore_cancel(held.call), FLASHCORE_OK);
    let_go();
}
END_TEST

/* One connection may not have more under way than it was told. */
START_TEST(a_greedy_connection_is_told_busy)
{
    static const char *const args[] = {"--lanes", "1", "--inflight-per-peer", "3", NULL};
    enum { COUNT = 8 };
    fc_job jobs[COUNT];
    flashcore_call *calls[COUNT];
    hold_lane(args);
    for (int i = 0; i < COUNT; i++) {
        fc_job_make(&SMALL, &jobs[i]);
        calls[i] = fc_job_submit(held.client, &jobs[i]);
    }
    /* Somebody else still gets in while the greedy one is held off. */
    fc_foreign foreign = fc_foreign_open(held.daemon.ipc_url);
    fc_bytes request = {0};
    fc_pack_attend(&request, 1);
    fc_foreign_expect(&foreign, "other connection", &request, 1, "ok", NULL);
    fc_bytes_fini(&request);
    fc_foreign_close(&foreign);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(fc_job_finish(calls[i]).status, FLASHCORE_OK);
        fc_job_free(&jobs[i]);
    }
    ck_assert_msg(fc_job_counter(held.client, "replies_busy") > 0, "the limit was never reached");
    let_go();
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
