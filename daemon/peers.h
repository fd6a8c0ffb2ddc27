/* Who is connected: each peer's owner, its share of the queue, and how much it has under way. Peers that did something
 * in the last second are active; between those the lanes are shared.
 *
 * Pure but for the memory it takes: no locks, no clock; the owner locks and passes the time.
 */
#ifndef FC_DAEMON_PEERS_H
#define FC_DAEMON_PEERS_H

#include "daemon/bucket.h"
#include "daemon/id_table.h"
#include "daemon/queue.h"

/* All connections of one user, or of one host. */
typedef struct fc_owner {
    fc_share_owner share; /* its peer_count: of the active ones */
    uint64_t key;
    uint32_t connection_count; /* opened and not closed */
} fc_owner;

typedef struct fc_peer {
    fc_share share;
    uint64_t id;
    uint64_t inflight; /* requests counted in and not out */
    fc_bucket bucket;  /* of its requests a second */
    uint64_t retry_ns; /* when the last one that was refused is to come back (pace.h); 0: none was */
    fc_owner *owner;   /* NULL: not told */
    bool is_open, is_active;
    bool is_told; /* that the server is draining: it goes elsewhere */
    uint64_t opened_ns;
    uint64_t active_ns;          /* when it was last */
    struct fc_peer *prev, *next; /* active ones, by that */
} fc_peer;

typedef struct fc_peers {
    fc_id_table peers, owners; /* their addresses */
    fc_peer *first_active, *last_active;
    uint32_t active_count;
    uint32_t remote_count; /* opened and not closed, of owners on other machines or over tcp */
} fc_peers;

#define FC_PEERS_ACTIVE_NS 1000000000ull

void fc_peers_init(fc_peers *peers);
void fc_peers_fini(fc_peers *peers); /* frees them all, whatever they still have */

/* A connection begins; owner_key: not 0. FC_BUSY: its owner has connections_max already; FC_NO_MEMORY. */
fc_status fc_peers_open(fc_peers *peers, uint64_t id, uint64_t owner_key, uint64_t connections_max, uint64_t now_ns);

/* It ends, opened or not; what it has in flight is counted out later. */
void fc_peers_close(fc_peers *peers, uint64_t id);

/* The peer, active from now on; one that was never opened is its own owner. Valid as long as it has something in
 * flight, or until the next call. NULL: no memory. */
fc_peer *fc_peers_enter(fc_peers *peers, uint64_t id, uint64_t now_ns);

/* Does none of those that are open need telling? One does that is active, or came so lately that its first request may
 * be on its way. */
bool fc_peers_are_told(const fc_peers *peers, uint64_t now_ns);

/* Lets those who did nothing for FC_PEERS_ACTIVE_NS become inactive, and frees what is neither active nor open. */
void fc_peers_age(fc_peers *peers, uint64_t now_ns);

/* The peer whose share that is. */
static inline fc_peer *fc_peer_of(fc_share *share)
{
    return (fc_peer *)share;
}

#endif
