/* TLS without memory: with one allocation after the other failing, OpenSSL's among them, contexts and sessions are
 * either made or refused with a reason; nothing crashes, and (under ASan) nothing leaks.
 */
#include "proto/tls.h"

#include "tests/support/certs.h"
#include "tests/support/failing_alloc.h"

#include <check.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64];
static fc_certs certs;
static fc_cert ours;
static fc_tls_files files;
static fc_reason reason;

/* --- OpenSSL's allocations are the program's own, so that they fail with the others ------------------------------- */

static void *allocate(size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    return malloc(bytes);
}

static void *reallocate(void *memory, size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    return realloc(memory, bytes);
}

static void release(void *memory, const char *file, int line)
{
    (void)file, (void)line;
    free(memory);
}

static void set_up(void)
{
    strcpy(dir, "/tmp/flashcored-tls-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    fc_certs_open(&certs, dir, "ca");
    ours = fc_certs_issue(&certs, "ours", "ours", 5);
    files = (fc_tls_files){.cert = ours.cert_path, .key = ours.key_path, .ca = certs.ca_path};
}

static void tear_down(void)
{
    unlink(ours.cert_path);
    unlink(ours.key_path);
    unlink(certs.ca_path);
    ck_assert_int_eq(rmdir(dir), 0);
    fc_certs_close(&certs);
}

/* --- what is run: makes one thing and undoes it. No assertions in here: Check allocates too ----------------------- */

static fc_status run_server(void)
{
    fc_tls *tls = NULL;
    fc_status st = fc_tls_server_create(&files, &tls, &reason);
    if (st == FC_OK)
        fc_tls_destroy(tls);
    return st;
}

static fc_status run_client(void)
{
    fc_tls *tls = NULL;
    fc_status st = fc_tls_client_create(&files, &tls, &reason);
    if (st == FC_OK)
        fc_tls_destroy(tls);
    return st;
}

static fc_tls *opened;

static fc_status run_session(void)
{
    fc_tls_session *session = NULL;
    static const fc_tls_wire WIRE = {0};
    fc_status st = fc_tls_session_open(opened, "localhost", &WIRE, &session);
    if (st == FC_OK)
        fc_tls_session_close(session);
    return st;
}

static const struct {
    const char *name;
    fc_status (*run)(void);
    bool says_why;
} RUNS[] = {
    {"server", run_server, true},
    {"client", run_client, true},
    {"session", run_session, false},
};

/* A context takes OpenSSL some 9,000 allocations: not each of them fails, but more than one in every function. */
enum { EACH = 64, STRIDE = 31 };

START_TEST(any_allocation_may_fail)
{
    unsigned failed_count = 0;
    ck_assert_int_eq(fc_tls_client_create(&files, &opened, NULL), FC_OK);
    ck_assert_int_eq(RUNS[_i].run(), FC_OK); /* what OpenSSL makes once and keeps is made */
    for (unsigned n = 1;; n += n < EACH ? 1 : STRIDE) {
        reason.text[0] = '\0';
        failing_alloc_arm(n);
        fc_status st = RUNS[_i].run();
        if (!failing_alloc_disarm()) {
            ck_assert_int_eq(st, FC_OK);
            break;
        }
        failed_count += st != FC_OK;
        ck_assert_msg(st == FC_OK || !RUNS[_i].says_why || reason.text[0] != '\0', "%s, allocation %u: %s, no reason",
                      RUNS[_i].name, n, fc_status_name(st));
    }
    ck_assert_uint_ge(failed_count, 3);
    fc_tls_destroy(opened);
}
END_TEST

int main(void)
{
    if (CRYPTO_set_mem_functions(allocate, reallocate, release) != 1) {
        fprintf(stderr, "OpenSSL has allocated already\n");
        return EXIT_FAILURE;
    }
    Suite *suite = suite_create("tls_memory");
    TCase *tcase = tcase_create("tls_memory");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, any_allocation_may_fail, 0, sizeof RUNS / sizeof RUNS[0]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
