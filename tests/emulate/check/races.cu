/* The emulator's look for races, see main.cu. This file alone is compiled with accesses instrumented. */
#include "tests/emulate/check/rig.h"

#include "kernels/ptx_hopper.cuh"

namespace
{

enum Mistake {
    NONE,
    NO_BARRIER,
    BARRIER_OF_THE_WARP,
    NO_SYNCWARP,
    WRITES_TOO_EARLY,
    COPY_WITHOUT_BARRIER,
    ARRIVES_BEFORE_IT_READS,
};

struct Data {
    alignas(16) int from[64][4];
    int sums[64];
    int mistake;
};

struct Shared {
    int values[64];
    alignas(16) int copied[64][4];
    int passed;
    alignas(8) uint64_t full, empty;
};

/* Threads read what a neighbour in the warp, and what one of the other warp wrote. */
__device__ int exchange(int *values, int mistake)
{
    const int thread = (int)threadIdx.x;
    int sum;
    values[thread] = thread;
    if (mistake != NO_SYNCWARP)
        __syncwarp();
    sum = values[thread ^ 1];
    if (mistake == BARRIER_OF_THE_WARP)
        __syncwarp();
    else if (mistake != NO_BARRIER)
        __syncthreads();
    sum += values[thread ^ 32];
    if (mistake != WRITES_TOO_EARLY)
        __syncthreads();
    values[thread] = sum;
    __syncthreads();
    return sum;
}

__device__ int copy(Shared &shared, const Data *data)
{
    const int thread = (int)threadIdx.x;
    fc_ptx_cp_async_16(fc_ptx_shared_address(shared.copied[thread]), data->from[thread], 16);
    fc_ptx_cp_async_commit();
    fc_ptx_cp_async_wait<0>();
    if (data->mistake != COPY_WITHOUT_BARRIER)
        __syncthreads();
    return shared.copied[thread ^ 33][1];
}

/* Thread 0 hands three values to thread 32, one after the other, through two mbarriers. */
__device__ int hand_over(Shared &shared, int mistake)
{
    const uint32_t full = fc_ptx_shared_address(&shared.full), empty = fc_ptx_shared_address(&shared.empty);
    int sum = 0;
    for (uint32_t i = 0; i < 3 && threadIdx.x == 0; i++) {
        while (!fc_ptx_mbarrier_try_wait(empty, i % 2 ^ 1)) {
        }
        shared.passed = (int)i;
        fc_ptx_mbarrier_arrive(full);
    }
    for (uint32_t i = 0; i < 3 && threadIdx.x == 32; i++) {
        while (!fc_ptx_mbarrier_try_wait(full, i % 2)) {
        }
        if (mistake == ARRIVES_BEFORE_IT_READS)
            fc_ptx_mbarrier_arrive(empty);
        sum += shared.passed;
        if (mistake != ARRIVES_BEFORE_IT_READS)
            fc_ptx_mbarrier_arrive(empty);
    }
    return sum;
}

__global__ void share(const __grid_constant__ fc_device_launch launch)
{
    Data *data = reinterpret_cast<Data *>(launch.workspace);
    Shared &shared = *reinterpret_cast<Shared *>(fc_ptx_dynamic_shared());
    __shared__ int fixed[64];
    if (threadIdx.x == 0) {
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.full), 1);
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.empty), 1);
    }
    __syncthreads();
    data->sums[threadIdx.x] = exchange(shared.values, data->mistake) + exchange(fixed, data->mistake) +
                              copy(shared, data) + hand_over(shared, data->mistake);
}

Data make_data(int mistake)
{
    Data data = {};
    data.mistake = mistake;
    for (int i = 0; i < 64; i++)
        data.from[i][1] = i;
    return data;
}

START_TEST(test_no_race_is_seen_where_there_is_none)
{
    Data data = make_data(NONE);
    ck_assert(emulate::races_are_looked_for());
    ck_assert_str_eq(run(share, {4, 64, sizeof(Shared)}, &data), "");
    for (int i = 0; i < 64; i++)
        ck_assert_int_eq(data.sums[i], 2 * ((i ^ 1) + (i ^ 32)) + (i ^ 33) + (i == 32 ? 3 : 0));
}
END_TEST

START_TEST(test_races_are_reported)
{
    Data data = make_data(_i);
    ck_assert_reports(run(share, {1, 64, sizeof(Shared)}, &data), "race: ");
}
END_TEST

/* Block 0 waits for the launches before, and then looks at what they may have written; others do not wait. */
__global__ void follow(const __grid_constant__ fc_device_launch launch)
{
    if (blockIdx.x == 0)
        fc_ptx_griddep_wait();
    reinterpret_cast<volatile int *>(launch.workspace)[threadIdx.x] = 1;
}

/* Thread 0 waits for them. Block 0 meets after that, others before. */
__global__ void follow_one(const __grid_constant__ fc_device_launch launch)
{
    if (blockIdx.x != 0)
        __syncthreads();
    if (threadIdx.x == 0)
        fc_ptx_griddep_wait();
    if (blockIdx.x == 0)
        __syncthreads();
    reinterpret_cast<volatile int *>(launch.workspace)[threadIdx.x] = 1;
}

START_TEST(test_who_does_not_wait_for_earlier_launches_is_reported)
{
    void *d_data = nullptr;
    int local[64];
    ck_assert_int_eq(cudaMalloc(&d_data, sizeof local), cudaSuccess);
    ck_assert_str_eq(run(follow, {1, 64, 0}, d_data), "");
    ck_assert_reports(run(follow, {2, 64, 0}, d_data), "before it, or a thread it has heard from, has waited");
    ck_assert_str_eq(run(follow_one, {1, 64, 0}, d_data), "");
    ck_assert_reports(run(follow_one, {2, 64, 0}, d_data), "before it, or a thread it has heard from, has waited");
    ck_assert_str_eq(run(follow, {2, 64, 0}, local), "");
    cudaFree(d_data);
}
END_TEST

/* What a thread of another warp wrote is copied by thread 0. */
struct Handed {
    alignas(64) CUtensorMap map;
    alignas(16) uint16_t to[8];
    int fences; /* 0: the writer; 1: who starts the copy; else: nobody */
};

__global__ void hand_to_copy(const __grid_constant__ fc_device_launch launch)
{
    Handed *handed = reinterpret_cast<Handed *>(launch.workspace);
    uint16_t *values = reinterpret_cast<uint16_t *>(fc_ptx_dynamic_shared());
    if (threadIdx.x == 32) {
        for (int i = 0; i < 8; i++)
            values[i] = (uint16_t)(i + 1);
        if (handed->fences == 0)
            fc_ptx_fence_proxy_async();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        if (handed->fences == 1)
            fc_ptx_fence_proxy_async();
        fc_ptx_tma_store_3d(&handed->map, fc_ptx_shared_address(values), 0, 0, 0);
        fc_ptx_tma_store_commit();
        fc_ptx_tma_store_wait_read();
    }
}

START_TEST(test_copies_of_what_no_fence_follows_are_reported)
{
    Handed *handed = new Handed();
    map_matrix(&handed->map, {handed->to, 1, 8, 8, 1, 8, CU_TENSOR_MAP_SWIZZLE_NONE});
    for (handed->fences = 0; handed->fences < 2; handed->fences++) {
        ck_assert_str_eq(run(hand_to_copy, {1, 64, 16}, handed), "");
        for (int i = 0; i < 8; i++)
            ck_assert_uint_eq(handed->to[i], i + 1);
        memset(handed->to, 0, sizeof handed->to);
    }
    ck_assert_reports(run(hand_to_copy, {1, 64, 16}, handed), "no fence.proxy.async is between them");
    delete handed;
}
END_TEST

} // namespace

Suite *races_suite()
{
    Suite *suite = suite_create("races");
    TCase *tests = tcase_create("races");
    tcase_add_test(tests, test_no_race_is_seen_where_there_is_none);
    tcase_add_loop_test(tests, test_races_are_reported, NONE + 1, ARRIVES_BEFORE_IT_READS + 1);
    tcase_add_test(tests, test_who_does_not_wait_for_earlier_launches_is_reported);
    tcase_add_test(tests, test_copies_of_what_no_fence_follows_are_reported);
    suite_add_tcase(suite, tests);
    return suite;
}
