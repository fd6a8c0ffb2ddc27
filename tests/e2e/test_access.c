/* Who gets in: the real daemon's options for its sockets and for how much one user may have, over ipc and tcp.
 */
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/support/sp_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A ping on a connection of its own. */
static bool is_served(const char *url)
{
    sp_peer peer;
    uint32_t number = 0;
    fc_wire_request ping = {.id = 1, .op = FC_OP_PING};
    sp_peer_connect(&peer, url);
    bool is_let_in = sp_peer_greet(&peer);
    if (is_let_in) {
        sp_peer_request(&peer, 1, &ping);
        is_let_in = sp_peer_receive(&peer, &number);
    }
    sp_peer_close(&peer);
    return is_let_in;
}

static const char *number_text(char *text, size_t text_bytes, unsigned number)
{
    snprintf(text, text_bytes, "%u", number);
    return text;
}

START_TEST(only_users_named_get_in)
{
    char other[16], mine[16];
    fc_e2e_daemon daemon;
    number_text(other, sizeof other, geteuid() + 77);
    number_text(mine, sizeof mine, geteuid());
    fc_e2e_start(&daemon, (const char *const[]){"--allow-uid", other, NULL});
    ck_assert(!is_served(daemon.ipc_url));
    ck_assert(is_served(daemon.tcp_url)); /* which knows no users */
    size_t offset = 0;
    fc_e2e_wait_log(&daemon, "event=peer_refused", &offset);
    fc_e2e_stop(&daemon);
    fc_e2e_start(&daemon, (const char *const[]){"--allow-uid", other, "--allow-gid", mine, NULL});
    ck_assert(geteuid() != getegid() || is_served(daemon.ipc_url));
    fc_e2e_stop(&daemon);
    fc_e2e_start(&daemon, (const char *const[]){"--allow-uid", mine, NULL});
    fc_job_expect_service(daemon.ipc_url);
    fc_e2e_stop(&daemon);
}
END_TEST

/* _i 0: ipc, 1: tcp. */
START_TEST(a_user_or_host_has_so_many_connections)
{
    enum { COUNT = 3 };
    sp_peer peers[COUNT];
    fc_e2e_daemon daemon;
    uint32_t number = 0;
    fc_wire_reply reply;
    fc_wire_request ping = {.id = 1, .op = FC_OP_PING};
    fc_e2e_start(&daemon, (const char *const[]){"--connections-per-uid", "3", NULL});
    const char *url = _i == 0 ? daemon.ipc_url : daemon.tcp_url;
    const char *other_url = _i == 0 ? daemon.tcp_url : daemon.ipc_url;
    for (int i = 0; i < COUNT; i++) {
        sp_peer_open(&peers[i], url);
        sp_peer_request(&peers[i], 1, &ping);
        sp_peer_await(&peers[i], &number, &reply);
    }
    ck_assert(!is_served(url));
    ck_assert(is_served(other_url));
    sp_peer_close(&peers[0]);
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    while (!is_served(url)) /* as soon as the daemon has seen the end of one */
        ck_assert(fc_e2e_now_us() < end_us);
    for (int i = 1; i < COUNT; i++)
        sp_peer_close(&peers[i]);
    fc_e2e_stop(&daemon);
}
END_TEST

START_TEST(too_fast_is_busy_until_it_is_time)
{
    enum { COUNT = 40 };
    fc_e2e_daemon daemon;
    sp_peer peer;
    uint32_t number = 0;
    fc_wire_reply reply;
    int busy = 0;
    fc_e2e_start(&daemon, (const char *const[]){"--requests-per-second", "10", NULL});
    sp_peer_open(&peer, daemon.ipc_url);
    uint64_t start_us = fc_e2e_now_us();
    for (uint64_t i = 1; i <= COUNT; i++) {
        fc_wire_request ping = {.id = i, .op = FC_OP_PING};
        sp_peer_request(&peer, (uint32_t)i, &ping);
        sp_peer_await(&peer, &number, &reply);
        ck_assert(reply.status == FC_OK || (reply.status == FC_BUSY && reply.retry_after_us > 0));
        busy += reply.status == FC_BUSY;
    }
    uint64_t seconds = (fc_e2e_now_us() - start_us) / 1000000;
    ck_assert_uint_ge((uint64_t)busy + 10 * (seconds + 2), COUNT);
    sp_peer_close(&peer);
    fc_job_expect_service(daemon.ipc_url); /* the client library waits as it is told */
    fc_e2e_stop(&daemon);
}
END_TEST

START_TEST(sockets_belong_to_whom_they_should)
{
    struct stat info;
    fc_e2e_daemon daemon;
    if (geteuid() != 0)
        return; /* giving away takes rights */
    fc_e2e_start(&daemon, (const char *const[]){"--socket-owner", "4242", "--socket-group", "4343", NULL});
    const char *const paths[] = {daemon.ipc_path, daemon.side_path};
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(stat(paths[i], &info), 0);
        ck_assert_uint_eq(info.st_uid, 4242);
        ck_assert_uint_eq(info.st_gid, 4343);
        ck_assert_uint_eq(info.st_mode & 0777, 0660);
    }
    fc_e2e_stop(&daemon);
}
END_TEST

START_TEST(names_nobody_has_are_usage_errors)
{
    static const struct {
        const char *flag, *value, *error;
    } rows[] = {
        {"--allow-uid", "nobody-of-this-name", "allow-uid: no such user: \"nobody-of-this-name\""},
        {"--allow-gid", "1,,2", "allow-gid: expected groups by name or number"},
        {"--socket-group", "no-such-group", "no such group"},
        {"--connections-per-uid", "-1", "connections-per-uid"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_e2e_run_result result;
        fc_e2e_run("flashcored", (const char *const[]){"--check-config", rows[i].flag, rows[i].value, NULL}, &result);
        ck_assert_int_eq(result.exit_code, 2);
        ck_assert_msg(strstr(result.err, rows[i].error) != NULL, "%s: %s", rows[i].flag, result.err);
        fc_e2e_run_free(&result);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("access");
    TCase *core = fc_e2e_case(suite, "core");
    tcase_add_test(core, only_users_named_get_in);
    tcase_add_loop_test(core, a_user_or_host_has_so_many_connections, 0, 2);
    tcase_add_test(core, too_fast_is_busy_until_it_is_time);
    tcase_add_test(core, sockets_belong_to_whom_they_should);
    tcase_add_test(core, names_nobody_has_are_usage_errors);
    return fc_e2e_main(suite);
}
