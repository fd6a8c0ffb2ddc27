#include "tests/abuse/site.h"

#include "tests/e2e/scrape.h"
#include "tests/support/packet_peer.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const char *fc_road_name(fc_road road)
{
    static const char *const NAMES[] = {
#define FC_ROAD_WORD(symbol, word) word,
        FC_ROADS(FC_ROAD_WORD)};
    return NAMES[road];
}

void fc_site_args(const fc_site *site, const char *out_args[FC_SITE_ARGS_MAX])
{
    static char connections[16], leaks[16], message[16], drain[16], close_limit[16];
    snprintf(connections, sizeof connections, "%d", site->has_limit ? FC_SITE_CONNECTIONS_MAX : 0);
    snprintf(leaks, sizeof leaks, "%d", FC_SITE_LEAKS_MAX);
    snprintf(message, sizeof message, "%u", FC_SITE_MESSAGE_BYTES);
    snprintf(drain, sizeof drain, "%dms", fc_e2e_limit_ms(FC_SITE_DRAIN_MS));
    snprintf(close_limit, sizeof close_limit, "%dms", fc_e2e_limit_ms(FC_SITE_CLOSE_MS));
    const char *args[] = {"--listen",
                          site->address[FC_ROAD_TLS],
                          "--tls-cert",
                          site->server.cert_path,
                          "--tls-key",
                          site->server.key_path,
                          "--tls-client-ca",
                          site->certs.ca_path,
                          "--metrics",
                          site->address[FC_ROAD_HTTP],
                          "--admin-socket",
                          site->address[FC_ROAD_ADMIN],
                          "--connections-per-uid",
                          connections,
                          "--leaked-pipes",
                          leaks,
                          "--message-bytes",
                          message,
                          "--drain-timeout",
                          drain,
                          "--close-timeout",
                          close_limit,
                          NULL};
    _Static_assert(sizeof args / sizeof *args <= FC_SITE_ARGS_MAX, "room for all");
    memcpy(out_args, args, sizeof args);
}

void fc_site_start(fc_site *out_site, bool has_limit)
{
    const char *args[FC_SITE_ARGS_MAX];
    memset(out_site, 0, sizeof *out_site);
    out_site->has_limit = has_limit;
    fc_e2e_daemon *daemon = &out_site->daemon;
    fc_e2e_place(daemon);
    fc_certs_open(&out_site->certs, daemon->dir, "ca");
    out_site->server = fc_certs_issue(&out_site->certs, "server", "server", 30);
    out_site->client = fc_certs_issue(&out_site->certs, "client", "client", 30);
    char(*at)[FC_E2E_PATH_BYTES] = out_site->address;
    snprintf(at[FC_ROAD_IPC], sizeof *at, "%s", daemon->ipc_url);
    snprintf(at[FC_ROAD_TCP], sizeof *at, "%s", daemon->tcp_url);
    snprintf(at[FC_ROAD_TLS], sizeof *at, "tls+tcp://127.0.0.1:%u", fc_e2e_free_port());
    snprintf(at[FC_ROAD_LOCAL], sizeof *at, "%.120s.local", daemon->ipc_path);
    snprintf(at[FC_ROAD_ADMIN], sizeof *at, "%.100s/admin", daemon->dir);
    fc_scrape_address(daemon, at[FC_ROAD_HTTP]);
    fc_site_args(out_site, args);
    fc_e2e_restart(daemon, args);
}

bool fc_site_look(const fc_site *site, fc_site_view *out_view)
{
    if (site->daemon.pid == 0)
        return false;
    unsigned descriptors = fc_e2e_count_entries(&site->daemon, "fd");
    long memory_kib = fc_e2e_resident_kib(&site->daemon);
    bool is_there = descriptors > 0 && memory_kib >= 0;
    if (is_there)
        *out_view = (fc_site_view){.descriptors = descriptors, .memory_kib = (uint64_t)memory_kib};
    return is_there;
}

double fc_site_counter(const fc_site *site, const char *name)
{
    double value;
    (void)packet_peer_try_counter(site->address[FC_ROAD_LOCAL], name, &value);
    return value;
}

/* The most that its log says never closed. */
static void note_never_closing(fc_site *site)
{
    static const char LINE[] = "event=connections_leaked count=";
    char *log = fc_e2e_read_file(site->daemon.log_path, NULL);
    for (const char *at = log; at != NULL && (at = strstr(at, LINE)) != NULL;) {
        at += strlen(LINE);
        uint64_t count = strtoull(at, NULL, 10);
        site->never_closing = count > site->never_closing ? count : site->never_closing;
    }
    free(log);
}

static void restart(fc_site *site)
{
    const char *args[FC_SITE_ARGS_MAX];
    uint64_t ended_us = fc_e2e_now_us();
    int code = fc_e2e_wait_exit(&site->daemon, FC_E2E_STEP_MS);
    ck_assert_msg(code == 1, "the daemon ended by itself, with %d", code);
    fc_e2e_wait_log(&site->daemon, "event=connections_leaked", NULL);
    fc_e2e_wait_log(&site->daemon, "cause=pipes_leaked", NULL);
    note_never_closing(site);
    ck_assert_uint_lt(site->restart_count, FC_SITE_RESTARTS_MAX);
    fc_site_args(site, args);
    fc_e2e_restart(&site->daemon, args);
    site->restarts[site->restart_count++] =
        (fc_site_restart){.from_us = ended_us - (uint64_t)fc_e2e_limit_ms(FC_SITE_NOTICE_MS + FC_SITE_END_MS) * 1000u,
                          .to_us = fc_e2e_now_us()};
}

bool fc_site_watch(fc_site *site, int fd, int wait_ms)
{
    struct pollfd events[2] = {{.fd = site->daemon.pid_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    if (poll(events, 2, wait_ms) <= 0)
        return false;
    if (events[0].revents != 0)
        restart(site);
    return events[1].revents != 0;
}

uint64_t fc_site_end(fc_site *site)
{
    uint64_t began_us = fc_e2e_now_us();
    fc_e2e_signal(&site->daemon, SIGTERM);
    int code = fc_e2e_wait_exit(&site->daemon, FC_SITE_END_MS);
    ck_assert_msg(code == 0 || code == 3 || code == 1, "the daemon ended with %d", code);
    uint64_t took_ms = (fc_e2e_now_us() - began_us) / 1000u;
    fc_e2e_forget(&site->daemon);
    fc_certs_close(&site->certs);
    return took_ms;
}
