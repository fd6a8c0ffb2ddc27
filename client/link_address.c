/* URLs to socket addresses: see link_address.h. */
#include "client/link_address.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static fc_status resolve_ipc(const char *url, const char *path, fc_link_address **out_addresses, fc_reason *out_reason)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof name.sun_path)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "url %.120s: a socket path has 1 to %zu bytes", url,
                       sizeof name.sun_path - 1);
    fc_link_address *address = calloc(1, sizeof *address);
    if (address == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    memcpy(name.sun_path, path, length + 1);
    memcpy(&address->storage, &name, sizeof name);
    address->bytes = sizeof name;
    *out_addresses = address;
    return FC_OK;
}

/* host:port or [host]:port; the host's text without brackets, and where the port starts. */
static const char *split(const char *text, char *host)
{
    const char *begin = text, *end = strrchr(text, ':');
    if (text[0] == '[') {
        begin = text + 1;
        end = strchr(text, ']');
        if (end == NULL || end[1] != ':')
            return NULL;
    }
    if (end == NULL || end == begin || end - begin >= FC_HOST_BYTES)
        return NULL;
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = '\0';
    return *end == ']' ? end + 2 : end + 1;
}

static fc_status resolve_tcp(const char *url, const char *text, fc_link_address **out_addresses, uint32_t *out_count,
                             fc_reason *out_reason)
{
    char host[FC_HOST_BYTES];
    const char *port = split(text, host);
    char *port_end = NULL;
    unsigned long number = port != NULL ? strtoul(port, &port_end, 10) : 0;
    if (number == 0 || number > 65535 || *port_end != '\0')
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "url %.120s: expected host:port at its end, port 1 to 65535",
                       url);
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "url %.120s: %s", url, gai_strerror(error));
    uint32_t count = 0;
    for (const struct addrinfo *info = found; info != NULL; info = info->ai_next)
        count++;
    fc_link_address *addresses = calloc(count, sizeof *addresses);
    for (const struct addrinfo *info = found; addresses != NULL && info != NULL; info = info->ai_next) {
        memcpy(&addresses[*out_count].storage, info->ai_addr, info->ai_addrlen);
        addresses[(*out_count)++].bytes = info->ai_addrlen;
    }
    freeaddrinfo(found);
    if (addresses == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    *out_addresses = addresses;
    return FC_OK;
}

static const char *after(const char *url, const char *scheme)
{
    size_t bytes = strlen(scheme);
    return strncmp(url, scheme, bytes) == 0 ? url + bytes : NULL;
}

bool fc_link_address_is_tls(const char *url, char out_host[FC_HOST_BYTES])
{
    const char *text = after(url, "tls+tcp://");
    return text != NULL && split(text, out_host) != NULL;
}

fc_status fc_link_address_resolve(const char *url, fc_link_address **out_addresses, uint32_t *out_count,
                                  fc_reason *out_reason)
{
    const char *path = after(url, "ipc://"), *tcp = after(url, "tcp://"), *tls = after(url, "tls+tcp://");
    *out_count = 0;
    if (tcp != NULL || tls != NULL)
        return resolve_tcp(url, tcp != NULL ? tcp : tls, out_addresses, out_count, out_reason);
    if (path == NULL)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                       "url %.120s: expected ipc:///path, tls+tcp://host:port or tcp://host:port", url);
    *out_count = 1;
    return resolve_ipc(url, path, out_addresses, out_reason);
}
