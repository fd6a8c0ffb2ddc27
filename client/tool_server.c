/* Reaching a server from a tool. */
#include "client/tool_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fc_status fc_server_use_default_urls(fc_arg_texts *urls, fc_reason *out_reason)
{
    static char from_environment[2048];
    const char *variable = getenv(FC_SERVER_URL_VARIABLE);
    if (urls->count > 0)
        return FC_OK;
    if (variable == NULL || variable[0] == '\0') {
        urls->items[urls->count++] = FC_SERVER_DEFAULT_URL;
        return FC_OK;
    }
    if (strlen(variable) >= sizeof from_environment)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, FC_SERVER_URL_VARIABLE " is longer than %zu bytes",
                       sizeof from_environment - 1);
    snprintf(from_environment, sizeof from_environment, "%s", variable);
    char *rest = NULL;
    for (char *url = strtok_r(from_environment, ",", &rest); url != NULL; url = strtok_r(NULL, ",", &rest)) {
        if (urls->count == FC_ARG_TEXTS_MAX)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, FC_SERVER_URL_VARIABLE " holds more than %d URLs",
                           FC_ARG_TEXTS_MAX);
        urls->items[urls->count++] = url;
    }
    return FC_OK;
}

fc_status fc_server_open(const fc_arg_texts *urls, const fc_server_tls *tls, const fc_server_manner *manner,
                         flashcore_client **out_client, fc_reason *out_reason)
{
    flashcore_options options;
    flashcore_options_init(&options);
    options.urls = urls->items;
    options.url_count = urls->count;
    options.timeout_us = (uint64_t)(manner->timeout_s * 1e6);
    if (options.connect_timeout_us > options.timeout_us)
        options.connect_timeout_us = options.timeout_us;
    options.inflight_max = manner->inflight_max;
    options.path = manner->path;
    options.spin_us = manner->spin_us;
    options.tls_ca = tls->ca;
    options.tls_cert = tls->cert;
    options.tls_key = tls->key;
    options.tls_server_name = tls->server_name;
    flashcore_status st = flashcore_client_create(&options, out_client);
    if (st == FLASHCORE_OK)
        return FC_OK;
    return fc_fail((fc_status)st, out_reason, "%s", fc_server_error(st, flashcore_last_error()));
}

const char *fc_server_error(flashcore_status status, const char *error)
{
    return error != NULL && error[0] != '\0' ? error : flashcore_status_text(status);
}

fc_status fc_server_fail(const char *url, flashcore_status status, const char *error, fc_reason *out_reason)
{
    const char *text = fc_server_error(status, error);
    if (strstr(text, url) != NULL)
        return fc_fail((fc_status)status, out_reason, "%s", text);
    return fc_fail((fc_status)status, out_reason, "%s: %s", url, text);
}
