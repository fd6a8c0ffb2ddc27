/* Who is connected: owners and their connections, who is active, what is freed when. */
#include "daemon/peers.h"

#include <check.h>

static fc_peers peers;

START_TEST(an_owner_has_so_many_connections)
{
    fc_peers_init(&peers);
    ck_assert_int_eq(fc_peers_open(&peers, 1, 77, 2, 0), FC_OK);
    ck_assert_int_eq(fc_peers_open(&peers, 2, 77, 2, 0), FC_OK);
    ck_assert_int_eq(fc_peers_open(&peers, 3, 77, 2, 0), FC_BUSY);
    ck_assert_int_eq(fc_peers_open(&peers, 3, 78, 2, 0), FC_OK);
    fc_peers_close(&peers, 1);
    fc_peers_close(&peers, 1); /* once more, and one that never was */
    fc_peers_close(&peers, 9);
    ck_assert_int_eq(fc_peers_open(&peers, 4, 77, 2, 0), FC_OK);
    ck_assert_int_eq(fc_peers_open(&peers, 5, 77, 2, 0), FC_BUSY);
    fc_peers_close(&peers, 2);
    fc_peers_close(&peers, 3);
    fc_peers_close(&peers, 4);
    ck_assert_uint_eq(peers.peers.count, 0);
    ck_assert_uint_eq(peers.owners.count, 0);
    fc_peers_fini(&peers);
}
END_TEST

START_TEST(refused_ones_leave_nothing)
{
    fc_peers_init(&peers);
    ck_assert_int_eq(fc_peers_open(&peers, 1, 77, 0, 0), FC_BUSY);
    ck_assert_uint_eq(peers.peers.count, 0);
    ck_assert_uint_eq(peers.owners.count, 0);
    fc_peers_fini(&peers);
}
END_TEST

START_TEST(active_is_who_did_something_lately)
{
    fc_peers_init(&peers);
    ck_assert_int_eq(fc_peers_open(&peers, 1, 77, 9, 0), FC_OK);
    ck_assert_int_eq(fc_peers_open(&peers, 2, 77, 9, 0), FC_OK);
    ck_assert_uint_eq(peers.active_count, 0);
    fc_peer *one = fc_peers_enter(&peers, 1, 0);
    fc_peer *two = fc_peers_enter(&peers, 2, 5);
    fc_peer *stranger = fc_peers_enter(&peers, 3, 6);
    ck_assert_ptr_eq(fc_peers_enter(&peers, 1, 7), one);
    ck_assert_uint_eq(peers.active_count, 3);
    ck_assert_uint_eq(one->owner->share.peer_count, 2);
    ck_assert_ptr_eq(one->share.owner, two->share.owner);
    ck_assert_ptr_null(stranger->share.owner);
    fc_peers_age(&peers, 4 + FC_PEERS_ACTIVE_NS);
    ck_assert_uint_eq(peers.active_count, 3);
    fc_peers_age(&peers, 6 + FC_PEERS_ACTIVE_NS); /* two, and the stranger, who is forgotten with it */
    ck_assert_uint_eq(peers.active_count, 1);
    ck_assert_uint_eq(peers.peers.count, 2);
    ck_assert_uint_eq(one->owner->share.peer_count, 1);
    fc_peers_fini(&peers);
}
END_TEST

START_TEST(what_is_in_flight_keeps_its_peer)
{
    fc_peers_init(&peers);
    ck_assert_int_eq(fc_peers_open(&peers, 1, 77, 9, 0), FC_OK);
    fc_peer *one = fc_peers_enter(&peers, 1, 0);
    one->inflight = 1;
    one->share.finish = 50;
    fc_peers_close(&peers, 1);
    for (uint64_t seconds = 1; seconds < 5; seconds++)
        fc_peers_age(&peers, seconds * FC_PEERS_ACTIVE_NS);
    ck_assert_ptr_eq(fc_peer_of(&one->share), one);
    ck_assert_uint_eq(one->share.finish, 50);
    ck_assert_uint_eq(peers.peers.count, 1);
    one->inflight = 0;
    fc_peers_age(&peers, 9 * FC_PEERS_ACTIVE_NS);
    ck_assert_uint_eq(peers.peers.count, 0);
    ck_assert_uint_eq(peers.owners.count, 0);
    fc_peers_fini(&peers);
}
END_TEST

START_TEST(those_who_are_here_and_ask_are_told)
{
    fc_peers_init(&peers);
    ck_assert_int_eq(fc_peers_open(&peers, 1, 77, 9, 0), FC_OK);
    ck_assert_int_eq(fc_peers_open(&peers, 2, 77, 9, 0), FC_OK);
    ck_assert(!fc_peers_are_told(&peers, FC_PEERS_ACTIVE_NS - 1)); /* they may be about to ask */
    ck_assert(fc_peers_are_told(&peers, FC_PEERS_ACTIVE_NS));      /* nobody asked */
    fc_peer *one = fc_peers_enter(&peers, 1, 0);
    ck_assert(!fc_peers_are_told(&peers, FC_PEERS_ACTIVE_NS));
    one->is_told = true;
    ck_assert(fc_peers_are_told(&peers, FC_PEERS_ACTIVE_NS));
    fc_peers_enter(&peers, 2, 0);
    fc_peers_enter(&peers, 3, 0); /* a stranger has no connection */
    ck_assert(!fc_peers_are_told(&peers, FC_PEERS_ACTIVE_NS));
    fc_peers_close(&peers, 2);
    ck_assert(fc_peers_are_told(&peers, FC_PEERS_ACTIVE_NS));
    fc_peers_fini(&peers);
}
END_TEST

START_TEST(told_late_who_its_owner_is)
{
    fc_peers_init(&peers);
    fc_peer *one = fc_peers_enter(&peers, 1, 0);
    ck_assert_int_eq(fc_peers_open(&peers, 1, 77, 9, 0), FC_OK);
    ck_assert_uint_eq(one->owner->share.peer_count, 1);
    fc_peers_age(&peers, FC_PEERS_ACTIVE_NS);
    ck_assert_uint_eq(one->owner->share.peer_count, 0);
    fc_peers_close(&peers, 1);
    ck_assert_uint_eq(peers.owners.count, 0);
    fc_peers_fini(&peers);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("peers");
    TCase *core = tcase_create("core");
    tcase_add_test(core, an_owner_has_so_many_connections);
    tcase_add_test(core, refused_ones_leave_nothing);
    tcase_add_test(core, active_is_who_did_something_lately);
    tcase_add_test(core, what_is_in_flight_keeps_its_peer);
    tcase_add_test(core, those_who_are_here_and_ask_are_told);
    tcase_add_test(core, told_late_who_its_owner_is);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
