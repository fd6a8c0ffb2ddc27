/* client/: one call at a time against a scripted server: what is reported when it answers, refuses, lies or keeps
 * silent, and that nothing is ever written outside the caller's memory.
 */
#include "client/flashcore.h"
#include "tests/support/client_fixture.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

START_TEST(a_call_brings_out_and_lse_back)
{
    fixture f;
    fixture_open(&f, 1, script_well);
    flashcore_result result;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_OK);
    fixture_check_answer(&f);
    ck_assert(result.status == FLASHCORE_OK && result.error[0] == '\0');
    ck_assert_str_eq(result.kernel, "fake");
    ck_assert_str_eq(result.device, "none");
    ck_assert_double_eq(result.queue_us, 1);
    ck_assert_double_eq(result.copy_in_us, 2);
    ck_assert_double_eq(result.kernel_us, 3);
    ck_assert_double_eq(result.copy_out_us, 4);
    ck_assert_double_eq(result.server_total_us, 20);
    ck_assert_uint_eq(result.batch, 5);
    ck_assert_double_gt(result.client_total_us, 0);
    ck_assert_str_eq(flashcore_last_error(), "");
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
    fixture_close(&f);
}
END_TEST

static void check_every_field(void *context, fake_request *request)
{
    fixture_server *server = context;
    const fc_wire_attend *asked = &request->wire.attend;
    if (request->wire.op == FC_OP_ATTEND) {
        uint32_t kv_len = 0;
        ck_assert_uint_eq(asked->kv_len_count, 1);
        fc_codec_kv_len(asked, &kv_len);
        ck_assert_uint_eq(kv_len, 2);
        ck_assert_int_eq(asked->layout, FC_BSHD);
        ck_assert_int_eq(asked->causal, FC_CAUSAL_BOTTOM_RIGHT);
        ck_assert_int_eq(asked->window_left, 3);
        ck_assert_int_eq(asked->window_right, 0);
        ck_assert(asked->has_scale);
        ck_assert_float_eq(asked->scale, 0.5f);
        ck_assert_float_eq(asked->softcap, 30.0f);
        ck_assert_uint_eq(asked->kernel.bytes, 3);
        ck_assert_mem_eq(asked->kernel.text, "vec", 3);
        ck_assert_uint_eq(asked->deadline_us, 123456);
        ck_assert(!asked->wants_lse);
        ck_assert_mem_eq(asked->k.data, server->owner->q, asked->k.data_bytes);
        server->turns++;
    }
    fake_answer_well(request);
}

START_TEST(every_field_of_a_request_travels)
{
    fixture f;
    fixture_open(&f, 1, check_every_field);
    const uint32_t kv_len[] = {2};
    f.request.layout = FLASHCORE_BSHD;
    f.request.causal = FLASHCORE_CAUSAL_BOTTOM_RIGHT;
    f.request.window_left = 3;
    f.request.window_right = 0;
    f.request.scale = 0.5f;
    f.request.softcap = 30.0f;
    f.request.kv_len = kv_len;
    f.request.kernel = "vec";
    f.request.deadline_us = 123456;
    f.request.lse = NULL;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
    ck_assert_mem_eq(f.out, f.q, sizeof f.q);
    ck_assert_uint_eq(f.servers[0].turns, 1);
    fixture_close(&f);
}
END_TEST

static void count_counters(void *context, const char *name, double value)
{
    int *seen = context;
    if (*seen == 0) {
        ck_assert_str_eq(name, "requests");
        ck_assert_double_eq(value, 3);
    } else {
        ck_assert_str_eq(name, "uptime_s");
        ck_assert_double_eq(value, 0.5);
    }
    ++*seen;
}

START_TEST(the_small_operations_answer)
{
    fixture f;
    fixture_open(&f, 1, script_well);
    double us = 0;
    ck_assert_int_eq(flashcore_ping(f.client, 0, &us), FLASHCORE_OK);
    ck_assert_double_gt(us, 0);
    flashcore_info info;
    ck_assert_int_eq(flashcore_hello(f.client, 0, &info), FLASHCORE_OK);
    ck_assert_str_eq(info.server, "fake");
    ck_assert_uint_eq(info.kernel_count, 2);
    ck_assert_str_eq(info.kernels[1], "reference");
    ck_assert_uint_eq(info.message_bytes_max, 1 << 20);
    int seen = 0;
    ck_assert_int_eq(flashcore_stats(f.client, 0, count_counters, &seen), FLASHCORE_OK);
    ck_assert_int_eq(seen, 2);
    ck_assert_int_eq(flashcore_ping(f.client, 1, &us), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_str_ne(flashcore_last_error(), "");
    fixture_close(&f);
}
END_TEST

static void script_refuse(void *context, fake_request *request)
{
    fixture_server *server = context;
    if (request->wire.op == FC_OP_ATTEND)
        fake_answer_status(request, (fc_status)server->variant, 0);
    else
        fake_answer_well(request);
}

/* Every wire status that is the end of a call (ok, busy and draining have their own tests). */
START_TEST(a_refusal_is_reported_as_it_is)
{
    fixture f;
    fixture_open(&f, 1, script_refuse);
    unsigned count = 0;
    for (int status = FC_OK + 1; status < FC_STATUS_COUNT; status++) {
        if (status == FC_BUSY || status == FC_DRAINING || fc_status_on_wire((fc_status)status) != (fc_status)status)
            continue;
        f.servers[0].variant = status;
        flashcore_result result;
        ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), status);
        ck_assert_int_eq(result.status, status);
        ck_assert_str_eq(result.error, "as scripted");
        ck_assert_str_eq(flashcore_last_error(), "as scripted");
        ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), ++count);
    }
    ck_assert_uint_eq(count, 8);
    fixture_check_untouched(&f);
    fixture_close(&f);
}
END_TEST

/* --- lies ------------------------------------------------------------------------------------------------------- */

typedef struct lie {
    const char *name;
    void (*spoil)(fc_wire_reply *reply);
} lie;

static void spoil_dtype(fc_wire_reply *reply)
{
    reply->attend.out.dtype = FC_F16; /* same bytes, twice the columns */
    reply->attend.out.shape[3] *= 2;
}
static void spoil_shape(fc_wire_reply *reply)
{
    reply->attend.out.shape[1] = FIXTURE_S;
    reply->attend.out.shape[2] = FIXTURE_H;
}
static const uint8_t BIG[4096 * FIXTURE_D];
static void spoil_size(fc_wire_reply *reply)
{
    reply->attend.out.shape[2] = sizeof BIG / (FIXTURE_B * FIXTURE_H * FIXTURE_D * sizeof(float));
    reply->attend.out.data = BIG;
    reply->attend.out.data_bytes = sizeof BIG;
}
static void spoil_id(fc_wire_reply *reply)
{
    reply->id++;
}
static void spoil_id_zero(fc_wire_reply *reply)
{
    reply->id = 0;
}
static void spoil_body(fc_wire_reply *reply)
{
    reply->body = FC_BODY_NONE;
}
static void spoil_other_body(fc_wire_reply *reply)
{
    reply->body = FC_BODY_STATS;
    reply->stats.counter_count = 0;
}
static void spoil_lse_missing(fc_wire_reply *reply)
{
    reply->attend.has_lse = false;
}
static void spoil_lse_shape(fc_wire_reply *reply)
{
    reply->attend.lse.shape[1] = FIXTURE_S;
    reply->attend.lse.shape[2] = FIXTURE_H;
}
static void spoil_lse_size(fc_wire_reply *reply)
{
    reply->attend.lse.shape[2] = sizeof BIG / (FIXTURE_B * FIXTURE_H * sizeof(float));
    reply->attend.lse.data = BIG;
    reply->attend.lse.data_bytes = sizeof BIG;
}

static const lie LIES[] = {
    {"out of another dtype", spoil_dtype},
    {"out of another shape", spoil_shape},
    {"out too large", spoil_size},
    {"another id", spoil_id},
    {"id 0 with ok", spoil_id_zero},
    {"no body", spoil_body},
    {"a stats body", spoil_other_body},
    {"no lse", spoil_lse_missing},
    {"lse of another shape", spoil_lse_shape},
    {"lse too large", spoil_lse_size},
};
enum { LIE_COUNT = sizeof LIES / sizeof LIES[0] };

static void script_lie(void *context, fake_request *request)
{
    fixture_server *server = context;
    float lse[FIXTURE_ROWS];
    if (request->wire.op != FC_OP_ATTEND) {
        fake_answer_well(request);
        return;
    }
    fc_wire_reply reply = fake_attend_reply(request, lse);
    LIES[server->variant].spoil(&reply);
    fake_answer(request, &reply);
}

START_TEST(a_lying_reply_is_caught)
{
    fixture f;
    fixture_open(&f, 1, script_lie);
    f.servers[0].variant = _i;
    flashcore_result result;
    ck_assert_msg(flashcore_attend(f.client, &f.request, &result) == FLASHCORE_BAD_REPLY, "%s: %s (%s)", LIES[_i].name,
                  flashcore_status_name(result.status), result.error);
    ck_assert_str_ne(result.error, "");
    fixture_check_untouched(&f);
    fixture_close(&f);
}
END_TEST

/* variant >= 0: a right answer cut to that many bytes; -1: with one byte more; -2: noise. */
static void script_mangle(void *context, fake_request *request)
{
    fixture_server *server = context;
    if (request->wire.op != FC_OP_ATTEND) {
        fake_answer_well(request);
        return;
    }
    float lse[FIXTURE_ROWS];
    uint8_t bytes[4096];
    size_t size_bytes = 0;
    fc_wire_reply reply = fake_attend_reply(request, lse);
    ck_assert_int_eq(fc_codec_encode_reply(&reply, bytes, sizeof bytes, &size_bytes), FC_OK);
    server->turns = (unsigned)size_bytes;
    if (server->variant == -1)
        bytes[size_bytes++] = 0xc0;
    else if (server->variant == -2)
        memset(bytes, 0xdf, size_bytes);
    else
        size_bytes = (size_t)server->variant;
    fake_answer_bytes(request, bytes, size_bytes);
}

START_TEST(a_mangled_reply_is_caught)
{
    fixture f;
    fixture_open(&f, 1, script_mangle);
    unsigned full_bytes = 1;
    for (int variant = -2; variant < (int)full_bytes; variant++) {
        f.servers[0].variant = variant;
        ck_assert_msg(flashcore_attend(f.client, &f.request, NULL) == FLASHCORE_BAD_REPLY, "variant %d", variant);
        full_bytes = f.servers[0].turns;
    }
    ck_assert_uint_gt(full_bytes, 200);
    fixture_check_untouched(&f);
    f.servers[0].variant = (int)full_bytes; /* and the whole of it is right */
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
    fixture_close(&f);
}
END_TEST

static void script_escape(void *context, fake_request *request)
{
    (void)context;
    fc_wire_reply reply = {.id = request->wire.id, .status = FC_INTERNAL, .error = {"a\x1b[31m\nb", 8}};
    if (request->wire.op == FC_OP_ATTEND)
        fake_answer(request, &reply);
    else
        fake_answer_well(request);
}

START_TEST(a_servers_text_cannot_steer_a_terminal)
{
    fixture f;
    fixture_open(&f, 1, script_escape);
    flashcore_result result;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_INTERNAL);
    ck_assert_str_eq(result.error, "a [31m b");
    fixture_close(&f);
}
END_TEST

/* --- busy, silence, absence -------------------------------------------------------------------------------------- */

/* Busy `variant` times, then well. */
static void script_busy(void *context, fake_request *request)
{
    fixture_server *server = context;
    if (request->wire.op == FC_OP_ATTEND && (int)server->turns < server->variant) {
        server->turns++;
        fake_answer_status(request, FC_BUSY, 1000);
    } else {
        fake_answer_well(request);
    }
}

START_TEST(busy_is_tried_again)
{
    fixture f;
    fixture_open(&f, 1, script_busy);
    f.servers[0].variant = 3;
    flashcore_result result;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_OK);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 4);
    ck_assert_uint_eq(result.retry_after_us, 0);
    ck_assert_double_ge(result.client_total_us, 3000);
    fixture_check_answer(&f);
    fixture_close(&f);
}
END_TEST

/* Busy for a moment, then for longer than any timeout. */
static void script_busy_for_long(void *context, fake_request *request)
{
    fixture_server *server = context;
    if (request->wire.op == FC_OP_ATTEND)
        fake_answer_status(request, FC_BUSY, server->turns++ == 0 ? 1000 : 3600000000u);
    else
        fake_answer_well(request);
}

START_TEST(busy_is_reported_when_the_timeout_ends_it)
{
    fixture f;
    fixture_prepare(&f, 1);
    fixture_start_server(&f, 0, script_busy_for_long);
    fixture_connect(&f);
    flashcore_result result;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_BUSY);
    ck_assert_uint_eq(result.retry_after_us, 3600000000u);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 2);
    fixture_check_untouched(&f);
    fixture_close(&f);
}
END_TEST

START_TEST(silence_times_out_and_takes_the_request_back)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.timeout_us = 1000 * 1000;
    fixture_start_server(&f, 0, script_hold);
    fixture_connect(&f);
    flashcore_result result;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_TIMED_OUT);
    ck_assert_double_ge(result.client_total_us, 999 * 1000);
    fixture_await_held(&f, 0);
    fixture_await_cancel(&f, 0);
    fake_request *held = fixture_take_held(&f, 0, 0);
    ck_assert_uint_eq(f.servers[0].cancel_target, held->wire.id);
    ck_assert_uint_lt(held->wire.attend.deadline_us - 1, 1000 * 1000); /* the server knows how long anybody waits */
    fake_answer_well(held);                                            /* too late: it must reach nobody */
    ck_assert_int_eq(flashcore_ping(f.client, 0, NULL), FLASHCORE_OK);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 1);
    fixture_check_untouched(&f);
    fixture_close(&f);
}
END_TEST

START_TEST(no_server_is_unreachable)
{
    fixture f;
    fixture_prepare(&f, 2);
    f.options.connect_timeout_us = 50 * 1000;
    fixture_connect(&f);
    flashcore_result result;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, &result), FLASHCORE_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(result.error, f.urls[0]));
    ck_assert_ptr_nonnull(strstr(result.error, "is flashcored running?"));
    ck_assert_int_eq(flashcore_ping(f.client, 1, NULL), FLASHCORE_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(flashcore_last_error(), f.urls[1]));
    fixture_close(&f);
}
END_TEST

START_TEST(a_server_that_comes_late_is_waited_for)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.timeout_us = 0;
    fixture_connect(&f);
    flashcore_call *call = NULL;
    ck_assert_int_eq(flashcore_submit(f.client, &f.request, NULL, NULL, &call), FLASHCORE_OK);
    fixture_start_server(&f, 0, script_well);
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), FLASHCORE_OK);
    fixture_check_answer(&f);
    flashcore_call_release(call);
    fixture_close(&f);
}
END_TEST

START_TEST(a_timeout_ends_the_wait_for_a_connection)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.timeout_us = 50 * 1000;
    fixture_connect(&f);
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_TIMED_OUT);
    fixture_close(&f);
}
END_TEST

/* --- wrong arguments --------------------------------------------------------------------------------------------- */

static void break_dtype(flashcore_request *request)
{
    request->k.dtype = (flashcore_dtype)7;
}
static void break_layout(flashcore_request *request)
{
    request->layout = (flashcore_layout)2;
}
static void break_causal(flashcore_request *request)
{
    request->causal = (flashcore_causal)-1;
}
static void break_data(flashcore_request *request)
{
    request->v.data = NULL;
}
static void break_out(flashcore_request *request)
{
    request->out = NULL;
}
static void break_dimension(flashcore_request *request)
{
    request->q.shape[0] = (uint64_t)1 << 31;
}
static void break_product(flashcore_request *request)
{
    for (int i = 0; i < 4; i++)
        request->q.shape[i] = 0x7fffffff;
}
static void break_kernel(flashcore_request *request)
{
    request->kernel = "a-name-of-thirty-two-characters.";
}
static void break_struct_bytes(flashcore_request *request)
{
    request->struct_bytes = 0;
}
static void break_newer_struct(flashcore_request *request)
{
    request->struct_bytes++;
}

static const struct {
    void (*spoil)(flashcore_request *request);
    const char *named;
} WRONG_REQUESTS[] = {
    {break_dtype, "k.dtype"},
    {break_layout, "layout"},
    {break_causal, "causal"},
    {break_data, "v.data"},
    {break_out, "out"},
    {break_dimension, "q.shape[0]"},
    {break_product, "q.shape"},
    {break_kernel, "kernel"},
    {break_struct_bytes, "struct_bytes"},
    {break_newer_struct, "struct_bytes"},
};

START_TEST(a_wrong_request_is_refused_before_it_is_sent)
{
    fixture f;
    fixture_open(&f, 1, script_well);
    flashcore_request request = f.request;
    WRONG_REQUESTS[_i].spoil(&request);
    flashcore_result result;
    ck_assert_int_eq(flashcore_attend(f.client, &request, &result), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_msg(strncmp(result.error, WRONG_REQUESTS[_i].named, strlen(WRONG_REQUESTS[_i].named)) == 0 ||
                      strstr(result.error, WRONG_REQUESTS[_i].named) != NULL,
                  "%s", result.error);
    flashcore_call *call = (flashcore_call *)&f;
    ck_assert_int_eq(flashcore_submit(f.client, &request, NULL, NULL, &call), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_ptr_null(call);
    ck_assert_str_eq(flashcore_last_error(), result.error);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_ATTEND), 0);
    ck_assert_int_eq(flashcore_attend(NULL, &f.request, NULL), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_attend(f.client, NULL, NULL), FLASHCORE_INVALID_ARGUMENT);
    fixture_close(&f);
}
END_TEST

START_TEST(an_empty_tensor_travels)
{
    fixture f;
    fixture_open(&f, 1, script_well);
    f.request.q.shape[2] = 0;
    f.request.q.data = NULL;
    f.request.out = NULL;
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
    fixture_check_untouched(&f);
    fixture_close(&f);
}
END_TEST

START_TEST(wrong_options_are_refused)
{
    static const char long_url[] = "ipc:///tmp/0123456789012345678901234567890123456789012345678901234567890123456789"
                                   "0123456789012345678901234567890123456789";
    const char *const bad_urls[] = {"", "nonsense", "http://127.0.0.1/", "tcp://", long_url, NULL};
    flashcore_client *client = NULL;
    for (size_t i = 0; i < sizeof bad_urls / sizeof bad_urls[0]; i++) {
        const char *urls[2] = {"ipc:///tmp/fc-client-nobody.sock", bad_urls[i]};
        flashcore_options options;
        flashcore_options_init(&options);
        options.urls = urls;
        options.url_count = 2;
        ck_assert_msg(flashcore_client_create(&options, &client) == FLASHCORE_INVALID_ARGUMENT, "%s",
                      bad_urls[i] != NULL ? bad_urls[i] : "NULL");
        ck_assert_ptr_null(client);
        ck_assert_str_ne(flashcore_last_error(), "");
    }
    flashcore_options options;
    flashcore_options_init(&options);
    ck_assert_int_eq(flashcore_client_create(&options, &client), FLASHCORE_INVALID_ARGUMENT);
    const char *urls[65] = {NULL};
    options.urls = urls;
    options.url_count = 65;
    ck_assert_int_eq(flashcore_client_create(&options, &client), FLASHCORE_INVALID_ARGUMENT);
    urls[0] = "ipc:///tmp/fc-client-nobody.sock";
    options.url_count = 1;
    options.inflight_max = 0;
    ck_assert_int_eq(flashcore_client_create(&options, &client), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_client_create(NULL, &client), FLASHCORE_INVALID_ARGUMENT);
    flashcore_client_destroy(NULL);
    flashcore_call_release(NULL);
    ck_assert_int_eq(flashcore_wait(NULL, 0, NULL), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_cancel(NULL), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_has_ended(NULL), 1);
}
END_TEST

START_TEST(names_and_version)
{
    ck_assert_uint_eq(flashcore_api_version(), FLASHCORE_API_VERSION);
    ck_assert_str_eq(flashcore_status_name(FLASHCORE_BAD_REPLY), "bad_reply");
    ck_assert_str_eq(flashcore_status_name((flashcore_status)99), "unknown");
    ck_assert_str_ne(flashcore_status_text(FLASHCORE_UNREACHABLE), "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client");
    TCase *calls = tcase_create("calls");
    tcase_set_timeout(calls, 60);
    tcase_add_test(calls, a_call_brings_out_and_lse_back);
    tcase_add_test(calls, every_field_of_a_request_travels);
    tcase_add_test(calls, the_small_operations_answer);
    tcase_add_test(calls, a_refusal_is_reported_as_it_is);
    tcase_add_loop_test(calls, a_lying_reply_is_caught, 0, LIE_COUNT);
    tcase_add_test(calls, a_mangled_reply_is_caught);
    tcase_add_test(calls, a_servers_text_cannot_steer_a_terminal);
    tcase_add_test(calls, busy_is_tried_again);
    tcase_add_test(calls, busy_is_reported_when_the_timeout_ends_it);
    tcase_add_test(calls, silence_times_out_and_takes_the_request_back);
    tcase_add_test(calls, no_server_is_unreachable);
    tcase_add_test(calls, a_server_that_comes_late_is_waited_for);
    tcase_add_test(calls, a_timeout_ends_the_wait_for_a_connection);
    tcase_add_loop_test(calls, a_wrong_request_is_refused_before_it_is_sent, 0,
                        sizeof WRONG_REQUESTS / sizeof WRONG_REQUESTS[0]);
    tcase_add_test(calls, an_empty_tensor_travels);
    tcase_add_test(calls, wrong_options_are_refused);
    tcase_add_test(calls, names_and_version);
    suite_add_tcase(suite, calls);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
