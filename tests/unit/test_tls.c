/* proto/tls: which files will do, and two sessions that talk to each other over memory. */
#include "proto/tls.h"

#include "tests/support/certs.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static fc_certs ours, theirs; /* two CAs */
static fc_cert server, client, stranger, old;

static void set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/flashcored-tls-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    fc_certs_open(&ours, dir, "ours");
    fc_certs_open(&theirs, dir, "theirs");
    server = fc_certs_issue(&ours, "server", "server", 5);
    client = fc_certs_issue(&ours, "client", "client", 5);
    old = fc_certs_issue(&ours, "old", "old", 0);
    stranger = fc_certs_issue(&theirs, "stranger", "stranger", 5);
}

static void tear_down(void)
{
    const char *paths[] = {ours.ca_path,    theirs.ca_path, server.cert_path, server.key_path,    client.cert_path,
                           client.key_path, old.cert_path,  old.key_path,     stranger.cert_path, stranger.key_path};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        unlink(paths[i]);
    rmdir(dir);
    fc_certs_close(&ours);
    fc_certs_close(&theirs);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static const char *reason_of(const fc_tls_files *files)
{
    static fc_reason reason;
    fc_tls *tls = NULL;
    reason.text[0] = '\0';
    fc_status st = fc_tls_server_create(files, &tls, &reason);
    ck_assert_int_ne(st, FC_OK);
    ck_assert_ptr_null(tls);
    return reason.text;
}

static void want_reason(const fc_tls_files *files, const char *path, const char *part)
{
    const char *text = reason_of(files);
    ck_assert_msg(strstr(text, path) != NULL && strstr(text, part) != NULL, "%s", text);
}

START_TEST(wrong_files_are_named)
{
    char missing[FC_CERTS_PATH_BYTES];
    snprintf(missing, sizeof missing, "%s/missing", dir);
    want_reason(&(fc_tls_files){.cert = missing, .key = server.key_path}, missing, "No such file");
    want_reason(&(fc_tls_files){.cert = server.cert_path, .key = missing}, missing, "No such file");
    want_reason(&(fc_tls_files){.cert = server.cert_path, .key = server.key_path, .ca = missing}, missing,
                "No such file");
    want_reason(&(fc_tls_files){.cert = server.key_path, .key = server.key_path}, server.key_path, "PEM certificate");
    want_reason(&(fc_tls_files){.cert = server.cert_path, .key = server.cert_path}, server.cert_path, "PEM key");
    want_reason(&(fc_tls_files){.cert = server.cert_path, .key = client.key_path}, client.key_path, "does not belong");
    want_reason(&(fc_tls_files){.cert = server.cert_path, .key = dir}, dir, "not a regular file");
    want_reason(&(fc_tls_files){.cert = server.cert_path}, "", "key");
    want_reason(&(fc_tls_files){.key = server.key_path}, "", "certificate");
    want_reason(&(fc_tls_files){.cert = server.cert_path, .key = server.key_path, .ca = server.key_path},
                server.key_path, "PEM certificates");
}
END_TEST

/* Nobody writes into the FIFO: who opened it as files are opened would wait. */
START_TEST(what_is_no_file_is_not_waited_for)
{
    char fifo[FC_CERTS_PATH_BYTES];
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    const char *const others[] = {fifo, "/dev/zero"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const char *path = others[i];
        want_reason(&(fc_tls_files){.cert = path, .key = server.key_path}, path, "not a regular file");
        want_reason(&(fc_tls_files){.cert = server.cert_path, .key = path}, path, "not a regular file");
        want_reason(&(fc_tls_files){.cert = server.cert_path, .key = server.key_path, .ca = path}, path,
                    "not a regular file");
        fc_tls *tls = NULL;
        fc_reason reason = {""};
        ck_assert_int_eq(fc_tls_client_create(&(fc_tls_files){.ca = path}, &tls, &reason), FC_INVALID_ARGUMENT);
        ck_assert_msg(strstr(reason.text, "TLS CA ") != NULL && strstr(reason.text, "not a regular file") != NULL, "%s",
                      reason.text);
    }
    unlink(fifo);
}
END_TEST

/* A certificate that is broken off behind a whole one: nothing of such a file is taken. */
START_TEST(a_file_broken_off_is_refused)
{
    FILE *file = fopen(server.cert_path, "a");
    ck_assert_ptr_nonnull(file);
    fputs("-----BEGIN CERTIFICATE-----\nMIIB\n", file);
    fclose(file);
    want_reason(&(fc_tls_files){.cert = server.cert_path, .key = server.key_path}, server.cert_path,
                "expected PEM certificates");
    want_reason(&(fc_tls_files){.cert = client.cert_path, .key = client.key_path, .ca = server.cert_path},
                server.cert_path, "expected PEM certificates");
}
END_TEST

START_TEST(a_key_is_for_nobody_else)
{
    static const struct {
        mode_t mode;
        bool is_fine;
    } rows[] = {{0600, true},  {0400, true},  {0640, true},  {0440, true},  {0660, false},
                {0644, false}, {0604, false}, {0606, false}, {0601, false}, {0620, false}};
    fc_tls_files files = {.cert = server.cert_path, .key = server.key_path};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_tls *tls = NULL;
        fc_reason reason;
        ck_assert_int_eq(chmod(server.key_path, rows[i].mode), 0);
        fc_status st = fc_tls_server_create(&files, &tls, &reason);
        ck_assert_msg((st == FC_OK) == rows[i].is_fine, "mode %o: %s", (unsigned)rows[i].mode, fc_status_name(st));
        if (st != FC_OK)
            ck_assert_msg(strstr(reason.text, "0600") != NULL, "%s", reason.text);
        fc_tls_destroy(tls);
    }
}
END_TEST

START_TEST(a_key_is_not_of_another_user)
{
    fc_tls_files files = {.cert = server.cert_path, .key = server.key_path};
    if (geteuid() != 0 || chown(server.key_path, 1, (gid_t)-1) != 0)
        return; /* nobody else can give a file away */
    want_reason(&files, server.key_path, "belongs to uid 1; expected root's or this process's (0)");
    ck_assert_int_eq(chown(server.key_path, 0, (gid_t)-1), 0);
    fc_tls *tls;
    ck_assert_int_eq(fc_tls_server_create(&files, &tls, NULL), FC_OK);
    fc_tls_destroy(tls);
}
END_TEST

/* Nobody is there to be asked for a passphrase: it must not wait for one. */
START_TEST(a_key_with_a_passphrase_is_refused)
{
    fc_certs_lock_key(&server, "secret");
    want_reason(&(fc_tls_files){.cert = server.cert_path, .key = server.key_path}, server.key_path,
                "expected a PEM key without passphrase");
}
END_TEST

START_TEST(a_client_says_what_is_wrong_with_its_files)
{
    fc_tls *tls = NULL;
    fc_reason reason = {""};
    ck_assert_int_eq(fc_tls_client_create(&(fc_tls_files){.ca = server.key_path}, &tls, &reason), FC_INVALID_ARGUMENT);
    ck_assert_msg(strstr(reason.text, "TLS CA ") != NULL && strstr(reason.text, "expected PEM certificates") != NULL,
                  "%s", reason.text);
    ck_assert_int_eq(fc_tls_client_create(&(fc_tls_files){.cert = client.cert_path}, &tls, &reason),
                     FC_INVALID_ARGUMENT);
    ck_assert_msg(strstr(reason.text, "needs its key") != NULL, "%s", reason.text);
    ck_assert_ptr_null(tls);
}
END_TEST

START_TEST(a_certificate_is_described)
{
    fc_tls *tls;
    fc_tls_identity identity;
    ck_assert_int_eq(
        fc_tls_server_create(&(fc_tls_files){.cert = server.cert_path, .key = server.key_path}, &tls, NULL), FC_OK);
    fc_tls_describe(tls, &identity);
    ck_assert_str_eq(identity.subject, "/CN=server");
    ck_assert_int_eq(identity.not_after[4], '-');
    ck_assert_int_gt(identity.left_s, 3 * 86400);
    ck_assert_int_le(identity.left_s, 4 * 86400);
    fc_tls_destroy(tls);
    ck_assert_int_eq(fc_tls_server_create(&(fc_tls_files){.cert = old.cert_path, .key = old.key_path}, &tls, NULL),
                     FC_OK);
    fc_tls_describe(tls, &identity);
    ck_assert_int_lt(identity.left_s, 0);
    fc_tls_destroy(tls);
    ck_assert_int_eq(fc_tls_client_create(&(fc_tls_files){.ca = ours.ca_path}, &tls, NULL), FC_OK);
    fc_tls_describe(tls, &identity);
    ck_assert_str_eq(identity.subject, "none");
    ck_assert_int_eq(identity.left_s, 0);
    fc_tls_destroy(tls);
}
END_TEST

/* --- sessions ----------------------------------------------------------------------------------------------------- */

/* One direction of a wire. */
typedef struct pipe_bytes {
    uint8_t bytes[1 << 16];
    size_t begin, end;
    size_t room; /* most bytes it takes before they are read: small ones make sessions stop in the middle */
} pipe_bytes;

typedef struct end_point {
    pipe_bytes *in, *out;
} end_point;

static ssize_t read_pipe(void *context, void *bytes, size_t size_bytes)
{
    pipe_bytes *pipe = ((end_point *)context)->in;
    size_t held = pipe->end - pipe->begin, got = size_bytes < held ? size_bytes : held;
    memcpy(bytes, pipe->bytes + pipe->begin, got);
    pipe->begin += got;
    if (pipe->begin == pipe->end)
        pipe->begin = pipe->end = 0;
    return (ssize_t)got;
}

static ssize_t write_pipe(void *context, const void *bytes, size_t size_bytes)
{
    pipe_bytes *pipe = ((end_point *)context)->out;
    size_t held = pipe->end - pipe->begin, room = held < pipe->room ? pipe->room - held : 0;
    size_t put = size_bytes < room ? size_bytes : room;
    if (pipe->end + put > sizeof pipe->bytes)
        put = sizeof pipe->bytes - pipe->end;
    memcpy(pipe->bytes + pipe->end, bytes, put);
    pipe->end += put;
    return (ssize_t)put;
}

typedef struct pair {
    pipe_bytes there, back;
    end_point ends[2];
    fc_tls *tls[2];
    fc_tls_session *sessions[2]; /* client, server */
    int steps[2];
} pair;

static void pair_open(pair *p, const fc_tls_files *client_files, const fc_tls_files *server_files, const char *name)
{
    memset(p, 0, sizeof *p);
    p->there.room = p->back.room = sizeof p->there.bytes;
    p->ends[0] = (end_point){.in = &p->back, .out = &p->there};
    p->ends[1] = (end_point){.in = &p->there, .out = &p->back};
    ck_assert_int_eq(fc_tls_client_create(client_files, &p->tls[0], NULL), FC_OK);
    ck_assert_int_eq(fc_tls_server_create(server_files, &p->tls[1], NULL), FC_OK);
    for (int i = 0; i < 2; i++) {
        fc_tls_wire wire = {.read = read_pipe, .write = write_pipe, .context = &p->ends[i]};
        ck_assert_int_eq(fc_tls_session_open(p->tls[i], i == 0 ? name : NULL, &wire, &p->sessions[i]), FC_OK);
        fc_tls_destroy(p->tls[i]); /* the session holds on to it */
    }
}

static void pair_close(pair *p)
{
    fc_tls_session_close(p->sessions[0]);
    fc_tls_session_close(p->sessions[1]);
}

/* Until both have said what came of it. In TLS 1.3 a client may learn only when it reads that it was refused. */
static void shake_hands(pair *p)
{
    uint8_t byte;
    for (int turn = 0; turn < 10000 && (p->steps[0] == 0 || p->steps[1] == 0); turn++)
        for (int i = 0; i < 2; i++)
            if (p->steps[i] == 0)
                p->steps[i] = fc_tls_handshake(p->sessions[i]);
    if (p->steps[0] == 1 && fc_tls_read(p->sessions[0], &byte, 1) < 0)
        p->steps[0] = -1;
}

START_TEST(only_the_right_two_talk)
{
    const struct {
        const char *what;
        fc_tls_files client, server;
        const char *name;
        bool is_right;
        const char *why; /* of the client's */
    } rows[] = {
        {"both show theirs",
         {.cert = client.cert_path, .key = client.key_path, .ca = ours.ca_path},
         {.cert = server.cert_path, .key = server.key_path, .ca = ours.ca_path},
         "localhost",
         true,
         ""},
        {"an address for a name",
         {.cert = client.cert_path, .key = client.key_path, .ca = ours.ca_path},
         {.cert = server.cert_path, .key = server.key_path, .ca = ours.ca_path},
         "127.0.0.1",
         true,
         ""},
        {"none is asked for",
         {.ca = ours.ca_path},
         {.cert = server.cert_path, .key = server.key_path},
         "localhost",
         true,
         ""},
        {"no client certificate",
         {.ca = ours.ca_path},
         {.cert = server.cert_path, .key = server.key_path, .ca = ours.ca_path},
         "localhost",
         false,
         "certificate required"},
        {"a stranger's certificate",
         {.cert = stranger.cert_path, .key = stranger.key_path, .ca = ours.ca_path},
         {.cert = server.cert_path, .key = server.key_path, .ca = ours.ca_path},
         "localhost",
         false,
         "unknown ca"},
        {"an old certificate",
         {.cert = old.cert_path, .key = old.key_path, .ca = ours.ca_path},
         {.cert = server.cert_path, .key = server.key_path, .ca = ours.ca_path},
         "localhost",
         false,
         "expired"},
        {"an unknown server",
         {.ca = ours.ca_path},
         {.cert = stranger.cert_path, .key = stranger.key_path},
         "localhost",
         false,
         "unable to get local issuer certificate"},
        {"another server",
         {.ca = ours.ca_path},
         {.cert = server.cert_path, .key = server.key_path},
         "elsewhere",
         false,
         "hostname mismatch"},
        {"another address",
         {.ca = ours.ca_path},
         {.cert = server.cert_path, .key = server.key_path},
         "127.0.0.2",
         false,
         "IP address mismatch"},
        {"an old server",
         {.ca = ours.ca_path},
         {.cert = old.cert_path, .key = old.key_path},
         "localhost",
         false,
         "certificate has expired"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static pair p;
        bool is_refusal = false;
        pair_open(&p, &rows[i].client, &rows[i].server, rows[i].name);
        shake_hands(&p);
        ck_assert_msg((p.steps[0] == 1 && p.steps[1] == 1) == rows[i].is_right, "%s", rows[i].what);
        const char *why = fc_tls_why(p.sessions[0], &is_refusal);
        ck_assert_msg(is_refusal == !rows[i].is_right, "%s: %s", rows[i].what, why);
        ck_assert_msg(strstr(why, rows[i].why) != NULL, "%s: %s", rows[i].what, why);
        pair_close(&p);
    }
}
END_TEST

static void append_file(const char *to_path, const char *from_path)
{
    char text[4096];
    FILE *from = fopen(from_path, "r"), *to = fopen(to_path, "a");
    ck_assert(from != NULL && to != NULL);
    size_t bytes = fread(text, 1, sizeof text, from);
    ck_assert_uint_eq(fwrite(text, 1, bytes, to), bytes);
    fclose(from);
    ck_assert_int_eq(fclose(to), 0);
}

/* A server's issuers are shown behind its certificate, and of the CAs in one file each is trusted, the last as the
 * first. */
START_TEST(a_file_may_hold_several)
{
    static pair p;
    fc_certs middle;
    fc_certs_open_under(&middle, &ours, "middle");
    fc_cert below = fc_certs_issue(&middle, "below", "below", 5);
    fc_tls_files server_files = {.cert = below.cert_path, .key = below.key_path, .ca = theirs.ca_path};
    fc_tls_files client_files = {.cert = client.cert_path, .key = client.key_path, .ca = theirs.ca_path};
    append_file(theirs.ca_path, ours.ca_path);
    for (int is_whole = 0; is_whole < 2; is_whole++) {
        pair_open(&p, &client_files, &server_files, "localhost");
        shake_hands(&p);
        ck_assert_int_eq(p.steps[0] == 1 && p.steps[1] == 1, is_whole);
        pair_close(&p);
        append_file(below.cert_path, middle.ca_path);
    }
    client_files.cert = stranger.cert_path;
    client_files.key = stranger.key_path;
    pair_open(&p, &client_files, &server_files, "localhost");
    shake_hands(&p);
    ck_assert(p.steps[0] == 1 && p.steps[1] == 1);
    pair_close(&p);
    unlink(middle.ca_path);
    unlink(below.cert_path);
    unlink(below.key_path);
    fc_certs_close(&middle);
}
END_TEST

/* A name that cannot be checked is not left unchecked. */
START_TEST(a_name_that_is_none_is_refused)
{
    static const fc_tls_wire WIRE = {0};
    char longest[300];
    fc_tls *tls = NULL;
    fc_tls_session *session = NULL;
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    ck_assert_int_eq(fc_tls_client_create(&(fc_tls_files){.ca = ours.ca_path}, &tls, NULL), FC_OK);
    ck_assert_int_eq(fc_tls_session_open(tls, longest, &WIRE, &session), FC_INVALID_ARGUMENT);
    ck_assert_int_eq(fc_tls_session_open(tls, "", &WIRE, &session), FC_INVALID_ARGUMENT);
    ck_assert_ptr_null(session);
    fc_tls_session_close(session);
    fc_tls_destroy(tls);
}
END_TEST

/* Without a CA of its own a client trusts whom the system does, and that is not this one. */
START_TEST(the_systems_issuers_are_not_ours)
{
    static pair p;
    bool is_refusal = false;
    pair_open(&p, &(fc_tls_files){0}, &(fc_tls_files){.cert = server.cert_path, .key = server.key_path}, "localhost");
    shake_hands(&p);
    ck_assert_int_eq(p.steps[0], -1);
    ck_assert_str_eq(fc_tls_why(p.sessions[0], &is_refusal), "unable to get local issuer certificate");
    ck_assert(is_refusal);
    pair_close(&p);
}
END_TEST

static ssize_t read_nothing_more(void *context, void *bytes, size_t size_bytes)
{
    (void)context, (void)bytes, (void)size_bytes;
    return -1;
}

/* The wire ends in the middle: no refusal, and it stays over. */
START_TEST(a_wire_that_ends_is_no_refusal)
{
    static pair p;
    uint8_t byte = 0;
    bool is_refusal = true;
    pair_open(&p, &(fc_tls_files){.ca = ours.ca_path},
              &(fc_tls_files){.cert = server.cert_path, .key = server.key_path}, "localhost");
    fc_tls_session_close(p.sessions[0]);
    fc_tls_wire wire = {.read = read_nothing_more, .write = write_pipe, .context = &p.ends[0]};
    fc_tls *tls;
    ck_assert_int_eq(fc_tls_client_create(&(fc_tls_files){.ca = ours.ca_path}, &tls, NULL), FC_OK);
    ck_assert_int_eq(fc_tls_session_open(tls, "localhost", &wire, &p.sessions[0]), FC_OK);
    fc_tls_destroy(tls);
    ck_assert_int_eq(fc_tls_handshake(p.sessions[0]), -1);
    ck_assert_str_eq(fc_tls_why(p.sessions[0], &is_refusal), "the connection ended");
    ck_assert(!is_refusal);
    ck_assert_int_eq(fc_tls_handshake(p.sessions[0]), -1);
    ck_assert_int_eq(fc_tls_write(p.sessions[0], &byte, 1), -1);
    fc_tls_say_goodbye(p.sessions[0]); /* says nothing: nobody is there */
    pair_close(&p);
}
END_TEST

/* What goes in comes out, whatever the wire takes at once. */
START_TEST(bytes_arrive)
{
    enum { BYTES = 200000 };
    static const size_t rooms[] = {1, 7, 1000, 17000, 1 << 16};
    static uint8_t sent[BYTES], got[BYTES];
    static pair p;
    fc_tls_files files = {.cert = server.cert_path, .key = server.key_path, .ca = ours.ca_path};
    pair_open(&p, &files, &files, "localhost");
    p.there.room = p.back.room = rooms[_i];
    shake_hands(&p);
    ck_assert_int_eq(p.steps[0], 1);
    ck_assert_int_eq(p.steps[1], 1);
    ck_assert(fc_tls_is_established(p.sessions[1]));
    for (size_t i = 0; i < BYTES; i++)
        sent[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t out = 0, in = 0; in < BYTES;) {
        ssize_t put = out < BYTES ? fc_tls_write(p.sessions[0], sent + out, BYTES - out) : 0;
        ck_assert_int_ge(put, 0);
        out += (size_t)put;
        ssize_t read = fc_tls_read(p.sessions[1], got + in, BYTES - in < 3000 ? BYTES - in : 3000);
        ck_assert_int_ge(read, 0);
        in += (size_t)read;
        ck_assert(read > 0 || !fc_tls_has_input(p.sessions[1]));
    }
    ck_assert_mem_eq(sent, got, BYTES);
    pair_close(&p);
}
END_TEST

START_TEST(a_goodbye_and_garbage_end_it)
{
    static pair p;
    uint8_t byte = 0;
    bool is_refusal;
    fc_tls_files files = {.cert = server.cert_path, .key = server.key_path};
    pair_open(&p, &(fc_tls_files){.ca = ours.ca_path}, &files, "localhost");
    shake_hands(&p);
    ck_assert_int_eq(p.steps[1], 1);
    if (_i == 0)
        fc_tls_say_goodbye(p.sessions[0]);
    else
        write_pipe(&p.ends[0], "this is no record, is it", 24);
    ck_assert_int_eq(fc_tls_read(p.sessions[1], &byte, 1), -1);
    ck_assert_int_eq(fc_tls_read(p.sessions[1], &byte, 1), -1);
    ck_assert_str_ne(fc_tls_why(p.sessions[1], &is_refusal), "");
    ck_assert(!is_refusal);
    pair_close(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls");
    TCase *tcase = tcase_create("tls");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, wrong_files_are_named);
    tcase_add_test(tcase, what_is_no_file_is_not_waited_for);
    tcase_add_test(tcase, a_file_broken_off_is_refused);
    tcase_add_test(tcase, a_key_is_for_nobody_else);
    tcase_add_test(tcase, a_key_is_not_of_another_user);
    tcase_add_test(tcase, a_key_with_a_passphrase_is_refused);
    tcase_add_test(tcase, a_client_says_what_is_wrong_with_its_files);
    tcase_add_test(tcase, a_certificate_is_described);
    tcase_add_test(tcase, only_the_right_two_talk);
    tcase_add_test(tcase, a_file_may_hold_several);
    tcase_add_test(tcase, a_name_that_is_none_is_refused);
    tcase_add_test(tcase, the_systems_issuers_are_not_ours);
    tcase_add_test(tcase, a_wire_that_ends_is_no_refusal);
    tcase_add_loop_test(tcase, bytes_arrive, 0, 5);
    tcase_add_loop_test(tcase, a_goodbye_and_garbage_end_it, 0, 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
