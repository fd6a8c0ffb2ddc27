/* TLS for nng's tls+tcp listeners, by OpenSSL (proto/tls.h): registered as nng's TLS engine in place of the one it
 * comes with, because a listener of nng 1.5 serves the certificate it was started with for good, and closing it to open
 * another cuts the connections it has. Here every connection takes the certificates in effect when it comes, so that
 * they can be replaced while serving.
 *
 * One set of certificates a process, as nng has one engine a process. Loop thread; the rest is nng's threads'.
 */
#ifndef FC_DAEMON_NNG_TLS_H
#define FC_DAEMON_NNG_TLS_H

#include "daemon/stats.h"
#include "proto/tls.h"

/* Takes tls over and registers. After the first nng socket's opening, before the first tls+tcp listener's. stats counts
 * refused connections until stop. */
void fc_nng_tls_start(fc_tls *tls, fc_stats *stats);

/* Takes tls over: connections that come from now on get it, those that are there keep what they have. */
void fc_nng_tls_replace(fc_tls *tls);

/* Every second or so: cuts connections that have not finished their handshake within 10 s. nng 1.5's own limit does not
 * end a connection that waits for its peer's first bytes. */
void fc_nng_tls_tick(uint64_t now_ns);

/* No connection comes any more. Also without a start. */
void fc_nng_tls_stop(void);

#endif
