/* See bus_guard.h. */
#include "daemon/bus_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

/* begin 0: free. An entry's end is set before its begin, and its begin cleared first. */
typedef struct guarded {
    atomic_uintptr_t begin, end;
} guarded;

static guarded table[FC_BUS_GUARD_MAX];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER; /* of those who add and remove */
static atomic_uint used_count;                                 /* entries past it were never used */
static atomic_uint_fast64_t page_count;
static uintptr_t page_bytes;

/* In the handler: only what is safe in a signal. */
static bool is_guarded(uintptr_t address)
{
    unsigned count = atomic_load(&used_count);
    for (unsigned i = 0; i < count; i++) {
        uintptr_t begin = atomic_load(&table[i].begin);
        if (begin != 0 && address >= begin && address < atomic_load(&table[i].end))
            return true;
    }
    return false;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int error = errno;
    uintptr_t page = (uintptr_t)info->si_addr & ~(page_bytes - 1);
    (void)context;
    if (info->si_code > 0 && is_guarded(page) &&
        mmap((void *)page, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
            MAP_FAILED)
        atomic_fetch_add(&page_count, 1);
    else
        signal(number, SIG_DFL); /* what raised it is tried again, and ends the process */
    errno = error;
}

bool fc_bus_guard_start(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL) == 0;
}

void fc_bus_guard_add(const void *base, size_t size_bytes)
{
    pthread_mutex_lock(&table_lock);
    unsigned i = 0, count = atomic_load(&used_count);
    while (i < count && atomic_load(&table[i].begin) != 0)
        i++;
    if (i < FC_BUS_GUARD_MAX) {
        atomic_store(&table[i].end, (uintptr_t)base + size_bytes);
        atomic_store(&table[i].begin, (uintptr_t)base);
        atomic_store(&used_count, i < count ? count : i + 1);
    }
    pthread_mutex_unlock(&table_lock);
}

void fc_bus_guard_remove(const void *base)
{
    pthread_mutex_lock(&table_lock);
    unsigned count = atomic_load(&used_count);
    for (unsigned i = 0; i < count; i++)
        if (atomic_load(&table[i].begin) == (uintptr_t)base)
            atomic_store(&table[i].begin, 0);
    pthread_mutex_unlock(&table_lock);
}

uint64_t fc_bus_guard_count(void)
{
    return atomic_load(&page_count);
}
