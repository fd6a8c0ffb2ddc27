/* See certificates.h. */
#include "daemon/certificates.h"

#include "daemon/listen_policy.h"
#include "daemon/log.h"

#define NEAR_S (14 * 86400) /* an end this near is worth a warning */

fc_status fc_certificates_load(const fc_options *options, fc_tls **out_tls, fc_reason *out_reason)
{
    fc_tls_files files = {.cert = options->tls_cert, .key = options->tls_key, .ca = options->tls_client_ca};
    *out_tls = NULL;
    return fc_listen_policy_wants_tls(options) ? fc_tls_server_create(&files, out_tls, out_reason) : FC_OK;
}

void fc_certificates_log(const fc_tls *tls)
{
    fc_tls_identity identity;
    fc_tls_describe(tls, &identity);
    fc_log(identity.left_s < NEAR_S ? FC_LOG_WARN : FC_LOG_INFO, "certificate",
           fc_log_text("subject", identity.subject), fc_log_text("not_after", identity.not_after),
           fc_log_int("days_left", identity.left_s / 86400));
}
