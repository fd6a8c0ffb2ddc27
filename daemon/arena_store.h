/* The arenas of all peers: who has which, how much that is together, and when one can go.
 *
 * An arena is held by the peer that asked for it, until the peer gives it back or is gone, and by every request that
 * names it, until that is answered; the last one out frees it. An id is 64 random bits and means something to its peer
 * alone. Bytes count against the quotas of their kind until they are free. A peer that keeps its mapping of a host
 * arena for longer finds nothing in it, and what it then writes there is its own memory, like any it might have taken
 * without a server. Device memory stays as long as the peer has it mapped: it counts until the arena's lifeline is cut.
 *
 * A thread of the store's own, the keeper, makes and frees: both take time, and the threads that ask have none. It also
 * registers each arena with the engine; where that fails the arena is none the worse, only slower.
 *
 * Threads: any, but for create, is_late, stop and destroy.
 */
#ifndef FC_DAEMON_ARENA_STORE_H
#define FC_DAEMON_ARENA_STORE_H

#include "daemon/arena_quota.h"
#include "kernels/engine.h"

typedef struct fc_arena_store fc_arena_store;
typedef struct fc_arena fc_arena;

typedef struct fc_arena_store_config {
    fc_arena_quota quotas[FC_ARENA_KIND_COUNT];
    uint32_t total_count;     /* arenas of all peers: each is a mapping, and the system allows a process so many */
    const fc_engine_ops *ops; /* arenas are registered with; borrowed, as the engine is, until destroy */
    fc_engine *engine;
} fc_arena_store_config;

#define FC_ARENAS_ASKED_PER_PEER 16 /* waiting to be made */
#define FC_ARENAS_MAX 8192          /* a sensible total_count: vm.max_map_count is 65530 by default */

/* What became of fc_arena_store_make(). On FC_OK the descriptors are the receiver's to send and close. On the keeper's
 * thread. */
typedef struct fc_arena_made {
    fc_status status;
    fc_reason reason;
    uint64_t id;
    size_t size_bytes;
    fc_arena_kind kind;
    int fd;              /* -1 unless FC_OK */
    int lifeline_fd;     /* -1 unless FC_OK and of the device */
    bool is_device_lost; /* the engine said so, whatever became of the arena */
} fc_arena_made;
typedef void (*fc_arena_on_made)(void *context, void *request, const fc_arena_made *made);

/* FC_NO_MEMORY, FC_INTERNAL: no thread. stats is borrowed until destroy. */
fc_status fc_arena_store_create(const fc_arena_store_config *config, fc_stats *stats, fc_arena_on_made on_made,
                                void *context, fc_arena_store **out_store);

/* Has the keeper been at one arena for longer than timeout_ns, and a second more for every 256 MiB of it? A launch that
 * began before it may hold it up, in the driver, and is watched itself: longest_launch_ns is how long the launch under
 * way longest has been, and the time counts anew when that ends. A keeper that is late cannot be joined: neither stop
 * nor destroy. One thread. */
bool fc_arena_store_is_late(fc_arena_store *store, uint64_t timeout_ns, uint64_t longest_launch_ns, uint64_t now_ns);

/* The server drains: from now on what is freed is left as it is for who has it mapped, and may be asking another server
 * for what lies in it. NULL: no arenas. Any thread. */
void fc_arena_store_keep_pages(fc_arena_store *store);

/* Ends the keeper after what was asked of it; later asking is refused. What is held stays, and what is in it. end does
 * not wait for that, which a device in trouble may hold up, and may be called on any thread. NULL is fine. */
void fc_arena_store_end(fc_arena_store *store);
void fc_arena_store_stop(fc_arena_store *store);

/* Stops, and frees what peers still hold. No request holds any. NULL is fine. */
void fc_arena_store_destroy(fc_arena_store *store);

/* Asks for an arena; on FC_OK on_made will be called once with that request. Peers take turns. The quotas are looked at
 * when its turn comes, after everything that is to be freed. What fc_arena_quota_round() says; FC_NO_MEMORY; FC_BUSY:
 * that peer waits for too many already; FC_DRAINING: stopped. */
fc_status fc_arena_store_make(fc_arena_store *store, uint64_t peer, fc_arena_kind kind, uint64_t size_bytes,
                              void *request, fc_reason *out_reason);

/* The peer gives it back. FC_INVALID_ARGUMENT: it has no such arena. */
fc_status fc_arena_store_give_back(fc_arena_store *store, uint64_t peer, uint64_t id, fc_reason *out_reason);

/* Gives all back. No call for this peer follows. */
void fc_arena_store_peer_gone(fc_arena_store *store, uint64_t peer);

/* NULL: the peer has no such arena. */
fc_arena *fc_arena_acquire(fc_arena_store *store, uint64_t peer, uint64_t id);
void fc_arena_release(fc_arena *arena); /* NULL is fine */

uint8_t *fc_arena_base(const fc_arena *arena); /* see fc_arena_memory */
size_t fc_arena_size_bytes(const fc_arena *arena);
fc_memory_place fc_arena_place(const fc_arena *arena); /* for the engine. NULL: plain host memory */

#endif
