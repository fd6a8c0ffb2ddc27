/* One arena: shared memory the daemon makes for a peer to map. A memfd, sealed so that nobody can resize it (a shorter
 * file would kill whoever touches its end), mapped and filled with pages here.
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
    uint8_t *base; /* page-aligned */
    size_t size_bytes;
    int fd; /* -1 once given away; the mapping does not need it */
    fc_memory_place place;
    const fc_engine_ops *ops; /* it is registered with; NULL: with none */
    fc_engine *engine;
} fc_arena_memory;

/* size_bytes >= 1, rounded up to whole pages, all of which are there on FC_OK: no lack of memory shows later.
 * FC_NO_MEMORY: there is not so much now, of memory or descriptors; FC_IO. */
fc_status fc_arena_memory_open(size_t size_bytes, fc_arena_memory *out_memory, fc_reason *out_reason);

/* Lets the engine's device copy from and to it; the engine is borrowed until close. To be called before the peer has
 * the descriptor. On failure, with a status of memory_register(), it stays what it was. */
fc_status fc_arena_memory_register(fc_arena_memory *memory, const fc_engine_ops *ops, fc_engine *engine,
                                   fc_reason *out_reason);

/* empties: gives its pages back to the system, whoever else has them mapped; who reads there then reads zeros. */
void fc_arena_memory_close(fc_arena_memory *memory, bool empties);

#endif
