/* Pieces of registered memory: lent, given back, and none left. */
#include "daemon/pinned_pool.h"

#include "tests/support/fake_engine.h"

#include <check.h>
#include <string.h>

enum { STEP = FC_PINNED_POOL_STEP_BYTES };

static fake_engine engine;
static fc_pinned_pool *pool;

static void set_up(void)
{
    fc_reason reason;
    fake_engine_init(&engine);
    ck_assert_int_eq(fc_pinned_pool_open(fake_engine_ops(), fake_engine_handle(&engine), 4 * STEP - 1, &pool, &reason),
                     FC_OK);
}

static void tear_down(void)
{
    fc_pinned_pool_close(pool);
    ck_assert_uint_eq(fake_engine_region_count(&engine), 0);
    fake_engine_fini(&engine);
}

START_TEST(pieces_are_apart_and_writable)
{
    char *first = fc_pinned_pool_take(pool, STEP + 1), *second = fc_pinned_pool_take(pool, 1);
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_nonnull(second);
    ck_assert_uint_eq(fc_pinned_pool_lent_bytes(pool), 3 * STEP);
    memset(first, 1, STEP + 1);
    memset(second, 2, 1);
    for (int i = 0; i < STEP + 1; i++)
        ck_assert_int_eq(first[i], 1);
    fc_memory_place place = fc_pinned_pool_place(pool);
    ck_assert_int_eq(place.kind, FC_MEMORY_REGISTERED);
    ck_assert(first >= (const char *)place.region && second < (const char *)place.region + 4 * STEP);
}
END_TEST

START_TEST(all_of_it_can_be_lent_again_and_again)
{
    for (int round = 0; round < 3; round++) {
        void *pieces[4];
        for (int i = 0; i < 4; i++) {
            pieces[i] = fc_pinned_pool_take(pool, STEP);
            ck_assert_ptr_nonnull(pieces[i]);
        }
        ck_assert_ptr_null(fc_pinned_pool_take(pool, 1));
        fc_pinned_pool_give_back(pool, pieces[1]);
        ck_assert_ptr_null(fc_pinned_pool_take(pool, STEP + 1)); /* two steps, and one is free */
        fc_pinned_pool_give_back(pool, pieces[2]);
        ck_assert_ptr_eq(fc_pinned_pool_take(pool, 2 * STEP), pieces[1]);
        fc_pinned_pool_give_back(pool, pieces[1]);
        fc_pinned_pool_give_back(pool, pieces[0]);
        fc_pinned_pool_give_back(pool, pieces[3]);
        ck_assert_uint_eq(fc_pinned_pool_lent_bytes(pool), 0);
    }
}
END_TEST

START_TEST(what_cannot_be_is_not_lent)
{
    ck_assert_ptr_null(fc_pinned_pool_take(pool, 0));
    ck_assert_ptr_null(fc_pinned_pool_take(pool, 4 * STEP + 1));
    ck_assert_ptr_null(fc_pinned_pool_take(pool, SIZE_MAX));
    ck_assert_ptr_nonnull(fc_pinned_pool_take(pool, 4 * STEP));
}
END_TEST

START_TEST(memory_the_engine_refuses_is_no_pool)
{
    fc_reason reason;
    fc_pinned_pool *none = NULL;
    fake_engine_set_register_status(&engine, FC_NO_MEMORY);
    ck_assert_int_eq(fc_pinned_pool_open(fake_engine_ops(), fake_engine_handle(&engine), STEP, &none, &reason),
                     FC_NO_MEMORY);
    ck_assert_ptr_null(none);
    ck_assert_int_eq(fc_pinned_pool_open(fake_engine_ops(), fake_engine_handle(&engine), SIZE_MAX, &none, &reason),
                     FC_NO_MEMORY);
    fc_pinned_pool_close(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pinned_pool");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_add_test(all, pieces_are_apart_and_writable);
    tcase_add_test(all, all_of_it_can_be_lent_again_and_again);
    tcase_add_test(all, what_cannot_be_is_not_lent);
    tcase_add_test(all, memory_the_engine_refuses_is_no_pool);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
