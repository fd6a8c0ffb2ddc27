/* What local.c and local_poll.c share: the channel, its connections and what each waits for.
 *
 * local.c has the slots, the replies and what becomes of a connection; local_poll.c who waits for events and hands them
 * out. Lanes at the lookout (dispatch.h) receive as the I/O thread does, so a connection's events come on any of them,
 * and each is served under the connection's hold, one at a time. Events name a connection by its id, since by the time
 * one is looked at another thread may have ended it.
 *
 * Edge-triggered: who leaves something unread, other than behind an unsent reply, has fc_connection_watch() tell of it.
 */
#ifndef FC_DAEMON_LOCAL_INSIDE_H
#define FC_DAEMON_LOCAL_INSIDE_H

#include "daemon/dispatch.h"
#include "daemon/id_table.h"
#include "daemon/local.h"
#include "daemon/local_slots.h"
#include "daemon/request.h"
#include "daemon/side_listener.h"

#include <pthread.h>

#define LISTENERS_MAX 16
#define RECEIVES_AT_A_TIME 64      /* of one connection, then the others get their turn */
#define FIRST_PEER_ID (1ull << 32) /* nng numbers its pipes with 31 bits */
/* How soon to look again when nothing can be accepted, no slot is free, or a reply is unread. */
#define RETRY_MS 50

/* What an event tells of, where it is no peer's id. */
enum { EVENT_WAKE, EVENT_CONNECTIONS, EVENT_LOOKOUT, EVENT_LISTENER };

typedef struct connection connection;

typedef fc_local_slot slot;

typedef enum hold_state {
    HOLD_FREE,
    HOLD_TAKEN,
    HOLD_MISSED /* taken, and another event came to a thread that left it to whoever has it */
} hold_state;

struct connection {
    fc_local *local;
    fc_side_listener *via;
    uint64_t id, owner;
    int fd;                  /* open until the connection is freed */
    connection *prev, *next; /* local->connections */
    atomic_uint references;  /* the list's, one a slot, and whoever handles an event */
    atomic_int hold;         /* of whoever receives, or sends what was unsent: hold_state */

    pthread_mutex_t lock; /* guards the rest; held for a send at most, which does not wait */
    slot *unsent_first, *unsent_last;
    atomic_uint_fast64_t unsent_since_ns; /* of the first unsent reply; 0: there is none; to be read without the lock */
    atomic_uint unsent_count;             /* likewise */
    atomic_bool is_gone, is_cut;          /* to be read without the lock */
};

struct fc_local {
    fc_local_config config;
    fc_stats *stats;
    int epoll_fd; /* the connections, and lookout_fd: the lane's at the lookout */
    int io_fd;    /* the I/O thread's: wake_fd, the listeners, and, while no lane is at the lookout, epoll_fd */
    int wake_fd, lookout_fd;
    fc_lookout lookout;
    pthread_t thread;
    bool is_started;
    atomic_bool is_refusing, is_ending;
    atomic_bool is_unwatched; /* epoll_fd, by the I/O thread, though no lane may be at the lookout */
    bool is_shut;             /* I/O thread: the listeners are */
    atomic_uint unsent_count;
    fc_side_listener listeners[LISTENERS_MAX];
    uint32_t listener_count;

    pthread_mutex_t connections_lock; /* guards the next two */
    connection *connections;
    fc_id_table table;

    uint64_t next_id;         /* I/O thread: this and the next three */
    uint64_t accept_again_ns; /* 0: accepting */
    uint64_t awake_until_ns;  /* the I/O thread does not sleep before */
    uint64_t looked_ns;       /* for replies that are not read */

    fc_local_slots slots;
};

/* RECEIVED_MORE: there may be more, of which no event tells by itself. RECEIVED_END: the connection has ended, of which
 * an empty packet cannot be told. An error is no end: that is told next. */
typedef enum fc_received { RECEIVED_ALL, RECEIVED_MORE, RECEIVED_END } fc_received;

/* Of a connection whose hold is the caller's: sends and receives what it may. */
fc_received fc_connection_serve(connection *c, uint32_t events);

/* Tells of what is there now, and comes. Takes no lock but in need: a lane that was put aside for the peer that it woke
 * may still hold it. */
void fc_connection_watch(connection *c);

/* A reference; with the last the connection is freed. */
void fc_connection_release(connection *c);

/* Once, under the hold or after the last lane has left. */
void fc_connection_end(connection *c, bool has_left);

/* A peer that sends from now on knows that nobody gets it; what it sent before is answered. */
void fc_connection_hear_out(connection *c);

/* I/O thread: these four. */
void fc_local_accept(fc_local *local, fc_side_listener *via, int most);
void fc_local_shut(fc_local *local); /* whoever comes finds nobody; who had connected before is let in */
bool fc_local_watch_listeners(fc_local *local, uint32_t events); /* false: not all, try again */
void fc_local_cut_who_does_not_read(fc_local *local); /* replies that nobody reads hold slots, and the end up */

/* local_poll.c: the I/O thread's life; what wakes it, from any thread; and what lanes need to look out. */
void *fc_local_run(void *local);
void fc_local_wake(fc_local *local);
void fc_local_make_lookout(fc_local *local);

#endif
