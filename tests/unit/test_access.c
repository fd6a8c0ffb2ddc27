/* Who may connect: the lists, and the sockets' door they stand at. */
#include "daemon/access.h"
#include "daemon/clock.h"
#include "daemon/ipc_path.h"
#include "tests/support/local_bench.h"
#include "tests/support/packet_peer.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

START_TEST(lists_are_read)
{
    static const struct {
        const char *text;
        uint32_t count, first;
        const char *error; /* NULL: none */
    } rows[] = {
        {"", 0, 0, NULL},
        {"0", 1, 0, NULL},
        {"root", 1, 0, NULL},
        {"1000,root,7", 3, 1000, NULL},
        {"4294967294", 1, 4294967294u, NULL},
        {"4294967295", 0, 0, "no such"}, /* the system's "none" */
        {"99999999999999999999", 0, 0, "no such"},
        {"-1", 0, 0, "no such"},
        {"no-such-name", 0, 0, "no such user: \"no-such-name\""},
        {"1,,2", 0, 0, "by name or number"},
        {",1", 0, 0, "by name or number"},
        {"1,", 0, 0, "after the last comma"},
        {"1 2", 0, 0, "no such"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_access_list list = {.count = 0};
        fc_reason reason = {""};
        fc_status st = fc_access_read_uids(rows[i].text, &list, &reason);
        ck_assert_msg((st == FC_OK) == (rows[i].error == NULL), "\"%s\": %s", rows[i].text, reason.text);
        ck_assert_uint_eq(list.count, rows[i].count);
        if (list.count > 0)
            ck_assert_uint_eq(list.ids[0], rows[i].first);
        if (rows[i].error != NULL)
            ck_assert_msg(strstr(reason.text, rows[i].error) != NULL, "\"%s\": %s", rows[i].text, reason.text);
    }
}
END_TEST

START_TEST(a_list_has_an_end)
{
    char text[3 * FC_ACCESS_IDS_MAX + 8] = "1";
    fc_access_list list;
    fc_reason reason = {""};
    for (int i = 1; i < FC_ACCESS_IDS_MAX; i++)
        strcat(text, ",2");
    ck_assert_int_eq(fc_access_read_gids(text, &list, &reason), FC_OK);
    ck_assert_uint_eq(list.count, FC_ACCESS_IDS_MAX);
    strcat(text, ",3");
    ck_assert_int_eq(fc_access_read_gids(text, &list, &reason), FC_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(reason.text, "at most 64 groups"));
}
END_TEST

START_TEST(either_list_lets_in)
{
    fc_access nobody_named = {.uids = {.count = 0}};
    fc_access users = {.uids = {.count = 2, .ids = {5, 6}}};
    fc_access both = {.uids = {.count = 1, .ids = {5}}, .gids = {.count = 1, .ids = {100}}};
    ck_assert(fc_access_allows(&nobody_named, 0, 0) && fc_access_allows(&nobody_named, (uid_t)-1, (gid_t)-1));
    ck_assert(fc_access_allows(&users, 6, 1) && !fc_access_allows(&users, 7, 5) && !fc_access_allows(&users, 0, 0));
    ck_assert(fc_access_allows(&both, 5, 1) && fc_access_allows(&both, 9, 100) && !fc_access_allows(&both, 9, 5));
    ck_assert(!fc_access_allows(&both, (uid_t)-1, (gid_t)-1)); /* one the system does not know */
}
END_TEST

/* _i 0: named by uid, 1: by gid, 2: not named. */
START_TEST(the_local_channel_looks_who_comes)
{
    local_bench b;
    packet_peer peer;
    fc_wire_reply reply;
    fc_access access = {.uids = {.count = 1, .ids = {_i == 0 ? geteuid() : geteuid() + 77}},
                        .gids = {.count = 1, .ids = {_i == 1 ? getegid() : getegid() + 77}}};
    local_bench_open_with(&b, &(local_bench_options){.access = access});
    packet_peer_open(&peer, b.side_path);
    packet_peer_send_op(&peer, 1, FC_OP_PING);
    if (_i < 2) {
        packet_peer_expect(&peer, 1, FC_OK, NULL);
    } else {
        ck_assert(!packet_peer_receive(&peer, &reply));
        local_bench_await_stat(&b, FC_COUNT_PIPES_REFUSED, 1);
        ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_LOCAL_OPENED), 0);
    }
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

START_TEST(a_user_has_so_many_connections)
{
    local_bench b;
    packet_peer peers[3];
    fc_wire_reply reply;
    local_bench_open_with(&b, &(local_bench_options){.connections_per_uid = 2});
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            packet_peer_open(&peers[i], b.side_path);
            packet_peer_send_op(&peers[i], 1, FC_OP_PING);
            if (i < 2)
                packet_peer_expect(&peers[i], 1, FC_OK, NULL);
            else
                ck_assert(!packet_peer_receive(&peers[i], &reply));
        }
        for (int i = 0; i < 3; i++)
            packet_peer_close(&peers[i]);
        local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
    }
    ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_PIPES_REFUSED), 3);
    local_bench_close(&b);
}
END_TEST

START_TEST(a_connection_sends_so_many_requests_a_second)
{
    local_bench b;
    packet_peer fast, other;
    local_bench_open_with(&b, &(local_bench_options){.requests_per_second = 1});
    packet_peer_open(&fast, b.side_path);
    packet_peer_open(&other, b.side_path);
    uint64_t start_ns = fc_clock_now_ns();
    fc_wire_reply reply;
    int busy = 0;
    for (uint64_t i = 0; i < 20; i++) {
        ck_assert(packet_peer_send_op(&fast, i, FC_OP_PING));
        ck_assert(packet_peer_receive(&fast, &reply));
        ck_assert_uint_eq(reply.id, i);
        if (reply.status == FC_OK)
            continue;
        ck_assert_int_eq(reply.status, FC_BUSY);
        ck_assert_uint_gt(reply.retry_after_us, 0);
        ck_assert_uint_le(reply.retry_after_us, 1000001);
        busy++;
    }
    uint64_t seconds = (fc_clock_now_ns() - start_ns) / FC_NS_PER_S;
    ck_assert_uint_ge((uint64_t)busy + seconds + 2, 20); /* one, and one a second that it took */
    ck_assert(packet_peer_send_op(&other, 1, FC_OP_PING));
    packet_peer_expect(&other, 1, FC_OK, NULL);
    ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_OVER_RATE), (uint64_t)busy);
    packet_peer_close(&fast);
    packet_peer_close(&other);
    local_bench_close(&b);
}
END_TEST

START_TEST(sockets_are_given_away)
{
    char directory[] = "/tmp/fc-access-XXXXXX", path[64];
    fc_reason reason = {""};
    struct stat info;
    fc_socket_owner owner = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/s", directory);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(fc_ipc_give(path, NULL, &reason), FC_OK);
    ck_assert_int_eq(fc_ipc_give(path, &owner, &reason), FC_OK); /* as it is */
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_uint_eq(info.st_uid, geteuid());
    owner = (fc_socket_owner){.uid = 12345, .gid = 23456};
    fc_status st = fc_ipc_give(path, &owner, &reason);
    if (geteuid() == 0) {
        ck_assert_int_eq(st, FC_OK);
        ck_assert_int_eq(stat(path, &info), 0);
        ck_assert_uint_eq(info.st_uid, 12345);
        ck_assert_uint_eq(info.st_gid, 23456);
    } else {
        ck_assert_int_eq(st, FC_IO);
        ck_assert_ptr_nonnull(strstr(reason.text, "socket-owner"));
    }
    close(fd);
    unlink(path);
    rmdir(directory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("access");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_test(core, lists_are_read);
    tcase_add_test(core, a_list_has_an_end);
    tcase_add_test(core, either_list_lets_in);
    tcase_add_loop_test(core, the_local_channel_looks_who_comes, 0, 3);
    tcase_add_test(core, a_user_has_so_many_connections);
    tcase_add_test(core, a_connection_sends_so_many_requests_a_second);
    tcase_add_test(core, sockets_are_given_away);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
