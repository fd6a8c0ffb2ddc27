/* proto/PROTOCOL.md says what the code does: its words are the code's words, its worked messages decode to what it
 * says of them and are what the encoder writes, byte for byte. */
#include "daemon/options.h"
#include "kernels/reference.h"
#include "proto/codec.h"
#include "tests/support/golden.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROTOCOL "proto/PROTOCOL.md"

static bool same_text(fc_wire_text a, fc_wire_text b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.text, b.text, a.bytes) == 0);
}

/* --- the words ---------------------------------------------------------------------------------------------------- */

static const char *const ROWS[] = {
#define OP_ROW(symbol, name, note) "| `" name "` | " note " |",
#define DTYPE_ROW(symbol, name, note) "| `" name "` | " #note " | ",
#define CAUSAL_ROW(symbol, name, note) " | " note " |",
#define NAME_ROW(symbol, name, note) "| `" name "` | ",
#define STATUS_ROW(symbol, name, note) "| `" name "` | " note " | ",
#define LIMIT_ROW(field) "| `" #field "` | ",
#define FC_OP_WORD OP_ROW
#define FC_LAYOUT_WORD OP_ROW
#define FC_ARENA_WORD OP_ROW
#define FC_DTYPE_WORD DTYPE_ROW
#define FC_CAUSAL_WORD CAUSAL_ROW
#define FC_WIRE_STATUS STATUS_ROW
#include "proto/status.def"
#include "proto/vocab.def"
#undef FC_CAUSAL_WORD
#define FC_CAUSAL_WORD NAME_ROW
#undef FC_OP_WORD
#undef FC_LAYOUT_WORD
#undef FC_ARENA_WORD
#undef FC_DTYPE_WORD
#include "proto/vocab.def"
    FC_WIRE_LIMITS(LIMIT_ROW) FC_WIRE_ARENA_LIMITS(LIMIT_ROW) FC_WIRE_DEVICE_ARENA_LIMITS(LIMIT_ROW)};

START_TEST(every_word_stands_in_the_protocol)
{
    char *protocol = fc_golden_read_file(PROTOCOL);
    size_t row_count = sizeof ROWS / sizeof ROWS[0];
    ck_assert_uint_ge(row_count, 11 + FC_OP_COUNT + FC_DTYPE_COUNT + FC_LAYOUT_COUNT + 2 * FC_CAUSAL_COUNT + 8);
    for (size_t i = 0; i < row_count; i++)
        ck_assert_msg(strstr(protocol, ROWS[i]) != NULL, "%s has no row \"%s\"", PROTOCOL, ROWS[i]);
    free(protocol);
}
END_TEST

START_TEST(the_limits_have_the_defaults_stated)
{
    static fc_options options;
    char *protocol = fc_golden_read_file(PROTOCOL);
    fc_options_defaults(&options);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"message_bytes", options.message_bytes},
        {"tensor_bytes", options.tensor_bytes},
        {"tokens", options.tokens},
        {"head_dim", FC_HEAD_DIM_MAX},
        {"batch_entries", options.batch_entries},
        {"queue_requests", options.queue_requests},
        {"queue_bytes", options.queue_bytes},
        {"inflight_per_peer", options.inflight_per_peer},
        {"arena_bytes", options.arena_bytes},
        {"arena_bytes_per_peer", options.arena_bytes_per_peer},
        {"device_arena_bytes", options.device_arena_bytes},
        {"device_arena_bytes_per_peer", options.device_arena_bytes_per_peer},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char row[96];
        snprintf(row, sizeof row, "| `%s` | %llu ", rows[i].name, (unsigned long long)rows[i].value);
        ck_assert_msg(strstr(protocol, row) != NULL, "%s has no row \"%s\"", PROTOCOL, row);
    }
    free(protocol);
}
END_TEST

/* --- the blocks --------------------------------------------------------------------------------------------------- */

START_TEST(every_block_is_the_frozen_one)
{
    static fc_golden goldens[FC_GOLDEN_MAX];
    char *protocol = fc_golden_read_file(PROTOCOL);
    size_t block_count = 0, golden_count = fc_golden_load_all(goldens);
    for (char *at = protocol; (at = strstr(at, "```hex\n# ")) != NULL; block_count++) {
        char name[64], path[128];
        char *block = at + strlen("```hex\n"), *end = strstr(block, "```");
        ck_assert_ptr_nonnull(end);
        ck_assert_int_eq(sscanf(block, "# %63[^:]", name), 1);
        snprintf(path, sizeof path, "tests/golden/%s.hex", name);
        char *frozen = fc_golden_read_file(path);
        ck_assert_msg(strlen(frozen) == (size_t)(end - block) && memcmp(frozen, block, strlen(frozen)) == 0,
                      "%s and %s differ", path, PROTOCOL);
        free(frozen);
        at = end;
    }
    ck_assert_uint_eq(block_count, golden_count + 2); /* and two transcripts */
    free(protocol);
}
END_TEST

/* The transcript is greeting, frame type, length, request number and the golden message. */
START_TEST(the_transcripts_are_frames_of_golden_messages)
{
    static const char *const NAMES[] = {"ping-request", "ping-reply"};
    static const uint8_t GREETINGS[2][8] = {{0, 'S', 'P', 0, 0, 0x30, 0, 0}, {0, 'S', 'P', 0, 0, 0x31, 0, 0}};
    for (int i = 0; i < 2; i++) {
        char name[64];
        fc_golden wire, message;
        snprintf(name, sizeof name, "wire-%s", NAMES[i]);
        fc_golden_load(name, &wire);
        fc_golden_load(NAMES[i], &message);
        ck_assert_uint_eq(wire.size, 8 + 1 + 8 + 4 + message.size);
        ck_assert_mem_eq(wire.bytes, GREETINGS[i], 8);
        ck_assert_uint_eq(wire.bytes[8], 1);
        ck_assert_uint_eq(wire.bytes[16], 4 + message.size);
        ck_assert_uint_eq(wire.bytes[17] & 0x80, 0x80);
        ck_assert_mem_eq(wire.bytes + 21, message.bytes, message.size);
    }
}
END_TEST

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* Element data, little-endian as on the machines this is built for. */
static const float ZEROS_F32[8], ONES_F32[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
static const float V_F32[16] = {1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3};
static const float OUT_F32[8] = {2, 2, 2, 2, 2, 2, 2, 2};
static uint16_t zeros_f16[32], halves_f16[32], v_f16[32], out_f16[32];
static const uint32_t KV_LEN[2] = {2, 1};

static void fill_f16(void)
{
    static const uint16_t V[4] = {0x3c00, 0x4200, 0x4500, 0x4700}; /* 1 3 5 7 */
    for (int i = 0; i < 32; i++) {
        halves_f16[i] = 0x3800;
        v_f16[i] = V[i / 8];
        out_f16[i] = i < 16 ? 0x4000 : 0x4500; /* 2 and 5 */
    }
}

static fc_wire_tensor tensor_f32(uint64_t tokens, const float *data)
{
    return (fc_wire_tensor){
        FC_F32, 4, {1, 1, tokens, 8}, (const uint8_t *)data, tokens * 8 * 4, .place = {.is_set = false}};
}

static fc_wire_tensor tensor_f16(uint64_t tokens, uint64_t heads, const uint16_t *data)
{
    return (fc_wire_tensor){FC_F16,
                            4,
                            {2, tokens, heads, 8},
                            (const uint8_t *)data,
                            2 * tokens * heads * 8 * 2,
                            .place = {.is_set = false}};
}

static fc_wire_attend least_attend(void)
{
    return (fc_wire_attend){.q = tensor_f32(1, ZEROS_F32),
                            .k = tensor_f32(2, ONES_F32),
                            .v = tensor_f32(2, V_F32),
                            .window_left = -1,
                            .window_right = -1};
}

static fc_wire_attend every_key_attend(void)
{
    return (fc_wire_attend){.q = tensor_f16(1, 2, zeros_f16),
                            .k = tensor_f16(2, 1, halves_f16),
                            .v = tensor_f16(2, 1, v_f16),
                            .layout = FC_BSHD,
                            .causal = FC_CAUSAL_BOTTOM_RIGHT,
                            .window_left = 1,
                            .window_right = -1,
                            .has_scale = true,
                            .scale = 0.125f,
                            .softcap = 30,
                            .has_kv_len = true,
                            .kv_len_count = 2,
                            .kernel = fc_wire_text_make("cpu"),
                            .wants_lse = true,
                            .deadline_us = 250000};
}

static const uint64_t ARENA = 7640891576956012808u;

static fc_wire_attend arena_attend(void)
{
    fc_wire_attend attend = {.window_left = -1, .window_right = -1, .out_at = {true, ARENA, 1572864}};
    fc_wire_tensor *tensors[] = {&attend.q, &attend.k, &attend.v};
    for (uint64_t i = 0; i < 3; i++)
        *tensors[i] = (fc_wire_tensor){FC_F16, 4, {1, 8, 512, 64}, NULL, 524288, .place = {true, ARENA, i * 524288}};
    return attend;
}

typedef struct request_row {
    const char *name;
    fc_wire_request request;
    bool is_canonical;
} request_row;

#define REQUESTS_MAX 16

static size_t make_requests(request_row rows[REQUESTS_MAX])
{
    size_t count = 0;
    rows[count++] = (request_row){"hello-request", {.id = 1, .op = FC_OP_HELLO}, true};
    rows[count++] = (request_row){"ping-request", {.id = 7, .op = FC_OP_PING}, true};
    rows[count++] = (request_row){"attend-request", {.id = 2, .op = FC_OP_ATTEND, .attend = least_attend()}, true};
    rows[count] = (request_row){"attend-request-foreign", {.id = 2, .op = FC_OP_ATTEND}, false};
    rows[count].request.attend = least_attend();
    rows[count].request.attend.has_scale = true;
    rows[count].request.attend.scale = 0.125f;
    rows[count].request.attend.has_kv_len = true;
    rows[count++].request.attend.kv_len_count = 1;
    rows[count++] = (request_row){
        "attend-every-key-request", {.id = 4294967299, .op = FC_OP_ATTEND, .attend = every_key_attend()}, true};
    rows[count++] = (request_row){"cancel-request", {.id = 3, .op = FC_OP_CANCEL, .cancel_target = 2}, true};
    rows[count++] = (request_row){"stats-request", {.id = 9, .op = FC_OP_STATS}, true};
    rows[count++] =
        (request_row){"arena-create-request",
                      {.id = 10, .op = FC_OP_ARENA_CREATE, .arena_bytes = 4000000, .arena_kind = FC_ARENA_DEVICE},
                      true};
    rows[count++] =
        (request_row){"attend-arena-request", {.id = 11, .op = FC_OP_ATTEND, .attend = arena_attend()}, true};
    rows[count++] = (request_row){"arena-destroy-request", {.id = 12, .op = FC_OP_ARENA_DESTROY, .arena = ARENA}, true};
    rows[count++] = (request_row){"drain-request", {.id = 1, .op = FC_OP_DRAIN}, true};
    rows[count++] =
        (request_row){"log-level-request", {.id = 2, .op = FC_OP_LOG_LEVEL, .word = fc_wire_text_make("debug")}, true};
    rows[count++] = (request_row){
        "default-kernel-request", {.id = 3, .op = FC_OP_DEFAULT_KERNEL, .word = fc_wire_text_make("fused")}, true};
    return count;
}

static void assert_same_place(const fc_wire_place *got, const fc_wire_place *want)
{
    ck_assert_int_eq(got->is_set, want->is_set);
    if (want->is_set)
        ck_assert(got->arena == want->arena && got->offset == want->offset);
}

static void assert_same_tensor(const fc_wire_tensor *got, const fc_wire_tensor *want)
{
    ck_assert_int_eq(got->dtype, want->dtype);
    ck_assert_uint_eq(got->rank, want->rank);
    ck_assert_mem_eq(got->shape, want->shape, got->rank * sizeof got->shape[0]);
    ck_assert_uint_eq(got->data_bytes, want->data_bytes);
    assert_same_place(&got->place, &want->place);
    if (!want->place.is_set)
        ck_assert_mem_eq(got->data, want->data, got->data_bytes);
}

static void assert_same_attend(const fc_wire_attend *got, const fc_wire_attend *want)
{
    assert_same_tensor(&got->q, &want->q);
    assert_same_tensor(&got->k, &want->k);
    assert_same_tensor(&got->v, &want->v);
    ck_assert_int_eq(got->layout, want->layout);
    ck_assert_int_eq(got->causal, want->causal);
    ck_assert_int_eq(got->window_left, want->window_left);
    ck_assert_int_eq(got->window_right, want->window_right);
    ck_assert_int_eq(got->has_scale, want->has_scale);
    ck_assert(got->scale == want->scale && got->softcap == want->softcap);
    ck_assert_int_eq(got->has_kv_len, want->has_kv_len);
    ck_assert_uint_eq(got->kv_len_count, want->kv_len_count);
    if (got->has_kv_len) {
        uint32_t kv_len[2];
        fc_codec_kv_len(got, kv_len);
        ck_assert_mem_eq(kv_len, KV_LEN, got->kv_len_count * sizeof kv_len[0]);
    }
    ck_assert(same_text(got->kernel, want->kernel));
    ck_assert_int_eq(got->wants_lse, want->wants_lse);
    assert_same_place(&got->out_at, &want->out_at);
    assert_same_place(&got->lse_at, &want->lse_at);
    ck_assert_uint_eq(got->deadline_us, want->deadline_us);
}

START_TEST(golden_requests_say_what_they_are_said_to)
{
    request_row rows[REQUESTS_MAX];
    size_t count = make_requests(rows);
    for (size_t i = 0; i < count; i++) {
        fc_golden golden;
        fc_wire_request got;
        fc_reason reason = {""};
        uint8_t buffer[FC_GOLDEN_BYTES];
        size_t size = 0;
        fc_golden_load(rows[i].name, &golden);
        ck_assert_msg(fc_codec_decode_request(golden.bytes, golden.size, &got, &reason) == FC_OK, "%s: %s",
                      rows[i].name, reason.text);
        ck_assert_uint_eq(got.id, rows[i].request.id);
        ck_assert_int_eq(got.op, rows[i].request.op);
        ck_assert_uint_eq(got.cancel_target, rows[i].request.cancel_target);
        ck_assert_uint_eq(got.arena_bytes, rows[i].request.arena_bytes);
        ck_assert_int_eq(got.arena_kind, rows[i].request.arena_kind);
        ck_assert_uint_eq(got.arena, rows[i].request.arena);
        ck_assert(same_text(got.word, rows[i].request.word));
        if (got.op == FC_OP_ATTEND)
            assert_same_attend(&got.attend, &rows[i].request.attend);
        if (!rows[i].is_canonical)
            continue;
        ck_assert_int_eq(fc_codec_encode_request(&rows[i].request, KV_LEN, buffer, sizeof buffer, &size), FC_OK);
        ck_assert_msg(size == golden.size && memcmp(buffer, golden.bytes, size) == 0,
                      "%s: the encoder writes other bytes", rows[i].name);
    }
}
END_TEST

/* --- replies ------------------------------------------------------------------------------------------------------ */

static fc_wire_reply hello_reply(void)
{
    fc_wire_reply reply = {.id = 1, .body = FC_BODY_HELLO};
    reply.hello = (fc_wire_hello){
        .server = fc_wire_text_make("flashcored"),
        .version = fc_wire_text_make("0.1.0"),
        .default_kernel = fc_wire_text_make("cpu"),
        .device = fc_wire_text_make("cpu: 2 threads"),
        .kernel_count = 1,
        .kernels = {fc_wire_text_make("cpu")},
        .feature_count = 1,
        .features = {fc_wire_text_make("inline")},
        .limits = {.message_bytes = 268435456,
                   .tensor_bytes = 33554432,
                   .tokens = 1048576,
                   .head_dim = 256,
                   .batch_entries = 4096,
                   .queue_requests = 256,
                   .queue_bytes = 1073741824,
                   .inflight_per_peer = 256},
    };
    return reply;
}

static const float LSE_F32[4] = {0.6931472f, 0.6931472f, 0, 0};

static fc_wire_reply least_attend_reply(void)
{
    fc_wire_reply reply = {.id = 2, .body = FC_BODY_ATTEND};
    reply.attend.out = tensor_f32(1, OUT_F32);
    reply.attend.kernel = fc_wire_text_make("cpu");
    reply.attend.device = fc_wire_text_make("cpu: 2 threads");
    reply.attend.timing = (fc_wire_timing){12.5, 0, 48.25, 0, 75, 1};
    return reply;
}

static fc_wire_reply every_key_reply(void)
{
    fc_wire_reply reply = least_attend_reply();
    reply.id = 4294967299;
    reply.attend.out = tensor_f16(1, 2, out_f16);
    reply.attend.has_lse = true;
    reply.attend.lse =
        (fc_wire_tensor){FC_F32, 3, {2, 2, 1, 0}, (const uint8_t *)LSE_F32, sizeof LSE_F32, .place = {.is_set = false}};
    reply.attend.timing = (fc_wire_timing){1.5, 2.25, 30.5, 0.75, 40, 2};
    return reply;
}

static fc_wire_reply stats_reply(void)
{
    fc_wire_reply reply = {.id = 9, .body = FC_BODY_STATS};
    reply.stats.counter_count = 4;
    reply.stats.counters[0] = (fc_wire_counter){fc_wire_text_make("uptime_s"), 3.5};
    reply.stats.counters[1] = (fc_wire_counter){fc_wire_text_make("requests_attend"), 1000};
    reply.stats.counters[2] = (fc_wire_counter){fc_wire_text_make("queue_us"), 70000};
    reply.stats.counters[3] = (fc_wire_counter){fc_wire_text_make("queued"), 0};
    return reply;
}

static fc_wire_reply arena_reply(void)
{
    fc_wire_reply reply = {.id = 10, .body = FC_BODY_ARENA};
    reply.arena.id = ARENA;
    reply.arena.bytes = 4194304;
    reply.arena.is_device = true;
    memcpy(reply.arena.uuid, "\x0f\x8f\xad\x5b\xd9\xcb\x46\x9f\xa1\x65\x70\x86\x77\x28\x95\x0e", FC_UUID_BYTES);
    return reply;
}

typedef struct reply_row {
    const char *name;
    fc_wire_reply reply;
} reply_row;

static size_t make_replies(reply_row rows[16])
{
    size_t count = 0;
    rows[count++] = (reply_row){"hello-reply", hello_reply()};
    rows[count++] = (reply_row){"ping-reply", {.id = 7}};
    rows[count++] = (reply_row){"attend-reply", least_attend_reply()};
    rows[count++] = (reply_row){"attend-every-key-reply", every_key_reply()};
    rows[count++] = (reply_row){"cancel-reply", {.id = 3}};
    rows[count++] = (reply_row){
        "cancelled-reply", {.id = 2, .status = FC_CANCELLED, .error = fc_wire_text_make("taken back by the caller")}};
    rows[count++] = (reply_row){"stats-reply", stats_reply()};
    rows[count++] = (reply_row){"arena-create-reply", arena_reply()};
    rows[count++] = (reply_row){"busy-reply",
                                {.id = 2,
                                 .status = FC_BUSY,
                                 .error = fc_wire_text_make("256 requests are waiting already"),
                                 .retry_after_us = 1500}};
    rows[count++] = (reply_row){
        "refused-reply",
        {.id = 2, .status = FC_INVALID_ARGUMENT, .error = fc_wire_text_make("q.data: expected 32 bytes, got 31")}};
    return count;
}

static void assert_same_attend_reply(const fc_wire_reply *got, const fc_wire_reply *want)
{
    assert_same_tensor(&got->attend.out, &want->attend.out);
    ck_assert_int_eq(got->attend.has_lse, want->attend.has_lse);
    if (want->attend.has_lse)
        assert_same_tensor(&got->attend.lse, &want->attend.lse);
    ck_assert(same_text(got->attend.kernel, want->attend.kernel));
    ck_assert(same_text(got->attend.device, want->attend.device));
    const fc_wire_timing *a = &got->attend.timing, *b = &want->attend.timing;
    ck_assert(a->queue_us == b->queue_us && a->copy_in_us == b->copy_in_us && a->kernel_us == b->kernel_us);
    ck_assert(a->copy_out_us == b->copy_out_us && a->total_us == b->total_us && a->batch == b->batch);
}

static void assert_same_hello(const fc_wire_hello *got, const fc_wire_hello *want)
{
    ck_assert(same_text(got->server, want->server) && same_text(got->version, want->version));
    ck_assert(same_text(got->default_kernel, want->default_kernel) && same_text(got->device, want->device));
    ck_assert_uint_eq(got->kernel_count, 1);
    ck_assert(same_text(got->kernels[0], want->kernels[0]));
    ck_assert_uint_eq(got->feature_count, 1);
    ck_assert(same_text(got->features[0], want->features[0]));
    ck_assert_mem_eq(&got->limits, &want->limits, sizeof got->limits);
}

static void assert_same_stats(const fc_wire_stats *got, const fc_wire_stats *want)
{
    ck_assert_uint_eq(got->counter_count, want->counter_count);
    for (uint32_t i = 0; i < want->counter_count; i++) {
        ck_assert(same_text(got->counters[i].name, want->counters[i].name));
        ck_assert(got->counters[i].value == want->counters[i].value);
    }
}

START_TEST(golden_replies_say_what_they_are_said_to)
{
    static reply_row rows[16];
    size_t count = make_replies(rows);
    for (size_t i = 0; i < count; i++) {
        const fc_wire_reply *want = &rows[i].reply;
        fc_golden golden;
        fc_wire_reply got;
        fc_reason reason = {""};
        uint8_t buffer[FC_GOLDEN_BYTES];
        size_t size = 0;
        fc_golden_load(rows[i].name, &golden);
        ck_assert_msg(fc_codec_decode_reply(golden.bytes, golden.size, &got, &reason) == FC_OK, "%s: %s", rows[i].name,
                      reason.text);
        ck_assert_uint_eq(got.id, want->id);
        ck_assert_int_eq(got.status, want->status);
        ck_assert(same_text(got.error, want->error));
        ck_assert_uint_eq(got.retry_after_us, want->retry_after_us);
        ck_assert_int_eq(got.body, want->body);
        if (got.body == FC_BODY_ATTEND)
            assert_same_attend_reply(&got, want);
        if (got.body == FC_BODY_HELLO)
            assert_same_hello(&got.hello, &want->hello);
        if (got.body == FC_BODY_ARENA)
            ck_assert_mem_eq(&got.arena, &want->arena, sizeof got.arena);
        if (got.body == FC_BODY_STATS)
            assert_same_stats(&got.stats, &want->stats);
        ck_assert_int_eq(fc_codec_encode_reply(want, buffer, sizeof buffer, &size), FC_OK);
        ck_assert_msg(size == golden.size && memcmp(buffer, golden.bytes, size) == 0,
                      "%s: the encoder writes other bytes", rows[i].name);
    }
}
END_TEST

START_TEST(every_golden_message_is_checked_above)
{
    static fc_golden goldens[FC_GOLDEN_MAX];
    static reply_row replies[16];
    request_row requests[REQUESTS_MAX];
    ck_assert_uint_eq(make_requests(requests) + make_replies(replies), fc_golden_load_all(goldens));
}
END_TEST

/* --- and the answers are right ------------------------------------------------------------------------------------ */

static void assert_answer(const char *request_name, const char *reply_name)
{
    fc_golden request_bytes, reply_bytes;
    fc_wire_request request;
    fc_wire_reply reply;
    fc_golden_load(request_name, &request_bytes);
    fc_golden_load(reply_name, &reply_bytes);
    ck_assert_int_eq(fc_codec_decode_request(request_bytes.bytes, request_bytes.size, &request, NULL), FC_OK);
    ck_assert_int_eq(fc_codec_decode_reply(reply_bytes.bytes, reply_bytes.size, &reply, NULL), FC_OK);
    const fc_wire_attend *a = &request.attend;
    int heads_at = a->layout == FC_BSHD ? 2 : 1, tokens_at = 3 - heads_at;
    fc_problem problem = {
        .dtype = a->q.dtype,
        .causal = a->causal,
        .batch = (int32_t)a->q.shape[0],
        .q_heads = (int32_t)a->q.shape[heads_at],
        .kv_heads = (int32_t)a->k.shape[heads_at],
        .q_len = (int32_t)a->q.shape[tokens_at],
        .kv_len = (int32_t)a->k.shape[tokens_at],
        .head_dim = (int32_t)a->q.shape[3],
        .kv_lens = a->has_kv_len ? KV_LEN : NULL,
        .window_left = a->window_left,
        .window_right = a->window_right,
        .scale = a->has_scale ? a->scale : 1 / sqrtf((float)a->q.shape[3]),
        .softcap = a->softcap,
    };
    fc_strides q = fc_strides_contiguous(a->layout, problem.q_heads, problem.q_len, problem.head_dim);
    fc_strides kv = fc_strides_contiguous(a->layout, problem.kv_heads, problem.kv_len, problem.head_dim);
    fc_tensors tensors = {.q = a->q.data, .k = a->k.data, .v = a->v.data, .q_strides = q, .k_strides = kv};
    tensors.v_strides = kv;
    fc_reason reason = {""};
    /* lse is copied: the reference wants it aligned. */
    float lse[4];
    if (reply.attend.has_lse)
        memcpy(lse, reply.attend.lse.data, sizeof lse);
    ck_assert_msg(fc_reference_verify(&problem, &tensors, reply.attend.out.data, q, reply.attend.has_lse ? lse : NULL,
                                      &reason) == FC_OK,
                  "%s: %s", reply_name, reason.text);
}

START_TEST(golden_answers_are_right)
{
    assert_answer("attend-request", "attend-reply");
    assert_answer("attend-request-foreign", "attend-reply");
    assert_answer("attend-every-key-request", "attend-every-key-reply");
}
END_TEST

int main(void)
{
    fill_f16();
    Suite *suite = suite_create("codec_protocol");
    TCase *protocol = tcase_create("protocol");
    tcase_add_test(protocol, every_word_stands_in_the_protocol);
    tcase_add_test(protocol, the_limits_have_the_defaults_stated);
    tcase_add_test(protocol, every_block_is_the_frozen_one);
    tcase_add_test(protocol, the_transcripts_are_frames_of_golden_messages);
    tcase_add_test(protocol, golden_requests_say_what_they_are_said_to);
    tcase_add_test(protocol, golden_replies_say_what_they_are_said_to);
    tcase_add_test(protocol, every_golden_message_is_checked_above);
    tcase_add_test(protocol, golden_answers_are_right);
    suite_add_tcase(suite, protocol);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
