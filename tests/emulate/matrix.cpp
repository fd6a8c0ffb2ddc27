/* See matrix.h. Products are exact in float; sums run over k in order, in float. Hardware sums several at a time with
 * its own rounding: results agree to float accuracy, not bit for bit. */
#include "tests/emulate/matrix.h"

#include "tests/emulate/races.h"

#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace emulate
{

namespace
{

struct LoadMatrix {
    uint32_t *to;
    int count;
    uint32_t row;
    bool is_transposed;
};

struct StoreMatrix {
    const uint32_t *from;
    int count;
    uint32_t row;
    bool is_transposed;
};

template <typename Operands> const Operands &of_lane(const Meeting &meeting, int lane)
{
    return *static_cast<const Operands *>(meeting.operands[lane]);
}

void execute_load(Meeting &meeting)
{
    const LoadMatrix &first = of_lane<LoadMatrix>(meeting, 0);
    for (int m = 0; m < first.count; m++) {
        uint16_t matrix[8][8];
        for (int row = 0; row < 8; row++) {
            const uint32_t address = of_lane<LoadMatrix>(meeting, m * 8 + row).row;
            const unsigned char *from = shared_bytes(address, 16, 16, "ldmatrix");
            races_read_by(thread_index() / WARP * WARP + m * 8 + row, from, 16);
            memcpy(matrix[row], from, 16);
        }
        for (int lane = 0; lane < WARP; lane++) {
            const int i = lane / 4, j = lane % 4 * 2;
            const uint32_t low = first.is_transposed ? matrix[j][i] : matrix[i][j];
            const uint32_t high = first.is_transposed ? matrix[j + 1][i] : matrix[i][j + 1];
            of_lane<LoadMatrix>(meeting, lane).to[m] = low | high << 16;
        }
    }
}

void execute_store(Meeting &meeting)
{
    const StoreMatrix &first = of_lane<StoreMatrix>(meeting, 0);
    for (int m = 0; m < first.count; m++) {
        uint16_t matrix[8][8];
        for (int lane = 0; lane < WARP; lane++) {
            const int i = lane / 4, j = lane % 4 * 2;
            const uint32_t pair = of_lane<StoreMatrix>(meeting, lane).from[m];
            (first.is_transposed ? matrix[j][i] : matrix[i][j]) = (uint16_t)pair;
            (first.is_transposed ? matrix[j + 1][i] : matrix[i][j + 1]) = (uint16_t)(pair >> 16);
        }
        for (int row = 0; row < 8; row++) {
            const uint32_t address = of_lane<StoreMatrix>(meeting, m * 8 + row).row;
            unsigned char *to = shared_bytes(address, 16, 16, "stmatrix");
            races_write(to, 16);
            memcpy(to, matrix[row], 16);
        }
    }
}

struct Multiply {
    float *d;
    const uint32_t *a, *b;
    int k;
    Half type;
};

template <Half TYPE> float low_half(uint32_t pair)
{
    return TYPE == Half::F16 ? float_of_half((uint16_t)pair) : float_of_bfloat((uint16_t)pair);
}

template <Half TYPE> float high_half(uint32_t pair)
{
    return low_half<TYPE>(pair >> 16);
}

template <Half TYPE> void execute_multiply(Meeting &meeting)
{
    const int k = of_lane<Multiply>(meeting, 0).k;
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < WARP; lane++) {
        const Multiply &own = of_lane<Multiply>(meeting, lane);
        const int g = lane / 4, t = lane % 4 * 2;
        if (own.type != TYPE || own.k != k)
            fail("mma: lanes disagree about its shape or type");
        for (int i = 0; i < k / 4; i++) {
            const int row = g + i % 2 * 8, column = t + i / 2 * 8;
            a[row][column] = low_half<TYPE>(own.a[i]);
            a[row][column + 1] = high_half<TYPE>(own.a[i]);
        }
        for (int i = 0; i < k / 8; i++) {
            b[t + i * 8][g] = low_half<TYPE>(own.b[i]);
            b[t + i * 8 + 1][g] = high_half<TYPE>(own.b[i]);
        }
        for (int i = 0; i < 4; i++)
            d[g + i / 2 * 8][t + i % 2] = own.d[i];
    }
    for (int row = 0; row < 16; row++) {
        for (int i = 0; i < k; i++) {
            for (int column = 0; column < 8; column++)
                d[row][column] += a[row][i] * b[i][column];
        }
    }
    for (int lane = 0; lane < WARP; lane++) {
        const Multiply &own = of_lane<Multiply>(meeting, lane);
        const int g = lane / 4, t = lane % 4 * 2;
        for (int i = 0; i < 4; i++)
            own.d[i] = d[g + i / 2 * 8][t + i % 2];
    }
}

} // namespace

void load_matrix(uint32_t *to, int count, uint32_t row, bool is_transposed)
{
    LoadMatrix operands = {to, count, row, is_transposed};
    warp_meet(FULL_MASK, is_transposed ? "ldmatrix.trans" : "ldmatrix", &operands, execute_load);
}

void store_matrix(const uint32_t *from, int count, uint32_t row, bool is_transposed)
{
    StoreMatrix operands = {from, count, row, is_transposed};
    warp_meet(FULL_MASK, is_transposed ? "stmatrix.trans" : "stmatrix", &operands, execute_store);
}

void multiply_matrix(float *d, const uint32_t *a, const uint32_t *b, int k, Half type)
{
    Multiply operands = {d, a, b, k, type};
    warp_meet(FULL_MASK, k == 16 ? "mma.m16n8k16" : "mma.m16n8k8", &operands,
              type == Half::F16 ? execute_multiply<Half::F16> : execute_multiply<Half::BF16>);
}

} // namespace emulate
