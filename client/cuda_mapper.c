/* See flashcore_cuda.h. Every mapping is kept in a list, from which unmap, upload and download learn its device; the
 * list is all the state there is.
 *
 * Functions of the driver that are given a context work in it, whatever the caller's thread has current: it is pushed
 * before and popped after.
 */
#include "client/cuda_driver.h"
#include "client/flashcore_cuda.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct mapping {
    struct mapping *next;
    fc_cu_address address;
    size_t size_bytes;
    fc_cu_device device;
    fc_cu_context context; /* retained */
} mapping;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static mapping *mappings; /* lock */

static flashcore_status fail(char *error, const char *doing, fc_cu_result result)
{
    const char *why, *name = NULL;
    const fc_cuda_driver *driver = fc_cuda_driver_get(&why);
    driver->error_name(result, &name);
    snprintf(error, FLASHCORE_ERROR_BYTES, "%s: %s", doing, name != NULL ? name : "unknown error of the driver");
    return FLASHCORE_INTERNAL;
}

static fc_cu_address address_of(const void *d_pointer)
{
    return (fc_cu_address)(uintptr_t)d_pointer;
}

/* --- mapping ------------------------------------------------------------------------------------------------------ */

static flashcore_status find_device(const fc_cuda_driver *driver, const uint8_t *uuid, fc_cu_device *out_device,
                                    char *error)
{
    int count = 0;
    fc_cu_uuid found;
    fc_cu_result result = driver->device_count(&count);
    if (result != 0)
        return fail(error, "looking for devices", result);
    for (int i = 0; i < count; i++)
        if (driver->device(out_device, i) == 0 && driver->device_uuid(&found, *out_device) == 0 &&
            memcmp(found.bytes, uuid, sizeof found.bytes) == 0)
            return FLASHCORE_OK;
    snprintf(error, FLASHCORE_ERROR_BYTES,
             "the server's GPU, UUID %02x%02x%02x%02x-..., is none of the %d this process sees (CUDA_VISIBLE_DEVICES?)",
             uuid[0], uuid[1], uuid[2], uuid[3], count);
    return FLASHCORE_UNSUPPORTED;
}

/* Gives imported memory an address that the device may read and write. */
static fc_cu_result place(const fc_cuda_driver *driver, fc_cu_handle handle, mapping *m)
{
    fc_cu_access access = {FC_CU_MEM_LOCATION_TYPE_DEVICE, m->device, FC_CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    fc_cu_result result = driver->reserve(&m->address, m->size_bytes, 0, 0, 0);
    if (result != 0)
        return result;
    result = driver->map(m->address, m->size_bytes, 0, handle, 0);
    if (result != 0)
        goto unreserve;
    result = driver->set_access(m->address, m->size_bytes, &access, 1);
    if (result == 0)
        return 0;
    driver->unmap(m->address, m->size_bytes);
unreserve:
    driver->unreserve(m->address, m->size_bytes);
    return result;
}

/* With the device's context current. The mapping holds the memory: the handle is let go. */
static flashcore_status import(const fc_cuda_driver *driver, int fd, mapping *m, char *error)
{
    fc_cu_handle handle;
    fc_cu_result result =
        driver->import_handle(&handle, (void *)(intptr_t)fd, FC_CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (result != 0)
        return fail(error, "importing the server's memory", result);
    result = place(driver, handle, m);
    driver->release_handle(handle);
    return result == 0 ? FLASHCORE_OK : fail(error, "mapping the server's memory", result);
}

static flashcore_status map_in_context(const fc_cuda_driver *driver, int fd, mapping *m, char *error)
{
    fc_cu_result result = driver->retain_context(&m->context, m->device);
    if (result != 0)
        return fail(error, "using the device", result);
    flashcore_status status = FLASHCORE_INTERNAL;
    result = driver->push_context(m->context);
    if (result != 0) {
        fail(error, "using the device", result);
    } else {
        status = import(driver, fd, m, error);
        driver->pop_context(&(fc_cu_context){NULL});
    }
    if (status != FLASHCORE_OK)
        driver->release_context(m->device);
    return status;
}

static flashcore_status map(void *context, int fd, size_t size_bytes, const uint8_t uuid[FLASHCORE_UUID_BYTES],
                            void **out_address, char error[FLASHCORE_ERROR_BYTES])
{
    const char *why;
    const fc_cuda_driver *driver = fc_cuda_driver_get(&why);
    (void)context;
    if (driver == NULL) {
        snprintf(error, FLASHCORE_ERROR_BYTES, "%s", why);
        return FLASHCORE_UNSUPPORTED;
    }
    mapping *m = calloc(1, sizeof *m);
    if (m == NULL)
        return FLASHCORE_NO_MEMORY;
    m->size_bytes = size_bytes;
    flashcore_status status = find_device(driver, uuid, &m->device, error);
    if (status == FLASHCORE_OK)
        status = map_in_context(driver, fd, m, error);
    if (status != FLASHCORE_OK) {
        free(m);
        return status;
    }
    pthread_mutex_lock(&lock);
    m->next = mappings;
    mappings = m;
    pthread_mutex_unlock(&lock);
    *out_address = (void *)(uintptr_t)m->address;
    return FLASHCORE_OK;
}

/* Takes the mapping at that address off the list. NULL: there is none. */
static mapping *take(fc_cu_address address)
{
    pthread_mutex_lock(&lock);
    mapping **at = &mappings;
    while (*at != NULL && (*at)->address != address)
        at = &(*at)->next;
    mapping *m = *at;
    if (m != NULL)
        *at = m->next;
    pthread_mutex_unlock(&lock);
    return m;
}

static void unmap(void *context, void *d_address, size_t size_bytes)
{
    const char *why;
    const fc_cuda_driver *driver = fc_cuda_driver_get(&why);
    mapping *m = take(address_of(d_address));
    (void)context;
    if (m == NULL)
        return;
    bool is_current = driver->push_context(m->context) == 0;
    driver->unmap(m->address, size_bytes);
    driver->unreserve(m->address, size_bytes);
    if (is_current)
        driver->pop_context(&(fc_cu_context){NULL});
    driver->release_context(m->device);
    free(m);
}

const flashcore_device_mapper *flashcore_cuda_mapper(void)
{
    static const flashcore_device_mapper MAPPER = {.map = map, .unmap = unmap, .context = NULL};
    return &MAPPER;
}

/* --- copying ------------------------------------------------------------------------------------------------------ */

/* The context of the mapping that holds all of it; NULL: there is none. */
static fc_cu_context context_of(fc_cu_address begin, size_t size_bytes)
{
    fc_cu_context context = NULL;
    pthread_mutex_lock(&lock);
    for (const mapping *m = mappings; m != NULL && context == NULL; m = m->next)
        if (begin >= m->address && begin - m->address <= m->size_bytes &&
            size_bytes <= m->size_bytes - (size_t)(begin - m->address))
            context = m->context;
    pthread_mutex_unlock(&lock);
    return context;
}

/* A copy from ordinary memory returns when that has been read, and not yet written: the default stream, in which it is,
 * is waited for. */
static flashcore_status copy(fc_cu_address d_at, void *to, const void *from, size_t size_bytes)
{
    const char *why;
    const fc_cuda_driver *driver = fc_cuda_driver_get(&why);
    fc_cu_context context = driver != NULL ? context_of(d_at, size_bytes) : NULL;
    if (context == NULL)
        return FLASHCORE_INVALID_ARGUMENT;
    if (size_bytes == 0)
        return FLASHCORE_OK;
    if (driver->push_context(context) != 0)
        return FLASHCORE_INTERNAL;
    fc_cu_result result = to != NULL ? driver->copy_out(to, d_at, size_bytes) : driver->copy_in(d_at, from, size_bytes);
    if (result == 0)
        result = driver->synchronize(NULL);
    driver->pop_context(&(fc_cu_context){NULL});
    return result == 0 ? FLASHCORE_OK : FLASHCORE_INTERNAL;
}

flashcore_status flashcore_cuda_upload(void *d_to, const void *from, size_t size_bytes)
{
    return copy(address_of(d_to), NULL, from, size_bytes);
}

flashcore_status flashcore_cuda_download(void *to, const void *d_from, size_t size_bytes)
{
    return to != NULL || size_bytes == 0 ? copy(address_of(d_from), to, NULL, size_bytes) : FLASHCORE_INVALID_ARGUMENT;
}
