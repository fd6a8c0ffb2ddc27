/* The driver's shared memory, without a GPU: an allocation is a memfd, so that a descriptor of it can be imported by
 * another process's fake (tests/fake/driver), and address space is address space. Fresh memory is poisoned, as memory
 * that another process has used would be. A mapping nobody set access for cannot be read by a kernel. */
#include "tests/fake/fake_state.h"

#include <cudaTypedefs.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { POISON = 0xa5 };

static CUresult leave(CUresult result)
{
    (void)fake_leave((cudaError_t)result);
    return result;
}

static CUresult enter(fc_fault_row call)
{
    return (CUresult)fake_enter(call);
}

/* A handle is a descriptor and one; 0 is none. */
static int descriptor_of(CUmemGenericAllocationHandle handle)
{
    return (int)handle - 1;
}

static char *bytes_of(CUdeviceptr address)
{
    return (char *)(uintptr_t)(address - (uintptr_t)fake_device_address(NULL));
}

static CUresult get_attribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    CUresult result = enter(FC_FAULT_ROW_cuDeviceGetAttribute);
    (void)attribute;
    (void)device;
    if (result == CUDA_SUCCESS)
        *value = 1;
    return leave(result);
}

static CUresult get_granularity(size_t *bytes, const CUmemAllocationProp *properties,
                                CUmemAllocationGranularity_flags option)
{
    CUresult result = enter(FC_FAULT_ROW_cuMemGetAllocationGranularity);
    (void)option;
    if (result == CUDA_SUCCESS && properties->requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *bytes = FAKE_GRANULE_BYTES;
    return leave(result);
}

static CUresult poison(int fd, size_t bytes)
{
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memset(at, POISON, bytes);
    munmap(at, bytes);
    return CUDA_SUCCESS;
}

static CUresult create(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                       unsigned long long flags)
{
    CUresult result = enter(FC_FAULT_ROW_cuMemCreate);
    if (result == CUDA_SUCCESS &&
        (bytes == 0 || bytes % FAKE_GRANULE_BYTES != 0 || flags != 0 ||
         properties->type != CU_MEM_ALLOCATION_TYPE_PINNED || properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return leave(result);
    int fd = memfd_create("fake-device-memory", MFD_CLOEXEC);
    result = fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 ? poison(fd, bytes) : CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS) {
        *handle = (CUmemGenericAllocationHandle)fd + 1;
        fake_count(1);
    } else if (fd >= 0) {
        close(fd);
    }
    return leave(result);
}

static CUresult release(CUmemGenericAllocationHandle handle)
{
    CUresult result = enter(FC_FAULT_ROW_cuMemRelease);
    close(descriptor_of(handle));
    fake_count(-1);
    return leave(result);
}

static CUresult export_descriptor(void *shareable, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
                                  unsigned long long flags)
{
    CUresult result = enter(FC_FAULT_ROW_cuMemExportToShareableHandle);
    if (result == CUDA_SUCCESS && (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || flags != 0))
        result = CUDA_ERROR_INVALID_VALUE;
    int fd = result == CUDA_SUCCESS ? fcntl(descriptor_of(handle), F_DUPFD_CLOEXEC, 0) : -1;
    if (result == CUDA_SUCCESS && fd < 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        memcpy(shareable, &fd, sizeof fd);
    return leave(result);
}

static CUresult reserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wanted,
                        unsigned long long flags)
{
    CUresult result = enter(FC_FAULT_ROW_cuMemAddressReserve);
    (void)alignment;
    (void)wanted;
    (void)flags;
    char *at = result == CUDA_SUCCESS ? mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                      : MAP_FAILED;
    if (result == CUDA_SUCCESS && at == MAP_FAILED)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS) {
        *address = (CUdeviceptr)(uintptr_t)fake_device_address(at);
        fake_count(1);
    }
    return leave(result);
}

static CUresult unreserve(CUdeviceptr address, size_t bytes)
{
    CUresult result = enter(FC_FAULT_ROW_cuMemAddressFree);
    munmap(bytes_of(address), bytes);
    fake_count(-1);
    return leave(result);
}

static CUresult map(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                    unsigned long long flags)
{
    CUresult result = enter(FC_FAULT_ROW_cuMemMap);
    (void)flags;
    if (result == CUDA_SUCCESS && mmap(bytes_of(address), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                                       descriptor_of(handle), (off_t)offset) == MAP_FAILED)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        fake_count(1);
    return leave(result);
}

static CUresult unmap(CUdeviceptr address, size_t bytes)
{
    CUresult result = enter(FC_FAULT_ROW_cuMemUnmap);
    (void)fake_device_leave((const void *)(uintptr_t)address);
    (void)mmap(bytes_of(address), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    fake_count(-1);
    return leave(result);
}

static CUresult set_access(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count)
{
    CUresult result = enter(FC_FAULT_ROW_cuMemSetAccess);
    if (result == CUDA_SUCCESS && (count != 1 || access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS && fake_device_enter(bytes_of(address), bytes) == NULL)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    return leave(result);
}

static const struct {
    const char *name;
    void (*function)(void);
} FUNCTIONS[] = {
#define FUNCTION(name, function)                                                                                       \
    {                                                                                                                  \
        name, (void (*)(void))(function)                                                                               \
    }
    FUNCTION("cuDeviceGetAttribute", get_attribute),
    FUNCTION("cuMemGetAllocationGranularity", get_granularity),
    FUNCTION("cuMemCreate", create),
    FUNCTION("cuMemRelease", release),
    FUNCTION("cuMemExportToShareableHandle", export_descriptor),
    FUNCTION("cuMemAddressReserve", reserve),
    FUNCTION("cuMemAddressFree", unreserve),
    FUNCTION("cuMemMap", map),
    FUNCTION("cuMemUnmap", unmap),
    FUNCTION("cuMemSetAccess", set_access),
#undef FUNCTION
};

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned int version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *result)
{
    cudaError_t error = fake_enter(FC_FAULT_ROW_cudaGetDriverEntryPointByVersion);
    (void)version;
    (void)flags;
    *result = cudaDriverEntryPointSymbolNotFound;
    if (error != cudaSuccess)
        return fake_leave(error);
    for (size_t i = 0; i < sizeof FUNCTIONS / sizeof FUNCTIONS[0]; i++) {
        if (strcmp(FUNCTIONS[i].name, symbol) != 0)
            continue;
        memcpy(function, &FUNCTIONS[i].function, sizeof *function);
        *result = cudaDriverEntryPointSuccess;
    }
    return fake_leave(cudaSuccess);
}
