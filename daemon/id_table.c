/* See id_table.h. At most half full, so that runs stay short. */
#include "daemon/id_table.h"

#include <stdlib.h>

#define FIRST_CAPACITY 64

void fc_id_table_init(fc_id_table *table)
{
    *table = (fc_id_table){.entries = NULL};
}

void fc_id_table_fini(fc_id_table *table)
{
    free(table->entries);
    fc_id_table_init(table);
}

/* Fibonacci hashing: connection ids are consecutive, their product with the golden ratio is spread. */
static size_t home_of(const fc_id_table *table, uint64_t id)
{
    return (size_t)((id * 0x9e3779b97f4a7c15ull) >> 32) & (table->capacity - 1);
}

/* Where id is, or the free entry where it would go. capacity > count. */
static fc_id_entry *locate(const fc_id_table *table, uint64_t id)
{
    size_t i = home_of(table, id);
    while (table->entries[i].id != 0 && table->entries[i].id != id)
        i = (i + 1) & (table->capacity - 1);
    return &table->entries[i];
}

uint64_t *fc_id_table_find(const fc_id_table *table, uint64_t id)
{
    if (table->capacity == 0)
        return NULL;
    fc_id_entry *entry = locate(table, id);
    return entry->id == id ? &entry->value : NULL;
}

static bool grow(fc_id_table *table)
{
    fc_id_table larger = {.capacity = table->capacity == 0 ? FIRST_CAPACITY : 2 * table->capacity,
                          .count = table->count};
    larger.entries = calloc(larger.capacity, sizeof *larger.entries);
    if (larger.entries == NULL)
        return false;
    for (size_t i = 0; i < table->capacity; i++) {
        if (table->entries[i].id != 0)
            *locate(&larger, table->entries[i].id) = table->entries[i];
    }
    free(table->entries);
    *table = larger;
    return true;
}

uint64_t *fc_id_table_put(fc_id_table *table, uint64_t id)
{
    uint64_t *value = fc_id_table_find(table, id);
    if (value != NULL)
        return value;
    if (2 * (table->count + 1) > table->capacity && !grow(table))
        return NULL;
    fc_id_entry *entry = locate(table, id);
    *entry = (fc_id_entry){.id = id};
    table->count++;
    return &entry->value;
}

void fc_id_table_remove(fc_id_table *table, uint64_t id)
{
    if (fc_id_table_find(table, id) == NULL)
        return;
    size_t mask = table->capacity - 1;
    size_t hole = (size_t)(locate(table, id) - table->entries);
    /* An entry may fill the hole unless its home lies behind the hole, between hole and itself. */
    for (size_t i = (hole + 1) & mask; table->entries[i].id != 0; i = (i + 1) & mask) {
        size_t home = home_of(table, table->entries[i].id);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            table->entries[hole] = table->entries[i];
            hole = i;
        }
    }
    table->entries[hole] = (fc_id_entry){.id = 0};
    table->count--;
}

void *fc_id_table_find_object(const fc_id_table *table, uint64_t id)
{
    const uint64_t *address = id != 0 ? fc_id_table_find(table, id) : NULL;
    return address != NULL ? (void *)(uintptr_t)*address : NULL;
}

void *fc_id_table_put_object(fc_id_table *table, uint64_t id, size_t size_bytes)
{
    void *object = fc_id_table_find_object(table, id);
    if (object != NULL)
        return object;
    object = calloc(1, size_bytes);
    uint64_t *address = object != NULL ? fc_id_table_put(table, id) : NULL;
    if (address == NULL) {
        free(object);
        return NULL;
    }
    *address = (uintptr_t)object;
    return object;
}
