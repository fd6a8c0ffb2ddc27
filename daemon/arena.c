/* See arena.h. */
#include "daemon/arena.h"

#include "daemon/bus_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static fc_status status_of(int error)
{
    switch (error) {
    case ENOMEM:
    case ENOSPC:
    case EFBIG:
    case EMFILE:
    case ENFILE:
        return FC_NO_MEMORY;
    default:
        return FC_IO;
    }
}

fc_status fc_arena_memory_open(size_t size_bytes, fc_arena_memory *out_memory, fc_reason *out_reason)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole_bytes;
    if (__builtin_add_overflow(size_bytes, page_bytes - 1, &whole_bytes) || whole_bytes > INT64_MAX)
        return fc_fail(FC_NO_MEMORY, out_reason, "an arena of %zu bytes", size_bytes);
    whole_bytes -= whole_bytes % page_bytes;
    int fd = memfd_create("flashcore-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return fc_fail(status_of(errno), out_reason, "memfd_create: %s", strerror(errno));
    /* Allocated before it is mapped: a lack of memory is an error here, and a killed process later. */
    int error = ftruncate(fd, (off_t)whole_bytes) != 0 ? errno : 0;
    while (error == 0 && fallocate(fd, 0, 0, (off_t)whole_bytes) != 0)
        error = errno == EINTR ? 0 : errno;
    if (error == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        error = errno;
    void *base = MAP_FAILED;
    if (error == 0) {
        base = mmap(NULL, whole_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
        error = base == MAP_FAILED ? errno : 0;
    }
    if (error != 0) {
        close(fd);
        return fc_fail(status_of(error), out_reason, "an arena of %zu bytes: %s", whole_bytes, strerror(error));
    }
    madvise(base, whole_bytes, MADV_DONTDUMP);
    fc_bus_guard_add(base, whole_bytes);
    *out_memory = (fc_arena_memory){.base = base, .size_bytes = whole_bytes, .fd = fd, .lifeline_fd = -1};
    return FC_OK;
}

fc_status fc_arena_memory_register(fc_arena_memory *memory, const fc_engine_ops *ops, fc_engine *engine,
                                   fc_reason *out_reason)
{
    fc_status st = ops->memory_register(engine, memory->base, memory->size_bytes, out_reason);
    if (st != FC_OK)
        return st;
    memory->place = (fc_memory_place){.kind = FC_MEMORY_REGISTERED, .region = memory->base};
    memory->ops = ops;
    memory->engine = engine;
    return FC_OK;
}

fc_status fc_arena_memory_open_device(size_t size_bytes, const fc_engine_ops *ops, fc_engine *engine,
                                      fc_arena_memory *out_memory, int *out_peer_lifeline_fd, fc_reason *out_reason)
{
    int lifeline[2];
    fc_engine_memory device = {.fd = -1};
    if (pipe2(lifeline, O_CLOEXEC) != 0)
        return fc_fail(status_of(errno), out_reason, "pipe2: %s", strerror(errno));
    fc_status st = ops->memory_open(engine, size_bytes, &device, out_reason);
    if (st != FC_OK) {
        close(lifeline[0]);
        close(lifeline[1]);
        return st;
    }
    *out_memory = (fc_arena_memory){.base = device.d_base,
                                    .size_bytes = device.size_bytes,
                                    .fd = device.fd,
                                    .place = {.kind = FC_MEMORY_DEVICE},
                                    .ops = ops,
                                    .engine = engine,
                                    .lifeline_fd = lifeline[1]};
    *out_peer_lifeline_fd = lifeline[0];
    return FC_OK;
}

static void close_device(const fc_arena_memory *memory)
{
    fc_engine_memory device = {.d_base = memory->base, .size_bytes = memory->size_bytes, .fd = memory->fd};
    memory->ops->memory_close(memory->engine, &device);
}

/* Page by page where the guard put some of its own, which cannot be given back so. */
static void empty(const fc_arena_memory *memory)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (madvise(memory->base, memory->size_bytes, MADV_REMOVE) == 0)
        return;
    for (size_t at = 0; at < memory->size_bytes; at += page_bytes)
        (void)madvise(memory->base + at, page_bytes, MADV_REMOVE);
}

static void close_host(const fc_arena_memory *memory, bool empties)
{
    if (memory->ops != NULL)
        memory->ops->memory_unregister(memory->engine, memory->base);
    if (empties && memory->base != NULL)
        empty(memory);
    if (memory->base != NULL) {
        fc_bus_guard_remove(memory->base);
        munmap(memory->base, memory->size_bytes);
    }
    if (memory->fd >= 0)
        close(memory->fd);
}

void fc_arena_memory_close(fc_arena_memory *memory, bool empties)
{
    if (memory->place.kind == FC_MEMORY_DEVICE)
        close_device(memory);
    else
        close_host(memory, empties);
    *memory = (fc_arena_memory){.fd = -1, .lifeline_fd = memory->lifeline_fd};
}

bool fc_arena_lifeline_is_cut(int lifeline_fd)
{
    struct pollfd writer = {.fd = lifeline_fd};
    return poll(&writer, 1, 0) == 1 && (writer.revents & POLLERR) != 0;
}
