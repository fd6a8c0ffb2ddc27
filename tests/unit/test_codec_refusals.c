/* proto/codec: what is refused, with which status, for whom, and in which words. */
#include "proto/codec.h"
#include "proto/codec_scan.h"
#include "tests/support/notation.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TENSOR "{dtype:'f16' shape:[1 1 2 8] data:b32}"
#define HEAD "proto:1 id:77 op:'attend' "
#define ATTEND(more) "{" HEAD "q:" TENSOR " k:" TENSOR " v:" TENSOR " " more "}"
#define Q(tensor) "{" HEAD "q:" tensor " k:" TENSOR " v:" TENSOR "}"
#define PING(more) "{proto:1 id:77 op:'ping' " more "}"

typedef struct refusal {
    const char *line;
    fc_status status;
    uint64_t id;        /* what could be read of it */
    const char *reason; /* as it begins; "" with FC_OK */
} refusal;

#define OPS                                                                                                            \
    "hello, ping, attend, cancel, stats, arena_create, arena_destroy, drain, reload, log_level or default_kernel"

static const refusal REQUESTS[] = {
    /* the bytes */
    {"", FC_INVALID_ARGUMENT, 0, "message: expected a map, got no bytes"},
    {"[1 2]", FC_INVALID_ARGUMENT, 0, "message: expected a map, got an array"},
    {"'text'", FC_INVALID_ARGUMENT, 0, "message: expected a map, got text"},
    {"<c1>", FC_INVALID_ARGUMENT, 0, "message: byte 0xc1 starts no msgpack value"},
    {"<dd 1f ff ff ff>", FC_INVALID_ARGUMENT, 0, "message: claims 536870911 entries, 0 bytes are left"},
    {PING("") " nil", FC_INVALID_ARGUMENT, 77, "message: 1 bytes follow the map"},
    {PING("x:<c1>"), FC_INVALID_ARGUMENT, 77, "x: byte 0xc1 starts no msgpack value"},
    {"{*5 id:77 op:'ping'}", FC_INVALID_ARGUMENT, 77, "message: the message ends where a value should begin"},
    {"{*9000 id:77 op:'ping'}", FC_INVALID_ARGUMENT, 0, "message: claims 9000 entries"},
    {"{id:77 op:<cd 01>}", FC_INVALID_ARGUMENT, 77, "op: the message ends inside a value"},
    {"{id:77 op:<d9 20 61>}", FC_INVALID_ARGUMENT, 77, "op: claims 32 bytes, 1 are left"},
    {"{id:77 x:<c9 ff ff ff ff 00>}", FC_INVALID_ARGUMENT, 77, "x: claims 4294967296 bytes, 1 are left"},
    {"{id:77 x:<d8 00 01>}", FC_INVALID_ARGUMENT, 77, "x: claims 17 bytes, 2 are left"},
    {"{id:77 <01 02>}", FC_INVALID_ARGUMENT, 77, "message: map keys must be text"},
    {PING("op:'ping'"), FC_INVALID_ARGUMENT, 77, "message: key \"op\" appears twice"},
    {PING("x:{y:[1 {a:1 a:2}]}"), FC_INVALID_ARGUMENT, 77, "x.y[1]: key \"a\" appears twice"},
    /* like known ones in length and ends, and unknown all the same */
    {ATTEND("lxe:7 kxxxxl:7 sxxxe:'x' wxxxxw:7 kxxxxn:7 oxxxxt:7 proxo:7"), FC_OK, 77, ""},
    {PING("<a3 0a 7f 41 00 a3 0a 7f 41 00>"), FC_INVALID_ARGUMENT, 77, "message: "},
    {PING("x:[[[[[[[1]]]]]]]"), FC_OK, 77, ""},
    {PING("x:[[[[[[[[]]]]]]]]"), FC_INVALID_ARGUMENT, 77, "x[0][0][0][0][0][0][0]: nested too deep"},
    {PING("x:{a:{b:{c:{d:{e:{f:{}}}}}}}"), FC_OK, 77, ""},
    {PING("x:{a:{b:{c:{d:{e:{f:{g:{}}}}}}}}"), FC_INVALID_ARGUMENT, 77, "x.a.b.c.d.e.f.g: nested too deep"},
    {"{x:[[[[[[[[]]]]]]]] id:77}", FC_INVALID_ARGUMENT, 0, "x[0]"},

    /* the envelope */
    {"{id:77 op:'ping'}", FC_INVALID_ARGUMENT, 77, "proto: expected a uint, got nothing"},
    {"{proto:2 id:77 op:'ping'}", FC_UNSUPPORTED, 77, "proto: expected 1, got 2"},
    {"{proto:'1' id:77 op:'ping'}", FC_INVALID_ARGUMENT, 77, "proto: expected a uint, got \"1\""},
    {"{proto:1 op:'ping'}", FC_INVALID_ARGUMENT, 0, "id: expected a uint, got nothing"},
    {"{proto:1 id:-3 op:'ping'}", FC_INVALID_ARGUMENT, 0, "id: expected a uint, got -3"},
    {"{proto:1 id:1.0 op:'ping'}", FC_INVALID_ARGUMENT, 0, "id: expected a uint, got the float 1"},
    {"{proto:1 id:77}", FC_INVALID_ARGUMENT, 77, "op: expected text of 1 to 31 bytes, got nothing"},
    {"{proto:1 op:7 id:77}", FC_INVALID_ARGUMENT, 77, "op: expected text of 1 to 31 bytes, got 7"},
    {"{op:'frob' proto:1 id:77}", FC_UNSUPPORTED, 77, "op: expected " OPS ", got \"frob\""},
    {"{op:<a2 1b 5b> proto:1 id:77}", FC_UNSUPPORTED, 77, "op: expected " OPS ", got \"?[\""},
    {PING("x:[nil {y:true} <c7 01 05 00> <d4 01 02>] kernel:5 q:'not mine'"), FC_OK, 77, ""},
    {"{proto:1 id:77 op:'cancel'}", FC_INVALID_ARGUMENT, 77, "target: expected a uint, got nothing"},
    {"{proto:1 id:77 op:'cancel' target:3}", FC_OK, 77, ""},
    {"{proto:1 id:77 op:'arena_create'}", FC_INVALID_ARGUMENT, 77, "bytes: expected a uint, got nothing"},
    {"{proto:1 id:77 op:'arena_create' bytes:5 kind:'device'}", FC_OK, 77, ""},
    {"{proto:1 id:77 op:'arena_create' bytes:5 kind:'disk'}", FC_INVALID_ARGUMENT, 77,
     "kind: expected host or device, got \"disk\""},
    {"{proto:1 id:77 op:'arena_create' bytes:5 kind:1}", FC_INVALID_ARGUMENT, 77,
     "kind: expected host or device, got 1"},
    {"{proto:<d0 01> id:<d3 00 00 00 00 00 00 00 4d> op:'ping'}", FC_OK, 77, ""},

    /* tensors */
    {ATTEND(""), FC_OK, 77, ""},
    {"{" HEAD "}", FC_INVALID_ARGUMENT, 77, "q: expected a map, got nothing"},
    {Q("[1]"), FC_INVALID_ARGUMENT, 77, "q: expected a map, got an array"},
    {Q("{shape:[1 1 2 8] data:b32}"), FC_INVALID_ARGUMENT, 77, "q.dtype: expected f16, bf16 or f32, got nothing"},
    {Q("{dtype:'f64' shape:[1 1 2 8] data:b32}"), FC_INVALID_ARGUMENT, 77,
     "q.dtype: expected f16, bf16 or f32, got \"f64\""},
    {Q("{dtype:'f16' data:b32}"), FC_INVALID_ARGUMENT, 77, "q.shape: expected 4 uints below 2147483648, got nothing"},
    {Q("{dtype:'f16' shape:[1 2 8] data:b32}"), FC_INVALID_ARGUMENT, 77,
     "q.shape: expected 4 uints below 2147483648, got 3"},
    {Q("{dtype:'f16' shape:[1 1 -2 8] data:b32}"), FC_INVALID_ARGUMENT, 77,
     "q.shape: expected 4 uints below 2147483648, got -2"},
    {Q("{dtype:'f16' shape:[1 1 2147483648 8] data:b32}"), FC_INVALID_ARGUMENT, 77,
     "q.shape: expected 4 uints below 2147483648, got 2147483648"},
    {Q("{dtype:'f16' shape:[1 1 2.0 8] data:b32}"), FC_INVALID_ARGUMENT, 77, "q.shape: expected 4 uints"},
    {Q("{dtype:'f16' shape:[1 1 2 8]}"), FC_INVALID_ARGUMENT, 77, "q.data: expected bin, got nothing"},
    {Q("{dtype:'f16' shape:[1 1 2 8] data:'text'}"), FC_INVALID_ARGUMENT, 77, "q.data: expected bin, got \"text\""},
    {Q("{dtype:'f16' shape:[1 1 2 8] data:b31}"), FC_INVALID_ARGUMENT, 77, "q.data: expected 32 bytes, got 31"},
    {Q("{dtype:'f16' shape:[1 1 2 8] data:b33}"), FC_INVALID_ARGUMENT, 77, "q.data: expected 32 bytes, got 33"},
    {Q("{dtype:'f16' shape:[1 1 0 8] data:b1}"), FC_INVALID_ARGUMENT, 77, "q.data: expected 0 bytes, got 1"},
    {Q("{dtype:'f32' shape:[1 1 2 8] data:b32}"), FC_INVALID_ARGUMENT, 77, "q.data: expected 64 bytes, got 32"},
    {Q("{dtype:'f16' shape:[2147483647 2147483647 2147483647 2147483647] data:b0}"), FC_INVALID_ARGUMENT, 77,
     "q.shape: expected a product that 64 bits hold, got more"},
    {Q("{dtype:'f16' shape:[2147483647 2147483647 2147483647 0] data:b0}"), FC_OK, 77, ""},
    /* 2^31 * 2^31 * 4 * 2 = 2^65, which 64 bits would call 0 */
    {Q("{dtype:'f16' shape:[1073741824 1073741824 8 8] data:b0}"), FC_INVALID_ARGUMENT, 77, "q.shape: expected a prod"},
    {Q("{dtype:'f16' shape:[1 1 2 8] arena:1 offset:0}"), FC_OK, 77, ""},
    {Q("{dtype:'f16' shape:[1 1 2 8] arena:1}"), FC_INVALID_ARGUMENT, 77, "q.offset: "},
    {Q("{dtype:'f16' shape:[1 1 2 8] arena:-1 offset:0}"), FC_INVALID_ARGUMENT, 77, "q.arena: expected a uint, got -1"},
    {Q("{dtype:'f16' shape:[1 1 2 8] data:b32 offset:0}"), FC_INVALID_ARGUMENT, 77,
     "q.data: expected either data or arena and offset, got both"},
    {ATTEND("out_at:5"), FC_INVALID_ARGUMENT, 77, "out_at: expected a map, got 5"},
    {ATTEND("lse_at:{arena:1}"), FC_INVALID_ARGUMENT, 77, "lse_at.offset: "},
    {ATTEND("out_at:{arena:1 offset:64} lse_at:{arena:18446744073709551615 offset:0}"), FC_OK, 77, ""},
    {"{" HEAD "q:" TENSOR " k:" TENSOR " v:{dtype:'f16' shape:[1 1 2 8] data:b30}}", FC_INVALID_ARGUMENT, 77,
     "v.data: expected 32 bytes, got 30"},

    /* options */
    {ATTEND("layout:'sbhd'"), FC_INVALID_ARGUMENT, 77, "layout: expected bhsd or bshd, got \"sbhd\""},
    {ATTEND("causal:true"), FC_INVALID_ARGUMENT, 77, "causal: expected none, top_left or bottom_right, got a bool"},
    {ATTEND("window:[-1 0]"), FC_OK, 77, ""},
    {ATTEND("window:[2147483647 -1]"), FC_OK, 77, ""},
    {ATTEND("window:[2147483648 -1]"), FC_INVALID_ARGUMENT, 77, "window: expected [left, right]"},
    {ATTEND("window:[1 -2]"), FC_INVALID_ARGUMENT, 77,
     "window: expected [left, right], each -1 (open) or 0 to 2147483647, got -2"},
    {ATTEND("window:[1]"), FC_INVALID_ARGUMENT, 77, "window: expected [left, right]"},
    {ATTEND("window:4"), FC_INVALID_ARGUMENT, 77, "window: expected [left, right]"},
    {ATTEND("scale:0"), FC_OK, 77, ""},
    {ATTEND("scale:3 softcap:0.0"), FC_OK, 77, ""},
    {ATTEND("scale:<ca 3e 00 00 00>"), FC_OK, 77, ""},
    {ATTEND("scale:nan"), FC_INVALID_ARGUMENT, 77, "scale: expected a finite number >= 0 that a float32 holds, got "},
    {ATTEND("scale:inf"), FC_INVALID_ARGUMENT, 77,
     "scale: expected a finite number >= 0 that a float32 holds, got the float inf"},
    {ATTEND("scale:-0.5"), FC_INVALID_ARGUMENT, 77, "scale: expected a finite number >= 0"},
    {ATTEND("scale:-1"), FC_INVALID_ARGUMENT, 77, "scale: expected a finite number >= 0 that a float32 holds, got -1"},
    {ATTEND("scale:1e300."), FC_INVALID_ARGUMENT, 77, "scale: expected a finite number >= 0 that a float32 holds"},
    {ATTEND("scale:340282346638528859811704183484516925440.0"), FC_OK, 77, ""},
    {ATTEND("softcap:<ca 7f 80 00 00>"), FC_INVALID_ARGUMENT, 77, "softcap: expected a finite number >= 0"},
    {ATTEND("softcap:'x'"), FC_INVALID_ARGUMENT, 77, "softcap: expected a finite number >= 0"},
    {ATTEND("softcap:nil"), FC_INVALID_ARGUMENT, 77,
     "softcap: expected a finite number >= 0 that a float32 holds, got "
     "nil"},
    {ATTEND("kv_len:[2]"), FC_OK, 77, ""},
    {ATTEND("kv_len:[]"), FC_INVALID_ARGUMENT, 77, "kv_len: expected 1 uints, one a batch entry of q, got 0"},
    {ATTEND("kv_len:[1 2]"), FC_INVALID_ARGUMENT, 77, "kv_len: expected 1 uints, one a batch entry of q, got 2"},
    {ATTEND("kv_len:3"), FC_INVALID_ARGUMENT, 77, "kv_len: expected an array of uints, got a uint"},
    {ATTEND("kv_len:[1.0]"), FC_INVALID_ARGUMENT, 77, "kv_len: expected uints below 2147483648, entry 0 is a float"},
    {ATTEND("kv_len:[-1]"), FC_INVALID_ARGUMENT, 77, "kv_len: expected uints below 2147483648, entry 0 is a negative"},
    {ATTEND("kv_len:[1 2147483648]"), FC_INVALID_ARGUMENT, 77,
     "kv_len: expected uints below 2147483648, entry 1 is larger"},
    {ATTEND("kv_len:[[1]]"), FC_INVALID_ARGUMENT, 77, "kv_len: expected uints below 2147483648, entry 0 is an array"},
    {ATTEND("kv_len:[*2 1]"), FC_INVALID_ARGUMENT, 77, "kv_len: claims 2 entries, 1 bytes are left"},
    {PING("kv_len:[1.5]"), FC_INVALID_ARGUMENT, 77, "kv_len: expected uints below 2147483648, entry 0 is a float"},
    {PING("kv_len:{x:[1.5]} x:{kv_len:['y']}"), FC_OK, 77, ""},
    {ATTEND("kernel:''"), FC_INVALID_ARGUMENT, 77, "kernel: expected text of 1 to 31 bytes, got \"\""},
    {ATTEND("kernel:'0123456789012345678901234567890'"), FC_OK, 77, ""},
    {ATTEND("kernel:'01234567890123456789012345678901'"), FC_INVALID_ARGUMENT, 77, "kernel: expected text of 1 to 31"},
    {ATTEND("lse:1"), FC_INVALID_ARGUMENT, 77, "lse: expected a bool, got 1"},
    {ATTEND("deadline_us:-1"), FC_INVALID_ARGUMENT, 77, "deadline_us: expected a uint, got -1"},
    {ATTEND("deadline_us:18446744073709551615"), FC_OK, 77, ""},
};

#define OK(more) "{proto:1 id:77 status:'ok' " more "}"
#define TIMING "timing:{queue_us:0 copy_in_us:0.5 kernel_us:1 copy_out_us:1 total_us:3 batch:1}"
#define ANSWER "out:" TENSOR " kernel:'cpu' device:'d' "
#define HELLO(limits)                                                                                                  \
    OK("server:'s' version:'1' kernels:['cpu'] default_kernel:'auto' device:'d' limits:" limits " features:[]")

static const refusal REPLIES[] = {
    {OK(""), FC_OK, 77, ""},
    {"{proto:3 id:77 status:'ok'}", FC_BAD_REPLY, 0, "proto: expected 1, got 3"},
    {"{id:77 status:'ok'}", FC_BAD_REPLY, 0, "proto: expected a uint, got nothing"},
    {"{proto:1 status:'ok'}", FC_BAD_REPLY, 0, "id: expected a uint, got nothing"},
    {"{proto:1 id:77}", FC_BAD_REPLY, 77, "status: expected text"},
    {"{proto:1 id:77 status:'no_memory'}", FC_BAD_REPLY, 77,
     "status: expected a status of protocol 1, got \"no_memory\""},
    {"{proto:1 id:77 status:'busy' retry_after_us:-5}", FC_BAD_REPLY, 77, "retry_after_us: expected a uint, got -5"},
    {"{proto:1 id:77 status:'busy' error:5}", FC_BAD_REPLY, 77, "error: expected text"},
    {"{proto:1 id:77 status:'busy' out:5 stats:6}", FC_OK, 77, ""},
    {OK(ANSWER TIMING), FC_OK, 77, ""},
    {OK("out:5"), FC_BAD_REPLY, 77, "out: expected a map, got 5"},
    {OK(ANSWER), FC_BAD_REPLY, 77, "timing: expected a map, got nothing"},
    {OK("out:" TENSOR " device:'d' " TIMING), FC_BAD_REPLY, 77, "kernel: expected text"},
    {OK("out:" TENSOR " kernel:'cpu' " TIMING), FC_BAD_REPLY, 77, "device: expected text"},
    {OK(ANSWER "timing:{queue_us:0}"), FC_BAD_REPLY, 77, "timing.copy_in_us: expected a finite number >= 0, got not"},
    {OK(ANSWER "timing:{queue_us:nan}"), FC_BAD_REPLY, 77, "timing.queue_us: expected a finite number >= 0, got "},
    {OK(ANSWER TIMING " lse:{dtype:'f32' shape:[1 1 2] data:b8}"), FC_OK, 77, ""},
    {OK(ANSWER TIMING " lse:{dtype:'f16' shape:[1 1 2] data:b4}"), FC_BAD_REPLY, 77,
     "lse.dtype: expected f32, got f16"},
    {OK(ANSWER TIMING " lse:{dtype:'f32' shape:[1 1 1 2] data:b8}"), FC_BAD_REPLY, 77, "lse.shape: expected 3 uints"},
    {OK("kernel:'cpu' device:'d' " TIMING " out:{dtype:'f16' shape:[1 1 2 8] arena:3}"), FC_BAD_REPLY, 77,
     "out.offset: "},
    {HELLO("{}"), FC_OK, 77, ""},
    {HELLO("{tokens:5 unknown:nil}"), FC_OK, 77, ""},
    {HELLO("{tokens:-5}"), FC_BAD_REPLY, 77, "limits.tokens: expected a uint, got -5"},
    {HELLO("5"), FC_BAD_REPLY, 77, "limits: expected a map, got 5"},
    {OK("server:'s'"), FC_BAD_REPLY, 77, "version: expected text of 1 to 95 bytes, got nothing"},
    {OK("server:'s' version:'1' kernels:[1]"), FC_BAD_REPLY, 77, "kernels: expected an array of text, got 1"},
    {OK("server:'s' version:'1' kernels:nil"), FC_BAD_REPLY, 77, "kernels: expected an array of text, got nil"},
    {OK("arena:3 bytes:4096"), FC_OK, 77, ""},
    {OK("arena:3 bytes:4096 uuid:b16"), FC_OK, 77, ""},
    {OK("arena:3 bytes:4096 uuid:b15"), FC_BAD_REPLY, 77, "uuid: expected bin of 16 bytes, got bin"},
    {OK("arena:3 bytes:4096 uuid:'GPU-0'"), FC_BAD_REPLY, 77, "uuid: expected bin of 16 bytes, got \"GPU-0\""},
    {OK("arena:3 uuid:b16"), FC_BAD_REPLY, 77, "bytes: expected a uint, got nothing"},
    {OK("stats:{a:1 b:0.5 c:-0.5}"), FC_OK, 77, ""},
    {OK("stats:{}"), FC_OK, 77, ""},
    {OK("stats:[]"), FC_BAD_REPLY, 77, "stats: expected a map, got an array"},
    {OK("stats:{a:nil}"), FC_BAD_REPLY, 77, "stats.a: expected a number, got nil"},
    {OK("") " " OK(""), FC_BAD_REPLY, 0, "message: 24 bytes follow the map"},
};

static void check_row(const refusal *row, fc_status st, uint64_t id, const char *reason)
{
    ck_assert_msg(st == row->status, "%s\n  gives %s (%s), expected %s", row->line, fc_status_name(st), reason,
                  fc_status_name(row->status));
    ck_assert_msg(id == row->id, "%s\n  gives id %llu", row->line, (unsigned long long)id);
    ck_assert_msg(strncmp(reason, row->reason, strlen(row->reason)) == 0, "%s\n  says \"%s\",\n  expected \"%s\"",
                  row->line, reason, row->reason);
    ck_assert_msg((reason[0] == '\0') == (st == FC_OK), "%s: \"%s\"", row->line, reason);
    for (const char *c = reason; *c != '\0'; c++)
        ck_assert_msg(*c >= ' ' && *c <= '~', "%s: unprintable reason", row->line);
}

START_TEST(requests_are_refused_in_these_words)
{
    const refusal *row = &REQUESTS[_i];
    uint8_t bytes[1024];
    fc_wire_request request;
    fc_reason reason = {""};
    size_t size = fc_notation_pack(row->line, bytes, sizeof bytes);
    fc_status st = fc_codec_decode_request(bytes, size, &request, &reason);
    check_row(row, st, request.id, reason.text);
    ck_assert_int_eq(fc_codec_decode_request(bytes, size, &request, NULL), st);
}
END_TEST

START_TEST(replies_are_refused_in_these_words)
{
    const refusal *row = &REPLIES[_i];
    uint8_t bytes[1024];
    fc_wire_reply reply;
    fc_reason reason = {""};
    size_t size = fc_notation_pack(row->line, bytes, sizeof bytes);
    fc_status st = fc_codec_decode_reply(bytes, size, &reply, &reason);
    check_row(row, st, reply.id, reason.text);
}
END_TEST

/* What was scanned before the break can be looked up, and nothing else is taken for a key. */
START_TEST(a_broken_scan_gives_what_came_before_the_break)
{
    static const fc_scan_rules RULES = {.item_max = 32, .failure = FC_INVALID_ARGUMENT};
    static fc_scan scan;
    uint8_t bytes[64];
    size_t size = fc_notation_pack("{*5 a:'b' c:[1 <c1 c0 c0 c0 c0 c0 c0 c0>]}", bytes, sizeof bytes);
    ck_assert_int_eq(fc_scan_message(bytes, size, &RULES, &scan, NULL), FC_INVALID_ARGUMENT);
    const fc_item *map = &scan.items[0], *a = fc_scan_find(&scan, map, "a");
    ck_assert_ptr_nonnull(a);
    ck_assert(fc_scan_text_is(a, "b"));
    ck_assert_ptr_nonnull(fc_scan_find(&scan, map, "c"));
    ck_assert_ptr_null(fc_scan_find(&scan, map, "b"));
    ck_assert_ptr_null(fc_scan_find(&scan, map, "d"));
}
END_TEST

/* {proto id op x:[nil ...]}: 8 items and the nils. */
static size_t pack_nils(unsigned count, uint8_t *bytes, size_t capacity)
{
    char line[4096] = "{proto:1 id:77 op:'ping' status:'ok' x:[";
    for (unsigned i = 0; i < count; i++)
        strcat(line, "nil ");
    strcat(line, "]}");
    return fc_notation_pack(line, bytes, capacity);
}

START_TEST(values_are_counted)
{
    enum { FRAME = 1 + 5 * 2 };
    uint8_t bytes[2048];
    fc_wire_request request;
    fc_wire_reply reply;
    size_t size = pack_nils(FC_SCAN_REQUEST_ITEMS - FRAME, bytes, sizeof bytes);
    ck_assert_int_eq(fc_codec_decode_request(bytes, size, &request, NULL), FC_OK);
    size = pack_nils(FC_SCAN_REQUEST_ITEMS - FRAME + 1, bytes, sizeof bytes);
    ck_assert_int_eq(fc_codec_decode_request(bytes, size, &request, NULL), FC_INVALID_ARGUMENT);
    ck_assert_uint_eq(request.id, 77);
    size = pack_nils(FC_SCAN_REPLY_ITEMS - FRAME, bytes, sizeof bytes);
    ck_assert_int_eq(fc_codec_decode_reply(bytes, size, &reply, NULL), FC_OK);
    size = pack_nils(FC_SCAN_REPLY_ITEMS - FRAME + 1, bytes, sizeof bytes);
    ck_assert_int_eq(fc_codec_decode_reply(bytes, size, &reply, NULL), FC_BAD_REPLY);
}
END_TEST

/* A request of so many batch entries, with kv_len in a 32-bit array of 1-byte entries. */
static size_t pack_kv_len(uint32_t count, uint8_t *bytes, size_t capacity)
{
    char line[512];
    snprintf(line, sizeof line,
             "<87 a5 70 72 6f 74 6f 01 a2 69 64 4d a2 6f 70 a6 61 74 74 65 6e 64"
             " a1 71> {dtype:'f16' shape:[%u 1 0 8] data:b0} <a1 6b> " TENSOR " <a1 76> " TENSOR
             " <a6 6b 76 5f 6c 65 6e dd %02x %02x %02x %02x>",
             count, count >> 24, count >> 16 & 0xff, count >> 8 & 0xff, count & 0xff);
    size_t size = fc_notation_pack(line, bytes, capacity);
    ck_assert_uint_le(size + count, capacity);
    memset(bytes + size, 5, count);
    return size + count;
}

START_TEST(kv_len_has_its_own_limit)
{
    static uint8_t bytes[70000];
    static uint32_t kv_len[FC_SCAN_LIST_MAX];
    fc_wire_request request;
    fc_reason reason = {""};
    size_t size = pack_kv_len(FC_SCAN_LIST_MAX, bytes, sizeof bytes);
    ck_assert_msg(fc_codec_decode_request(bytes, size, &request, &reason) == FC_OK, "%s", reason.text);
    ck_assert_uint_eq(request.attend.kv_len_count, FC_SCAN_LIST_MAX);
    ck_assert_uint_eq(request.attend.kv_len_size_bytes, FC_SCAN_LIST_MAX);
    fc_codec_kv_len(&request.attend, kv_len);
    for (uint32_t i = 0; i < FC_SCAN_LIST_MAX; i++)
        ck_assert_uint_eq(kv_len[i], 5);
    size = pack_kv_len(FC_SCAN_LIST_MAX + 1, bytes, sizeof bytes);
    ck_assert_int_eq(fc_codec_decode_request(bytes, size, &request, &reason), FC_INVALID_ARGUMENT);
    ck_assert_str_eq(reason.text, "kv_len: expected at most 65536 entries, got 65537");
    ck_assert_uint_eq(request.id, 77);
}
END_TEST

START_TEST(more_names_and_counters_than_there_is_room_for_are_left_out)
{
    char line[8192] = "{proto:1 id:77 status:'ok' stats:{";
    uint8_t bytes[8192];
    fc_wire_reply reply;
    for (int i = 0; i < FC_COUNTER_MAX + 9; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "n%d:%d ", i, i);
    strcat(line, "}}");
    size_t size = fc_notation_pack(line, bytes, sizeof bytes);
    ck_assert_int_eq(fc_codec_decode_reply(bytes, size, &reply, NULL), FC_OK);
    ck_assert_uint_eq(reply.stats.counter_count, FC_COUNTER_MAX);
    ck_assert(reply.stats.counters[FC_COUNTER_MAX - 1].value == FC_COUNTER_MAX - 1);

    strcpy(line, "{proto:1 id:77 status:'ok' server:'s' version:'1' default_kernel:'k' device:'d' limits:{} features:["
                 "] kernels:[");
    for (int i = 0; i < FC_NAME_LIST_MAX + 9; i++)
        strcat(line, "'k' ");
    strcat(line, "]}");
    size = fc_notation_pack(line, bytes, sizeof bytes);
    ck_assert_int_eq(fc_codec_decode_reply(bytes, size, &reply, NULL), FC_OK);
    ck_assert_uint_eq(reply.hello.kernel_count, FC_NAME_LIST_MAX);
}
END_TEST

START_TEST(keys_are_told_apart_however_many_there_are)
{
    enum { KEYS = 100 };
    char line[2048] = "{";
    uint8_t bytes[2048];
    fc_wire_request request;
    fc_reason reason;
    for (int i = 0; i < KEYS; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "k%02d:0 ", i);
    strcat(line, "proto:1 id:77 op:'ping'");
    size_t bare = strlen(line);
    strcat(line, "}");
    size_t size = fc_notation_pack(line, bytes, sizeof bytes);
    ck_assert_int_eq(fc_codec_decode_request(bytes, size, &request, &reason), FC_OK);
    ck_assert_uint_eq(request.id, 77);
    for (int i = 0; i < KEYS; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "message: key \"k%02d\" appears twice", i);
        snprintf(line + bare, sizeof line - bare, " k%02d:0}", i);
        size = fc_notation_pack(line, bytes, sizeof bytes);
        ck_assert_int_eq(fc_codec_decode_request(bytes, size, &request, &reason), FC_INVALID_ARGUMENT);
        ck_assert_str_eq(reason.text, wanted);
    }
}
END_TEST

/* A client tells by it whose reply it was that it cannot read: never somebody else's. */
START_TEST(an_id_is_told_only_where_there_is_one)
{
    static const struct {
        const char *line;
        uint64_t id; /* 0: none */
    } rows[] = {
        {"{proto:1 id:77 status:'ok'}", 77}, {"{id:77}", 77},         {"{proto:1 id:77 out:{dtype:'f99'}}", 77},
        {"{proto:1 status:'ok'}", 0},        {"{proto:1 id:-77}", 0}, {"{proto:1 id:'77'}", 0},
        {"{proto:1 out:{id:77}}", 0},        {"{id:77 id:78}", 0},    {"[77]", 0},
    };
    uint8_t bytes[256];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t id = 0;
        size_t size = fc_notation_pack(rows[i].line, bytes, sizeof bytes);
        ck_assert_msg(fc_codec_reply_id(bytes, size, &id) == (rows[i].id != 0), "%s", rows[i].line);
        ck_assert_msg(id == rows[i].id, "%s: %llu", rows[i].line, (unsigned long long)id);
        for (size_t cut = 0; cut < size; cut++)
            ck_assert_msg(!fc_codec_reply_id(bytes, cut, &id), "%s, %zu bytes of it", rows[i].line, cut);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codec_refusals");
    TCase *rows = tcase_create("rows");
    tcase_add_loop_test(rows, requests_are_refused_in_these_words, 0, sizeof REQUESTS / sizeof REQUESTS[0]);
    tcase_add_loop_test(rows, replies_are_refused_in_these_words, 0, sizeof REPLIES / sizeof REPLIES[0]);
    tcase_add_test(rows, a_broken_scan_gives_what_came_before_the_break);
    tcase_add_test(rows, values_are_counted);
    tcase_add_test(rows, kv_len_has_its_own_limit);
    tcase_add_test(rows, more_names_and_counters_than_there_is_room_for_are_left_out);
    tcase_add_test(rows, keys_are_told_apart_however_many_there_are);
    tcase_add_test(rows, an_id_is_told_only_where_there_is_one);
    suite_add_tcase(suite, rows);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
