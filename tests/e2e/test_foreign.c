/* A stranger's client: plain nng REQ, messages written by hand after PROTOCOL.md, over ipc and tcp. */
#include "tests/e2e/foreign.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/job.h"
#include "tests/support/golden.h"

#include <math.h>
#include <string.h>
#include <sys/socket.h>
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

static const char *url_at(int index)
{
    return index == 0 ? daemon_under_test.ipc_url : daemon_under_test.tcp_url;
}

START_TEST(a_ping_is_answered)
{
    static const uint64_t ids[] = {0, 1, 127, 128, 65536, UINT64_MAX};
    fc_foreign foreign = fc_foreign_open(url_at(_i));
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        fc_bytes request = {0};
        fc_pack_head(&request, ids[i], "ping", 0);
        fc_foreign_expect(&foreign, "ping", &request, ids[i], "ok", NULL);
        fc_bytes_fini(&request);
    }
    fc_foreign_close(&foreign);
}
END_TEST

START_TEST(a_hello_says_what_there_is)
{
    static const char *const limits[] = {"message_bytes",  "tensor_bytes", "tokens",           "head_dim",
                                         "queue_requests", "queue_bytes",  "inflight_per_peer"};
    fc_foreign foreign = fc_foreign_open(url_at(_i));
    fc_bytes request = {0}, reply = {0};
    fc_pack_head(&request, 9, "hello", 0);
    fc_foreign_call(&foreign, &request, &reply);
    ck_assert(fc_value_is_text(fc_reply_get(&reply, "status"), "ok"));
    ck_assert(fc_value_has_text(fc_reply_get(&reply, "server"), "flashcored"));
    ck_assert(fc_value_has_text(fc_reply_get(&reply, "version"), "."));
    ck_assert(fc_value_has_text(fc_reply_get(&reply, "device"), ""));
    ck_assert(!fc_value_is_text(fc_reply_get(&reply, "default_kernel"), ""));
    ck_assert_uint_ge(fc_value_count(fc_reply_get(&reply, "kernels")), 1);
    (void)fc_value_count(fc_reply_get(&reply, "features"));
    fc_value map = fc_reply_get(&reply, "limits");
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        ck_assert_msg(fc_value_uint(fc_value_get(map, limits[i])) > 0, "limit %s", limits[i]);
    fc_bytes_fini(&request);
    fc_bytes_fini(&reply);
    fc_foreign_close(&foreign);
}
END_TEST

START_TEST(stats_count_what_was_asked)
{
    fc_foreign foreign = fc_foreign_open(url_at(_i));
    fc_bytes ping = {0}, request = {0}, reply = {0};
    fc_pack_head(&ping, 1, "ping", 0);
    for (int i = 0; i < 3; i++)
        fc_foreign_call(&foreign, &ping, &reply);
    fc_pack_head(&request, 2, "stats", 0);
    fc_foreign_call(&foreign, &request, &reply);
    ck_assert(fc_value_is_text(fc_reply_get(&reply, "status"), "ok"));
    fc_value counters = fc_reply_get(&reply, "stats");
    ck_assert_uint_ge(fc_value_uint(fc_value_get(counters, "requests_ping")), 3);
    fc_bytes_fini(&ping);
    fc_bytes_fini(&request);
    fc_bytes_fini(&reply);
    fc_foreign_close(&foreign);
}
END_TEST

static void want_floats(fc_value tensor, const char *dtype, const uint64_t *shape, uint32_t rank, const float *want)
{
    size_t bytes = 0, count = 1;
    fc_value sides = fc_value_get(tensor, "shape");
    ck_assert(fc_value_is_text(fc_value_get(tensor, "dtype"), dtype));
    ck_assert_uint_eq(fc_value_count(sides), rank);
    const uint8_t *at = sides.begin + 1; /* small shapes: fixed array, fixed uints */
    for (uint32_t i = 0; i < rank; i++) {
        ck_assert_uint_eq(at[i], shape[i]);
        count *= shape[i];
    }
    const uint8_t *data = fc_value_bin(fc_value_get(tensor, "data"), &bytes);
    ck_assert_uint_eq(bytes, 4 * count);
    for (size_t i = 0; i < count; i++) {
        float got;
        memcpy(&got, data + 4 * i, 4);
        ck_assert_msg(fabsf(got - want[i]) < 1e-6f, "[%zu]: %g, not %g", i, (double)got, (double)want[i]);
    }
}

/* One query, two keys, head_dim 8, scores ln 3 and 0: weights 3/4 and 1/4, worked out by hand. */
START_TEST(an_attend_is_answered_as_worked_out_by_hand)
{
    const float ln3 = 1.09861229f;
    float q[8] = {1, 0, 0, 0, 0, 0, 0, 0}, k[16] = {ln3}, v[16] = {4, 8, -4, 0, 0, 0, 0, 1};
    static const float out[8] = {3, 6, -3, 0.25f, 0, 0, 0, 0.75f};
    static const float lse[1] = {1.38629436f}; /* ln(3 + 1) */
    fc_foreign foreign = fc_foreign_open(url_at(_i));
    fc_bytes request = {0}, reply = {0};
    v[8 + 3] = 1;
    fc_pack_head(&request, 77, "attend", 5);
    fc_pack_text(&request, "scale");
    fc_pack_float(&request, 1.0f);
    fc_pack_text(&request, "lse");
    fc_pack_bool(&request, true);
    const float *data[] = {q, k, v};
    static const char *const keys[] = {"q", "k", "v"};
    for (int i = 0; i < 3; i++) {
        fc_pack_text(&request, keys[i]);
        fc_pack_map(&request, 3);
        fc_pack_text(&request, "data");
        fc_pack_bin(&request, data[i], i == 0 ? sizeof q : sizeof k);
        fc_pack_text(&request, "dtype");
        fc_pack_text(&request, "f32");
        fc_pack_text(&request, "shape");
        fc_pack_array(&request, 4);
        fc_pack_uint(&request, 1);
        fc_pack_uint(&request, 1);
        fc_pack_uint(&request, i == 0 ? 1 : 2);
        fc_pack_uint(&request, 8);
    }
    fc_foreign_call(&foreign, &request, &reply);
    ck_assert(fc_value_is_text(fc_reply_get(&reply, "status"), "ok"));
    ck_assert_uint_eq(fc_value_uint(fc_reply_get(&reply, "id")), 77);
    want_floats(fc_reply_get(&reply, "out"), "f32", (uint64_t[]){1, 1, 1, 8}, 4, out);
    want_floats(fc_reply_get(&reply, "lse"), "f32", (uint64_t[]){1, 1, 1}, 3, lse);
    ck_assert(!fc_value_is_text(fc_reply_get(&reply, "kernel"), "auto"));
    ck_assert_uint_eq(fc_value_uint(fc_value_get(fc_reply_get(&reply, "timing"), "batch")), 1);
    static const char *const parts[] = {"queue_us", "copy_in_us", "kernel_us", "copy_out_us", "total_us"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(fc_value_get(fc_reply_get(&reply, "timing"), parts[i]).begin != NULL, "timing.%s", parts[i]);
    fc_bytes_fini(&request);
    fc_bytes_fini(&reply);
    fc_foreign_close(&foreign);
}
END_TEST

/* Keys may come in any order, unknown ones are ignored whatever they hold, and lse comes only when asked for. */
START_TEST(unknown_keys_are_ignored)
{
    fc_foreign foreign = fc_foreign_open(url_at(_i));
    fc_bytes request = {0}, reply = {0};
    fc_pack_map(&request, 8);
    fc_pack_text(&request, "colour");
    fc_pack_map(&request, 1);
    fc_pack_text(&request, "deep");
    fc_pack_array(&request, 2);
    fc_pack_int(&request, -5);
    fc_pack_bool(&request, true);
    fc_pack_tensor(&request, "v", "f32", (uint64_t[]){1, 1, 5, 8}, 160);
    fc_pack_text(&request, "op");
    fc_pack_text(&request, "attend");
    fc_pack_tensor(&request, "k", "f32", (uint64_t[]){1, 1, 5, 8}, 160);
    fc_pack_text(&request, "id");
    fc_pack_uint(&request, 5);
    fc_pack_tensor(&request, "q", "f32", (uint64_t[]){1, 2, 3, 8}, 192);
    fc_pack_text(&request, "x");
    fc_pack_float(&request, 0.5f);
    fc_pack_text(&request, "proto");
    fc_pack_uint(&request, 1);
    fc_foreign_call(&foreign, &request, &reply);
    ck_assert(fc_value_is_text(fc_reply_get(&reply, "status"), "ok"));
    ck_assert_uint_eq(fc_value_uint(fc_reply_get(&reply, "id")), 5);
    ck_assert_ptr_null(fc_reply_get(&reply, "lse").begin);
    ck_assert_ptr_nonnull(fc_reply_get(&reply, "out").begin);
    fc_bytes_fini(&request);
    fc_bytes_fini(&reply);
    fc_foreign_close(&foreign);
}
END_TEST

/* Taking back what is not there changes nothing, and is answered ok. */
START_TEST(a_cancel_of_nothing_is_answered)
{
    fc_foreign foreign = fc_foreign_open(url_at(_i));
    fc_bytes request = {0};
    fc_pack_head(&request, 6, "cancel", 1);
    fc_pack_text(&request, "target");
    fc_pack_uint(&request, 12345);
    fc_foreign_expect(&foreign, "cancel", &request, 6, "ok", NULL);
    fc_bytes_fini(&request);
    fc_foreign_close(&foreign);
}
END_TEST

/* --- the worked messages of PROTOCOL.md --------------------------------------------------------------------------- */

static bool same_bytes(fc_value a, fc_value b)
{
    return a.begin != NULL && b.begin != NULL && a.end - a.begin == b.end - b.begin &&
           memcmp(a.begin, b.begin, (size_t)(a.end - a.begin)) == 0;
}

/* Each worked request is answered as its worked reply says, in the keys that depend on nothing else. */
START_TEST(worked_messages_get_worked_answers)
{
    static const struct {
        const char *request, *reply, *keys[6];
        bool needs_cpu;
    } rows[] = {
        {"ping-request", "ping-reply", {"proto", "id", "status"}, false},
        {"hello-request", "hello-reply", {"proto", "id", "status", "server"}, false},
        {"attend-request", "attend-reply", {"proto", "id", "status", "out"}, false},
        {"attend-request-foreign", "attend-reply", {"proto", "id", "status", "out"}, false},
        {"attend-every-key-request", "attend-every-key-reply", {"proto", "id", "status", "out", "lse", "kernel"}, true},
        {"cancel-request", "cancel-reply", {"proto", "id", "status"}, false},
        {"stats-request", "stats-reply", {"proto", "id", "status"}, false},
    };
    fc_foreign foreign = fc_foreign_open(url_at(_i));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fc_golden request, want;
        fc_bytes got = {0};
        if (rows[i].needs_cpu && !fc_e2e_on_cpu())
            continue;
        fc_golden_load(rows[i].request, &request);
        fc_golden_load(rows[i].reply, &want);
        fc_foreign_call(&foreign, &(fc_bytes){.data = request.bytes, .size = request.size}, &got);
        for (size_t key = 0; key < 6 && rows[i].keys[key] != NULL; key++)
            ck_assert_msg(
                same_bytes(fc_reply_get(&got, rows[i].keys[key]),
                           fc_reply_get(&(fc_bytes){.data = want.bytes, .size = want.size}, rows[i].keys[key])),
                "%s: %s is not as worked", rows[i].request, rows[i].keys[key]);
        fc_bytes_fini(&got);
    }
    fc_foreign_close(&foreign);
}
END_TEST

static void read_exactly(int fd, uint8_t *bytes, size_t size)
{
    struct timeval limit = {.tv_sec = fc_e2e_limit_ms(FC_E2E_STEP_MS) / 1000};
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    for (size_t used = 0; used < size;) {
        ssize_t got = recv(fd, bytes + used, size - used, 0);
        ck_assert_msg(got > 0, "only %zu of %zu bytes came", used, size);
        used += (size_t)got;
    }
}

/* The whole exchange to the byte, without nng, as section 1.1 has it; over tcp without the frame's type byte. */
START_TEST(the_worked_wire_exchange_holds_to_the_byte)
{
    fc_golden request, reply;
    uint8_t got[FC_GOLDEN_BYTES];
    fc_golden_load("wire-ping-request", &request);
    fc_golden_load("wire-ping-reply", &reply);
    int fd = fc_raw_connect(url_at(_i));
    ck_assert_int_ge(fd, 0);
    if (_i == 1) {
        memmove(request.bytes + 8, request.bytes + 9, --request.size - 8);
        memmove(reply.bytes + 8, reply.bytes + 9, --reply.size - 8);
    }
    fc_raw_send(fd, request.bytes, request.size);
    read_exactly(fd, got, reply.size);
    ck_assert_mem_eq(got, reply.bytes, reply.size);
    close(fd);
}
END_TEST

/* Requests under way on one connection are told apart by their number, and words that devices push come back. */
START_TEST(a_stack_of_numbers_comes_back)
{
    static const uint8_t head[] = {0, 0, 0, 7, 0, 1, 2, 3, 0x80, 0xaa, 0xbb, 0xcc};
    fc_bytes ping = {0}, frame = {0};
    uint8_t got[8 + 9 + sizeof head + 22];
    size_t length_at = 8 + (_i == 0 ? 1 : 0), body_at = length_at + 8;
    fc_pack_head(&ping, 7, "ping", 0);
    if (_i == 0)
        fc_bytes_add_hex(&frame, "01");
    fc_bytes_add_hex(&frame, "00 00 00 00 00 00 00");
    uint8_t length = (uint8_t)(sizeof head + ping.size);
    fc_bytes_add(&frame, &length, 1);
    fc_bytes_add(&frame, head, sizeof head);
    fc_bytes_add(&frame, ping.data, ping.size);
    int fd = fc_raw_connect(url_at(_i));
    ck_assert_int_ge(fd, 0);
    fc_raw_greet(fd);
    fc_raw_send(fd, frame.data, frame.size);
    read_exactly(fd, got, body_at + sizeof head);
    ck_assert_mem_eq(got + body_at, head, sizeof head);
    close(fd);
    fc_bytes_fini(&ping);
    fc_bytes_fini(&frame);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("foreign");
    TCase *tcase = fc_e2e_case(suite, "ipc and tcp");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, a_ping_is_answered, 0, 2);
    tcase_add_loop_test(tcase, a_hello_says_what_there_is, 0, 2);
    tcase_add_loop_test(tcase, stats_count_what_was_asked, 0, 2);
    tcase_add_loop_test(tcase, an_attend_is_answered_as_worked_out_by_hand, 0, 2);
    tcase_add_loop_test(tcase, unknown_keys_are_ignored, 0, 2);
    tcase_add_loop_test(tcase, a_cancel_of_nothing_is_answered, 0, 2);
    tcase_add_loop_test(tcase, worked_messages_get_worked_answers, 0, 2);
    tcase_add_loop_test(tcase, the_worked_wire_exchange_holds_to_the_byte, 0, 2);
    tcase_add_loop_test(tcase, a_stack_of_numbers_comes_back, 0, 2);
    return fc_e2e_main(suite);
}
