/* See script.h. */
#include "tests/faults/script.h"

#include "tests/e2e/foreign.h"
#include "tests/e2e/job.h"
#include "tests/e2e/scrape.h"
#include "tests/support/packet_peer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARENA_BYTES (256 << 10)

static const fc_job_spec SPEC = {.name = "attend",
                                 .dtype = FLASHCORE_F32,
                                 .batch = 1,
                                 .q_heads = 2,
                                 .kv_heads = 1,
                                 .q_len = 24,
                                 .kv_len = 40,
                                 .head_dim = 16,
                                 .wants_lse = true};

static void note(fc_script_report *report, fc_said said, const char *what, const char *status, const char *why)
{
    report->ok_count += said == FC_SAID_OK;
    report->status_count += said == FC_SAID_STATUS;
    if (said <= report->worst)
        return;
    report->worst = said;
    snprintf(report->text, sizeof report->text, "%s: %s: %s", what, status, why);
}

static fc_said judge(flashcore_status status)
{
    switch (status) {
    case FLASHCORE_OK:
        return FC_SAID_OK;
    case FLASHCORE_BUSY:
    case FLASHCORE_DRAINING:
    case FLASHCORE_INTERNAL:
    case FLASHCORE_DEVICE_LOST:
    case FLASHCORE_UNREACHABLE:
    case FLASHCORE_CONNECTION_LOST:
        return FC_SAID_STATUS;
    case FLASHCORE_TIMED_OUT:
        return FC_SAID_NOTHING;
    default:
        return FC_SAID_WRONG;
    }
}

static void note_status(fc_script_report *report, const char *what, flashcore_status status)
{
    note(report, judge(status), what, flashcore_status_name(status), flashcore_last_error());
}

/* Certificates matter to the one url that wants them. */
static flashcore_client *connect_to(const fc_trial *trial, const char *url, flashcore_path path, int request_ms)
{
    flashcore_options options;
    flashcore_client *client = NULL;
    flashcore_options_init(&options);
    options.urls = &url;
    options.url_count = 1;
    options.path = path;
    if (url == trial->tls_url) {
        options.tls_ca = trial->tls_ca;
        options.tls_cert = trial->client.cert_path;
        options.tls_key = trial->client.key_path;
    }
    options.timeout_us = (uint64_t)fc_e2e_limit_ms(request_ms) * 1000;
    options.connect_timeout_us = (uint64_t)fc_e2e_limit_ms(request_ms / 4) * 1000;
    ck_assert_int_eq(flashcore_client_create(&options, &client), FLASHCORE_OK);
    return client;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void note_answer(fc_script_report *report, const char *what, const fc_job *job, flashcore_status status,
                        const char *error)
{
    fc_reason reason = {""};
    if (status == FLASHCORE_OK && !fc_job_is_right(job, &reason))
        note(report, FC_SAID_WRONG, what, "wrong answer", reason.text);
    else
        note(report, judge(status), what, flashcore_status_name(status), error);
}

static void attend(flashcore_client *client, const char *what, fc_script_report *report)
{
    fc_job job;
    flashcore_result result;
    fc_job_make(&SPEC, &job);
    flashcore_status status = flashcore_attend(client, &job.request, &result);
    note_answer(report, what, &job, status, result.error);
    fc_job_free(&job);
}

static void say_hello(flashcore_client *client, const char *what, fc_script_report *report)
{
    flashcore_info info;
    note_status(report, what, flashcore_hello(client, 0, &info));
}

static void attend_in_arena(flashcore_client *client, fc_script_report *report)
{
    fc_job job;
    flashcore_result result;
    flashcore_arena *arena = NULL;
    flashcore_status status = flashcore_arena_create(client, 0, ARENA_BYTES, &arena);
    /* Where the daemon, or the library after a failure, has no local channel for now. */
    note(report, status == FLASHCORE_UNSUPPORTED ? FC_SAID_STATUS : judge(status), "arena_create",
         flashcore_status_name(status), flashcore_last_error());
    if (status != FLASHCORE_OK)
        return;
    fc_job_make(&SPEC, &job);
    flashcore_request request = fc_job_in_arena(&job, arena);
    status = flashcore_attend(client, &request, &result);
    memcpy(job.request.out, request.out, job.out_bytes);
    memcpy(job.request.lse, request.lse, job.lse_bytes);
    note_answer(report, "attend in an arena", &job, status, result.error);
    flashcore_arena_destroy(arena);
    fc_job_free(&job);
}

static void cancel_one(flashcore_client *client, fc_script_report *report)
{
    fc_job job;
    flashcore_call *call = NULL;
    flashcore_result result;
    fc_job_make(&SPEC, &job);
    flashcore_status status = flashcore_submit(client, &job.request, NULL, NULL, &call);
    if (status == FLASHCORE_OK) {
        flashcore_cancel(call);
        status = flashcore_wait(call, UINT64_MAX, &result);
        flashcore_call_release(call);
        if (status == FLASHCORE_CANCELLED)
            note(report, FC_SAID_OK, "cancel", "cancelled", "");
        else
            note_answer(report, "cancel", &job, status, result.error);
    } else {
        note_status(report, "submit", status);
    }
    fc_job_free(&job);
}

/* Stands in for a caller's driver: nothing is done at that address. */
static flashcore_status map_nowhere(void *context, int fd, size_t size_bytes, const uint8_t uuid[FLASHCORE_UUID_BYTES],
                                    void **out_address, char error[FLASHCORE_ERROR_BYTES])
{
    (void)fd, (void)size_bytes, (void)uuid, (void)error;
    *out_address = context;
    return FLASHCORE_OK;
}

static void unmap_nothing(void *context, void *address, size_t size_bytes)
{
    (void)context, (void)address, (void)size_bytes;
}

static void make_device_arena(flashcore_client *client, fc_script_report *report)
{
    static char somewhere;
    const flashcore_device_mapper mapper = {.map = map_nowhere, .unmap = unmap_nothing, .context = &somewhere};
    flashcore_arena *arena = NULL;
    flashcore_status status = flashcore_device_arena_create(client, 0, ARENA_BYTES, &mapper, &arena);
    note(report, status == FLASHCORE_UNSUPPORTED ? FC_SAID_STATUS : judge(status), "arena_create on the device",
         flashcore_status_name(status), flashcore_last_error());
    flashcore_arena_destroy(arena);
}

static void drop_counter(void *context, const char *name, double value)
{
    (void)context, (void)name, (void)value;
}

/* --- bare sockets ------------------------------------------------------------------------------------------------- */

/* Bytes received; 0: the far side hung up; -1: nothing in time. */
static ssize_t receive(int fd, void *bytes, size_t size, int limit_ms)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (poll(&readable, 1, fc_e2e_limit_ms(limit_ms)) != 1)
        return -1;
    ssize_t got = recv(fd, bytes, size, 0);
    return got > 0 ? got : 0;
}

static void reload(const fc_trial *trial, int limit_ms, fc_script_report *report)
{
    fc_bytes request = {0};
    uint8_t bytes[2048];
    packet_peer peer;
    if (!packet_peer_try_open(&peer, trial->admin_path)) {
        note(report, FC_SAID_STATUS, "reload", "refused", strerror(errno));
        return;
    }
    fc_pack_head(&request, 7, "reload", 0);
    (void)packet_peer_send_bytes(&peer, request.data, request.size);
    ssize_t got = receive(peer.fd, bytes, sizeof bytes, limit_ms);
    packet_peer_close(&peer);
    fc_bytes_fini(&request);
    if (got <= 0) {
        note(report, got < 0 ? FC_SAID_NOTHING : FC_SAID_STATUS, "reload", got < 0 ? "no answer" : "cut", "");
        return;
    }
    fc_bytes reply = {.data = bytes, .size = (size_t)got};
    fc_value status = fc_reply_get(&reply, "status"), error = fc_reply_get(&reply, "error");
    /* A file that cannot be read is the configuration's fault, to the daemon. */
    bool is_told = error.begin != NULL && error.end > error.begin;
    note(report,
         fc_value_is_text(status, "ok") ? FC_SAID_OK
         : is_told                      ? FC_SAID_STATUS
                                        : FC_SAID_WRONG,
         "reload", "not ok", "");
}

static void get(const fc_trial *trial, const char *path, int limit_ms, fc_script_report *report)
{
    char bytes[65536], request[64];
    size_t used = 0;
    int fd = fc_scrape_dial(trial->metrics);
    if (fd < 0) {
        note(report, FC_SAID_STATUS, path, "refused", strerror(errno));
        return;
    }
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    (void)send(fd, request, (size_t)size, MSG_NOSIGNAL);
    ssize_t got = 1;
    while (got > 0 && used < sizeof bytes - 1) {
        got = receive(fd, bytes + used, sizeof bytes - 1 - used, limit_ms);
        used += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    bytes[used] = '\0';
    const char *body = strstr(bytes, "\r\n\r\n");
    bool is_ok = strncmp(bytes, "HTTP/1.1 200 ", 13) == 0 && body != NULL && body[4] != '\0';
    /* Some of it, or a 500 or 503: a scraper sees that it failed. */
    note(report,
         got < 0 ? FC_SAID_NOTHING
         : is_ok ? FC_SAID_OK
                 : FC_SAID_STATUS,
         path, got < 0 ? "no end" : "not 200", "");
}

/* --- the script --------------------------------------------------------------------------------------------------- */

typedef struct clients {
    flashcore_client *inlined, *local, *remote, *secure;
} clients;

static void attend_anew(const fc_trial *trial, int request_ms, fc_script_report *report)
{
    flashcore_client *client = connect_to(trial, trial->tls_url, FLASHCORE_PATH_AUTO, request_ms);
    attend(client, "attend over tls after a reload", report);
    flashcore_client_destroy(client);
}

/* False: there are no more. */
static bool run_step(int step, const fc_trial *trial, const clients *c, int request_ms, fc_script_report *report)
{
    switch (step) {
    case 0:
        say_hello(c->inlined, "hello", report);
        return true;
    case 1:
        attend(c->inlined, "attend over ipc", report);
        return true;
    case 2:
        attend(c->remote, "attend over tcp", report);
        return true;
    case 3:
        attend(c->local, "attend staged", report);
        return true;
    case 4:
        attend_in_arena(c->local, report);
        return true;
    case 5:
        if (!fc_e2e_on_cpu())
            make_device_arena(c->local, report);
        return true;
    case 6:
        cancel_one(c->local, report);
        cancel_one(c->inlined, report);
        return true;
    case 7:
        note_status(report, "ping", flashcore_ping(c->local, 0, NULL));
        return true;
    case 8:
        note_status(report, "stats", flashcore_stats(c->local, 0, drop_counter, NULL));
        return true;
    case 9:
        attend(c->secure, "attend over tls", report);
        return true;
    case 10:
        reload(trial, request_ms, report);
        return true;
    case 11: /* with the certificates read anew */
        attend_anew(trial, request_ms, report);
        return true;
    case 12:
        get(trial, "/metrics", request_ms, report);
        get(trial, "/healthz", request_ms, report);
        get(trial, "/readyz", request_ms, report);
        return true;
    default:
        return false;
    }
}

void fc_script_run(const fc_trial *trial, int request_ms, fc_script_report *out_report)
{
    fc_script_report report = {FC_SAID_OK, 0, 0, ""};
    clients c = {.inlined = connect_to(trial, trial->daemon.ipc_url, FLASHCORE_PATH_INLINE, request_ms),
                 .local = connect_to(trial, trial->daemon.ipc_url, FLASHCORE_PATH_AUTO, request_ms),
                 .remote = connect_to(trial, trial->daemon.tcp_url, FLASHCORE_PATH_AUTO, request_ms),
                 .secure = connect_to(trial, trial->tls_url, FLASHCORE_PATH_AUTO, request_ms)};
    int step = 0;
    /* Of one that has ended nothing more can be learnt. */
    while (!fc_trial_has_ended(trial) && run_step(step, trial, &c, request_ms, &report))
        step++;
    flashcore_client_destroy(c.secure);
    flashcore_client_destroy(c.remote);
    flashcore_client_destroy(c.local);
    flashcore_client_destroy(c.inlined);
    *out_report = report;
}

void fc_script_run_short(const fc_trial *trial, fc_script_report *out_report)
{
    fc_script_report report = {FC_SAID_OK, 0, 0, ""};
    flashcore_client *local = connect_to(trial, trial->daemon.ipc_url, FLASHCORE_PATH_AUTO, FC_SCRIPT_REQUEST_MS);
    flashcore_client *remote = connect_to(trial, trial->daemon.tcp_url, FLASHCORE_PATH_AUTO, FC_SCRIPT_REQUEST_MS);
    flashcore_client *secure = connect_to(trial, trial->tls_url, FLASHCORE_PATH_AUTO, FC_SCRIPT_REQUEST_MS);
    attend(local, "attend over ipc", &report);
    attend(remote, "attend over tcp", &report);
    attend(secure, "attend over tls", &report);
    flashcore_client_destroy(secure);
    flashcore_client_destroy(remote);
    flashcore_client_destroy(local);
    *out_report = report;
}

/* --- counters ----------------------------------------------------------------------------------------------------- */

bool fc_script_await(const fc_trial *trial, const char *counter, double least, double most)
{
    uint64_t end_us = fc_e2e_end_us(FC_SCRIPT_REQUEST_MS);
    flashcore_client *client = connect_to(trial, trial->daemon.ipc_url, FLASHCORE_PATH_INLINE, FC_SCRIPT_REQUEST_MS);
    double value;
    do {
        value = -1;
        (void)fc_job_look(client, counter, &value);
    } while ((value < least || value > most) && fc_e2e_now_us() < end_us);
    flashcore_client_destroy(client);
    return value >= least && value <= most;
}
