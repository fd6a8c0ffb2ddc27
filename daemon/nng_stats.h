/* nng's own numbers, from the tree of nng_stats_get(). Any thread. */
#ifndef FC_DAEMON_NNG_STATS_H
#define FC_DAEMON_NNG_STATS_H

#include <nng/nng.h>
#include <stdbool.h>
#include <stdint.h>

/* Of a child of the root: false unless it is a connection. Its id, and how many messages the kernel has taken of it;
 * what nng does not tell stays as it was. */
bool fc_nng_stats_read_pipe(nng_stat *stat, uint64_t *out_id, uint64_t *out_sent);

#endif
