/* See trial.h. */
#include "tests/faults/trial.h"

#include "tests/e2e/scrape.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    int errors[FC_FAULT_ERRORS_MAX];
} ROWS[] = {
#define FC_FAULT(name, result, parameters, arguments, failed, ...) {#name, {__VA_ARGS__}},
#include "tests/faults/faults.def"
#define FC_CUDA_FAULT(name, ...) {#name, {__VA_ARGS__}},
#include "tests/faults/cuda.def"
};

static const char *const ORIGINS[] = {
#define FC_ORIGIN(symbol, name, beginning) name,
#include "tests/faults/origins.def"
};

const char *fc_fault_name(fc_fault_row row)
{
    return ROWS[row].name;
}

const char *fc_fault_origin_name(fc_fault_origin origin)
{
    return ORIGINS[origin];
}

bool fc_fault_is_library(fc_fault_origin origin)
{
    return origin != FC_FAULT_BY_DAEMON && origin != FC_FAULT_BY_ENGINE;
}

int fc_fault_error(fc_fault_row row, int index)
{
    return index < FC_FAULT_ERRORS_MAX ? ROWS[row].errors[index] : 0;
}

static void issue_certificates(fc_trial *trial)
{
    char folder[FC_E2E_PATH_BYTES];
    fc_certs certs;
    snprintf(folder, sizeof folder, "%.100s/tls", trial->daemon.dir);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    fc_certs_open(&certs, folder, "ca");
    trial->server = fc_certs_issue(&certs, "server", "server", 30);
    trial->client = fc_certs_issue(&certs, "client", "client", 30);
    snprintf(trial->tls_ca, sizeof trial->tls_ca, "%s", certs.ca_path);
    fc_certs_close(&certs);
    snprintf(trial->tls_url, sizeof trial->tls_url, "tls+tcp://127.0.0.1:%u", (unsigned)fc_e2e_free_port());
}

void fc_trial_open(fc_trial *trial)
{
    memset(trial, 0, sizeof *trial);
    fc_e2e_place(&trial->daemon);
    snprintf(trial->page_path, sizeof trial->page_path, "%.100s/faults", trial->daemon.dir);
    snprintf(trial->admin_path, sizeof trial->admin_path, "%.100s/admin.sock", trial->daemon.dir);
    snprintf(trial->config_path, sizeof trial->config_path, "%.100s/conf", trial->daemon.dir);
    fc_scrape_address(&trial->daemon, trial->metrics);
    fc_e2e_write_file(trial->config_path, "queue-requests = 50\n", 20);
    issue_certificates(trial);
    int fd = open(trial->page_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, sizeof *trial->page), 0);
    trial->page = mmap(NULL, sizeof *trial->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(trial->page, MAP_FAILED);
    close(fd);
}

void fc_trial_close(fc_trial *trial)
{
    ck_assert_int_eq(trial->daemon.pid, 0);
    munmap(trial->page, sizeof *trial->page);
    fc_e2e_forget(&trial->daemon);
}

void fc_trial_clear(fc_trial *trial)
{
    atomic_store(&trial->page->target, 0);
    memset(trial->page, 0, sizeof *trial->page);
}

void fc_trial_arm(fc_trial *trial, const fc_fault *fault)
{
    fc_fault_page *page = trial->page;
    atomic_store(&page->target, 0);
    atomic_store(&page->seen, 0);
    atomic_store(&page->injected, 0);
    atomic_store(&page->first, fault->first);
    atomic_store(&page->last, fault->last);
    atomic_store(&page->error, fault->error);
    atomic_store(&page->target, FC_FAULT_TARGET(fault->row, fault->origin));
}

void fc_trial_disarm(fc_trial *trial)
{
    atomic_store(&trial->page->target, 0);
}

unsigned fc_trial_injected(const fc_trial *trial)
{
    return atomic_load(&trial->page->injected);
}

unsigned fc_trial_calls(const fc_trial *trial, fc_fault_row row, fc_fault_origin origin)
{
    return atomic_load(&trial->page->calls[row][origin]);
}

fc_fault_origin fc_trial_died_in(const fc_trial *trial)
{
    unsigned died_in = atomic_load(&trial->page->died_in);
    return died_in != 0 ? (fc_fault_origin)(died_in - 1) : FC_FAULT_BY_DAEMON; /* none it could tell us of: ours */
}

int fc_trial_cuda_live(const fc_trial *trial)
{
    return atomic_load(&trial->page->cuda_live);
}

/* --- the daemon --------------------------------------------------------------------------------------------------- */

void fc_trial_launch(fc_trial *trial, const char *const *more_args)
{
    const char *args[32] = {"--admin-socket",  trial->admin_path,
                            "--metrics",       trial->metrics,
                            "--config",        trial->config_path,
                            "--listen",        trial->tls_url,
                            "--tls-cert",      trial->server.cert_path,
                            "--tls-key",       trial->server.key_path,
                            "--tls-client-ca", trial->tls_ca};
    size_t count = 14;
    for (; more_args != NULL && *more_args != NULL && count < 31; more_args++)
        args[count++] = *more_args;
    char library[PATH_MAX];
    snprintf(library, sizeof library, "%s/tests/libfaults.so", fc_e2e_build_folder());
    char *log = fc_e2e_read_file(trial->daemon.log_path, &trial->log_bytes);
    trial->log_bytes = log != NULL ? trial->log_bytes : 0;
    free(log);
    setenv("LD_PRELOAD", library, 1);
    setenv("FC_FAULTS", trial->page_path, 1);
    fc_e2e_launch(&trial->daemon, args);
    unsetenv("LD_PRELOAD");
    unsetenv("FC_FAULTS");
}

static bool is_notified_ready(const fc_trial *trial)
{
    char message[512];
    ssize_t bytes;
    while ((bytes = recv(trial->daemon.notify_fd, message, sizeof message - 1, MSG_DONTWAIT)) >= 0) {
        message[bytes] = '\0';
        if (strstr(message, "READY=1") != NULL)
            return true;
    }
    return false;
}

fc_trial_state fc_trial_wait_ready(fc_trial *trial)
{
    uint64_t end_us = fc_e2e_end_us(FC_TRIAL_HANG_MS);
    /* One whose word to the supervisor was lost is known by its log. */
    for (int rounds = 0;; rounds++) {
        struct pollfd events[2] = {{.fd = trial->daemon.notify_fd, .events = POLLIN},
                                   {.fd = trial->daemon.pid_fd, .events = POLLIN}};
        int ready = poll(events, 2, fc_e2e_left_ms(end_us) < 200 ? fc_e2e_left_ms(end_us) : 200);
        if (is_notified_ready(trial))
            return FC_TRIAL_READY;
        if ((events[1].revents & POLLIN) != 0)
            return FC_TRIAL_ENDED;
        char *log = ready == 0 ? fc_trial_log(trial) : NULL;
        bool is_logged =
            log != NULL && strstr(log, "event=notify_failed") != NULL && strstr(log, "event=ready") != NULL;
        free(log);
        if (is_logged)
            return FC_TRIAL_READY;
        if (fc_e2e_left_ms(end_us) == 0)
            return FC_TRIAL_HANGS;
    }
}

bool fc_trial_has_ended(const fc_trial *trial)
{
    struct pollfd end = {.fd = trial->daemon.pid_fd, .events = POLLIN};
    return trial->daemon.pid == 0 || poll(&end, 1, 0) == 1;
}

int fc_trial_wait_end(fc_trial *trial)
{
    struct pollfd end = {.fd = trial->daemon.pid_fd, .events = POLLIN};
    uint64_t end_us = fc_e2e_end_us(FC_TRIAL_HANG_MS);
    int ready;
    do {
        ready = poll(&end, 1, fc_e2e_left_ms(end_us));
    } while (ready < 0 && errno == EINTR);
    if (ready != 1) {
        fc_e2e_kill(&trial->daemon);
        return FC_TRIAL_HUNG;
    }
    return fc_e2e_wait_exit(&trial->daemon, FC_E2E_STOP_MS);
}

int fc_trial_stop(fc_trial *trial)
{
    if (!fc_trial_has_ended(trial))
        fc_e2e_signal(&trial->daemon, SIGTERM);
    return fc_trial_wait_end(trial);
}

/* --- what it says and leaves -------------------------------------------------------------------------------------- */

char *fc_trial_log(const fc_trial *trial)
{
    size_t bytes = 0;
    char *log = fc_e2e_read_file(trial->daemon.log_path, &bytes);
    if (log == NULL)
        return NULL;
    memmove(log, log + trial->log_bytes, bytes - trial->log_bytes + 1);
    return log;
}

bool fc_trial_logged(const fc_trial *trial, const char *text)
{
    char *log = fc_trial_log(trial);
    bool has = log != NULL && strstr(log, text) != NULL;
    free(log);
    return has;
}

bool fc_trial_reason(const fc_trial *trial, char *out_line, size_t line_bytes)
{
    unsigned found = 0;
    char *log = fc_trial_log(trial), *rest = NULL;
    for (char *line = log != NULL ? strtok_r(log, "\n", &rest) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        const char *reason = strstr(line, "event=cannot_start");
        reason = reason != NULL ? strstr(reason, "reason=") : NULL;
        if (reason == NULL && strstr(line, "event=gave_up") != NULL)
            reason = strstr(line, "what=");
        if (reason == NULL && strncmp(line, "flashcored: ", 12) == 0)
            reason = line;
        if (reason == NULL)
            continue;
        found++;
        snprintf(out_line, line_bytes, "%s", reason);
    }
    free(log);
    return found == 1 && strlen(out_line) > 14;
}

static bool is_ours(const char *name)
{
    static const char *const OURS[] = {".", "..", "faults", "conf", "log", "notify", "tls"};
    for (size_t i = 0; i < sizeof OURS / sizeof OURS[0]; i++)
        if (strcmp(name, OURS[i]) == 0)
            return true;
    return false;
}

unsigned fc_trial_leftovers(const fc_trial *trial, char *out_names, size_t names_bytes)
{
    unsigned count = 0;
    size_t used = 0;
    DIR *folder = opendir(trial->daemon.dir);
    ck_assert_ptr_nonnull(folder);
    out_names[0] = '\0';
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (is_ours(entry->d_name))
            continue;
        count++;
        if (used < names_bytes)
            used += (size_t)snprintf(out_names + used, names_bytes - used, "%s ", entry->d_name);
    }
    closedir(folder);
    return count;
}

fc_trial_holdings fc_trial_held(const fc_trial *trial)
{
    return (fc_trial_holdings){.descriptors = fc_e2e_count_entries(&trial->daemon, "fd"),
                               .threads = fc_e2e_count_entries(&trial->daemon, "task")};
}
