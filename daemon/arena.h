/* One arena: shared memory the daemon makes for a peer to map. On the host a memfd, sealed so that nobody can resize it
 * (a shorter file would kill whoever touches its end), mapped and filled with pages here. On the device what the engine
 * makes, which lives until the last process that mapped it has let go, whatever is done here; a *lifeline* tells when
 * that is: a pipe whose reading end goes to the peer along with the memory, and is closed with it, at the latest by
 * the peer's death.
 *
 * The peer may write to it, or punch holes into it, whenever it likes: what is read is its own affair, nothing read
 * here decides anything but numbers. A hole gives it other pages than those that were registered with the engine: then
 * the device reads and writes what nobody sees any more. Calls take a millisecond per some MiB: not for threads that
 * others wait for. Any thread.
 */
#ifndef FC_DAEMON_ARENA_H
#define FC_DAEMON_ARENA_H

#include "kernels/engine.h"

typedef struct fc_arena_memory {
    uint8_t *base; /* page-aligned; on the device an address that only its kernels can use */
    size_t size_bytes;
    int fd; /* -1 once given away; the mapping does not need it */
    fc_memory_place place;
    const fc_engine_ops *ops; /* it is registered with; NULL: with none */
    fc_engine *engine;
    int lifeline_fd; /* device: our end; -1: none. Outlives the memory, and is the caller's to close */
} fc_arena_memory;

/* size_bytes >= 1, rounded up to whole pages, all of which are there on FC_OK: no lack of memory shows later.
 * FC_NO_MEMORY: there is not so much now, of memory or descriptors; FC_IO. */
fc_status fc_arena_memory_open(size_t size_bytes, fc_arena_memory *out_memory, fc_reason *out_reason);

/* Lets the engine's device copy from and to it; the engine is borrowed until close. To be called before the peer has
 * the descriptor. On failure, with a status of memory_register(), it stays what it was. */
fc_status fc_arena_memory_register(fc_arena_memory *memory, const fc_engine_ops *ops, fc_engine *engine,
                                   fc_reason *out_reason);

/* The same of the engine's device, size_bytes >= 1, rounded up to its granule and cleared; registered from the start.
 * *out_peer_lifeline_fd is the peer's end, the caller's to close. FC_NO_MEMORY, FC_DEVICE_LOST, FC_INTERNAL, FC_IO. */
fc_status fc_arena_memory_open_device(size_t size_bytes, const fc_engine_ops *ops, fc_engine *engine,
                                      fc_arena_memory *out_memory, int *out_peer_lifeline_fd, fc_reason *out_reason);

/* empties, of the host: gives its pages back to the system, whoever else has them mapped; who reads there then reads
 * zeros. */
void fc_arena_memory_close(fc_arena_memory *memory, bool empties);

/* Has every holder of the lifeline's other end let go? */
bool fc_arena_lifeline_is_cut(int lifeline_fd);

#endif
