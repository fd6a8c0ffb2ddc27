/* See scrape.h. */
#include "tests/e2e/scrape.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void fc_scrape_address(const fc_e2e_daemon *daemon, char out_address[FC_E2E_PATH_BYTES])
{
    snprintf(out_address, FC_E2E_PATH_BYTES, "unix:%.90s/metrics", daemon->dir);
}

static int dial_internet(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *colon = strrchr(address, ':');
    ck_assert_ptr_nonnull(colon);
    to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

int fc_scrape_dial(const char *address)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strncmp(address, "unix:", 5) != 0)
        return dial_internet(address);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", address + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

char *fc_scrape_read_all(int fd)
{
    size_t used = 0, capacity = 4096;
    char *text = malloc(capacity);
    for (;;) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        ck_assert_ptr_nonnull(text);
        ck_assert_msg(poll(&readable, 1, fc_e2e_limit_ms(FC_E2E_STEP_MS)) == 1, "no answer, so far: %.*s", (int)used,
                      text);
        ssize_t bytes = read(fd, text + used, capacity - used - 1);
        if (bytes <= 0)
            break;
        used += (size_t)bytes;
        if (capacity - used < 2)
            text = realloc(text, capacity *= 2);
    }
    text[used] = '\0';
    close(fd);
    return text;
}

char *fc_scrape_get(const char *address, const char *path, int *out_status)
{
    char request[256];
    int fd = fc_scrape_dial(address);
    ck_assert_msg(fd >= 0, "%s: %s", address, strerror(errno));
    int bytes = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    ck_assert_int_eq(send(fd, request, (size_t)bytes, MSG_NOSIGNAL), bytes);
    char *answer = fc_scrape_read_all(fd);
    ck_assert_msg(sscanf(answer, "HTTP/1.1 %d ", out_status) == 1, "%s", answer);
    return answer;
}

double fc_scrape_value(const char *answer, const char *sample)
{
    char line[256];
    snprintf(line, sizeof line, "\n%s ", sample);
    const char *found = strstr(answer, line);
    return found != NULL ? strtod(found + strlen(line), NULL) : -1;
}

void fc_scrape_await(const char *address, const char *sample, double at_least)
{
    uint64_t end_us = fc_e2e_end_us(FC_E2E_STEP_MS);
    for (double value = -1; value < at_least;) {
        int status = 0;
        char *answer = fc_scrape_get(address, "/metrics", &status);
        ck_assert_int_eq(status, 200);
        value = fc_scrape_value(answer, sample);
        free(answer);
        ck_assert_msg(value >= at_least || fc_e2e_now_us() < end_us, "%s stays at %g, wanted %g", sample, value,
                      at_least);
    }
}
