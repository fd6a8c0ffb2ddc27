/* mbarriers, tensor copies and wgmma of the emulator, see main.cu. */
#include "tests/emulate/check/rig.h"

#include "kernels/ptx_hopper.cuh"

#include <vector>

namespace
{

constexpr int ROWS = 64, DEPTH = 64; /* of a: one box */
constexpr int COLUMNS = 128;
constexpr int TENSOR_ROWS = 100; /* of b in memory: boxes reach past its end */

/* a is 64 x 64; b is 100 x 128 in memory, rows of 128. */
struct Data {
    alignas(64) CUtensorMap a, b;
    alignas(16) __half a_bits[ROWS][DEPTH], b_bits[TENSOR_ROWS][COLUMNS];
    float d[ROWS][COLUMNS];
    int mistake;
    uint32_t seen;
};

struct Shared {
    alignas(1024) unsigned char a[ROWS * 128];
    alignas(1024) unsigned char b[2][COLUMNS * 128]; /* boxes of 64 columns */
    alignas(8) uint64_t full, other;
};

enum { NO_MISTAKE, NO_FENCE, OVERWRITES, UNKNOWN_BARRIER, READS_EARLY, FEW_BYTES, ARRIVES_TWICE, ONE_WARP_LESS };

float value_of(int row, int column)
{
    return (float)((row * 7 + column * 13) % 31 - 15) / 8;
}

Data *make_data(int mistake)
{
    Data *data = new Data();
    data->mistake = mistake;
    for (int i = 0; i < ROWS * DEPTH; i++)
        data->a_bits[i / DEPTH][i % DEPTH] = value_of(i / DEPTH, i % DEPTH);
    for (int i = 0; i < TENSOR_ROWS * COLUMNS; i++)
        data->b_bits[i / COLUMNS][i % COLUMNS] = value_of(i / COLUMNS + 3, i % COLUMNS);
    map_matrix(&data->a, {data->a_bits, ROWS, DEPTH, DEPTH, ROWS, 64, CU_TENSOR_MAP_SWIZZLE_128B});
    map_matrix(&data->b, {data->b_bits, TENSOR_ROWS, COLUMNS, COLUMNS, COLUMNS, 64, CU_TENSOR_MAP_SWIZZLE_128B});
    return data;
}

__device__ void wait_for(const uint64_t &barrier, uint32_t parity)
{
    while (!fc_ptx_mbarrier_try_wait(fc_ptx_shared_address(&barrier), parity)) {
    }
}

/* Brings a, and the first 128 rows of b as two boxes: 28 of them are past its end. */
__device__ void load(Shared &shared, const Data *data)
{
    const uint32_t full = fc_ptx_shared_address(&shared.full);
    fc_ptx_mbarrier_init(full, 1);
    fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.other), 2);
    if (data->mistake != UNKNOWN_BARRIER)
        fc_ptx_fence_barrier_init();
    fc_ptx_mbarrier_arrive_expect_tx(full, sizeof shared.a + sizeof shared.b - (data->mistake == FEW_BYTES ? 16 : 0));
    fc_ptx_tma_load_3d(fc_ptx_shared_address(shared.a), &data->a, full, 0, 0, 0);
    for (int box = 0; box < 2; box++)
        fc_ptx_tma_load_3d(fc_ptx_shared_address(shared.b[box]), &data->b, full, box * 64, 0, 0);
    if (data->mistake == ARRIVES_TWICE)
        fc_ptx_mbarrier_arrive(full);
}

__device__ void write_sums(Data *data, const float (&d)[COLUMNS / 2])
{
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
    for (int i = 0; i < COLUMNS / 2; i++)
        data->d[16 * warp + g + i % 4 / 2 * 8][i / 4 * 8 + 2 * c + i % 2] = d[i];
}

__device__ Shared &prepare(Data *data)
{
    Shared &shared = *reinterpret_cast<Shared *>(fc_ptx_dynamic_shared());
    if (threadIdx.x == 0)
        load(shared, data);
    __syncthreads();
    if (data->mistake == READS_EARLY)
        memcpy(&data->seen, shared.a, sizeof data->seen);
    wait_for(shared.full, 0);
    return shared;
}

/* d = a b^T: the rows of b run along k. */
__global__ void multiply_by_rows(const __grid_constant__ fc_device_launch launch)
{
    Data *data = reinterpret_cast<Data *>(launch.workspace);
    Shared &shared = prepare(data);
    float d[COLUMNS / 2];
    if (data->mistake != NO_FENCE)
        fc_ptx_wgmma_fence();
    for (int k = 0; k < DEPTH - (data->mistake == ONE_WARP_LESS && threadIdx.x < 32 ? 16 : 0); k += 16) {
        const uint32_t a = fc_ptx_shared_address(shared.a) + k * 2, b = fc_ptx_shared_address(shared.b[0]) + k * 2;
        fc_ptx_wgmma_ss<__half, COLUMNS>(d, fc_ptx_wgmma_descriptor(a, 0, 1024), fc_ptx_wgmma_descriptor(b, 0, 1024),
                                         k > 0);
    }
    fc_ptx_wgmma_commit();
    if (data->mistake == OVERWRITES && threadIdx.x == 0)
        shared.b[0][5 * 128 + 7] ^= 1;
    fc_ptx_wgmma_wait<0>();
    write_sums(data, d);
}

/* d = a b with a in registers: the columns of b lie side by side in two boxes; k is a's 64 columns. */
__global__ void multiply_by_columns(const __grid_constant__ fc_device_launch launch)
{
    Data *data = reinterpret_cast<Data *>(launch.workspace);
    Shared &shared = prepare(data);
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
    float d[COLUMNS / 2] = {};
    fc_ptx_wgmma_fence();
    for (int k = 0; k < DEPTH; k += 16) {
        uint32_t a[4];
        for (int i = 0; i < 4; i++)
            memcpy(&a[i], &data->a_bits[16 * warp + g + i % 2 * 8][k + 2 * c + i / 2 * 8], 4);
        fc_ptx_wgmma_rs<__half, COLUMNS>(
            d, a, fc_ptx_wgmma_descriptor(fc_ptx_shared_address(shared.b[0]) + k * 128, sizeof shared.b[0], 1024));
    }
    fc_ptx_wgmma_commit();
    fc_ptx_wgmma_wait<0>();
    write_sums(data, d);
}

void check_sums(const Data *data, bool is_by_rows)
{
    for (int row = 0; row < ROWS; row++) {
        for (int column = 0; column < COLUMNS; column++) {
            float sum = 0;
            for (int k = 0; k < DEPTH; k++) {
                const int b_row = is_by_rows ? column : k, b_column = is_by_rows ? k : column;
                sum += (float)data->a_bits[row][k] * (b_row < TENSOR_ROWS ? (float)data->b_bits[b_row][b_column] : 0);
            }
            ck_assert_msg(fabsf(sum - data->d[row][column]) < 1e-3f, "(%d, %d): %g, not %g", row, column,
                          (double)data->d[row][column], (double)sum);
        }
    }
}

const Rig WARPGROUP = {1, 128, sizeof(Shared)};

START_TEST(test_wgmma_of_shared_memory)
{
    Data *data = make_data(NO_MISTAKE);
    ck_assert_str_eq(run(multiply_by_rows, WARPGROUP, data), "");
    check_sums(data, true);
    delete data;
}
END_TEST

START_TEST(test_wgmma_of_registers_and_transposed)
{
    Data *data = make_data(NO_MISTAKE);
    ck_assert_str_eq(run(multiply_by_columns, WARPGROUP, data), "");
    check_sums(data, false);
    delete data;
}
END_TEST

const struct {
    int mistake;
    const char *said;
} MISTAKES[] = {{NO_FENCE, "no wgmma.fence"},
                {OVERWRITES, "of b changed in shared memory"},
                {UNKNOWN_BARRIER, "no fence made the barrier known"},
                {FEW_BYTES, "more bytes came"},
                {ARRIVES_TWICE, "more than the 1 arrivals"},
                {ONE_WARP_LESS, "same number of wgmmas"}};

START_TEST(test_mistakes_are_reported)
{
    Data *data = make_data(MISTAKES[_i].mistake);
    ck_assert_reports(run(multiply_by_rows, WARPGROUP, data), MISTAKES[_i].said);
    delete data;
}
END_TEST

START_TEST(test_bytes_come_late)
{
    Data *data = make_data(READS_EARLY);
    ck_assert_str_eq(run(multiply_by_rows, WARPGROUP, data), "");
    ck_assert_uint_eq(data->seen, 0xffffffff);
    delete data;
}
END_TEST

/* --- stores ------------------------------------------------------------------------------------------------------- */

constexpr int SENT_ROWS = 16, SENT_COLUMNS = 64;      /* the box */
constexpr int TO_ROWS = 20, TO_COLUMNS = 72;          /* the tensor */
constexpr int TO_PITCH = 80;                          /* in memory: 8 columns that are not in it */
constexpr int FIRST_SENT_ROW = 10, FIRST_COLUMN = 16; /* where the box goes: it reaches past both ends */

struct Sent {
    alignas(64) CUtensorMap map;
    alignas(16) uint16_t to[TO_ROWS + 1][TO_PITCH];
    int mistake;
};

enum { NEVER_COMMITS = 1, WRITES_BEFORE_IT_IS_READ, NEVER_WAITS, BEGINS_OUTSIDE };

/* Element (row, column) of the box is 64 row + column. */
__global__ void send(const __grid_constant__ fc_device_launch launch)
{
    Sent *sent = reinterpret_cast<Sent *>(launch.workspace);
    unsigned char *box = reinterpret_cast<unsigned char *>(fc_ptx_dynamic_shared());
    const int lane = threadIdx.x;
    for (int column = 0; column < SENT_COLUMNS; column += 16) {
        /* Matrices: 8 rows, the 8 below, and the same of the next 8 columns. */
        const int piece = column / 8 + lane / 16;
        uint32_t words[4];
        for (int m = 0; m < 4; m++) {
            const uint32_t row = lane / 4 + m % 2 * 8, first = row * 64 + column + m / 2 * 8 + lane % 4 * 2;
            words[m] = first | (first + 1) << 16;
        }
        fc_ptx_stmatrix_x4(fc_ptx_shared_address(box + lane % 16 * 128 + (piece ^ lane % 8) * 16), words);
    }
    fc_ptx_fence_proxy_async();
    __syncwarp();
    if (lane != 0)
        return;
    const int first_row = sent->mistake == BEGINS_OUTSIDE ? -1 : FIRST_SENT_ROW;
    fc_ptx_tma_store_3d(&sent->map, fc_ptx_shared_address(box), FIRST_COLUMN, first_row, 0);
    if (sent->mistake != NEVER_COMMITS)
        fc_ptx_tma_store_commit();
    if (sent->mistake == WRITES_BEFORE_IT_IS_READ)
        box[100] ^= 1;
    if (sent->mistake != NEVER_WAITS)
        fc_ptx_tma_store_wait_read();
}

Sent *make_sent(int mistake)
{
    Sent *sent = new Sent();
    sent->mistake = mistake;
    memset(sent->to, 0xff, sizeof sent->to);
    map_matrix(&sent->map,
               {sent->to, TO_ROWS, TO_COLUMNS, TO_PITCH, SENT_ROWS, SENT_COLUMNS, CU_TENSOR_MAP_SWIZZLE_128B});
    return sent;
}

const Rig SENDER = {1, 32, SENT_ROWS *SENT_COLUMNS * 2};

START_TEST(test_boxes_are_stored_within_the_tensor)
{
    Sent *sent = make_sent(NO_MISTAKE);
    ck_assert_str_eq(run(send, SENDER, sent), "");
    for (int row = 0; row <= TO_ROWS; row++) {
        for (int column = 0; column < TO_PITCH; column++) {
            const bool is_sent =
                row >= FIRST_SENT_ROW && row < TO_ROWS && column >= FIRST_COLUMN && column < TO_COLUMNS;
            ck_assert_uint_eq(sent->to[row][column],
                              is_sent ? (row - FIRST_SENT_ROW) * 64 + column - FIRST_COLUMN : 0xffff);
        }
    }
    delete sent;
}
END_TEST

const struct {
    int mistake;
    const char *said;
} STORE_MISTAKES[] = {{NEVER_COMMITS, "1 stores are in no group"},
                      {WRITES_BEFORE_IT_IS_READ, "was written before the copy that thread 0 started had read it"},
                      {NEVER_WAITS, "the copy engine is still at work"},
                      {BEGINS_OUTSIDE, "a store begins at -1 of dimension 1"}};

START_TEST(test_mistakes_with_stores_are_reported)
{
    Sent *sent = make_sent(STORE_MISTAKES[_i].mistake);
    ck_assert_reports(run(send, SENDER, sent), STORE_MISTAKES[_i].said);
    delete sent;
}
END_TEST

/* --- barriers ----------------------------------------------------------------------------------------------------- */

/* Two warps pass a turn to and fro with named barriers, a third one waits for a phase that never completes. */
__global__ void take_turns(const __grid_constant__ fc_device_launch launch)
{
    int *order = reinterpret_cast<int *>(launch.workspace);
    const unsigned warp = threadIdx.x / 32;
    for (int i = 0; i < 3; i++) {
        if (warp == 1 || i > 0)
            fc_ptx_bar_sync(1 + warp, 64);
        if (threadIdx.x % 32 == 0)
            order[1 + order[0]++] = (int)warp;
        if (warp == 0 || i < 2)
            fc_ptx_bar_arrive(1 + (warp ^ 1), 64);
    }
}

START_TEST(test_named_barriers_order)
{
    int order[7] = {};
    ck_assert_str_eq(run(take_turns, {1, 64, 0}, order), "");
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(order[1 + i], i % 2);
}
END_TEST

__global__ void wait_for_nobody(const __grid_constant__ fc_device_launch)
{
    Shared &shared = *reinterpret_cast<Shared *>(fc_ptx_dynamic_shared());
    if (threadIdx.x == 0)
        fc_ptx_mbarrier_init(fc_ptx_shared_address(&shared.full), 2);
    __syncthreads();
    wait_for(shared.full, 1); /* of a new barrier, the phase before the first is over */
    fc_ptx_mbarrier_arrive(fc_ptx_shared_address(&shared.full));
    wait_for(shared.full, 0);
}

START_TEST(test_phases)
{
    ck_assert_str_eq(run(wait_for_nobody, {1, 2, sizeof(Shared)}, nullptr), "");
    ck_assert_reports(run(wait_for_nobody, {1, 1, sizeof(Shared)}, nullptr), "deadlock");
}
END_TEST

} // namespace

Suite *hopper_suite()
{
    Suite *suite = suite_create("hopper");
    TCase *tests = tcase_create("hopper");
    tcase_add_test(tests, test_wgmma_of_shared_memory);
    tcase_add_test(tests, test_wgmma_of_registers_and_transposed);
    tcase_add_loop_test(tests, test_mistakes_are_reported, 0, (int)(sizeof MISTAKES / sizeof *MISTAKES));
    tcase_add_test(tests, test_bytes_come_late);
    tcase_add_test(tests, test_boxes_are_stored_within_the_tensor);
    tcase_add_loop_test(tests, test_mistakes_with_stores_are_reported, 0,
                        (int)(sizeof STORE_MISTAKES / sizeof *STORE_MISTAKES));
    tcase_add_test(tests, test_named_barriers_order);
    tcase_add_test(tests, test_phases);
    suite_add_tcase(suite, tests);
    return suite;
}
