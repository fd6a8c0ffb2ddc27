#include "tests/abuse/polite.h"

#include "tests/e2e/job.h"
#include "tests/e2e/scrape.h"
#include "tests/support/packet_peer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAILURES_MAX 4096
#define REQUESTS_A_CLIENT 25
#define PATIENCE_US 60000000u

static const fc_job_spec SMALL = {
    .name = "polite", .batch = 1, .q_heads = 2, .kv_heads = 1, .q_len = 16, .kv_len = 24, .head_dim = 32};

typedef struct failure {
    uint64_t begun_us;
    char why[96];
} failure;

struct fc_polite {
    pthread_t thread;
    fc_road road;
    bool stays;
    char address[FC_E2E_PATH_BYTES], ipc_url[FC_E2E_PATH_BYTES];
    const fc_site *site; /* what never changes of it */
    atomic_bool is_over;
    atomic_uint_fast64_t answered;
    fc_polite_report report;
    size_t failure_count;
    failure failures[FAILURES_MAX];
    fc_job first, job;
    bool has_first;
};

static void note_failure(fc_polite *polite, uint64_t begun_us, const char *why)
{
    if (polite->failure_count < FAILURES_MAX) {
        failure *f = &polite->failures[polite->failure_count++];
        f->begun_us = begun_us;
        snprintf(f->why, sizeof f->why, "%s", why);
    }
}

static flashcore_client *make_client(const fc_polite *polite)
{
    flashcore_options options;
    flashcore_client *client = NULL;
    bool is_stream = polite->road <= FC_ROAD_TLS;
    const char *url = is_stream ? polite->address : polite->ipc_url;
    flashcore_options_init(&options);
    options.urls = &url;
    options.url_count = 1;
    options.path = polite->road == FC_ROAD_LOCAL ? FLASHCORE_PATH_AUTO : FLASHCORE_PATH_INLINE;
    options.timeout_us = options.connect_timeout_us = (uint64_t)fc_e2e_limit_ms(1) * PATIENCE_US;
    options.tls_ca = polite->site->certs.ca_path;
    options.tls_cert = polite->site->client.cert_path;
    options.tls_key = polite->site->client.key_path;
    (void)flashcore_client_create(&options, &client);
    return client;
}

static void attend(fc_polite *polite, flashcore_client *client)
{
    flashcore_result result;
    fc_reason why = {""};
    uint64_t begun_us = fc_e2e_now_us();
    fc_job *job = polite->has_first ? &polite->job : &polite->first;
    fc_job_poison(job);
    if (flashcore_attend(client, &job->request, &result) != FLASHCORE_OK) {
        char text[96];
        snprintf(text, sizeof text, "%s: %.70s", flashcore_status_name(result.status), result.error);
        note_failure(polite, begun_us, text);
        return;
    }
    uint64_t took_us = fc_e2e_now_us() - begun_us;
    if (took_us > polite->report.worst_us)
        polite->report.worst_us = took_us;
    bool is_right = polite->has_first ? fc_job_same_answer(&polite->first, job) : fc_job_is_right(job, &why);
    polite->has_first = polite->has_first || is_right;
    polite->report.wrong += !is_right;
    atomic_fetch_add(&polite->answered, 1);
}

/* The road's own question, where that is not attention: true when it was answered rightly. */
static void ask_beside(fc_polite *polite)
{
    static const char GET[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char RIGHT[] = "HTTP/1.1 200 ";
    char answer[sizeof RIGHT] = "";
    fc_wire_reply reply;
    packet_peer peer;
    bool is_answered;
    uint64_t begun_us = fc_e2e_now_us();
    if (polite->road == FC_ROAD_ADMIN) {
        is_answered = packet_peer_try_open(&peer, polite->address) && packet_peer_send_op(&peer, 5, FC_OP_PING) &&
                      packet_peer_receive(&peer, &reply) && reply.status == FC_OK && reply.id == 5;
        packet_peer_close(&peer);
    } else {
        int fd = fc_scrape_dial(polite->address);
        is_answered = fd >= 0 && send(fd, GET, sizeof GET - 1, MSG_NOSIGNAL) > 0 &&
                      recv(fd, answer, sizeof RIGHT - 1, MSG_WAITALL) > 0 && strcmp(answer, RIGHT) == 0;
        if (fd >= 0)
            close(fd);
    }
    if (is_answered)
        atomic_fetch_add(&polite->answered, 1);
    else
        note_failure(polite, begun_us, polite->road == FC_ROAD_ADMIN ? "the admin socket" : "/healthz");
}

static void *work(void *context)
{
    fc_polite *polite = context;
    flashcore_client *client = make_client(polite);
    for (uint32_t i = 1; client != NULL && !atomic_load(&polite->is_over); i++) {
        attend(polite, client);
        if (polite->road == FC_ROAD_HTTP || polite->road == FC_ROAD_ADMIN)
            ask_beside(polite);
        if (polite->stays || i % REQUESTS_A_CLIENT != 0)
            continue;
        flashcore_client_destroy(client);
        client = make_client(polite);
    }
    if (client == NULL)
        note_failure(polite, 0, "no client could be made");
    flashcore_client_destroy(client);
    return NULL;
}

fc_polite *fc_polite_start(const fc_site *site, fc_road road, bool stays)
{
    fc_polite *polite = calloc(1, sizeof *polite);
    ck_assert_ptr_nonnull(polite);
    polite->site = site;
    polite->road = road;
    polite->stays = stays;
    snprintf(polite->address, sizeof polite->address, "%s", site->address[road]);
    snprintf(polite->ipc_url, sizeof polite->ipc_url, "%s", site->address[FC_ROAD_IPC]);
    fc_job_make(&SMALL, &polite->first);
    fc_job_share(&polite->first, &polite->job);
    ck_assert_int_eq(pthread_create(&polite->thread, NULL, work, polite), 0);
    return polite;
}

uint64_t fc_polite_answered(const fc_polite *polite)
{
    return atomic_load(&polite->answered);
}

static bool is_excused(const failure *f, const fc_site *site)
{
    for (uint32_t i = 0; i < site->restart_count; i++)
        if (f->begun_us >= site->restarts[i].from_us && f->begun_us <= site->restarts[i].to_us)
            return true;
    return false;
}

void fc_polite_stop(fc_polite *polite, const fc_site *site, fc_polite_report *out_report)
{
    atomic_store(&polite->is_over, true);
    pthread_join(polite->thread, NULL);
    *out_report = polite->report;
    out_report->answered = atomic_load(&polite->answered);
    for (size_t i = 0; i < polite->failure_count; i++) {
        bool may = is_excused(&polite->failures[i], site);
        out_report->excused += may;
        out_report->lost += !may;
        if (!may)
            snprintf(out_report->why, sizeof out_report->why, "%s", polite->failures[i].why);
    }
    fc_job_free(&polite->job);
    fc_job_free(&polite->first);
    free(polite);
}
