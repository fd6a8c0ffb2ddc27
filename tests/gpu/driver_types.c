/* client/cuda_driver.h says what cuda.h says: compiled where that is, never run. */
#include "client/cuda_driver.h"

#include <cuda.h>

#define SAME_SIZE(ours, theirs) _Static_assert(sizeof(ours) == sizeof(theirs), #theirs)
#define SAME_PLACE(ours, our_member, theirs, their_member)                                                             \
    _Static_assert(offsetof(ours, our_member) == offsetof(theirs, their_member), #theirs "." #their_member)
#define SAME_VALUE(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)

SAME_SIZE(fc_cu_result, CUresult);
SAME_SIZE(fc_cu_device, CUdevice);
SAME_SIZE(fc_cu_address, CUdeviceptr);
SAME_SIZE(fc_cu_handle, CUmemGenericAllocationHandle);
SAME_SIZE(fc_cu_uuid, CUuuid);
SAME_SIZE(fc_cu_access, CUmemAccessDesc);
SAME_PLACE(fc_cu_access, location_type, CUmemAccessDesc, location.type);
SAME_PLACE(fc_cu_access, location_id, CUmemAccessDesc, location.id);
SAME_PLACE(fc_cu_access, flags, CUmemAccessDesc, flags);
SAME_VALUE(0, CUDA_SUCCESS);
SAME_VALUE(FC_CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
SAME_VALUE(FC_CU_MEM_LOCATION_TYPE_DEVICE, CU_MEM_LOCATION_TYPE_DEVICE);
SAME_VALUE(FC_CU_MEM_ACCESS_FLAGS_PROT_READWRITE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
