/* The arenas of all peers without sockets: quotas, turns, what is left of an arena that was given back, and a system
 * that has no memory.
 */
#include "daemon/arena_store.h"
#include "daemon/clock.h"
#include "tests/support/fake_engine.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MADE_MAX = 64, PAGE = 4096 };

/* The system's, unless it is to have no memory. */
static atomic_int fallocate_error;

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    int error = atomic_load(&fallocate_error);
    if (error == 0)
        return (int)syscall(SYS_fallocate, fd, mode, offset, size);
    errno = error;
    return -1;
}

typedef struct bench {
    fc_stats stats;
    fake_engine engine;
    fc_arena_store *store;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_held; /* the keeper waits in on_made */
    uint32_t made_count;
    fc_arena_made made[MADE_MAX]; /* in the order they were made */
    intptr_t requests[MADE_MAX];
} bench;

static void on_made(void *context, void *request, const fc_arena_made *made)
{
    bench *b = context;
    pthread_mutex_lock(&b->lock);
    ck_assert_uint_lt(b->made_count, MADE_MAX);
    b->requests[b->made_count] = (intptr_t)request;
    b->made[b->made_count++] = *made;
    pthread_cond_broadcast(&b->changed);
    while (b->is_held)
        pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

static void open_bench(bench *b, fc_arena_store_config config)
{
    memset(b, 0, sizeof *b);
    fc_stats_init(&b->stats, 0);
    fake_engine_init(&b->engine);
    config.ops = fake_engine_ops();
    config.engine = fake_engine_handle(&b->engine);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    ck_assert_int_eq(fc_arena_store_create(&config, &b->stats, on_made, b, &b->store), FC_OK);
}

static void close_bench(bench *b)
{
    fc_arena_store_destroy(b->store);
    for (uint32_t i = 0; i < b->made_count; i++)
        if (b->made[i].fd >= 0)
            close(b->made[i].fd);
    fake_engine_fini(&b->engine);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
}

static void hold(bench *b, bool is_held)
{
    pthread_mutex_lock(&b->lock);
    b->is_held = is_held;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static void await_made(bench *b, uint32_t count)
{
    pthread_mutex_lock(&b->lock);
    while (b->made_count < count)
        pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

static void await_arenas(bench *b, uint64_t count)
{
    uint64_t end_ns = fc_clock_now_ns() + 20 * FC_NS_PER_S;
    while (fc_stats_get(&b->stats, FC_GAUGE_ARENAS) != count) {
        ck_assert(fc_clock_now_ns() < end_ns);
        sched_yield();
    }
}

static fc_status ask(bench *b, uint64_t peer, intptr_t request)
{
    fc_reason reason = {""};
    return fc_arena_store_make(b->store, peer, FC_ARENA_HOST, PAGE, (void *)request, &reason);
}

#define ROOMY_QUOTA                                                                                                    \
    {                                                                                                                  \
        [FC_ARENA_HOST] = {.total_bytes = 1 << 20, .bytes_per_peer = 1 << 20, .granule_bytes = PAGE }                  \
    }

static const fc_arena_store_config ROOMY = {.quotas = ROOMY_QUOTA, .total_count = 100};

START_TEST(there_can_be_so_many_of_all_peers)
{
    bench b;
    open_bench(&b, (fc_arena_store_config){.quotas = ROOMY_QUOTA, .total_count = 3});
    for (uint64_t peer = 1; peer <= 4; peer++)
        ck_assert_int_eq(ask(&b, peer, 0), FC_OK);
    await_made(&b, 4);
    ck_assert_int_eq(b.made[2].status, FC_OK);
    ck_assert_int_eq(b.made[3].status, FC_TOO_LARGE);
    fc_arena_store_peer_gone(b.store, 2);
    await_arenas(&b, 2);
    ck_assert_int_eq(ask(&b, 4, 0), FC_OK);
    await_made(&b, 5);
    ck_assert_int_eq(b.made[4].status, FC_OK);
    close_bench(&b);
}
END_TEST

START_TEST(one_that_asks_for_many_does_not_keep_others_waiting)
{
    bench b;
    open_bench(&b, ROOMY);
    hold(&b, true);
    ck_assert_int_eq(ask(&b, 1, 100), FC_OK);
    await_made(&b, 1); /* and the keeper waits */
    int asked = 0;
    while (ask(&b, 1, 101 + asked) == FC_OK)
        asked++;
    ck_assert_int_eq(asked, FC_ARENAS_ASKED_PER_PEER);
    ck_assert_int_eq(ask(&b, 1, 0), FC_BUSY);
    ck_assert_int_eq(ask(&b, 2, 200), FC_OK);
    ck_assert_int_eq(ask(&b, 2, 201), FC_OK);
    ck_assert_int_eq(ask(&b, 3, 300), FC_OK);
    hold(&b, false);
    await_made(&b, 1 + FC_ARENAS_ASKED_PER_PEER + 3);
    static const intptr_t turns[] = {100, 101, 200, 300, 102, 201, 103, 104};
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++)
        ck_assert_int_eq(b.requests[i], turns[i]);
    close_bench(&b);
}
END_TEST

static void fill(int fd, uint8_t value)
{
    uint8_t *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    memset(memory, value, PAGE);
    munmap(memory, PAGE);
}

static uint8_t first_byte(int fd)
{
    uint8_t byte = 0;
    ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
    return byte;
}

/* The descriptor stays with the peer. _i 0: given back; 1: the peer is gone. */
START_TEST(what_is_kept_of_an_arena_holds_no_memory)
{
    bench b;
    struct stat info;
    fc_reason reason = {""};
    open_bench(&b, ROOMY);
    ck_assert_int_eq(ask(&b, 1, 0), FC_OK);
    await_made(&b, 1);
    fill(b.made[0].fd, 7);
    ck_assert_int_eq(fstat(b.made[0].fd, &info), 0);
    ck_assert_int_gt(info.st_blocks, 0);
    if (_i == 0)
        ck_assert_int_eq(fc_arena_store_give_back(b.store, 1, b.made[0].id, &reason), FC_OK);
    else
        fc_arena_store_peer_gone(b.store, 1);
    await_arenas(&b, 0);
    ck_assert_int_eq(fstat(b.made[0].fd, &info), 0);
    ck_assert_int_eq(info.st_blocks, 0);
    ck_assert_uint_eq(first_byte(b.made[0].fd), 0);
    close_bench(&b);
}
END_TEST

START_TEST(the_end_of_the_server_takes_nothing_away)
{
    bench b;
    open_bench(&b, ROOMY);
    ck_assert_int_eq(ask(&b, 1, 0), FC_OK);
    await_made(&b, 1);
    fill(b.made[0].fd, 7);
    fc_arena_store_stop(b.store);
    fc_arena_store_peer_gone(b.store, 1);
    fc_arena_store_destroy(b.store);
    b.store = NULL;
    ck_assert_uint_eq(first_byte(b.made[0].fd), 7);
    close_bench(&b);
}
END_TEST

START_TEST(ids_tell_nothing_about_each_other)
{
    enum { COUNT = 32 };
    bench b;
    uint64_t all_ones = UINT64_MAX, any_ones = 0;
    open_bench(&b, ROOMY);
    for (uint32_t i = 0; i < COUNT; i++) {
        ck_assert_int_eq(ask(&b, 1, 0), FC_OK);
        await_made(&b, i + 1);
        ck_assert_uint_ne(b.made[i].id, 0);
        all_ones &= b.made[i].id;
        any_ones |= b.made[i].id;
        for (uint32_t k = 0; k < i; k++)
            ck_assert_uint_ne(b.made[k].id, b.made[i].id);
    }
    /* Each of 64 bits has been 0 and 1; by chance one has not once in 2^25 runs. */
    ck_assert_uint_eq(all_ones, 0);
    ck_assert_uint_eq(any_ones, UINT64_MAX);
    close_bench(&b);
}
END_TEST

START_TEST(a_lack_of_memory_is_told_before_it_is_touched)
{
    static const int errors[] = {ENOMEM, ENOSPC};
    bench b;
    open_bench(&b, ROOMY);
    for (uint32_t i = 0; i < 2; i++) {
        atomic_store(&fallocate_error, errors[i]);
        ck_assert_int_eq(ask(&b, 1, 0), FC_OK);
        await_made(&b, i + 1);
        ck_assert_int_eq(b.made[i].status, FC_NO_MEMORY);
        ck_assert_int_eq(b.made[i].fd, -1);
    }
    atomic_store(&fallocate_error, 0);
    await_arenas(&b, 0);
    ck_assert_int_eq(ask(&b, 1, 0), FC_OK);
    await_made(&b, 3);
    ck_assert_int_eq(b.made[2].status, FC_OK);
    ck_assert_uint_eq(fc_stats_get(&b.stats, FC_GAUGE_ARENA_BYTES), PAGE);
    close_bench(&b);
}
END_TEST

/* A launch that began before the keeper did may hold it up: the time counts from when there is none such. */
START_TEST(a_keeper_that_waits_for_a_launch_is_not_late)
{
    bench b;
    const uint64_t s = FC_NS_PER_S, timeout_ns = 30 * FC_NS_PER_S;
    open_bench(&b, ROOMY);
    ck_assert(!fc_arena_store_is_late(b.store, timeout_ns, 0, UINT64_MAX / 2));
    fake_engine_hold_register(&b.engine, true);
    ck_assert_int_eq(ask(&b, 1, 1), FC_OK);
    fake_engine_await_register(&b.engine);
    uint64_t now_ns = fc_clock_now_ns();
    ck_assert(!fc_arena_store_is_late(b.store, timeout_ns, 0, now_ns + 29 * s));
    ck_assert(!fc_arena_store_is_late(b.store, timeout_ns, 200 * s, now_ns + 100 * s)); /* an older one */
    ck_assert(!fc_arena_store_is_late(b.store, timeout_ns, 0, now_ns + 129 * s));
    ck_assert(fc_arena_store_is_late(b.store, timeout_ns, 50 * s, now_ns + 131 * s)); /* a later one */
    fake_engine_hold_register(&b.engine, false);
    close_bench(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena_store");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_test(core, there_can_be_so_many_of_all_peers);
    tcase_add_test(core, one_that_asks_for_many_does_not_keep_others_waiting);
    tcase_add_loop_test(core, what_is_kept_of_an_arena_holds_no_memory, 0, 2);
    tcase_add_test(core, the_end_of_the_server_takes_nothing_away);
    tcase_add_test(core, ids_tell_nothing_about_each_other);
    tcase_add_test(core, a_keeper_that_waits_for_a_launch_is_not_late);
    tcase_add_test(core, a_lack_of_memory_is_told_before_it_is_touched);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
