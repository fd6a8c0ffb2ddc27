/* Where HTTP is served: HOST:PORT with a numeric HOST (or localhost), or unix:PATH. A plain value; any thread. */
#ifndef FC_DAEMON_HTTP_ADDRESS_H
#define FC_DAEMON_HTTP_ADDRESS_H

#include "proto/status.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

typedef struct fc_http_address {
    bool is_unix;     /* path; else internet */
    bool is_loopback; /* nobody beyond this machine can connect */
    union {
        struct sockaddr_storage internet;
        char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    };
    socklen_t internet_bytes;
} fc_http_address;

/* FC_INVALID_ARGUMENT: neither form; the reason says what is expected. Asks no name server. */
fc_status fc_http_address_parse(const char *text, fc_http_address *out_address, fc_reason *out_reason);

/* "127.0.0.1:40123" or "unix:/run/x.sock" of a bound socket (the port may have been 0). */
#define FC_HTTP_ADDRESS_BYTES 128
void fc_http_address_format(const fc_http_address *address, char text[FC_HTTP_ADDRESS_BYTES]);

#endif
