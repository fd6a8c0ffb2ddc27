/* Waits that signals interrupt, as a handler without SA_RESTART makes them: nothing is taken for lost that is not. The
 * signals go to the thread that waits, in numbers: that each meets a wait is not for a test to arrange.
 */
#include "daemon/clock.h"
#include "daemon/ipc_path.h"
#include "tests/support/local_bench.h"
#include "tests/support/packet_peer.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_NS (20 * FC_NS_PER_S)

static atomic_uint handled_count;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&handled_count, 1);
}

static void catch_without_restart(int number)
{
    struct sigaction action = {.sa_handler = on_signal};
    atomic_store(&handled_count, 0);
    ck_assert_int_eq(sigaction(number, &action, NULL), 0);
}

/* --- the probe of a listener -------------------------------------------------------------------------------------- */

typedef struct slow_listener {
    int fd;
    pthread_t prober;
    uint32_t signal_count; /* sent, and handled, between the probe's hello and the answer */
} slow_listener;

static void *answer_late(void *argument)
{
    static const uint8_t answer[8] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};
    slow_listener *l = argument;
    uint8_t hello[8];
    uint64_t until_ns = fc_clock_now_ns() + PATIENCE_NS;
    int fd;
    do
        fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
    while (fd < 0 && sched_yield() == 0 && fc_clock_now_ns() < until_ns);
    if (fd < 0 || recv(fd, hello, sizeof hello, MSG_WAITALL) != sizeof hello)
        return NULL;
    for (uint32_t i = 0; i < l->signal_count; i++) {
        pthread_kill(l->prober, SIGUSR1);
        while (atomic_load(&handled_count) <= i && fc_clock_now_ns() < until_ns)
            sched_yield();
    }
    ssize_t sent = send(fd, answer, sizeof answer, MSG_NOSIGNAL);
    (void)sent; /* the prober says what it got */
    close(fd);
    return NULL;
}

START_TEST(a_listener_that_is_probed_may_take_its_time)
{
    char directory[] = "/tmp/fc-interrupted-XXXXXX", path[64];
    pthread_t thread;
    slow_listener l = {.prober = pthread_self(), .signal_count = 500};
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/s", directory);
    l.fd = fc_ipc_listen(path, SOCK_STREAM, 0600, 4);
    ck_assert_int_ge(l.fd, 0);
    catch_without_restart(SIGUSR1);
    ck_assert_int_eq(pthread_create(&thread, NULL, answer_late, &l), 0);
    bool answers = fc_ipc_path_answers(path, 20000);
    pthread_join(thread, NULL);
    ck_assert(answers);
    ck_assert_uint_eq(atomic_load(&handled_count), l.signal_count);
    ck_assert(!fc_ipc_path_answers(path, 1)); /* it listens, and nobody answers: there is an end to waiting */
    close(l.fd);
    unlink(path);
    rmdir(directory);
}
END_TEST

/* --- the local channel -------------------------------------------------------------------------------------------- */

/* The test's thread has the timer's signal blocked, so that it goes to those of the daemon. */
START_TEST(a_new_connection_is_served_whatever_the_daemon_is_interrupted_in)
{
    enum { SIGNALS = 300, ROUNDS = 300 };
    local_bench b;
    packet_peer peer;
    sigset_t alarm;
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    uint64_t until_ns = fc_clock_now_ns() + PATIENCE_NS, rounds = 0;
    local_bench_open(&b);
    catch_without_restart(SIGALRM);
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, &alarm, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
    while (rounds < ROUNDS || atomic_load(&handled_count) < SIGNALS) {
        packet_peer_open(&peer, b.side_path);
        ck_assert(packet_peer_send_op(&peer, rounds, FC_OP_PING));
        packet_peer_expect(&peer, rounds, FC_OK, NULL);
        packet_peer_close(&peer);
        rounds++;
        ck_assert_msg(fc_clock_now_ns() < until_ns, "%u signals in %llu rounds", atomic_load(&handled_count),
                      (unsigned long long)rounds);
    }
    ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
    local_bench_await_stat(&b, FC_COUNT_LOCAL_CLOSED, rounds);
    ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_LOCAL_OPENED), rounds);
    ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_PIPES_CUT), 0);
    ck_assert_uint_eq(local_bench_stat(&b, FC_COUNT_PIPES_REFUSED), 0);
    local_bench_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("interrupted");
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 60);
    tcase_add_test(core, a_listener_that_is_probed_may_take_its_time);
    tcase_add_test(core, a_new_connection_is_served_whatever_the_daemon_is_interrupted_in);
    suite_add_tcase(suite, core);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
