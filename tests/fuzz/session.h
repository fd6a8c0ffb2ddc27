/* A service with a fake engine and a few connections, and everything that was asked of it: what the fuzzer of whole
 * sessions drives, and what it holds the service to.
 *
 * Held at every answer: it is the only one of its request, decodes, carries the request's id, and tells a reason that
 * can be printed exactly where it is no `ok`. Held at the end: every request was answered or dropped, a drop only where
 * the peer is gone or had no memory; nothing is queued, running or replying; arenas are gone with their peers; a byte
 * of an arena that no request named as output was never written.
 *
 * One thread drives; answers arise on any. What does not hold aborts.
 */
#ifndef FC_TESTS_FUZZ_SESSION_H
#define FC_TESTS_FUZZ_SESSION_H

#include "daemon/request.h"
#include "daemon/service.h"
#include "tests/support/fake_engine.h"

#include <pthread.h>

enum { SESSION_PEERS = 4, SESSION_SLOTS = 12, SESSION_ARENAS = 8 };

typedef struct session session;

/* An arena of a peer, as the peer sees it. */
typedef struct session_arena {
    uint64_t id;
    uint8_t *base; /* NULL: on the device */
    size_t size_bytes;
    uint8_t *may_change; /* [size_bytes] 0xff where a request may have written */
} session_arena;

typedef struct session_peer {
    uint64_t id; /* 0: not connected */
    bool is_local;
    session_arena arenas[SESSION_ARENAS];
    uint32_t arena_count;
    bool has_cancelled[256]; /* by id: may be told `cancelled` */
} session_peer;

/* One request and its answer. answer_count, is_dropped, is_peer_gone and size_bytes under the session's lock. */
typedef struct session_slot {
    fc_request request; /* first: a slot is found by its request */
    session *session;
    uint32_t peer; /* index */
    uint64_t peer_id;
    fc_op op;
    bool has_deadline;
    bool is_sent_as_encoded; /* no byte was flipped: op and id are known */
    uint64_t id;
    uint8_t *message, *reply;
    size_t capacity_bytes, size_bytes;
    bool lacks_memory; /* buffer() answers NULL */
    bool leaves_later; /* send() does not say sent; collecting does */
    bool never_leaves; /* and says that it did not */
    bool is_in_use;    /* sent and not collected */
    int fd;            /* that came with the answer; -1 */
    uint32_t answer_count;
    bool is_dropped, is_peer_gone;
} session_slot;

struct session {
    fake_engine engine;
    fc_service *service;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    session_peer peers[SESSION_PEERS];
    session_slot slots[SESSION_SLOTS];
    uint64_t next_peer;
    bool is_draining;
};

/* A service of small limits: 6 may wait, 3 share a launch, 5 a peer; 64 KiB of arenas a peer, twice that in all. */
fc_service *fuzz_service_open(fake_engine *engine);

void session_open(session *s);

/* Ends as a server does: lets the engine go on, drains, takes every answer, sends the peers away, and looks. */
void session_close(session *s);

/* A connection that is there; a new one where the last is gone. */
session_peer *session_connect(session *s, uint32_t peer);
void session_disconnect(session *s, uint32_t peer);

/* A slot to send from: a free one, else the first whose answer can be had. The engine may be let go for it. */
session_slot *session_slot_take(session *s, uint32_t peer);

/* Hands the bytes over, copied to a block of their size. */
void session_send(session_slot *slot, const uint8_t *bytes, size_t size_bytes);

void session_drain(session *s);

/* Takes the answers that are there. */
void session_collect(session *s);

#endif
