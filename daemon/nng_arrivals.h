/* How many bytes nng has read, parts of messages included, of which nng itself says nothing before a message is whole:
 * a drain that looked at requests alone would hang up on a large one on its way.
 *
 * The daemon's own readv() counts (nng_gap.c). Built against nng 1.8 or later there is none, and this stands still.
 *
 * Any thread.
 */
#ifndef FC_DAEMON_NNG_ARRIVALS_H
#define FC_DAEMON_NNG_ARRIVALS_H

#include <stdint.h>

void fc_nng_arrivals_add(uint64_t bytes);

/* Since the start, of the whole process. */
uint64_t fc_nng_arrivals_bytes(void);

#endif
