/* What is done to the daemon, one deed at a time. A deed is done by an abuser: a process of its own with one thread,
 * which remembers some connections between its deeds. It fails the test when the daemon does to it what it should not.
 */
#ifndef FC_TESTS_ABUSE_DEED_H
#define FC_TESTS_ABUSE_DEED_H

#include "tests/abuse/site.h"
#include "tests/e2e/foreign.h"
#include "tests/support/sp_peer.h"

#define FC_ABUSER_KEPT_MAX 160

typedef struct fc_abuser {
    const fc_site *site;
    fc_road road;
    size_t bytes;   /* of the reply a large request asks for */
    uint64_t state; /* of its random numbers */
    bool is_last;   /* the daemon is about to end: nothing is promised any more */
    fc_tls *tls;    /* what it trusts and shows */
    fc_bytes large; /* that request, once it was needed */
    sp_peer kept[FC_ABUSER_KEPT_MAX];
} fc_abuser;

void fc_abuser_open(fc_abuser *out_abuser, const fc_site *site, fc_road road, size_t bytes, uint32_t number);
void fc_abuser_let_go(fc_abuser *abuser); /* of the connections it keeps */
void fc_abuser_close(fc_abuser *abuser);

/* The i-th time. False: the daemon could not be reached, or hung up before it could be done. */
typedef bool (*fc_deed_do)(fc_abuser *abuser, uint32_t i);

typedef struct fc_deed {
    const char *name;
    fc_deed_do act;
    unsigned roads;  /* bits */
    size_t bytes;    /* of a reply */
    unsigned share;  /* one for so many of others: it takes longer */
    bool is_filling; /* up to the limits: others cannot connect meanwhile */
} fc_deed;

extern const fc_deed FC_DEEDS[];
extern const size_t FC_DEED_COUNT;

/* --- what deeds are made of (deed_tools.c) --- */

/* How far a connection is taken before the deed begins. */
typedef enum fc_reach { FC_REACH_SOCKET, FC_REACH_TLS, FC_REACH_GREETED } fc_reach;

/* False: refused, or hung up on before it got there; nothing is left open then. */
bool fc_abuser_reach(fc_abuser *abuser, fc_reach reach, sp_peer *out_peer);
bool fc_abuser_is_stream(const fc_abuser *abuser); /* speaks frames behind a greeting */
uint32_t fc_abuser_random(fc_abuser *abuser);

/* One small honest request; one with a large answer (of streams). */
void fc_abuser_ask(fc_abuser *abuser, sp_peer *peer, uint32_t number);
void fc_abuser_ask_large(fc_abuser *abuser, sp_peer *peer, size_t sent_bytes);
#define FC_ALL_OF_IT SIZE_MAX

/* Reads up to so many bytes, as they come; how many there were until the far side hung up. */
size_t fc_abuser_read(sp_peer *peer, size_t size_bytes);

/* Ends it: in the common way, by a reset (over tcp), or with the process that holds it, which is killed. */
typedef enum fc_parting { FC_PARTING_CLOSE, FC_PARTING_RESET } fc_parting;
void fc_abuser_part(sp_peer *peer, fc_parting how);

/* Forks, has the child do that and be killed by SIGKILL in the middle of it; true when it was. */
bool fc_abuser_die(fc_abuser *abuser, uint32_t i, bool (*do_until_death)(fc_abuser *abuser, uint32_t i));

/* Keeps a connection, in the place of the oldest of count, which is closed. */
void fc_abuser_keep(fc_abuser *abuser, uint32_t i, uint32_t count, const sp_peer *peer);

#endif
