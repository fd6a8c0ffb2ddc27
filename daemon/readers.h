/* Those who are to read replies, and to send whole messages: what each connection was given and has not taken, what it
 * has half sent, and whom to cut when either is too much for the server to keep.
 *
 * A reply waits from when it is given until the socket library takes it, which it does one at a time: the next when all
 * of the last is with the kernel. So the last one taken of each connection is held as well, until it is known to have
 * left. A reader is still while none of its replies is taken; a half-sent message is as old as its beginning, however
 * its bytes come. Of those who may be cut the first is whoever holds most for longest, of the owner who does so in sum:
 * a user with many connections does not drive out one with few.
 *
 * Pure but for the memory it takes: no locks, no clock; the owner locks and passes the time.
 */
#ifndef FC_DAEMON_READERS_H
#define FC_DAEMON_READERS_H

#include "daemon/id_table.h"

#include <stdbool.h>

/* All connections of one user, or of one host. */
typedef struct fc_readers_owner {
    uint64_t key, reader_count;
    double weight; /* of those who may be cut; while one is chosen */
} fc_readers_owner;

typedef struct fc_reader {
    uint64_t id;
    int fd; /* its descriptor, for whoever owns the readers; -1: not known */
    fc_readers_owner *owner;
    uint64_t given_count; /* replies, ever */
    uint64_t waiting_count, waiting_bytes;
    uint64_t taken_bytes; /* of the last that was taken, until known to have left */
    uint64_t still_ns;    /* since when it is still */
    uint64_t half_bytes;  /* what a half-sent message holds, when last seen; */
    uint64_t half_ns;     /* since when */
    bool is_cut;          /* counts no more */
} fc_reader;

typedef struct fc_readers {
    fc_id_table table;     /* connection -> its fc_reader */
    fc_id_table owners;    /* their fc_readers_owner */
    uint64_t count, bytes; /* replies that wait; bytes that are held */
    uint64_t half_bytes;   /* of all */
} fc_readers;

/* What may be kept; past either some are cut. Half-sent messages have no count, nor many. */
typedef struct fc_readers_limits {
    uint64_t count, bytes;
    uint64_t patience_ns; /* whoever has been still, or sending one message, for less is not cut, */
    uint64_t many;        /* unless so many replies wait for it */
} fc_readers_limits;

void fc_readers_init(fc_readers *readers);
void fc_readers_fini(fc_readers *readers);

/* A connection begins; neither number is 0. FC_NO_MEMORY. */
fc_status fc_readers_add(fc_readers *readers, uint64_t id, uint64_t owner_key, int fd);

/* Valid until it ends; NULL: there is none. */
const fc_reader *fc_readers_find(const fc_readers *readers, uint64_t id);

/* It ends. False: it never began. */
bool fc_readers_remove(fc_readers *readers, uint64_t id);

/* A reply begins to wait; is taken, or never will be. Of connections that are not there, nothing. */
void fc_readers_give(fc_readers *readers, uint64_t id, uint64_t bytes, uint64_t now_ns);
void fc_readers_take(fc_readers *readers, uint64_t id, uint64_t bytes, uint64_t now_ns);

/* So many of its replies are with the kernel: are those all? Also where there is no such connection. */
bool fc_readers_have_left(fc_readers *readers, uint64_t id, uint64_t left_count);

bool fc_readers_are_over(const fc_readers *readers, const fc_readers_limits *limits);

/* While they are over: a connection to close, which counts no more. NULL: none. */
const fc_reader *fc_readers_cut(fc_readers *readers, const fc_readers_limits *limits, uint64_t now_ns);

/* What a half-sent message of it holds now; 0: it has none. */
void fc_readers_see_half(fc_readers *readers, fc_reader *reader, uint64_t bytes, uint64_t since_ns);

/* As cut, while those hold too many bytes. */
const fc_reader *fc_readers_cut_half(fc_readers *readers, const fc_readers_limits *limits, uint64_t now_ns);

/* The i-th of i < readers->table.capacity; NULL: none there. */
static inline fc_reader *fc_readers_at(const fc_readers *readers, size_t i)
{
    return fc_id_table_find_object(&readers->table, readers->table.entries[i].id);
}

#endif
