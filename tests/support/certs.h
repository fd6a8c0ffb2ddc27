/* Certificates of a test's own: a CA, and what it issues for localhost and 127.0.0.1, as PEM files in a folder. Fails
 * the running test when something goes wrong.
 */
#ifndef FC_TESTS_SUPPORT_CERTS_H
#define FC_TESTS_SUPPORT_CERTS_H

#include <stdint.h>

#define FC_CERTS_PATH_BYTES 256

typedef struct fc_certs {
    char dir[FC_CERTS_PATH_BYTES - 64];
    char ca_path[FC_CERTS_PATH_BYTES];
    void *ca, *ca_key; /* OpenSSL's */
} fc_certs;

/* Makes a CA; its certificate goes to dir/ca_name.pem. */
void fc_certs_open(fc_certs *out_certs, const char *dir, const char *ca_name);
/* One whose certificate is issued by another, in the same folder. */
void fc_certs_open_under(fc_certs *out_certs, const fc_certs *issuer, const char *ca_name);
void fc_certs_close(fc_certs *certs);

/* Writes dir/name.pem and dir/name.key (mode 0600), of that common name and valid for so many days from yesterday.
 * Replaces what is there. */
typedef struct fc_cert {
    char cert_path[FC_CERTS_PATH_BYTES], key_path[FC_CERTS_PATH_BYTES];
} fc_cert;
fc_cert fc_certs_issue(fc_certs *certs, const char *name, const char *common_name, int days);

/* Writes its key anew, readable with the passphrase alone. */
void fc_certs_lock_key(const fc_cert *cert, const char *passphrase);

/* Who a TLS server at that loopback port says it is: its certificate's common name. */
void fc_certs_served(uint16_t port, char *out_common_name, int out_bytes);

#endif
