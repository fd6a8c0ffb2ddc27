/* See arena.h. */
#include "daemon/arena.h"

#include <errno.h>
#include <fcntl.h>
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
    *out_memory = (fc_arena_memory){.base = base, .size_bytes = whole_bytes, .fd = fd};
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

void fc_arena_memory_close(fc_arena_memory *memory, bool empties)
{
    if (memory->ops != NULL)
        memory->ops->memory_unregister(memory->engine, memory->base);
    if (empties && memory->base != NULL)
        (void)madvise(memory->base, memory->size_bytes, MADV_REMOVE);
    if (memory->base != NULL)
        munmap(memory->base, memory->size_bytes);
    if (memory->fd >= 0)
        close(memory->fd);
    *memory = (fc_arena_memory){.fd = -1};
}
