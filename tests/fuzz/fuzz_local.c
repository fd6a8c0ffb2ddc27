/* libFuzzer's way in to the local channel: packets of any bytes and sizes, descriptors, connections that come and go,
 * on real sockets. Whatever came, a new connection is served afterwards and no descriptor is left. Built by `make fuzz`
 * alone. */
#include "daemon/clock.h"
#include "daemon/local.h"
#include "proto/codec.h"
#include "tests/fuzz/require.h"
#include "tests/fuzz/session.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { PEERS = 4, PATIENCE_S = 20, PACKET_MAX = FC_PACKET_BYTES + 64 };

static fake_engine engine;
static fc_service *service;
static char directory[] = "/tmp/fc-fuzz-XXXXXX";
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int descriptors_at_rest;
static uint64_t input_count; /* with the one that runs */

/* Sockets and shared memory; libFuzzer opens files and pipes of its own. */
static int count_descriptors(void)
{
    char name[300], target[64];
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    REQUIRE(folder != NULL);
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        snprintf(name, sizeof name, "/proc/self/fd/%s", entry->d_name);
        ssize_t bytes = readlink(name, target, sizeof target - 1);
        target[bytes > 0 ? bytes : 0] = '\0';
        count += strncmp(target, "socket:", 7) == 0 || strncmp(target, "/memfd:", 7) == 0;
    }
    closedir(folder);
    return count;
}

static void remove_files(void)
{
    char path[sizeof address.sun_path + 16];
    snprintf(path, sizeof path, "%s/s.local", directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/s.local.lock", directory);
    unlink(path);
    rmdir(directory);
}

static void serve_once(void)
{
    static fc_local *local;
    char path[sizeof directory + 8];
    const char *side_path = NULL;
    fc_reason reason = {""};
    if (local != NULL)
        return;
    service = fuzz_service_open(&engine);
    fc_local_config config = {.service = service, .socket_mode = 0600};
    REQUIRE(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/s", directory);
    REQUIRE(fc_local_open(&config, &local, &reason) == FC_OK);
    REQUIRE(fc_local_listen(local, path, &side_path, &reason) == FC_OK);
    REQUIRE(fc_local_start(local, &reason) == FC_OK);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", side_path);
    descriptors_at_rest = count_descriptors();
    atexit(remove_files);
}

/* What there is to know when something does not hold: what the system said of this socket, and what the daemon counted.
 */
static void tell(const char *what, int fd, ssize_t result, int error)
{
    const fc_stats *stats = fc_service_stats(service);
    struct pollfd look = {.fd = fd, .events = POLLIN | POLLOUT};
    int ready = poll(&look, 1, 0);
    fprintf(stderr,
            "input %llu: %s: %zd, errno %d (%s); poll: %d, events 0x%x; %llu opened, %llu closed, %llu refused, %llu "
            "cut, %llu open, %llu arenas; %d descriptors, %d at rest\n",
            (unsigned long long)input_count, what, result, error, strerror(error), ready, (unsigned)look.revents,
            (unsigned long long)fc_stats_get(stats, FC_COUNT_LOCAL_OPENED),
            (unsigned long long)fc_stats_get(stats, FC_COUNT_LOCAL_CLOSED),
            (unsigned long long)fc_stats_get(stats, FC_COUNT_PIPES_REFUSED),
            (unsigned long long)fc_stats_get(stats, FC_COUNT_PIPES_CUT),
            (unsigned long long)fc_stats_get(stats, FC_GAUGE_LOCAL),
            (unsigned long long)fc_stats_get(stats, FC_GAUGE_ARENAS), count_descriptors(), descriptors_at_rest);
}

/* libFuzzer looks at its clock by a timer whose signal ends every wait of this thread with EINTR, and nothing has been
 * lost by that: see it out. */
static bool is_interrupted(ssize_t result, uint64_t until_ns)
{
    return result < 0 && errno == EINTR && fc_clock_now_ns() < until_ns;
}

static int dial(void)
{
    uint64_t until_ns = fc_clock_now_ns() + PATIENCE_S * FC_NS_PER_S;
    struct timeval limit = {.tv_sec = PATIENCE_S};
    int result;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    do /* waits where many others wait to be accepted */
        result = connect(fd, (const struct sockaddr *)&address, sizeof address);
    while (is_interrupted(result, until_ns));
    if (result != 0)
        tell("connect", fd, result, errno);
    REQUIRE(result == 0);
    return fd;
}

static ssize_t receive(int fd, void *bytes, size_t size)
{
    uint64_t until_ns = fc_clock_now_ns() + PATIENCE_S * FC_NS_PER_S;
    ssize_t got;
    do
        got = recv(fd, bytes, size, 0);
    while (is_interrupted(got, until_ns));
    return got;
}

static void send_packet(int fd, const void *bytes, size_t size, bool has_descriptor)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (has_descriptor) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.header =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    (void)sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); /* a cut connection is as good */
}

static void read_some(int fd)
{
    static uint8_t packet[FC_PACKET_BYTES];
    fc_wire_reply reply;
    fc_reason reason;
    ssize_t got = recv(fd, packet, sizeof packet, MSG_DONTWAIT);
    if (got > 0)
        REQUIRE(fc_codec_decode_reply(packet, (size_t)got, &reply, &reason) == FC_OK);
}

static void require_served(void)
{
    uint8_t packet[FC_PACKET_BYTES];
    size_t size = 0;
    fc_wire_reply reply;
    fc_reason reason;
    fc_wire_request ping = {.id = 7, .op = FC_OP_PING};
    int fd = dial();
    REQUIRE(fc_codec_encode_request(&ping, NULL, packet, sizeof packet, &size) == FC_OK);
    ssize_t sent = send(fd, packet, size, MSG_NOSIGNAL);
    if (sent != (ssize_t)size)
        tell("send", fd, sent, errno);
    REQUIRE(sent == (ssize_t)size);
    ssize_t got = receive(fd, packet, sizeof packet);
    if (got <= 0)
        tell("recv", fd, got, got < 0 ? errno : 0);
    REQUIRE(got > 0 && fc_codec_decode_reply(packet, (size_t)got, &reply, &reason) == FC_OK);
    REQUIRE(reply.id == 7 && reply.status == FC_OK);
    close(fd);
}

/* Connections, arenas and descriptors are gone some time after their peers. */
static void await_rest(void)
{
    uint64_t until_ns = fc_clock_now_ns() + PATIENCE_S * FC_NS_PER_S;
    const fc_stats *stats = fc_service_stats(service);
    while (fc_stats_get(stats, FC_GAUGE_LOCAL) > 0 || fc_stats_get(stats, FC_GAUGE_ARENAS) > 0 ||
           count_descriptors() != descriptors_at_rest) {
        bool is_late = fc_clock_now_ns() >= until_ns;
        if (is_late)
            tell("rest", -1, 0, 0);
        REQUIRE(!is_late);
        sched_yield();
    }
}

/* Two bytes say who does what, for a packet also how long it is; its bytes are the input's next, repeated. */
static size_t step(const uint8_t *bytes, size_t size, int *fds)
{
    static uint8_t packet[PACKET_MAX];
    int *fd = &fds[bytes[0] % PEERS];
    size_t length = bytes[0] / 16 == 15 ? 250u * bytes[1] + bytes[1] * 7u : bytes[1];
    size_t taken = length < size - 2 ? length : size - 2;
    if (*fd < 0)
        *fd = dial();
    switch (bytes[0] / 4 % 4) {
    case 0:
        close(*fd);
        *fd = -1;
        return 2;
    case 1:
        read_some(*fd);
        return 2;
    default:
        for (size_t i = 0; i < length && taken > 0; i++)
            packet[i] = bytes[2 + i % taken];
        send_packet(*fd, packet, length < PACKET_MAX ? length : PACKET_MAX, bytes[0] / 4 % 4 == 3);
        return 2 + taken;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    int fds[PEERS] = {-1, -1, -1, -1};
    serve_once();
    input_count++;
    for (size_t used = 0; size - used >= 2;)
        used += step(bytes + used, size - used, fds);
    require_served();
    for (int i = 0; i < PEERS; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    await_rest();
    return 0;
}
