/* Device memory that other processes can map: one physical allocation each, exported as a file descriptor. The runtime
 * has no such thing; the driver's functions are asked for at run time, since the engine does not link the driver.
 *
 * Legacy IPC handles (cudaIpcGetMemHandle) would do no harm to us but to others: they open the whole block that the
 * runtime cut the memory from, neighbours included. An allocation of cuMemCreate() has pages of its own.
 *
 * The handle is let go as soon as the memory is mapped and exported: from then on mappings and descriptors hold it.
 */
#include "kernels/cuda_engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A driver's function: its name, the member that holds it, and the version it is asked for in. */
typedef struct call_row {
    const char *name;
    size_t offset;
    unsigned version;
} call_row;

#define CALL(name, member, version)                                                                                    \
    {                                                                                                                  \
        name, offsetof(fc_cuda_memory_calls, member), version                                                          \
    }
static const call_row CALLS[] = {
    CALL("cuDeviceGetAttribute", attribute, 2000),
    CALL("cuMemGetAllocationGranularity", granularity, 10020),
    CALL("cuMemCreate", create, 10020),
    CALL("cuMemRelease", release, 10020),
    CALL("cuMemExportToShareableHandle", export_fd, 10020),
    CALL("cuMemAddressReserve", reserve, 10020),
    CALL("cuMemAddressFree", unreserve, 10020),
    CALL("cuMemMap", map, 10020),
    CALL("cuMemUnmap", unmap, 10020),
    CALL("cuMemSetAccess", set_access, 10020),
};
#undef CALL

static CUmemAllocationProp properties(const fc_engine *engine)
{
    CUmemAllocationProp p;
    memset(&p, 0, sizeof p);
    p.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    p.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    p.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    p.location.id = engine->config.device_index;
    return p;
}

/* Driver and runtime number their errors alike. */
static fc_status fail(CUresult result, const char *doing, fc_reason *out_reason)
{
    return fc_cuda_fail((cudaError_t)result, doing, out_reason);
}

/* --- finding out -------------------------------------------------------------------------------------------------- */

/* False: the driver lacks one of them. */
static bool find_calls(fc_cuda_memory_calls *calls, const char **out_missing)
{
    for (size_t i = 0; i < sizeof CALLS / sizeof CALLS[0]; i++) {
        void *found = NULL;
        enum cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
        cudaError_t error =
            cudaGetDriverEntryPointByVersion(CALLS[i].name, &found, CALLS[i].version, cudaEnableDefault, &result);
        if (error != cudaSuccess || result != cudaDriverEntryPointSuccess || found == NULL) {
            (void)cudaGetLastError();
            *out_missing = CALLS[i].name;
            return false;
        }
        memcpy((char *)calls + CALLS[i].offset, &found, sizeof found);
    }
    return true;
}

static fc_status there_is_none(fc_engine *engine, const char *what, const char *why)
{
    memset(&engine->memory, 0, sizeof engine->memory);
    snprintf(engine->info.memory_why, sizeof engine->info.memory_why, "%.40s %.50s", what, why);
    return FC_OK;
}

fc_status fc_cuda_memory_find(fc_engine *engine, fc_reason *out_reason)
{
    const char *missing;
    int has_mapping = 0, has_fd = 0;
    size_t granule_bytes = 0;
    CUmemAllocationProp p = properties(engine);
    if (!find_calls(&engine->memory, &missing))
        return there_is_none(engine, "the NVIDIA driver lacks", missing);
    CUresult result = engine->memory.attribute(&has_mapping, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                               engine->config.device_index);
    if (result == CUDA_SUCCESS)
        result = engine->memory.attribute(&has_fd, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
                                          engine->config.device_index);
    if (result == CUDA_SUCCESS && !(has_mapping && has_fd))
        return there_is_none(engine, "this GPU", "cannot share memory as file descriptors");
    if (result == CUDA_SUCCESS)
        result = engine->memory.granularity(&granule_bytes, &p, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    if (result != CUDA_SUCCESS)
        return fail(result, "asking for the granule of shared memory", out_reason);
    engine->info.memory_granule_bytes = granule_bytes;
    return FC_OK;
}

/* --- making and freeing ------------------------------------------------------------------------------------------- */

static fc_status fail_beside(fc_engine *engine, CUresult result, const char *doing, fc_reason *out_reason)
{
    return fc_cuda_fail_beside(engine, (cudaError_t)result, doing, out_reason);
}

/* What it held before is nobody's to see. */
static fc_status clear(fc_engine *engine, const fc_engine_memory *memory, fc_reason *out_reason)
{
    cudaStream_t stream;
    cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (error != cudaSuccess)
        return fc_cuda_fail_beside(engine, error, "clearing shared memory", out_reason);
    error = cudaMemsetAsync(memory->d_base, 0, memory->size_bytes, stream);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(stream);
    (void)cudaStreamDestroy(stream);
    return error == cudaSuccess ? FC_OK : fc_cuda_fail_beside(engine, error, "clearing shared memory", out_reason);
}

/* Gives the allocation an address here that kernels may read and write. */
static CUresult map(const fc_engine *engine, CUmemGenericAllocationHandle handle, size_t size_bytes,
                    CUdeviceptr *out_address)
{
    const fc_cuda_memory_calls *calls = &engine->memory;
    CUmemAccessDesc access = {.location = properties(engine).location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUdeviceptr address = 0;
    CUresult result = calls->reserve(&address, size_bytes, 0, 0, 0);
    if (result != CUDA_SUCCESS)
        return result;
    result = calls->map(address, size_bytes, 0, handle, 0);
    if (result != CUDA_SUCCESS)
        goto unreserve;
    result = calls->set_access(address, size_bytes, &access, 1);
    if (result != CUDA_SUCCESS)
        goto unmap;
    *out_address = address;
    return CUDA_SUCCESS;
unmap:
    (void)calls->unmap(address, size_bytes);
unreserve:
    (void)calls->unreserve(address, size_bytes);
    return result;
}

static fc_status acquire(fc_engine *engine, fc_engine_memory *memory, fc_reason *out_reason)
{
    const fc_cuda_memory_calls *calls = &engine->memory;
    CUmemAllocationProp p = properties(engine);
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address = 0;
    CUresult result = calls->create(&handle, memory->size_bytes, &p, 0);
    if (result != CUDA_SUCCESS)
        return fail_beside(engine, result, "allocating shared memory", out_reason);
    result = map(engine, handle, memory->size_bytes, &address);
    if (result == CUDA_SUCCESS) {
        memory->d_base = (void *)(uintptr_t)address;
        result = calls->export_fd(&memory->fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    }
    (void)calls->release(handle);
    return result == CUDA_SUCCESS ? FC_OK : fail_beside(engine, result, "sharing memory", out_reason);
}

fc_status fc_cuda_memory_open(fc_engine *engine, size_t size_bytes, fc_engine_memory *out_memory, fc_reason *out_reason)
{
    size_t granule_bytes = engine->info.memory_granule_bytes;
    fc_engine_memory memory = {.fd = -1};
    if (granule_bytes == 0)
        return fc_fail(FC_UNSUPPORTED, out_reason, "%s", engine->info.memory_why);
    if (atomic_load(&engine->is_lost))
        return fc_cuda_lost(out_reason);
    if (__builtin_add_overflow(size_bytes, granule_bytes - 1, &memory.size_bytes))
        return fc_fail(FC_NO_MEMORY, out_reason, "%zu bytes of shared memory", size_bytes);
    memory.size_bytes -= memory.size_bytes % granule_bytes;
    cudaError_t error = cudaSetDevice(engine->config.device_index);
    if (error != cudaSuccess)
        return fc_cuda_fail_beside(engine, error, "choosing the device", out_reason);
    fc_status st = acquire(engine, &memory, out_reason);
    if (st == FC_OK)
        st = clear(engine, &memory, out_reason);
    if (st != FC_OK) {
        fc_cuda_memory_close(engine, &memory);
        return st;
    }
    *out_memory = memory;
    return FC_OK;
}

/* Errors change nothing any more: on a device that is lost, the process's end frees it. */
void fc_cuda_memory_close(fc_engine *engine, fc_engine_memory *memory)
{
    CUdeviceptr address = (CUdeviceptr)(uintptr_t)memory->d_base;
    if (address != 0) {
        (void)cudaSetDevice(engine->config.device_index);
        (void)engine->memory.unmap(address, memory->size_bytes);
        (void)engine->memory.unreserve(address, memory->size_bytes);
        (void)cudaGetLastError();
    }
    if (memory->fd >= 0)
        close(memory->fd);
    *memory = (fc_engine_memory){.fd = -1};
}
