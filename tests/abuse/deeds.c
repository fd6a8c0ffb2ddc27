/* See deed.h: the deeds, and their table. */
#include "tests/abuse/deed.h"

#include "tests/support/packet_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIT(road) (1u << FC_ROAD_##road)
#define STREAMS (BIT(IPC) | BIT(TCP) | BIT(TLS))
#define PACKETS (BIT(LOCAL) | BIT(ADMIN))
#define EVERYWHERE (STREAMS | PACKETS | BIT(HTTP))

static fc_parting parting_of(uint32_t i)
{
    return i % 2 == 0 ? FC_PARTING_CLOSE : FC_PARTING_RESET;
}

/* How many connections an abuser keeps at once: together with the others' well below what a road can hold. */
static uint32_t kept_count(const fc_abuser *abuser)
{
    return abuser->road == FC_ROAD_HTTP || abuser->road == FC_ROAD_ADMIN ? 3 : 16;
}

/* --- coming and going --------------------------------------------------------------------------------------------- */

static bool connect_and_close(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    static const uint8_t greeting[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    if (!fc_abuser_reach(abuser, i % 4 == 3 ? FC_REACH_TLS : FC_REACH_SOCKET, &peer))
        return false;
    if (i % 3 == 1)
        sp_peer_send_raw(&peer, greeting, sizeof greeting);
    fc_abuser_part(&peer, parting_of(i));
    return true;
}

static bool ask_and_leave(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    if (!fc_abuser_reach(abuser, FC_REACH_GREETED, &peer))
        return false;
    for (uint32_t k = 1; k <= 4; k++)
        fc_abuser_ask(abuser, &peer, k);
    fc_abuser_part(&peer, parting_of(i));
    return true;
}

/* Far more than are let in, half of them without a word. */
static bool idle_connections(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    if (fc_abuser_reach(abuser, i % 2 == 0 ? FC_REACH_GREETED : FC_REACH_SOCKET, &peer))
        fc_abuser_keep(abuser, i, FC_ABUSER_KEPT_MAX, &peer);
    return true;
}

/* --- what is no protocol ------------------------------------------------------------------------------------------ */

static bool garbage_greeting(fc_abuser *abuser, uint32_t i)
{
    static const uint8_t beginning[5] = {0, 'S', 'P', 0, 0};
    static const uint8_t right[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    static const uint8_t wrong_number[8] = {0, 'S', 'P', 0, 0x12, 0x34, 0, 0};
    uint8_t noise[64];
    sp_peer peer;
    for (size_t k = 0; k < sizeof noise; k++)
        noise[k] = (uint8_t)(fc_abuser_random(abuser) | 0x80u);
    if (!fc_abuser_reach(abuser, i % 5 == 4 ? FC_REACH_SOCKET : FC_REACH_TLS, &peer))
        return false;
    switch (i % 5) {
    case 0:
    case 4: /* in place of TLS, too */
        sp_peer_send_raw(&peer, noise, sizeof noise);
        fc_abuser_read(&peer, SIZE_MAX);
        break;
    case 1:
        sp_peer_send_raw(&peer, beginning, sizeof beginning);
        break;
    case 2: /* noise has a length in it that nobody may have, and over ipc no frame's type */
        sp_peer_send_raw(&peer, right, sizeof right);
        sp_peer_send_raw(&peer, noise, sizeof noise);
        fc_abuser_read(&peer, SIZE_MAX);
        break;
    default:
        sp_peer_send_raw(&peer, wrong_number, sizeof wrong_number);
        fc_abuser_read(&peer, SIZE_MAX);
    }
    fc_abuser_part(&peer, parting_of(i / 5));
    return true;
}

/* A packet is refused, its connection stays; of HTTP the connection goes. */
static bool garbage_message(fc_abuser *abuser, uint32_t i)
{
    uint8_t noise[512];
    sp_peer peer;
    if (!fc_abuser_reach(abuser, FC_REACH_SOCKET, &peer))
        return false;
    for (size_t k = 0; k < sizeof noise; k++)
        noise[k] = (uint8_t)fc_abuser_random(abuser);
    sp_peer_send_raw(&peer, noise, 1 + i % sizeof noise);
    if (abuser->road == FC_ROAD_HTTP)
        sp_peer_send_raw(&peer, "\r\n\r\n", 4);
    if (i % 2 == 0)
        fc_abuser_read(&peer, 1);
    fc_abuser_part(&peer, parting_of(i / 2));
    return true;
}

static bool oversize(fc_abuser *abuser, uint32_t i)
{
    static const uint64_t lengths[] = {FC_SITE_MESSAGE_BYTES + 1024u, 1ull << 40, 1ull << 63, UINT64_MAX - 8,
                                       UINT64_MAX};
    uint8_t frame[9] = {1};
    sp_peer peer;
    if (!fc_abuser_reach(abuser, FC_REACH_GREETED, &peer))
        return false;
    for (int k = 0; k < 8; k++)
        frame[1 + k] = (uint8_t)(lengths[i % 5] >> (8 * (7 - k)));
    sp_peer_send_raw(&peer, frame + (peer.is_ipc ? 0 : 1), peer.is_ipc ? 9 : 8);
    if (i % 4 != 0) /* the length alone is enough; more is worse */
        fc_abuser_ask_large(abuser, &peer, 4096);
    ck_assert_uint_eq(fc_abuser_read(&peer, 1), 0);
    fc_abuser_part(&peer, parting_of(i));
    return true;
}

static bool oversize_packet(fc_abuser *abuser, uint32_t i)
{
    static uint8_t bytes[128 * 1024];
    sp_peer peer;
    size_t least = abuser->road == FC_ROAD_ADMIN ? 4097 : FC_PACKET_BYTES + 1;
    if (!fc_abuser_reach(abuser, FC_REACH_SOCKET, &peer))
        return false;
    sp_peer_send_raw(&peer, bytes, least + fc_abuser_random(abuser) % (sizeof bytes - least));
    bool is_answered = fc_abuser_read(&peer, 1) == 1;
    fc_abuser_part(&peer, parting_of(i));
    return is_answered;
}

/* The same request again and again, as REQ implementations do by themselves; all are answered. */
static bool resends(fc_abuser *abuser, uint32_t i)
{
    enum { TIMES = 16 };
    sp_peer peer;
    uint32_t number = 0;
    if (!fc_abuser_reach(abuser, FC_REACH_GREETED, &peer))
        return false;
    for (int k = 0; k < TIMES; k++)
        fc_abuser_ask(abuser, &peer, 7);
    for (int k = 0; i % 2 == 0 && k < TIMES; k++) {
        bool is_answered = fc_abuser_is_stream(abuser) ? sp_peer_receive(&peer, &number) && number == 7
                                                       : fc_abuser_read(&peer, SIZE_MAX >> 1) > 0;
        if (!is_answered) {
            sp_peer_close(&peer);
            return false;
        }
    }
    fc_abuser_part(&peer, parting_of(i / 2));
    return true;
}

/* --- dying in the middle ------------------------------------------------------------------------------------------ */

/* Asks for a large reply and has read a part of it. */
static bool take_a_part(fc_abuser *abuser, uint32_t i, sp_peer *out_peer)
{
    if (!fc_abuser_reach(abuser, FC_REACH_GREETED, out_peer))
        return false;
    fc_abuser_ask_large(abuser, out_peer, FC_ALL_OF_IT);
    size_t part = abuser->bytes / 16 * (i % 16) + 1;
    if (fc_abuser_read(out_peer, part) == part)
        return true;
    sp_peer_close(out_peer);
    return false;
}

static bool die_in_a_reply(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    return take_a_part(abuser, i, &peer);
}

static bool killed_mid_reply(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    if (abuser->large.size == 0)
        fc_pack_large_attend(&abuser->large, 1, abuser->bytes);
    if (i % 3 == 0)
        return fc_abuser_die(abuser, i / 3, die_in_a_reply);
    if (!take_a_part(abuser, i / 3, &peer))
        return false;
    fc_abuser_part(&peer, parting_of(i));
    return true;
}

static bool send_a_part(fc_abuser *abuser, uint32_t i, sp_peer *out_peer)
{
    if (!fc_abuser_reach(abuser, FC_REACH_GREETED, out_peer))
        return false;
    fc_abuser_ask_large(abuser, out_peer, abuser->bytes / 16 * (i % 16) + 1);
    return true;
}

static bool die_in_a_request(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    return send_a_part(abuser, i, &peer);
}

static bool killed_mid_request(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    if (abuser->large.size == 0)
        fc_pack_large_attend(&abuser->large, 1, abuser->bytes);
    if (i % 3 == 0)
        return fc_abuser_die(abuser, i / 3, die_in_a_request);
    if (!send_a_part(abuser, i / 3, &peer))
        return false;
    fc_abuser_part(&peer, parting_of(i));
    return true;
}

static bool die_with_questions(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    if (!fc_abuser_reach(abuser, FC_REACH_GREETED, &peer))
        return false;
    for (uint32_t k = 1; k <= 1 + i % 8; k++)
        fc_abuser_ask(abuser, &peer, k);
    return true;
}

static bool killed_asking(fc_abuser *abuser, uint32_t i)
{
    return fc_abuser_die(abuser, i, die_with_questions);
}

/* --- staying ------------------------------------------------------------------------------------------------------ */

/* Asks for more than its socket holds and reads a byte each time it is thought of; every other one none. */
static bool slow_reader(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    uint32_t count = kept_count(abuser);
    if (!fc_abuser_reach(abuser, FC_REACH_GREETED, &peer))
        return false;
    if (fc_abuser_is_stream(abuser))
        fc_abuser_ask_large(abuser, &peer, FC_ALL_OF_IT);
    for (uint32_t k = 1; k <= 4; k++)
        fc_abuser_ask(abuser, &peer, k);
    fc_abuser_keep(abuser, i, count, &peer);
    for (uint32_t k = 0; k < count; k += 2) {
        uint8_t byte;
        sp_peer *kept = &abuser->kept[k];
        if (kept->fd >= 0 && kept->tls != NULL)
            fc_abuser_read(kept, 1);
        else if (kept->fd >= 0)
            (void)!recv(kept->fd, &byte, 1, MSG_DONTWAIT);
    }
    return true;
}

/* More than half-sent messages may hold, with a crew of three. */
static bool half_sent(fc_abuser *abuser, uint32_t i)
{
    enum { KEPT = 40 };
    sp_peer peer;
    if (!send_a_part(abuser, i, &peer))
        return false;
    fc_abuser_keep(abuser, i, KEPT, &peer);
    return true;
}

static bool half_open(fc_abuser *abuser, uint32_t i)
{
    sp_peer peer;
    if (!fc_abuser_reach(abuser, i % 4 < 2 ? FC_REACH_GREETED : FC_REACH_SOCKET, &peer))
        return false;
    if (i % 8 < 2)
        fc_abuser_ask(abuser, &peer, 1);
    shutdown(peer.fd, i % 2 == 0 ? SHUT_WR : SHUT_RD);
    fc_abuser_keep(abuser, i, kept_count(abuser), &peer);
    return true;
}

/* --- a second daemon ---------------------------------------------------------------------------------------------- */

/* Everything of its own but one address, which is the first one's. */
static bool second_instance(fc_abuser *abuser, uint32_t i)
{
    fc_e2e_daemon second;
    const char *args[FC_SITE_ARGS_MAX] = {NULL};
    const char *address = abuser->site->address[abuser->road];
    (void)i;
    fc_e2e_place(&second);
    if (abuser->road == FC_ROAD_IPC)
        snprintf(second.ipc_url, sizeof second.ipc_url, "%s", address);
    else if (abuser->road == FC_ROAD_TCP)
        snprintf(second.tcp_url, sizeof second.tcp_url, "%s", address);
    else if (abuser->road == FC_ROAD_TLS)
        fc_site_args(abuser->site, args);
    else
        memcpy(args, (const char *[]){abuser->road == FC_ROAD_HTTP ? "--metrics" : "--admin-socket", address, NULL},
               3 * sizeof *args);
    fc_e2e_launch(&second, args);
    int code = fc_e2e_wait_exit(&second, FC_E2E_START_MS);
    if (!abuser->is_last) {
        ck_assert_msg(code == 1, "the second daemon ended with %d", code);
        fc_e2e_wait_log(&second, "event=cannot_start status=busy", NULL);
        const char *path = strchr(address, '/');
        fc_e2e_wait_log(&second, path != NULL && abuser->road != FC_ROAD_TLS ? path + strspn(path, "/") : address,
                        NULL);
    }
    fc_e2e_forget(&second);
    return true;
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

const fc_deed FC_DEEDS[] = {
    {.name = "connect and close", .act = connect_and_close, .roads = EVERYWHERE},
    {.name = "ask and leave", .act = ask_and_leave, .roads = EVERYWHERE},
    {.name = "garbage greeting", .act = garbage_greeting, .roads = STREAMS},
    {.name = "garbage message", .act = garbage_message, .roads = PACKETS | BIT(HTTP)},
    {.name = "oversize", .act = oversize, .roads = STREAMS, .bytes = 64 << 10},
    {.name = "oversize", .act = oversize_packet, .roads = PACKETS},
    {.name = "resends", .act = resends, .roads = STREAMS},
    {.name = "killed asking", .act = killed_asking, .roads = EVERYWHERE, .share = 2},
    {.name = "killed mid-request, 8 MiB", .act = killed_mid_request, .roads = STREAMS, .bytes = 8 << 20, .share = 2},
    {.name = "killed mid-reply, 64 KiB", .act = killed_mid_reply, .roads = STREAMS, .bytes = 64 << 10},
    {.name = "killed mid-reply, 512 KiB", .act = killed_mid_reply, .roads = STREAMS, .bytes = 512 << 10},
    {.name = "killed mid-reply, 2 MiB", .act = killed_mid_reply, .roads = STREAMS, .bytes = 2 << 20},
    {.name = "killed mid-reply, 8 MiB", .act = killed_mid_reply, .roads = STREAMS, .bytes = 8 << 20, .share = 2},
    {.name = "killed mid-reply, 32 MiB", .act = killed_mid_reply, .roads = STREAMS, .bytes = 32 << 20, .share = 4},
    {.name = "slow reader, 512 KiB", .act = slow_reader, .roads = STREAMS, .bytes = 512 << 10},
    {.name = "slow reader", .act = slow_reader, .roads = PACKETS | BIT(HTTP)},
    {.name = "half-sent, 32 MiB", .act = half_sent, .roads = STREAMS, .bytes = 32 << 20, .share = 2},
    {.name = "half-open", .act = half_open, .roads = EVERYWHERE},
    {.name = "idle past the limit", .act = idle_connections, .roads = STREAMS | BIT(LOCAL), .is_filling = true},
    {.name = "second instance", .act = second_instance, .roads = STREAMS | BIT(HTTP) | BIT(ADMIN), .share = 20},
};
const size_t FC_DEED_COUNT = sizeof FC_DEEDS / sizeof *FC_DEEDS;
