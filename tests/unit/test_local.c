/* The local channel over real sockets, against peers that do as they like. The engine behind it is a fake that holds
 * launches until the test lets them go.
 */
#include "daemon/clock.h"
#include "daemon/unread.h"
#include "tests/support/lingering.h"
#include "tests/support/local_bench.h"
#include "tests/support/packet_peer.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(a_packet_is_a_message)
{
    local_bench b;
    packet_peer peer;
    fc_wire_reply reply;
    struct stat info;
    local_bench_open(&b);
    ck_assert_int_eq(stat(b.side_path, &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0620);
    packet_peer_open(&peer, b.side_path);
    ck_assert(packet_peer_send_op(&peer, UINT64_MAX, FC_OP_PING));
    packet_peer_expect(&peer, UINT64_MAX, FC_OK, NULL);
    ck_assert(packet_peer_send_op(&peer, 2, FC_OP_HELLO));
    ck_assert(packet_peer_receive(&peer, &reply));
    ck_assert_int_eq(reply.body, FC_BODY_HELLO);
    ck_assert(service_bench_is_text(reply.hello.local, b.side_path));
    ck_assert(packet_peer_send_op(&peer, 3, FC_OP_STATS));
    ck_assert(packet_peer_receive(&peer, &reply));
    ck_assert_int_eq(reply.body, FC_BODY_STATS);
    ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_LOCAL_MESSAGES), 3);
    packet_peer_close(&peer);
    local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
    local_bench_await_stat(&b, FC_COUNT_LOCAL_CLOSED, 1);
    local_bench_close(&b);
}
END_TEST

START_TEST(tensor_data_does_not_travel_here)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    fc_wire_request request = service_bench_request(5);
    ck_assert(packet_peer_send(&peer, &request));
    packet_peer_expect(&peer, 5, FC_TOO_LARGE, "q: 192 bytes");
    request = packet_peer_empty_attend(6);
    ck_assert(packet_peer_send(&peer, &request));
    packet_peer_expect(&peer, 6, FC_OK, NULL);
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

START_TEST(a_long_packet_is_refused_by_name)
{
    static uint8_t bytes[3 * FC_PACKET_BYTES / 2];
    local_bench b;
    packet_peer peer;
    size_t size_bytes = 0;
    fc_wire_request ping = {.id = 9, .op = FC_OP_PING};
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    ck_assert_int_eq(fc_codec_encode_request(&ping, NULL, bytes, sizeof bytes, &size_bytes), FC_OK);
    ck_assert(packet_peer_send_bytes(&peer, bytes, sizeof bytes));
    packet_peer_expect(&peer, 9, FC_TOO_LARGE, "65536");
    ck_assert(packet_peer_send_bytes(&peer, bytes, FC_PACKET_BYTES)); /* as long as one may be, but nonsense */
    packet_peer_expect(&peer, 9, FC_INVALID_ARGUMENT, NULL);
    ck_assert(packet_peer_send(&peer, &ping));
    packet_peer_expect(&peer, 9, FC_OK, NULL);
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

START_TEST(nonsense_is_answered_and_nothing_ends_it)
{
    local_bench b;
    packet_peer peer;
    fc_wire_reply reply;
    uint64_t random_state = 88172645463325252ull;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    for (int i = 0; i < 2000; i++) {
        uint8_t bytes[64];
        for (size_t k = 0; k < sizeof bytes; k++) {
            random_state ^= random_state << 13;
            random_state ^= random_state >> 7;
            random_state ^= random_state << 17;
            bytes[k] = (uint8_t)random_state;
        }
        ck_assert(packet_peer_send_bytes(&peer, bytes, 1 + (size_t)i % sizeof bytes));
        ck_assert(packet_peer_receive(&peer, &reply));
        ck_assert_int_eq(reply.status, FC_INVALID_ARGUMENT);
    }
    ck_assert(packet_peer_send_bytes(&peer, "", 0));
    ck_assert(!packet_peer_receive(&peer, &reply));
    packet_peer_close(&peer);
    packet_peer_assert_ping(b.side_path);
    local_bench_close(&b);
}
END_TEST

static int count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    ck_assert_ptr_nonnull(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

START_TEST(descriptors_are_not_taken)
{
    local_bench b;
    packet_peer peer;
    uint8_t bytes[64];
    size_t size_bytes = 0;
    fc_wire_request ping = {.id = 4, .op = FC_OP_PING};
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    ck_assert_int_eq(fc_codec_encode_request(&ping, NULL, bytes, sizeof bytes, &size_bytes), FC_OK);
    ck_assert(packet_peer_send(&peer, &ping));
    packet_peer_expect(&peer, 4, FC_OK, NULL);
    int before = count_descriptors();
    for (int i = 0; i < 100; i++) {
        if (packet_peer_send_descriptors(peer.fd, bytes, size_bytes, null_fd, 253))
            packet_peer_expect(&peer, 4, FC_OK, NULL);
        else
            ck_assert_int_eq(errno, EPERM); /* the system refuses them */
    }
    ck_assert_int_eq(count_descriptors(), before);
    packet_peer_close(&peer);
    close(null_fd);
    local_bench_close(&b);
}
END_TEST

/* Closing it would stop the thread all peers share, for minutes. */
START_TEST(what_takes_long_to_close_is_not_taken)
{
    local_bench b;
    packet_peer peer;
    int reader = -1;
    if (!lingering_can_be_refused())
        return;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    int fd = lingering_open(&reader);
    ck_assert(!packet_peer_send_descriptors(peer.fd, "x", 1, fd, 1));
    ck_assert_int_eq(errno, EPERM);
    packet_peer_assert_ping(b.side_path);
    close(reader);
    close(fd);
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

/* More replies than the peer's socket holds (some 90 of stats), and no more requests than the daemon's does (some 280):
 * what the peer does not take waits, and so does what it goes on asking. */
enum { FLOOD = 250 };

static void flood(packet_peer *peer)
{
    for (uint64_t i = 0; i < FLOOD; i++)
        ck_assert(packet_peer_send_op(peer, i, FC_OP_STATS));
}

START_TEST(a_slow_reader_waits_alone_and_loses_nothing)
{
    bool is_answered[FLOOD] = {false};
    local_bench b;
    packet_peer slow;
    fc_wire_reply reply;
    local_bench_open(&b);
    packet_peer_open(&slow, b.side_path);
    flood(&slow);
    local_bench_await_stat(&b, FC_GAUGE_REPLYING, 1);
    for (int i = 0; i < 10; i++)
        packet_peer_assert_ping(b.side_path);
    ck_assert_uint_lt(local_bench_stat(&b, FC_COUNT_LOCAL_MESSAGES), FLOOD);
    ck_assert(!fc_local_is_flushed(b.local));
    for (int i = 0; i < FLOOD; i++) {
        ck_assert(packet_peer_receive(&slow, &reply));
        ck_assert_uint_lt(reply.id, FLOOD);
        ck_assert(!is_answered[reply.id]);
        is_answered[reply.id] = true;
    }
    local_bench_await_stat(&b, FC_GAUGE_REPLYING, 0);
    ck_assert(fc_local_is_flushed(b.local));
    packet_peer_close(&slow);
    local_bench_close(&b);
}
END_TEST

/* Slots: 16 may wait, 4 share the launch, 64 to spare. More peers than that which never read, all of one user, hold
 * them all, until they are cut: long before one that others do not need the room of. */
START_TEST(those_who_never_read_are_cut_when_others_need_the_room)
{
    enum { PEERS = 120 };
    static packet_peer peers[PEERS];
    packet_peer asker;
    local_bench b;
    local_bench_open(&b);
    fake_engine_hold(&b.service.engine);
    uint64_t begun_ns = fc_clock_now_ns();
    fc_wire_request attend = packet_peer_empty_attend(FLOOD);
    for (int i = 0; i < PEERS; i++) {
        packet_peer_open(&peers[i], b.side_path);
        if (i == 0) {
            ck_assert(packet_peer_send(&peers[i], &attend));
            fake_engine_await_launches(&b.service.engine, 1);
        }
        flood(&peers[i]);
    }
    uint64_t end_ns = fc_clock_now_ns() + 20 * FC_NS_PER_S;
    while (local_bench_stat(&b, FC_COUNT_PIPES_CUT) == 0) {
        packet_peer_assert_ping(b.side_path);
        ck_assert(fc_clock_now_ns() < end_ns);
    }
    ck_assert_uint_lt(fc_clock_now_ns() - begun_ns, FC_UNREAD_AFTER_NS);
    packet_peer_open(&asker, b.side_path);
    /* Those who were cut may read on what has left, and what it says lies in their arenas: they are here until they go,
     * also when what one of them had running comes to its end. */
    fake_engine_release_all(&b.service.engine);
    local_bench_await_stat(&b, FC_GAUGE_RUNNING, 0);
    for (uint64_t i = 0; i < 50; i++) { /* its answer comes a moment later */
        ck_assert(packet_peer_send_op(&asker, i, FC_OP_PING));
        packet_peer_expect(&asker, i, FC_OK, NULL);
    }
    ck_assert_uint_eq(local_bench_stat(&b, FC_GAUGE_LOCAL), PEERS + 1);
    packet_peer_close(&asker);
    for (int i = 0; i < PEERS; i++)
        packet_peer_close(&peers[i]);
    local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
    local_bench_await_stat(&b, FC_GAUGE_REPLYING, 0);
    local_bench_close(&b);
}
END_TEST

START_TEST(many_in_flight_come_back_once_each)
{
    enum { COUNT = 16, ROUNDS = 200 };
    local_bench b;
    packet_peer peer;
    fc_wire_reply reply;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t seen = 0;
        for (uint64_t i = 0; i < COUNT; i++)
            ck_assert(packet_peer_send_op(&peer, i, FC_OP_PING));
        for (int i = 0; i < COUNT; i++) {
            ck_assert(packet_peer_receive(&peer, &reply));
            seen ^= 1u << reply.id;
        }
        ck_assert_uint_eq(seen, (1u << COUNT) - 1);
    }
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

/* Its socket tells of no end: the reply that cannot be sent does. */
START_TEST(who_reads_no_more_is_cut)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    local_bench_await_stat(&b, FC_GAUGE_LOCAL, 1);
    ck_assert_int_eq(shutdown(peer.fd, SHUT_RD), 0);
    ck_assert(packet_peer_send_op(&peer, 1, FC_OP_PING));
    local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
    packet_peer_close(&peer);
    packet_peer_assert_ping(b.side_path);
    local_bench_close(&b);
}
END_TEST

START_TEST(coming_and_going_by_the_thousand)
{
    enum { COUNT = 3000 };
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    for (int i = 0; i < COUNT; i++) {
        packet_peer_open(&peer, b.side_path);
        if (i % 3 != 0)
            packet_peer_send_op(&peer, 1, i % 3 == 1 ? FC_OP_PING : FC_OP_STATS);
        packet_peer_close(&peer);
    }
    packet_peer_assert_ping(b.side_path);
    local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
    ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_LOCAL_OPENED), COUNT + 1);
    local_bench_close(&b);
}
END_TEST

/* The engine holds the first; the limits, cancel and the end of a connection work on the rest. */
START_TEST(queued_work_belongs_to_its_connection)
{
    local_bench b;
    packet_peer one, other;
    local_bench_open(&b);
    fake_engine_hold(&b.service.engine);
    packet_peer_open(&one, b.side_path);
    packet_peer_open(&other, b.side_path);
    fc_wire_request attend = packet_peer_empty_attend(1);
    ck_assert(packet_peer_send(&one, &attend));
    fake_engine_await_launches(&b.service.engine, 1);
    for (attend.id = 2; attend.id < 5; attend.id++)
        ck_assert(packet_peer_send(&one, &attend));
    ck_assert(packet_peer_send(&other, &attend)); /* id 5 */
    local_bench_await_stat(&b, FC_GAUGE_QUEUED, 4);
    fc_wire_request cancel = {.id = 9, .op = FC_OP_CANCEL, .cancel_target = 2};
    ck_assert(packet_peer_send(&other, &cancel)); /* not its own: nothing happens */
    packet_peer_expect(&other, 9, FC_OK, NULL);
    ck_assert(packet_peer_send(&one, &cancel));
    packet_peer_expect(&one, 2, FC_CANCELLED, NULL);
    packet_peer_expect(&one, 9, FC_OK, NULL);
    packet_peer_close(&one);
    local_bench_await_stat(&b, FC_COUNT_DROPPED, 2);
    local_bench_await_stat(&b, FC_GAUGE_QUEUED, 1);
    fake_engine_release_all(&b.service.engine);
    packet_peer_expect(&other, 5, FC_OK, NULL);
    local_bench_await_stat(&b, FC_GAUGE_RUNNING, 0);
    ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_REPLIES_LOST), 0); /* the one that ran had nobody left to lose it */
    packet_peer_close(&other);
    local_bench_close(&b);
}
END_TEST

START_TEST(a_draining_channel_answers_and_takes_no_new_peers)
{
    local_bench b;
    packet_peer peer, late;
    local_bench_open(&b);
    fake_engine_hold(&b.service.engine);
    packet_peer_open(&peer, b.side_path);
    fc_wire_request attend = packet_peer_empty_attend(1);
    ck_assert(packet_peer_send(&peer, &attend));
    fake_engine_await_launches(&b.service.engine, 1);
    attend.id = 2;
    ck_assert(packet_peer_send(&peer, &attend));
    local_bench_await_stat(&b, FC_GAUGE_QUEUED, 1);
    fc_local_refuse_peers(b.local);
    fc_service_drain(b.service.service);
    packet_peer_expect(&peer, 2, FC_DRAINING, NULL);
    attend.id = 3;
    ck_assert(packet_peer_send(&peer, &attend));
    packet_peer_expect(&peer, 3, FC_DRAINING, NULL);
    ck_assert(packet_peer_send_op(&peer, 4, FC_OP_PING));
    packet_peer_expect(&peer, 4, FC_OK, NULL);
    bool is_let_in =
        packet_peer_try_open(&late, b.side_path); /* the I/O thread closes the door when it gets its turn */
    while (is_let_in) {
        ck_assert(packet_peer_send_op(&late, 5, FC_OP_PING)); /* in time: then it is served */
        packet_peer_expect(&late, 5, FC_OK, NULL);
        packet_peer_close(&late);
        is_let_in = packet_peer_try_open(&late, b.side_path);
    }
    fake_engine_release_all(&b.service.engine);
    packet_peer_expect(&peer, 1, FC_OK, NULL);
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

/* Whoever else has been answered: the end is not held up for as long as it may take at most. */
START_TEST(who_does_not_read_does_not_hold_up_the_end)
{
    local_bench b;
    packet_peer deaf;
    local_bench_open(&b);
    packet_peer_open(&deaf, b.side_path);
    flood(&deaf);
    while (fc_local_is_flushed(b.local))
        sched_yield();
    uint64_t begun_ns = fc_clock_now_ns();
    fc_service_drain(b.service.service);
    local_bench_await_stat(&b, FC_GAUGE_REPLYING, 0);
    ck_assert_uint_ge(fc_clock_now_ns() - begun_ns, FC_UNREAD_AFTER_NS / 2); /* one that is slow may still read */
    ck_assert(fc_service_is_idle(b.service.service));
    ck_assert(fc_local_is_flushed(b.local));
    packet_peer_close(&deaf);
    local_bench_close(&b);
}
END_TEST

START_TEST(the_socket_file_is_claimed)
{
    local_bench b;
    fc_local *second;
    fc_reason reason = {""};
    const char *path;
    char other[200], path_of_file[200];
    local_bench_open(&b);
    fc_local_config config = {.service = b.service.service};
    ck_assert_int_eq(fc_local_open(&config, &second, &reason), FC_OK);
    ck_assert_int_eq(fc_local_listen(second, b.path, &path, &reason), FC_BUSY);
    snprintf(other, sizeof other, "%s/file.local", b.directory);
    snprintf(path_of_file, sizeof path_of_file, "%s/file", b.directory);
    close(open(other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    ck_assert_int_eq(fc_local_listen(second, path_of_file, &path, &reason), FC_INVALID_ARGUMENT);
    unlink(other);
    memset(other, 'x', sizeof other);
    other[0] = '/';
    other[104] = '\0'; /* fits, but not with .local behind it */
    ck_assert_int_eq(fc_local_listen(second, other, &path, &reason), FC_INVALID_ARGUMENT);
    fc_local_close(second);
    packet_peer_assert_ping(b.side_path);
    local_bench_close(&b);
}
END_TEST

/* How often the thread of that name has gone to sleep. */
static unsigned long sleeps_of(const char *name)
{
    DIR *folder = opendir("/proc/self/task");
    unsigned long sleeps = ULONG_MAX;
    ck_assert_ptr_nonnull(folder);
    for (const struct dirent *task; (task = readdir(folder)) != NULL;) {
        char path[300], line[128], wanted[32];
        snprintf(wanted, sizeof wanted, "Name:\t%s\n", name);
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = task->d_name[0] != '.' ? fopen(path, "re") : NULL;
        bool is_it = false;
        while (status != NULL && fgets(line, sizeof line, status) != NULL) {
            is_it = is_it || strcmp(line, wanted) == 0;
            if (is_it && strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
                sleeps = strtoul(line + 24, NULL, 10);
        }
        if (status != NULL)
            fclose(status);
    }
    closedir(folder);
    ck_assert_msg(sleeps != ULONG_MAX, "there is a thread of that name");
    return sleeps;
}

START_TEST(an_idle_lane_receives_itself_what_it_runs)
{
    enum { COUNT = 200 };
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    fc_wire_request attend = packet_peer_empty_attend(0);
    ck_assert(packet_peer_send(&peer, &attend));
    packet_peer_expect(&peer, 0, FC_OK, NULL);
    unsigned long before = sleeps_of("local");
    for (attend.id = 1; attend.id <= COUNT; attend.id++) {
        unsigned long lane_before = sleeps_of("lane-0");
        ck_assert(packet_peer_send(&peer, &attend));
        packet_peer_expect(&peer, attend.id, FC_OK, NULL);
        while (sleeps_of("lane-0") == lane_before) /* it is not there again */
            sched_yield();
    }
    ck_assert_uint_lt(sleeps_of("local") - before, COUNT / 2);
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

START_TEST(while_every_lane_runs_the_rest_is_answered)
{
    local_bench b;
    packet_peer peer;
    fc_wire_reply reply;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    for (uint64_t round = 0; round < 50; round++) {
        fc_wire_request attend = packet_peer_empty_attend(7);
        fake_engine_hold(&b.service.engine);
        ck_assert(packet_peer_send(&peer, &attend));
        if (round % 2 == 0) /* else it comes as the lane goes */
            fake_engine_await_launches(&b.service.engine, (uint32_t)round + 1);
        ck_assert(packet_peer_send_op(&peer, 8, FC_OP_PING));
        packet_peer_expect(&peer, 8, FC_OK, NULL);
        ck_assert(packet_peer_send_op(&peer, 9, FC_OP_HELLO));
        ck_assert(packet_peer_receive(&peer, &reply));
        ck_assert_int_eq(reply.body, FC_BODY_HELLO);
        packet_peer_assert_ping(b.side_path);
        fake_engine_await_launches(&b.service.engine, (uint32_t)round + 1);
        fake_engine_release_all(&b.service.engine);
        packet_peer_expect(&peer, 7, FC_OK, NULL);
    }
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

/* The one lane is at the sockets, and this comes past them. */
START_TEST(what_comes_another_way_fetches_the_lane)
{
    local_bench b;
    packet_peer peer;
    local_bench_open(&b);
    packet_peer_open(&peer, b.side_path);
    for (int i = 0; i < SERVICE_BENCH_BOXES; i++) {
        service_bench_attend(&b.service, i, 5);
        service_bench_expect(&b.service, i, FC_OK);
        ck_assert(packet_peer_send_op(&peer, 1, FC_OP_PING));
        packet_peer_expect(&peer, 1, FC_OK, NULL);
    }
    packet_peer_close(&peer);
    local_bench_close(&b);
}
END_TEST

/* A peer leaves while what it sent is received; the channel closes while a lane waits at it, which then still works. */
START_TEST(the_channel_ends_under_a_lane_that_waits)
{
    for (int round = 0; round < 20; round++) {
        local_bench b;
        packet_peer peer;
        local_bench_open(&b);
        fc_wire_request attend = packet_peer_empty_attend(1);
        for (int i = 0; i < 20; i++) {
            packet_peer_open(&peer, b.side_path);
            packet_peer_send(&peer, &attend);
            packet_peer_close(&peer);
        }
        packet_peer_assert_ping(b.side_path);
        local_bench_await_stat(&b, FC_GAUGE_LOCAL, 0);
        local_bench_await_stat(&b, FC_GAUGE_RUNNING, 0);
        local_bench_await_stat(&b, FC_GAUGE_REPLYING, 0);
        fc_local_close(b.local);
        b.local = NULL;
        service_bench_attend(&b.service, 0, 5);
        service_bench_expect(&b.service, 0, FC_OK);
        ck_assert_int_eq(rmdir(b.directory), 0);
        service_bench_close(&b.service);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("local");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_test(core, a_packet_is_a_message);
    tcase_add_test(core, tensor_data_does_not_travel_here);
    tcase_add_test(core, a_long_packet_is_refused_by_name);
    tcase_add_test(core, nonsense_is_answered_and_nothing_ends_it);
    tcase_add_test(core, descriptors_are_not_taken);
    tcase_add_test(core, what_takes_long_to_close_is_not_taken);
    tcase_add_test(core, a_slow_reader_waits_alone_and_loses_nothing);
    tcase_add_test(core, those_who_never_read_are_cut_when_others_need_the_room);
    tcase_add_test(core, who_reads_no_more_is_cut);
    tcase_add_test(core, many_in_flight_come_back_once_each);
    tcase_add_test(core, coming_and_going_by_the_thousand);
    tcase_add_test(core, queued_work_belongs_to_its_connection);
    tcase_add_test(core, a_draining_channel_answers_and_takes_no_new_peers);
    tcase_add_test(core, who_does_not_read_does_not_hold_up_the_end);
    tcase_add_test(core, the_socket_file_is_claimed);
    tcase_add_test(core, an_idle_lane_receives_itself_what_it_runs);
    tcase_add_test(core, while_every_lane_runs_the_rest_is_answered);
    tcase_add_test(core, what_comes_another_way_fetches_the_lane);
    tcase_add_test(core, the_channel_ends_under_a_lane_that_waits);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
