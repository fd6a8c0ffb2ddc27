/* The client and its calls, as the library's own files see them.
 *
 * Life of a call: submit or a blocking function makes it, begin() gives it a slot (an exchange of its own) and places
 * it on a URL; from then on exactly one party at a time holds its *continuation*, the right to move it on: the
 * notification of its exchange that is still to come, or the library thread that handles one. That thread may touch the
 * call's result and message without a lock. finish() ends the call: slot back, callback, waiters woken.
 *
 * Locks: client->lock guards what is marked so; call->lock guards the outcome's publication. Neither is held while a
 * callback of the user runs, nor both at once. Under client->lock exchanges may be started and aborted (they never
 * notify synchronously).
 */
#ifndef FC_CLIENT_CLIENT_H
#define FC_CLIENT_CLIENT_H

#include "client/link.h"
#include "client/route.h"
#include "client/translate.h"

#include <pthread.h>
#include <stdbool.h>

/* An exchange and the call that uses it. Made when needed, kept till the client goes. */
typedef struct fc_slot {
    fc_exchange *exchange;
    flashcore_call *call;
    struct fc_slot *next_free;
    struct fc_slot *next_made;
} fc_slot;

typedef enum fc_call_state {
    FC_CALL_PLACING, /* the holder of the continuation is about to choose a URL */
    FC_CALL_WAITING, /* asleep until a URL it may use is connected */
    FC_CALL_FLYING,  /* handed to a URL; its exchange knows whether it was sent */
    FC_CALL_BACKOFF, /* asleep because the server was busy */
    FC_CALL_ENDED,
    FC_CALL_STATE_COUNT
} fc_call_state;

#define FC_CALL_ANY_URL UINT32_MAX

struct flashcore_call {
    /* Fixed before begin(). */
    flashcore_client *client; /* not valid once the call has ended */
    fc_wire_request wire;
    const uint32_t *kv_len;
    fc_sink sink;
    flashcore_callback callback;
    void *callback_context;
    uint64_t submitted_ns, deadline_ns; /* UINT64_MAX: none */
    uint64_t useless_ns;                /* a refused request is not sent again past that */
    uint32_t pinned_url;                /* or FC_CALL_ANY_URL */
    uint32_t pinned_connection;         /* 0: any connection of that URL */
    bool counts_as_inflight;            /* against inflight_max */
    bool is_attended;                   /* the thread that begins it waits for it: fc_flight_attend() */

    /* The continuation's. */
    fc_message *message; /* encoded request; NULL while its exchange has it */
    flashcore_result result;
    bool is_turned_away;      /* by the client itself, in a busy server's name: it ends */
    fc_status refusal;        /* FC_BUSY or FC_DRAINING: the last answer; FC_OK: none yet */
    bool is_unanswered;       /* it was sent, and no answer will come: it may run yet */
    bool is_placed;           /* its tensors lie in an arena of the connection it is pinned to: see arena.h */
    bool is_on_device;        /* and some of them in the device's memory, where nobody here can read them */
    struct fc_region *region; /* if they are staged there */

    /* client->lock. */
    fc_call_state state;
    fc_slot *slot;
    uint32_t url_index, connection_id; /* FLYING: where */
    uint64_t excluded_mask;            /* URLs that answered draining, on the connection they have */
    uint64_t connect_deadline_ns;      /* WAITING: gives up then */
    bool is_cancelled, has_sent_cancel;
    flashcore_call *previous, *next; /* client->calls */

    /* lock. */
    pthread_mutex_t lock;
    pthread_cond_t has_ended_cond;
    bool has_result; /* result is final: its callback may be running */
    bool has_ended;  /* and the callback has returned */
    uint32_t reference_count;
};

typedef struct fc_client_url {
    flashcore_client *client;
    char *text;
    fc_link *link, *side;          /* side: its link of packets, if the server has the local channel */
    char side_path[FC_PATH_BYTES]; /* net's thread: where the server says it is; "": nowhere */
    fc_made_arena made;            /* net's thread, while is_staging_asked */

    /* client->lock. */
    uint32_t connection_id, side_connection_id; /* 0: none */
    bool has_no_side;                           /* for sure: the server said so, or the URL has none */
    struct fc_staging *staging;                 /* NULL: none yet */
    bool is_staging_asked, is_staging_refused;
} fc_client_url;

struct flashcore_client {
    uint32_t url_count, inflight_max;
    uint64_t connect_timeout_us, timeout_us; /* timeout_us 0: none */
    flashcore_path path;
    fc_client_url *urls;
    struct fc_tls *tls; /* NULL: no URL wants it */
    fc_net *net;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a slot came free, or the last call finished */
    fc_route_url *routes;   /* [url_count] */
    uint32_t route_cursor;
    fc_slot *free_slots, *made_slots;
    uint32_t inflight_count;   /* calls that count against inflight_max */
    uint32_t unfinished_count; /* all calls begun and not finished, callbacks included; and those attended */
    flashcore_call *calls;
    flashcore_arena *arenas; /* the user's */
    uint64_t next_id, jitter_state;
    bool is_closing;
};

/* now + delta, and UINT64_MAX (never) instead of an overflow. */
static inline uint64_t fc_client_later_ns(uint64_t now_ns, uint64_t delta_us)
{
    return delta_us < (UINT64_MAX - now_ns) / 1000 ? now_ns + delta_us * 1000 : UINT64_MAX;
}

/* --- call.c: the object, apart from how it gets its answer -------------------------------------------------------- */

/* A call of one reference in state PLACING; the caller fills what is fixed before begin(). */
fc_status fc_call_create(flashcore_client *client, fc_op op, flashcore_call **out_call);

/* The same, for one connection of one URL and no other. */
fc_status fc_call_create_pinned(flashcore_client *client, fc_op op, uint32_t url_index, uint32_t connection_id,
                                flashcore_call **out_call);

/* When it begins, before it is encoded: its time, or its request's own deadline, whichever ends first. */
void fc_call_set_useless(flashcore_call *call);

/* Before it is encoded: an attend's deadline is never later than the call's own end, so that a server does not compute
 * what nobody waits for any more. */
void fc_call_tell_timeout(flashcore_call *call, uint64_t now_ns);

/* Under client->lock, all five. Masks of URLs: those it may not use, and those that a new attend need not ask, since by
 * their last word its turn there comes after its end. A call that was refused and waited for its turn has it. */
uint64_t fc_call_excluded_urls(const flashcore_call *call);
bool fc_call_may_use_some_url(const flashcore_call *call);
uint64_t fc_call_busy_urls(const flashcore_call *call, uint64_t now_ns);

/* The URL's connection came or went: who said `draining` there is no more. True: the call waits, and may use the URL.
 */
bool fc_call_may_return_to(flashcore_call *call, uint32_t url_index);

/* Marks a call to end as `busy`: all that it may use are in busy_mask. The result says when the first has a turn. */
void fc_call_turn_away(flashcore_call *call, uint64_t busy_mask, uint64_t now_ns);

void fc_call_acquire(flashcore_call *call);
void fc_call_release(flashcore_call *call);

/* Publishes the result: runs the callback, then wakes waiters. Once, by the continuation's holder, no lock held. */
void fc_call_end(flashcore_call *call);

/* True on a thread that is inside a callback of the user. */
bool fc_call_is_in_callback(void);

/* --- flight.c: from begin to finish ------------------------------------------------------------------------------- */

/* Starts a call. FC_OK: the library holds a reference of its own and will finish it. Else the call never started. May
 * block for a slot when can_block. Sets the call's id. */
fc_status fc_flight_begin(flashcore_call *call, bool can_block, fc_reason *out_reason);

/* For a call that is_attended, right after it began: does the net's work here while the call is under way, where
 * nothing else is. It may have ended or not when this returns. */
void fc_flight_attend(flashcore_call *call);

/* Under client->lock: starts a call of the library's own and lets go of it. False: it did not start. */
bool fc_flight_launch(flashcore_call *call);

/* See flashcore_cancel(). */
fc_status fc_flight_cancel(flashcore_call *call);

/* Takes every call under way back; returns when all have finished. client->is_closing is set for good. */
void fc_flight_end_all(flashcore_client *client);

/* fc_link_notify of every link; owner is the client. The links of packets follow the others, in the same order. */
void fc_flight_on_link(void *owner, uint32_t url_index, uint32_t connection_id, bool is_up);

/* --- side.c: the local channel beside a URL ----------------------------------------------------------------------- */

/* Under client->lock: asks a server that has just been connected to for its local channel, and connects there. Without
 * one everything goes the other way. */
void fc_side_find(flashcore_client *client, uint32_t url_index);

/* A URL's link of packets came up or went down. */
void fc_side_on_link(flashcore_client *client, uint32_t url_index, uint32_t connection_id, bool is_up);

/* Waits until a URL's link of packets is up: FC_OK, and which connection it is. FC_UNSUPPORTED: there is none;
 * FC_UNREACHABLE: not within the client's connect_timeout; FC_CANCELLED. */
fc_status fc_side_await(flashcore_client *client, uint32_t url_index, uint32_t *out_connection_id,
                        fc_reason *out_reason);

/* Under client->lock: asks for an arena there; callback runs on the net's thread, made filled when the result is ok.
 * False: it does not run. */
bool fc_side_ask_arena(flashcore_client *client, uint32_t url_index, size_t size_bytes, fc_made_arena *made,
                       flashcore_callback callback, void *context);

/* Under client->lock: gives it back, without waiting, if its connection is still there. */
void fc_side_give_back(const flashcore_arena *arena);

#endif
