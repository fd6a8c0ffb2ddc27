/* Memory whose pages are gone: a file cut short stands for a hole that the system has no page for. */
#include "daemon/bus_guard.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 8 };

static size_t page_bytes;

/* Mapped, and then without a page behind it. */
static uint8_t *hollow(void)
{
    int fd = memfd_create("hollow", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, (off_t)(PAGES * page_bytes)), 0);
    uint8_t *base = mmap(NULL, PAGES * page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(base, MAP_FAILED);
    memset(base, 7, PAGES * page_bytes);
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    close(fd);
    return base;
}

START_TEST(guarded_memory_reads_zeros_and_can_be_written)
{
    ck_assert(fc_bus_guard_start());
    uint8_t *base = hollow(), *other = hollow();
    fc_bus_guard_add(base, PAGES * page_bytes);
    fc_bus_guard_add(other, PAGES * page_bytes);
    volatile uint8_t *memory = base;
    ck_assert_uint_eq(memory[0], 0);
    memory[page_bytes + 5] = 9;
    ck_assert_uint_eq(memory[page_bytes + 5], 9);
    ck_assert_uint_eq(fc_bus_guard_count(), 2);
    memset(other, 1, PAGES * page_bytes);
    ck_assert_uint_eq(fc_bus_guard_count(), 2 + PAGES);
    fc_bus_guard_remove(base);
    fc_bus_guard_remove(base);
    fc_bus_guard_remove(other);
    munmap(base, PAGES * page_bytes);
    munmap(other, PAGES * page_bytes);
}
END_TEST

/* Each of these ends by SIGBUS: Check wants the signal. _i 0: never guarded; 1: not any more; 2: behind the end. */
START_TEST(anything_else_ends_as_ever)
{
    ck_assert(fc_bus_guard_start());
    volatile uint8_t *memory = hollow();
    if (_i > 0)
        fc_bus_guard_add((const void *)(uintptr_t)memory, (_i == 2 ? 2 : PAGES) * page_bytes);
    if (_i == 1)
        fc_bus_guard_remove((const void *)(uintptr_t)memory);
    memory[3 * page_bytes] = 1;
}
END_TEST

static void *touch(void *argument)
{
    volatile uint8_t *memory = argument;
    for (size_t i = 0; i < PAGES * page_bytes; i += 64)
        memory[i] = (uint8_t)(memory[i] + 1);
    return NULL;
}

START_TEST(threads_may_touch_it_together)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    ck_assert(fc_bus_guard_start());
    for (int round = 0; round < 50; round++) {
        uint8_t *memory[THREADS];
        for (int i = 0; i < THREADS; i++) {
            memory[i] = hollow();
            fc_bus_guard_add(memory[i], PAGES * page_bytes);
            ck_assert_int_eq(pthread_create(&threads[i], NULL, touch, memory[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            fc_bus_guard_remove(memory[i]);
            ck_assert_uint_eq(memory[i][0], 1);
            munmap(memory[i], PAGES * page_bytes);
        }
    }
    ck_assert_uint_eq(fc_bus_guard_count(), 50 * THREADS * PAGES);
}
END_TEST

START_TEST(the_table_has_an_end)
{
    static uint8_t spots[FC_BUS_GUARD_MAX + 10];
    for (size_t i = 0; i < sizeof spots; i++)
        fc_bus_guard_add(&spots[i], 1);
    for (size_t i = 0; i < sizeof spots; i++)
        fc_bus_guard_remove(&spots[i]);
    ck_assert(fc_bus_guard_start());
    uint8_t *base = hollow();
    fc_bus_guard_add(base, PAGES * page_bytes);
    memset(base, 1, PAGES * page_bytes);
    fc_bus_guard_remove(base);
}
END_TEST

int main(void)
{
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    Suite *suite = suite_create("bus_guard");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_test(core, guarded_memory_reads_zeros_and_can_be_written);
    tcase_add_loop_test_raise_signal(core, anything_else_ends_as_ever, SIGBUS, 0, 3);
    tcase_add_test(core, threads_may_touch_it_together);
    tcase_add_test(core, the_table_has_an_end);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
