/* The types of the driver's functions that the engine asks for at run time, as the real header has them. */
#ifndef FAKE_CUDA_TYPEDEFS_H
#define FAKE_CUDA_TYPEDEFS_H

#include <cuda.h>

typedef CUresult (*PFN_cuDeviceGetAttribute_v2000)(int *value, CUdevice_attribute attribute, CUdevice device);
typedef CUresult (*PFN_cuMemGetAllocationGranularity_v10020)(size_t *bytes, const CUmemAllocationProp *properties,
                                                             CUmemAllocationGranularity_flags option);
typedef CUresult (*PFN_cuMemCreate_v10020)(CUmemGenericAllocationHandle *handle, size_t bytes,
                                           const CUmemAllocationProp *properties, unsigned long long flags);
typedef CUresult (*PFN_cuMemRelease_v10020)(CUmemGenericAllocationHandle handle);
typedef CUresult (*PFN_cuMemExportToShareableHandle_v10020)(void *shareable, CUmemGenericAllocationHandle handle,
                                                            CUmemAllocationHandleType type, unsigned long long flags);
typedef CUresult (*PFN_cuMemAddressReserve_v10020)(CUdeviceptr *address, size_t bytes, size_t alignment,
                                                   CUdeviceptr wanted, unsigned long long flags);
typedef CUresult (*PFN_cuMemAddressFree_v10020)(CUdeviceptr address, size_t bytes);
typedef CUresult (*PFN_cuMemMap_v10020)(CUdeviceptr address, size_t bytes, size_t offset,
                                        CUmemGenericAllocationHandle handle, unsigned long long flags);
typedef CUresult (*PFN_cuMemUnmap_v10020)(CUdeviceptr address, size_t bytes);
typedef CUresult (*PFN_cuMemSetAccess_v10020)(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access,
                                              size_t count);

#endif
