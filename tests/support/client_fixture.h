/* What the client's tests share: a client of one to four URLs in a directory of its own, a scripted server behind each,
 * and a small request whose right answer is known.
 */
#ifndef FC_TESTS_CLIENT_FIXTURE_H
#define FC_TESTS_CLIENT_FIXTURE_H

#include "client/flashcore.h"
#include "tests/support/fake_server.h"

#include <semaphore.h>
#include <stdatomic.h>

#define FIXTURE_URLS_MAX 4
enum { FIXTURE_B = 1, FIXTURE_H = 2, FIXTURE_S = 3, FIXTURE_D = 8 };
enum { FIXTURE_ROWS = FIXTURE_B * FIXTURE_H * FIXTURE_S, FIXTURE_ELEMENTS = FIXTURE_ROWS * FIXTURE_D };

typedef struct fixture fixture;

/* One URL's side of the fixture: the script's context. */
typedef struct fixture_server {
    fixture *owner;
    char url[128];
    fake_server *server;
    int open_max;       /* see fake_server_start() */
    sem_t has_received; /* posted once for each attend that script_hold keeps */
    fake_request *held[FAKE_OPEN_MAX];
    atomic_uint held_count;
    sem_t has_cancel; /* posted once for each cancel */
    _Atomic uint64_t cancel_target;
    _Atomic(fake_script) script; /* may be changed while the server runs */
    atomic_int variant;          /* for the script, as it likes */
    atomic_uint turns;           /* likewise */
} fixture_server;

struct fixture {
    char directory[64];
    uint32_t url_count;
    fixture_server servers[FIXTURE_URLS_MAX];
    flashcore_options options;
    const char *urls[FIXTURE_URLS_MAX];
    flashcore_client *client;
    flashcore_request request;
    float q[FIXTURE_ELEMENTS], out[FIXTURE_ELEMENTS + 1], lse[FIXTURE_ROWS + 1]; /* one guard element each */
};

/* prepare: directory, URLs, options and request, nothing running. open: the same, servers with that script, a client
 * connected to all of them. */
void fixture_prepare(fixture *f, uint32_t url_count);
void fixture_open(fixture *f, uint32_t url_count, fake_script script);
void fixture_connect(fixture *f);
void fixture_start_server(fixture *f, uint32_t url_index, fake_script script);
void fixture_stop_server(fixture *f, uint32_t url_index);
void fixture_close(fixture *f);

/* out and lse hold the right answer, and nothing was written past them. */
void fixture_check_answer(const fixture *f);
/* Nothing was written at all. */
void fixture_check_untouched(const fixture *f);
void fixture_clear_answer(fixture *f);

void script_well(void *context, fake_request *request);
/* Keeps every attend and posts has_received; answers the rest well. */
void script_hold(void *context, fake_request *request);
/* Waits until script_hold has kept one more, or one more cancel came (any script; it is answered well). */
void fixture_await_cancel(fixture *f, uint32_t url_index);
void fixture_await_held(fixture *f, uint32_t url_index);
fake_request *fixture_take_held(fixture *f, uint32_t url_index, unsigned position);

#endif
