/* For checks of the emulator itself: runs a kernel of the project's shape and hands back what was reported of it.
 *
 * A kernel finds its test's data as launch.workspace. */
#ifndef FC_TESTS_EMULATE_CHECK_RIG_H
#define FC_TESTS_EMULATE_CHECK_RIG_H

#include "kernels/enqueue.cuh"
#include "tests/emulate/hopper.h"
#include "tests/emulate/races.h"
#include "tests/emulate/report.h"

#include <cstring>

#include <check.h>
#undef fail /* Check's old name for ck_abort */

struct Rig {
    unsigned blocks, threads;
    size_t shared_bytes;
};

/* "": the launch went well. */
static inline const char *run(fc_device_kernel kernel, const Rig &rig, void *data)
{
    fc_device_launch launch = {};
    launch.workspace = static_cast<char *>(data);
    emulate::report_silently();
    emulate::report_take();
    cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                         227 << 10);
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(rig.blocks);
    config.blockDim = dim3(rig.threads);
    config.dynamicSmemBytes = rig.shared_bytes;
    ck_assert_int_eq(cudaLaunchKernelEx(&config, kernel, launch), cudaSuccess);
    return emulate::report_take();
}

/* 16-bit elements in memory, `pitch` of them from row to row, and the box that a copy moves. */
struct Matrix {
    void *bits;
    cuuint64_t rows, columns, pitch;
    cuuint32_t box_rows, box_columns;
    CUtensorMapSwizzle swizzle;
};

static inline void map_matrix(CUtensorMap *map, const Matrix &m)
{
    const cuuint64_t dims[3] = {m.columns, m.rows, 1}, strides[2] = {m.pitch * 2, m.rows * m.pitch * 2};
    const cuuint32_t box[3] = {m.box_columns, m.box_rows, 1}, steps[3] = {1, 1, 1};
    ck_assert_int_eq(emulate::tensor_map_encode(map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, m.bits, dims, strides, box,
                                                steps, CU_TENSOR_MAP_INTERLEAVE_NONE, m.swizzle,
                                                CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                     CUDA_SUCCESS);
}

#define ck_assert_reports(said, words)                                                                                 \
    do {                                                                                                               \
        const char *text = (said);                                                                                     \
        ck_assert_msg(strstr(text, words) != nullptr, "reported: \"%s\", not \"%s\"", text, words);                    \
    } while (0)

Suite *warp_suite();
Suite *hopper_suite();
Suite *races_suite();

#endif
