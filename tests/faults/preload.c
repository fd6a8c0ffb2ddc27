/* libfaults.so: see faults.h. Nothing in here may call what it stands in front of, or allocate. */
#include "tests/faults/faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static fc_fault_page *page;

static void *find_next(const char *name)
{
    int error = errno;
    void *next = dlsym(RTLD_NEXT, name);
    errno = error;
    return next;
}

static fc_fault_origin origin_of(void *address, uint64_t *out_offset);

/* The innermost frame that is neither the C library's, which aborts for others, nor ours. */
static void on_death(int number)
{
    void *frames[32];
    uint64_t offset;
    unsigned died_in = FC_FAULT_BY_OTHER;
    for (int i = 0, count = backtrace(frames, 32); i < count && died_in >= FC_FAULT_BY_LIBC; i++)
        died_in = origin_of(frames[i], &offset);
    atomic_store(&page->died_in, died_in + 1);
    signal(number, SIG_DFL);
    raise(number);
}

static void watch_deaths(void)
{
    static const int NUMBERS[] = {SIGSEGV, SIGABRT, SIGFPE, SIGILL};
    void *frame;
    (void)backtrace(&frame, 1); /* loads what it needs */
    for (size_t i = 0; i < sizeof NUMBERS / sizeof NUMBERS[0]; i++)
        signal(NUMBERS[i], on_death);
}

/* By system calls alone: the functions for it are among those below. */
__attribute__((constructor)) static void map_page(void)
{
    const char *path = getenv("FC_FAULTS");
    long fd = path != NULL ? (*(long (*)(long, ...))find_next("syscall"))(SYS_openat, AT_FDCWD, path, O_RDWR, 0) : -1;
    if (fd < 0)
        return;
    void *(*map)(void *, size_t, int, int, int, off_t) =
        (void *(*)(void *, size_t, int, int, int, off_t))find_next("mmap");
    void *mapped = map(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
    close((int)fd);
    if (mapped == MAP_FAILED)
        return;
    watch_deaths();
    page = mapped;
}

/* Whose code lies there. */
static fc_fault_origin origin_of(void *address, uint64_t *out_offset)
{
    static const char *const BEGINNINGS[] = {
#define FC_ORIGIN(symbol, name, beginning) beginning,
#include "tests/faults/origins.def"
    };
    struct dl_find_object found;
    if (_dl_find_object(address, &found) != 0)
        return FC_FAULT_BY_OTHER;
    const char *path = found.dlfo_link_map->l_name;
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    *out_offset = (uint64_t)((uintptr_t)address - found.dlfo_link_map->l_addr);
    if (name[0] == '\0')
        return FC_FAULT_BY_DAEMON;
    for (int i = FC_FAULT_BY_DAEMON + 1; i < FC_FAULT_BY_OTHER; i++)
        if (strncmp(name, BEGINNINGS[i], strlen(BEGINNINGS[i])) == 0)
            return (fc_fault_origin)i;
    return FC_FAULT_BY_OTHER;
}

/* Counts the call and says whether it has to fail; errno is set then. */
static bool fails(fc_fault_row row, void *caller)
{
    if (page == NULL)
        return false;
    uint64_t offset = 0;
    fc_fault_origin origin = origin_of(caller, &offset);
    int error = fc_fault_take(page, row, origin, offset);
    if (error != 0)
        errno = error;
    return error != 0;
}

/* The library's own names for these functions would clash with their headers' prototypes. */
#define FC_FAULT(name, result, parameters, arguments, failed, ...)                                                     \
    __attribute__((visibility("default"))) result stand_in_##name parameters __asm__(#name);                           \
    result stand_in_##name parameters                                                                                  \
    {                                                                                                                  \
        static _Atomic(void *) next;                                                                                   \
        if (fails(FC_FAULT_ROW_##name, __builtin_return_address(0)))                                                   \
            return failed;                                                                                             \
        void *real = atomic_load_explicit(&next, memory_order_relaxed);                                                \
        if (real == NULL) {                                                                                            \
            real = find_next(#name);                                                                                   \
            atomic_store_explicit(&next, real, memory_order_relaxed);                                                  \
        }                                                                                                              \
        return (*(result(*) parameters)real)arguments;                                                                 \
    }
#include "tests/faults/faults.def"
