/* daemon/loop: real signals and a real supervisor's socket around a service and a transport of our own, whose state the
 * test sets. Time passes in the loop's own ticks: each row says what happens at which one.
 */
#include "daemon/loop.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- what the loop looks at and calls ----------------------------------------------------------------------------- */

#define NEVER 1000000
#define TICKS_MAX 500 /* a test that is not over by then fails */

typedef struct plan {
    const char *name;
    int signal, at_tick; /* raised in that tick */
    int again_signal, again_at_tick;
    int event, event_at_tick; /* fc_service_event from another thread */
    int idle_at_tick, flushed_at_tick;
    uint64_t drain_timeout_ns;
    fc_exit exit;
    int reload_count;
} plan;

static struct {
    const plan *plan;
    fc_loop *loop;
    int watch_count, give_up_count;
    int tick_count, drain_count, refuse_count, reload_count, report_count, monitor_count;
    int monitor_fds[2];
    fc_stats stats;
} world;

static void *wake_from_elsewhere(void *context)
{
    (void)context;
    fc_loop_wake(world.loop, (fc_service_event)world.plan->event);
    return NULL;
}

void fc_service_tick(fc_service *service, uint64_t now_ns)
{
    (void)service;
    ck_assert_uint_gt(now_ns, 0);
    int tick = ++world.tick_count;
    ck_assert_int_lt(tick, TICKS_MAX);
    if (tick == 1 && world.monitor_fds[1] != 0)
        ck_assert_int_eq(write(world.monitor_fds[1], "x", 1), 1);
    if (world.plan->signal != 0 && tick == world.plan->at_tick)
        raise(world.plan->signal);
    if (world.plan->again_signal != 0 && tick == world.plan->again_at_tick)
        raise(world.plan->again_signal);
    if (tick == world.plan->event_at_tick) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, wake_from_elsewhere, NULL), 0);
        pthread_join(thread, NULL);
    }
}

void fc_service_watch(fc_service *service, uint64_t timeout_ns, uint64_t now_ns)
{
    (void)service;
    ck_assert_uint_eq(timeout_ns, 30 * FC_NS_PER_S);
    ck_assert_uint_gt(now_ns, 0);
    world.watch_count++;
}

/* What is given up is answered. */
void fc_service_give_up(fc_service *service, uint64_t now_ns)
{
    (void)service;
    ck_assert_uint_gt(now_ns, 0);
    world.give_up_count++;
}

bool fc_service_has_told_all(const fc_service *service)
{
    (void)service;
    return true;
}

bool fc_service_is_idle(const fc_service *service)
{
    (void)service;
    return world.tick_count >= world.plan->idle_at_tick || world.give_up_count > 0;
}

void fc_service_drain(fc_service *service)
{
    (void)service;
    world.drain_count++;
}

fc_stats *fc_service_stats(fc_service *service)
{
    (void)service;
    return &world.stats;
}

bool fc_transport_is_flushed(fc_transport *transport)
{
    (void)transport;
    return world.tick_count >= world.plan->flushed_at_tick || world.give_up_count > 0;
}

bool fc_local_is_flushed(fc_local *local)
{
    (void)local;
    return true;
}

void fc_local_refuse_peers(fc_local *local)
{
    (void)local;
}

void fc_transport_refuse_peers(fc_transport *transport)
{
    (void)transport;
    world.refuse_count++;
}

void fc_transport_relieve(fc_transport *transport, uint64_t now_ns)
{
    (void)transport, (void)now_ns;
}

void fc_transport_tick(fc_transport *transport, uint64_t now_ns)
{
    (void)transport;
    ck_assert_uint_gt(now_ns, 0);
    world.report_count++;
}

int fc_monitor_fd(const fc_monitor *monitor)
{
    ck_assert_ptr_eq(monitor, (const fc_monitor *)(const void *)&world);
    return world.monitor_fds[0];
}

/* Wants to be called three times in a row, then not before a minute has passed. */
int64_t fc_monitor_run(fc_monitor *monitor, uint64_t now_ns)
{
    char byte;
    (void)monitor;
    ck_assert_uint_gt(now_ns, 0);
    world.monitor_count += read(world.monitor_fds[0], &byte, 1) == 1 ? 100 : 1;
    return world.monitor_count % 100 < 3 ? 0 : 60000;
}

/* When it wants to be called again at once its descriptor may lie. */
bool fc_monitor_is_stuck(const fc_monitor *monitor)
{
    (void)monitor;
    return world.monitor_count % 100 == 1;
}

static fc_status reload(void *context, fc_reason *out_reason)
{
    ck_assert_ptr_eq(context, &world);
    world.reload_count++;
    (void)out_reason;
    return FC_OK;
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

#define LONG (60 * FC_NS_PER_S)
static const plan PLANS[] = {
    {"TERM drains", SIGTERM, 2, 0, 0, 0, 0, 5, 8, LONG, FC_EXIT_OK, 0},
    {"INT drains", SIGINT, 1, 0, 0, 0, 0, 1, 1, LONG, FC_EXIT_OK, 0},
    {"a second TERM cuts it short", SIGTERM, 2, SIGTERM, 6, 0, 0, NEVER, NEVER, LONG, FC_EXIT_CUT_SHORT, 0},
    {"INT after TERM too", SIGTERM, 2, SIGINT, 6, 0, 0, 3, NEVER, LONG, FC_EXIT_CUT_SHORT, 0},
    {"drain-timeout", SIGTERM, 1, 0, 0, 0, 0, NEVER, NEVER, FC_NS_PER_MS, FC_EXIT_CUT_SHORT, 0},
    {"HUP reloads", SIGHUP, 2, SIGTERM, 5, 0, 0, 6, 7, LONG, FC_EXIT_OK, 1},
    {"HUP while draining does nothing", SIGTERM, 2, SIGHUP, 4, 0, 0, 9, 9, LONG, FC_EXIT_OK, 0},
    {"device lost", 0, 0, 0, 0, FC_EVENT_DEVICE_LOST, 2, 4, 4, LONG, FC_EXIT_DEVICE_LOST, 0},
    {"a launch hangs", 0, 0, 0, 0, FC_EVENT_LAUNCH_HUNG, 2, 4, 4, LONG, FC_EXIT_HUNG, 0},
    {"what never ends is given up", 0, 0, 0, 0, FC_EVENT_LAUNCH_HUNG, 2, NEVER, NEVER, FC_NS_PER_MS, FC_EXIT_HUNG, 0},
    {"pipes leaked", 0, 0, 0, 0, FC_EVENT_PIPES_LEAKED, 2, 4, 4, LONG, FC_EXIT_FAILURE, 0},
    {"device lost while draining", SIGTERM, 2, 0, 0, FC_EVENT_DEVICE_LOST, 3, 5, 5, LONG, FC_EXIT_DEVICE_LOST, 0},
    {"idle wakes the loop", SIGTERM, 2, 0, 0, FC_EVENT_IDLE, 4, 4, 4, LONG, FC_EXIT_OK, 0},
};

static int sockets[2];
static fc_options options;

static void set_up(void)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, sockets), 0);
    fc_log_start(open("/dev/null", O_WRONLY), FC_LOG_ERROR);
    fc_options_defaults(&options);
}

static void tear_down(void)
{
    close(sockets[0]);
    close(sockets[1]);
}

static fc_exit run(const plan *p, uint64_t watchdog_ns, int early_signal)
{
    fc_reason reason;
    memset(&world, 0, sizeof world);
    world.plan = p;
    options.drain_timeout_ns = p->drain_timeout_ns;
    ck_assert_int_eq(fc_loop_create(&world.loop, &reason), FC_OK);
    if (early_signal != 0)
        raise(early_signal);
    fc_notify notify = {.fd = sockets[1], .watchdog_ns = watchdog_ns};
    fc_loop_config config = {.notify = &notify, .options = &options, .reload = reload, .reload_context = &world};
    fc_exit code = fc_loop_run(world.loop, &config);
    fc_loop_destroy(world.loop);
    return code;
}

/* With a monitor: a pipe's reading end, into which the first tick puts a byte. */
static fc_exit run_monitored(const plan *p)
{
    fc_reason reason;
    memset(&world, 0, sizeof world);
    world.plan = p;
    ck_assert_int_eq(pipe2(world.monitor_fds, O_NONBLOCK | O_CLOEXEC), 0);
    ck_assert_int_eq(fc_loop_create(&world.loop, &reason), FC_OK);
    fc_notify notify = {.fd = sockets[1]};
    fc_loop_config config = {
        .notify = &notify, .options = &options, .monitor = (fc_monitor *)(void *)&world, .reload = reload};
    fc_exit code = fc_loop_run(world.loop, &config);
    fc_loop_destroy(world.loop);
    close(world.monitor_fds[0]);
    close(world.monitor_fds[1]);
    return code;
}

/* All messages to the supervisor, '|' between. */
static const char *told(void)
{
    static char text[16384];
    size_t used = 0;
    for (;;) {
        ssize_t bytes = recv(sockets[0], text + used, sizeof text - used - 2, 0);
        if (bytes <= 0)
            break;
        used += (size_t)bytes;
        text[used++] = '|';
    }
    text[used] = '\0';
    return text;
}

START_TEST(signals_and_events_lead_to_the_right_end)
{
    const plan *p = &PLANS[_i];
    ck_assert_int_eq(run(p, 0, 0), p->exit);
    ck_assert_int_eq(world.drain_count, 1);
    ck_assert_int_eq(world.refuse_count, 1);
    ck_assert_int_eq(world.reload_count, p->reload_count);
    ck_assert_int_ge(world.report_count, 1);
    ck_assert_int_eq(world.watch_count, world.tick_count);
    ck_assert_int_eq(world.give_up_count, p->exit == FC_EXIT_HUNG && p->idle_at_tick == NEVER);
    const char *text = told();
    ck_assert_ptr_nonnull(strstr(text, "STOPPING=1\nSTATUS=draining|"));
    ck_assert_ptr_nonnull(strstr(text, "STATUS=serving: 0 answered, 0 queued, 0 running, 0 connections|"));
    const char *reloading = strstr(text, "RELOADING=1\nMONOTONIC_USEC=");
    ck_assert_int_eq(reloading != NULL, p->reload_count == 1);
    if (reloading != NULL)
        ck_assert_ptr_nonnull(strstr(reloading, "|READY=1|"));
    ck_assert_ptr_null(strstr(text, "WATCHDOG"));
}
END_TEST

START_TEST(the_watchdog_is_fed)
{
    static const plan P = {"watchdog", SIGTERM, 6, 0, 0, 0, 0, 6, 6, LONG, FC_EXIT_OK, 0};
    ck_assert_int_eq(run(&P, 20 * FC_NS_PER_MS, 0), FC_EXIT_OK);
    const char *text = told();
    int count = 0;
    for (text = strstr(text, "WATCHDOG=1|"); text != NULL; text = strstr(text + 1, "WATCHDOG=1|"))
        count++;
    ck_assert_int_ge(count, 3);
}
END_TEST

START_TEST(a_signal_during_start_up_is_not_lost)
{
    static const plan P = {"early", 0, 0, 0, 0, 0, 0, 0, 0, LONG, FC_EXIT_OK, 0};
    ck_assert_int_eq(run(&P, 0, SIGTERM), FC_EXIT_OK);
    ck_assert_int_eq(world.drain_count, 1);
}
END_TEST

static bool is_blocked(int number)
{
    sigset_t blocked;
    ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, NULL, &blocked), 0);
    return sigismember(&blocked, number) == 1;
}

static void *note_blocked(void *context)
{
    *(bool *)context = is_blocked(SIGTERM) && is_blocked(SIGINT) && is_blocked(SIGHUP) && !is_blocked(SIGBUS);
    return NULL;
}

/* Opening an engine or a listener waits for things, as lanes do later; none of that is interrupted. */
START_TEST(signals_come_while_the_loop_runs_and_to_its_thread)
{
    static const plan P = {"early", SIGTERM, 3, 0, 0, 0, 0, 0, 0, LONG, FC_EXIT_OK, 0};
    fc_reason reason;
    sigset_t waiting;
    pthread_t thread;
    bool is_thread_spared = false;
    memset(&world, 0, sizeof world);
    world.plan = &P;
    options.drain_timeout_ns = P.drain_timeout_ns;
    ck_assert_int_eq(fc_loop_create(&world.loop, &reason), FC_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, note_blocked, &is_thread_spared), 0);
    pthread_join(thread, NULL);
    ck_assert(is_thread_spared);
    ck_assert_int_eq(kill(getpid(), SIGHUP), 0);
    ck_assert_int_eq(sigpending(&waiting), 0);
    ck_assert_int_eq(sigismember(&waiting, SIGHUP), 1);
    fc_notify notify = {.fd = sockets[1]};
    fc_loop_config config = {.notify = &notify, .options = &options, .reload = reload, .reload_context = &world};
    ck_assert_int_eq(fc_loop_run(world.loop, &config), FC_EXIT_OK);
    ck_assert_int_eq(world.reload_count, 1);
    ck_assert(is_blocked(SIGTERM));
    ck_assert_int_eq(raise(SIGTERM), 0); /* too late to mean anything; it must not end the process either */
    fc_loop_destroy(world.loop);
    ck_assert(!is_blocked(SIGTERM));
}
END_TEST

START_TEST(no_descriptors_is_a_reason_not_a_crash)
{
    fc_loop *loop = NULL;
    fc_reason reason = {""};
    while (dup(sockets[0]) >= 0)
        ;
    ck_assert_int_ne(fc_loop_create(&loop, &reason), FC_OK);
    ck_assert_ptr_null(loop);
    ck_assert_ptr_nonnull(strstr(reason.text, "loop: "));
    fc_loop_destroy(NULL);
}
END_TEST

/* When its descriptor is readable, and when it asked to be called again; not otherwise. */
START_TEST(the_monitor_is_called_when_it_has_something_to_do)
{
    ck_assert_int_eq(run_monitored(&PLANS[0]), FC_EXIT_OK);
    ck_assert_int_eq(world.monitor_count, 103);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loop");
    TCase *ends = tcase_create("ends");
    tcase_add_checked_fixture(ends, set_up, tear_down);
    tcase_add_loop_test(ends, signals_and_events_lead_to_the_right_end, 0, (int)(sizeof PLANS / sizeof PLANS[0]));
    tcase_add_test(ends, the_watchdog_is_fed);
    tcase_add_test(ends, a_signal_during_start_up_is_not_lost);
    tcase_add_test(ends, signals_come_while_the_loop_runs_and_to_its_thread);
    tcase_add_test(ends, the_monitor_is_called_when_it_has_something_to_do);
    tcase_add_test(ends, no_descriptors_is_a_reason_not_a_crash);
    suite_add_tcase(suite, ends);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
