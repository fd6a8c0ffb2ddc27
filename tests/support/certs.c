#include "tests/support/certs.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define DAY_S 86400L

static void write_pem(const char *path, X509 *cert, EVP_PKEY *key)
{
    FILE *file = fopen(path, "w");
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    ck_assert_int_eq(fchmod(fileno(file), 0600), 0);
    if (cert != NULL)
        ck_assert_int_eq(PEM_write_X509(file, cert), 1);
    if (key != NULL)
        ck_assert_int_eq(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    ck_assert_int_eq(fclose(file), 0);
}

static void extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    ck_assert_ptr_nonnull(extension);
    ck_assert_int_eq(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* Of key, for that name; signed by the issuer, NULL: by itself. */
static X509 *make(EVP_PKEY *key, const char *name, const fc_certs *issuer, bool is_ca, int days)
{
    static long serial;
    X509 *cert = X509_new();
    ck_assert_ptr_nonnull(cert);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(cert), (days - 1) * DAY_S);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer != NULL ? issuer->ca : cert));
    X509_set_pubkey(cert, key);
    if (is_ca)
        extend(cert, NID_basic_constraints, "critical,CA:TRUE");
    else
        extend(cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    ck_assert_int_gt(X509_sign(cert, issuer != NULL ? issuer->ca_key : key, EVP_sha256()), 0);
    return cert;
}

static void open_ca(fc_certs *out_certs, const char *dir, const char *ca_name, const fc_certs *issuer)
{
    memset(out_certs, 0, sizeof *out_certs);
    snprintf(out_certs->dir, sizeof out_certs->dir, "%s", dir);
    snprintf(out_certs->ca_path, sizeof out_certs->ca_path, "%s/%s.pem", out_certs->dir, ca_name);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    ck_assert_ptr_nonnull(key);
    out_certs->ca_key = key;
    out_certs->ca = make(key, ca_name, issuer, true, 10);
    write_pem(out_certs->ca_path, out_certs->ca, NULL);
}

void fc_certs_open(fc_certs *out_certs, const char *dir, const char *ca_name)
{
    open_ca(out_certs, dir, ca_name, NULL);
}

void fc_certs_open_under(fc_certs *out_certs, const fc_certs *issuer, const char *ca_name)
{
    open_ca(out_certs, issuer->dir, ca_name, issuer);
}

void fc_certs_close(fc_certs *certs)
{
    X509_free(certs->ca);
    EVP_PKEY_free(certs->ca_key);
}

fc_cert fc_certs_issue(fc_certs *certs, const char *name, const char *common_name, int days)
{
    fc_cert paths;
    snprintf(paths.cert_path, sizeof paths.cert_path, "%s/%s.pem", certs->dir, name);
    snprintf(paths.key_path, sizeof paths.key_path, "%s/%s.key", certs->dir, name);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    ck_assert_ptr_nonnull(key);
    X509 *cert = make(key, common_name, certs, false, days);
    write_pem(paths.cert_path, cert, NULL);
    write_pem(paths.key_path, NULL, key);
    X509_free(cert);
    EVP_PKEY_free(key);
    return paths;
}

void fc_certs_lock_key(const fc_cert *cert, const char *passphrase)
{
    FILE *file = fopen(cert->key_path, "r+");
    ck_assert_msg(file != NULL, "%s: %s", cert->key_path, strerror(errno));
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    ck_assert_ptr_nonnull(key);
    rewind(file);
    ck_assert_int_eq(ftruncate(fileno(file), 0), 0);
    ck_assert_int_eq(
        PEM_write_PKCS8PrivateKey(file, key, EVP_aes_128_cbc(), passphrase, (int)strlen(passphrase), NULL, NULL), 1);
    ck_assert_int_eq(fclose(file), 0);
    EVP_PKEY_free(key);
}

void fc_certs_served(uint16_t port, char *out_common_name, int out_bytes)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    /* Whatever the server thinks of a client without a certificate, its own it has shown by then. */
    SSL_connect(ssl);
    X509 *cert = SSL_get1_peer_certificate(ssl);
    ck_assert_msg(cert != NULL, "the server at port %u shows no certificate", (unsigned)port);
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out_common_name, out_bytes);
    X509_free(cert);
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
}
