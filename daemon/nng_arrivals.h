/* What nng has read, parts of messages included, of which nng itself says nothing before a message is whole: a drain
 * that looked at requests alone would hang up on a large one on its way, and nobody would know what half-sent ones
 * hold.
 *
 * nng asks for a message's length, takes memory for all of it, and asks for what is left of it until that has come. So
 * whoever sees what is asked for and what comes knows each message: the daemon's own readv() (nng_gap.c), and over TLS
 * its own engine (nng_tls.c). Built against nng 1.8 or later there is none of it but for TLS, and this stands still.
 *
 * Any thread; of one descriptor, what is noted comes from one thread at a time.
 */
#ifndef FC_DAEMON_NNG_ARRIVALS_H
#define FC_DAEMON_NNG_ARRIVALS_H

#include <stdint.h>

/* Smaller messages are not looked after: they hold less than a connection itself. */
#define FC_NNG_ARRIVALS_LEAST_BYTES 4096

void fc_nng_arrivals_add(uint64_t bytes);

/* Since the start, of the whole process. */
uint64_t fc_nng_arrivals_bytes(void);

/* From now on messages come on this descriptor; no more. */
void fc_nng_arrivals_watch(int fd);
void fc_nng_arrivals_forget(int fd);

/* So many bytes of a message were still to come, and so many of them have. Nothing where it is not watched. */
void fc_nng_arrivals_note(int fd, uint64_t asked_bytes, uint64_t got_bytes);

/* What memory half-sent messages may hold: all of them; that of one descriptor (0: it has none), and since when. */
uint64_t fc_nng_arrivals_half_bytes(void);
uint64_t fc_nng_arrivals_half_of(int fd, uint64_t *out_since_ns);

#endif
