/* See readers.h. */
#include "daemon/readers.h"

#include "daemon/clock.h"

#include <stdlib.h>

void fc_readers_init(fc_readers *readers)
{
    *readers = (fc_readers){.count = 0};
    fc_id_table_init(&readers->table);
    fc_id_table_init(&readers->owners);
}

void fc_readers_fini(fc_readers *readers)
{
    for (size_t i = 0; i < readers->table.capacity; i++)
        free(fc_readers_at(readers, i));
    for (size_t i = 0; i < readers->owners.capacity; i++)
        free(fc_id_table_find_object(&readers->owners, readers->owners.entries[i].id));
    fc_id_table_fini(&readers->table);
    fc_id_table_fini(&readers->owners);
}

static void free_owner_if_done(fc_readers *readers, fc_readers_owner *owner)
{
    if (owner == NULL || owner->reader_count > 0)
        return;
    fc_id_table_remove(&readers->owners, owner->key);
    free(owner);
}

fc_status fc_readers_add(fc_readers *readers, uint64_t id, uint64_t owner_key, int fd)
{
    fc_readers_owner *owner = fc_id_table_put_object(&readers->owners, owner_key, sizeof *owner);
    if (owner == NULL)
        return FC_NO_MEMORY;
    owner->key = owner_key;
    fc_reader *reader = fc_id_table_put_object(&readers->table, id, sizeof *reader);
    if (reader == NULL) {
        free_owner_if_done(readers, owner);
        return FC_NO_MEMORY;
    }
    reader->id = id;
    reader->fd = fd;
    reader->owner = owner;
    owner->reader_count++;
    return FC_OK;
}

static void count_out(fc_readers *readers, fc_reader *reader)
{
    readers->count -= reader->waiting_count;
    readers->bytes -= reader->waiting_bytes + reader->taken_bytes;
    readers->half_bytes -= reader->half_bytes;
    reader->waiting_count = reader->waiting_bytes = reader->taken_bytes = reader->half_bytes = 0;
}

const fc_reader *fc_readers_find(const fc_readers *readers, uint64_t id)
{
    return fc_id_table_find_object(&readers->table, id);
}

bool fc_readers_remove(fc_readers *readers, uint64_t id)
{
    fc_reader *reader = fc_id_table_find_object(&readers->table, id);
    if (reader == NULL)
        return false;
    count_out(readers, reader);
    reader->owner->reader_count--;
    free_owner_if_done(readers, reader->owner);
    fc_id_table_remove(&readers->table, id);
    free(reader);
    return true;
}

void fc_readers_give(fc_readers *readers, uint64_t id, uint64_t bytes, uint64_t now_ns)
{
    fc_reader *reader = fc_id_table_find_object(&readers->table, id);
    if (reader == NULL)
        return;
    reader->given_count++;
    if (reader->is_cut)
        return;
    if (reader->waiting_count++ == 0)
        reader->still_ns = now_ns;
    reader->waiting_bytes += bytes;
    readers->count++;
    readers->bytes += bytes;
}

void fc_readers_take(fc_readers *readers, uint64_t id, uint64_t bytes, uint64_t now_ns)
{
    fc_reader *reader = fc_id_table_find_object(&readers->table, id);
    if (reader == NULL || reader->is_cut)
        return;
    reader->still_ns = now_ns;
    reader->waiting_count--;
    reader->waiting_bytes -= bytes;
    readers->count--;
    readers->bytes -= reader->taken_bytes;
    reader->taken_bytes = bytes;
}

bool fc_readers_have_left(fc_readers *readers, uint64_t id, uint64_t left_count)
{
    fc_reader *reader = fc_id_table_find_object(&readers->table, id);
    if (reader == NULL)
        return true;
    if (left_count < reader->given_count)
        return false;
    readers->bytes -= reader->taken_bytes;
    reader->taken_bytes = 0;
    return true;
}

bool fc_readers_are_over(const fc_readers *readers, const fc_readers_limits *limits)
{
    return readers->count > limits->count || readers->bytes > limits->bytes;
}

/* What it holds of what is short, and for how long: 0 for one that may stay. */
typedef double (*weighing)(const fc_readers *readers, const fc_reader *reader, const fc_readers_limits *limits,
                           uint64_t now_ns);

static double weigh_unread(const fc_readers *readers, const fc_reader *reader, const fc_readers_limits *limits,
                           uint64_t now_ns)
{
    uint64_t held_bytes = reader->waiting_bytes + reader->taken_bytes;
    uint64_t still_ns = fc_clock_elapsed_ns(reader->still_ns, now_ns);
    bool may_stay = still_ns < limits->patience_ns && reader->waiting_count < limits->many;
    if (held_bytes == 0 || may_stay)
        return 0;
    double held = readers->bytes > limits->bytes ? (double)held_bytes : (double)reader->waiting_count;
    return held * (double)(still_ns + FC_NS_PER_MS);
}

static double weigh_half(const fc_readers *readers, const fc_reader *reader, const fc_readers_limits *limits,
                         uint64_t now_ns)
{
    uint64_t age_ns = fc_clock_elapsed_ns(reader->half_ns, now_ns);
    (void)readers;
    return age_ns < limits->patience_ns ? 0 : (double)reader->half_bytes * (double)(age_ns + FC_NS_PER_MS);
}

static double weigh_owners(fc_readers *readers, weighing weigh, const fc_readers_limits *limits, uint64_t now_ns)
{
    double worst = 0;
    for (size_t i = 0; i < readers->owners.capacity; i++) {
        fc_readers_owner *owner = fc_id_table_find_object(&readers->owners, readers->owners.entries[i].id);
        if (owner != NULL)
            owner->weight = 0;
    }
    for (size_t i = 0; i < readers->table.capacity; i++) {
        fc_reader *reader = fc_readers_at(readers, i);
        if (reader == NULL)
            continue;
        reader->owner->weight += weigh(readers, reader, limits, now_ns);
        worst = reader->owner->weight > worst ? reader->owner->weight : worst;
    }
    return worst;
}

static const fc_reader *cut_worst(fc_readers *readers, weighing weigh, const fc_readers_limits *limits, uint64_t now_ns)
{
    double worst = 0;
    fc_reader *found = NULL;
    double worst_owner = weigh_owners(readers, weigh, limits, now_ns);
    for (size_t i = 0; i < readers->table.capacity; i++) {
        fc_reader *reader = fc_readers_at(readers, i);
        double weight =
            reader != NULL && reader->owner->weight >= worst_owner ? weigh(readers, reader, limits, now_ns) : 0;
        if (weight > worst) {
            worst = weight;
            found = reader;
        }
    }
    if (found != NULL) {
        count_out(readers, found);
        found->is_cut = true;
    }
    return found;
}

const fc_reader *fc_readers_cut(fc_readers *readers, const fc_readers_limits *limits, uint64_t now_ns)
{
    return fc_readers_are_over(readers, limits) ? cut_worst(readers, weigh_unread, limits, now_ns) : NULL;
}

void fc_readers_see_half(fc_readers *readers, fc_reader *reader, uint64_t bytes, uint64_t since_ns)
{
    readers->half_bytes -= reader->half_bytes;
    reader->half_bytes = reader->is_cut ? 0 : bytes;
    reader->half_ns = since_ns;
    readers->half_bytes += reader->half_bytes;
}

const fc_reader *fc_readers_cut_half(fc_readers *readers, const fc_readers_limits *limits, uint64_t now_ns)
{
    return readers->half_bytes > limits->bytes ? cut_worst(readers, weigh_half, limits, now_ns) : NULL;
}
