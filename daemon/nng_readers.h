/* The connections of an nng socket as readers of replies and senders of messages (readers.h): locked, with nng's word
 * for what has left and what was seen come, and cut when they keep too much from the others.
 *
 * Threads: any, but relieve and have_all: the loop thread.
 */
#ifndef FC_DAEMON_NNG_READERS_H
#define FC_DAEMON_NNG_READERS_H

#include "daemon/readers.h"
#include "daemon/stats.h"

#include <pthread.h>

/* Requests whose replies wait for their readers, of a server that does well: past that some readers are cut. */
#define FC_NNG_READERS_WAITING_MAX 1024

typedef struct fc_nng_readers {
    fc_stats *stats;        /* borrowed: counts who is cut, tells --queue-bytes and whether the service drains */
    uint64_t message_bytes; /* of the largest message */
    pthread_mutex_t lock;   /* guards the next */
    fc_readers readers;
    uint64_t looked_ns;     /* loop thread: when nng was last asked what has left, */
    uint64_t flushed_count; /* what it said when last asked whether all has, and when that changed */
    uint64_t flushed_ns;
} fc_nng_readers;

void fc_nng_readers_init(fc_nng_readers *readers, fc_stats *stats, uint64_t message_bytes);
void fc_nng_readers_fini(fc_nng_readers *readers);

/* A connection begins, by its nng_pipe's id and descriptor (-1: not known). FC_NO_MEMORY. */
fc_status fc_nng_readers_add(fc_nng_readers *readers, uint64_t pipe, uint64_t owner_key, int fd);

/* Its closing is reported. False: it never began. */
bool fc_nng_readers_remove(fc_nng_readers *readers, uint64_t pipe);

/* The descriptor of a connection whose closing has not been reported; -1: not known. */
int fc_nng_readers_fd(fc_nng_readers *readers, uint64_t pipe);

/* fc_nng_detour_depart() of a message for that connection. False: there is none any more, or no memory. */
bool fc_nng_readers_depart(fc_nng_readers *readers, uint64_t pipe, const void *body, size_t body_bytes, void *piece);

/* Cuts that one, whatever it reads. */
void fc_nng_readers_cut(fc_nng_readers *readers, uint64_t pipe);

/* A reply is about to be sent: whoever has too many waiting is cut, which may be this one; its sending is over. */
void fc_nng_readers_give(fc_nng_readers *readers, uint64_t pipe, uint64_t bytes);
void fc_nng_readers_take(fc_nng_readers *readers, uint64_t pipe, uint64_t bytes);

/* Every 10 ms or so: cuts those whose replies wait while too many do, or hold more bytes in all than may wait in the
 * queue; while the service drains, those of which nothing was taken for some seconds. And those whose messages are half
 * sent while these hold more than may wait in the queue and one message: whoever takes more than a second over one, and
 * past what may wait once more, anyone. */
void fc_nng_readers_relieve(fc_nng_readers *readers, uint64_t now_ns);

/* Every reply has been handed to the kernel; or, where nng is stuck and does not tell of all (nng_leaks.h), some time
 * has passed without progress. */
bool fc_nng_readers_have_all(fc_nng_readers *readers, bool is_stuck, uint64_t now_ns);

/* The connections, as ids with value 0: the caller's to end with fc_id_table_fini(). */
fc_id_table fc_nng_readers_list(fc_nng_readers *readers);

bool fc_nng_readers_are_there(fc_nng_readers *readers);

#endif
