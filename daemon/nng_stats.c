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

uint32_t fc_nng_stats_count_unflushed(nng_stat *root, const fc_id_table *sent, uint64_t *out_flushed)
{
    uint32_t unflushed = 0;
    for (nng_stat *stat = nng_stat_child(root); stat != NULL; stat = nng_stat_next(stat)) {
        uint64_t id = 0;
        uint64_t flushed = 0;
        if (!fc_nng_stats_read_pipe(stat, &id, &flushed))
            continue;
        const uint64_t *given = fc_id_table_find(sent, id);
        unflushed += given != NULL && flushed < *given;
        *out_flushed += flushed;
    }
    return unflushed;
}
