/* See tls.h. OpenSSL leaves its reasons in a queue of the thread's: cleared before each step, read after one that
 * failed. */
#include "proto/tls.h"

#include "proto/plain_file.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct fc_tls {
    atomic_uint references; /* the owner's, and one a session */
    SSL_CTX *context;
    BIO_METHOD *wire; /* how its sessions reach theirs */
};

struct fc_tls_session {
    fc_tls *tls;
    SSL *ssl;
    fc_tls_wire wire;
    bool is_over, is_refusal;
    char why[FC_TLS_TEXT_BYTES];
};

static bool is_given(const char *path)
{
    return path != NULL && path[0] != '\0';
}

/* --- reasons ------------------------------------------------------------------------------------------------------ */

static fc_status bad_file(const char *what, const char *path, const char *why, fc_reason *out_reason)
{
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s %.120s: %s", what, path, why);
}

/* A file OpenSSL could not make anything of. */
static fc_status bad_pem(const char *what, const char *path, const char *expected, fc_reason *out_reason)
{
    const char *text = ERR_reason_error_string(ERR_peek_error());
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s %.100s: expected %s (%.50s)", what, path, expected,
                   text != NULL ? text : "unreadable");
}

static fc_status no_memory(fc_reason *out_reason)
{
    return fc_fail(FC_NO_MEMORY, out_reason, "out of memory for TLS");
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static fc_status open_file(const char *what, const char *path, FILE **out_file, fc_reason *out_reason)
{
    fc_reason why;
    fc_status st = fc_plain_file_open(path, out_file, &why);
    return st == FC_OK ? FC_OK : fc_fail(st, out_reason, "%s %.120s: %s", what, path, why.text);
}

/* Whoever can read the key can be this side; whoever can write it can put another there. A group may read it: keys of
 * several services are kept so (Debian's ssl-cert, systemd's credentials). */
static fc_status check_key_file(int fd, const char *path, fc_reason *out_reason)
{
    struct stat about;
    if (fstat(fd, &about) != 0)
        return fc_fail(FC_IO, out_reason, "TLS key %.120s: %s", path, strerror(errno));
    if ((about.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                       "TLS key %.120s: its mode %04o lets others in; expected 0600, or 0640", path,
                       (unsigned)about.st_mode & 07777u);
    if (about.st_uid != 0 && about.st_uid != geteuid())
        return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                       "TLS key %.120s: belongs to uid %u; expected root's or this process's (%u)", path,
                       (unsigned)about.st_uid, (unsigned)geteuid());
    return FC_OK;
}

static int no_passphrase(char *buffer, int size, int is_for_writing, void *context)
{
    (void)buffer, (void)size, (void)is_for_writing, (void)context;
    return -1;
}

static fc_status use_key(SSL_CTX *context, const char *path, fc_reason *out_reason)
{
    FILE *file;
    fc_status st = open_file("TLS key", path, &file, out_reason);
    if (st != FC_OK)
        return st;
    st = check_key_file(fileno(file), path, out_reason);
    EVP_PKEY *key = st == FC_OK ? PEM_read_PrivateKey(file, NULL, no_passphrase, NULL) : NULL;
    fclose(file);
    if (st != FC_OK)
        return st;
    if (key == NULL)
        return bad_pem("TLS key", path, "a PEM key without passphrase", out_reason);
    if (SSL_CTX_use_PrivateKey(context, key) != 1)
        st = bad_file("TLS key", path, "does not belong to the certificate", out_reason);
    EVP_PKEY_free(key);
    return st;
}

/* What a file's certificates are for, one after the other. */
typedef bool (*cert_taker)(SSL_CTX *context, X509 *cert, unsigned number);

static bool take_own(SSL_CTX *context, X509 *cert, unsigned number)
{
    return (number == 0 ? SSL_CTX_use_certificate(context, cert) : SSL_CTX_add1_chain_cert(context, cert)) == 1;
}

static bool take_issuer(SSL_CTX *context, X509 *cert, unsigned number)
{
    (void)number;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(context), cert) == 1;
}

static bool take_client_issuer(SSL_CTX *context, X509 *cert, unsigned number)
{
    return take_issuer(context, cert, number) && SSL_CTX_add_client_CA(context, cert) == 1;
}

static fc_status read_certs(SSL_CTX *context, const char *what, const char *path, cert_taker take,
                            fc_reason *out_reason)
{
    FILE *file;
    X509 *cert;
    unsigned count = 0;
    bool is_fine = true;
    fc_status st = open_file(what, path, &file, out_reason);
    if (st != FC_OK)
        return st;
    while (is_fine && (cert = PEM_read_X509_AUX(file, NULL, no_passphrase, NULL)) != NULL) {
        is_fine = take(context, cert, count++);
        X509_free(cert);
    }
    fclose(file);
    /* The last is followed by no other, and by nothing broken. */
    if (!is_fine || count == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return bad_pem(what, path, "PEM certificates", out_reason);
    ERR_clear_error();
    return FC_OK;
}

static fc_status use_identity(SSL_CTX *context, const fc_tls_files *files, fc_reason *out_reason)
{
    if (is_given(files->cert) != is_given(files->key))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "TLS: a certificate needs its key, and a key its certificate");
    if (!is_given(files->cert))
        return FC_OK;
    fc_status st = read_certs(context, "TLS certificate", files->cert, take_own, out_reason);
    return st == FC_OK ? use_key(context, files->key, out_reason) : st;
}

static fc_status use_client_issuers(SSL_CTX *context, const char *path, fc_reason *out_reason)
{
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return read_certs(context, "TLS client CA", path, take_client_issuer, out_reason);
}

static fc_status use_server_issuers(SSL_CTX *context, const char *path, fc_reason *out_reason)
{
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (!is_given(path))
        return SSL_CTX_set_default_verify_paths(context) == 1 ? FC_OK : no_memory(out_reason);
    return read_certs(context, "TLS CA", path, take_issuer, out_reason);
}

/* --- the wire, as OpenSSL's BIO ----------------------------------------------------------------------------------- */

static int wire_read(BIO *bio, char *bytes, int size_bytes)
{
    const fc_tls_session *session = BIO_get_data(bio);
    ssize_t got = session->wire.read(session->wire.context, bytes, (size_t)size_bytes);
    BIO_clear_retry_flags(bio);
    if (got == 0)
        BIO_set_retry_read(bio);
    return got > 0 ? (int)got : -1;
}

static int wire_write(BIO *bio, const char *bytes, int size_bytes)
{
    const fc_tls_session *session = BIO_get_data(bio);
    ssize_t put = session->wire.write(session->wire.context, bytes, (size_t)size_bytes);
    BIO_clear_retry_flags(bio);
    if (put == 0)
        BIO_set_retry_write(bio);
    return put > 0 ? (int)put : -1;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *make_wire(void)
{
    BIO_METHOD *wire = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "wire");
    if (wire == NULL)
        return NULL;
    BIO_meth_set_read(wire, wire_read);
    BIO_meth_set_write(wire, wire_write);
    BIO_meth_set_ctrl(wire, wire_control);
    return wire;
}

/* --- contexts ----------------------------------------------------------------------------------------------------- */

static fc_tls *make(const SSL_METHOD *method)
{
    /* Nothing at exit: threads of ours may still be at it then. */
    OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL);
    ERR_clear_error();
    fc_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return NULL;
    atomic_init(&tls->references, 1);
    tls->wire = make_wire();
    tls->context = SSL_CTX_new(method);
    if (tls->wire == NULL || tls->context == NULL) {
        fc_tls_destroy(tls);
        return NULL;
    }
    SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
    SSL_CTX_set_options(tls->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(tls->context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(tls->context, 0);
    SSL_CTX_set_mode(tls->context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    return tls;
}

static fc_status finish(fc_tls *tls, fc_status st, fc_tls **out_tls)
{
    ERR_clear_error();
    if (st == FC_OK)
        *out_tls = tls;
    else
        fc_tls_destroy(tls);
    return st;
}

fc_status fc_tls_server_create(const fc_tls_files *files, fc_tls **out_tls, fc_reason *out_reason)
{
    fc_tls *tls = make(TLS_server_method());
    if (tls == NULL)
        return no_memory(out_reason);
    fc_status st = is_given(files->cert)
                       ? use_identity(tls->context, files, out_reason)
                       : fc_fail(FC_INVALID_ARGUMENT, out_reason, "TLS: a server needs a certificate");
    if (st == FC_OK && is_given(files->ca))
        st = use_client_issuers(tls->context, files->ca, out_reason);
    return finish(tls, st, out_tls);
}

fc_status fc_tls_client_create(const fc_tls_files *files, fc_tls **out_tls, fc_reason *out_reason)
{
    fc_tls *tls = make(TLS_client_method());
    if (tls == NULL)
        return no_memory(out_reason);
    fc_status st = use_identity(tls->context, files, out_reason);
    if (st == FC_OK)
        st = use_server_issuers(tls->context, files->ca, out_reason);
    return finish(tls, st, out_tls);
}

void fc_tls_destroy(fc_tls *tls)
{
    if (tls == NULL || atomic_fetch_sub(&tls->references, 1) != 1)
        return;
    SSL_CTX_free(tls->context);
    BIO_meth_free(tls->wire);
    free(tls);
}

void fc_tls_describe(const fc_tls *tls, fc_tls_identity *out_identity)
{
    struct tm when = {0};
    int days = 0, seconds = 0;
    *out_identity = (fc_tls_identity){.subject = "none"};
    const X509 *cert = SSL_CTX_get0_certificate(tls->context);
    if (cert == NULL)
        return;
    X509_NAME_oneline(X509_get_subject_name(cert), out_identity->subject, sizeof out_identity->subject);
    if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &when) == 1)
        strftime(out_identity->not_after, sizeof out_identity->not_after, "%Y-%m-%dT%H:%M:%SZ", &when);
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) == 1)
        out_identity->left_s = (int64_t)days * 86400 + seconds;
}

/* --- sessions ----------------------------------------------------------------------------------------------------- */

static bool expect_server(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *wanted = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(wanted, name) == 1)
        return true;
    ERR_clear_error(); /* it is no address, then */
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(wanted, name, 0) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

fc_status fc_tls_session_open(fc_tls *tls, const char *server_name, const fc_tls_wire *wire,
                              fc_tls_session **out_session)
{
    fc_status st = FC_NO_MEMORY;
    BIO *bio = NULL;
    fc_tls_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return FC_NO_MEMORY;
    ERR_clear_error();
    session->wire = *wire;
    session->ssl = SSL_new(tls->context);
    if (session->ssl == NULL || (bio = BIO_new(tls->wire)) == NULL)
        goto free_session;
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio);
    if (SSL_is_server(session->ssl))
        SSL_set_accept_state(session->ssl);
    else
        SSL_set_connect_state(session->ssl);
    st = FC_INVALID_ARGUMENT;
    if (server_name != NULL && !expect_server(session->ssl, server_name))
        goto free_session;
    atomic_fetch_add(&tls->references, 1);
    session->tls = tls;
    *out_session = session;
    return FC_OK;
free_session:
    SSL_free(session->ssl);
    free(session);
    ERR_clear_error();
    return st;
}

void fc_tls_session_close(fc_tls_session *session)
{
    if (session == NULL)
        return;
    SSL_free(session->ssl);
    fc_tls_destroy(session->tls);
    free(session);
    ERR_clear_error();
}

/* One side's word that it does not like the other's certificate. */
static bool is_about_trust(unsigned long error)
{
    switch (ERR_GET_REASON(error)) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_NO_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE: /* TLS 1.2's word for a certificate that is missing, too */
        return true;
    default:
        return false;
    }
}

static void note_end(fc_tls_session *session)
{
    unsigned long error = ERR_peek_error();
    const char *text = error != 0 ? ERR_reason_error_string(error) : NULL;
    long verdict = SSL_get_verify_result(session->ssl);
    session->is_over = true;
    session->is_refusal = ERR_GET_LIB(error) == ERR_LIB_SSL && is_about_trust(error);
    if (session->is_refusal && verdict != X509_V_OK)
        text = X509_verify_cert_error_string(verdict);
    snprintf(session->why, sizeof session->why, "%s", text != NULL ? text : "the connection ended");
}

/* What came of a step: its bytes, 0: again later, -1: over. */
static int outcome(fc_tls_session *session, int result, const size_t *moved)
{
    if (result == 1)
        return (int)*moved;
    int error = SSL_get_error(session->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return 0;
    note_end(session);
    ERR_clear_error();
    return -1;
}

int fc_tls_handshake(fc_tls_session *session)
{
    if (session->is_over)
        return -1;
    ERR_clear_error();
    return outcome(session, SSL_do_handshake(session->ssl), &(size_t){1});
}

/* A call moves at most a record, which fits an int. */
ssize_t fc_tls_read(fc_tls_session *session, void *bytes, size_t size_bytes)
{
    size_t got = 0;
    if (session->is_over)
        return -1;
    ERR_clear_error();
    return outcome(session, SSL_read_ex(session->ssl, bytes, size_bytes, &got), &got);
}

ssize_t fc_tls_write(fc_tls_session *session, const void *bytes, size_t size_bytes)
{
    size_t put = 0;
    if (session->is_over)
        return -1;
    ERR_clear_error();
    return outcome(session, SSL_write_ex(session->ssl, bytes, size_bytes, &put), &put);
}

bool fc_tls_has_input(const fc_tls_session *session)
{
    return SSL_pending(session->ssl) > 0;
}

void fc_tls_say_goodbye(fc_tls_session *session)
{
    if (session->is_over || !SSL_is_init_finished(session->ssl))
        return;
    ERR_clear_error();
    SSL_shutdown(session->ssl);
    ERR_clear_error();
}

bool fc_tls_is_established(const fc_tls_session *session)
{
    return SSL_is_init_finished(session->ssl);
}

const char *fc_tls_why(const fc_tls_session *session, bool *out_is_refusal)
{
    *out_is_refusal = session->is_refusal;
    return session->why;
}
