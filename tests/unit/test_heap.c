/* daemon/heap: when it gives back, and that what it gives back is gone. */
#include "daemon/heap.h"

#include "daemon/process_stats.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

START_TEST(it_rests_once_after_each_movement)
{
    static const struct {
        uint64_t at_s;
        size_t moved_bytes; /* before the look; 0: nothing */
        bool is_at_rest;
    } rows[] = {
        {100, 0, false}, /* nothing has ever moved: nothing is held */
        {101, FC_HEAP_LARGE_BYTES, false},
        {105, 1 << 20, false},
        {114, 0, false}, /* nine seconds */
        {115, 0, true},
        {116, 0, false}, /* once */
        {200, 0, false},
        {201, FC_HEAP_LARGE_BYTES - 1, false}, /* small ones do not count */
        {300, 0, false},
        {301, 1 << 20, false},
        {310, FC_HEAP_LARGE_BYTES, false},
        {311, 100, false},
        {319, 0, false},
        {320, 0, true},
        {321, 0, false},
    };
    fc_heap_watch watch = {.moved_ns = 0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_heap_note(&watch, rows[i].moved_bytes);
        ck_assert_msg(fc_heap_is_at_rest(&watch, rows[i].at_s * FC_NS_PER_S) == rows[i].is_at_rest, "at %d s",
                      (int)rows[i].at_s);
    }
}
END_TEST

enum { THREADS = 8, BLOCKS = 16, BLOCK_BYTES = 1 << 20 };

static pthread_barrier_t all_hold;

/* Holds its blocks at the same time as the others. small: room for what is to stay behind each; NULL: nothing, and what
 * was freed is the heap's end. */
static void *take_and_free(void *argument)
{
    char *blocks[BLOCKS];
    void **small = argument;
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK_BYTES);
        ck_assert_ptr_nonnull(blocks[i]);
        memset(blocks[i], 1, BLOCK_BYTES);
        if (small != NULL)
            small[i] = malloc(2000);
    }
    pthread_barrier_wait(&all_hold);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    return NULL;
}

static uint64_t resident_bytes(void)
{
    fc_process_stats stats;
    fc_process_stats_read(&stats);
    return stats.resident_bytes;
}

START_TEST(what_threads_freed_is_given_back)
{
    static void *small[THREADS][BLOCKS];
    const uint64_t taken_bytes = (uint64_t)THREADS * BLOCKS * BLOCK_BYTES;
    pthread_t threads[THREADS];
    bool has_small = _i == 1;
    pthread_barrier_init(&all_hold, NULL, THREADS);
    uint64_t before = resident_bytes();
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_free, has_small ? small[i] : NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    uint64_t kept = resident_bytes();
    fc_heap_give_back();
    uint64_t after = resident_bytes();
    ck_assert_msg(kept > before + taken_bytes * 9 / 10, "kept only %d MiB", (int)((kept - before) >> 20));
    ck_assert_msg(after < before + taken_bytes / 10, "still %d MiB", (int)((after - before) >> 20));
    for (int i = 0; i < THREADS * BLOCKS; i++)
        free(small[i / BLOCKS][i % BLOCKS]);
    pthread_barrier_destroy(&all_hold);
}
END_TEST

int main(void)
{
    fc_heap_setup();
    Suite *suite = suite_create("heap");
    TCase *tcase = tcase_create("heap");
    tcase_add_test(tcase, it_rests_once_after_each_movement);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    tcase_add_loop_test(tcase, what_threads_freed_is_given_back, 0, 2);
#else
    (void)what_threads_freed_is_given_back;
#endif
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
