/* proto/codec: what goes in comes out, no payload is copied, nothing is allocated, and no bytes whatever are read past
 * the message. The Makefile links this program with malloc wrapped. */
#include "proto/codec.h"
#include "tests/support/golden.h"
#include "tests/support/notation.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- allocations, counted and refused while armed ---------------------------------------------------------------- */

/* volatile: gcc knows that malloc() reads no variables, but not that this one does. */
static volatile bool is_armed;
static volatile size_t asked_count;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    asked_count += is_armed;
    return is_armed ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    asked_count += is_armed;
    return is_armed ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    asked_count += is_armed;
    return is_armed ? NULL : __real_realloc(memory, bytes);
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

static const uint8_t DATA[2 * 2 * 3 * 8 * 2] = {1, 2, 3};
static const uint32_t KV_LEN[2] = {3, 70000};

static fc_wire_request full_request(void)
{
    fc_wire_tensor tensor = {FC_F16, 4, {2, 2, 3, 8}, DATA, sizeof DATA, .place = {.is_set = false}};
    fc_wire_request request = {.id = UINT64_MAX, .op = FC_OP_ATTEND};
    request.attend = (fc_wire_attend){
        .q = tensor,
        .k = tensor,
        .v = tensor,
        .layout = FC_BSHD,
        .causal = FC_CAUSAL_BOTTOM_RIGHT,
        .window_left = 5,
        .window_right = -1,
        .has_scale = true,
        .scale = 0.125f,
        .softcap = 30,
        .has_kv_len = true,
        .kv_len_count = 2,
        .kernel = fc_wire_text_make("cpu"),
        .wants_lse = true,
        .deadline_us = 123456789,
    };
    return request;
}

static fc_wire_reply attend_reply(void)
{
    fc_wire_reply reply = {.id = 7, .status = FC_OK, .body = FC_BODY_ATTEND};
    reply.attend.out = (fc_wire_tensor){FC_F16, 4, {2, 2, 3, 8}, DATA, sizeof DATA, .place = {.is_set = false}};
    reply.attend.has_lse = true;
    reply.attend.lse = (fc_wire_tensor){FC_F32, 3, {2, 2, 3, 0}, DATA, 48, .place = {.is_set = false}};
    reply.attend.kernel = fc_wire_text_make("vec");
    reply.attend.device = fc_wire_text_make("a device");
    reply.attend.timing = (fc_wire_timing){1.5, 2.5, 3.5, 4.5, 12.5, 300};
    return reply;
}

static bool lies_inside(const void *part, size_t part_bytes, const void *whole, size_t whole_bytes)
{
    return (const uint8_t *)part >= (const uint8_t *)whole &&
           (const uint8_t *)part + part_bytes <= (const uint8_t *)whole + whole_bytes;
}

START_TEST(arenas_survive)
{
    uint8_t buffer[256];
    size_t size = 0;
    for (int kind = 0; kind < FC_ARENA_KIND_COUNT; kind++) {
        fc_wire_request asked, request = {.id = 1, .op = FC_OP_ARENA_CREATE, .arena_bytes = 1ull << 33};
        fc_wire_reply got, reply = {.id = 1, .body = FC_BODY_ARENA};
        request.arena_kind = (fc_arena_kind)kind;
        reply.arena.id = 5;
        reply.arena.bytes = 1 << 21;
        reply.arena.is_device = kind == FC_ARENA_DEVICE;
        for (uint8_t i = 0; reply.arena.is_device && i < FC_UUID_BYTES; i++)
            reply.arena.uuid[i] = (uint8_t)(200 + i);
        ck_assert_int_eq(fc_codec_encode_request(&request, NULL, buffer, sizeof buffer, &size), FC_OK);
        ck_assert_int_eq(fc_codec_decode_request(buffer, size, &asked, NULL), FC_OK);
        ck_assert_uint_eq(asked.arena_bytes, 1ull << 33);
        ck_assert_int_eq(asked.arena_kind, kind);
        ck_assert_int_eq(fc_codec_encode_reply(&reply, buffer, sizeof buffer, &size), FC_OK);
        ck_assert_uint_le(size, fc_codec_reply_bound(&reply));
        ck_assert_int_eq(fc_codec_decode_reply(buffer, size, &got, NULL), FC_OK);
        ck_assert_uint_eq(got.arena.id, 5);
        ck_assert_uint_eq(got.arena.bytes, 1 << 21);
        ck_assert_int_eq(got.arena.is_device, reply.arena.is_device);
        ck_assert_mem_eq(got.arena.uuid, reply.arena.uuid, FC_UUID_BYTES);
    }
}
END_TEST

START_TEST(a_request_survives_and_nothing_is_copied)
{
    fc_wire_request request = full_request(), back;
    fc_reason reason = {""};
    uint8_t buffer[2048];
    size_t size = 0;
    ck_assert_int_eq(fc_codec_encode_request(&request, KV_LEN, buffer, sizeof buffer, &size), FC_OK);
    ck_assert_msg(fc_codec_decode_request(buffer, size, &back, &reason) == FC_OK, "%s", reason.text);
    ck_assert_uint_eq(back.id, UINT64_MAX);
    ck_assert_int_eq(back.op, FC_OP_ATTEND);
    const fc_wire_tensor *tensors[] = {&back.attend.q, &back.attend.k, &back.attend.v};
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(tensors[i]->dtype, FC_F16);
        ck_assert_uint_eq(tensors[i]->rank, 4);
        ck_assert_mem_eq(tensors[i]->shape, request.attend.q.shape, sizeof request.attend.q.shape);
        ck_assert(lies_inside(tensors[i]->data, sizeof DATA, buffer, size));
        ck_assert_uint_eq(tensors[i]->data_bytes, sizeof DATA);
        ck_assert_mem_eq(tensors[i]->data, DATA, sizeof DATA);
    }
    ck_assert(lies_inside(back.attend.kernel.text, back.attend.kernel.bytes, buffer, size));
    ck_assert(lies_inside(back.attend.kv_len_bytes, back.attend.kv_len_size_bytes, buffer, size));
    uint32_t kv_len[2];
    fc_codec_kv_len(&back.attend, kv_len);
    ck_assert_mem_eq(kv_len, KV_LEN, sizeof KV_LEN);
    ck_assert_int_eq(back.attend.layout, FC_BSHD);
    ck_assert_int_eq(back.attend.causal, FC_CAUSAL_BOTTOM_RIGHT);
    ck_assert_int_eq(back.attend.window_left, 5);
    ck_assert_int_eq(back.attend.window_right, -1);
    ck_assert(back.attend.has_scale && back.attend.scale == 0.125f && back.attend.softcap == 30);
    ck_assert(back.attend.wants_lse);
    ck_assert_uint_eq(back.attend.deadline_us, 123456789);
}
END_TEST

START_TEST(what_is_left_out_has_its_default)
{
    static const char LINE[] = "{proto:1 id:1 op:'attend' q:{dtype:'f32' shape:[0 1 1 8] data:b0}"
                               " k:{dtype:'f32' shape:[0 1 1 8] data:b0} v:{dtype:'f32' shape:[0 1 1 8] data:b0}}";
    uint8_t bytes[512];
    size_t size = fc_notation_pack(LINE, bytes, sizeof bytes);
    fc_wire_request back;
    fc_reason reason = {""};
    ck_assert_msg(fc_codec_decode_request(bytes, size, &back, &reason) == FC_OK, "%s", reason.text);
    ck_assert_int_eq(back.attend.layout, FC_BHSD);
    ck_assert_int_eq(back.attend.causal, FC_CAUSAL_NONE);
    ck_assert_int_eq(back.attend.window_left, -1);
    ck_assert_int_eq(back.attend.window_right, -1);
    ck_assert(!back.attend.has_scale && back.attend.softcap == 0 && !back.attend.has_kv_len && !back.attend.wants_lse);
    ck_assert_ptr_null(back.attend.kernel.text);
    ck_assert_uint_eq(back.attend.deadline_us, 0);
}
END_TEST

START_TEST(an_attend_reply_is_the_same_written_in_one_or_two_steps)
{
    fc_wire_reply reply = attend_reply(), back;
    fc_reason reason = {""};
    uint8_t whole[1024], parts[1024];
    size_t size = 0, parts_size = 0;
    fc_codec_attend_reply writer;
    ck_assert_int_eq(fc_codec_encode_reply(&reply, whole, sizeof whole, &size), FC_OK);
    ck_assert_uint_le(size, fc_codec_reply_bound(&reply));

    fc_wire_reply pending = reply; /* neither data nor timing is known at first */
    pending.attend.out.data = pending.attend.lse.data = NULL;
    pending.attend.out.data_bytes = pending.attend.lse.data_bytes = 0;
    pending.attend.timing = (fc_wire_timing){0};
    size_t bound = fc_codec_reply_bound(&pending);
    ck_assert_uint_le(size, bound);
    ck_assert_int_eq(fc_codec_attend_reply_begin(&pending, parts, bound, &writer), FC_OK);
    memcpy(writer.out_data, DATA, sizeof DATA);
    memcpy(writer.lse_data, DATA, 48);
    ck_assert_int_eq(fc_codec_attend_reply_end(&writer, &reply, &parts_size), FC_OK);
    ck_assert_uint_eq(parts_size, size);
    ck_assert_mem_eq(parts, whole, size);

    ck_assert_msg(fc_codec_decode_reply(parts, parts_size, &back, &reason) == FC_OK, "%s", reason.text);
    ck_assert_int_eq(back.body, FC_BODY_ATTEND);
    ck_assert_ptr_eq(back.attend.out.data, writer.out_data);
    ck_assert(back.attend.has_lse);
    ck_assert_ptr_eq(back.attend.lse.data, writer.lse_data);
    ck_assert_uint_eq(back.attend.lse.rank, 3);
    ck_assert_uint_eq(back.attend.timing.batch, 300);
    ck_assert(back.attend.timing.total_us == 12.5);
}
END_TEST

START_TEST(a_hello_and_stats_survive)
{
    fc_wire_reply reply = {.id = 3, .body = FC_BODY_HELLO}, back;
    fc_reason reason = {""};
    uint8_t buffer[8192];
    size_t size = 0;
    reply.hello = (fc_wire_hello){.server = fc_wire_text_make("s"),
                                  .version = fc_wire_text_make("v"),
                                  .default_kernel = fc_wire_text_make("auto")};
    reply.hello.device = fc_wire_text_make("d");
    reply.hello.kernel_count = reply.hello.feature_count = FC_NAME_LIST_MAX;
    for (int i = 0; i < FC_NAME_LIST_MAX; i++)
        reply.hello.kernels[i] = reply.hello.features[i] = fc_wire_text_make("a name");
    reply.hello.limits.tokens = 1ull << 40;
    ck_assert_int_eq(fc_codec_encode_reply(&reply, buffer, sizeof buffer, &size), FC_OK);
    ck_assert_msg(fc_codec_decode_reply(buffer, size, &back, &reason) == FC_OK, "%s", reason.text);
    ck_assert_int_eq(back.body, FC_BODY_HELLO);
    ck_assert_uint_eq(back.hello.kernel_count, FC_NAME_LIST_MAX);
    ck_assert_uint_eq(back.hello.features[31].bytes, 6);
    ck_assert_uint_eq(back.hello.limits.tokens, 1ull << 40);

    char names[FC_COUNTER_MAX][16];
    reply = (fc_wire_reply){.id = 4, .body = FC_BODY_STATS};
    reply.stats.counter_count = FC_COUNTER_MAX;
    for (int i = 0; i < FC_COUNTER_MAX; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        reply.stats.counters[i] = (fc_wire_counter){fc_wire_text_make(names[i]), i * 0.5};
    }
    ck_assert_int_eq(fc_codec_encode_reply(&reply, buffer, sizeof buffer, &size), FC_OK);
    ck_assert_msg(fc_codec_decode_reply(buffer, size, &back, &reason) == FC_OK, "%s", reason.text);
    ck_assert_int_eq(back.body, FC_BODY_STATS);
    ck_assert_uint_eq(back.stats.counter_count, FC_COUNTER_MAX);
    for (int i = 0; i < FC_COUNTER_MAX; i++)
        ck_assert(back.stats.counters[i].value == i * 0.5);
}
END_TEST

/* Counters are doubles: whole ones travel as uints where that loses nothing, all others as floats. */
START_TEST(counters_of_any_size_survive)
{
    static const double VALUES[] = {0, 1, -3, 0.5, 0x1p53, 0x1p53 + 2, 0x1p63, 0x1p64, 1e300, INFINITY};
    static const char *const NAMES[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
    fc_wire_reply reply = {.id = 4, .body = FC_BODY_STATS}, back;
    uint8_t buffer[512];
    size_t size = 0;
    for (int i = 0; i < 10; i++)
        reply.stats.counters[reply.stats.counter_count++] = (fc_wire_counter){fc_wire_text_make(NAMES[i]), VALUES[i]};
    ck_assert_int_eq(fc_codec_encode_reply(&reply, buffer, sizeof buffer, &size), FC_OK);
    ck_assert_int_eq(fc_codec_decode_reply(buffer, size, &back, NULL), FC_OK);
    for (int i = 0; i < 10; i++)
        ck_assert_msg(back.stats.counters[i].value == VALUES[i], "%g becomes %g", VALUES[i],
                      back.stats.counters[i].value);
}
END_TEST

START_TEST(every_status_survives)
{
    for (int i = 0; i < FC_STATUS_COUNT; i++) {
        fc_wire_reply reply = {.id = 5, .status = (fc_status)i, .error = fc_wire_text_make("why"), .retry_after_us = 9},
                      back;
        fc_reason reason = {""};
        uint8_t buffer[256];
        size_t size = 0;
        ck_assert_int_eq(fc_codec_encode_reply(&reply, buffer, sizeof buffer, &size), FC_OK);
        ck_assert_msg(fc_codec_decode_reply(buffer, size, &back, &reason) == FC_OK, "%s", reason.text);
        ck_assert_int_eq(back.status, fc_status_on_wire((fc_status)i));
        ck_assert_uint_eq(back.retry_after_us, 9);
        ck_assert_uint_eq(back.error.bytes, 3);
    }
}
END_TEST

START_TEST(a_buffer_of_any_other_size_is_refused_or_enough)
{
    fc_wire_request request = full_request();
    fc_wire_reply reply = attend_reply();
    fc_codec_attend_reply writer;
    size_t request_size = 0, reply_size = 0, size = 0;
    size_t request_bound = fc_codec_request_bound(&request, 2), reply_bound = fc_codec_reply_bound(&reply);
    uint8_t *buffer = malloc(request_bound + reply_bound);
    ck_assert_int_eq(fc_codec_encode_request(&request, KV_LEN, buffer, request_bound, &request_size), FC_OK);
    ck_assert_int_eq(fc_codec_encode_reply(&reply, buffer, reply_bound, &reply_size), FC_OK);
    ck_assert_uint_le(request_bound, request_size + 512 + 2 * 9);
    ck_assert_uint_le(reply_bound, reply_size + 512);
    free(buffer);
    for (size_t capacity = 0; capacity < request_size; capacity++) {
        buffer = malloc(capacity);
        ck_assert_int_eq(fc_codec_encode_request(&request, KV_LEN, buffer, capacity, &size), FC_TOO_LARGE);
        free(buffer);
    }
    for (size_t capacity = 0; capacity < reply_size; capacity++) {
        buffer = malloc(capacity);
        ck_assert_int_eq(fc_codec_encode_reply(&reply, buffer, capacity, &size), FC_TOO_LARGE);
        if (fc_codec_attend_reply_begin(&reply, buffer, capacity, &writer) == FC_OK)
            ck_assert_int_eq(fc_codec_attend_reply_end(&writer, &reply, &size), FC_TOO_LARGE);
        free(buffer);
    }
}
END_TEST

START_TEST(a_tensor_that_contradicts_itself_is_not_encoded)
{
    uint8_t buffer[2048];
    size_t size = 0;
    fc_wire_request request = full_request();
    request.attend.v.data_bytes--;
    ck_assert_int_eq(fc_codec_encode_request(&request, KV_LEN, buffer, sizeof buffer, &size), FC_INVALID_ARGUMENT);

    /* 4 GiB do not fit bin's length; 2^124 elements fit nothing. */
    request.attend.v.shape[2] = 0x80000000u / 8;
    ck_assert_int_eq(fc_codec_encode_request(&request, KV_LEN, buffer, sizeof buffer, &size), FC_TOO_LARGE);
    ck_assert_uint_eq(fc_codec_request_bound(&request, 2), SIZE_MAX);
    for (int i = 0; i < 4; i++)
        request.attend.v.shape[i] = INT32_MAX;
    ck_assert_int_eq(fc_codec_encode_request(&request, KV_LEN, buffer, sizeof buffer, &size), FC_TOO_LARGE);
    ck_assert_uint_eq(fc_codec_request_bound(&request, 2), SIZE_MAX);
}
END_TEST

/* --- hostile bytes ------------------------------------------------------------------------------------------------ */

/* Decodes from a block of exactly this size, so that ASan and valgrind see every byte read past it. */
static fc_status decode_exact(const uint8_t *bytes, size_t size, bool is_request, uint64_t *out_id)
{
    static fc_wire_request request;
    static fc_wire_reply reply;
    fc_reason reason = {""};
    uint8_t *block = malloc(size);
    memcpy(block, bytes, size);
    is_armed = true;
    asked_count = 0;
    fc_status st = is_request ? fc_codec_decode_request(block, size, &request, &reason)
                              : fc_codec_decode_reply(block, size, &reply, &reason);
    is_armed = false;
    *out_id = is_request ? request.id : reply.id;
    ck_assert_uint_eq(asked_count, 0);
    ck_assert_msg((st == FC_OK) == (reason.text[0] == '\0'), "a reason goes with a failure: %d \"%s\"", st,
                  reason.text);
    if (is_request && st == FC_OK && request.op == FC_OP_ATTEND && request.attend.has_kv_len) {
        uint32_t kv_len[1024];
        ck_assert_uint_le(request.attend.kv_len_count, 1024);
        fc_codec_kv_len(&request.attend, kv_len);
    }
    free(block);
    return st;
}

START_TEST(no_truncated_golden_message_is_accepted)
{
    static fc_golden goldens[FC_GOLDEN_MAX];
    size_t count = fc_golden_load_all(goldens);
    ck_assert_uint_ge(count, 16);
    for (size_t i = 0; i < count; i++) {
        bool is_request = fc_golden_is_request(&goldens[i]);
        uint64_t id, whole_id;
        ck_assert_int_eq(decode_exact(goldens[i].bytes, goldens[i].size, is_request, &whole_id), FC_OK);
        for (size_t size = 0; size < goldens[i].size; size++) {
            ck_assert_int_eq(decode_exact(goldens[i].bytes, size, is_request, &id),
                             is_request ? FC_INVALID_ARGUMENT : FC_BAD_REPLY);
            ck_assert_msg(!is_request || id == 0 || id == whole_id, "%s cut at %zu", goldens[i].name, size);
        }
    }
}
END_TEST

START_TEST(no_mutated_golden_message_does_harm)
{
    static fc_golden goldens[FC_GOLDEN_MAX];
    size_t count = fc_golden_load_all(goldens);
    for (size_t i = 0; i < count; i++) {
        for (size_t at = 0; at < goldens[i].size; at++) {
            uint8_t kept = goldens[i].bytes[at];
            for (unsigned value = 0; value < 256; value++) {
                uint64_t id;
                goldens[i].bytes[at] = (uint8_t)value;
                decode_exact(goldens[i].bytes, goldens[i].size, true, &id);
                decode_exact(goldens[i].bytes, goldens[i].size, false, &id);
            }
            goldens[i].bytes[at] = kept;
        }
    }
}
END_TEST

START_TEST(gigabytes_claimed_are_not_believed)
{
    static const char *const LINES[] = {
        "<dd 1f ff ff ff>", "<df ff ff ff ff>",     "<c6 ff ff ff ff>",          "{proto:1 id:1 op:<db ff ff ff ff>}",
        "<de ff ff>",       "{a:<c9 ff ff ff ff>}", "{kv_len:<dd ff ff ff ff>}",
    };
    for (size_t i = 0; i < sizeof LINES / sizeof LINES[0]; i++) {
        uint8_t bytes[256];
        uint64_t id;
        size_t size = fc_notation_pack(LINES[i], bytes, sizeof bytes);
        ck_assert_int_eq(decode_exact(bytes, size, true, &id), FC_INVALID_ARGUMENT);
        ck_assert_int_eq(decode_exact(bytes, size, false, &id), FC_BAD_REPLY);
    }
}
END_TEST

START_TEST(encoding_allocates_nothing)
{
    fc_wire_request request = full_request();
    fc_wire_reply reply = attend_reply();
    uint8_t buffer[2048];
    size_t size;
    is_armed = true;
    asked_count = 0;
    fc_status st = fc_codec_encode_request(&request, KV_LEN, buffer, sizeof buffer, &size);
    fc_status reply_st = fc_codec_encode_reply(&reply, buffer, sizeof buffer, &size);
    is_armed = false;
    ck_assert_int_eq(st, FC_OK);
    ck_assert_int_eq(reply_st, FC_OK);
    ck_assert_uint_eq(asked_count, 0);
    /* The trap itself works. */
    is_armed = true;
    void *volatile memory = malloc(1);
    is_armed = false;
    ck_assert_ptr_null(memory);
    ck_assert_uint_eq(asked_count, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codec");
    TCase *messages = tcase_create("messages");
    tcase_add_test(messages, arenas_survive);
    tcase_add_test(messages, a_request_survives_and_nothing_is_copied);
    tcase_add_test(messages, what_is_left_out_has_its_default);
    tcase_add_test(messages, an_attend_reply_is_the_same_written_in_one_or_two_steps);
    tcase_add_test(messages, a_hello_and_stats_survive);
    tcase_add_test(messages, counters_of_any_size_survive);
    tcase_add_test(messages, every_status_survives);
    tcase_add_test(messages, a_buffer_of_any_other_size_is_refused_or_enough);
    tcase_add_test(messages, a_tensor_that_contradicts_itself_is_not_encoded);
    suite_add_tcase(suite, messages);
    TCase *hostile = tcase_create("hostile");
    tcase_set_timeout(hostile, 120);
    tcase_add_test(hostile, no_truncated_golden_message_is_accepted);
    tcase_add_test(hostile, no_mutated_golden_message_does_harm);
    tcase_add_test(hostile, gigabytes_claimed_are_not_believed);
    tcase_add_test(hostile, encoding_allocates_nothing);
    suite_add_tcase(suite, hostile);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
