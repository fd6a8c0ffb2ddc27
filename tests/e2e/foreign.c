#include "tests/e2e/foreign.h"

#include "tests/e2e/harness.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- writing ---------------------------------------------------------------------------------------------------- */

void fc_bytes_add(fc_bytes *bytes, const void *data, size_t size)
{
    if (bytes->size + size > bytes->capacity) {
        bytes->capacity = (bytes->size + size) * 2 + 64;
        bytes->data = realloc(bytes->data, bytes->capacity);
        ck_assert_ptr_nonnull(bytes->data);
    }
    if (size > 0)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

void fc_bytes_add_hex(fc_bytes *bytes, const char *hex)
{
    while (*hex != '\0') {
        if (isspace((unsigned char)*hex)) {
            hex++;
            continue;
        }
        char pair[3] = {hex[0], hex[1], '\0'}, *end;
        uint8_t byte = (uint8_t)strtoul(pair, &end, 16);
        ck_assert_msg(end == pair + 2, "bad hex: %s", hex);
        fc_bytes_add(bytes, &byte, 1);
        hex += 2;
    }
}

void fc_bytes_fini(fc_bytes *bytes)
{
    free(bytes->data);
    memset(bytes, 0, sizeof *bytes);
}

static void add_big_endian(fc_bytes *bytes, uint8_t tag, uint64_t value, int width)
{
    uint8_t encoded[9] = {tag};
    for (int i = 0; i < width; i++)
        encoded[1 + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    fc_bytes_add(bytes, encoded, 1 + (size_t)width);
}

void fc_pack_map(fc_bytes *bytes, uint32_t count)
{
    if (count < 16)
        add_big_endian(bytes, (uint8_t)(0x80 | count), 0, 0);
    else
        add_big_endian(bytes, 0xde, count, 2);
}

void fc_pack_array(fc_bytes *bytes, uint32_t count)
{
    if (count < 16)
        add_big_endian(bytes, (uint8_t)(0x90 | count), 0, 0);
    else
        add_big_endian(bytes, 0xdc, count, 2);
}

void fc_pack_text(fc_bytes *bytes, const char *text)
{
    size_t size = strlen(text);
    if (size < 32)
        add_big_endian(bytes, (uint8_t)(0xa0 | size), 0, 0);
    else
        add_big_endian(bytes, 0xd9, size, 1);
    fc_bytes_add(bytes, text, size);
}

void fc_pack_uint(fc_bytes *bytes, uint64_t value)
{
    if (value < 0x80)
        add_big_endian(bytes, (uint8_t)value, 0, 0);
    else
        add_big_endian(bytes, 0xcf, value, 8);
}

void fc_pack_int(fc_bytes *bytes, int64_t value)
{
    add_big_endian(bytes, 0xd3, (uint64_t)value, 8);
}

void fc_pack_bool(fc_bytes *bytes, bool value)
{
    add_big_endian(bytes, value ? 0xc3 : 0xc2, 0, 0);
}

void fc_pack_float(fc_bytes *bytes, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_big_endian(bytes, 0xca, bits, 4);
}

void fc_pack_bin(fc_bytes *bytes, const void *data, size_t size)
{
    add_big_endian(bytes, 0xc6, size, 4);
    fc_bytes_add(bytes, data, size);
}

void fc_pack_head(fc_bytes *bytes, uint64_t id, const char *op, uint32_t extra_count)
{
    fc_pack_map(bytes, 3 + extra_count);
    fc_pack_text(bytes, "proto");
    fc_pack_uint(bytes, 1);
    fc_pack_text(bytes, "id");
    fc_pack_uint(bytes, id);
    fc_pack_text(bytes, "op");
    fc_pack_text(bytes, op);
}

void fc_pack_tensor(fc_bytes *bytes, const char *key, const char *dtype, const uint64_t shape[4], size_t data_bytes)
{
    fc_pack_text(bytes, key);
    fc_pack_map(bytes, 3);
    fc_pack_text(bytes, "dtype");
    fc_pack_text(bytes, dtype);
    fc_pack_text(bytes, "shape");
    fc_pack_array(bytes, 4);
    for (int i = 0; i < 4; i++)
        fc_pack_uint(bytes, shape[i]);
    fc_pack_text(bytes, "data");
    uint8_t *data = calloc(1, data_bytes + 4);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i + 4 <= data_bytes; i += 4) {
        float value = (float)(i / 4 % 7) * 0.25f - 0.75f;
        memcpy(data + i, &value, 4);
    }
    fc_pack_bin(bytes, data, data_bytes);
    free(data);
}

void fc_pack_attend(fc_bytes *bytes, uint64_t id)
{
    fc_pack_head(bytes, id, "attend", 3);
    fc_pack_tensor(bytes, "q", "f32", (uint64_t[]){1, 2, 3, 8}, 192);
    fc_pack_tensor(bytes, "k", "f32", (uint64_t[]){1, 1, 5, 8}, 160);
    fc_pack_tensor(bytes, "v", "f32", (uint64_t[]){1, 1, 5, 8}, 160);
}

void fc_pack_large_attend(fc_bytes *bytes, uint64_t id, size_t q_bytes)
{
    fc_pack_head(bytes, id, "attend", 3);
    fc_pack_tensor(bytes, "q", "f32", (uint64_t[]){1, 1, q_bytes / 128, 32}, q_bytes);
    fc_pack_tensor(bytes, "k", "f32", (uint64_t[]){1, 1, 1, 32}, 128);
    fc_pack_tensor(bytes, "v", "f32", (uint64_t[]){1, 1, 1, 32}, 128);
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

static uint64_t big_endian(const uint8_t *at, int width)
{
    uint64_t value = 0;
    for (int i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

/* What one value's first bytes say. */
typedef struct head {
    char kind;       /* u uint, i int, t text, b bin, a array, m map, f float, d double, 0 nil, ! bool */
    uint64_t number; /* value, length or count */
    const uint8_t *body;
} head;

static head read_head(const uint8_t *at, const uint8_t *end)
{
    ck_assert(at < end);
    uint8_t tag = *at;
    if (tag < 0x80)
        return (head){'u', tag, at + 1};
    if (tag < 0x90)
        return (head){'m', tag & 15u, at + 1};
    if (tag < 0xa0)
        return (head){'a', tag & 15u, at + 1};
    if (tag < 0xc0)
        return (head){'t', tag & 31u, at + 1};
    if (tag >= 0xe0)
        return (head){'i', (uint64_t)(int64_t)(int8_t)tag, at + 1};
    static const struct {
        uint8_t tag;
        char kind;
        int width;
    } rows[] = {{0xc0, '0', 0}, {0xc2, '!', 0}, {0xc3, '!', 0}, {0xc4, 'b', 1}, {0xc5, 'b', 2}, {0xc6, 'b', 4},
                {0xca, 'f', 4}, {0xcb, 'd', 8}, {0xcc, 'u', 1}, {0xcd, 'u', 2}, {0xce, 'u', 4}, {0xcf, 'u', 8},
                {0xd0, 'i', 1}, {0xd1, 'i', 2}, {0xd2, 'i', 4}, {0xd3, 'i', 8}, {0xd9, 't', 1}, {0xda, 't', 2},
                {0xdb, 't', 4}, {0xdc, 'a', 2}, {0xdd, 'a', 4}, {0xde, 'm', 2}, {0xdf, 'm', 4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].tag == tag) {
            ck_assert_int_le(rows[i].width, end - at - 1);
            return (head){rows[i].kind, big_endian(at + 1, rows[i].width), at + 1 + rows[i].width};
        }
    }
    ck_abort_msg("a reply holds the tag %02x", tag);
    return (head){0};
}

static const uint8_t *skip(const uint8_t *at, const uint8_t *end)
{
    head first = read_head(at, end);
    uint64_t items = first.kind == 'm' ? 2 * first.number : first.kind == 'a' ? first.number : 0;
    at = first.body;
    if (first.kind == 't' || first.kind == 'b')
        at += first.number;
    ck_assert(at <= end);
    for (uint64_t i = 0; i < items; i++)
        at = skip(at, end);
    return at;
}

fc_value fc_value_get(fc_value map, const char *key)
{
    fc_value none = {NULL, NULL};
    if (map.begin == NULL)
        return none;
    head first = read_head(map.begin, map.end);
    ck_assert_int_eq(first.kind, 'm');
    const uint8_t *at = first.body;
    for (uint64_t i = 0; i < first.number; i++) {
        fc_value name = {at, skip(at, map.end)};
        fc_value value = {name.end, skip(name.end, map.end)};
        if (fc_value_is_text(name, key))
            return value;
        at = value.end;
    }
    return none;
}

fc_value fc_reply_get(const fc_bytes *reply, const char *key)
{
    fc_value whole = {reply->data, reply->data + reply->size};
    ck_assert_uint_gt(reply->size, 0);
    ck_assert_ptr_eq(skip(whole.begin, whole.end), whole.end);
    return fc_value_get(whole, key);
}

bool fc_value_is_text(fc_value value, const char *text)
{
    if (value.begin == NULL)
        return false;
    head first = read_head(value.begin, value.end);
    return first.kind == 't' && first.number == strlen(text) && memcmp(first.body, text, first.number) == 0;
}

bool fc_value_has_text(fc_value value, const char *part)
{
    if (value.begin == NULL)
        return false;
    head first = read_head(value.begin, value.end);
    return first.kind == 't' && memmem(first.body, first.number, part, strlen(part)) != NULL;
}

uint64_t fc_value_uint(fc_value value)
{
    ck_assert_ptr_nonnull(value.begin);
    head first = read_head(value.begin, value.end);
    ck_assert_int_eq(first.kind, 'u');
    return first.number;
}

const uint8_t *fc_value_bin(fc_value value, size_t *out_size)
{
    ck_assert_ptr_nonnull(value.begin);
    head first = read_head(value.begin, value.end);
    ck_assert_int_eq(first.kind, 'b');
    *out_size = first.number;
    return first.body;
}

uint32_t fc_value_count(fc_value value)
{
    ck_assert_ptr_nonnull(value.begin);
    head first = read_head(value.begin, value.end);
    ck_assert(first.kind == 'a' || first.kind == 'm');
    return (uint32_t)first.number;
}

/* --- plain nng -------------------------------------------------------------------------------------------------- */

static void want_nng(int code, const char *what)
{
    ck_assert_msg(code == 0, "nng %s: %s", what, nng_strerror(code));
}

fc_foreign fc_foreign_open(const char *url)
{
    nng_socket socket;
    want_nng(nng_req0_open(&socket), "open");
    want_nng(nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE), "resend time");
    want_nng(nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, fc_e2e_limit_ms(FC_E2E_STOP_MS)), "timeout");
    want_nng(nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, fc_e2e_limit_ms(FC_E2E_STEP_MS)), "timeout");
    want_nng(nng_dial(socket, url, NULL, 0), url);
    return (fc_foreign){socket.id};
}

void fc_foreign_close(fc_foreign *foreign)
{
    nng_close((nng_socket){foreign->socket});
    foreign->socket = 0;
}

void fc_foreign_send(fc_foreign *foreign, const fc_bytes *request)
{
    nng_msg *message;
    want_nng(nng_msg_alloc(&message, request->size), "alloc");
    if (request->size > 0)
        memcpy(nng_msg_body(message), request->data, request->size);
    want_nng(nng_sendmsg((nng_socket){foreign->socket}, message, 0), "send");
}

void fc_foreign_receive(fc_foreign *foreign, fc_bytes *out_reply)
{
    nng_msg *message;
    want_nng(nng_recvmsg((nng_socket){foreign->socket}, &message, 0), "receive");
    fc_bytes_fini(out_reply);
    fc_bytes_add(out_reply, nng_msg_body(message), nng_msg_len(message));
    nng_msg_free(message);
}

void fc_foreign_call(fc_foreign *foreign, const fc_bytes *request, fc_bytes *out_reply)
{
    fc_foreign_send(foreign, request);
    fc_foreign_receive(foreign, out_reply);
}

void fc_foreign_expect(fc_foreign *foreign, const char *name, const fc_bytes *request, uint64_t id, const char *status,
                       const char *key)
{
    fc_bytes reply = {0};
    fc_foreign_call(foreign, request, &reply);
    char said[96] = "nothing", why[256] = "no error text";
    fc_value status_value = fc_reply_get(&reply, "status"), error = fc_reply_get(&reply, "error");
    if (status_value.begin != NULL)
        snprintf(said, sizeof said, "%.*s", (int)(status_value.end - status_value.begin - 1),
                 (const char *)status_value.begin + 1);
    if (error.begin != NULL)
        snprintf(why, sizeof why, "%.*s", (int)(error.end - error.begin - 1), (const char *)error.begin + 1);
    ck_assert_msg(fc_value_is_text(status_value, status), "%s: wanted %s, got %s: %s", name, status, said, why);
    ck_assert_msg(key == NULL || fc_value_has_text(error, key), "%s: the error does not name %s: %s", name, key, why);
    uint64_t id_back = fc_value_uint(fc_reply_get(&reply, "id"));
    ck_assert_msg(id_back == id, "%s: id %llu came back", name, (unsigned long long)id_back);
    ck_assert_uint_eq(fc_value_uint(fc_reply_get(&reply, "proto")), 1);
    fc_bytes_fini(&reply);
}

/* --- a bare socket ---------------------------------------------------------------------------------------------- */

int fc_raw_connect(const char *url)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in remote = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool is_ipc = strncmp(url, "ipc://", 6) == 0;
    int fd = socket(is_ipc ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    if (is_ipc)
        snprintf(local.sun_path, sizeof local.sun_path, "%.100s", url + 6);
    else
        remote.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
    int code = is_ipc ? connect(fd, (struct sockaddr *)&local, sizeof local)
                      : connect(fd, (struct sockaddr *)&remote, sizeof remote);
    if (code == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* The far side may have hung up already: that is for the next wait to see. */
void fc_raw_send(int fd, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return;
        at += sent;
        size -= (size_t)sent;
    }
}

void fc_raw_greet(int fd)
{
    static const uint8_t greeting[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    fc_raw_send(fd, greeting, sizeof greeting);
}

void fc_raw_send_frame(int fd, bool is_ipc, const void *payload, size_t size)
{
    static const uint8_t request_id[4] = {0x80, 0, 0, 1};
    uint8_t frame[9] = {1};
    uint64_t length = size + sizeof request_id;
    for (int i = 0; i < 8; i++)
        frame[1 + i] = (uint8_t)(length >> (8 * (7 - i)));
    fc_raw_send(fd, is_ipc ? frame : frame + 1, is_ipc ? 9 : 8);
    fc_raw_send(fd, request_id, sizeof request_id);
    fc_raw_send(fd, payload, size);
}

int fc_raw_ask(const char *url, const fc_bytes *request)
{
    int fd = fc_raw_connect(url);
    ck_assert_int_ge(fd, 0);
    fc_raw_greet(fd);
    fc_raw_send_frame(fd, strncmp(url, "ipc://", 6) == 0, request->data, request->size);
    return fd;
}

/* False: still open when the time is up. */
static bool read_until_closed(int fd, int limit_ms, size_t *out_bytes)
{
    static char sink[1 << 16];
    uint64_t end_us = fc_e2e_end_us(limit_ms);
    *out_bytes = 0;
    for (;;) {
        int left_ms = fc_e2e_left_ms(end_us);
        struct pollfd wait_for = {.fd = fd, .events = POLLIN};
        if (left_ms == 0)
            return false;
        if (poll(&wait_for, 1, left_ms) <= 0)
            continue;
        ssize_t got = recv(fd, sink, sizeof sink, 0);
        if (got <= 0)
            return true;
        *out_bytes += (size_t)got;
    }
}

bool fc_raw_wait_closed(int fd, int limit_ms)
{
    size_t bytes;
    return read_until_closed(fd, limit_ms, &bytes);
}

size_t fc_raw_read_all(int fd)
{
    size_t bytes;
    ck_assert_msg(read_until_closed(fd, FC_E2E_STOP_MS, &bytes), "the connection stays open");
    return bytes;
}
