/* See nng_leaks.h. */
#include "daemon/nng_leaks.h"

#include "daemon/clock.h"
#include "daemon/nng_stats.h"

#include <nng/nng.h>

void fc_nng_leaks_init(fc_nng_leaks *leaks)
{
    *leaks = (fc_nng_leaks){.opened_count = 0};
    pthread_mutex_init(&leaks->lock, NULL);
    fc_id_table_init(&leaks->closing);
}

void fc_nng_leaks_fini(fc_nng_leaks *leaks)
{
    fc_id_table_fini(&leaks->closing);
    pthread_mutex_destroy(&leaks->lock);
}

void fc_nng_leaks_opened(fc_nng_leaks *leaks)
{
    pthread_mutex_lock(&leaks->lock);
    leaks->opened_count++;
    pthread_mutex_unlock(&leaks->lock);
}

void fc_nng_leaks_closed(fc_nng_leaks *leaks, uint64_t id, uint64_t now_ns)
{
    pthread_mutex_lock(&leaks->lock);
    leaks->opened_before_closing = leaks->opened_count;
    uint64_t *closed_ns = fc_id_table_put(&leaks->closing, id);
    if (closed_ns != NULL)
        *closed_ns = now_ns;
    pthread_mutex_unlock(&leaks->lock);
}

bool fc_nng_leaks_are_closing(fc_nng_leaks *leaks)
{
    pthread_mutex_lock(&leaks->lock);
    bool are_closing = leaks->closing.count > 0;
    pthread_mutex_unlock(&leaks->lock);
    return are_closing;
}

/* Under the lock: keeps of those who are closing the ones nng knows; how many have been for too long. */
static uint64_t count_stuck(fc_nng_leaks *leaks, nng_stat *root, uint64_t now_ns, uint64_t patience_ns)
{
    uint64_t stuck = 0;
    fc_id_table still;
    fc_id_table_init(&still);
    for (nng_stat *stat = nng_stat_child(root); stat != NULL; stat = nng_stat_next(stat)) {
        uint64_t id = 0;
        uint64_t flushed = 0;
        const uint64_t *closed_ns = NULL;
        if (fc_nng_stats_read_pipe(stat, &id, &flushed))
            closed_ns = fc_id_table_find(&leaks->closing, id);
        if (closed_ns == NULL)
            continue;
        uint64_t *kept_ns = fc_id_table_put(&still, id);
        if (kept_ns != NULL)
            *kept_ns = *closed_ns;
        stuck += fc_clock_elapsed_ns(*closed_ns, now_ns) >= patience_ns;
    }
    fc_id_table_fini(&leaks->closing);
    leaks->closing = still;
    return stuck;
}

uint64_t fc_nng_leaks_count(fc_nng_leaks *leaks, uint64_t now_ns, uint64_t patience_ns)
{
    nng_stat *root = NULL;
    if (!fc_nng_leaks_are_closing(leaks) || nng_stats_get(&root) != 0)
        return 0;
    pthread_mutex_lock(&leaks->lock);
    uint64_t stuck = count_stuck(leaks, root, now_ns, patience_ns);
    uint64_t leaked = stuck > 0 ? stuck + leaks->opened_count - leaks->opened_before_closing : 0;
    pthread_mutex_unlock(&leaks->lock);
    nng_stats_free(root);
    return leaked;
}
