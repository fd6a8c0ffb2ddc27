/* What a message costs over the local channel, beside what the sockets alone cost, in one run: local_hop SIDE_SOCKET
 * [SECONDS], of each of four figures.
 *
 * Prints one JSON object: the bare SEQPACKET ping-pong between two processes (a reply to every packet, nothing else
 * done), then the daemon's ping with one request under way and with sixteen; microseconds of round trips, requests a
 * second.
 */
#include "proto/codec.h"
#include "tests/bench/floor.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { IN_FLIGHT = 16, LOOPS = 10 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
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

static bool round_trip(void *fd)
{
    send_ping(*(int *)fd);
    receive(*(int *)fd);
    return true;
}

/* Whoever answers may sit on this core or on another, and stay there for a loop: so several loops, each over
 * connections of its own, the two in turn. */
static void measure_latencies(const char *path, double seconds)
{
    floor_times bare, ping;
    floor_times_init(&bare);
    floor_times_init(&ping);
    for (int i = 0; i < LOOPS; i++) {
        int bare_fd = open_bare(), ping_fd = open_daemon(path);
        floor_times_take(&bare, seconds / LOOPS, round_trip, &bare_fd);
        floor_times_take(&ping, seconds / LOOPS, round_trip, &ping_fd);
        close(bare_fd);
        close(ping_fd);
    }
    floor_times_print("bare", &bare);
    printf(", ");
    floor_times_print("ping", &ping);
    printf(", ");
    floor_times_fini(&bare);
    floor_times_fini(&ping);
}

static void measure_rate(const char *name, int fd, double seconds)
{
    double start_us = floor_now_us(), end_us = start_us;
    size_t count = 0;
    for (int i = 0; i < IN_FLIGHT; i++)
        send_ping(fd);
    while (end_us < start_us + seconds * 1e6) {
        for (int i = 0; i < IN_FLIGHT; i++) {
            receive(fd);
            send_ping(fd);
        }
        count += IN_FLIGHT;
        end_us = floor_now_us();
    }
    for (int i = 0; i < IN_FLIGHT; i++)
        receive(fd);
    printf("\"%s\": {\"in_flight\": %d, \"per_second\": %.0f}", name, IN_FLIGHT,
           (double)count / (end_us - start_us) * 1e6);
}

int main(int argc, char **argv)
{
    double seconds = argc == 3 ? strtod(argv[2], NULL) : 1;
    if (argc < 2 || argc > 3 || !(seconds > 0)) {
        fprintf(stderr, "usage: local_hop SIDE_SOCKET [SECONDS]\n");
        return 2;
    }
    printf("{");
    measure_latencies(argv[1], seconds);
    measure_rate("bare_pipelined", open_bare(), seconds);
    printf(", ");
    measure_rate("ping_pipelined", open_daemon(argv[1]), seconds);
    printf("}\n");
    return 0;
}
