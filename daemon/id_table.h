/* A growing hash table from a non-zero 64-bit id to a 64-bit number, or to the address of an object: replies per
 * connection, connections.
 *
 * Open addressing, linear probing, no tombstones: removing shifts the run behind it back. Not thread-safe; the owner
 * locks. Caller's memory, init to fini.
 */
#ifndef FC_DAEMON_ID_TABLE_H
#define FC_DAEMON_ID_TABLE_H

#include "proto/status.h"

#include <stdint.h>

typedef struct fc_id_entry {
    uint64_t id; /* 0: free */
    uint64_t value;
} fc_id_entry;

typedef struct fc_id_table {
    fc_id_entry *entries;
    size_t capacity; /* a power of two, or 0 before the first put */
    size_t count;
} fc_id_table;

void fc_id_table_init(fc_id_table *table);
void fc_id_table_fini(fc_id_table *table);

/* The value of id, or NULL. Valid until the next put or remove. */
uint64_t *fc_id_table_find(const fc_id_table *table, uint64_t id);

/* As find, but adds the id with value 0 when it is not there. NULL: out of memory. */
uint64_t *fc_id_table_put(fc_id_table *table, uint64_t id);

/* Does nothing when id is not there. */
void fc_id_table_remove(fc_id_table *table, uint64_t id);

/* For tables whose values are addresses: the object under id, or NULL, as for id 0. */
void *fc_id_table_find_object(const fc_id_table *table, uint64_t id);

/* As find_object, but makes one of that size when there is none: calloc()ed, the caller's to free once it is removed.
 * NULL: out of memory. */
void *fc_id_table_put_object(fc_id_table *table, uint64_t id, size_t size_bytes);

#endif
