/* What the service answers to which bytes, without sockets and without arithmetic: a fake engine holds launches until
 * the test lets them go. Waiting, company and endings are test_service_queue.c's.
 */
#include "tests/support/service_bench.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(hello_says_what_the_server_is)
{
    service_bench b;
    service_bench_open(&b);
    service_bench_send_op(&b, 1, FC_OP_HELLO, 0, 7);
    service_bench_expect(&b, 1, FC_OK);
    const fc_wire_hello *hello = &b.boxes[1].reply.hello;
    ck_assert_int_eq(b.boxes[1].reply.body, FC_BODY_HELLO);
    ck_assert(service_bench_is_text(hello->server, "flashcored"));
    ck_assert(service_bench_is_text(hello->version, FC_VERSION));
    ck_assert(service_bench_is_text(hello->device, "fake"));
    ck_assert(service_bench_is_text(hello->default_kernel, "cpu"));
    ck_assert_uint_eq(hello->kernel_count, 1);
    ck_assert(service_bench_is_text(hello->kernels[0], "cpu"));
    ck_assert_uint_eq(hello->limits.tensor_bytes, 4096);
    ck_assert_uint_eq(hello->limits.queue_requests, 16);
    ck_assert_uint_eq(hello->limits.inflight_per_peer, 16);
    ck_assert_uint_gt(hello->feature_count, 0);
    service_bench_close(&b);
}
END_TEST

START_TEST(small_operations_are_answered_while_everything_is_taken)
{
    service_bench b;
    service_bench_open(&b);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 1, 7);
    fake_engine_await_launches(&b.engine, 1);
    service_bench_send_op(&b, 2, FC_OP_PING, 0, 7);
    service_bench_expect(&b, 2, FC_OK);
    ck_assert_double_eq(service_bench_counter(&b, 3, "running"), 1);
    ck_assert_double_eq(service_bench_counter(&b, 3, "queued"), 0);
    ck_assert_double_eq(service_bench_counter(&b, 3, "requests_ping"), 1);
    ck_assert_double_eq(service_bench_counter(&b, 3, "requests_attend"), 1);
    fake_engine_release(&b.engine, 1);
    service_bench_expect(&b, 1, FC_OK);
    ck_assert_double_eq(service_bench_counter(&b, 3, "running"), 0);
    ck_assert_double_eq(service_bench_counter(&b, 3, "launches"), 1);
    service_bench_close(&b);
}
END_TEST

START_TEST(an_answer_holds_what_the_engine_wrote)
{
    service_bench b;
    service_bench_open(&b);
    for (int wants_lse = 0; wants_lse < 2; wants_lse++) {
        fc_wire_request request = service_bench_request(1);
        request.attend.wants_lse = wants_lse;
        reply_box_send(&b.boxes[1], &request, NULL, 7);
        service_bench_expect(&b, 1, FC_OK);
        const fc_wire_reply *reply = &b.boxes[1].reply;
        ck_assert_int_eq(reply->body, FC_BODY_ATTEND);
        ck_assert_uint_eq(reply->attend.out.data_bytes, sizeof(float) * SERVICE_BENCH_ELEMENTS);
        for (size_t i = 0; i < reply->attend.out.data_bytes; i++)
            ck_assert_uint_eq(reply->attend.out.data[i], FAKE_ENGINE_FILL);
        ck_assert_int_eq(reply->attend.has_lse, wants_lse);
        if (wants_lse) {
            static const float one = 1.0f;
            ck_assert_uint_eq(reply->attend.lse.data_bytes,
                              sizeof(float) * SERVICE_BENCH_B * SERVICE_BENCH_H * SERVICE_BENCH_S);
            ck_assert_mem_eq(reply->attend.lse.data, &one, sizeof one);
        }
        ck_assert(service_bench_is_text(reply->attend.kernel, "cpu"));
        ck_assert(service_bench_is_text(reply->attend.device, "fake"));
        ck_assert_uint_eq(reply->attend.timing.batch, 1);
        ck_assert_double_eq(reply->attend.timing.kernel_us, 2);
        ck_assert_double_ge(reply->attend.timing.total_us, reply->attend.timing.queue_us);
    }
    service_bench_close(&b);
}
END_TEST

START_TEST(garbage_gets_an_answer)
{
    static const uint8_t garbage[] = {0xc1, 0x00, 0xff};
    service_bench b;
    service_bench_open(&b);
    reply_box_send_bytes(&b.boxes[1], garbage, sizeof garbage, 7);
    ck_assert_int_eq(reply_box_await(&b.boxes[1]), FC_INVALID_ARGUMENT);
    ck_assert_uint_eq(b.boxes[1].reply.id, 0);
    ck_assert_uint_gt(b.boxes[1].reply.error.bytes, 0);
    reply_box_send_bytes(&b.boxes[1], "", 0, 7);
    ck_assert_int_eq(reply_box_await(&b.boxes[1]), FC_INVALID_ARGUMENT);
    ck_assert_double_eq(service_bench_counter(&b, 2, "undecodable"), 2);
    service_bench_close(&b);
}
END_TEST

/* Whatever a message turns into when bytes of it change, it has one answer, and the service goes on. */
START_TEST(spoilt_messages_have_one_answer_too)
{
    service_bench b;
    uint8_t good[1024];
    uint8_t bytes[sizeof good];
    size_t size_bytes = 0;
    uint32_t kv_len[1] = {2};
    service_bench_open(&b);
    fc_wire_request request = service_bench_request(1);
    request.attend.has_kv_len = request.attend.has_scale = request.attend.wants_lse = true;
    request.attend.kv_len_count = 1;
    request.attend.scale = 0.5f;
    request.attend.deadline_us = 1000000;
    request.attend.kernel = (fc_wire_text){.text = "cpu", .bytes = 3};
    ck_assert_int_eq(fc_codec_encode_request(&request, kv_len, good, sizeof good, &size_bytes), FC_OK);
    srand(7);
    for (int turn = 0; turn < 20000; turn++) {
        memcpy(bytes, good, size_bytes);
        size_t length = turn % 10 == 0 ? (size_t)rand() % size_bytes : size_bytes;
        for (int change = 0; change < 1 + turn % 3; change++) {
            /* Mostly outside the tensors' data, where every byte is as good as another. */
            size_t at = (size_t)rand() % size_bytes;
            bytes[turn % 2 == 0 ? at : at % 100] = (uint8_t)rand();
        }
        reply_box_send_bytes(&b.boxes[1], bytes, length, 7);
        fc_status st = reply_box_await(&b.boxes[1]);
        ck_assert_msg(fc_status_on_wire(st) == st && st != FC_STATUS_COUNT, "turn %d: %s", turn, fc_status_name(st));
    }
    ck_assert_double_eq(service_bench_counter(&b, 2, "queued"), 0);
    service_bench_attend(&b, 3, 7);
    service_bench_expect(&b, 3, FC_OK);
    service_bench_close(&b);
}
END_TEST

START_TEST(empty_problems_are_answered)
{
    static const uint64_t rows[][5] = {/* batch, heads, q tokens, kv tokens, head_dim */
                                       {0, 2, 3, 3, 8},
                                       {1, 2, 0, 3, 8},
                                       {1, 2, 3, 0, 8},
                                       {0, 1, 0, 0, 8}};
    service_bench b;
    service_bench_open(&b);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_wire_request request = service_bench_request(1);
        request.attend.q = service_bench_tensor(FC_F32, rows[i][0], rows[i][1], rows[i][2], rows[i][4]);
        request.attend.k = request.attend.v =
            service_bench_tensor(FC_F32, rows[i][0], rows[i][1], rows[i][3], rows[i][4]);
        request.attend.wants_lse = true;
        reply_box_send(&b.boxes[1], &request, NULL, 7);
        service_bench_expect(&b, 1, FC_OK);
        ck_assert_uint_eq(b.boxes[1].reply.attend.out.data_bytes, request.attend.q.data_bytes);
        ck_assert_uint_eq(b.boxes[1].reply.attend.out.shape[2], rows[i][2]);
    }
    service_bench_close(&b);
}
END_TEST

START_TEST(kv_len_reaches_the_engine_checked)
{
    service_bench b;
    service_bench_open(&b);
    uint32_t kv_len[2] = {1, 3};
    fc_wire_request request = service_bench_request(1);
    request.attend.q = request.attend.k = request.attend.v =
        service_bench_tensor(FC_F32, 2, SERVICE_BENCH_H, SERVICE_BENCH_S, SERVICE_BENCH_D);
    request.attend.has_kv_len = true;
    request.attend.kv_len_count = 2;
    reply_box_send(&b.boxes[1], &request, kv_len, 7);
    service_bench_expect(&b, 1, FC_OK);
    kv_len[1] = 4;
    reply_box_send(&b.boxes[1], &request, kv_len, 7);
    service_bench_expect(&b, 1, FC_INVALID_ARGUMENT);
    ck_assert(memmem(b.boxes[1].reply.error.text, b.boxes[1].reply.error.bytes, "kv_len", 6) != NULL);
    request.attend.kv_len_count = 1;
    reply_box_send(&b.boxes[1], &request, kv_len, 7);
    service_bench_expect(&b, 1, FC_INVALID_ARGUMENT);
    service_bench_close(&b);
}
END_TEST

START_TEST(kernels_are_chosen_by_name)
{
    static const struct {
        const char *name;
        fc_status status;
    } rows[] = {{"cpu", FC_OK}, {"auto", FC_OK}, {"baseline", FC_UNSUPPORTED}, {"nonesuch", FC_INVALID_ARGUMENT}};
    service_bench b;
    service_bench_open(&b);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_wire_request request = service_bench_request(1);
        request.attend.kernel = (fc_wire_text){.text = rows[i].name, .bytes = strlen(rows[i].name)};
        reply_box_send(&b.boxes[1], &request, NULL, 7);
        service_bench_expect(&b, 1, rows[i].status);
        if (rows[i].status == FC_OK)
            ck_assert(service_bench_is_text(b.boxes[1].reply.attend.kernel, "cpu"));
        else
            ck_assert(memmem(b.boxes[1].reply.error.text, b.boxes[1].reply.error.bytes, "cpu", 3) != NULL);
    }
    service_bench_close(&b);
}
END_TEST

START_TEST(engine_failures_reach_every_request)
{
    static const struct {
        fc_status launch, reply;
        fc_status later; /* what comes then */
        int lost_events;
    } rows[] = {
        {FC_INTERNAL, FC_INTERNAL, FC_OK, 0},
        {FC_NO_MEMORY, FC_INTERNAL, FC_OK, 0},
        {FC_DEVICE_LOST, FC_DEVICE_LOST, FC_DRAINING, 1},
    };
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        service_bench b;
        service_bench_open(&b);
        fake_engine_hold(&b.engine);
        service_bench_attend(&b, 1, 7);
        fake_engine_await_launches(&b.engine, 1);
        service_bench_attend(&b, 2, 7);
        service_bench_attend(&b, 3, 7);
        fake_engine_release(&b.engine, 1);
        service_bench_expect(&b, 1, FC_OK);
        fake_engine_set_launch_status(&b.engine, rows[row].launch);
        fake_engine_release(&b.engine, 1);
        service_bench_expect(&b, 2, rows[row].reply);
        service_bench_expect(&b, 3, rows[row].reply);
        fake_engine_set_launch_status(&b.engine, FC_OK);
        fake_engine_release_all(&b.engine);
        service_bench_attend(&b, 4, 7);
        service_bench_expect(&b, 4, rows[row].later);
        ck_assert_double_eq(service_bench_counter(&b, 5, "launches_failed"), 1);
        ck_assert_double_eq(service_bench_counter(&b, 5, "device_lost"), rows[row].lost_events);
        ck_assert_double_eq(service_bench_counter(&b, 5, "draining"), rows[row].lost_events);
        ck_assert_int_eq(atomic_load(&b.events[FC_EVENT_DEVICE_LOST]), rows[row].lost_events);
        service_bench_close(&b);
    }
}
END_TEST

/* What waited has not started, whatever became of the launch before it: the lane that is free again takes none of it.
 */
START_TEST(with_the_device_lost_nothing_more_starts)
{
    service_bench b;
    service_bench_open(&b);
    fake_engine_hold(&b.engine);
    service_bench_attend(&b, 0, 7);
    fake_engine_await_launches(&b.engine, 1);
    for (int i = 1; i < 10; i++)
        service_bench_attend(&b, i, 7 + (uint64_t)i);
    fake_engine_set_launch_status(&b.engine, FC_DEVICE_LOST);
    fake_engine_release_all(&b.engine);
    service_bench_expect(&b, 0, FC_DEVICE_LOST);
    for (int i = 1; i < 10; i++) /* answered before the one that knew */
        ck_assert(reply_box_is_answered(&b.boxes[i]));
    for (int i = 1; i < 10; i++)
        service_bench_expect(&b, i, FC_DRAINING);
    ck_assert_uint_eq(fake_engine_launch_count(&b.engine), 1);
    ck_assert_int_eq(atomic_load(&b.events[FC_EVENT_DEVICE_LOST]), 1);
    service_bench_close(&b);
}
END_TEST

START_TEST(without_memory_for_a_reply_the_peer_is_cut)
{
    service_bench b;
    service_bench_open(&b);
    b.boxes[1].fails_to_allocate = b.boxes[2].fails_to_allocate = true;
    service_bench_send_op(&b, 1, FC_OP_PING, 0, 7);
    service_bench_expect(&b, 1, FC_STATUS_COUNT);
    ck_assert(!b.boxes[1].is_peer_gone);
    service_bench_attend(&b, 2, 7);
    service_bench_expect(&b, 2, FC_STATUS_COUNT);
    service_bench_attend(&b, 3, 7);
    service_bench_expect(&b, 3, FC_OK);
    ck_assert_double_eq(service_bench_counter(&b, 4, "lost_replies"), 2);
    ck_assert_double_eq(service_bench_counter(&b, 4, "running"), 0);
    service_bench_close(&b);
}
END_TEST

START_TEST(a_bad_config_is_refused)
{
    fc_reason reason = {""};
    fc_service *service = NULL;
    service_bench b;
    service_bench_prepare(&b);
    fc_service_config good = service_bench_config(&b);
    fc_service_config config = good;
    config.tunables.default_kernel = FC_KERNEL_BASELINE;
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_INVALID_ARGUMENT);
    ck_assert(strstr(reason.text, "baseline") != NULL && strstr(reason.text, "cpu") != NULL);
    config = good;
    config.tunables.queue_requests = 0;
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_INVALID_ARGUMENT);
    config = good;
    config.tunables.batch_requests = FC_BATCH_REQUESTS_MAX + 1;
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_INVALID_ARGUMENT);
    config = good;
    config.head_dim = FC_HEAD_DIM_MAX + 8;
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_INVALID_ARGUMENT);
    b.engine.lane_open_status = FC_NO_MEMORY;
    ck_assert_int_eq(fc_service_create(&good, &service, &reason), FC_NO_MEMORY);
    ck_assert(strstr(reason.text, "told to fail") != NULL);

    b.engine.lane_open_status = FC_OK;
    service_bench_open_with(&b, &good);
    good.tunables.inflight_per_peer = 0;
    ck_assert_int_eq(fc_service_reconfigure(b.service, &good.tunables, &reason), FC_INVALID_ARGUMENT);
    service_bench_attend(&b, 1, 7);
    service_bench_expect(&b, 1, FC_OK);
    service_bench_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("service");
    TCase *answers = tcase_create("answers");
    tcase_set_timeout(answers, 60);
    tcase_add_test(answers, hello_says_what_the_server_is);
    tcase_add_test(answers, small_operations_are_answered_while_everything_is_taken);
    tcase_add_test(answers, an_answer_holds_what_the_engine_wrote);
    tcase_add_test(answers, garbage_gets_an_answer);
    tcase_add_test(answers, spoilt_messages_have_one_answer_too);
    tcase_add_test(answers, empty_problems_are_answered);
    tcase_add_test(answers, kv_len_reaches_the_engine_checked);
    tcase_add_test(answers, kernels_are_chosen_by_name);
    suite_add_tcase(suite, answers);
    TCase *failures = tcase_create("failures");
    tcase_set_timeout(failures, 60);
    tcase_add_test(failures, engine_failures_reach_every_request);
    tcase_add_test(failures, with_the_device_lost_nothing_more_starts);
    tcase_add_test(failures, without_memory_for_a_reply_the_peer_is_cut);
    tcase_add_test(failures, a_bad_config_is_refused);
    suite_add_tcase(suite, failures);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
