/* See http_address.h. */
#include "daemon/http_address.h"

#include "daemon/number.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static bool parse_internet(const char *text, fc_http_address *address)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address->internet;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->internet;
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    uint16_t port;
    if (colon == NULL || (size_t)(colon - text) >= sizeof host || !fc_number_read_port(colon + 1, &port))
        return false;
    snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    if (strcmp(host, "localhost") == 0)
        snprintf(host, sizeof host, "127.0.0.1");
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        address->internet_bytes = sizeof *v4;
        address->is_loopback = ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
        return true;
    }
    size_t length = strlen(host);
    if (length < 3 || host[0] != '[' || host[length - 1] != ']')
        return false;
    host[length - 1] = '\0';
    if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
        return false;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address->internet_bytes = sizeof *v6;
    address->is_loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    return true;
}

fc_status fc_http_address_parse(const char *text, fc_http_address *out_address, fc_reason *out_reason)
{
    fc_http_address address;
    memset(&address, 0, sizeof address);
    if (strncmp(text, "unix:", 5) == 0) {
        size_t path_bytes = strlen(text + 5);
        address.is_unix = address.is_loopback = true;
        if (path_bytes > 0 && path_bytes < sizeof address.path) {
            memcpy(address.path, text + 5, path_bytes + 1);
            *out_address = address;
            return FC_OK;
        }
    } else if (parse_internet(text, &address)) {
        *out_address = address;
        return FC_OK;
    }
    return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                   "expected 127.0.0.1:PORT, [::1]:PORT or unix:PATH (at most %zu bytes of path), got \"%.60s\"",
                   sizeof address.path - 1, text);
}

void fc_http_address_format(const fc_http_address *address, char text[FC_HTTP_ADDRESS_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->internet;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->internet;
    if (address->is_unix) {
        snprintf(text, FC_HTTP_ADDRESS_BYTES, "unix:%s", address->path);
    } else if (address->internet.ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(text, FC_HTTP_ADDRESS_BYTES, "%s:%u", host, ntohs(v4->sin_port));
    } else {
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(text, FC_HTTP_ADDRESS_BYTES, "[%s]:%u", host, ntohs(v6->sin6_port));
    }
}
