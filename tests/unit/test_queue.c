/* The waiting line: bounds, order, company, expiry, cancel, lost peers. */
#include "daemon/queue.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMS = 8 };

static fc_queue queue;
static fc_queue_item items[ITEMS];
static fc_share one, shares[3]; /* everybody's, unless a test says otherwise: then the peers' */

/* Item i: id i, peer i / 4 + 1, 10 bytes, 1 segment, 100 staging bytes, kernel plan 0. */
static void fresh(uint64_t count_max, uint64_t bytes_max)
{
    fc_queue_init(&queue, count_max, bytes_max);
    one = (fc_share){.owner = NULL};
    memset(shares, 0, sizeof shares);
    for (int i = 0; i < ITEMS; i++)
        items[i] = (fc_queue_item){.share = &one,
                                   .plan = {.kernel = FC_KERNEL_CPU, .head_dim = 64, .split_count = 1},
                                   .peer = (uint64_t)i / 4 + 1,
                                   .id = (uint64_t)i,
                                   .bytes = 10,
                                   .staging_bytes = 100,
                                   .segment_count = 1,
                                   .deadline_ns = FC_NEVER_NS};
}

/* Items pushed in the order of their digits: each its peer's, who is the digit's number of `peers`, at that cost. */
static void push_of(const char *peers, uint32_t cost)
{
    for (int i = 0; peers[i] != '\0'; i++) {
        items[i].share = &shares[peers[i] - '1'];
        items[i].peer = (uint64_t)(peers[i] - '0');
        items[i].cost = cost;
        ck_assert_int_eq(fc_queue_push(&queue, &items[i]), FC_OK);
    }
}

static void push_all(void)
{
    for (int i = 0; i < ITEMS; i++)
        ck_assert_int_eq(fc_queue_push(&queue, &items[i]), FC_OK);
}

/* The ids of a chain, or of the whole queue, as decimal digits: "037". */
static const char *ids_of(const fc_queue_item *item)
{
    static char text[ITEMS + 1];
    int length = 0;
    for (; item != NULL; item = item->next) {
        ck_assert_int_lt(length, ITEMS);
        text[length++] = (char)('0' + (int)item->id);
    }
    text[length] = '\0';
    return text;
}

static void assert_queue(const char *ids)
{
    ck_assert_str_eq(ids_of(queue.first), ids);
    uint64_t count = 0;
    uint64_t bytes = 0;
    const fc_queue_item *last = NULL;
    for (const fc_queue_item *item = queue.first; item != NULL; last = item, item = item->next) {
        ck_assert_ptr_eq(item->prev, last);
        count++;
        bytes += item->bytes;
    }
    ck_assert_ptr_eq(queue.last, last);
    ck_assert_uint_eq(queue.count, count);
    ck_assert_uint_eq(queue.bytes, bytes);
}

static const char *take(uint32_t requests, uint32_t segments, size_t staging_bytes)
{
    static char text[ITEMS + 1];
    fc_queue_item *taken[ITEMS];
    fc_batch_limits limits = {.requests = requests, .segments = segments, .staging_bytes = staging_bytes};
    uint32_t count = fc_queue_take(&queue, &limits, taken);
    for (uint32_t i = 0; i < count; i++)
        text[i] = (char)('0' + (int)taken[i]->id);
    text[count] = '\0';
    return text;
}

START_TEST(bounds)
{
    static const struct {
        const char *name;
        uint64_t count_max, bytes_max, item_bytes;
        int accepted;
    } rows[] = {
        {"count", 3, 1000, 10, 3},
        {"bytes", 8, 35, 10, 3},
        {"bytes to the last", 8, 30, 10, 3},
        {"one too big for the bytes enters alone", 8, 5, 10, 1},
        {"nothing held back by zero bytes", 8, 0, 0, 8},
        {"sizes near the end of 64 bits", 8, UINT64_MAX, UINT64_MAX / 2, 2},
    };
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        fresh(rows[row].count_max, rows[row].bytes_max);
        int accepted = 0;
        for (int i = 0; i < ITEMS; i++) {
            items[i].bytes = rows[row].item_bytes;
            accepted += fc_queue_push(&queue, &items[i]) == FC_OK;
        }
        ck_assert_msg(accepted == rows[row].accepted, "%s: %d", rows[row].name, accepted);
    }
}
END_TEST

START_TEST(lowered_bounds_keep_what_waits)
{
    fresh(8, 1000);
    push_all();
    queue.count_max = 2;
    queue.bytes_max = 15;
    ck_assert_str_eq(take(7, 100, 10000), "0123456");
    fc_queue_item more = items[0];
    ck_assert_int_eq(fc_queue_push(&queue, &more), FC_BUSY); /* 10 + 10 > 15 */
    queue.bytes_max = 20;
    ck_assert_int_eq(fc_queue_push(&queue, &more), FC_OK);
}
END_TEST

START_TEST(taking_keeps_order_and_limits)
{
    static const struct {
        const char *name;
        uint32_t requests, segments;
        size_t staging_bytes;
        const char *taken, *left;
    } rows[] = {
        {"one by one", 1, 100, 10000, "0", "1234567"},
        {"company up to the request limit", 3, 100, 10000, "046", "12357"},
        {"everybody who fits", 8, 100, 10000, "046", "12357"},
        {"segments", 8, 2, 10000, "04", "123567"},
        {"staging", 8, 100, 250, "04", "123567"},
        {"the oldest goes whatever it needs", 8, 0, 0, "0", "1234567"},
    };
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        fresh(8, 1000);
        /* 0, 4 and 6 can share; so can 1, 2, 3, 5, 7. */
        for (int i = 0; i < ITEMS; i++)
            items[i].plan.dtype = i == 0 || i == 4 || i == 6 ? FC_F16 : FC_F32;
        push_all();
        ck_assert_msg(strcmp(take(rows[row].requests, rows[row].segments, rows[row].staging_bytes), rows[row].taken) ==
                          0,
                      "%s", rows[row].name);
        assert_queue(rows[row].left);
    }
}
END_TEST

START_TEST(one_too_large_for_the_rest_does_not_block_those_behind)
{
    fresh(8, 1000);
    items[1].staging_bytes = 1000;
    push_all();
    ck_assert_str_eq(take(3, 100, 300), "023");
    ck_assert_str_eq(take(8, 100, 300), "1");
    assert_queue("4567");
    ck_assert_str_eq(take(8, 100, 10000), "4567");
    ck_assert_str_eq(take(8, 100, 10000), "");
}
END_TEST

START_TEST(launches_share_workspace_and_tickets)
{
    fresh(8, 1000);
    items[0].plan.workspace_bytes = FC_LAUNCH_WORKSPACE_BYTES_MAX - 10;
    items[1].plan.workspace_bytes = 11;
    items[2].plan.workspace_bytes = 10;
    items[3].plan.ticket_count = FC_LAUNCH_TICKETS_MAX;
    items[4].plan.ticket_count = 1;
    push_all();
    ck_assert_str_eq(take(8, 100, 10000), "023567");
    ck_assert_str_eq(take(8, 100, 10000), "14");
    assert_queue("");
}
END_TEST

START_TEST(expiry)
{
    fresh(8, 1000);
    items[2].deadline_ns = 200;
    items[5].deadline_ns = 100;
    items[6].deadline_ns = 100;
    push_all();
    ck_assert_ptr_null(fc_queue_expire(&queue, 99, 0));
    ck_assert_str_eq(ids_of(fc_queue_expire(&queue, 100, 0)), "56");
    assert_queue("012347");
    ck_assert_ptr_null(fc_queue_expire(&queue, 199, 0));
    ck_assert_str_eq(ids_of(fc_queue_expire(&queue, UINT64_MAX - 1, 0)), "2");
    assert_queue("01347");
    ck_assert_ptr_null(fc_queue_expire(&queue, UINT64_MAX - 1, 0));
}
END_TEST

/* Running takes 100: who has less left goes, unless that is still more than half of its time. */
START_TEST(what_would_end_too_late_is_not_run)
{
    fresh(8, 1000);
    items[1].deadline_ns = 1000, items[1].halfway_ns = 500;
    items[3].deadline_ns = 990, items[3].halfway_ns = 945; /* came at 900 */
    items[4].deadline_ns = 1001, items[4].halfway_ns = 500;
    push_all();
    ck_assert_ptr_null(fc_queue_expire(&queue, 890, 100));
    ck_assert_str_eq(ids_of(fc_queue_expire(&queue, 901, 100)), "1");
    ck_assert_ptr_null(fc_queue_expire(&queue, 901, 100));
    ck_assert_str_eq(ids_of(fc_queue_expire(&queue, 945, 100)), "34");
    assert_queue("02567");
    ck_assert_ptr_null(fc_queue_expire(&queue, UINT64_MAX / 2, 1000));
    assert_queue("02567"); /* which have none */
}
END_TEST

START_TEST(a_new_deadline_is_seen_after_others_went)
{
    fresh(8, 1000);
    items[0].deadline_ns = 50;
    ck_assert_int_eq(fc_queue_push(&queue, &items[0]), FC_OK);
    ck_assert_str_eq(take(8, 100, 10000), "0");
    ck_assert_ptr_null(fc_queue_expire(&queue, 1000, 0));
    items[1].deadline_ns = 500;
    ck_assert_int_eq(fc_queue_push(&queue, &items[1]), FC_OK);
    ck_assert_ptr_null(fc_queue_expire(&queue, 499, 0));
    ck_assert_str_eq(ids_of(fc_queue_expire(&queue, 500, 0)), "1");
}
END_TEST

START_TEST(cancel_takes_the_oldest_of_its_own_peer)
{
    fresh(8, 1000);
    items[2].id = 1; /* twice in peer 1 */
    items[4].id = 1; /* and once in peer 2 */
    push_all();
    ck_assert_ptr_eq(fc_queue_cancel(&queue, 1, 1), &items[1]);
    ck_assert_ptr_null(items[1].next);
    ck_assert_ptr_eq(fc_queue_cancel(&queue, 1, 1), &items[2]);
    ck_assert_ptr_null(fc_queue_cancel(&queue, 1, 1));
    ck_assert_ptr_null(fc_queue_cancel(&queue, 3, 1));
    ck_assert_ptr_eq(fc_queue_cancel(&queue, 2, 7), &items[7]);
    assert_queue("03156");
}
END_TEST

START_TEST(a_peer_leaves_with_all_it_had)
{
    fresh(8, 1000);
    push_all();
    ck_assert_str_eq(ids_of(fc_queue_drop_peer(&queue, 1)), "0123");
    assert_queue("4567");
    ck_assert_ptr_null(fc_queue_drop_peer(&queue, 1));
    ck_assert_str_eq(ids_of(fc_queue_drop_all(&queue)), "4567");
    assert_queue("");
    ck_assert_ptr_null(fc_queue_drop_all(&queue));
    push_all();
    assert_queue("01234567");
}
END_TEST

/* --- fair between peers ------------------------------------------------------------------------------------------- */

START_TEST(peers_take_turns)
{
    static const struct {
        const char *name, *peers, *order;
    } rows[] = {
        {"one alone", "11111111", "01234567"},
        {"a flood, then another", "11111122", "06172345"},
        {"in turn anyway", "12121212", "01234567"},
        {"three", "11112233", "04615723"},
    };
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        fresh(8, 1000);
        push_of(rows[row].peers, 10);
        ck_assert_msg(strcmp(ids_of(queue.first), rows[row].order) == 0, "%s: %s", rows[row].name, ids_of(queue.first));
        assert_queue(rows[row].order);
    }
}
END_TEST

START_TEST(turns_are_counted_in_work)
{
    fresh(8, 1000);
    push_of("111", 30);
    for (int i = 3; i < 8; i++) {
        items[i].share = &shares[1];
        items[i].cost = 10;
        ck_assert_int_eq(fc_queue_push(&queue, &items[i]), FC_OK);
    }
    /* One of 30 for every three of 10. */
    assert_queue("03451672");
}
END_TEST

START_TEST(who_comes_late_starts_now_and_not_in_the_past)
{
    fresh(8, 1000);
    push_of("1111", 10);
    ck_assert_str_eq(take(1, 100, 10000), "0");
    ck_assert_str_eq(take(1, 100, 10000), "1");
    ck_assert_str_eq(take(1, 100, 10000), "2");
    items[4].share = items[5].share = items[6].share = &shares[1];
    items[4].cost = items[5].cost = items[6].cost = 10;
    for (int i = 4; i < 7; i++)
        ck_assert_int_eq(fc_queue_push(&queue, &items[i]), FC_OK);
    /* One at once, but the time it was away for is not made up for. */
    assert_queue("4356");
    ck_assert_str_eq(take(8, 100, 10000), "4356");
    items[7].share = &shares[0];
    items[7].cost = 10;
    ck_assert_int_eq(fc_queue_push(&queue, &items[7]), FC_OK);
    ck_assert_str_eq(take(8, 100, 10000), "7");
}
END_TEST

START_TEST(many_connections_of_one_owner_get_what_one_gets)
{
    fc_share_owner crowd = {.peer_count = 2};
    fresh(8, 1000);
    shares[0].owner = shares[1].owner = &crowd;
    push_of("11223333", 10);
    /* New ones start one behind the other; then the two of the crowd cost twice. */
    assert_queue("04251637");
}
END_TEST

START_TEST(a_launch_is_shared_fairly)
{
    fc_queue_item *taken[ITEMS];
    fc_batch_limits limits = {.requests = 8, .requests_per_peer = 2, .segments = 100, .staging_bytes = 10000};
    fresh(8, 1000);
    push_of("11111223", 10);
    ck_assert_uint_eq(fc_queue_take(&queue, &limits, taken), 5);
    static const uint64_t ids[] = {0, 5, 7, 1, 6};
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(taken[i]->id, ids[i]);
    ck_assert_uint_eq(fc_queue_take(&queue, &limits, taken), 2); /* counted anew */
    assert_queue("4");
}
END_TEST

/* The first peer's requests are long: its second waits for its turn, unless nobody is there whom it would hold up, or
 * it is quick all the same. */
START_TEST(a_long_one_does_not_ride_along)
{
    fc_queue_item *taken[ITEMS];
    fc_batch_limits limits = {.requests = 8, .requests_per_peer = 1, .segments = 100, .staging_bytes = 10000};
    static const struct {
        uint32_t per_peer;
        uint64_t quick_cost;
        uint32_t taken;
    } ROWS[] = {{1, 0, 2}, {1, 99, 2}, {1, 100, 3}, {0, 0, 5}};
    for (size_t row = 0; row < sizeof ROWS / sizeof ROWS[0]; row++) {
        fresh(8, 1000);
        push_of("232323", 10);
        for (int i = 6; i < 8; i++) {
            items[i].share = &shares[0];
            items[i].cost = 100;
            ck_assert_int_eq(fc_queue_push(&queue, &items[i]), FC_OK);
        }
        limits.requests_per_peer = 1;
        ck_assert_uint_eq(fc_queue_take(&queue, &limits, taken), 3); /* it is its turn, too */
        ck_assert_uint_eq(taken[2]->id, 6);
        limits.requests_per_peer = ROWS[row].per_peer;
        limits.quick_cost = ROWS[row].quick_cost;
        ck_assert_uint_eq(fc_queue_take(&queue, &limits, taken), ROWS[row].taken);
        assert_queue(ROWS[row].taken == 2 ? "457" : ROWS[row].taken == 3 ? "45" : "");
    }
}
END_TEST

START_TEST(a_flood_leaves_room)
{
    enum { MANY = 256 };
    static fc_queue_item flood[MANY];
    fc_share others[8] = {{.owner = NULL}}, flooder = {.owner = NULL};
    fc_queue_init(&queue, MANY, 1 << 20);
    uint64_t accepted = 0;
    for (int i = 0; i < MANY; i++) {
        flood[i] = (fc_queue_item){.share = &flooder, .bytes = 1, .deadline_ns = FC_NEVER_NS};
        accepted += fc_queue_push(&queue, &flood[i]) == FC_OK;
    }
    ck_assert_uint_gt(accepted, MANY * 3 / 4);
    ck_assert_uint_lt(accepted, MANY);
    for (int i = 0; i < 8; i++) {
        items[i] = (fc_queue_item){.share = &others[i], .bytes = 1, .deadline_ns = FC_NEVER_NS};
        ck_assert_int_eq(fc_queue_push(&queue, &items[i]), FC_OK);
    }
    while (queue.first != NULL) { /* and what is taken out is counted out */
        fc_queue_item *taken[1];
        fc_queue_take(&queue, &(fc_batch_limits){.requests = 1}, taken);
    }
    ck_assert_uint_eq(flooder.count, 0);
    ck_assert_uint_eq(flooder.bytes, 0);
}
END_TEST

START_TEST(a_peer_has_bytes_of_its_own)
{
    fresh(8, 1000);
    queue.peer_bytes_max = 25;
    items[0].bytes = 20;
    items[0].share = items[1].share = &shares[0];
    ck_assert_int_eq(fc_queue_push(&queue, &items[0]), FC_OK);
    ck_assert_int_eq(fc_queue_push(&queue, &items[1]), FC_BUSY);
    items[2].share = &shares[1];
    items[2].bytes = 30; /* the first of a peer, whatever it needs */
    ck_assert_int_eq(fc_queue_push(&queue, &items[2]), FC_OK);
    items[3].share = &shares[1];
    ck_assert_int_eq(fc_queue_push(&queue, &items[3]), FC_BUSY);
    ck_assert_str_eq(take(1, 100, 10000), "0");
    ck_assert_int_eq(fc_queue_push(&queue, &items[1]), FC_OK);
}
END_TEST

/* Whatever is pushed and taken in whatever order, the list is sorted and nothing is lost. */
START_TEST(any_order_of_things_keeps_the_line)
{
    uint64_t random_state = 88172645463325252ull;
    bool is_in[ITEMS] = {false};
    fresh(8, 1000);
    for (int step = 0; step < 20000; step++) {
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        int i = (int)(random_state % ITEMS);
        if (!is_in[i]) {
            items[i].share = &shares[random_state >> 8 & 1];
            items[i].cost = (uint32_t)(random_state >> 16 & 63);
            ck_assert_int_eq(fc_queue_push(&queue, &items[i]), FC_OK);
            is_in[i] = true;
        } else {
            fc_queue_item *taken[1];
            ck_assert_uint_eq(fc_queue_take(&queue, &(fc_batch_limits){.requests = 1}, taken), 1);
            is_in[taken[0]->id] = false;
        }
        uint64_t count = 0, last_start = 0;
        for (const fc_queue_item *item = queue.first; item != NULL; item = item->next, count++) {
            ck_assert_uint_ge(item->start, last_start);
            last_start = item->start;
        }
        ck_assert_uint_eq(count, queue.count);
    }
}
END_TEST

/* Peer 1 has four in the line, then peer 2 comes: what each's next would wait for. */
START_TEST(what_is_ahead_is_known_before)
{
    fresh(8, 1000);
    push_of("11112", 10);
    fc_queue_item next = {.share = &shares[0], .cost = 10, .bytes = 10};
    ck_assert_uint_eq(fc_queue_cost_ahead(&queue, &next), 50);
    next.share = &shares[1];
    ck_assert_uint_eq(fc_queue_cost_ahead(&queue, &next), 30); /* 1 2 1 (2) */
    next.share = &shares[2];
    ck_assert_uint_eq(fc_queue_cost_ahead(&queue, &next), 20); /* 1 2 (3) 1 */
    ck_assert_str_eq(take(1, 1, 1000), "0");
    ck_assert_str_eq(take(1, 1, 1000), "4");
    ck_assert_uint_eq(fc_queue_cost_ahead(&queue, &next), 0); /* 3 starts now, 1 later */
    fc_queue_drop_all(&queue);
    ck_assert_uint_eq(queue.cost, 0);
    ck_assert_uint_eq(fc_queue_cost_ahead(&queue, &next), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("queue");
    TCase *line = tcase_create("line");
    tcase_add_test(line, bounds);
    tcase_add_test(line, lowered_bounds_keep_what_waits);
    tcase_add_test(line, taking_keeps_order_and_limits);
    tcase_add_test(line, one_too_large_for_the_rest_does_not_block_those_behind);
    tcase_add_test(line, launches_share_workspace_and_tickets);
    tcase_add_test(line, expiry);
    tcase_add_test(line, what_would_end_too_late_is_not_run);
    tcase_add_test(line, a_new_deadline_is_seen_after_others_went);
    tcase_add_test(line, cancel_takes_the_oldest_of_its_own_peer);
    tcase_add_test(line, a_peer_leaves_with_all_it_had);
    suite_add_tcase(suite, line);
    TCase *fair = tcase_create("fair");
    tcase_add_test(fair, peers_take_turns);
    tcase_add_test(fair, turns_are_counted_in_work);
    tcase_add_test(fair, who_comes_late_starts_now_and_not_in_the_past);
    tcase_add_test(fair, many_connections_of_one_owner_get_what_one_gets);
    tcase_add_test(fair, a_launch_is_shared_fairly);
    tcase_add_test(fair, a_long_one_does_not_ride_along);
    tcase_add_test(fair, a_flood_leaves_room);
    tcase_add_test(fair, a_peer_has_bytes_of_its_own);
    tcase_add_test(fair, what_is_ahead_is_known_before);
    tcase_add_test(fair, any_order_of_things_keeps_the_line);
    suite_add_tcase(suite, fair);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
