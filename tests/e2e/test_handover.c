/* One daemon hands over to another and back, under full load, again and again: no request of a client with both URLs is
 * lost, no answer is wrong. Then the same by kill -9, where what was under way may be lost, and nothing else.
 */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 4
#define CLIENTS "4"
#define INFLIGHT "4"
#define UNDER_WAY_MAX 16 /* of all clients together */
#define ENOUGH 40        /* requests a daemon has to have taken before it is told to go */

typedef struct load {
    fc_e2e_daemon daemons[2];
    char json[FC_E2E_PATH_BYTES];
    pid_t pid;
} load;

/* Two daemons and, until end_load(), a load on both that verifies every answer. */
static void begin_load(load *l, bool is_tcp, const char *path)
{
    for (int i = 0; i < 2; i++)
        fc_e2e_start(&l->daemons[i], NULL);
    snprintf(l->json, sizeof l->json, "%.100s/load.json", l->daemons[0].dir);
    const char *urls[2];
    for (int i = 0; i < 2; i++)
        urls[i] = is_tcp ? l->daemons[i].tcp_url : l->daemons[i].ipc_url;
    const char *args[] = {"--url",      urls[0],  "--url",     urls[1],      "--clients", CLIENTS,
                          "--inflight", INFLIGHT, "--shape",   "1,4,128,64", "--verify",  "--path",
                          path,         "--json", l->json,     "--quiet",    "--warmup",  "0",
                          "--duration", "3600",   "--timeout", "60",         NULL};
    l->pid = fc_e2e_spawn("bench_client", args, NULL);
}

/* The counter of a daemon that may be without connections for a moment. */
static void want_load(const load *l, int daemon)
{
    const char *url = l->daemons[daemon].ipc_url;
    flashcore_client *watcher = fc_job_client(&url, 1);
    fc_job_wait_counter(watcher, "requests_attend", fc_job_counter(watcher, "requests_attend") + ENOUGH);
    flashcore_client_destroy(watcher);
}

static uint64_t number_of(const char *json, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *found = strstr(json, quoted);
    ck_assert_msg(found != NULL, "no %s in %s", key, json);
    return strtoull(found + strlen(quoted), NULL, 10);
}

/* Ends the load; returns how many requests failed. */
static uint64_t end_load(load *l)
{
    for (int i = 0; i < 2; i++)
        want_load(l, i);
    ck_assert_int_eq(kill(l->pid, SIGINT), 0);
    fc_e2e_reap(l->pid, FC_E2E_STOP_MS); /* 1: it was interrupted */
    char *json = fc_e2e_read_file(l->json, NULL);
    ck_assert_ptr_nonnull(json);
    uint64_t failed = number_of(json, "error_count"), ok = number_of(json, "answers");
    ck_assert_msg(number_of(json, "wrong_answers") == 0, "%s", json);
    ck_assert_msg(ok >= (uint64_t)ROUNDS * ENOUGH, "%s", json);
    const char *first = strstr(json, "\"first_error\"");
    printf("%llu answered, %llu failed%s%.200s\n", (unsigned long long)ok, (unsigned long long)failed,
           first != NULL ? ": " : "", first != NULL ? first : "");
    free(json);
    return failed;
}

START_TEST(drains_lose_nothing)
{
    static const struct {
        bool is_tcp;
        const char *path;
    } ways[] = {{false, "auto"}, {false, "inline"}, {true, "inline"}};
    static load l;
    begin_load(&l, ways[_i].is_tcp, ways[_i].path);
    for (int round = 0; round < ROUNDS; round++) {
        fc_e2e_daemon *leaving = &l.daemons[round % 2];
        want_load(&l, round % 2);
        fc_e2e_signal(leaving, SIGTERM);
        ck_assert_int_eq(fc_e2e_wait_exit(leaving, FC_E2E_STOP_MS), 0);
        fc_e2e_restart(leaving, NULL);
    }
    ck_assert_uint_eq(end_load(&l), 0);
    for (int i = 0; i < 2; i++)
        fc_e2e_stop(&l.daemons[i]);
}
END_TEST

START_TEST(kills_lose_what_was_under_way)
{
    static load l;
    begin_load(&l, _i == 1, "auto");
    for (int round = 0; round < ROUNDS; round++) {
        want_load(&l, round % 2);
        fc_e2e_kill(&l.daemons[round % 2]);
        fc_e2e_restart(&l.daemons[round % 2], NULL); /* nothing the dead one left is in its way */
    }
    uint64_t failed = end_load(&l);
    ck_assert_msg(failed <= ROUNDS * UNDER_WAY_MAX, "%llu requests failed", (unsigned long long)failed);
    for (int i = 0; i < 2; i++)
        fc_e2e_stop(&l.daemons[i]);
}
END_TEST

/* Tensors in an arena of the daemon that goes: the other one gets them in messages, from the same memory. */
START_TEST(arenas_are_left_behind)
{
    enum { CALLS = 30, LEAVES_AT = 10 };
    static const fc_job_spec spec = {
        .name = "arena", .batch = 1, .q_heads = 2, .kv_heads = 2, .q_len = 64, .kv_len = 64, .head_dim = 64};
    fc_e2e_daemon daemons[2];
    flashcore_arena *arena;
    fc_job job;
    for (int i = 0; i < 2; i++)
        fc_e2e_start(&daemons[i], NULL);
    const char *urls[] = {daemons[0].ipc_url, daemons[1].ipc_url};
    flashcore_client *client = fc_job_client(urls, 2);
    for (uint32_t i = 0; i < 2; i++)
        ck_assert_int_eq(flashcore_ping(client, i, NULL), FLASHCORE_OK);
    fc_job_make(&spec, &job);
    fc_job_attend(client, &job, NULL);
    ck_assert_int_eq(flashcore_arena_create(client, 0, 1 << 20, &arena), FLASHCORE_OK);
    flashcore_request request = fc_job_in_arena(&job, arena);
    for (int i = 0; i < CALLS; i++) {
        flashcore_result result;
        memset(request.out, 0xa5, job.out_bytes);
        if (i == LEAVES_AT)
            fc_e2e_signal(&daemons[0], SIGTERM);
        ck_assert_msg(flashcore_attend(client, &request, &result) == FLASHCORE_OK, "%d: %s", i, result.error);
        ck_assert_mem_eq(request.out, job.request.out, job.out_bytes);
        ck_assert_msg(i >= LEAVES_AT || result.url_index == 0, "call %d went to URL %u", i, result.url_index);
    }
    ck_assert_int_eq(fc_e2e_wait_exit(&daemons[0], FC_E2E_STOP_MS), 0);
    ck_assert_int_eq(flashcore_attend(client, &request, NULL), FLASHCORE_OK);
    ck_assert_mem_eq(request.out, job.request.out, job.out_bytes);
    flashcore_arena_destroy(arena);
    flashcore_client_destroy(client);
    fc_job_free(&job);
    fc_e2e_forget(&daemons[0]);
    fc_e2e_stop(&daemons[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("handover");
    TCase *tcase = fc_e2e_case(suite, "handover");
    tcase_add_loop_test(tcase, drains_lose_nothing, 0, 3);
    tcase_add_test(tcase, arenas_are_left_behind);
    tcase_add_loop_test(tcase, kills_lose_what_was_under_way, 0, 2);
    return fc_e2e_main(suite);
}
