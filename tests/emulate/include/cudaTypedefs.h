/* The types of driver functions that are looked up by name. */
#ifndef EMULATE_CUDATYPEDEFS_H
#define EMULATE_CUDATYPEDEFS_H

#include <cuda.h>

typedef CUresult (*PFN_cuTensorMapEncodeTiled_v12000)(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank,
                                                      void *address, const cuuint64_t *dims, const cuuint64_t *strides,
                                                      const cuuint32_t *box, const cuuint32_t *steps,
                                                      CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                                      CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);
typedef PFN_cuTensorMapEncodeTiled_v12000 PFN_cuTensorMapEncodeTiled;

#endif
