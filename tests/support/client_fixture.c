/* The client tests' fixture: see client_fixture.h. */
#include "tests/support/client_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GUARD (-12345.0f)

void script_well(void *context, fake_request *request)
{
    (void)context;
    fake_answer_well(request);
}

void script_hold(void *context, fake_request *request)
{
    fixture_server *server = context;
    if (request->wire.op != FC_OP_ATTEND) {
        fake_answer_well(request);
        return;
    }
    ck_assert_uint_lt(server->held_count, FAKE_OPEN_MAX);
    server->held[server->held_count++] = request;
    sem_post(&server->has_received);
}

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0)
        continue;
}

void fixture_await_cancel(fixture *f, uint32_t url_index)
{
    wait_for(&f->servers[url_index].has_cancel);
}

void fixture_await_held(fixture *f, uint32_t url_index)
{
    wait_for(&f->servers[url_index].has_received);
}

fake_request *fixture_take_held(fixture *f, uint32_t url_index, unsigned position)
{
    fixture_server *server = &f->servers[url_index];
    ck_assert_uint_lt(position, server->held_count);
    fake_request *request = server->held[position];
    server->held[position] = NULL;
    return request;
}

void fixture_clear_answer(fixture *f)
{
    for (int i = 0; i <= FIXTURE_ELEMENTS; i++)
        f->out[i] = GUARD;
    for (int i = 0; i <= FIXTURE_ROWS; i++)
        f->lse[i] = GUARD;
}

void fixture_check_answer(const fixture *f)
{
    ck_assert_mem_eq(f->out, f->q, sizeof f->q);
    ck_assert_float_eq(f->out[FIXTURE_ELEMENTS], GUARD);
    for (int i = 0; i < FIXTURE_ROWS; i++)
        ck_assert_float_eq(f->lse[i], (float)i);
    ck_assert_float_eq(f->lse[FIXTURE_ROWS], GUARD);
}

void fixture_check_untouched(const fixture *f)
{
    for (int i = 0; i <= FIXTURE_ELEMENTS; i++)
        ck_assert_float_eq(f->out[i], GUARD);
    for (int i = 0; i <= FIXTURE_ROWS; i++)
        ck_assert_float_eq(f->lse[i], GUARD);
}

void fixture_prepare(fixture *f, uint32_t url_count)
{
    memset(f, 0, sizeof *f);
    snprintf(f->directory, sizeof f->directory, "/tmp/fc-client-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(f->directory));
    f->url_count = url_count;
    for (uint32_t i = 0; i < url_count; i++) {
        fixture_server *server = &f->servers[i];
        server->owner = f;
        server->open_max = FAKE_OPEN_MAX;
        snprintf(server->url, sizeof server->url, "ipc://%s/%u.sock", f->directory, i);
        f->urls[i] = server->url;
        sem_init(&server->has_received, 0, 0);
        sem_init(&server->has_cancel, 0, 0);
    }
    flashcore_options_init(&f->options);
    f->options.urls = f->urls;
    f->options.url_count = url_count;
    for (int i = 0; i < FIXTURE_ELEMENTS; i++)
        f->q[i] = (float)i * 0.25f;
    fixture_clear_answer(f);
    flashcore_tensor tensor = {FLASHCORE_F32, {FIXTURE_B, FIXTURE_H, FIXTURE_S, FIXTURE_D}, f->q};
    flashcore_request_init(&f->request);
    f->request.q = f->request.k = f->request.v = tensor;
    f->request.out = f->out;
    f->request.lse = f->lse;
}

static void note_cancels(void *context, fake_request *request)
{
    fixture_server *server = context;
    if (request->wire.op == FC_OP_CANCEL) {
        server->cancel_target = request->wire.cancel_target;
        fake_answer_well(request);
        sem_post(&server->has_cancel);
    } else {
        fake_script script = server->script;
        script(server, request);
    }
}

void fixture_start_server(fixture *f, uint32_t url_index, fake_script script)
{
    fixture_server *server = &f->servers[url_index];
    server->script = script;
    server->server = fake_server_start_narrow(server->url, server->open_max, note_cancels, server);
}

void fixture_stop_server(fixture *f, uint32_t url_index)
{
    fixture_server *server = &f->servers[url_index];
    fake_server_stop(server->server);
    server->server = NULL;
    for (unsigned i = 0; i < server->held_count; i++)
        if (server->held[i] != NULL)
            fake_discard(server->held[i]);
    server->held_count = 0;
}

void fixture_connect(fixture *f)
{
    ck_assert_msg(flashcore_client_create(&f->options, &f->client) == FLASHCORE_OK, "%s", flashcore_last_error());
}

void fixture_open(fixture *f, uint32_t url_count, fake_script script)
{
    fixture_prepare(f, url_count);
    for (uint32_t i = 0; i < url_count; i++)
        fixture_start_server(f, i, script);
    fixture_connect(f);
    for (uint32_t i = 0; i < url_count; i++) /* a ping waits for the connection */
        ck_assert_int_eq(flashcore_ping(f->client, i, NULL), FLASHCORE_OK);
}

void fixture_close(fixture *f)
{
    flashcore_client_destroy(f->client);
    for (uint32_t i = 0; i < f->url_count; i++) {
        fixture_stop_server(f, i);
        unlink(f->servers[i].url + strlen("ipc://"));
        sem_destroy(&f->servers[i].has_received);
        sem_destroy(&f->servers[i].has_cancel);
    }
    rmdir(f->directory);
}
