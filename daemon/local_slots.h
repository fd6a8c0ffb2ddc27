/* The slots of the local channel: a slot is one request with its message and its reply. As many as the service wants,
 * made when they are first needed. Any thread, but init and fini.
 */
#ifndef FC_DAEMON_LOCAL_SLOTS_H
#define FC_DAEMON_LOCAL_SLOTS_H

#include "daemon/request.h"
#include "daemon/service.h"

#include <pthread.h>
#include <stdatomic.h>

struct connection; /* local.c's */

typedef struct fc_local_slot {
    fc_request request; /* first: a request's slot is found by its address */
    struct connection *from;
    struct fc_local_slot *next; /* free list, or the connection's unsent replies */
    size_t out_bytes;
    uint8_t out[FC_PACKET_BYTES];
    uint8_t in[FC_PACKET_BYTES];
} fc_local_slot;

typedef struct fc_local_slots {
    fc_service *service;
    const fc_reply_sink *sink;
    pthread_mutex_t lock; /* guards the rest */
    fc_local_slot *free;
    uint32_t count;         /* that exist */
    atomic_bool is_starved; /* the I/O thread waits for a slot; to be read without the lock */
} fc_local_slots;

/* Both are borrowed until fini. */
void fc_local_slots_init(fc_local_slots *slots, fc_service *service, const fc_reply_sink *sink);

/* All must have been given back. */
void fc_local_slots_fini(fc_local_slots *slots);

/* NULL: as many as the service wants are in use, or there is no memory for one more: now it is starved. */
fc_local_slot *fc_local_slots_take(fc_local_slots *slots);

/* True: it was starved, and is no more. */
bool fc_local_slots_give(fc_local_slots *slots, fc_local_slot *slot);

#endif
