/* Peers that send most of a message and stop, or its length and nothing more: what they hold is bounded, whoever they
 * are, and neither those who send on nor those whose messages are large are hurt.
 */
#include "proto/tls.h"
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/support/certs.h"
#include "tests/support/sp_peer.h"

#include <stdio.h>
#include <stdlib.h>

/* Half-sent messages may hold two of these limits for long (what may wait, and one message), and three for a moment. */
enum { LIMIT_BYTES = 8 << 20, LARGE_BYTES = LIMIT_BYTES - (512 << 10), HOLDERS = 12, MAY_STAY = 2, HEAD_BYTES = 12 };
enum { ROAD_IPC, ROAD_TCP, ROAD_TLS, ROADS };

static fc_e2e_daemon daemon_under_test;
static fc_certs certs;
static fc_tls *tls;
static char urls[ROADS][FC_E2E_PATH_BYTES];

static void set_up(void)
{
    fc_reason why;
    fc_e2e_place(&daemon_under_test);
    fc_certs_open(&certs, daemon_under_test.dir, "ours");
    fc_cert server = fc_certs_issue(&certs, "server", "server", 30);
    fc_cert client = fc_certs_issue(&certs, "client", "client", 30);
    snprintf(urls[ROAD_IPC], sizeof *urls, "%s", daemon_under_test.ipc_url);
    snprintf(urls[ROAD_TCP], sizeof *urls, "%s", daemon_under_test.tcp_url);
    snprintf(urls[ROAD_TLS], sizeof *urls, "tls+tcp://127.0.0.1:%u", (unsigned)fc_e2e_free_port());
    const char *args[] = {"--listen",
                          urls[ROAD_TLS],
                          "--tls-cert",
                          server.cert_path,
                          "--tls-key",
                          server.key_path,
                          "--tls-client-ca",
                          certs.ca_path,
                          "--queue-bytes",
                          "8M",
                          "--message-bytes",
                          "8M",
                          NULL};
    fc_e2e_launch(&daemon_under_test, args);
    fc_e2e_wait_notify(&daemon_under_test, "READY=1");
    fc_tls_files files = {.cert = client.cert_path, .key = client.key_path, .ca = certs.ca_path};
    ck_assert_msg(fc_tls_client_create(&files, &tls, &why) == FC_OK, "%s", why.text);
}

static void tear_down(void)
{
    fc_tls_destroy(tls);
    fc_e2e_stop(&daemon_under_test);
    fc_certs_close(&certs);
}

/* A right message, and a large one: nobody reads the key that makes it so. */
static fc_bytes pack_large(void)
{
    fc_bytes message = {0};
    uint8_t *padding = calloc(1, LARGE_BYTES);
    ck_assert_ptr_nonnull(padding);
    fc_pack_head(&message, 7, "ping", 1);
    fc_pack_text(&message, "padding");
    fc_pack_bin(&message, padding, LARGE_BYTES);
    free(padding);
    return message;
}

static void open_peer(sp_peer *peer, int road)
{
    sp_peer_connect(peer, urls[road]);
    ck_assert(road != ROAD_TLS || sp_peer_start_tls(peer, tls));
    ck_assert(sp_peer_greet(peer));
}

static void begin(sp_peer *peer, const fc_bytes *message, size_t sent_bytes)
{
    uint8_t head[1 + HEAD_BYTES] = {1, [9] = 0x80, [12] = 1};
    for (int i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)((uint64_t)(message->size + 4) >> (8 * (7 - i)));
    sp_peer_send_raw(peer, peer->is_ipc ? head : head + 1, peer->is_ipc ? sizeof head : HEAD_BYTES);
    sp_peer_send_raw(peer, message->data, sent_bytes);
}

static const struct {
    int road;
    size_t sent_bytes;
} ROWS[] = {{ROAD_IPC, LARGE_BYTES - 1000},
            {ROAD_TCP, LARGE_BYTES - 1000},
            {ROAD_TLS, LARGE_BYTES - 1000},
            {ROAD_IPC, 0},
            {ROAD_TCP, 0},
            {ROAD_TLS, 0}};

START_TEST(what_half_sent_messages_hold_is_bounded)
{
    const char *url = urls[ROAD_IPC];
    sp_peer holders[HOLDERS];
    fc_bytes message = pack_large();
    flashcore_client *watcher = fc_job_client(&url, 1);
    for (int i = 0; i < HOLDERS; i++) {
        open_peer(&holders[i], ROWS[_i].road);
        begin(&holders[i], &message, ROWS[_i].sent_bytes);
    }
    fc_foreign honest = fc_foreign_open(urls[ROWS[_i].road == ROAD_TLS ? ROAD_TCP : ROWS[_i].road]);
    for (int i = 0; i < 4; i++)
        fc_foreign_expect(&honest, "a large one among the half-sent", &message, 7, "ok", NULL);
    fc_job_wait_counter(watcher, "pipes_cut", HOLDERS - MAY_STAY);
    fc_foreign_expect(&honest, "another", &message, 7, "ok", NULL);
    int answered = 0;
    for (int i = 0; i < HOLDERS; i++) {
        uint32_t number;
        sp_peer_send_raw(&holders[i], message.data + ROWS[_i].sent_bytes, message.size - ROWS[_i].sent_bytes);
        answered += sp_peer_receive(&holders[i], &number);
        sp_peer_close(&holders[i]);
    }
    ck_assert_int_eq(answered, HOLDERS - (int)fc_job_counter(watcher, "pipes_cut"));
    ck_assert_int_ge(answered, 1);
    fc_e2e_wait_log(&daemon_under_test, "sends no whole message", NULL);
    fc_foreign_close(&honest);
    flashcore_client_destroy(watcher);
    fc_bytes_fini(&message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("half_sent");
    TCase *tcase = fc_e2e_case(suite, "half_sent");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, what_half_sent_messages_hold_is_bounded, 0, (int)(sizeof ROWS / sizeof *ROWS));
    return fc_e2e_main(suite);
}
