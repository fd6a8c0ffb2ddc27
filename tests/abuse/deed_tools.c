/* See deed.h. */
#include "tests/abuse/deed.h"

#include "tests/e2e/scrape.h"
#include "tests/support/packet_peer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_S 60

bool fc_abuser_is_stream(const fc_abuser *abuser)
{
    return abuser->road == FC_ROAD_IPC || abuser->road == FC_ROAD_TCP || abuser->road == FC_ROAD_TLS;
}

uint32_t fc_abuser_random(fc_abuser *abuser)
{
    abuser->state = abuser->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(abuser->state >> 32);
}

void fc_abuser_open(fc_abuser *out_abuser, const fc_site *site, fc_road road, size_t bytes, uint32_t number)
{
    fc_reason why = {""};
    fc_tls_files files = {.cert = site->client.cert_path, .key = site->client.key_path, .ca = site->certs.ca_path};
    memset(out_abuser, 0, sizeof *out_abuser);
    *out_abuser = (fc_abuser){.site = site, .road = road, .bytes = bytes, .state = number};
    for (int i = 0; i < FC_ABUSER_KEPT_MAX; i++)
        out_abuser->kept[i].fd = -1;
    ck_assert_msg(fc_tls_client_create(&files, &out_abuser->tls, &why) == FC_OK, "%s", why.text);
}

void fc_abuser_let_go(fc_abuser *abuser)
{
    for (int i = 0; i < FC_ABUSER_KEPT_MAX; i++)
        if (abuser->kept[i].fd >= 0)
            sp_peer_close(&abuser->kept[i]);
}

void fc_abuser_close(fc_abuser *abuser)
{
    fc_abuser_let_go(abuser);
    fc_bytes_fini(&abuser->large);
    fc_tls_destroy(abuser->tls);
}

static bool dial(fc_abuser *abuser, sp_peer *out_peer)
{
    const char *address = abuser->site->address[abuser->road];
    struct timeval patience = {.tv_sec = fc_e2e_limit_ms(PATIENCE_S)};
    packet_peer packet;
    *out_peer = (sp_peer){.fd = -1};
    if (fc_abuser_is_stream(abuser)) {
        sp_peer_try_connect(out_peer, address);
    } else if (abuser->road == FC_ROAD_HTTP) {
        out_peer->fd = fc_scrape_dial(address);
    } else if (packet_peer_try_open(&packet, address)) {
        out_peer->fd = packet.fd;
    }
    if (out_peer->fd >= 0)
        setsockopt(out_peer->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return out_peer->fd >= 0;
}

bool fc_abuser_reach(fc_abuser *abuser, fc_reach reach, sp_peer *out_peer)
{
    if (!dial(abuser, out_peer))
        return false;
    bool is_there = reach == FC_REACH_SOCKET || abuser->road != FC_ROAD_TLS || sp_peer_start_tls(out_peer, abuser->tls);
    if (is_there && reach == FC_REACH_GREETED && fc_abuser_is_stream(abuser))
        is_there = sp_peer_greet(out_peer);
    if (!is_there)
        sp_peer_close(out_peer);
    return is_there;
}

void fc_abuser_ask(fc_abuser *abuser, sp_peer *peer, uint32_t number)
{
    static const char GET[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    uint8_t bytes[256];
    size_t size_bytes = 0;
    fc_wire_request request = {.id = number, .op = FC_OP_PING};
    ck_assert_int_eq(fc_codec_encode_request(&request, NULL, bytes, sizeof bytes, &size_bytes), FC_OK);
    if (fc_abuser_is_stream(abuser))
        sp_peer_send(peer, number, bytes, size_bytes);
    else if (abuser->road == FC_ROAD_HTTP)
        sp_peer_send_raw(peer, GET, sizeof GET - 1);
    else
        sp_peer_send_raw(peer, bytes, size_bytes);
}

void fc_abuser_ask_large(fc_abuser *abuser, sp_peer *peer, size_t sent_bytes)
{
    if (abuser->large.size == 0)
        fc_pack_large_attend(&abuser->large, 1, abuser->bytes);
    if (sent_bytes >= abuser->large.size) {
        sp_peer_send(peer, 1, abuser->large.data, abuser->large.size);
        return;
    }
    uint8_t head[13] = {1};
    uint64_t length = abuser->large.size + 4;
    for (int i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)(length >> (8 * (7 - i)));
    head[9] = 0x80;
    sp_peer_send_raw(peer, head + (peer->is_ipc ? 0 : 1), peer->is_ipc ? 13 : 12);
    sp_peer_send_raw(peer, abuser->large.data, sent_bytes);
}

size_t fc_abuser_read(sp_peer *peer, size_t size_bytes)
{
    static uint8_t sink[1 << 16];
    size_t done_bytes = 0;
    while (done_bytes < size_bytes) {
        size_t left = size_bytes - done_bytes;
        size_t wanted = left < sizeof sink ? left : sizeof sink;
        errno = 0;
        ssize_t got = peer->tls != NULL ? fc_tls_read(peer->tls, sink, wanted) : recv(peer->fd, sink, wanted, 0);
        ck_assert_msg(got >= 0 || errno != EAGAIN, "neither a byte nor the end came in %d s", PATIENCE_S);
        if (got <= 0)
            break;
        done_bytes += (size_t)got;
    }
    return done_bytes;
}

void fc_abuser_part(sp_peer *peer, fc_parting how)
{
    struct linger at_once = {.l_onoff = 1};
    if (how == FC_PARTING_RESET)
        setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    sp_peer_close(peer);
}

bool fc_abuser_die(fc_abuser *abuser, uint32_t i, bool (*do_until_death)(fc_abuser *abuser, uint32_t i))
{
    int status = 0;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (do_until_death(abuser, i))
            kill(getpid(), SIGKILL);
        _exit(EXIT_FAILURE);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

void fc_abuser_keep(fc_abuser *abuser, uint32_t i, uint32_t count, const sp_peer *peer)
{
    sp_peer *place = &abuser->kept[i % count];
    if (place->fd >= 0)
        sp_peer_close(place);
    *place = *peer;
}
