/* Arenas end to end, through the library and on bare sockets: the same answers as in messages, whoever dies when, and
 * whatever an owner does to its own memory.
 */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/e2e/side.h"
#include "tests/support/packet_arena.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static fc_e2e_daemon daemon_under_test;

static const fc_job_spec SPECS[] = {
    {.name = "f32",
     .batch = 2,
     .q_heads = 4,
     .kv_heads = 2,
     .q_len = 33,
     .kv_len = 65,
     .head_dim = 16,
     .dtype = FLASHCORE_F32,
     .wants_lse = true},
    {.name = "f16 bshd",
     .batch = 1,
     .q_heads = 8,
     .kv_heads = 8,
     .q_len = 128,
     .kv_len = 128,
     .head_dim = 64,
     .dtype = FLASHCORE_F16,
     .layout = FLASHCORE_BSHD,
     .causal = FLASHCORE_CAUSAL_BOTTOM_RIGHT},
    {.name = "bf16 kv_len",
     .batch = 2,
     .q_heads = 2,
     .kv_heads = 1,
     .q_len = 7,
     .kv_len = 40,
     .head_dim = 128,
     .dtype = FLASHCORE_BF16,
     .has_kv_lens = true,
     .kv_lens = {3, 40},
     .wants_lse = true},
    {.name = "no keys",
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 5,
     .kv_len = 0,
     .head_dim = 8,
     .dtype = FLASHCORE_F32,
     .wants_lse = true},
    {.name = "no queries",
     .batch = 1,
     .q_heads = 2,
     .kv_heads = 2,
     .q_len = 0,
     .kv_len = 5,
     .head_dim = 8,
     .dtype = FLASHCORE_F32,
     .wants_lse = true},
};
enum { SPEC_COUNT = sizeof SPECS / sizeof SPECS[0] };

static void set_up(void)
{
    fc_e2e_start(&daemon_under_test, NULL);
}

static void tear_down(void)
{
    fc_e2e_stop(&daemon_under_test);
}

static flashcore_client *make_client(const char *url, flashcore_path path)
{
    flashcore_client *client;
    flashcore_options options;
    flashcore_options_init(&options);
    options.urls = &url;
    options.url_count = 1;
    options.path = path;
    ck_assert_msg(flashcore_client_create(&options, &client) == FLASHCORE_OK, "%s", flashcore_last_error());
    return client;
}

static flashcore_client *open_client(void)
{
    return make_client(daemon_under_test.ipc_url, FLASHCORE_PATH_AUTO);
}

static flashcore_arena *make_arena(flashcore_client *client, size_t size_bytes)
{
    flashcore_arena *arena;
    flashcore_status status = flashcore_arena_create(client, 0, size_bytes, &arena);
    ck_assert_msg(status == FLASHCORE_OK, "%s", flashcore_last_error());
    return arena;
}

/* Runs the job with everything in the arena, and brings its outputs home for the check. */
static void attend_in_arena(flashcore_client *client, flashcore_arena *arena, fc_job *job)
{
    fc_job_poison(job);
    flashcore_request request = fc_job_in_arena(job, arena);
    flashcore_result result;
    ck_assert_msg(flashcore_attend(client, &request, &result) == FLASHCORE_OK, "%s: %s", job->spec.name, result.error);
    if (job->out_bytes > 0)
        memcpy(job->request.out, request.out, job->out_bytes);
    if (request.lse != NULL && job->lse_bytes > 0)
        memcpy(job->request.lse, request.lse, job->lse_bytes);
    fc_job_check(job);
}

/* Attends until one has gone through the library's own arena. */
static void warm_up(flashcore_client *client)
{
    fc_job job;
    fc_job_make(&SPECS[0], &job);
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    do {
        fc_job_poison(&job);
        fc_job_attend(client, &job, NULL);
        ck_assert(fc_e2e_now_us() < end_us);
    } while (fc_job_counter(client, "arenas") < 1);
    fc_job_free(&job);
}

START_TEST(every_way_gives_the_same_answer)
{
    flashcore_client *inlined = make_client(daemon_under_test.ipc_url, FLASHCORE_PATH_INLINE), *client = open_client();
    fc_job in_message, in_arena, staged;
    fc_job_make(&SPECS[_i], &in_message);
    fc_job_share(&in_message, &in_arena);
    fc_job_share(&in_message, &staged);
    fc_job_attend(inlined, &in_message, NULL);
    flashcore_arena *arena = make_arena(client, 1 << 20);
    attend_in_arena(client, arena, &in_arena);
    ck_assert(fc_job_same_answer(&in_message, &in_arena));
    warm_up(client);
    double before = fc_job_counter(client, "requests_attend");
    fc_job_attend(client, &staged, NULL);
    ck_assert(fc_job_counter(client, "requests_attend") == before + 1);
    ck_assert(fc_job_same_answer(&in_message, &staged));
    flashcore_arena_destroy(arena);
    flashcore_client_destroy(client);
    fc_job_wait_counter_down(inlined, "arenas", 0);
    ck_assert(fc_job_counter(inlined, "arena_bytes") == 0);
    flashcore_client_destroy(inlined);
    fc_job_free(&staged);
    fc_job_free(&in_arena);
    fc_job_free(&in_message);
}
END_TEST

START_TEST(many_at_once_share_the_staging)
{
    enum { COUNT = 48 };
    static fc_job jobs[COUNT];
    flashcore_call *calls[COUNT];
    flashcore_client *client = open_client();
    warm_up(client);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < COUNT; i++) {
            fc_job_make(&SPECS[i % 3], &jobs[i]);
            calls[i] = fc_job_submit(client, &jobs[i]);
        }
        for (int i = 0; i < COUNT; i++) {
            flashcore_result result = fc_job_finish(calls[i]);
            ck_assert_msg(result.status == FLASHCORE_OK, "%s", result.error);
            fc_job_check(&jobs[i]);
            fc_job_free(&jobs[i]);
        }
    }
    flashcore_client_destroy(client);
}
END_TEST

START_TEST(an_arena_is_refused_where_there_can_be_none)
{
    flashcore_arena *arena = NULL;
    flashcore_client *client = open_client();
    flashcore_client *remote = make_client(daemon_under_test.tcp_url, FLASHCORE_PATH_AUTO);
    flashcore_client *inlined = make_client(daemon_under_test.ipc_url, FLASHCORE_PATH_INLINE);
    ck_assert_int_eq(flashcore_ping(remote, 0, NULL), FLASHCORE_OK);
    ck_assert_int_eq(flashcore_ping(inlined, 0, NULL), FLASHCORE_OK);
    ck_assert_int_eq(flashcore_arena_create(remote, 0, 4096, &arena), FLASHCORE_UNSUPPORTED);
    ck_assert_int_eq(flashcore_arena_create(inlined, 0, 4096, &arena), FLASHCORE_UNSUPPORTED);
    ck_assert_int_eq(flashcore_arena_create(client, 0, (size_t)1 << 40, &arena), FLASHCORE_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(flashcore_last_error(), "arena_bytes_per_peer"));
    ck_assert_int_eq(flashcore_arena_create(client, 0, 0, &arena), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_arena_create(client, 1, 4096, &arena), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_ptr_null(arena);
    arena = make_arena(client, 5000);
    ck_assert_uint_eq(flashcore_arena_size(arena), 8192);
    uint8_t *first = flashcore_arena_alloc(arena, 1), *second = flashcore_arena_alloc(arena, 64);
    ck_assert_ptr_eq(second, first + 64);
    ck_assert_ptr_null(flashcore_arena_alloc(arena, 8192 - 127));
    ck_assert_ptr_nonnull(flashcore_arena_alloc(arena, 8192 - 128));
    ck_assert_ptr_null(flashcore_arena_alloc(arena, 1));
    flashcore_arena_reset(arena);
    ck_assert_ptr_eq(flashcore_arena_alloc(arena, 8192), first);
    flashcore_client_destroy(inlined);
    flashcore_client_destroy(remote);
    flashcore_client_destroy(client); /* the arena goes with it */
}
END_TEST

/* Lives on arenas and staging alike, until it is killed. */
static void be_a_victim(unsigned number)
{
    fc_job jobs[3];
    flashcore_client *client = open_client();
    (void)number;
    for (int i = 0; i < 3; i++)
        fc_job_make(&SPECS[i], &jobs[i]);
    for (int round = 0;; round++) {
        flashcore_arena *arena = make_arena(client, 4 << 20);
        attend_in_arena(client, arena, &jobs[round % 3]);
        fc_job_attend(client, &jobs[(round + 1) % 3], NULL);
        flashcore_arena_destroy(arena);
    }
}

START_TEST(owners_killed_at_any_moment_leave_nothing)
{
    fc_side_kill_owners(&daemon_under_test, be_a_victim, "arenas", "arena_bytes");
    fc_side_await(&daemon_under_test, "local", 1, 1); /* who asks */
    fc_job_expect_service(daemon_under_test.ipc_url);
}
END_TEST

/* A bare peer sends requests and meanwhile tears at the memory they lie in. */
START_TEST(an_owner_harms_only_itself)
{
    enum { ROUNDS = 100, BYTES = 1 << 20, TENSOR = 128 * 1024 };
    packet_peer peer;
    fc_wire_reply reply;
    fc_job job;
    flashcore_client *other = open_client();
    warm_up(other);
    fc_job_make(&SPECS[0], &job);
    packet_peer_open(&peer, daemon_under_test.side_path);
    packet_arena arena = packet_arena_make(&peer, FC_ARENA_HOST, BYTES);
    fc_wire_request attend = {.op = FC_OP_ATTEND};
    attend.attend.q = (fc_wire_tensor){.dtype = FC_F16, .rank = 4, .shape = {1, 8, 128, 64}};
    attend.attend.k = attend.attend.v = attend.attend.q;
    attend.attend.window_left = attend.attend.window_right = -1;
    fc_wire_place *places[PACKET_ARENA_PLACES];
    packet_arena_places(&attend.attend, places);
    for (uint64_t i = 0; i < 4; i++)
        *places[i] = (fc_wire_place){true, arena.id, i * TENSOR};
    for (uint64_t round = 0; round < ROUNDS; round++) {
        attend.id = round;
        ck_assert(packet_peer_send(&peer, &attend));
        ck_assert_int_ne(ftruncate(arena.fd, 0), 0);
        memset(arena.base, round % 2 == 0 ? 0xff : 0x7c, BYTES); /* NaN, and large numbers */
        ck_assert_int_eq(fallocate(arena.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BYTES), 0);
        ck_assert(packet_peer_receive(&peer, &reply));
        ck_assert_uint_eq(reply.id, round);
        ck_assert_int_eq(reply.status, FC_OK);
        if (round % 50 == 0) {
            fc_job_poison(&job);
            fc_job_attend(other, &job, NULL);
        }
    }
    packet_arena_drop(&arena);
    packet_peer_close(&peer);
    fc_job_free(&job);
    flashcore_client_destroy(other);
}
END_TEST

/* The daemon dies and another takes its place: the same calls go on, in messages first. */
START_TEST(arenas_of_a_dead_daemon_are_ordinary_memory)
{
    fc_job job;
    flashcore_result result;
    set_up();
    flashcore_client *client = open_client();
    flashcore_arena *arena = make_arena(client, 1 << 20);
    fc_job_make(&SPECS[1], &job);
    attend_in_arena(client, arena, &job);
    warm_up(client);
    fc_e2e_kill(&daemon_under_test);
    fc_e2e_restart(&daemon_under_test, NULL);
    while (flashcore_ping(client, 0, NULL) != FLASHCORE_OK)
        continue;
    flashcore_arena_reset(arena);
    attend_in_arena(client, arena, &job);
    fc_job_poison(&job);
    fc_job_attend(client, &job, &result);
    warm_up(client); /* and through a new arena of the library's */
    flashcore_arena_destroy(arena);
    fc_job_free(&job);
    flashcore_client_destroy(client);
    tear_down();
}
END_TEST

START_TEST(without_arenas_all_goes_in_messages)
{
    static const char *const args[] = {"--arena-bytes", "0", NULL};
    flashcore_arena *arena;
    flashcore_info info;
    fc_job job;
    fc_e2e_start(&daemon_under_test, args);
    flashcore_client *client = open_client();
    ck_assert_int_eq(flashcore_hello(client, 0, &info), FLASHCORE_OK);
    ck_assert_uint_eq(info.arena_bytes_max, 0);
    ck_assert_int_eq(flashcore_arena_create(client, 0, 4096, &arena), FLASHCORE_UNSUPPORTED);
    fc_job_make(&SPECS[0], &job);
    for (int i = 0; i < 10; i++) {
        fc_job_poison(&job);
        fc_job_attend(client, &job, NULL);
    }
    fc_job_free(&job);
    flashcore_client_destroy(client);
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena");
    TCase *serving = fc_e2e_case(suite, "serving");
    tcase_add_checked_fixture(serving, set_up, tear_down);
    tcase_add_loop_test(serving, every_way_gives_the_same_answer, 0, SPEC_COUNT);
    tcase_add_test(serving, many_at_once_share_the_staging);
    tcase_add_test(serving, an_arena_is_refused_where_there_can_be_none);
    tcase_add_test(serving, owners_killed_at_any_moment_leave_nothing);
    tcase_add_test(serving, an_owner_harms_only_itself);
    TCase *life = fc_e2e_case(suite, "life");
    tcase_add_test(life, arenas_of_a_dead_daemon_are_ordinary_memory);
    tcase_add_test(life, without_arenas_all_goes_in_messages);
    return fc_e2e_main(suite);
}
