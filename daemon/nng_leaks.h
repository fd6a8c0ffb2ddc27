/* Connections that nng has closed and never forgets. Their destruction hangs (nng 1.5, when the peer died while a large
 * reply was partly sent), and with it the one thread that destroys connections. From then on nothing that closes is
 * ever freed, and closings are not even reported; so every connection opened since counts as one.
 *
 * Any thread; the time is an argument.
 */
#ifndef FC_DAEMON_NNG_LEAKS_H
#define FC_DAEMON_NNG_LEAKS_H

#include "daemon/id_table.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct fc_nng_leaks {
    pthread_mutex_t lock; /* guards all below */
    fc_id_table closing;  /* connection -> when it was closed, until nng has forgotten it */
    uint64_t opened_count;
    uint64_t opened_before_closing; /* opened_count when a connection was last reported closed */
} fc_nng_leaks;

void fc_nng_leaks_init(fc_nng_leaks *leaks);
void fc_nng_leaks_fini(fc_nng_leaks *leaks);

void fc_nng_leaks_opened(fc_nng_leaks *leaks);
void fc_nng_leaks_closed(fc_nng_leaks *leaks, uint64_t id, uint64_t now_ns);

/* How many there are: closed for longer than patience_ns, and nng knows them still. */
uint64_t fc_nng_leaks_count(fc_nng_leaks *leaks, uint64_t now_ns, uint64_t patience_ns);

/* Has anyone closed, since they were last counted or before, whom nng had not forgotten then? */
bool fc_nng_leaks_are_closing(fc_nng_leaks *leaks);

#endif
