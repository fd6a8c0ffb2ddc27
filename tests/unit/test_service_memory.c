/* The data plane with its 1st, 2nd, 3rd ... allocation failing until it gets by without one that fails: every failure
 * is reported as such, nothing is left behind, and the next attempt works.
 */
#include "daemon/transport.h"
#include "tests/support/failing_alloc.h"
#include "tests/support/fake_engine.h"
#include "tests/support/reply_box.h"
#include "tests/support/sp_peer.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Far more allocations than anything here makes. */
#define ATTEMPTS_MAX 5000

static const float data[8 * 4];

static fc_service_config config_of(fake_engine *engine)
{
    return (fc_service_config){
        .ops = fake_engine_ops(),
        .engine = fake_engine_handle(engine),
        .engine_config = {.lane_staging_bytes = 1000, .lane_segments = 8},
        .message_bytes = 4096,
        .tensor_bytes = 4096,
        .tokens = 64,
        .head_dim = 128,
        .tunables = {.queue_requests = 2,
                     .queue_bytes = 1 << 20,
                     .inflight_per_peer = 16,
                     .batch_requests = 2,
                     .default_kernel = FC_KERNEL_AUTO},
    };
}

START_TEST(a_service_is_made_or_not)
{
    fake_engine engine;
    fake_engine_init(&engine);
    engine.lane_count = 2;
    fc_service_config config = config_of(&engine);
    for (unsigned number = 1;; number++) {
        fc_service *service = NULL;
        fc_reason reason = {""};
        ck_assert_uint_lt(number, ATTEMPTS_MAX);
        failing_alloc_arm(number);
        fc_status st = fc_service_create(&config, &service, &reason);
        bool has_failed = failing_alloc_disarm();
        ck_assert(has_failed || st == FC_OK);
        ck_assert(st == FC_OK || (st == FC_NO_MEMORY && reason.text[0] != '\0'));
        ck_assert(st != FC_OK || service != NULL);
        fc_service_destroy(service);
        ck_assert_uint_eq(engine.open_lane_count, 0);
        if (!has_failed)
            break;
    }
    fake_engine_fini(&engine);
}
END_TEST

START_TEST(a_request_is_answered_whatever_is_missing)
{
    fake_engine engine;
    fc_service *service = NULL;
    fc_reason reason = {""};
    reply_box box;
    uint8_t bytes[1024];
    size_t size_bytes = 0;
    uint32_t kv_len[1] = {1};
    fake_engine_init(&engine);
    fc_service_config config = config_of(&engine);
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_OK);
    fc_wire_request request = {.id = 9, .op = FC_OP_ATTEND};
    request.attend.q = request.attend.k = request.attend.v = (fc_wire_tensor){
        .dtype = FC_F32, .rank = 4, .shape = {1, 1, 1, 8}, .data = (const uint8_t *)data, .data_bytes = 32};
    request.attend.window_left = request.attend.window_right = -1;
    request.attend.has_kv_len = true;
    request.attend.kv_len_count = 1;
    ck_assert_int_eq(fc_codec_encode_request(&request, kv_len, bytes, sizeof bytes, &size_bytes), FC_OK);
    bool has_succeeded = false;
    for (unsigned number = 1; !has_succeeded; number++) {
        ck_assert_uint_lt(number, ATTEMPTS_MAX);
        reply_box_init(&box, service);
        box.message = malloc(size_bytes);
        memcpy(box.message, bytes, size_bytes);
        failing_alloc_arm(number);
        fc_service_receive(service, &box.request, box.message, size_bytes, number);
        bool has_failed = failing_alloc_disarm();
        fc_status st = reply_box_await(&box);
        /* Failing while admitting: internal. Failing in the reply's memory: the peer is cut. */
        ck_assert_msg(has_failed ? st == FC_INTERNAL || st == FC_STATUS_COUNT || st == FC_OK : st == FC_OK, "%s",
                      fc_status_name(st));
        has_succeeded = !has_failed;
        reply_box_fini(&box);
    }
    fc_service_drain(service);
    ck_assert(fc_service_is_idle(service));
    fc_service_destroy(service);
    fake_engine_fini(&engine);
}
END_TEST

START_TEST(a_transport_is_opened_or_not)
{
    fake_engine engine;
    fc_service *service = NULL;
    fc_reason reason = {""};
    char directory[] = "/tmp/fc-memory-XXXXXX";
    char url[64];
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(url, sizeof url, "ipc://%s/s", directory);
    fake_engine_init(&engine);
    fc_service_config config = config_of(&engine);
    ck_assert_int_eq(fc_service_create(&config, &service, &reason), FC_OK);
    fc_transport_config transport_config = {.service = service, .message_bytes = 4096};
    fc_transport *transport = NULL;
    bool has_failed = true;
    for (unsigned number = 1; has_failed; number++) {
        ck_assert_uint_lt(number, ATTEMPTS_MAX);
        transport = NULL;
        failing_alloc_arm(number);
        fc_status st = fc_transport_open(&transport_config, &transport, &reason);
        has_failed = failing_alloc_disarm();
        ck_assert(st == FC_OK || st == FC_NO_MEMORY);
        ck_assert((st == FC_OK) == (transport != NULL));
        fc_transport_close(transport);
    }
    has_failed = true;
    for (unsigned number = 1; has_failed; number++) {
        ck_assert_uint_lt(number, ATTEMPTS_MAX);
        ck_assert_int_eq(fc_transport_open(&transport_config, &transport, &reason), FC_OK);
        failing_alloc_arm(number);
        fc_status st = fc_transport_listen(transport, url, NULL, &reason);
        has_failed = failing_alloc_disarm();
        ck_assert_msg(st == FC_OK, "%s: %s", fc_status_name(st), reason.text);
        fc_transport_start(transport);
        if (st == FC_OK) {
            sp_peer peer;
            sp_peer_open(&peer, url);
            sp_peer_close(&peer);
        }
        fc_transport_close(transport);
    }
    fc_service_destroy(service);
    fake_engine_fini(&engine);
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("service_memory");
    TCase *memory = tcase_create("memory");
    tcase_set_timeout(memory, 120);
    tcase_add_test(memory, a_service_is_made_or_not);
    tcase_add_test(memory, a_request_is_answered_whatever_is_missing);
    tcase_add_test(memory, a_transport_is_opened_or_not);
    suite_add_tcase(suite, memory);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
