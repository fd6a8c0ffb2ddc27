/* What a message costs over the local channel, beside what the sockets alone cost, in one run: local_hop SIDE_SOCKET.
 *
 * Prints one JSON object: the bare SEQPACKET ping-pong between two processes (a reply to every packet, nothing else
 * done), then the daemon's ping with one request under way and with sixteen; microseconds of round trips, requests a
 * second.
 */
#include "proto/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <signal.h>

enum { ROUNDS = 50000, IN_FLIGHT = 16, PIPELINED = 400000 };

static double round_trips_us[ROUNDS];

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The other end of the bare exchange: waits as a server of many does. */
static void echo(int fd)
{
    char packet[256];
    struct epoll_event event = {.events = EPOLLIN};
    int epoll_fd = epoll_create1(0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    while (epoll_wait(epoll_fd, &event, 1, -1) >= 0) {
        ssize_t got = recv(fd, packet, sizeof packet, 0);
        if (got <= 0 || send(fd, packet, (size_t)got, 0) != got)
            break;
    }
    _exit(0);
}

static int open_bare(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0)
        fail("socketpair");
    pid_t pid = fork();
    if (pid < 0)
        fail("fork");
    if (pid == 0) {
        close(ends[0]);
        echo(ends[1]);
    }
    close(ends[1]);
    return ends[0];
}

static int open_daemon(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        fail(path);
    return fd;
}

static void send_ping(int fd)
{
    static uint8_t bytes[64];
    static size_t size_bytes;
    fc_wire_request ping = {.id = 7, .op = FC_OP_PING};
    if (size_bytes == 0)
        fc_codec_encode_request(&ping, NULL, bytes, sizeof bytes, &size_bytes);
    if (send(fd, bytes, size_bytes, 0) < 0)
        fail("send");
}

static void receive(int fd)
{
    char packet[256];
    if (recv(fd, packet, sizeof packet, 0) <= 0)
        fail("recv");
}

static void measure_latency(const char *name, int fd)
{
    for (int i = 0; i < ROUNDS; i++) {
        double start_us = now_us();
        send_ping(fd);
        receive(fd);
        round_trips_us[i] = now_us() - start_us;
    }
    qsort(round_trips_us, ROUNDS, sizeof round_trips_us[0], by_size);
    printf("  \"%s\": {\"p50_us\": %.2f, \"p90_us\": %.2f, \"p99_us\": %.2f},\n", name, round_trips_us[ROUNDS / 2],
           round_trips_us[ROUNDS / 10 * 9], round_trips_us[ROUNDS / 100 * 99]);
}

static void measure_rate(const char *name, int fd, const char *separator)
{
    double start_us = now_us();
    for (int i = 0; i < IN_FLIGHT; i++)
        send_ping(fd);
    for (int i = 0; i < PIPELINED; i++) {
        receive(fd);
        send_ping(fd);
    }
    double elapsed_us = now_us() - start_us;
    for (int i = 0; i < IN_FLIGHT; i++)
        receive(fd);
    printf("  \"%s\": {\"in_flight\": %d, \"per_second\": %.0f}%s\n", name, IN_FLIGHT, PIPELINED / elapsed_us * 1e6,
           separator);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: local_hop SIDE_SOCKET\n");
        return 2;
    }
    int bare = open_bare(), served = open_daemon(argv[1]);
    printf("{\n");
    measure_latency("bare", bare);
    measure_latency("ping", served);
    measure_rate("bare_pipelined", bare, ",");
    measure_rate("ping_pipelined", served, "");
    printf("}\n");
    return 0;
}
