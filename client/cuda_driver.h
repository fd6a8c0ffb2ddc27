/* As much of the CUDA driver as mapping a server's memory takes, found in libcuda.so.1 at run time, so that neither
 * CUDA's headers nor the driver are needed to build. Types and values are those of cuda.h, under names of our own;
 * tests/gpu/driver_types.c compares them. Any thread.
 */
#ifndef FC_CLIENT_CUDA_DRIVER_H
#define FC_CLIENT_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef int fc_cu_result; /* CUresult; 0 is success */
typedef int fc_cu_device;
typedef struct CUctx_st *fc_cu_context;
typedef struct CUstream_st *fc_cu_stream;
typedef unsigned long long fc_cu_address; /* CUdeviceptr */
typedef unsigned long long fc_cu_handle;  /* CUmemGenericAllocationHandle */

typedef struct fc_cu_uuid {
    char bytes[16];
} fc_cu_uuid;

typedef struct fc_cu_access { /* CUmemAccessDesc */
    int location_type, location_id;
    int flags;
} fc_cu_access;

enum {
    FC_CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR = 1,
    FC_CU_MEM_LOCATION_TYPE_DEVICE = 1,
    FC_CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3
};

/* X(member, symbol, parameters) */
#define FC_CUDA_DRIVER_CALLS(X)                                                                                        \
    X(init, "cuInit", (unsigned int flags))                                                                            \
    X(device_count, "cuDeviceGetCount", (int *count))                                                                  \
    X(device, "cuDeviceGet", (fc_cu_device * device, int ordinal))                                                     \
    X(device_uuid, "cuDeviceGetUuid_v2", (fc_cu_uuid * uuid, fc_cu_device device))                                     \
    X(retain_context, "cuDevicePrimaryCtxRetain", (fc_cu_context * context, fc_cu_device device))                      \
    X(release_context, "cuDevicePrimaryCtxRelease_v2", (fc_cu_device device))                                          \
    X(push_context, "cuCtxPushCurrent_v2", (fc_cu_context context))                                                    \
    X(pop_context, "cuCtxPopCurrent_v2", (fc_cu_context * context))                                                    \
    X(import_handle, "cuMemImportFromShareableHandle", (fc_cu_handle * handle, void *shareable, int type))             \
    X(release_handle, "cuMemRelease", (fc_cu_handle handle))                                                           \
    X(reserve, "cuMemAddressReserve",                                                                                  \
      (fc_cu_address * address, size_t bytes, size_t alignment, fc_cu_address wanted, unsigned long long flags))       \
    X(unreserve, "cuMemAddressFree", (fc_cu_address address, size_t bytes))                                            \
    X(map, "cuMemMap",                                                                                                 \
      (fc_cu_address address, size_t bytes, size_t offset, fc_cu_handle handle, unsigned long long flags))             \
    X(unmap, "cuMemUnmap", (fc_cu_address address, size_t bytes))                                                      \
    X(set_access, "cuMemSetAccess", (fc_cu_address address, size_t bytes, const fc_cu_access *access, size_t count))   \
    X(copy_in, "cuMemcpyHtoD_v2", (fc_cu_address to, const void *from, size_t bytes))                                  \
    X(copy_out, "cuMemcpyDtoH_v2", (void *to, fc_cu_address from, size_t bytes))                                       \
    X(synchronize, "cuStreamSynchronize", (fc_cu_stream stream))                                                       \
    X(error_name, "cuGetErrorName", (fc_cu_result error, const char **name))

typedef struct fc_cuda_driver {
#define FC_CUDA_DRIVER_MEMBER(member, symbol, parameters) fc_cu_result(*member) parameters;
    FC_CUDA_DRIVER_CALLS(FC_CUDA_DRIVER_MEMBER)
#undef FC_CUDA_DRIVER_MEMBER
} fc_cuda_driver;

/* The driver, loaded and initialised once a process. NULL: there is none, and *out_why, which lives for ever, says why.
 */
const fc_cuda_driver *fc_cuda_driver_get(const char **out_why);

#endif
