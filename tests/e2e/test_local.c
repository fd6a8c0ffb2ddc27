/* The shipped daemon's local channel: found through hello, hostile packets, peers killed at any moment, the daemon
 * killed and started again, the end.
 */
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/e2e/side.h"
#include "tests/support/packet_peer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static fc_e2e_daemon daemon_under_test;

static void set_up(void)
{
    fc_e2e_start(&daemon_under_test, NULL);
}

static void tear_down(void)
{
    fc_e2e_stop(&daemon_under_test);
}

static bool hello_names(const char *url, const char *path)
{
    fc_bytes request = {0}, reply = {0};
    fc_foreign foreign = fc_foreign_open(url);
    fc_pack_head(&request, 1, "hello", 0);
    fc_foreign_call(&foreign, &request, &reply);
    fc_value local = fc_reply_get(&reply, "local");
    bool matches = path != NULL ? fc_value_is_text(local, path) : local.begin == NULL;
    fc_foreign_close(&foreign);
    fc_bytes_fini(&request);
    fc_bytes_fini(&reply);
    return matches;
}

START_TEST(hello_names_it_where_it_can_be_reached)
{
    struct stat stream, packets;
    ck_assert(hello_names(daemon_under_test.ipc_url, daemon_under_test.side_path));
    ck_assert(hello_names(daemon_under_test.tcp_url, NULL));
    ck_assert_int_eq(stat(daemon_under_test.ipc_path, &stream), 0);
    ck_assert_int_eq(stat(daemon_under_test.side_path, &packets), 0);
    ck_assert_uint_eq(stream.st_mode, packets.st_mode);
    packet_peer_assert_ping(daemon_under_test.side_path);
}
END_TEST

static double counter(const char *name)
{
    return fc_side_counter(&daemon_under_test, name);
}

/* The peer that asks is one itself. */
static void await_alone(void)
{
    fc_side_await(&daemon_under_test, "local", 0, 1);
}

#define DESCRIPTORS_MAX 1024

/* What the daemon has open, by number; count: without the files that a GPU's driver opens in its own time. */
typedef struct descriptors {
    int count;
    char names[DESCRIPTORS_MAX][32];
} descriptors;

static void look_at_descriptors(descriptors *out)
{
    memset(out, 0, sizeof *out);
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)daemon_under_test.pid, fd);
        ssize_t size = readlink(path, out->names[fd], sizeof out->names[fd] - 1);
        if (size > 0 && strncmp(out->names[fd], "/dev/nvidia", 11) != 0)
            out->count++;
    }
}

/* Those of `now` that were not there before, for a failure's text. */
static const char *what_is_new(const descriptors *before, const descriptors *now)
{
    static char text[1024];
    size_t used = 0;
    for (int fd = 0; fd < DESCRIPTORS_MAX && used < sizeof text - 64; fd++)
        if (now->names[fd][0] != '\0' && strcmp(before->names[fd], now->names[fd]) != 0)
            used += (size_t)snprintf(text + used, sizeof text - used, " %d:%s", fd, now->names[fd]);
    return text;
}

/* Asks for all it can get and reads now and then; to be killed. */
static void misbehave(unsigned seed)
{
    packet_peer peer;
    uint8_t bytes[64];
    size_t size_bytes = 0;
    fc_wire_request ping = {.id = 3, .op = FC_OP_PING};
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    packet_peer_open(&peer, daemon_under_test.side_path);
    fc_codec_encode_request(&ping, NULL, bytes, sizeof bytes, &size_bytes);
    for (unsigned i = seed;; i++) {
        if (i % 7 == 0 && packet_peer_send_descriptors(peer.fd, bytes, size_bytes, null_fd, 100))
            ;
        else if (i % 5 == 0)
            packet_peer_send_bytes(&peer, bytes, 1 + i % size_bytes);
        else
            packet_peer_send_op(&peer, i, i % 2 == 0 ? FC_OP_STATS : FC_OP_PING);
        fc_wire_reply reply;
        if (seed % 2 == 0)
            packet_peer_receive(&peer, &reply);
    }
}

START_TEST(peers_killed_at_any_moment_leave_nothing)
{
    enum { ROUNDS = 40, PEERS = 4 };
    static descriptors before, after;
    fc_job_expect_service(daemon_under_test.ipc_url); /* what a first launch loads is loaded */
    packet_peer_assert_ping(daemon_under_test.side_path);
    await_alone();
    look_at_descriptors(&before);
    for (unsigned round = 0; round < ROUNDS; round++) {
        pid_t pids[PEERS];
        fc_side_start_victims(misbehave, round * PEERS, pids, PEERS);
        double messages = counter("local_messages");
        while (counter("local_messages") < messages + 20 + 10 * (round % 4))
            continue;
        fc_side_kill_victims(pids, PEERS);
    }
    await_alone();
    look_at_descriptors(&after);
    ck_assert_msg(after.count <= before.count + 1, "%d descriptors, then %d:%s", before.count, after.count,
                  what_is_new(&before, &after));
    ck_assert(counter("replying") == 0);
    fc_job_expect_service(daemon_under_test.ipc_url);
}
END_TEST

/* The library connects to it in its own time. */
START_TEST(the_library_takes_it_by_itself)
{
    const char *url = daemon_under_test.ipc_url;
    flashcore_client *client = fc_job_client(&url, 1);
    double before = counter("local_messages"), asked = 1;
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    for (; counter("local_messages") <= before + asked; asked++) {
        ck_assert_int_eq(flashcore_ping(client, 0, NULL), FLASHCORE_OK);
        ck_assert(fc_e2e_now_us() < end_us);
    }
    flashcore_client_destroy(client);
    await_alone();
}
END_TEST

START_TEST(many_connections_at_once)
{
    enum { COUNT = 300 };
    static packet_peer peers[COUNT];
    for (int i = 0; i < COUNT; i++)
        packet_peer_open(&peers[i], daemon_under_test.side_path);
    for (int i = 0; i < COUNT; i++)
        ck_assert(packet_peer_send_op(&peers[i], (uint64_t)i, FC_OP_PING));
    for (int i = 0; i < COUNT; i++)
        packet_peer_expect(&peers[i], (uint64_t)i, FC_OK, NULL);
    for (int i = 0; i < COUNT; i++)
        packet_peer_close(&peers[i]);
    await_alone();
}
END_TEST

START_TEST(coming_and_going_by_the_thousand)
{
    for (int i = 0; i < 5000; i++) {
        packet_peer peer;
        packet_peer_open(&peer, daemon_under_test.side_path);
        if (i % 2 == 0)
            packet_peer_send_op(&peer, 1, FC_OP_PING);
        packet_peer_close(&peer);
    }
    await_alone();
}
END_TEST

START_TEST(a_killed_daemons_socket_is_taken_over)
{
    packet_peer peer;
    fc_wire_reply reply;
    fc_e2e_start(&daemon_under_test, NULL);
    packet_peer_open(&peer, daemon_under_test.side_path);
    fc_e2e_kill(&daemon_under_test);
    ck_assert(!packet_peer_receive(&peer, &reply));
    packet_peer_close(&peer);
    ck_assert_int_eq(access(daemon_under_test.side_path, F_OK), 0);
    ck_assert(!packet_peer_try_open(&peer, daemon_under_test.side_path));
    fc_e2e_restart(&daemon_under_test, NULL);
    packet_peer_assert_ping(daemon_under_test.side_path);
    fc_e2e_signal(&daemon_under_test, SIGTERM);
    ck_assert_int_eq(fc_e2e_wait_exit(&daemon_under_test, FC_E2E_STOP_MS), 0);
    ck_assert_int_ne(access(daemon_under_test.side_path, F_OK), 0);
    fc_e2e_forget(&daemon_under_test);
}
END_TEST

/* Something else lies where the side socket would: the daemon serves without it. */
START_TEST(without_it_the_daemon_serves_all_the_same)
{
    fc_e2e_place(&daemon_under_test);
    fc_e2e_write_file(daemon_under_test.side_path, "", 0);
    fc_e2e_launch(&daemon_under_test, NULL);
    fc_e2e_wait_notify(&daemon_under_test, "READY=1");
    fc_e2e_wait_log(&daemon_under_test, "local_unavailable", NULL);
    ck_assert(hello_names(daemon_under_test.ipc_url, NULL));
    fc_job_expect_service(daemon_under_test.ipc_url);
    unlink(daemon_under_test.side_path);
    fc_e2e_stop(&daemon_under_test);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("local");
    TCase *serving = fc_e2e_case(suite, "serving");
    tcase_add_checked_fixture(serving, set_up, tear_down);
    tcase_add_test(serving, hello_names_it_where_it_can_be_reached);
    tcase_add_test(serving, peers_killed_at_any_moment_leave_nothing);
    tcase_add_test(serving, the_library_takes_it_by_itself);
    tcase_add_test(serving, many_connections_at_once);
    tcase_add_test(serving, coming_and_going_by_the_thousand);
    TCase *life = fc_e2e_case(suite, "life");
    tcase_add_test(life, a_killed_daemons_socket_is_taken_over);
    tcase_add_test(life, without_it_the_daemon_serves_all_the_same);
    return fc_e2e_main(suite);
}
