/* proto/codec: messages to bytes and back, and what is refused. */
#include "proto/codec.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static fc_wire_text text(const char *string)
{
    return (fc_wire_text){string, strlen(string)};
}

START_TEST(an_attend_request_survives)
{
    static const uint8_t DATA[2 * 2 * 3 * 8 * 2] = {1, 2, 3};
    static const uint32_t KV_LEN[2] = {3, 70000};
    fc_wire_tensor tensor = {FC_F16, 4, {2, 2, 3, 8}, DATA, sizeof DATA};
    fc_wire_request request = {.id = 1ull << 40, .op = FC_OP_ATTEND};
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
        .kernel = text("cpu"),
        .wants_lse = true,
        .deadline_us = 123456789,
    };
    uint8_t buffer[2048];
    size_t size = 0;
    size_t bound = fc_codec_request_bound(&request, 2);
    ck_assert_int_eq(fc_codec_encode_request(&request, KV_LEN, buffer, sizeof buffer, &size), FC_OK);
    ck_assert_uint_le(size, bound);
    ck_assert_uint_le(bound, size + 512 + 18);
    fc_wire_request back;
    fc_reason reason = {""};
    ck_assert_msg(fc_codec_decode_request(buffer, size, &back, &reason) == FC_OK, "%s", reason.text);
    ck_assert_uint_eq(back.id, 1ull << 40);
    ck_assert_int_eq(back.attend.layout, FC_BSHD);
    ck_assert_int_eq(back.attend.causal, FC_CAUSAL_BOTTOM_RIGHT);
    ck_assert_int_eq(back.attend.window_left, 5);
    ck_assert_int_eq(back.attend.window_right, -1);
    ck_assert(back.attend.has_scale && back.attend.scale == 0.125f && back.attend.softcap == 30);
    ck_assert_uint_eq(back.attend.kv_len_count, 2);
    uint32_t kv_len[2];
    fc_codec_kv_len(&back.attend, kv_len);
    ck_assert_mem_eq(kv_len, KV_LEN, sizeof KV_LEN);
    ck_assert(back.attend.v.data >= buffer && back.attend.v.data + sizeof DATA <= buffer + size);
    ck_assert_mem_eq(back.attend.v.data, DATA, sizeof DATA);
    ck_assert(back.attend.wants_lse);
    ck_assert_uint_eq(back.attend.deadline_us, 123456789);
    ck_assert_int_eq(fc_codec_encode_request(&request, KV_LEN, buffer, size - 1, &size), FC_TOO_LARGE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codec");
    TCase *messages = tcase_create("messages");
    tcase_add_test(messages, an_attend_request_survives);
    suite_add_tcase(suite, messages);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
