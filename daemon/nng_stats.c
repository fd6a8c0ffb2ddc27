/* See nng_stats.h. */
#include "daemon/nng_stats.h"

#include <string.h>

bool fc_nng_stats_read_pipe(nng_stat *stat, uint64_t *out_id, uint64_t *out_sent)
{
    if (strcmp(nng_stat_name(stat), "pipe") != 0 || nng_stat_type(stat) != NNG_STAT_SCOPE)
        return false;
    bool has_id = false;
    for (nng_stat *child = nng_stat_child(stat); child != NULL; child = nng_stat_next(child)) {
        if (strcmp(nng_stat_name(child), "id") == 0) {
            *out_id = nng_stat_value(child);
            has_id = true;
        } else if (strcmp(nng_stat_name(child), "tx_msgs") == 0) {
            *out_sent = nng_stat_value(child);
        }
    }
    return has_id;
}
