/* A scripted server for the client's tests: a REP socket and one thread that hands every request to a script.
 *
 * The script runs on that thread. It may answer at once, never, or keep the request and answer from elsewhere later.
 */
#ifndef FC_TESTS_FAKE_SERVER_H
#define FC_TESTS_FAKE_SERVER_H

#include "proto/codec.h"

typedef struct fake_server fake_server;

#define FAKE_OPEN_MAX 24

/* A request and the way back to whoever sent it. Lives until it is answered or discarded. */
typedef struct fake_request {
    struct fake_context *way_back;
    struct nng_msg *message;
    fc_wire_request wire; /* points into message */
} fake_request;

/* Owns request: ends with exactly one fake_answer...() or fake_discard(), now or later. */
typedef void (*fake_script)(void *context, fake_request *request);

/* Listens on url; aborts the test when that fails. Takes in open_max requests at a time (start: FAKE_OPEN_MAX); while
 * that many are not answered, it reads no more. */
fake_server *fake_server_start(const char *url, fake_script script, void *context);
fake_server *fake_server_start_narrow(const char *url, int open_max, fake_script script, void *context);

/* Lets the script finish, then cuts every connection. Held requests can only be discarded then. NULL is
 * fine. */
void fake_server_stop(fake_server *server);

/* Requests of that op received since the start. */
unsigned fake_server_count(fake_server *server, fc_op op);

void fake_answer_bytes(fake_request *request, const void *bytes, size_t size_bytes);
void fake_answer(fake_request *request, const fc_wire_reply *reply);
void fake_answer_status(fake_request *request, fc_status status, uint64_t retry_after_us);
/* Never answers; its place is not given to another. */
void fake_discard(fake_request *request);

/* A right answer to any op; attend's out is q's bytes, its lse 0, 1, 2, ... */
void fake_answer_well(fake_request *request);

/* The same, for the caller to spoil: lse is memory for at least the request's rows. */
fc_wire_reply fake_attend_reply(const fake_request *request, float *lse);
uint64_t fake_row_count(const fake_request *request);

#endif
