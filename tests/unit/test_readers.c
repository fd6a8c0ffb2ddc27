/* Who reads replies and who does not: what is held, whom it is fair to cut. */
#include "daemon/readers.h"

#include "daemon/clock.h"

#include <check.h>

static fc_readers readers;
static const fc_readers_limits LIMITS = {.count = 10, .bytes = 1000, .patience_ns = 100, .many = 8};

static void set_up(void)
{
    fc_readers_init(&readers);
    for (uint64_t id = 1; id <= 4; id++)
        ck_assert_int_eq(fc_readers_add(&readers, id, id <= 2 ? 77 : 76 + id, (int)id + 100), FC_OK);
}

static void tear_down(void)
{
    fc_readers_fini(&readers);
}

static void give(uint64_t id, uint32_t count, uint64_t bytes, uint64_t now_ns)
{
    for (uint32_t i = 0; i < count; i++)
        fc_readers_give(&readers, id, bytes, now_ns);
}

static uint64_t cut(uint64_t now_ns)
{
    const fc_reader *reader = fc_readers_cut(&readers, &LIMITS, now_ns);
    return reader != NULL ? reader->id : 0;
}

START_TEST(nobody_is_cut_while_there_is_room)
{
    give(1, 10, 1, 0);
    ck_assert(!fc_readers_are_over(&readers, &LIMITS));
    ck_assert_uint_eq(cut(1000000), 0);
    give(2, 1, 1, 0);
    ck_assert(fc_readers_are_over(&readers, &LIMITS));
    ck_assert_uint_eq(cut(1000000), 1);
    ck_assert(!fc_readers_are_over(&readers, &LIMITS));
    ck_assert_uint_eq(readers.count, 1);
    ck_assert_uint_eq(cut(1000000), 0);
}
END_TEST

START_TEST(who_reads_on_may_stay)
{
    give(3, 7, 1, 0);
    give(4, 5, 1, 0);
    fc_readers_take(&readers, 3, 1, 950);
    ck_assert_uint_eq(cut(50), 0);   /* nobody is still for long */
    ck_assert_uint_eq(cut(1000), 4); /* fewer than 3's, but those wait */
}
END_TEST

START_TEST(who_has_very_many_is_cut_at_once)
{
    give(3, 3, 1, 0);
    give(4, 8, 1, 90);
    ck_assert_uint_eq(cut(90), 4);
}
END_TEST

START_TEST(an_owner_counts_with_all_it_has)
{
    give(1, 4, 1, 0);
    give(2, 3, 1, 0);
    give(3, 5, 1, 0);
    ck_assert_uint_eq(cut(100 * FC_NS_PER_MS), 1);
}
END_TEST

START_TEST(what_was_taken_is_held_until_it_has_left)
{
    give(3, 2, 600, 0);
    give(4, 1, 300, 0);
    ck_assert_uint_eq(readers.bytes, 1500);
    fc_readers_take(&readers, 3, 600, 10);
    ck_assert_uint_eq(readers.bytes, 1500);
    ck_assert_uint_eq(readers.count, 2);
    fc_readers_take(&readers, 3, 600, 20); /* so the first has left */
    ck_assert_uint_eq(readers.bytes, 900);
    ck_assert(!fc_readers_have_left(&readers, 3, 1));
    ck_assert_uint_eq(readers.bytes, 900);
    ck_assert(fc_readers_have_left(&readers, 3, 2));
    ck_assert_uint_eq(readers.bytes, 300);
    ck_assert(fc_readers_have_left(&readers, 99, 0));
}
END_TEST

START_TEST(of_too_many_bytes_most_go)
{
    give(3, 6, 10, 0);
    fc_readers_give(&readers, 4, 990, 0);
    fc_readers_take(&readers, 4, 990, 0);
    ck_assert_uint_eq(cut(100 * FC_NS_PER_MS), 4);
    ck_assert_uint_eq(readers.bytes, 60);
}
END_TEST

START_TEST(one_that_is_cut_or_gone_counts_no_more)
{
    give(3, 11, 1, 0);
    ck_assert_int_eq(fc_readers_find(&readers, 3)->fd, 103);
    ck_assert_uint_eq(cut(100), 3);
    give(3, 5, 1, 0);
    fc_readers_take(&readers, 3, 1, 0);
    ck_assert_uint_eq(readers.count + readers.bytes, 0);
    give(4, 3, 7, 0);
    ck_assert(fc_readers_remove(&readers, 4));
    ck_assert(!fc_readers_remove(&readers, 4));
    ck_assert_uint_eq(readers.count + readers.bytes, 0);
    give(4, 3, 7, 0);
    fc_readers_take(&readers, 4, 7, 0);
    ck_assert_uint_eq(readers.count + readers.bytes, 0);
    for (uint64_t id = 1; id <= 3; id++)
        ck_assert(fc_readers_remove(&readers, id));
    ck_assert_uint_eq(readers.owners.count, 0);
}
END_TEST

static void see_half(uint64_t id, uint64_t bytes, uint64_t since_ns)
{
    for (size_t i = 0; i < readers.table.capacity; i++)
        if (readers.table.entries[i].id == id)
            fc_readers_see_half(&readers, fc_readers_at(&readers, i), bytes, since_ns);
}

static uint64_t cut_half(uint64_t bytes, uint64_t patience_ns, uint64_t now_ns)
{
    const fc_readers_limits limits = {.bytes = bytes, .patience_ns = patience_ns};
    const fc_reader *reader = fc_readers_cut_half(&readers, &limits, now_ns);
    return reader != NULL ? reader->id : 0;
}

START_TEST(half_sent_messages_may_stay_while_there_is_room)
{
    see_half(3, 600, 0);
    see_half(4, 300, 0);
    see_half(3, 700, 0); /* more has come */
    ck_assert_uint_eq(readers.half_bytes, 1000);
    ck_assert_uint_eq(cut_half(1000, 0, 3600 * FC_NS_PER_S), 0);
    ck_assert_uint_eq(cut_half(999, 0, 3600 * FC_NS_PER_S), 3);
    ck_assert_uint_eq(readers.half_bytes, 300);
    see_half(3, 700, 0); /* until it has ended */
    see_half(4, 0, 0);   /* whole */
    ck_assert_uint_eq(readers.half_bytes, 0);
    ck_assert_uint_eq(cut_half(0, 0, 3600 * FC_NS_PER_S), 0);
}
END_TEST

START_TEST(who_sends_at_speed_stays_where_others_hold)
{
    see_half(3, 800, 90 * FC_NS_PER_MS);
    see_half(4, 300, 0);
    ck_assert_uint_eq(cut_half(1000, 95 * FC_NS_PER_MS, 94 * FC_NS_PER_MS), 0); /* neither has had its time */
    ck_assert_uint_eq(cut_half(1000, 95 * FC_NS_PER_MS, 100 * FC_NS_PER_MS), 4);
    see_half(2, 300, 0);
    ck_assert_uint_eq(cut_half(1000, 0, 100 * FC_NS_PER_MS), 2);
    ck_assert_uint_eq(cut_half(799, 0, 100 * FC_NS_PER_MS), 3); /* nobody else is left */
}
END_TEST

START_TEST(an_owner_counts_with_all_that_it_holds_half_sent)
{
    see_half(1, 400, 0);
    see_half(2, 300, 0);
    see_half(3, 500, 0);
    ck_assert_uint_eq(cut_half(1000, 0, 100 * FC_NS_PER_MS), 1);
    ck_assert(fc_readers_remove(&readers, 2));
    ck_assert_uint_eq(readers.half_bytes, 500);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("readers");
    TCase *core = tcase_create("core");
    tcase_add_checked_fixture(core, set_up, tear_down);
    tcase_add_test(core, nobody_is_cut_while_there_is_room);
    tcase_add_test(core, who_reads_on_may_stay);
    tcase_add_test(core, who_has_very_many_is_cut_at_once);
    tcase_add_test(core, an_owner_counts_with_all_it_has);
    tcase_add_test(core, what_was_taken_is_held_until_it_has_left);
    tcase_add_test(core, of_too_many_bytes_most_go);
    tcase_add_test(core, one_that_is_cut_or_gone_counts_no_more);
    tcase_add_test(core, half_sent_messages_may_stay_while_there_is_room);
    tcase_add_test(core, who_sends_at_speed_stays_where_others_hold);
    tcase_add_test(core, an_owner_counts_with_all_that_it_holds_half_sent);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
