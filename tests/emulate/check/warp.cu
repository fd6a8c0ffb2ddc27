/* Warp instructions, barriers and copies of the emulator, see main.cu. */
#include "tests/emulate/check/rig.h"

#include "kernels/ptx.cuh"

#include <mma.h>

namespace
{

float value_of(int row, int column)
{
    return (float)((row * 5 + column * 11) % 29 - 14) / 4;
}

/* --- matrices --------------------------------------------------------------------------------------------------- */

struct Loaded {
    uint32_t plain[32][4], transposed[32][4];
};

/* Element (row, column) of matrix m is 64 m + 8 row + column. */
__global__ void load_matrices(const __grid_constant__ fc_device_launch launch)
{
    Loaded *loaded = reinterpret_cast<Loaded *>(launch.workspace);
    __shared__ __align__(16) uint16_t matrices[4][8][8];
    for (int i = threadIdx.x; i < 256; i += 32)
        (&matrices[0][0][0])[i] = (uint16_t)i;
    __syncwarp();
    const uint32_t row = fc_ptx_shared_address(matrices[threadIdx.x / 8][threadIdx.x % 8]);
    fc_ptx_ldmatrix_x4(loaded->plain[threadIdx.x], row);
    fc_ptx_ldmatrix_x4_trans(loaded->transposed[threadIdx.x], row);
}

START_TEST(test_ldmatrix)
{
    Loaded loaded;
    ck_assert_str_eq(run(load_matrices, {1, 32, 0}, &loaded), "");
    for (uint32_t lane = 0; lane < 32; lane++) {
        for (uint32_t m = 0; m < 4; m++) {
            const uint32_t plain = 64 * m + 8 * (lane / 4) + lane % 4 * 2;
            const uint32_t transposed = 64 * m + 8 * (lane % 4 * 2) + lane / 4;
            ck_assert_uint_eq(loaded.plain[lane][m], plain | (plain + 1) << 16);
            ck_assert_uint_eq(loaded.transposed[lane][m], transposed | (transposed + 8) << 16);
        }
    }
}
END_TEST

struct Product {
    float d[16][16];
};

template <typename T> __device__ uint32_t pair_of(float low, float high)
{
    return T(low).bits | (uint32_t)T(high).bits << 16;
}

/* The first eight columns, by the fragment layouts as the PTX manual draws them. */
template <typename T> __global__ void multiply(const __grid_constant__ fc_device_launch launch)
{
    Product *product = reinterpret_cast<Product *>(launch.workspace);
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    float d[4];
    uint32_t a[4], b[2];
    for (int i = 0; i < 4; i++) {
        const int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
        a[i] = pair_of<T>(value_of(row, column), value_of(row, column + 1));
        d[i] = (float)(g + i / 2 * 8);
    }
    for (int i = 0; i < 2; i++)
        b[i] = pair_of<T>(value_of(2 * t + i * 8, g + 100), value_of(2 * t + i * 8 + 1, g + 100));
    fc_ptx_mma<T>(d, a, b[0], b[1]);
    for (int i = 0; i < 4; i++)
        product->d[g + i / 2 * 8][2 * t + i % 2] = d[i];
}

/* All 16 columns through WMMA, b stored by columns. */
template <typename T> __global__ void multiply_wmma(const __grid_constant__ fc_device_launch launch)
{
    using namespace nvcuda;
    Product *product = reinterpret_cast<Product *>(launch.workspace);
    __shared__ __align__(32) T a[16][16], b[16][16];
    __shared__ __align__(32) float d[16][16];
    wmma::fragment<wmma::matrix_a, 16, 16, 16, T, wmma::row_major> left;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, T, wmma::col_major> right;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> rows, sums;
    for (int i = threadIdx.x; i < 256; i += 32) {
        a[i / 16][i % 16] = value_of(i / 16, i % 16);
        b[i / 16][i % 16] = value_of(i % 16, i / 16 + 100);
        d[i / 16][i % 16] = (float)(i / 16);
    }
    __syncwarp();
    wmma::load_matrix_sync(left, &a[0][0], 16);
    wmma::load_matrix_sync(right, &b[0][0], 16);
    wmma::load_matrix_sync(rows, &d[0][0], 16, wmma::mem_row_major);
    wmma::fill_fragment(sums, 0.0f);
    wmma::mma_sync(sums, left, right, sums);
    for (int i = 0; i < sums.num_elements; i++)
        sums.x[i] += rows.x[i]; /* fragments of one type agree on what is where */
    wmma::store_matrix_sync(&product->d[0][0], sums, 16, wmma::mem_row_major);
}

void check_product(const Product &product, int columns)
{
    for (int row = 0; row < 16; row++) {
        for (int column = 0; column < columns; column++) {
            float sum = (float)row;
            for (int k = 0; k < 16; k++)
                sum += value_of(row, k) * value_of(k, column + 100);
            ck_assert_float_eq(product.d[row][column], sum);
        }
    }
}

START_TEST(test_mma)
{
    alignas(32) Product product;
    ck_assert_str_eq(run(multiply<__half>, {1, 32, 0}, &product), "");
    check_product(product, 8);
    ck_assert_str_eq(run(multiply<__nv_bfloat16>, {1, 32, 0}, &product), "");
    check_product(product, 8);
}
END_TEST

START_TEST(test_wmma)
{
    alignas(32) Product product;
    ck_assert_str_eq(run(multiply_wmma<__half>, {1, 32, 0}, &product), "");
    check_product(product, 16);
    ck_assert_str_eq(run(multiply_wmma<__nv_bfloat16>, {1, 32, 0}, &product), "");
    check_product(product, 16);
}
END_TEST

START_TEST(test_halves_round_to_nearest_even)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const __half half = __ushort_as_half((unsigned short)bits);
        const __nv_bfloat16 bfloat = __ushort_as_bfloat16((unsigned short)bits);
        if ((bits & 0x7fff) <= 0x7c00)
            ck_assert_uint_eq(__half((float)half).bits, bits);
        else
            ck_assert(isnan((float)half) && isnan((float)__half((float)half)));
        if ((bits & 0x7fff) <= 0x7f80)
            ck_assert_uint_eq(__nv_bfloat16((float)bfloat).bits, bits);
    }
    ck_assert_uint_eq(__half(1.0f + 0x1p-11f).bits, 0x3c00); /* ties */
    ck_assert_uint_eq(__half(1.0f + 3 * 0x1p-11f).bits, 0x3c02);
    ck_assert_uint_eq(__half(0x1p-25f).bits, 0);
    ck_assert_uint_eq(__half(3 * 0x1p-25f).bits, 2);
    ck_assert_uint_eq(__half(65519.9f).bits, 0x7bff);
    ck_assert_uint_eq(__half(65520.0f).bits, 0x7c00);
    ck_assert_uint_eq(__nv_bfloat16(1.0f + 0x1p-8f).bits, 0x3f80);
    ck_assert_uint_eq(__nv_bfloat16(1.0f + 3 * 0x1p-8f).bits, 0x3f82);
}
END_TEST

/* --- copies ----------------------------------------------------------------------------------------------------- */

struct Copied {
    alignas(16) uint32_t from[2][4];
    uint32_t early, first[4], second_early, second[4];
};

__global__ void copy(const __grid_constant__ fc_device_launch launch)
{
    Copied *copied = reinterpret_cast<Copied *>(launch.workspace);
    uint32_t *to = reinterpret_cast<uint32_t *>(fc_ptx_dynamic_shared());
    for (int i = 0; i < 2; i++) {
        fc_ptx_cp_async_16(fc_ptx_shared_address(to + 4 * i), copied->from[i], i == 0 ? 16 : 6);
        fc_ptx_cp_async_commit();
    }
    copied->early = to[0];
    fc_ptx_cp_async_wait<1>();
    memcpy(copied->first, to, 16);
    copied->second_early = to[4];
    fc_ptx_cp_async_wait<0>();
    memcpy(copied->second, to + 4, 16);
}

START_TEST(test_copies_land_at_their_wait)
{
    Copied copied = {{{1, 2, 3, 4}, {0x11111111, 0x22222222, 3, 4}}, 0, {}, 0, {}};
    ck_assert_str_eq(run(copy, {1, 1, 32}, &copied), "");
    ck_assert_uint_eq(copied.early, 0xffffffff);
    ck_assert_uint_eq(copied.second_early, 0xffffffff);
    ck_assert_int_eq(memcmp(copied.first, copied.from[0], 16), 0);
    ck_assert_uint_eq(copied.second[0], 0x11111111);
    ck_assert_uint_eq(copied.second[1], 0x2222);
    ck_assert_uint_eq(copied.second[2] | copied.second[3], 0);
}
END_TEST

/* --- mistakes --------------------------------------------------------------------------------------------------- */

enum Mistake {
    NONE,
    DIVERGES,
    OVERLAPS,
    MISSES_BARRIER,
    LEAVES_WARP,
    READS_OUTSIDE_MASK,
    MISALIGNED_ROW,
    ROW_OUT_OF_BOUNDS,
    COPY_OUT_OF_BOUNDS,
    WRITES_PAST_SHARED,
    BAD_POINTER,
    MISALIGNED_LOAD,
    COUNT_MISMATCH,
    NOT_SHARED,
};

__device__ void do_wrong(int mistake, unsigned char *shared)
{
    const uint32_t address = fc_ptx_shared_address(shared);
    const unsigned lane = threadIdx.x % 32;
    uint32_t to[4];
    switch (mistake) {
    case DIVERGES:
        if (lane < 16)
            __syncwarp();
        else
            fc_ptx_ldmatrix_x4(to, address + lane * 16);
        break;
    case OVERLAPS:
        __syncwarp(lane < 16 ? 0xffff : 0xffffff00);
        break;
    case MISSES_BARRIER:
        if (threadIdx.x < 32)
            __syncthreads();
        else
            emulate::barrier_wait(1, 64, "bar.sync");
        break;
    case LEAVES_WARP:
        if (lane > 3)
            __syncwarp();
        break;
    case READS_OUTSIDE_MASK:
        if (lane < 16)
            __shfl_xor_sync(0xffff, 1.0f, 16);
        break;
    case MISALIGNED_ROW:
        fc_ptx_ldmatrix_x4(to, address + lane * 16 + (lane == 9 ? 8 : 0));
        break;
    case ROW_OUT_OF_BOUNDS:
        fc_ptx_ldmatrix_x4(to, address + lane * 64);
        break;
    case COPY_OUT_OF_BOUNDS:
        fc_ptx_cp_async_16(address + 1024, shared, 0);
        break;
    case WRITES_PAST_SHARED:
        shared[1024 + threadIdx.x] = 1;
        break;
    case BAD_POINTER:
        *reinterpret_cast<volatile float *>(threadIdx.x * 4) = 1;
        break;
    case MISALIGNED_LOAD:
        __ldg(reinterpret_cast<const float4 *>(shared + 4));
        break;
    case COUNT_MISMATCH:
        if (threadIdx.x < 32)
            emulate::barrier_arrive(1, 64);
        __syncthreads();
        if (threadIdx.x >= 32)
            emulate::barrier_wait(1, 32, "bar.sync");
        break;
    case NOT_SHARED:
        fc_ptx_shared_address(to);
        break;
    }
}

__global__ void mistaken(const __grid_constant__ fc_device_launch launch)
{
    unsigned char *shared = fc_ptx_dynamic_shared();
    memset(shared + 16 * (threadIdx.x % 32), 0, 16);
    do_wrong(*reinterpret_cast<int *>(launch.workspace), shared);
}

const struct {
    Mistake mistake;
    const char *said;
} MISTAKES[] = {
    {DIVERGES, "divergence"},
    {OVERLAPS, "divergence"},
    {MISSES_BARRIER, "deadlock"},
    {LEAVES_WARP, "the kernel"},
    {READS_OUTSIDE_MASK, "which mask 0000ffff does not name"},
    {MISALIGNED_ROW, "not a multiple of 16"},
    {ROW_OUT_OF_BOUNDS, "bytes 1024 to 1040 of dynamic shared memory, which has 1024"},
    {COPY_OUT_OF_BOUNDS, "cp.async: bytes 1024 to 1040"},
    {WRITES_PAST_SHARED, "behind its dynamic shared memory"},
    {BAD_POINTER, "bad access"},
    {MISALIGNED_LOAD, "__ldg"},
    {COUNT_MISMATCH, "while others wait at it for"},
    {NOT_SHARED, "not in shared memory"},
};

START_TEST(test_mistakes_are_reported)
{
    int mistake = MISTAKES[_i].mistake;
    ck_assert_reports(run(mistaken, {3, 64, 1024}, &mistake), MISTAKES[_i].said);
    mistake = NONE; /* and the machine is as good as new */
    ck_assert_str_eq(run(mistaken, {3, 64, 1024}, &mistake), "");
}
END_TEST

/* Shared memory is NaN to every block. */
__global__ void look_and_write(const __grid_constant__ fc_device_launch launch)
{
    int *dirty = reinterpret_cast<int *>(launch.workspace);
    __shared__ uint32_t fixed[32];
    uint32_t *dynamic = reinterpret_cast<uint32_t *>(fc_ptx_dynamic_shared());
    *dirty += fixed[threadIdx.x] != 0xffffffff || dynamic[threadIdx.x] != 0xffffffff;
    fixed[threadIdx.x] = dynamic[threadIdx.x] = 0;
}

START_TEST(test_shared_memory_starts_as_nan)
{
    int dirty = 0;
    ck_assert_str_eq(run(look_and_write, {4, 32, 128}, &dirty), "");
    ck_assert_int_eq(dirty, 0);
}
END_TEST

/* Sums over a warp and over its halves, votes. */
__global__ void combine(const __grid_constant__ fc_device_launch launch)
{
    int *wrong = reinterpret_cast<int *>(launch.workspace);
    const int lane = (int)threadIdx.x;
    int sum = lane, own = 100 + lane;
    for (int by = 16; by > 0; by /= 2)
        sum += __shfl_xor_sync(0xffffffff, sum, by);
    *wrong += sum != 31 * 16;
    *wrong += __shfl_down_sync(0xffffffff, own, 3, 8) != (lane % 8 < 5 ? own + 3 : own);
    *wrong += __shfl_up_sync(0xffffffff, own, 3, 8) != (lane % 8 >= 3 ? own - 3 : own);
    *wrong += __shfl_sync(0xffffffff, own, 9, 8) != 100 + lane / 8 * 8 + 1;
    *wrong += __ballot_sync(0xffffffff, lane % 3 == 0) != 0x49249249;
    *wrong += __any_sync(0xffffffff, lane == 5) != 1 || __all_sync(0xffffffff, lane != 5) != 0;
    *wrong += __reduce_max_sync(0xffffffff, -lane) != 0;
    *wrong += __reduce_add_sync(lane < 16 ? 0xffffu : 0xffff0000u, 1u) != 16;
}

START_TEST(test_shuffles_and_votes)
{
    int wrong = 0;
    ck_assert_str_eq(run(combine, {1, 32, 0}, &wrong), "");
    ck_assert_int_eq(wrong, 0);
}
END_TEST

} // namespace

Suite *warp_suite()
{
    Suite *suite = suite_create("warp");
    TCase *tests = tcase_create("warp");
    tcase_add_test(tests, test_ldmatrix);
    tcase_add_test(tests, test_mma);
    tcase_add_test(tests, test_wmma);
    tcase_add_test(tests, test_halves_round_to_nearest_even);
    tcase_add_test(tests, test_copies_land_at_their_wait);
    tcase_add_loop_test(tests, test_mistakes_are_reported, 0, (int)(sizeof MISTAKES / sizeof *MISTAKES));
    tcase_add_test(tests, test_shared_memory_starts_as_nan);
    tcase_add_test(tests, test_shuffles_and_votes);
    suite_add_tcase(suite, tests);
    return suite;
}
