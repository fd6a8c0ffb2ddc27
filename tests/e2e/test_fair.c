/* Peers that flood, and peers that do not: the real daemon, one lane, one request a launch, so that the order of the
 * answers is the order of the queue.
 */
#include "tests/e2e/harness.h"
#include "tests/e2e/held.h"
#include "tests/e2e/job.h"

#include <pthread.h>

enum { FLOOD = 64, POLITE = 15 };

/* Some milliseconds each, so that answers do not overtake one another on their way through the clients' threads. */
static const fc_job_spec SPEC = {
    .name = "turn", .batch = 1, .q_heads = 4, .kv_heads = 4, .q_len = 256, .kv_len = 256, .head_dim = 64};

static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;
static int answered, polite_answered,
    last_polite; /* under the lock; last_polite: how many came up to the last of them */

static void on_answer(void *context, flashcore_call *call, const flashcore_result *result)
{
    (void)call, (void)result;
    pthread_mutex_lock(&order_lock);
    answered++;
    if (context != NULL && ++polite_answered == POLITE)
        last_polite = answered;
    pthread_mutex_unlock(&order_lock);
}

typedef struct sender {
    flashcore_client *client;
    fc_job job;
    flashcore_call *call;
} sender;

static void start(sender *s, const char *url, const fc_job *inputs, bool is_polite)
{
    s->client = fc_job_client(&url, 1);
    fc_job_share(inputs, &s->job);
    ck_assert_int_eq(flashcore_submit(s->client, &s->job.request, on_answer, is_polite ? s : NULL, &s->call),
                     FLASHCORE_OK);
}

static bool look_at_a_flood(fc_held *held, const void *context)
{
    static fc_job jobs[FLOOD];
    static flashcore_call *calls[FLOOD];
    static sender polite[POLITE];
    const char *url = held->daemon.ipc_url;
    (void)context;
    answered = polite_answered = last_polite = 0;
    flashcore_client *flooder = fc_job_client(&url, 1);
    fc_job_make(&SPEC, &jobs[0]);
    for (int i = 0; i < FLOOD; i++) {
        if (i > 0)
            fc_job_share(&jobs[0], &jobs[i]);
        ck_assert_int_eq(flashcore_submit(flooder, &jobs[i].request, on_answer, NULL, &calls[i]), FLASHCORE_OK);
    }
    bool is_seen = fc_held_wait(held, "queued", FLOOD);
    for (int i = 0; i < POLITE; i++)
        start(&polite[i], url, &jobs[0], true);
    is_seen = is_seen && fc_held_wait(held, "queued", FLOOD + POLITE) && fc_held_lane(held);
    for (int i = 0; i < POLITE; i++) {
        ck_assert_int_eq(fc_job_finish(polite[i].call).status, FLASHCORE_OK);
        flashcore_client_destroy(polite[i].client);
        fc_job_free(&polite[i].job);
    }
    for (int i = 0; i < FLOOD; i++)
        ck_assert_int_eq(fc_job_finish(calls[i]).status, FLASHCORE_OK);
    for (int i = FLOOD; i-- > 0;)
        fc_job_free(&jobs[i]);
    flashcore_client_destroy(flooder);
    /* Turn about they would be through after 30 answers of 79; first come, first served, after all of them. */
    if (is_seen)
        ck_assert_msg(last_polite <= 2 * POLITE + POLITE / 2, "the polite waited for %d answers", last_polite);
    return is_seen;
}

START_TEST(a_flood_waits_with_everybody_else)
{
    static const char *const args[] = {"--batch-requests", "1", NULL};
    fc_held_run(args, 0, look_at_a_flood, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fair");
    TCase *core = fc_e2e_case(suite, "core");
    tcase_add_test(core, a_flood_waits_with_everybody_else);
    return fc_e2e_main(suite);
}
