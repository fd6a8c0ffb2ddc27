/* The client library's use of the local channel, against a scripted server that names one and a socket of packets the
 * test holds.
 */
#include "tests/support/client_fixture.h"
#include "tests/support/packet_peer.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char side_path[100];

static int listen_for_packets(const fixture *f)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(side_path, sizeof side_path, "%s/side", f->directory);
    snprintf(name.sun_path, sizeof name.sun_path, "%s", side_path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    return fd;
}

static void script_with_side(void *context, fake_request *request)
{
    (void)context;
    if (request->wire.op != FC_OP_HELLO) {
        fake_answer_well(request);
        return;
    }
    fc_wire_reply reply = {.id = request->wire.id, .status = FC_OK, .body = FC_BODY_HELLO};
    reply.hello.server = reply.hello.version = reply.hello.default_kernel = reply.hello.device =
        fc_wire_text_make("fake");
    reply.hello.local = fc_wire_text_make(side_path);
    fake_answer(request, &reply);
}

static void answer_ping(int fd, uint64_t id)
{
    uint8_t bytes[64];
    size_t size_bytes = 0;
    fc_wire_reply reply = {.id = id, .status = FC_OK};
    ck_assert_int_eq(fc_codec_encode_reply(&reply, bytes, sizeof bytes, &size_bytes), FC_OK);
    ck_assert_int_eq(send(fd, bytes, size_bytes, MSG_NOSIGNAL), (ssize_t)size_bytes);
}

static uint64_t receive_ping(int fd)
{
    uint8_t bytes[256];
    fc_wire_request request;
    fc_reason reason;
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    ck_assert_int_gt(got, 0);
    ck_assert_int_eq(fc_codec_decode_request(bytes, (size_t)got, &request, &reason), FC_OK);
    ck_assert_int_eq(request.op, FC_OP_PING);
    return request.id;
}

typedef struct pinger {
    fixture *f;
    flashcore_status status;
} pinger;

static void *ping(void *argument)
{
    pinger *p = argument;
    p->status = flashcore_ping(p->f->client, 0, NULL);
    return NULL;
}

/* Pings until one comes over the packets: the library connects there in its own time. Returns the open ping. */
static void await_side_ping(fixture *f, int fd, pinger *p, pthread_t *out_thread, uint64_t *out_id)
{
    uint8_t look;
    for (;;) {
        *p = (pinger){.f = f};
        ck_assert_int_eq(pthread_create(out_thread, NULL, ping, p), 0);
        for (;;) {
            if (recv(fd, &look, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
                *out_id = receive_ping(fd);
                return;
            }
            if (pthread_tryjoin_np(*out_thread, NULL) == 0)
                break;
        }
        ck_assert_int_eq(p->status, FLASHCORE_OK);
    }
}

static void open_with_side(fixture *f, int *out_listener)
{
    fixture_prepare(f, 1);
    *out_listener = listen_for_packets(f);
    fixture_start_server(f, 0, script_with_side);
    fixture_connect(f);
}

static void close_with_side(fixture *f, int listener)
{
    close(listener);
    unlink(side_path);
    fixture_close(f);
}

START_TEST(small_messages_take_the_packets)
{
    static const uint8_t nonsense[] = {0xc1, 0, 1};
    fixture f;
    pinger p;
    pthread_t thread;
    uint64_t id;
    int listener;
    open_with_side(&f, &listener);
    int fd = accept(listener, NULL, NULL);
    await_side_ping(&f, fd, &p, &thread, &id);
    unsigned pings = fake_server_count(f.servers[0].server, FC_OP_PING);
    ck_assert_int_eq(send(fd, nonsense, sizeof nonsense, 0), sizeof nonsense);
    answer_ping(fd, id + 1000); /* nobody's */
    answer_ping(fd, id);
    answer_ping(fd, id); /* once more */
    pthread_join(thread, NULL);
    ck_assert_int_eq(p.status, FLASHCORE_OK);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_PING), pings);
    /* Tensors go the other way. */
    ck_assert_int_eq(flashcore_attend(f.client, &f.request, NULL), FLASHCORE_OK);
    fixture_check_answer(&f);
    close(fd);
    close_with_side(&f, listener);
}
END_TEST

START_TEST(a_lost_side_is_told_and_then_done_without)
{
    fixture f;
    pinger p;
    pthread_t thread;
    uint64_t id;
    int listener;
    open_with_side(&f, &listener);
    int fd = accept(listener, NULL, NULL);
    await_side_ping(&f, fd, &p, &thread, &id);
    close(listener);
    unlink(side_path);
    close(fd);
    pthread_join(thread, NULL);
    ck_assert_int_eq(p.status, FLASHCORE_CONNECTION_LOST); /* it may have been heard */
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(flashcore_ping(f.client, 0, NULL), FLASHCORE_OK);
    fixture_close(&f);
}
END_TEST

typedef struct gate {
    sem_t entered, open;
} gate;

static void wait_in_gate(void *context, flashcore_call *call, const flashcore_result *result)
{
    gate *g = context;
    (void)call, (void)result;
    sem_post(&g->entered);
    while (sem_wait(&g->open) != 0)
        continue;
}

static void read_all_there_is(int fd)
{
    uint8_t bytes[256];
    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue;
}

/* A server that goes answers first. To a client that looks late the answer over the packets and the end of the other
 * connection have come at once. What it had asked meanwhile (room for its tensors) the server has read, or not. */
START_TEST(an_answer_before_the_end_counts)
{
    fixture f;
    pinger p;
    pthread_t thread;
    uint64_t id;
    int listener;
    gate g;
    flashcore_call *call = NULL;
    sem_init(&g.entered, 0, 0);
    sem_init(&g.open, 0, 0);
    open_with_side(&f, &listener);
    int fd = accept(listener, NULL, NULL);
    await_side_ping(&f, fd, &p, &thread, &id);
    ck_assert_int_eq(flashcore_submit(f.client, &f.request, wait_in_gate, &g, &call), FLASHCORE_OK);
    while (sem_wait(&g.entered) != 0) /* the library's thread looks at nothing from here on */
        continue;
    answer_ping(fd, id);
    if (_i == 0)
        read_all_there_is(fd);
    close(fd);
    if (_i < 2)
        fixture_stop_server(&f, 0);
    sem_post(&g.open);
    pthread_join(thread, NULL);
    ck_assert_int_eq(p.status, FLASHCORE_OK);
    ck_assert_int_eq(flashcore_wait(call, UINT64_MAX, NULL), FLASHCORE_OK);
    flashcore_call_release(call);
    close_with_side(&f, listener);
    sem_destroy(&g.entered);
    sem_destroy(&g.open);
}
END_TEST

/* Somebody else listens where the server says it does. */
START_TEST(another_process_is_not_spoken_to)
{
    fixture f;
    int told[2];
    uint8_t byte = 0;
    fixture_prepare(&f, 1);
    snprintf(side_path, sizeof side_path, "%s/side", f.directory);
    ck_assert_int_eq(pipe(told), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int listener = listen_for_packets(&f);
        ck_assert_int_eq(write(told[1], &byte, 1), 1);
        int fd = accept(listener, NULL, NULL);
        _exit(recv(fd, &byte, 1, 0) > 0); /* 1: it was spoken to */
    }
    ck_assert_int_eq(read(told[0], &byte, 1), 1);
    fixture_start_server(&f, 0, script_with_side);
    fixture_connect(&f);
    int status;
    ck_assert_int_eq(flashcore_ping(f.client, 0, NULL), FLASHCORE_OK);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert_int_eq(flashcore_ping(f.client, 0, NULL), FLASHCORE_OK);
    close(told[0]);
    close(told[1]);
    unlink(side_path);
    fixture_close(&f);
}
END_TEST

START_TEST(inline_asks_for_nothing)
{
    fixture f;
    fixture_prepare(&f, 1);
    f.options.path = FLASHCORE_PATH_INLINE;
    fixture_start_server(&f, 0, script_with_side);
    fixture_connect(&f);
    ck_assert_int_eq(flashcore_ping(f.client, 0, NULL), FLASHCORE_OK);
    ck_assert_uint_eq(fake_server_count(f.servers[0].server, FC_OP_HELLO), 0);
    fixture_close(&f);
}
END_TEST

/* --- a server that lies about its arenas -------------------------------------------------------------------------- */

typedef struct creator {
    fixture *f;
    flashcore_arena *arena;
    flashcore_status status;
} creator;

static void *create_arena(void *argument)
{
    creator *c = argument;
    c->status = flashcore_arena_create(c->f->client, 0, 5000, &c->arena);
    return NULL;
}

/* The next request of that op; pings and the like of the library's own are left unanswered. */
static uint64_t await_op(int fd, fc_op op)
{
    uint8_t bytes[256];
    fc_wire_request request;
    fc_reason reason;
    do {
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        ck_assert_int_gt(got, 0);
        ck_assert_int_eq(fc_codec_decode_request(bytes, (size_t)got, &request, &reason), FC_OK);
    } while (request.op != op);
    return request.id;
}

static void answer_arena(int fd, uint64_t id, uint64_t bytes, int memory_fd, int fd_count)
{
    uint8_t reply_bytes[128];
    size_t size_bytes = 0;
    fc_wire_reply reply = {.id = id, .status = FC_OK, .body = FC_BODY_ARENA};
    reply.arena.id = 7;
    reply.arena.bytes = bytes;
    ck_assert_int_eq(fc_codec_encode_reply(&reply, reply_bytes, sizeof reply_bytes, &size_bytes), FC_OK);
    ck_assert(packet_peer_send_descriptors(fd, reply_bytes, size_bytes, memory_fd, fd_count));
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

typedef struct lie {
    const char *name;
    uint64_t bytes;
    size_t file_bytes;
    int seals; /* -1: no memfd at all */
    int fd_count;
    flashcore_status status;
} lie;

static const lie LIES[] = {
    {"the truth", 8192, 8192, F_SEAL_SHRINK | F_SEAL_GROW, 1, FLASHCORE_OK},
    {"two descriptors", 8192, 8192, F_SEAL_SHRINK | F_SEAL_GROW, 2, FLASHCORE_OK},
    {"many descriptors", 8192, 8192, F_SEAL_SHRINK | F_SEAL_GROW, 100, FLASHCORE_OK},
    {"no bytes", 0, 8192, F_SEAL_SHRINK, 1, FLASHCORE_NO_MEMORY},
    {"more than there is", 1 << 20, 8192, F_SEAL_SHRINK, 1, FLASHCORE_NO_MEMORY},
    {"more than can be", UINT64_MAX, 8192, F_SEAL_SHRINK, 1, FLASHCORE_NO_MEMORY},
    {"not sealed", 8192, 8192, 0, 1, FLASHCORE_NO_MEMORY},
    {"no memory", 8192, 0, -1, 1, FLASHCORE_NO_MEMORY},
};

START_TEST(a_lie_about_an_arena_does_no_harm)
{
    const lie *l = &LIES[_i];
    fixture f;
    pinger p;
    pthread_t thread;
    uint64_t id;
    int listener;
    open_with_side(&f, &listener);
    int fd = accept(listener, NULL, NULL);
    await_side_ping(&f, fd, &p, &thread, &id);
    answer_ping(fd, id);
    pthread_join(thread, NULL);
    int memory_fd = l->seals >= 0 ? memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING) : open("/dev/null", O_RDWR);
    if (l->seals >= 0) {
        ck_assert_int_eq(ftruncate(memory_fd, (off_t)l->file_bytes), 0);
        ck_assert_int_eq(fcntl(memory_fd, F_ADD_SEALS, l->seals), 0);
    }
    int before = count_descriptors();
    creator c = {.f = &f};
    ck_assert_int_eq(pthread_create(&thread, NULL, create_arena, &c), 0);
    answer_arena(fd, await_op(fd, FC_OP_ARENA_CREATE), l->bytes, memory_fd, l->fd_count);
    pthread_join(thread, NULL);
    ck_assert_msg(c.status == l->status, "%s: %s", l->name, flashcore_status_name(c.status));
    ck_assert_msg(count_descriptors() == before, "%s: %d descriptors, %d before", l->name, count_descriptors(), before);
    if (c.status == FLASHCORE_OK) {
        memset(flashcore_arena_alloc(c.arena, 8192), 1, 8192);
        flashcore_arena_destroy(c.arena);
    }
    await_op(fd, FC_OP_ARENA_DESTROY); /* what cannot be used is given back too */
    close(memory_fd);
    close(fd);
    close_with_side(&f, listener);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client_local");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_test(core, small_messages_take_the_packets);
    tcase_add_test(core, a_lost_side_is_told_and_then_done_without);
    tcase_add_loop_test(core, an_answer_before_the_end_counts, 0, 3);
    tcase_add_test(core, another_process_is_not_spoken_to);
    tcase_add_test(core, inline_asks_for_nothing);
    tcase_add_loop_test(core, a_lie_about_an_arena_does_no_harm, 0, sizeof LIES / sizeof LIES[0]);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
