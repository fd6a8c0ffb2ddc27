/* The client object: options, creation, destruction. */
#include "client/client.h"
#include "client/arena.h"
#include "client/last_error.h"
#include "client/link_address.h"
#include "proto/tls.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_INFLIGHT_MAX 256
#define DEFAULT_CONNECT_TIMEOUT_US 5000000
#define DEFAULT_TIMEOUT_US 60000000
#define DEFAULT_REPLY_BYTES_MAX ((size_t)1 << 30)

void flashcore_options_init(flashcore_options *options)
{
    *options = (flashcore_options){
        .struct_bytes = sizeof *options,
        .inflight_max = DEFAULT_INFLIGHT_MAX,
        .connect_timeout_us = DEFAULT_CONNECT_TIMEOUT_US,
        .timeout_us = DEFAULT_TIMEOUT_US,
        .reply_bytes_max = DEFAULT_REPLY_BYTES_MAX,
    };
}

static fc_status check_options(const flashcore_options *options, fc_reason *out_reason)
{
    if (options->url_count == 0 || options->urls == NULL)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "no URL given");
    if (options->url_count > FC_ROUTE_URLS_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "url_count is %zu, at most %d", options->url_count,
                       FC_ROUTE_URLS_MAX);
    if (options->inflight_max == 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "inflight_max is 0");
    if (options->path != FLASHCORE_PATH_AUTO && options->path != FLASHCORE_PATH_INLINE)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "path: %d is not a flashcore_path", (int)options->path);
    for (size_t i = 0; i < options->url_count; i++)
        if (options->urls[i] == NULL)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "urls[%zu] is NULL", i);
    return FC_OK;
}

static void free_client(flashcore_client *client)
{
    if (client->net != NULL)
        fc_net_stop(client->net);
    fc_slot *slot = client->made_slots;
    while (slot != NULL) {
        fc_slot *next = slot->next_made;
        fc_exchange_destroy(slot->exchange);
        free(slot);
        slot = next;
    }
    fc_net_destroy(client->net);
    fc_tls_destroy(client->tls);
    fc_arena_free_all(client);
    for (uint32_t i = 0; client->urls != NULL && i < client->url_count; i++)
        free(client->urls[i].text);
    free(client->urls);
    free(client->routes);
    pthread_cond_destroy(&client->changed);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

static fc_status make_client(const flashcore_options *options, flashcore_client **out_client)
{
    flashcore_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return FC_NO_MEMORY;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&client->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&client->lock, NULL);
    client->url_count = (uint32_t)options->url_count;
    client->inflight_max = options->inflight_max;
    client->connect_timeout_us = options->connect_timeout_us;
    client->timeout_us = options->timeout_us;
    client->path = options->path;
    client->next_id = 1;
    client->jitter_state = fc_link_now_ns() | 1;
    client->urls = calloc(client->url_count, sizeof *client->urls);
    client->routes = calloc(client->url_count, sizeof *client->routes);
    if (client->urls == NULL || client->routes == NULL) {
        free_client(client);
        return FC_NO_MEMORY;
    }
    *out_client = client;
    return FC_OK;
}

/* Only if a URL wants TLS: then wrong files are found here, not at the first call. */
static fc_status load_certificates(flashcore_client *client, const flashcore_options *options, fc_reason *out_reason)
{
    char host[FC_HOST_BYTES];
    fc_tls_files files = {.cert = options->tls_cert, .key = options->tls_key, .ca = options->tls_ca};
    for (size_t i = 0; i < options->url_count; i++)
        if (fc_link_address_is_tls(options->urls[i], host))
            return fc_tls_client_create(&files, &client->tls, out_reason);
    return FC_OK;
}

static fc_status open_links(flashcore_client *client, const flashcore_options *options, fc_reason *out_reason)
{
    fc_status status = load_certificates(client, options, out_reason);
    if (status != FC_OK)
        return status;
    fc_net_options net_options = {
        .link_max = 2 * client->url_count,
        .spin_ns = fc_client_later_ns(0, options->spin_us),
        .reply_bytes_max = options->reply_bytes_max,
        .tls = client->tls,
        .tls_server_name = options->tls_server_name,
        .notify = fc_flight_on_link,
        .owner = client,
    };
    status = fc_net_create(&net_options, &client->net);
    if (status != FC_OK)
        return fc_fail(status, out_reason, "cannot set up the network side: %s", fc_status_text(status));
    for (uint32_t i = 0; i < client->url_count; i++) {
        client->urls[i].client = client;
        client->urls[i].text = strdup(options->urls[i]);
        if (client->urls[i].text == NULL)
            return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
        status = fc_link_open(client->net, options->urls[i], &client->urls[i].link, out_reason);
        if (status != FC_OK)
            return status;
    }
    for (uint32_t i = 0; i < client->url_count; i++)
        if (fc_link_open_packets(client->net, client->urls[i].link, &client->urls[i].side) != FC_OK)
            return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    status = fc_net_start(client->net);
    return status == FC_OK ? FC_OK : fc_fail(status, out_reason, "cannot start a thread");
}

static fc_status create(const flashcore_options *given, flashcore_client **out_client, fc_reason *out_reason)
{
    flashcore_options options;
    flashcore_options_init(&options);
    if (given == NULL || out_client == NULL)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "options or out_client is NULL");
    if (given->struct_bytes == 0 || given->struct_bytes > sizeof options)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "options->struct_bytes: call flashcore_options_init() first");
    memcpy(&options, given, given->struct_bytes); /* an older caller's struct may be shorter */
    fc_status status = check_options(&options, out_reason);
    if (status != FC_OK)
        return status;
    flashcore_client *client;
    status = make_client(&options, &client);
    if (status != FC_OK)
        return fc_fail(status, out_reason, "out of memory");
    status = open_links(client, &options, out_reason);
    if (status != FC_OK) {
        free_client(client);
        return status;
    }
    *out_client = client;
    return FC_OK;
}

flashcore_status flashcore_client_create(const flashcore_options *options, flashcore_client **out_client)
{
    fc_reason reason = {""};
    return fc_last_error_set(create(options, out_client, &reason), &reason);
}

void flashcore_client_destroy(flashcore_client *client)
{
    if (client == NULL)
        return;
    fc_flight_end_all(client);
    free_client(client);
}
