/* What nng takes to carry a request's bytes with nobody doing anything to them: service_echo URL CLIENTS SHAPE
 * [SECONDS]
 *
 * A process with as many receive contexts as there are clients answers each message with one of the output's size,
 * which it does not write to; clients are threads of another process, each with a connection of its own and one request
 * under way, as bench_client's are. Their messages are allocated and not written to either.
 */
#include "tests/bench/floor.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { CLIENTS_MAX = 256 };

static void check(int code, const char *what)
{
    if (code != 0)
        floor_fail(what, nng_strerror(code));
}

/* --- the server, in a process of its own -------------------------------------------------------------------------- */

typedef struct responder {
    nng_ctx context;
    nng_aio *aio;
    size_t reply_bytes;
    bool is_sending;
} responder;

/* Receives, answers, receives: one message a responder at a time. */
static void take_turn(void *argument)
{
    responder *r = argument;
    nng_msg *reply;
    if (nng_aio_result(r->aio) != 0)
        return;
    if (r->is_sending) {
        r->is_sending = false;
        nng_ctx_recv(r->context, r->aio);
        return;
    }
    nng_msg_free(nng_aio_get_msg(r->aio));
    if (nng_msg_alloc(&reply, r->reply_bytes) != 0)
        return;
    r->is_sending = true;
    nng_aio_set_msg(r->aio, reply);
    nng_ctx_send(r->context, r->aio);
}

_Noreturn static void serve(const char *url, int clients, size_t reply_bytes, int ready_fd)
{
    static responder responders[CLIENTS_MAX];
    nng_socket socket;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    check(nng_rep0_open(&socket), "rep");
    check(nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, 0), "rep");
    check(nng_listen(socket, url, NULL, 0), url);
    for (int i = 0; i < clients; i++) {
        responder *r = &responders[i];
        r->reply_bytes = reply_bytes;
        check(nng_ctx_open(&r->context, socket), "context");
        check(nng_aio_alloc(&r->aio, take_turn, r), "aio");
        nng_ctx_recv(r->context, r->aio);
    }
    if (write(ready_fd, "", 1) != 1)
        exit(1);
    for (;;)
        pause();
}

/* --- the clients -------------------------------------------------------------------------------------------------- */

typedef struct client {
    pthread_t thread;
    nng_socket socket;
    const char *url;
    size_t request_bytes;
    pthread_barrier_t *start;
    double seconds;
    floor_times times;
} client;

static bool ask(void *argument)
{
    client *c = argument;
    nng_msg *message;
    if (nng_msg_alloc(&message, c->request_bytes) != 0 || nng_sendmsg(c->socket, message, 0) != 0 ||
        nng_recvmsg(c->socket, &message, 0) != 0)
        return false;
    nng_msg_free(message);
    return true;
}

static void *run_client(void *argument)
{
    client *c = argument;
    check(nng_req0_open(&c->socket), "req");
    check(nng_socket_set_size(c->socket, NNG_OPT_RECVMAXSZ, 0), "req");
    check(nng_socket_set_ms(c->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE), "req");
    check(nng_socket_set_ms(c->socket, NNG_OPT_RECVTIMEO, 20000), "req");
    check(nng_dial(c->socket, c->url, NULL, 0), c->url);
    pthread_barrier_wait(c->start);
    floor_times_take(&c->times, c->seconds, ask, c);
    return NULL;
}

static void print_all(client *clients, int count, size_t request_bytes, size_t reply_bytes)
{
    floor_times all;
    double rate = 0;
    floor_times_init(&all);
    for (int i = 0; i < count; i++) {
        rate += floor_times_per_second(&clients[i].times);
        floor_times_merge(&all, &clients[i].times);
    }
    printf("{\"clients\": %d, \"request_bytes\": %zu, \"reply_bytes\": %zu, \"per_second\": %.1f, ", count,
           request_bytes, reply_bytes, rate);
    floor_times_print("round_trip", &all);
    printf("}\n");
}

/* Starts the server and waits until it listens. */
static pid_t start_server(const char *url, int clients, size_t reply_bytes)
{
    int ready[2];
    char byte;
    if (pipe(ready) != 0)
        floor_fail("echo", "no pipe");
    pid_t pid = fork(); /* before nng has threads */
    if (pid < 0)
        floor_fail("echo", "no process");
    if (pid == 0) {
        close(ready[0]);
        serve(url, clients, reply_bytes, ready[1]);
    }
    close(ready[1]);
    struct pollfd waiting = {.fd = ready[0], .events = POLLIN};
    if (poll(&waiting, 1, 20000) != 1 || read(ready[0], &byte, 1) != 1)
        floor_fail(url, "the echo's server did not start");
    close(ready[0]);
    return pid;
}

int main(int argc, char **argv)
{
    static client clients[CLIENTS_MAX];
    pthread_barrier_t start;
    fc_problem problem;
    int count = argc >= 4 ? (int)strtol(argv[2], NULL, 10) : 0;
    double seconds = argc >= 5 ? strtod(argv[4], NULL) : 1;
    if (count < 1 || count > CLIENTS_MAX || !(seconds > 0) || !floor_problem(argv[3], &problem)) {
        fprintf(stderr, "usage: service_echo URL CLIENTS B,H,S,D [SECONDS], 1 to %d clients\n", CLIENTS_MAX);
        return 2;
    }
    size_t request_bytes = floor_q_bytes(&problem) + 2 * floor_kv_bytes(&problem);
    size_t reply_bytes = floor_q_bytes(&problem);
    pid_t server = start_server(argv[1], count, reply_bytes);
    pthread_barrier_init(&start, NULL, (unsigned)count);
    for (int i = 0; i < count; i++) {
        clients[i] = (client){.url = argv[1], .request_bytes = request_bytes, .start = &start, .seconds = seconds};
        floor_times_init(&clients[i].times);
        if (pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) != 0)
            floor_fail("echo", "no thread");
    }
    for (int i = 0; i < count; i++)
        pthread_join(clients[i].thread, NULL);
    print_all(clients, count, request_bytes, reply_bytes);
    kill(server, SIGKILL);
    return 0;
}
