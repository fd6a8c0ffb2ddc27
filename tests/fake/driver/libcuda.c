/* A libcuda.so.1 without a GPU, for clients: imports what the fake engine's driver (tests/fake/fake_memory.c) exported,
 * in another process or in this one. "Device" memory can be read and written here, so that tests see what is in it; an
 * address that nobody set access for cannot. FAKE_DRIVER="fail=N" makes the N-th call fail with CUDA_ERROR_UNKNOWN.
 */
#include "tests/fake/driver/fake_driver.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_CONTEXT = 201, UNKNOWN = 999 };
/* Two devices; the server's is the second. */
static const char UUIDS[2][17] = {"some-other-gpu-0", "fake-gpu-number0"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long live;
static unsigned long calls, fail_at;
static int device_count = 2, has_read_environment;
static int contexts[2];
static _Thread_local void *current[4];
static _Thread_local int depth;

EXPORT void fake_driver_fail(unsigned long call)
{
    pthread_mutex_lock(&lock);
    has_read_environment = 1;
    calls = 0;
    fail_at = call;
    pthread_mutex_unlock(&lock);
}

EXPORT long fake_driver_live(void)
{
    pthread_mutex_lock(&lock);
    long count = live;
    pthread_mutex_unlock(&lock);
    return count;
}

EXPORT void fake_driver_devices(int count)
{
    device_count = count;
}

static int enter(void)
{
    pthread_mutex_lock(&lock);
    const char *words = getenv("FAKE_DRIVER");
    if (!has_read_environment && words != NULL && sscanf(words, "fail=%lu", &fail_at) != 1)
        fail_at = 0;
    has_read_environment = 1;
    int result = ++calls == fail_at ? UNKNOWN : SUCCESS;
    pthread_mutex_unlock(&lock);
    return result;
}

/* Something was made (1) or released (-1). */
static void count(long made)
{
    pthread_mutex_lock(&lock);
    live += made;
    pthread_mutex_unlock(&lock);
}

#define API(name, ...)                                                                                                 \
    EXPORT int name(__VA_ARGS__);                                                                                      \
    EXPORT int name(__VA_ARGS__)

API(cuGetErrorName, int error, const char **name)
{
    *name = error == UNKNOWN ? "CUDA_ERROR_UNKNOWN" : "CUDA_ERROR_INVALID_VALUE";
    return SUCCESS;
}

API(cuInit, unsigned int flags)
{
    return flags == 0 ? enter() : INVALID_VALUE;
}

API(cuDeviceGetCount, int *out_count)
{
    *out_count = device_count;
    return enter();
}

API(cuDeviceGet, int *device, int ordinal)
{
    *device = ordinal;
    return enter();
}

API(cuDeviceGetUuid_v2, char *uuid, int device)
{
    memcpy(uuid, UUIDS[device], 16);
    return enter();
}

API(cuDevicePrimaryCtxRetain, void **context, int device)
{
    int result = enter();
    *context = &contexts[device];
    if (result == SUCCESS)
        count(1);
    return result;
}

API(cuDevicePrimaryCtxRelease_v2, int device)
{
    (void)device;
    count(-1);
    return SUCCESS;
}

API(cuCtxPushCurrent_v2, void *context)
{
    int result = enter();
    if (result == SUCCESS && (context == NULL || depth == 4))
        result = INVALID_CONTEXT;
    if (result == SUCCESS)
        current[depth++] = context;
    return result;
}

API(cuCtxPopCurrent_v2, void **context)
{
    *context = depth > 0 ? current[--depth] : NULL;
    return SUCCESS;
}

static int in_context(void)
{
    int result = enter();
    return result == SUCCESS && (depth == 0 || current[depth - 1] != &contexts[1]) ? INVALID_CONTEXT : result;
}

API(cuMemImportFromShareableHandle, unsigned long long *handle, void *shareable, int type)
{
    int result = in_context();
    int fd = result == SUCCESS && type == 1 ? fcntl((int)(intptr_t)shareable, F_DUPFD_CLOEXEC, 0) : -1;
    if (result == SUCCESS && fd < 0)
        result = INVALID_VALUE;
    if (result == SUCCESS) {
        *handle = (unsigned long long)fd + 1;
        count(1);
    }
    return result;
}

API(cuMemRelease, unsigned long long handle)
{
    close((int)handle - 1);
    count(-1);
    return SUCCESS;
}

static char *bytes_of(unsigned long long address)
{
    return (char *)(uintptr_t)address;
}

API(cuMemAddressReserve, unsigned long long *address, size_t bytes, size_t alignment, unsigned long long wanted,
    unsigned long long flags)
{
    int result = in_context();
    (void)alignment;
    void *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (result == SUCCESS && (at == MAP_FAILED || wanted != 0 || flags != 0))
        result = INVALID_VALUE;
    if (result != SUCCESS && at != MAP_FAILED)
        munmap(at, bytes);
    *address = (unsigned long long)(uintptr_t)at;
    if (result == SUCCESS)
        count(1);
    return result;
}

API(cuMemAddressFree, unsigned long long address, size_t bytes)
{
    munmap(bytes_of(address), bytes);
    count(-1);
    return SUCCESS;
}

API(cuMemMap, unsigned long long address, size_t bytes, size_t offset, unsigned long long handle,
    unsigned long long flags)
{
    int result = in_context();
    if (result == SUCCESS && (flags != 0 || mmap(bytes_of(address), bytes, PROT_NONE, MAP_SHARED | MAP_FIXED,
                                                 (int)handle - 1, (off_t)offset) == MAP_FAILED))
        result = INVALID_VALUE;
    if (result == SUCCESS)
        count(1);
    return result;
}

API(cuMemUnmap, unsigned long long address, size_t bytes)
{
    (void)mmap(bytes_of(address), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    count(-1);
    return SUCCESS;
}

API(cuMemSetAccess, unsigned long long address, size_t bytes, const int access[3], size_t access_count)
{
    int result = in_context();
    if (result == SUCCESS && (access_count != 1 || access[0] != 1 || access[1] != 1 || access[2] != 3 ||
                              mprotect(bytes_of(address), bytes, PROT_READ | PROT_WRITE) != 0))
        result = INVALID_VALUE;
    return result;
}

API(cuMemcpyHtoD_v2, unsigned long long to, const void *from, size_t bytes)
{
    int result = in_context();
    if (result == SUCCESS)
        memcpy(bytes_of(to), from, bytes);
    return result;
}

API(cuMemcpyDtoH_v2, void *to, unsigned long long from, size_t bytes)
{
    int result = in_context();
    if (result == SUCCESS)
        memcpy(to, bytes_of(from), bytes);
    return result;
}

API(cuStreamSynchronize, void *stream)
{
    (void)stream;
    return in_context();
}
