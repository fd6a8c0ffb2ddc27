/* One reload, from the file to the running parts. */
#include "daemon/reload.h"

#include "daemon/certificates.h"
#include "daemon/log.h"
#include "daemon/nng_tls.h"

#include <ctype.h>
#include <stdio.h>

fc_service_tunables fc_reload_tunables(const fc_options *options)
{
    return (fc_service_tunables){.default_kernel = options->kernel,
                                 .queue_requests = options->queue_requests,
                                 .queue_bytes = options->queue_bytes,
                                 .queue_bytes_per_peer = options->queue_bytes_per_peer,
                                 .inflight_per_peer = options->inflight_per_peer,
                                 .slow_request_ns = options->slow_request_ns,
                                 .connections_per_uid = options->connections_per_uid,
                                 .requests_per_second = options->requests_per_second,
                                 .batch_requests = (uint32_t)options->batch_requests};
}

static void log_change(void *context, const char *name, const char *value, bool is_applied)
{
    unsigned *changed_count = context;
    (*changed_count)++;
    fc_log(is_applied ? FC_LOG_INFO : FC_LOG_WARN, "option_changed", fc_log_text("option", name),
           fc_log_text("value", value), fc_log_text("applied", is_applied ? "yes" : "needs a restart"));
}

static void ignore_change(void *context, const char *name, const char *value, bool is_applied)
{
    (void)context, (void)name, (void)value, (void)is_applied;
}

fc_status fc_reload(int argc, char **argv, fc_options *options, fc_service *service, fc_transport *transport,
                    fc_reason *out_reason)
{
    fc_options fresh, next = *options;
    fc_tls *tls = NULL;
    fc_status st = fc_options_parse(argc, argv, &fresh, out_reason);
    if (st == FC_OK) {
        fc_options_reload(&next, &fresh, ignore_change, NULL);
        st = fc_certificates_load(&next, &tls, out_reason);
    }
    if (st == FC_OK) {
        fc_service_tunables tunables = fc_reload_tunables(&next);
        st = fc_service_reconfigure(service, &tunables, out_reason);
    }
    if (st != FC_OK) {
        fc_tls_destroy(tls);
        fc_log(FC_LOG_ERROR, "reload_failed", fc_log_text("status", fc_status_name(st)),
               fc_log_text("reason", out_reason->text));
        return st;
    }
    if (tls != NULL) {
        fc_certificates_log(tls);
        fc_nng_tls_replace(tls);
    }
    /* After the service: a longer queue needs more contexts. Too few of them only delay a `busy`. */
    if (fc_transport_reconfigure(transport, (uint32_t)next.leaked_pipes) != FC_OK)
        fc_log(FC_LOG_WARN, "reload_incomplete", fc_log_text("reason", "no memory for more receive contexts"));
    unsigned changed_count = 0;
    fc_log_set_level(next.log_level);
    fc_options_reload(options, &fresh, log_change, &changed_count);
    fc_log(FC_LOG_INFO, "reloaded", fc_log_text("config", options->config), fc_log_uint("changed", changed_count));
    return FC_OK;
}

fc_status fc_reload_set(const fc_wire_request *request, fc_options *options, fc_service *service, fc_reason *out_reason)
{
    char word[FC_NAME_BYTES];
    fc_options next = *options;
    bool is_kernel = request->op == FC_OP_DEFAULT_KERNEL;
    const char *name = is_kernel ? "kernel" : "log-level";
    for (size_t i = 0; i < request->word.bytes; i++)
        if (iscntrl((unsigned char)request->word.text[i]))
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: expected text, got a control character", name);
    snprintf(word, sizeof word, "%.*s", (int)request->word.bytes, request->word.text);
    fc_status st = fc_options_set(&next, name, word, FC_FROM_COMMAND_LINE, out_reason);
    if (st == FC_OK && is_kernel) {
        fc_service_tunables tunables = fc_reload_tunables(&next);
        st = fc_service_reconfigure(service, &tunables, out_reason);
    }
    if (st != FC_OK)
        return st;
    options->kernel = next.kernel;
    options->log_level = next.log_level;
    fc_log_set_level(next.log_level);
    fc_log(FC_LOG_INFO, "option_changed", fc_log_text("option", name), fc_log_text("value", word),
           fc_log_text("applied", "until the next reload"));
    return FC_OK;
}
