/* daemon/cpu_list: what is a list of processors, and threads that are bound to one. */
#include "daemon/cpu_list.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct list_row {
    const char *text;
    int count; /* -1: refused */
    unsigned first, last;
} LISTS[] = {
    {"", 0, 0, 0},           {"0", 1, 0, 0},     {"3", 1, 3, 3},      {"0-3", 4, 0, 3},
    {"0-3,8", 5, 0, 8},      {"8,0-3", 5, 0, 8}, {"1-1", 1, 1, 1},    {"0-1,1-2", 3, 0, 2},
    {"1023", 1, 1023, 1023}, {",", -1, 0, 0},    {"1,", -1, 0, 0},    {",1", -1, 0, 0},
    {"1,,2", -1, 0, 0},      {"2-1", -1, 0, 0},  {"-1", -1, 0, 0},    {"1-", -1, 0, 0},
    {"0-1024", -1, 0, 0},    {"1024", -1, 0, 0}, {" 1", -1, 0, 0},    {"1 2", -1, 0, 0},
    {"one", -1, 0, 0},       {"0x1", -1, 0, 0},  {"1-2-3", -1, 0, 0}, {"99999999999999999999", -1, 0, 0},
};

START_TEST(lists_are_read)
{
    const struct list_row *row = &LISTS[_i];
    fc_cpu_list list = {.count = 77};
    fc_reason reason = {""};
    fc_status st = fc_cpu_list_parse(row->text, &list, &reason);
    if (row->count < 0) {
        ck_assert_msg(st == FC_INVALID_ARGUMENT, "\"%s\" was taken", row->text);
        ck_assert_ptr_nonnull(strstr(reason.text, row->text));
        ck_assert_uint_eq(list.count, 77);
        return;
    }
    ck_assert_msg(st == FC_OK, "%s", reason.text);
    ck_assert_uint_eq(list.count, (unsigned)row->count);
    ck_assert(row->count == 0 || (CPU_ISSET(row->first, &list.set) && CPU_ISSET(row->last, &list.set)));
}
END_TEST

static void *ask_where(void *argument)
{
    ck_assert_int_eq(sched_getaffinity(0, sizeof(cpu_set_t), argument), 0);
    return NULL;
}

/* Some processor this process may run on. */
static fc_cpu_list one_of(const cpu_set_t *allowed)
{
    fc_cpu_list list = {.count = 1};
    int cpu = 0;
    while (!CPU_ISSET(cpu, allowed))
        cpu++;
    CPU_ZERO(&list.set);
    CPU_SET(cpu, &list.set);
    return list;
}

START_TEST(threads_started_while_bound_stay_so)
{
    cpu_set_t allowed, before, now;
    pthread_t thread;
    ask_where(&allowed);
    fc_cpu_list list = one_of(&allowed);
    ck_assert_int_eq(fc_cpu_list_bind(&list, &before, NULL), FC_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, ask_where, &now), 0);
    pthread_join(thread, NULL);
    ck_assert(CPU_EQUAL(&now, &list.set));
    fc_cpu_list_restore(&list, &before);
    ask_where(&now);
    ck_assert(CPU_EQUAL(&now, &allowed));
}
END_TEST

START_TEST(nowhere_is_refused_and_anywhere_is_nothing)
{
    cpu_set_t allowed, before, now;
    fc_reason reason = {""};
    fc_cpu_list nowhere, anywhere;
    ask_where(&allowed);
    if (CPU_ISSET(1023, &allowed))
        return;
    ck_assert_int_eq(fc_cpu_list_parse("1023", &nowhere, NULL), FC_OK);
    ck_assert_int_eq(fc_cpu_list_bind(&nowhere, &before, &reason), FC_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(reason.text, "lane-cpus: this process may run on none of the 1 processors"));
    ck_assert_int_eq(fc_cpu_list_parse("", &anywhere, NULL), FC_OK);
    ck_assert_int_eq(fc_cpu_list_bind(&anywhere, &before, NULL), FC_OK);
    fc_cpu_list_restore(&anywhere, &before);
    ask_where(&now);
    ck_assert(CPU_EQUAL(&now, &allowed));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cpu_list");
    TCase *tests = tcase_create("cpu_list");
    tcase_add_loop_test(tests, lists_are_read, 0, sizeof LISTS / sizeof *LISTS);
    tcase_add_test(tests, threads_started_while_bound_stay_so);
    tcase_add_test(tests, nowhere_is_refused_and_anywhere_is_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
