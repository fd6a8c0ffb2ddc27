/* proto/vocab, proto/status and proto/half: every word has its name, every half its float, and back. */
#include "proto/half.h"
#include "proto/status.h"
#include "proto/vocab.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

START_TEST(every_word_has_its_name)
{
    for (int i = 0; i < FC_DTYPE_COUNT; i++)
        ck_assert_str_ne(fc_dtype_name((fc_dtype)i), "unknown");
    for (int i = 0; i < FC_LAYOUT_COUNT; i++)
        ck_assert_str_ne(fc_layout_name((fc_layout)i), "unknown");
    for (int i = 0; i < FC_CAUSAL_COUNT; i++)
        ck_assert_str_ne(fc_causal_name((fc_causal)i), "unknown");
    for (int i = 0; i < FC_OP_COUNT; i++)
        ck_assert_str_ne(fc_op_name((fc_op)i), "unknown");
    for (int i = 0; i < FC_ARENA_KIND_COUNT; i++)
        ck_assert_str_ne(fc_arena_kind_name((fc_arena_kind)i), "unknown");
    ck_assert_str_eq(fc_dtype_name(FC_BF16), "bf16");
    ck_assert_str_eq(fc_layout_name(FC_BSHD), "bshd");
    ck_assert_str_eq(fc_causal_name(FC_CAUSAL_TOP_LEFT), "top_left");
    ck_assert_str_eq(fc_op_name(FC_OP_CANCEL), "cancel");
}
END_TEST

START_TEST(what_is_no_word_has_none)
{
    ck_assert_str_eq(fc_dtype_name(FC_DTYPE_COUNT), "unknown");
    ck_assert_str_eq(fc_layout_name(FC_LAYOUT_COUNT), "unknown");
    ck_assert_str_eq(fc_causal_name(FC_CAUSAL_COUNT), "unknown");
    ck_assert_str_eq(fc_op_name(FC_OP_COUNT), "unknown");
    ck_assert_str_eq(fc_arena_kind_name(FC_ARENA_KIND_COUNT), "unknown");
    ck_assert_uint_eq(fc_dtype_bytes(FC_DTYPE_COUNT), 0);
    ck_assert_uint_eq(fc_dtype_bytes(FC_F16), 2);
    ck_assert_uint_eq(fc_dtype_bytes(FC_F32), 4);
}
END_TEST

START_TEST(only_wire_statuses_have_wire_names)
{
    int wire_count = 0;
    for (int i = 0; i < FC_STATUS_COUNT; i++) {
        fc_status status = FC_STATUS_COUNT;
        const char *name = fc_status_name((fc_status)i);
        bool is_wire = fc_status_from_wire(name, strlen(name), &status);
        ck_assert_int_eq(is_wire, fc_status_on_wire((fc_status)i) == (fc_status)i);
        if (is_wire)
            ck_assert_int_eq(status, i);
        wire_count += is_wire;
    }
    ck_assert_int_eq(wire_count, 11);
    ck_assert_int_eq(fc_status_on_wire(FC_NO_MEMORY), FC_INTERNAL);
    ck_assert_int_eq(fc_status_on_wire(FC_STATUS_COUNT), FC_INTERNAL);
}
END_TEST

START_TEST(a_reason_is_cut_to_fit)
{
    fc_reason reason;
    ck_assert_int_eq(fc_fail(FC_TOO_LARGE, &reason, "%0500d", 7), FC_TOO_LARGE);
    ck_assert_uint_eq(strlen(reason.text), FC_REASON_BYTES - 1);
    ck_assert_int_eq(fc_fail(FC_BUSY, NULL, "nobody reads this"), FC_BUSY);
}
END_TEST

/* Every 16-bit pattern survives to float and back; halfway cases go to even. */
START_TEST(halves_round_to_nearest_even)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float f16 = fc_f16_to_float((uint16_t)bits);
        float bf16 = fc_bf16_to_float((uint16_t)bits);
        if (isnan(f16))
            ck_assert(isnan(fc_f16_to_float(fc_f16_from_float(f16))));
        else
            ck_assert_uint_eq(fc_f16_from_float(f16), bits);
        if (isnan(bf16))
            ck_assert(isnan(fc_bf16_to_float(fc_bf16_from_float(bf16))));
        else
            ck_assert_uint_eq(fc_bf16_from_float(bf16), bits);
    }
    ck_assert_uint_eq(fc_f16_from_float(1.0f + 0x1p-11f), 0x3c00);
    ck_assert_uint_eq(fc_f16_from_float(1.0f + 3 * 0x1p-11f), 0x3c02);
    ck_assert_uint_eq(fc_f16_from_float(65519.0f), 0x7bff);
    ck_assert_uint_eq(fc_f16_from_float(65520.0f), 0x7c00);
    ck_assert_uint_eq(fc_f16_from_float(0x1p-25f), 0x0000);
    ck_assert_uint_eq(fc_f16_from_float(3 * 0x1p-25f), 0x0002);
    ck_assert_uint_eq(fc_bf16_from_float(1.0f + 0x1p-8f), 0x3f80);
    ck_assert_uint_eq(fc_bf16_from_float(1.0f + 3 * 0x1p-8f), 0x3f82);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vocab");
    TCase *words = tcase_create("words");
    tcase_add_test(words, every_word_has_its_name);
    tcase_add_test(words, what_is_no_word_has_none);
    tcase_add_test(words, only_wire_statuses_have_wire_names);
    tcase_add_test(words, a_reason_is_cut_to_fit);
    tcase_add_test(words, halves_round_to_nearest_even);
    suite_add_tcase(suite, words);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
