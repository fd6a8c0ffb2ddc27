/* The TLS certificates the options name: read at start, and again when told to. Loop thread. */
#ifndef FC_DAEMON_CERTIFICATES_H
#define FC_DAEMON_CERTIFICATES_H

#include "daemon/options.h"
#include "proto/tls.h"

/* Reads them. FC_OK with *out_tls NULL: no listener wants any. Else as fc_tls_server_create(). */
fc_status fc_certificates_load(const fc_options *options, fc_tls **out_tls, fc_reason *out_reason);

/* Logs whose certificate is in effect and until when; as a warning when that is over or near. */
void fc_certificates_log(const fc_tls *tls);

#endif
