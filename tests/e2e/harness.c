#include "tests/e2e/harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARG_MAX_COUNT 64

static double slowdown(void)
{
    const char *text = getenv("FC_TEST_SLOWDOWN");
    double factor = text != NULL ? strtod(text, NULL) : 1.0;
    return factor > 1.0 ? factor : 1.0;
}

int fc_e2e_limit_ms(int milliseconds)
{
    return (int)(milliseconds * slowdown());
}

uint64_t fc_e2e_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

int fc_e2e_left_ms(uint64_t end_us)
{
    uint64_t now_us = fc_e2e_now_us();
    return now_us >= end_us ? 0 : (int)((end_us - now_us) / 1000u) + 1;
}

uint64_t fc_e2e_end_us(int limit_ms)
{
    return fc_e2e_now_us() + (uint64_t)fc_e2e_limit_ms(limit_ms) * 1000u;
}

bool fc_e2e_on_cpu(void)
{
    const char *args = getenv("FC_TEST_ENGINE_ARGS");
    return args == NULL || strstr(args, "cuda") == NULL;
}

const char *fc_e2e_build_folder(void)
{
    const char *build = getenv("FC_TEST_BUILD");
    return build != NULL ? build : "build";
}

void fc_e2e_use_fake_engine(const char *more_flags)
{
    char words[1024];
    snprintf(words, sizeof words, "--engine cuda --cuda-engine %s/tests/flashcore-cuda-fake.so %s",
             fc_e2e_build_folder(), more_flags);
    setenv("FC_TEST_ENGINE_ARGS", words, 1);
}

/* --- what failed tests leave ------------------------------------------------------------------------------------ */

/* Every daemon's folder lies in here; a test that ends well removes its own. Check ends failed tests with _exit() or a
 * signal, so the parent shows and removes what is left. */
static char root[64];

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *place)
{
    (void)about, (void)kind, (void)place;
    return remove(path);
}

static void remove_folder(const char *path)
{
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* Runs outside of any test: nothing of Check may be called. */
static void show_leftovers(void)
{
    DIR *folder = opendir(root);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        char path[FC_E2E_PATH_BYTES * 3];
        snprintf(path, sizeof path, "%s/%s/log", root, entry->d_name);
        char *log = entry->d_name[0] != '.' ? fc_e2e_read_file(path, NULL) : NULL;
        if (log != NULL)
            printf("--- %s ---\n%s---\n", path, log);
        free(log);
    }
    if (folder != NULL)
        closedir(folder);
    remove_folder(root);
}

/* --- processes -------------------------------------------------------------------------------------------------- */

typedef struct child_io {
    int out_fd, err_fd;        /* -1: inherit */
    const char *notify_socket; /* NULL: none */
} child_io;

/* In the child only async-signal-safe calls, since clients' threads may run in the parent; environment and arguments
 * are ready before. */
static pid_t start_process(char *const *argv, const child_io *io)
{
    char *environment[1024];
    char notify[FC_E2E_PATH_BYTES + 16];
    size_t count = 0;
    extern char **environ;
    for (char **entry = environ; *entry != NULL && count < 1020; entry++) {
        if (strncmp(*entry, "NOTIFY_SOCKET=", 14) != 0 && strncmp(*entry, "WATCHDOG_", 9) != 0)
            environment[count++] = *entry;
    }
    if (io->notify_socket != NULL) {
        snprintf(notify, sizeof notify, "NOTIFY_SOCKET=%s", io->notify_socket);
        environment[count++] = notify;
    }
    environment[count] = NULL;

    pid_t parent = getpid();
    pid_t pid = fork();
    ck_assert_msg(pid >= 0, "fork: %s", strerror(errno));
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);
    if (io->out_fd >= 0)
        dup2(io->out_fd, STDOUT_FILENO);
    if (io->err_fd >= 0)
        dup2(io->err_fd, STDERR_FILENO);
    execve(argv[0], argv, environment);
    _exit(127);
}

static int open_pid(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    ck_assert_msg(fd >= 0, "pidfd_open: %s", strerror(errno));
    return fd;
}

static int reap(pid_t pid, int pid_fd, int limit_ms)
{
    struct pollfd wait_for = {.fd = pid_fd, .events = POLLIN};
    uint64_t end_us = fc_e2e_end_us(limit_ms);
    int ready;
    do {
        ready = poll(&wait_for, 1, fc_e2e_left_ms(end_us));
    } while (ready < 0 && errno == EINTR);
    ck_assert_msg(ready == 1, "process %d did not end within %d ms", (int)pid, fc_e2e_limit_ms(limit_ms));
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int fc_e2e_reap(pid_t pid, int limit_ms)
{
    int pid_fd = open_pid(pid);
    int code = reap(pid, pid_fd, limit_ms);
    close(pid_fd);
    return code;
}

/* --- the daemon ------------------------------------------------------------------------------------------------- */

uint16_t fc_e2e_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    close(fd);
    return ntohs(address.sin_port);
}

void fc_e2e_place(fc_e2e_daemon *out_daemon)
{
    memset(out_daemon, 0, sizeof *out_daemon);
    out_daemon->pid_fd = out_daemon->notify_fd = -1;
    snprintf(out_daemon->dir, sizeof out_daemon->dir, "%s/daemon-XXXXXX", root);
    ck_assert_msg(mkdtemp(out_daemon->dir) != NULL, "mkdtemp: %s", strerror(errno));
    snprintf(out_daemon->ipc_path, sizeof out_daemon->ipc_path, "%.100s/d.sock", out_daemon->dir);
    snprintf(out_daemon->side_path, sizeof out_daemon->side_path, "%.120s.local", out_daemon->ipc_path);
    snprintf(out_daemon->ipc_url, sizeof out_daemon->ipc_url, "ipc://%.120s", out_daemon->ipc_path);
    snprintf(out_daemon->log_path, sizeof out_daemon->log_path, "%.100s/log", out_daemon->dir);
    out_daemon->tcp_port = fc_e2e_free_port();
    snprintf(out_daemon->tcp_url, sizeof out_daemon->tcp_url, "tcp://127.0.0.1:%u", (unsigned)out_daemon->tcp_port);
}

static void open_notify(fc_e2e_daemon *daemon, char path[FC_E2E_PATH_BYTES])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(path, FC_E2E_PATH_BYTES, "%.80s/notify", daemon->dir);
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", path);
    unlink(path);
    if (daemon->notify_fd >= 0)
        close(daemon->notify_fd);
    daemon->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(daemon->notify_fd, 0);
    ck_assert_int_eq(bind(daemon->notify_fd, (struct sockaddr *)&address, sizeof address), 0);
}

void fc_e2e_launch(fc_e2e_daemon *daemon, const char *const *args)
{
    char program[FC_E2E_PATH_BYTES * 2], notify[FC_E2E_PATH_BYTES], engine_words[1024];
    char *argv[ARG_MAX_COUNT];
    size_t count = 0;
    snprintf(program, sizeof program, "%s/flashcored", fc_e2e_build_folder());
    argv[count++] = program;
    argv[count++] = "--listen";
    argv[count++] = daemon->ipc_url;
    argv[count++] = "--listen";
    argv[count++] = daemon->tcp_url;
    const char *engine = getenv("FC_TEST_ENGINE_ARGS");
    snprintf(engine_words, sizeof engine_words, "%s", engine != NULL ? engine : "--engine cpu");
    char *rest = NULL;
    for (char *word = strtok_r(engine_words, " ", &rest); word != NULL && count < ARG_MAX_COUNT - 2;
         word = strtok_r(NULL, " ", &rest))
        argv[count++] = word;
    for (; args != NULL && *args != NULL && count < ARG_MAX_COUNT - 1; args++)
        argv[count++] = (char *)*args;
    argv[count] = NULL;

    open_notify(daemon, notify);
    int log_fd = open(daemon->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ck_assert_int_ge(log_fd, 0);
    child_io io = {.out_fd = log_fd, .err_fd = log_fd, .notify_socket = notify};
    daemon->pid = start_process(argv, &io);
    close(log_fd);
    daemon->pid_fd = open_pid(daemon->pid);
}

void fc_e2e_wait_notify(const fc_e2e_daemon *daemon, const char *text)
{
    uint64_t end_us = fc_e2e_end_us(FC_E2E_START_MS);
    for (;;) {
        char message[512];
        ssize_t bytes = recv(daemon->notify_fd, message, sizeof message - 1, 0);
        if (bytes >= 0) {
            message[bytes] = '\0';
            if (strstr(message, text) != NULL)
                return;
            continue;
        }
        struct pollfd events[2] = {{.fd = daemon->notify_fd, .events = POLLIN},
                                   {.fd = daemon->pid_fd, .events = POLLIN}};
        ck_assert_msg(fc_e2e_left_ms(end_us) > 0, "no notification with %s in time", text);
        poll(events, 2, fc_e2e_left_ms(end_us));
        ck_assert_msg((events[0].revents & POLLIN) != 0 || (events[1].revents & POLLIN) == 0,
                      "the daemon ended before it notified %s", text);
    }
}

void fc_e2e_start(fc_e2e_daemon *out_daemon, const char *const *args)
{
    fc_e2e_place(out_daemon);
    fc_e2e_launch(out_daemon, args);
    fc_e2e_wait_notify(out_daemon, "READY=1");
}

void fc_e2e_restart(fc_e2e_daemon *daemon, const char *const *args)
{
    ck_assert_int_eq(daemon->pid, 0);
    fc_e2e_launch(daemon, args);
    fc_e2e_wait_notify(daemon, "READY=1");
}

void fc_e2e_signal(const fc_e2e_daemon *daemon, int signal_number)
{
    ck_assert_int_gt(daemon->pid, 0);
    ck_assert_int_eq(kill(daemon->pid, signal_number), 0);
}

int fc_e2e_wait_exit(fc_e2e_daemon *daemon, int limit_ms)
{
    ck_assert_int_gt(daemon->pid, 0);
    int code = reap(daemon->pid, daemon->pid_fd, limit_ms);
    close(daemon->pid_fd);
    daemon->pid_fd = -1;
    daemon->pid = 0;
    return code;
}

void fc_e2e_forget(fc_e2e_daemon *daemon)
{
    if (daemon->notify_fd >= 0)
        close(daemon->notify_fd);
    daemon->notify_fd = -1;
    remove_folder(daemon->dir);
}

void fc_e2e_stop(fc_e2e_daemon *daemon)
{
    fc_e2e_signal(daemon, SIGTERM);
    int code = fc_e2e_wait_exit(daemon, FC_E2E_STOP_MS);
    ck_assert_msg(code == 0, "the daemon ended with %d", code);
    fc_e2e_forget(daemon);
}

void fc_e2e_kill(fc_e2e_daemon *daemon)
{
    fc_e2e_signal(daemon, SIGKILL);
    ck_assert_int_eq(fc_e2e_wait_exit(daemon, FC_E2E_STOP_MS), -SIGKILL);
}

/* --- what the system says of it ---------------------------------------------------------------------------------- */

unsigned fc_e2e_count_entries(const fc_e2e_daemon *daemon, const char *what)
{
    char path[64];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)daemon->pid, what);
    DIR *folder = opendir(path);
    for (const struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    if (folder != NULL)
        closedir(folder);
    return count;
}

long fc_e2e_resident_kib(const fc_e2e_daemon *daemon)
{
    static const char NAME[] = "\nRssAnon:";
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)daemon->pid);
    char *text = fc_e2e_read_file(path, NULL);
    const char *line = text != NULL ? strstr(text, NAME) : NULL;
    long kib = line != NULL ? strtol(line + strlen(NAME), NULL, 10) : -1;
    free(text);
    return kib;
}

/* --- files ------------------------------------------------------------------------------------------------------ */

char *fc_e2e_read_file(const char *path, size_t *out_bytes)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return NULL;
    size_t used = 0, capacity = 4096;
    char *text = malloc(capacity);
    while (text != NULL) {
        size_t got = fread(text + used, 1, capacity - used - 1, file);
        used += got;
        if (got == 0)
            break;
        if (capacity - used < 2)
            text = realloc(text, capacity *= 2);
    }
    fclose(file);
    if (text == NULL)
        abort();
    text[used] = '\0';
    if (out_bytes != NULL)
        *out_bytes = used;
    return text;
}

void fc_e2e_write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

static bool log_holds(const char *path, const char *text, size_t *offset)
{
    size_t bytes = 0;
    char *log = fc_e2e_read_file(path, &bytes);
    size_t from = offset != NULL && *offset < bytes ? *offset : offset != NULL ? bytes : 0;
    const char *found = log != NULL ? strstr(log + from, text) : NULL;
    if (found != NULL && offset != NULL)
        *offset = (size_t)(found - log) + strlen(text);
    free(log);
    return found != NULL;
}

void fc_e2e_wait_log(const fc_e2e_daemon *daemon, const char *text, size_t *offset)
{
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ge(inotify_add_watch(fd, daemon->log_path, IN_MODIFY), 0);
    while (!log_holds(daemon->log_path, text, offset)) {
        char events[4096];
        struct pollfd wait_for = {.fd = fd, .events = POLLIN};
        ck_assert_msg(fc_e2e_left_ms(end_us) > 0, "the log never said: %s", text);
        poll(&wait_for, 1, fc_e2e_left_ms(end_us));
        while (read(fd, events, sizeof events) > 0) {
        }
    }
    close(fd);
}

/* --- other programs --------------------------------------------------------------------------------------------- */

static void program_argv(char path[FC_E2E_PATH_BYTES * 2], const char *program, const char *const *args, char **argv)
{
    size_t count = 0;
    if (program[0] == '/')
        snprintf(path, FC_E2E_PATH_BYTES * 2, "%s", program);
    else
        snprintf(path, FC_E2E_PATH_BYTES * 2, "%s/%s", fc_e2e_build_folder(), program);
    argv[count++] = path;
    for (; args != NULL && *args != NULL && count < ARG_MAX_COUNT - 1; args++)
        argv[count++] = (char *)*args;
    argv[count] = NULL;
}

static int scratch_file(char path[32])
{
    snprintf(path, 32, "/tmp/flashcored-run-XXXXXX");
    int fd = mkostemp(path, O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

void fc_e2e_run(const char *program, const char *const *args, fc_e2e_run_result *out_result)
{
    char path[FC_E2E_PATH_BYTES * 2], out_path[32], err_path[32];
    char *argv[ARG_MAX_COUNT];
    program_argv(path, program, args, argv);
    child_io io = {.out_fd = scratch_file(out_path), .err_fd = scratch_file(err_path)};
    pid_t pid = start_process(argv, &io);
    out_result->exit_code = fc_e2e_reap(pid, FC_E2E_STOP_MS);
    close(io.out_fd);
    close(io.err_fd);
    out_result->out = fc_e2e_read_file(out_path, &out_result->out_bytes);
    out_result->err = fc_e2e_read_file(err_path, &out_result->err_bytes);
    unlink(out_path);
    unlink(err_path);
}

void fc_e2e_run_free(fc_e2e_run_result *result)
{
    free(result->out);
    free(result->err);
    memset(result, 0, sizeof *result);
}

pid_t fc_e2e_spawn(const char *program, const char *const *args, int *out_stdout_fd)
{
    char path[FC_E2E_PATH_BYTES * 2];
    char *argv[ARG_MAX_COUNT];
    int ends[2] = {-1, -1};
    program_argv(path, program, args, argv);
    if (out_stdout_fd != NULL)
        ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = start_process(argv, &(child_io){.out_fd = ends[1], .err_fd = -1});
    if (out_stdout_fd != NULL) {
        close(ends[1]);
        *out_stdout_fd = ends[0];
    }
    return pid;
}

/* --- Check ------------------------------------------------------------------------------------------------------ */

TCase *fc_e2e_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 90); /* times FC_TEST_SLOWDOWN: tests/run tells Check */
    suite_add_tcase(suite, tcase);
    return tcase;
}

int fc_e2e_main(Suite *suite)
{
    snprintf(root, sizeof root, "/tmp/flashcored-e2e-XXXXXX");
    if (mkdtemp(root) == NULL)
        return EXIT_FAILURE;
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    show_leftovers();
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
