/* See listen_policy.h. */
#include "daemon/listen_policy.h"

#include <arpa/inet.h>
#include <string.h>

static const char TCP[] = "tcp://", TLS[] = "tls+tcp://";

static bool begins_with(const char *url, const char *scheme)
{
    return strncmp(url, scheme, strlen(scheme)) == 0;
}

bool fc_listen_policy_is_tls(const char *url)
{
    return begins_with(url, TLS);
}

bool fc_listen_policy_wants_tls(const fc_options *options)
{
    for (uint32_t i = 0; i < options->listen.count; i++)
        if (fc_listen_policy_is_tls(options->listen.urls[i]))
            return true;
    return false;
}

/* host:port or [host]:port, as the option's syntax has checked. */
static bool is_loopback(const char *address)
{
    char host[FC_URL_BYTES];
    struct in_addr v4;
    struct in6_addr v6;
    bool is_bracketed = address[0] == '[';
    const char *begin = address + is_bracketed, *end = strrchr(address, is_bracketed ? ']' : ':');
    if (end == NULL || (size_t)(end - begin) >= sizeof host)
        return false;
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = '\0';
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0;
}

static fc_status check_url(const fc_options *options, const char *url, fc_reason *out_reason)
{
    bool is_tls = begins_with(url, TLS), has_identity = options->tls_cert[0] != '\0' && options->tls_key[0] != '\0';
    if (!is_tls && !begins_with(url, TCP))
        return FC_OK;
    if (is_tls && !has_identity)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "listen %.120s: expected tls-cert and tls-key with it", url);
    if (options->insecure_tcp || is_loopback(url + (is_tls ? sizeof TLS : sizeof TCP) - 1))
        return FC_OK;
    if (!is_tls)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                       "listen %.80s: open to other machines, unencrypted; expected tls+tcp:// with tls-client-ca, "
                       "tcp://127.0.0.1:PORT, or insecure-tcp if that is meant",
                       url);
    if (options->tls_client_ca[0] == '\0')
        return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                       "listen %.80s: lets in whoever can reach it; expected tls-client-ca, or insecure-tcp if that is "
                       "meant",
                       url);
    return FC_OK;
}

fc_status fc_listen_policy_check(const fc_options *options, fc_reason *out_reason)
{
    fc_status st = FC_OK;
    for (uint32_t i = 0; st == FC_OK && i < options->listen.count; i++)
        st = check_url(options, options->listen.urls[i], out_reason);
    return st;
}
