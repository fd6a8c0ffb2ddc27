/* libflashcore-client-cuda on a driver of our own (tests/fake/driver): maps what a server exported, on the device the
 * server named, copies in and out, and leaves nothing behind, whichever call of the driver fails.
 */
#include "client/flashcore_cuda.h"
#include "tests/fake/driver/fake_driver.h"

#include <check.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BYTES = 1 << 16 };

static const uint8_t UUID[] = "fake-gpu-number0", STRANGER[] = "nobody's-gpu-123";

/* As a server exports it. */
static int export_memory(void)
{
    int fd = memfd_create("exported", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, BYTES), 0);
    return fd;
}

static flashcore_status map(int fd, const uint8_t *uuid, void **out_address, char *error)
{
    const flashcore_device_mapper *mapper = flashcore_cuda_mapper();
    error[0] = '\0';
    return mapper->map(mapper->context, fd, BYTES, uuid, out_address, error);
}

static void unmap(void *address)
{
    flashcore_cuda_mapper()->unmap(flashcore_cuda_mapper()->context, address, BYTES);
}

static void teardown(void)
{
    fake_driver_fail(0);
    fake_driver_devices(2);
    ck_assert_int_eq(fake_driver_live(), 0);
}

START_TEST(the_same_memory_on_both_sides)
{
    char error[FLASHCORE_ERROR_BYTES], back[100];
    void *address = NULL;
    int fd = export_memory();
    ck_assert_msg(map(fd, UUID, &address, error) == FLASHCORE_OK, "%s", error);
    ck_assert_int_eq(flashcore_cuda_upload((char *)address + 64, "inputs", 7), FLASHCORE_OK);
    ck_assert_int_eq(pread(fd, back, 7, 64), 7);
    ck_assert_str_eq(back, "inputs");
    ck_assert_int_eq(pwrite(fd, "outputs", 8, BYTES - 8), 8);
    ck_assert_int_eq(flashcore_cuda_download(back, (char *)address + BYTES - 8, 8), FLASHCORE_OK);
    ck_assert_str_eq(back, "outputs");
    close(fd); /* the mapping holds it */
    ck_assert_int_eq(flashcore_cuda_download(back, (char *)address + 64, 7), FLASHCORE_OK);
    ck_assert_str_eq(back, "inputs");
    unmap(address);
    unmap(address); /* twice is once */
}
END_TEST

START_TEST(only_what_is_mapped_is_copied)
{
    char error[FLASHCORE_ERROR_BYTES], byte = 0;
    void *address = NULL;
    int fd = export_memory();
    ck_assert_int_eq(map(fd, UUID, &address, error), FLASHCORE_OK);
    char *at = address;
    ck_assert_int_eq(flashcore_cuda_upload(at + BYTES, &byte, 1), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_cuda_upload(at - 1, &byte, 1), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_cuda_upload(at + 1, &byte, BYTES), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_cuda_upload(at + 1, &byte, SIZE_MAX), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_cuda_download(&byte, &byte, 1), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_cuda_download(NULL, at, 1), FLASHCORE_INVALID_ARGUMENT);
    ck_assert_int_eq(flashcore_cuda_upload(at + BYTES, NULL, 0), FLASHCORE_OK);
    unmap(address);
    ck_assert_int_eq(flashcore_cuda_upload(at, &byte, 1), FLASHCORE_INVALID_ARGUMENT);
    close(fd);
}
END_TEST

START_TEST(a_device_it_does_not_see_is_named)
{
    char error[FLASHCORE_ERROR_BYTES];
    void *address = NULL;
    int fd = export_memory();
    ck_assert_int_eq(map(fd, STRANGER, &address, error), FLASHCORE_UNSUPPORTED);
    ck_assert_str_eq(error, "the server's GPU, UUID 6e6f626f-..., is none of the 2 this process sees "
                            "(CUDA_VISIBLE_DEVICES?)");
    fake_driver_devices(1);
    ck_assert_int_eq(map(fd, UUID, &address, error), FLASHCORE_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error, "none of the 1"));
    close(fd);
}
END_TEST

START_TEST(every_call_may_fail)
{
    bool is_done = false;
    unsigned long call = 1;
    char error[FLASHCORE_ERROR_BYTES];
    void *address = NULL;
    int fd = export_memory();
    ck_assert_int_eq(map(fd, STRANGER, &address, error), FLASHCORE_UNSUPPORTED); /* the driver has started */
    for (; !is_done; call++) {
        char byte = 7, back = 0;
        ck_assert_uint_lt(call, 60);
        fake_driver_fail(call);
        flashcore_status status = map(fd, UUID, &address, error);
        if (status != FLASHCORE_OK) {
            ck_assert_msg(status == FLASHCORE_INTERNAL || status == FLASHCORE_UNSUPPORTED, "call %lu", call);
            ck_assert_str_ne(error, "");
            ck_assert_msg(fake_driver_live() == 0, "call %lu leaves something", call);
            continue;
        }
        is_done = flashcore_cuda_upload(address, &byte, 1) == FLASHCORE_OK &&
                  flashcore_cuda_download(&back, address, 1) == FLASHCORE_OK && back == 7 && call > 20;
        unmap(address);
    }
    ck_assert_uint_ge(call, 16);
    close(fd);
}
END_TEST

START_TEST(a_driver_that_does_not_start_is_told_of)
{
    char error[FLASHCORE_ERROR_BYTES];
    void *address = NULL;
    fake_driver_fail(1);
    ck_assert_int_eq(map(-1, UUID, &address, error), FLASHCORE_UNSUPPORTED);
    ck_assert_str_eq(error, "the NVIDIA driver does not start: CUDA_ERROR_UNKNOWN");
    ck_assert_int_eq(flashcore_cuda_upload(&address, error, 1), FLASHCORE_INVALID_ARGUMENT);
}
END_TEST

START_TEST(what_is_no_memory_of_a_server_is_refused)
{
    char error[FLASHCORE_ERROR_BYTES];
    void *address = NULL;
    ck_assert_int_eq(map(-1, UUID, &address, error), FLASHCORE_INTERNAL);
    ck_assert_str_eq(error, "importing the server's memory: CUDA_ERROR_INVALID_VALUE");
    int pipe_fds[2];
    ck_assert_int_eq(pipe(pipe_fds), 0);
    ck_assert_int_eq(map(pipe_fds[0], UUID, &address, error), FLASHCORE_INTERNAL);
    ck_assert_ptr_null(address);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client_cuda");
    TCase *core = tcase_create("core");
    tcase_add_checked_fixture(core, NULL, teardown);
    tcase_add_test(core, the_same_memory_on_both_sides);
    tcase_add_test(core, only_what_is_mapped_is_copied);
    tcase_add_test(core, a_device_it_does_not_see_is_named);
    tcase_add_test(core, every_call_may_fail);
    tcase_add_test(core, a_driver_that_does_not_start_is_told_of);
    tcase_add_test(core, what_is_no_memory_of_a_server_is_refused);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
