/* See report.h. */
#include "tests/emulate/report.h"

#include "tests/emulate/block.h"
#include "tests/emulate/machine.h"

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <execinfo.h>
#include <sys/time.h>
#include <unistd.h>

#include "cuda_runtime.h"

namespace emulate
{

namespace
{

enum { PRINTED = 5, FRAMES = 24, QUIET_SECONDS = 10 };

int failures;
bool is_silent;
char last_text[2400];
volatile sig_atomic_t is_watching;
uint64_t seen_progress;
int quiet_seconds;

} // namespace

/* The lines of code that led here, by binutils' addr2line where there is one. */
void report_lines()
{
    void *frames[FRAMES];
    char exe[1024], command[2048];
    const int count = backtrace(frames, FRAMES);
    const ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length <= 0)
        return;
    exe[length] = '\0';
    int used = snprintf(command, sizeof command, "addr2line -Cfpise '%s'", exe);
    for (int i = 0; i < count && used < (int)sizeof command - 200; i++)
        used += snprintf(command + used, sizeof command - (size_t)used, " %p",
                         static_cast<void *>(static_cast<char *>(frames[i]) - 1));
    snprintf(command + used, sizeof command - (size_t)used,
             " 2>/dev/null | grep -vE '(report|machine|memory|matrix|bulk|wgmma|fiber|runtime)\\.cpp|\\?\\?' | sed "
             "'s/^/    /' >&2");
    if (system(command) != 0)
        fputs("    (no addr2line to say where)\n", stderr);
}

bool report(const char *text)
{
    snprintf(last_text, sizeof last_text, "%s", text);
    if (++failures > PRINTED || is_silent)
        return false;
    fflush(stdout);
    if (failures == PRINTED)
        fputs("emulator: the last failure that is printed\n", stderr);
    if (thread_index() < 0) {
        report_note("emulator: block %u: %s", blockIdx.x, text);
    } else {
        report_note("emulator: block %u, thread %d: %s", blockIdx.x, thread_index(), text);
        report_lines();
    }
    return true;
}

void report_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

namespace
{

void on_fault(int signal, siginfo_t *info, void *)
{
    char text[200];
    snprintf(text, sizeof text, "%s at address %p%s", signal == SIGFPE ? "division by zero" : "bad access",
             info->si_addr, is_watching ? ": outside all memory, or not aligned to what is moved" : "");
    if (!is_watching || thread_index() < 0) {
        fprintf(stderr, "emulator: host code: %s\n", text);
        _exit(1);
    }
    report(text);
    block_abandon();
}

void on_tick(int)
{
    if (!is_watching || thread_index() < 0)
        return;
    if (block_progress() != seen_progress) {
        seen_progress = block_progress();
        quiet_seconds = 0;
        return;
    }
    if (++quiet_seconds < QUIET_SECONDS)
        return;
    quiet_seconds = 0;
    report("an endless loop, or waiting for another block (blocks run one after the other)");
    block_abandon();
}

void set_exit_status()
{
    if (failures == 0)
        return;
    fprintf(stderr, "emulator: %d launches failed\n", failures);
    fflush(nullptr);
    _exit(1);
}

} // namespace

const char *report_take()
{
    static char taken[sizeof last_text];
    memcpy(taken, last_text, sizeof taken);
    last_text[0] = '\0';
    failures = 0;
    return taken;
}

void report_silently()
{
    is_silent = true;
}

void fail(const char *format, ...)
{
    char text[2400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    report(text);
    if (!is_watching)
        _exit(1); /* the host's own doing */
    block_abandon();
}

void report_watch(bool is_running)
{
    is_watching = is_running;
}

void report_init()
{
    static char stack[64 << 10];
    stack_t alternative = {};
    struct sigaction action = {};
    struct itimerval every = {};
    atexit(set_exit_status);
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    sigaction(SIGFPE, &action, nullptr);
    action = {};
    action.sa_handler = on_tick;
    action.sa_flags = SA_RESTART | SA_NODEFER;
    sigaction(SIGALRM, &action, nullptr);
    every.it_interval.tv_sec = every.it_value.tv_sec = 1;
    setitimer(ITIMER_REAL, &every, nullptr);
}

} // namespace emulate
