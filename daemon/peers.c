/* See peers.h. */
#include "daemon/peers.h"

#include "daemon/access.h"
#include "daemon/clock.h"

#include <stdlib.h>

/* --- owners ------------------------------------------------------------------------------------------------------- */

static void free_owner_if_done(fc_peers *peers, fc_owner *owner)
{
    if (owner == NULL || owner->connection_count > 0 || owner->share.peer_count > 0)
        return;
    fc_id_table_remove(&peers->owners, owner->key);
    free(owner);
}

static fc_owner *find_or_add_owner(fc_peers *peers, uint64_t key)
{
    fc_owner *owner = fc_id_table_put_object(&peers->owners, key, sizeof *owner);
    if (owner != NULL)
        owner->key = key;
    return owner;
}

/* --- active peers ------------------------------------------------------------------------------------------------- */

static void append_active(fc_peers *peers, fc_peer *peer)
{
    peer->prev = peers->last_active;
    peer->next = NULL;
    *(peer->prev != NULL ? &peer->prev->next : &peers->first_active) = peer;
    peers->last_active = peer;
}

static void unlink_active(fc_peers *peers, fc_peer *peer)
{
    *(peer->prev != NULL ? &peer->prev->next : &peers->first_active) = peer->next;
    *(peer->next != NULL ? &peer->next->prev : &peers->last_active) = peer->prev;
}

static void begin_active(fc_peers *peers, fc_peer *peer)
{
    peer->is_active = true;
    peers->active_count++;
    if (peer->owner != NULL)
        peer->owner->share.peer_count++;
    append_active(peers, peer);
}

static void end_active(fc_peers *peers, fc_peer *peer)
{
    unlink_active(peers, peer);
    peer->is_active = false;
    peers->active_count--;
    if (peer->owner != NULL)
        peer->owner->share.peer_count--;
}

/* --- peers -------------------------------------------------------------------------------------------------------- */

static void free_if_done(fc_peers *peers, fc_peer *peer)
{
    if (peer->is_open || peer->is_active)
        return;
    free_owner_if_done(peers, peer->owner);
    fc_id_table_remove(&peers->peers, peer->id);
    free(peer);
}

static fc_peer *find_or_add(fc_peers *peers, uint64_t id)
{
    fc_peer *peer = fc_id_table_put_object(&peers->peers, id, sizeof *peer);
    if (peer != NULL)
        peer->id = id;
    return peer;
}

fc_status fc_peers_open(fc_peers *peers, uint64_t id, uint64_t owner_key, uint64_t connections_max, uint64_t now_ns)
{
    fc_owner *owner = find_or_add_owner(peers, owner_key);
    if (owner == NULL)
        return FC_NO_MEMORY;
    if (owner->connection_count >= connections_max) {
        free_owner_if_done(peers, owner);
        return FC_BUSY;
    }
    fc_peer *peer = find_or_add(peers, id);
    if (peer == NULL) {
        free_owner_if_done(peers, owner);
        return FC_NO_MEMORY;
    }
    peer->is_open = true;
    peer->opened_ns = now_ns;
    peer->owner = owner;
    peer->share.owner = &owner->share;
    owner->share.peer_count += peer->is_active;
    owner->connection_count++;
    peers->remote_count += fc_peer_owner_is_remote(owner_key);
    return FC_OK;
}

void fc_peers_close(fc_peers *peers, uint64_t id)
{
    fc_peer *peer = fc_id_table_find_object(&peers->peers, id);
    if (peer == NULL || !peer->is_open)
        return;
    peer->is_open = false;
    peer->owner->connection_count--;
    peers->remote_count -= fc_peer_owner_is_remote(peer->owner->key);
    free_if_done(peers, peer);
}

fc_peer *fc_peers_enter(fc_peers *peers, uint64_t id, uint64_t now_ns)
{
    fc_peer *peer = find_or_add(peers, id);
    if (peer == NULL)
        return NULL;
    if (peer->is_active) {
        unlink_active(peers, peer);
        append_active(peers, peer);
    } else {
        begin_active(peers, peer);
    }
    peer->active_ns = now_ns;
    return peer;
}

bool fc_peers_are_told(const fc_peers *peers, uint64_t now_ns)
{
    for (size_t i = 0; i < peers->peers.capacity; i++) {
        const fc_peer *peer = fc_id_table_find_object(&peers->peers, peers->peers.entries[i].id);
        if (peer == NULL || !peer->is_open || peer->is_told)
            continue;
        if (peer->is_active || fc_clock_elapsed_ns(peer->opened_ns, now_ns) < FC_PEERS_ACTIVE_NS)
            return false;
    }
    return true;
}

void fc_peers_age(fc_peers *peers, uint64_t now_ns)
{
    for (fc_peer *peer; (peer = peers->first_active) != NULL;) {
        if (fc_clock_elapsed_ns(peer->active_ns, now_ns) < FC_PEERS_ACTIVE_NS)
            return;
        if (peer->inflight > 0) { /* what takes so long keeps it active */
            peer->active_ns = now_ns;
            unlink_active(peers, peer);
            append_active(peers, peer);
            continue;
        }
        end_active(peers, peer);
        peer->share.finish = 0;
        free_if_done(peers, peer);
    }
}

void fc_peers_init(fc_peers *peers)
{
    *peers = (fc_peers){.first_active = NULL};
    fc_id_table_init(&peers->peers);
    fc_id_table_init(&peers->owners);
}

static void free_all(fc_id_table *table)
{
    for (size_t i = 0; i < table->capacity; i++)
        if (table->entries[i].id != 0)
            free((void *)(uintptr_t)table->entries[i].value);
    fc_id_table_fini(table);
}

void fc_peers_fini(fc_peers *peers)
{
    free_all(&peers->peers);
    free_all(&peers->owners);
    fc_peers_init(peers);
}
