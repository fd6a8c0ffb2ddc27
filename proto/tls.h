/* TLS for both sides of a connection: certificates from files, and sessions that turn plain bytes into what goes over
 * the wire and back. The only user of OpenSSL. TLS 1.2 and 1.3; no renegotiation, no resumption: who may connect is
 * decided anew for each connection, by the certificates in effect then.
 *
 * Carries no bytes itself: a session reads and writes the wire through its owner's functions, which must not block.
 *
 * Threads: a context may be used by any number at once and may be destroyed before its sessions, which hold on to
 * it; a session is its owner's to serialise.
 */
#ifndef FC_PROTO_TLS_H
#define FC_PROTO_TLS_H

#include "proto/status.h"

#include <stdint.h>
#include <sys/types.h>

typedef struct fc_tls fc_tls;
typedef struct fc_tls_session fc_tls_session;

/* PEM, regular files; NULL or "": none. */
typedef struct fc_tls_files {
    const char *cert; /* this side's certificate, issuers' behind it. A server needs one */
    const char *key;  /* its key, without passphrase, closed to others */
    const char *ca;   /* who issues the peers' certificates. Server: given, every client has to show one; none: clients
                         are not asked. Client: none means those the system trusts */
} fc_tls_files;

/* Reads and checks the files. FC_INVALID_ARGUMENT, FC_IO with a reason that names the file, what is wrong and what
 * would be right: not there, not PEM, a key that is another certificate's, that others can read or that is encrypted;
 * FC_NO_MEMORY. */
fc_status fc_tls_server_create(const fc_tls_files *files, fc_tls **out_tls, fc_reason *out_reason);
fc_status fc_tls_client_create(const fc_tls_files *files, fc_tls **out_tls, fc_reason *out_reason);
void fc_tls_destroy(fc_tls *tls); /* NULL is fine */

/* Of its own certificate, for a log: whose it is, when it ends (UTC), and seconds until then, negative when it is over.
 */
#define FC_TLS_TEXT_BYTES 160
typedef struct fc_tls_identity {
    char subject[FC_TLS_TEXT_BYTES], not_after[32];
    int64_t left_s;
} fc_tls_identity;
void fc_tls_describe(const fc_tls *tls, fc_tls_identity *out_identity);

/* The wire. Bytes moved, > 0; 0: not now; -1: it has ended. */
typedef struct fc_tls_wire {
    ssize_t (*read)(void *context, void *bytes, size_t size_bytes);
    ssize_t (*write)(void *context, const void *bytes, size_t size_bytes);
    void *context;
} fc_tls_wire;

/* server_name: of a client, the name or IP address the server's certificate must be for; NULL on a server.
 * FC_NO_MEMORY, FC_INVALID_ARGUMENT (no such name). */
fc_status fc_tls_session_open(fc_tls *tls, const char *server_name, const fc_tls_wire *wire,
                              fc_tls_session **out_session);
void fc_tls_session_close(fc_tls_session *session); /* says nothing to the peer; NULL is fine */

/* 1: done; 0: the wire moves no more bytes now, again when it does; -1: over, fc_tls_why() says why. */
int fc_tls_handshake(fc_tls_session *session);

/* Plain bytes moved, > 0; 0: not now; -1: over. A write that came back with 0 must be repeated with the same bytes. */
ssize_t fc_tls_read(fc_tls_session *session, void *bytes, size_t size_bytes);
ssize_t fc_tls_write(fc_tls_session *session, const void *bytes, size_t size_bytes);

/* Has it plain bytes left that came with others before? They wait, whatever the wire does. */
bool fc_tls_has_input(const fc_tls_session *session);

/* Tells the peer that nothing more comes, if that can be said at once. */
void fc_tls_say_goodbye(fc_tls_session *session);

bool fc_tls_is_established(const fc_tls_session *session);

/* Why it is over, for people; "" while it is not. is_refusal: one side does not trust the other's certificate, or
 * misses one; else the connection or the protocol broke. */
const char *fc_tls_why(const fc_tls_session *session, bool *out_is_refusal);

#endif
