/* Where a URL leads: ipc:///path, tcp://host:port and tls+tcp://host:port to socket addresses. Resolving a name may
 * block. Any thread. */
#ifndef FC_CLIENT_LINK_ADDRESS_H
#define FC_CLIENT_LINK_ADDRESS_H

#include "proto/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define FC_HOST_BYTES 256

typedef struct fc_link_address {
    struct sockaddr_storage storage;
    socklen_t bytes;
} fc_link_address;

/* On FC_OK *out_addresses[*out_count], count >= 1, is the caller's to free(). FC_INVALID_ARGUMENT, FC_NO_MEMORY. */
fc_status fc_link_address_resolve(const char *url, fc_link_address **out_addresses, uint32_t *out_count,
                                  fc_reason *out_reason);

/* Is the URL a tls+tcp:// one? Then out_host is whom it names. */
bool fc_link_address_is_tls(const char *url, char out_host[FC_HOST_BYTES]);

#endif
