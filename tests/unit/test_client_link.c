/* client/link and client/net: the bytes on the wire, against a peer that writes and reads them by hand: greetings and
 * frames in pieces, out of order, broken off, wrong; requests that outlive the call that sent them.
 */
#include "client/flashcore.h"
#include "client/link_address.h"
#include "proto/codec.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const uint8_t GREETING[8] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
static const uint8_t REQ_GREETING[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};

/* --- the peer ----------------------------------------------------------------------------------------------------- */

typedef struct peer {
    bool is_ipc;
    int listener, fd;
    char directory[32], path[64], url[96];
} peer;

static void peer_listen(peer *p, bool is_ipc)
{
    *p = (peer){.is_ipc = is_ipc, .fd = -1};
    if (is_ipc) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        strcpy(p->directory, "/tmp/fc-link-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(p->directory));
        snprintf(p->path, sizeof p->path, "%s/s", p->directory);
        snprintf(p->url, sizeof p->url, "ipc://%s", p->path);
        strcpy(name.sun_path, p->path);
        p->listener = socket(AF_UNIX, SOCK_STREAM, 0);
        ck_assert_int_eq(bind(p->listener, (struct sockaddr *)&name, sizeof name), 0);
    } else {
        struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t bytes = sizeof name;
        p->listener = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(bind(p->listener, (struct sockaddr *)&name, sizeof name), 0);
        ck_assert_int_eq(getsockname(p->listener, (struct sockaddr *)&name, &bytes), 0);
        snprintf(p->url, sizeof p->url, "tcp://127.0.0.1:%u", ntohs(name.sin_port));
    }
    ck_assert_int_eq(listen(p->listener, 16), 0);
}

static void peer_write(peer *p, const void *bytes, size_t size)
{
    ck_assert_int_eq(send(p->fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static void peer_read(peer *p, void *bytes, size_t size)
{
    ck_assert_int_eq(recv(p->fd, bytes, size, MSG_WAITALL), (ssize_t)size);
}

/* Accepts and reads the client's greeting, which must be right. */
static void peer_accept(peer *p)
{
    uint8_t greeting[8];
    p->fd = accept(p->listener, NULL, NULL);
    ck_assert_int_ge(p->fd, 0);
    peer_read(p, greeting, sizeof greeting);
    ck_assert_mem_eq(greeting, REQ_GREETING, sizeof greeting);
}

static void peer_hang_up(peer *p)
{
    close(p->fd);
    p->fd = -1;
}

static void peer_close(peer *p)
{
    if (p->fd >= 0)
        peer_hang_up(p);
    close(p->listener);
    if (p->is_ipc) {
        unlink(p->path);
        rmdir(p->directory);
    }
}

typedef struct frame {
    uint32_t id;
    size_t size;
    uint8_t *bytes; /* free it */
    fc_wire_request request;
} frame;

static frame peer_read_frame(peer *p)
{
    uint8_t header[13];
    frame f = {0};
    peer_read(p, header, p->is_ipc ? 13 : 12);
    const uint8_t *at = header;
    if (p->is_ipc)
        ck_assert_uint_eq(*at++, 1);
    for (int i = 0; i < 8; i++)
        f.size = f.size << 8 | at[i];
    for (int i = 8; i < 12; i++)
        f.id = f.id << 8 | at[i];
    ck_assert_uint_ge(f.id, 0x80000000u);
    f.size -= 4;
    f.bytes = malloc(f.size);
    peer_read(p, f.bytes, f.size);
    fc_reason reason = {""};
    ck_assert_msg(fc_codec_decode_request(f.bytes, f.size, &f.request, &reason) == FC_OK, "%s", reason.text);
    return f;
}

static size_t put_header(const peer *p, uint8_t *to, uint64_t length, uint32_t id)
{
    size_t at = 0;
    if (p->is_ipc)
        to[at++] = 1;
    for (int shift = 56; shift >= 0; shift -= 8)
        to[at++] = (uint8_t)(length >> shift);
    for (int shift = 24; shift >= 0; shift -= 8)
        to[at++] = (uint8_t)(id >> shift);
    return at;
}

/* The whole reply, ok, in bytes (capacity 4096 at least): a ping's, or an attend's whose out is q. */
static size_t make_reply(const peer *p, const frame *f, uint8_t *bytes, size_t capacity)
{
    fc_wire_reply reply = {.id = f->request.id, .status = FC_OK};
    if (f->request.op == FC_OP_ATTEND) {
        reply.body = FC_BODY_ATTEND;
        reply.attend.out = f->request.attend.q;
        reply.attend.kernel = (fc_wire_text){"hand", 4};
        reply.attend.device = (fc_wire_text){"none", 4};
    }
    size_t header = p->is_ipc ? 13 : 12, size = 0;
    ck_assert_int_eq(fc_codec_encode_reply(&reply, bytes + header, capacity - header, &size), FC_OK);
    put_header(p, bytes, 4 + size, f->id);
    return header + size;
}

/* --- the client --------------------------------------------------------------------------------------------------- */

enum { SMALL = 64, LARGE = 1 << 20 };
static float q[LARGE], out[LARGE];

static flashcore_client *make_client(const peer *p, uint64_t timeout_us)
{
    const char *url = p->url;
    flashcore_client *client = NULL;
    flashcore_options options;
    flashcore_options_init(&options);
    options.urls = &url;
    options.url_count = 1;
    options.timeout_us = timeout_us;
    options.reply_bytes_max = 1 << 20;
    options.path = FLASHCORE_PATH_INLINE; /* no question of the library's own among the calls */
    ck_assert_msg(flashcore_client_create(&options, &client) == FLASHCORE_OK, "%s", flashcore_last_error());
    return client;
}

/* k and v are q. */
static flashcore_call *submit(flashcore_client *client, uint64_t elements)
{
    flashcore_call *call = NULL;
    flashcore_request request;
    flashcore_request_init(&request);
    flashcore_tensor tensor = {FLASHCORE_F32, {1, 1, elements / 64, 64}, q};
    request.q = request.k = request.v = tensor;
    request.out = out;
    ck_assert_int_eq(flashcore_submit(client, &request, NULL, NULL, &call), FLASHCORE_OK);
    return call;
}

static flashcore_status end(flashcore_call *call)
{
    flashcore_status status = flashcore_wait(call, UINT64_MAX, NULL);
    flashcore_call_release(call);
    return status;
}

static void set_up(void)
{
    for (int i = 0; i < LARGE; i++) {
        q[i] = (float)i;
        out[i] = -1;
    }
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

/* _i 0: ipc, 1: tcp; everything byte by byte. */
START_TEST(pieces_are_put_together)
{
    peer p;
    uint8_t bytes[4096];
    peer_listen(&p, _i == 0);
    flashcore_client *client = make_client(&p, 0);
    flashcore_call *call = submit(client, SMALL);
    peer_accept(&p);
    for (size_t i = 0; i < sizeof GREETING; i++)
        peer_write(&p, GREETING + i, 1);
    frame f = peer_read_frame(&p);
    ck_assert_mem_eq(f.request.attend.v.data, q, SMALL * sizeof *q);
    size_t size = make_reply(&p, &f, bytes, sizeof bytes);
    for (size_t i = 0; i < size; i++)
        peer_write(&p, bytes + i, 1);
    ck_assert_int_eq(end(call), FLASHCORE_OK);
    ck_assert_mem_eq(out, q, SMALL * sizeof *q);
    free(f.bytes);
    flashcore_client_destroy(client);
    peer_close(&p);
}
END_TEST

static const struct {
    const char *name;
    uint8_t bytes[8];
    size_t size;
} GREETINGS[] = {
    {"another REQ", {0, 'S', 'P', 0, 0, 0x30, 0, 0}, 8},
    {"a PUB", {0, 'S', 'P', 0, 0, 0x20, 0, 0}, 8},
    {"not SP", {'H', 'T', 'T', 'P', '/', '1', '.', '1'}, 8},
    {"another version", {0, 'S', 'P', 1, 0, 0x31, 0, 0}, 8},
    {"half of one", {0, 'S', 'P', 0}, 4},
    {"nothing", {0}, 0},
};

START_TEST(a_wrong_greeting_is_no_connection)
{
    peer p;
    peer_listen(&p, true);
    flashcore_client *client = make_client(&p, 0);
    flashcore_call *call = submit(client, SMALL);
    peer_accept(&p);
    peer_write(&p, GREETINGS[_i].bytes, GREETINGS[_i].size);
    if (GREETINGS[_i].size < 8)
        shutdown(p.fd, SHUT_WR);
    uint8_t none;
    ck_assert_int_le(recv(p.fd, &none, 1, 0), 0); /* the client hangs up without a request */
    peer_hang_up(&p);
    peer_accept(&p); /* and comes again */
    peer_write(&p, GREETING, sizeof GREETING);
    frame f = peer_read_frame(&p);
    uint8_t bytes[4096];
    peer_write(&p, bytes, make_reply(&p, &f, bytes, sizeof bytes));
    ck_assert_int_eq(end(call), FLASHCORE_OK);
    free(f.bytes);
    flashcore_client_destroy(client);
    peer_close(&p);
}
END_TEST

/* Two replies and two nobody asked for (one larger than any buffer) in one stream, the later request's first. */
START_TEST(replies_find_their_calls)
{
    enum { JUNK = 100000 };
    peer p;
    static uint8_t bytes[2 * JUNK];
    peer_listen(&p, true);
    flashcore_client *client = make_client(&p, 0);
    flashcore_call *first = submit(client, SMALL), *second = submit(client, SMALL * 2);
    peer_accept(&p);
    peer_write(&p, GREETING, sizeof GREETING);
    frame a = peer_read_frame(&p), b = peer_read_frame(&p);
    ck_assert_uint_ne(a.id, b.id);
    ck_assert_uint_ne(a.request.id, b.request.id);
    size_t size = put_header(&p, bytes, 4 + 3, 0x80001234u) + 3;
    size += put_header(&p, bytes + size, 4 + JUNK, a.id ^ 0x10000u) + JUNK;
    size += make_reply(&p, &b, bytes + size, sizeof bytes - size);
    size += make_reply(&p, &a, bytes + size, sizeof bytes - size);
    size += put_header(&p, bytes + size, 4 + 0, a.id); /* answered already */
    peer_write(&p, bytes, size);
    ck_assert_int_eq(end(second), FLASHCORE_OK);
    ck_assert_int_eq(end(first), FLASHCORE_OK);
    free(a.bytes);
    free(b.bytes);
    flashcore_client_destroy(client);
    peer_close(&p);
}
END_TEST

typedef struct bad_frame {
    const char *name;
    uint8_t first;   /* of the ipc header */
    uint64_t length; /* as claimed */
    size_t sent_bytes;
} bad_frame;

static const bad_frame BAD_FRAMES[] = {
    {"not a message", 2, 10, 13},
    {"no room for an id", 1, 3, 13},
    {"larger than reply_bytes_max", 1, 4 + (1 << 20) + 1, 13},
    {"2^64 - 1 bytes", 1, UINT64_MAX, 13},
    {"broken off in the header", 1, 500, 7},
    {"broken off in the body", 1, 500, 100},
    {"broken off in a large body", 1, 500000, 30000},
};

START_TEST(a_bad_frame_loses_the_connection)
{
    peer p;
    static uint8_t bytes[65536];
    peer_listen(&p, true);
    flashcore_client *client = make_client(&p, 0);
    flashcore_call *call = submit(client, SMALL);
    peer_accept(&p);
    peer_write(&p, GREETING, sizeof GREETING);
    frame f = peer_read_frame(&p);
    put_header(&p, bytes, BAD_FRAMES[_i].length, f.id);
    bytes[0] = BAD_FRAMES[_i].first;
    peer_write(&p, bytes, BAD_FRAMES[_i].sent_bytes);
    shutdown(p.fd, SHUT_WR);
    ck_assert_msg(end(call) == FLASHCORE_CONNECTION_LOST, "%s", BAD_FRAMES[_i].name);
    ck_assert_float_eq(out[0], -1);
    free(f.bytes);
    flashcore_client_destroy(client);
    peer_close(&p);
}
END_TEST

/* A peer that does not read: the first request is stuck half written, the second behind it. */
START_TEST(a_stuck_request_goes_on_without_its_call)
{
    peer p;
    uint8_t bytes[4096];
    peer_listen(&p, true);
    flashcore_client *client = make_client(&p, 2000 * 1000);
    flashcore_call *stuck = submit(client, LARGE);
    peer_accept(&p);
    peer_write(&p, GREETING, sizeof GREETING);
    uint8_t first;
    ck_assert_int_eq(recv(p.fd, &first, 1, MSG_PEEK), 1); /* it is being written */
    flashcore_call *behind = submit(client, SMALL);
    ck_assert_int_eq(flashcore_cancel(behind), FLASHCORE_OK);
    ck_assert_int_eq(end(behind), FLASHCORE_CANCELLED);
    ck_assert_int_eq(end(stuck), FLASHCORE_TIMED_OUT);
    frame f = peer_read_frame(&p); /* whole all the same */
    ck_assert_uint_eq(f.request.attend.v.data_bytes, sizeof q);
    ck_assert_mem_eq(f.request.attend.v.data, q, sizeof q);
    frame cancel = peer_read_frame(&p);
    ck_assert_int_eq(cancel.request.op, FC_OP_CANCEL);
    ck_assert_uint_eq(cancel.request.cancel_target, f.request.id);
    flashcore_call *last = submit(client, SMALL * 2);
    frame g = peer_read_frame(&p); /* the one behind was never on the wire */
    ck_assert_uint_eq(g.request.attend.q.shape[2], 2);
    peer_write(&p, bytes, make_reply(&p, &g, bytes, sizeof bytes));
    ck_assert_int_eq(end(last), FLASHCORE_OK);
    free(f.bytes);
    free(cancel.bytes);
    free(g.bytes);
    flashcore_client_destroy(client);
    peer_close(&p);
}
END_TEST

START_TEST(a_request_cut_off_did_not_run)
{
    peer p;
    uint8_t some[1000];
    flashcore_result result;
    peer_listen(&p, true);
    flashcore_client *client = make_client(&p, 0);
    flashcore_call *cut = submit(client, LARGE);
    peer_accept(&p);
    peer_write(&p, GREETING, sizeof GREETING);
    peer_read(&p, some, sizeof some);
    peer_hang_up(&p);
    ck_assert_int_eq(flashcore_wait(cut, UINT64_MAX, &result), FLASHCORE_CONNECTION_LOST);
    ck_assert_ptr_nonnull(strstr(result.error, "did not run"));
    ck_assert_ptr_nonnull(strstr(result.error, "message_bytes"));
    flashcore_call_release(cut);
    flashcore_client_destroy(client);
    peer_close(&p);
}
END_TEST

/* A refusal that comes before the request is through: it counts, and the request still ends where it must. */
START_TEST(an_early_reply_counts)
{
    peer p;
    uint8_t bytes[256], header[13];
    peer_listen(&p, true);
    flashcore_client *client = make_client(&p, 0);
    flashcore_call *large = submit(client, LARGE);
    peer_accept(&p);
    peer_write(&p, GREETING, sizeof GREETING);
    ck_assert_int_eq(recv(p.fd, header, sizeof header, MSG_PEEK | MSG_WAITALL), (ssize_t)sizeof header);
    fc_wire_reply reply = {.id = 0, .status = FC_TOO_LARGE};
    size_t size = 0;
    uint32_t id = (uint32_t)header[9] << 24 | (uint32_t)header[10] << 16 | (uint32_t)header[11] << 8 | header[12];
    ck_assert_int_eq(fc_codec_encode_reply(&reply, bytes + 13, sizeof bytes - 13, &size), FC_OK);
    put_header(&p, bytes, 4 + size, id);
    peer_write(&p, bytes, 13 + size);
    ck_assert_int_eq(end(large), FLASHCORE_TOO_LARGE);
    flashcore_call *small = submit(client, SMALL);
    frame f = peer_read_frame(&p), g = peer_read_frame(&p);
    ck_assert_uint_eq(f.id, id);
    ck_assert_mem_eq(f.request.attend.k.data, q, sizeof q);
    uint8_t answer[4096];
    peer_write(&p, answer, make_reply(&p, &g, answer, sizeof answer));
    ck_assert_int_eq(end(small), FLASHCORE_OK);
    free(f.bytes);
    free(g.bytes);
    flashcore_client_destroy(client);
    peer_close(&p);
}
END_TEST

static atomic_bool is_over;

static void *keep_asking(void *client)
{
    flashcore_status status = FLASHCORE_INTERNAL;
    while (!is_over || status != FLASHCORE_OK) {
        status = flashcore_ping(client, 0, NULL);
        if (status != FLASHCORE_OK && status != FLASHCORE_CONNECTION_LOST)
            return client;
    }
    return NULL;
}

/* Connections that end as soon as they are up, while four threads write to them: each call ends, and none spins. */
START_TEST(connections_that_flap_trap_nobody)
{
    enum { THREADS = 4, FLAPS = 25 };
    peer p;
    pthread_t threads[THREADS];
    uint8_t bytes[4096];
    is_over = false;
    peer_listen(&p, true);
    flashcore_client *client = make_client(&p, 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, keep_asking, client), 0);
    for (int i = 0; i < FLAPS; i++) {
        peer_accept(&p);
        peer_write(&p, GREETING, sizeof GREETING);
        if (i % 3 == 0) { /* resets backing off */
            frame f = peer_read_frame(&p);
            peer_write(&p, bytes, make_reply(&p, &f, bytes, sizeof bytes));
            free(f.bytes);
        }
        if (i % 2 == 0)
            shutdown(p.fd, SHUT_RD);
        peer_hang_up(&p);
    }
    peer_accept(&p);
    peer_write(&p, GREETING, sizeof GREETING);
    is_over = true;
    for (int i = 0; i < THREADS; i++) {
        frame f = peer_read_frame(&p);
        peer_write(&p, bytes, make_reply(&p, &f, bytes, sizeof bytes));
        free(f.bytes);
    }
    for (int i = 0; i < THREADS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    flashcore_client_destroy(client);
    peer_close(&p);
}
END_TEST

START_TEST(urls_lead_where_they_say)
{
    static const struct {
        const char *url;
        fc_status expected;
        int family;
    } rows[] = {
        {"ipc:///run/x.sock", FC_OK, AF_UNIX},
        {"tcp://127.0.0.1:5555", FC_OK, AF_INET},
        {"tcp://127.0.0.1:0", FC_INVALID_ARGUMENT, 0},
        {"tcp://127.0.0.1:65536", FC_INVALID_ARGUMENT, 0},
        {"tcp://127.0.0.1:80x", FC_INVALID_ARGUMENT, 0},
        {"tcp://127.0.0.1", FC_INVALID_ARGUMENT, 0},
        {"tcp://:80", FC_INVALID_ARGUMENT, 0},
        {"tcp://[::1:80", FC_INVALID_ARGUMENT, 0},
        {"ipc://", FC_INVALID_ARGUMENT, 0},
        {"ws://127.0.0.1:80", FC_INVALID_ARGUMENT, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_link_address *addresses = NULL;
        uint32_t count = 0;
        fc_reason reason = {""};
        fc_status status = fc_link_address_resolve(rows[i].url, &addresses, &count, &reason);
        ck_assert_msg(status == rows[i].expected, "%s: %s", rows[i].url, reason.text);
        if (status == FC_OK) {
            ck_assert_uint_ge(count, 1);
            ck_assert_int_eq(addresses[0].storage.ss_family, rows[i].family);
            free(addresses);
        } else {
            ck_assert_ptr_nonnull(strstr(reason.text, rows[i].url));
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client_link");
    TCase *wire = tcase_create("wire");
    tcase_set_timeout(wire, 60);
    tcase_add_checked_fixture(wire, set_up, NULL);
    tcase_add_loop_test(wire, pieces_are_put_together, 0, 2);
    tcase_add_loop_test(wire, a_wrong_greeting_is_no_connection, 0, sizeof GREETINGS / sizeof GREETINGS[0]);
    tcase_add_test(wire, replies_find_their_calls);
    tcase_add_loop_test(wire, a_bad_frame_loses_the_connection, 0, sizeof BAD_FRAMES / sizeof BAD_FRAMES[0]);
    tcase_add_test(wire, a_stuck_request_goes_on_without_its_call);
    tcase_add_test(wire, a_request_cut_off_did_not_run);
    tcase_add_test(wire, an_early_reply_counts);
    tcase_add_test(wire, connections_that_flap_trap_nobody);
    tcase_add_test(wire, urls_lead_where_they_say);
    suite_add_tcase(suite, wire);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
