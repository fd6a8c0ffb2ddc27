/* See nng_descriptor.h. */
#include "daemon/nng_descriptor.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

typedef int (*getsockopt_function)(int fd, int level, int name, void *value, socklen_t *size);
typedef int (*getpeername_function)(int fd, struct sockaddr *address, socklen_t *size);

static getsockopt_function next_getsockopt;
static getpeername_function next_getpeername;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local int *awaited;

/* dlsym() gives objects, and ISO C no way to make functions of them. */
static void find_next(void)
{
    void *found = dlsym(RTLD_NEXT, "getsockopt");
    memcpy(&next_getsockopt, &found, sizeof next_getsockopt);
    found = dlsym(RTLD_NEXT, "getpeername");
    memcpy(&next_getpeername, &found, sizeof next_getpeername);
}

void fc_nng_descriptor_await(int *out_fd)
{
    awaited = out_fd;
}

__attribute__((visibility("default"))) int getsockopt(int fd, int level, int name, void *restrict value,
                                                      socklen_t *restrict size)
{
    pthread_once(&once, find_next);
    if (awaited != NULL && level == SOL_SOCKET && name == SO_PEERCRED)
        *awaited = fd;
    return next_getsockopt(fd, level, name, value, size);
}

__attribute__((visibility("default"))) int getpeername(int fd, struct sockaddr *restrict address,
                                                       socklen_t *restrict size)
{
    pthread_once(&once, find_next);
    if (awaited != NULL)
        *awaited = fd;
    return next_getpeername(fd, address, size);
}
