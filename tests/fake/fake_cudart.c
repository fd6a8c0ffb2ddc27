/* A CUDA runtime without a GPU, for the engine's host code: see fake_cuda.h for what it checks.
 *
 * Device memory is host memory under another name: a device pointer is the real address plus DEVICE_BIAS, which no
 * processor lets anybody dereference. One lock guards everything; work runs under it, in the thread that waits.
 */
#include "tests/fake/fake_cuda.h"
#include "tests/fake/fake_state.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* Of fresh memory no more than this is poisoned: touching a lane's whole workspace takes longer than any test. */
enum { MAX_BLOCKS = 256, POISON = 0xa5, POISONED_BYTES = 4 << 20 };
static const uintptr_t DEVICE_BIAS = (uintptr_t)1 << 60;

typedef struct block {
    char *bytes; /* NULL: free slot */
    size_t size;
    bool is_device, is_foreign; /* foreign: not ours to free: registered, or shared memory that was mapped */
} block;

static struct {
    pthread_mutex_t lock;
    block blocks[MAX_BLOCKS];
    long live;
    unsigned long calls, fail_at;
    cudaError_t fail_error, sticky;
    bool fail_is_sticky, has_read_environment;
    int devices, capability, driver;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .devices = 1, .capability = 90, .driver = 13000};

/* Static storage even in an object that is opened late: the leak sanitizer trips over the other kind beside OpenSSL. */
static __attribute__((tls_model("initial-exec"))) _Thread_local cudaError_t last_error;

/* --- controls --------------------------------------------------------------------------------------------------- */

static void read_environment(void)
{
    const char *words = getenv("FAKE_CUDA");
    char name[16];
    int value, used;
    fake.has_read_environment = true;
    while (words != NULL && sscanf(words, " %15[a-z]=%d%n", name, &value, &used) == 2) {
        if (strcmp(name, "fail") == 0)
            fake.fail_at = (unsigned long)value;
        else if (strcmp(name, "error") == 0)
            fake.fail_error = (cudaError_t)value;
        else if (strcmp(name, "sticky") == 0)
            fake.fail_is_sticky = value != 0;
        else if (strcmp(name, "devices") == 0)
            fake.devices = value;
        else if (strcmp(name, "capability") == 0)
            fake.capability = value;
        else if (strcmp(name, "driver") == 0)
            fake.driver = value;
        else if (strcmp(name, "pending") == 0)
            fake_stream_set_pending((unsigned)value);
        words += used;
    }
}

static void lock(void)
{
    pthread_mutex_lock(&fake.lock);
    if (!fake.has_read_environment)
        read_environment();
}

static void unlock(void)
{
    pthread_mutex_unlock(&fake.lock);
}

EXPORT void fake_cuda_fail(unsigned long call, int error, int is_sticky)
{
    lock();
    fake.calls = 0;
    fake.fail_at = call;
    fake.fail_error = (cudaError_t)error;
    fake.fail_is_sticky = is_sticky != 0;
    unlock();
}

EXPORT unsigned long fake_cuda_calls(void)
{
    lock();
    unsigned long calls = fake.calls;
    unlock();
    return calls;
}

EXPORT long fake_cuda_live(void)
{
    lock();
    long live = fake.live;
    unlock();
    return live;
}

EXPORT void fake_cuda_machine(int devices, int capability, int driver)
{
    lock();
    fake.devices = devices;
    fake.capability = capability;
    fake.driver = driver;
    unlock();
}

EXPORT void fake_cuda_reset(void)
{
    fake_cuda_fail(0, cudaSuccess, 0);
    fake_cuda_machine(1, 90, 13000);
    lock();
    fake.sticky = cudaSuccess;
    fake_stream_reset();
    unlock();
    last_error = cudaSuccess;
}

/* --- every call begins and ends here ------------------------------------------------------------------------------ */

/* What the page of tests/faults wants of that call. Errors that a device does not get over it has for good. */
static cudaError_t wanted_error(fc_fault_row call)
{
    cudaError_t error = fake_fault(call);
    if (error == cudaErrorECCUncorrectable || error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure)
        fake.sticky = error;
    return error;
}

/* Locks, counts the call, and says what it fails with if this is the one. */
static cudaError_t enter(fc_fault_row call)
{
    lock();
    fake.calls++;
    cudaError_t wanted = wanted_error(call);
    if (fake.sticky != cudaSuccess)
        return fake.sticky;
    if (wanted != cudaSuccess)
        return wanted;
    if (fake.calls != fake.fail_at)
        return cudaSuccess;
    if (fake.fail_is_sticky)
        fake.sticky = fake.fail_error;
    return fake.fail_error;
}

static cudaError_t leave(cudaError_t error)
{
    fake_fault_note_live(fake.live);
    unlock();
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    lock();
    last_error = fake.sticky;
    unlock();
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

cudaError_t fake_enter(fc_fault_row call)
{
    return enter(call);
}

cudaError_t fake_leave(cudaError_t error)
{
    return leave(error);
}

void fake_lock(void)
{
    lock();
}

void fake_unlock(void)
{
    unlock();
}

void fake_break(cudaError_t error)
{
    fake.sticky = error;
}

cudaError_t fake_broken(void)
{
    return fake.sticky;
}

void fake_count(long made)
{
    fake.live += made;
}

/* --- the device ------------------------------------------------------------------------------------------------- */

cudaError_t cudaDriverGetVersion(int *version)
{
    lock();
    cudaError_t error = wanted_error(FC_FAULT_ROW_cudaDriverGetVersion);
    *version = fake.driver;
    return leave(error);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    lock();
    cudaError_t error = wanted_error(FC_FAULT_ROW_cudaRuntimeGetVersion);
    *version = 13000;
    return leave(error);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t error = enter(FC_FAULT_ROW_cudaGetDeviceCount);
    if (error == cudaSuccess && fake.devices == 0)
        error = cudaErrorNoDevice;
    if (error == cudaSuccess)
        *count = fake.devices;
    return leave(error);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    cudaError_t error = enter(FC_FAULT_ROW_cudaGetDeviceProperties);
    if (error == cudaSuccess && (device < 0 || device >= fake.devices))
        error = cudaErrorInvalidDevice;
    if (error == cudaSuccess) {
        memset(properties, 0, sizeof *properties);
        snprintf(properties->name, sizeof properties->name, "Fake GPU");
        memcpy(properties->uuid.bytes, FAKE_DEVICE_UUID, sizeof properties->uuid.bytes);
        properties->totalGlobalMem = (size_t)1 << 34;
        properties->major = fake.capability / 10;
        properties->minor = fake.capability % 10;
        properties->multiProcessorCount = 132;
    }
    return leave(error);
}

cudaError_t cudaInitDevice(int device, unsigned int device_flags, unsigned int flags)
{
    cudaError_t error = enter(FC_FAULT_ROW_cudaInitDevice);
    (void)device_flags;
    (void)flags;
    if (error == cudaSuccess && (device < 0 || device >= fake.devices))
        error = cudaErrorInvalidDevice;
    return leave(error);
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t error = enter(FC_FAULT_ROW_cudaSetDevice);
    if (error == cudaSuccess && (device < 0 || device >= fake.devices))
        error = cudaErrorInvalidDevice;
    return leave(error);
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

/* The block that holds all of [bytes, bytes + size); NULL: none. Under the lock. */
static block *find_block(const char *bytes, size_t size, bool is_device)
{
    for (int i = 0; i < MAX_BLOCKS; i++) {
        block *b = &fake.blocks[i];
        if (b->bytes != NULL && b->is_device == is_device && bytes >= b->bytes &&
            size <= b->size - (size_t)(bytes - b->bytes) && (size_t)(bytes - b->bytes) <= b->size)
            return b;
    }
    return NULL;
}

/* The block that begins there. Under the lock. */
static block *find_start(const char *bytes, bool is_device)
{
    for (int i = 0; bytes != NULL && i < MAX_BLOCKS; i++)
        if (fake.blocks[i].bytes == bytes && fake.blocks[i].is_device == is_device)
            return &fake.blocks[i];
    return NULL;
}

static char *unbiased(const void *d_pointer)
{
    return (char *)((uintptr_t)d_pointer - DEVICE_BIAS);
}

void *fake_device_bytes(const void *d_pointer, size_t bytes)
{
    char *real = unbiased(d_pointer);
    return find_block(real, bytes, true) != NULL ? real : NULL;
}

bool fake_is_pinned(const void *bytes, size_t size)
{
    return find_block(bytes, size, false) != NULL;
}

void *fake_device_address(char *bytes)
{
    return (void *)((uintptr_t)bytes + DEVICE_BIAS);
}

void *fake_device_enter(char *bytes, size_t size_bytes)
{
    for (int i = 0; i < MAX_BLOCKS; i++) {
        if (fake.blocks[i].bytes != NULL)
            continue;
        fake.blocks[i] = (block){.bytes = bytes, .size = size_bytes, .is_device = true, .is_foreign = true};
        return fake_device_address(bytes);
    }
    return NULL;
}

char *fake_device_leave(const void *d_pointer)
{
    block *b = find_start(unbiased(d_pointer), true);
    if (b == NULL || !b->is_foreign)
        return NULL;
    b->bytes = NULL;
    return unbiased(d_pointer);
}

static cudaError_t add_block(char **out_bytes, size_t size, bool is_device)
{
    for (int i = 0; i < MAX_BLOCKS; i++) {
        block *b = &fake.blocks[i];
        if (b->bytes != NULL)
            continue;
        b->bytes = aligned_alloc(256, size / 256 * 256 + 256);
        if (b->bytes == NULL)
            return cudaErrorMemoryAllocation;
        memset(b->bytes, POISON, size < POISONED_BYTES ? size : POISONED_BYTES);
        b->size = size;
        b->is_device = is_device;
        b->is_foreign = false;
        fake.live++;
        *out_bytes = b->bytes;
        return cudaSuccess;
    }
    return cudaErrorMemoryAllocation;
}

static cudaError_t drop_block(char *bytes, bool is_device)
{
    block *b = find_start(bytes, is_device);
    if (b == NULL || b->is_foreign)
        return cudaErrorInvalidValue;
    free(b->bytes);
    b->bytes = NULL;
    fake.live--;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **d_pointer, size_t bytes)
{
    char *real = NULL;
    cudaError_t error = enter(FC_FAULT_ROW_cudaMalloc);
    if (error == cudaSuccess)
        error = add_block(&real, bytes, true);
    if (error == cudaSuccess)
        *d_pointer = fake_device_address(real);
    return leave(error);
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes)
{
    char *real = NULL;
    cudaError_t error = enter(FC_FAULT_ROW_cudaMallocHost);
    if (error == cudaSuccess)
        error = add_block(&real, bytes, false);
    if (error == cudaSuccess)
        *pointer = real;
    return leave(error);
}

EXPORT unsigned long fake_cuda_holders(const void *bytes, unsigned long size_bytes)
{
    unsigned long count = 0;
    lock();
    for (int i = 0; i < MAX_BLOCKS; i++) {
        const block *b = &fake.blocks[i];
        count += b->bytes != NULL && !b->is_foreign && memmem(b->bytes, b->size, bytes, size_bytes) != NULL;
    }
    unlock();
    return count;
}

EXPORT void *fake_cuda_allocate(unsigned long bytes, void **out_bytes)
{
    char *real = NULL;
    lock();
    cudaError_t error = add_block(&real, bytes, true);
    unlock();
    *out_bytes = real;
    return error == cudaSuccess ? (void *)((uintptr_t)real + DEVICE_BIAS) : NULL;
}

EXPORT void fake_cuda_release(void *d_pointer)
{
    lock();
    drop_block(unbiased(d_pointer), true);
    unlock();
}

cudaError_t cudaFree(void *d_pointer)
{
    cudaError_t error = enter(FC_FAULT_ROW_cudaFree);
    cudaError_t outcome = d_pointer == NULL ? cudaSuccess : drop_block(unbiased(d_pointer), true);
    return leave(error != cudaSuccess ? error : outcome);
}

cudaError_t cudaFreeHost(void *pointer)
{
    cudaError_t error = enter(FC_FAULT_ROW_cudaFreeHost), outcome = drop_block(pointer, false);
    return leave(error != cudaSuccess ? error : outcome);
}

/* As the real one: whole pages, none of them registered already. */
static cudaError_t add_region(char *bytes, size_t size)
{
    block *free_slot = NULL;
    if ((uintptr_t)bytes % 4096 != 0 || size == 0 || size % 4096 != 0)
        return cudaErrorInvalidValue;
    for (int i = 0; i < MAX_BLOCKS; i++) {
        block *b = &fake.blocks[i];
        if (b->bytes == NULL)
            free_slot = b;
        else if (!b->is_device && bytes < b->bytes + b->size && b->bytes < bytes + size)
            return cudaErrorHostMemoryAlreadyRegistered;
    }
    if (free_slot == NULL)
        return cudaErrorMemoryAllocation;
    *free_slot = (block){.bytes = bytes, .size = size, .is_foreign = true};
    fake.live++;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    cudaError_t error = enter(FC_FAULT_ROW_cudaMemGetInfo);
    if (error == cudaSuccess)
        *free_bytes = *total_bytes = (size_t)1 << 34;
    return leave(error);
}

cudaError_t cudaHostRegister(void *pointer, size_t bytes, unsigned int flags)
{
    cudaError_t error = enter(FC_FAULT_ROW_cudaHostRegister);
    (void)flags;
    if (error == cudaSuccess)
        error = fake_order_error("register");
    if (error == cudaSuccess)
        error = add_region(pointer, bytes);
    return leave(error);
}

cudaError_t cudaHostUnregister(void *pointer)
{
    cudaError_t error = enter(FC_FAULT_ROW_cudaHostUnregister), outcome = cudaErrorHostMemoryNotRegistered;
    block *b = find_start(pointer, false);
    if (b != NULL && b->is_foreign) {
        b->bytes = NULL;
        fake.live--;
        outcome = cudaSuccess;
    }
    return leave(error != cudaSuccess ? error : outcome);
}
