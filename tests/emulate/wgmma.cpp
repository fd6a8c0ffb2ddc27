/* wgmma: see hopper.h.
 *
 * A warp does its 16 of the 64 rows by itself. What it reads from shared memory is looked at when the instruction is
 * issued and again at the wait that covers it: a difference means that somebody wrote too early, or that the data was
 * not there yet. Sums are NaN in between; chains of wgmmas on the same sums keep their value here.
 */
#include "tests/emulate/block.h"
#include "tests/emulate/hopper.h"
#include "tests/emulate/machine.h"

#include "cuda_bf16.h"
#include "cuda_fp16.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

namespace emulate
{

namespace
{

constexpr int K = 16, ROWS = 16, N_MAX = 256, WARPS_MAX = THREADS_MAX / WARP;

/* 16-bit elements in shared memory, line by k, as a descriptor leads to them. */
struct Operand {
    uint64_t descriptor;
    bool is_transposed;
    int first_line, lines;
    std::vector<uint16_t> bits; /* at issue, eight contiguous elements after another */
};

/* A warp's sums under way: the value, and where it goes. */
struct Sums {
    int n;
    float *d[WARP];
    float value[ROWS][N_MAX];
    unsigned last_group;
};

struct Operation {
    Sums *sums;
    int n;
    bool accumulates;
    Half type;
    Operand a, b; /* a.lines 0: from registers */
    float a_values[ROWS][K];
    unsigned group;
};

struct WarpState {
    std::vector<std::unique_ptr<Operation>> operations;
    std::map<float *, std::unique_ptr<Sums>> sums; /* by lane 0's */
    unsigned group, count;
    bool is_fenced;
};

WarpState warps[WARPS_MAX];

WarpState &own_state()
{
    return warps[thread_index() / WARP];
}

/* The shared address of element (line, k). Layouts of the PTX manual's "matrix descriptor": rows of 32, 64 or 128
 * bytes, 16-byte pieces xor-ed with address bits 7 and up; without a swizzle, 8 x 16-byte core matrices. */
uint32_t element_address(const Operand &operand, int line, int k)
{
    const uint64_t d = operand.descriptor;
    const uint32_t start = (uint32_t)(d & 0x3fff) << 4, leading = (uint32_t)(d >> 16 & 0x3fff) << 4,
                   stride = (uint32_t)(d >> 32 & 0x3fff) << 4, mode = (uint32_t)(d >> 62);
    const uint32_t bits = mode == 0 ? 0 : 4 - mode, row_bytes = 16u << bits; /* 1: 128, 2: 64, 3: 32 bytes */
    uint32_t address = start;
    if (!operand.is_transposed) {
        address += (uint32_t)line / 8 * stride + (uint32_t)line % 8 * row_bytes;
        address += mode == 0 ? (uint32_t)k / 8 * leading + (uint32_t)k % 8 * 2 : (uint32_t)k * 2;
    } else {
        const uint32_t columns = row_bytes / 2;
        if (mode == 0)
            fail("wgmma: a transposed operand without a swizzle, which is not modelled");
        address += (uint32_t)line / columns * leading + (uint32_t)line % columns * 2;
        address += (uint32_t)k / 8 * stride + (uint32_t)k % 8 * row_bytes;
    }
    return address ^ ((address >> 7 & ((1u << bits) - 1)) << 4);
}

/* Eight elements stay together along the direction that is contiguous: along k, or along the lines. */
void read_operand(const Operand &operand, std::vector<uint16_t> &to)
{
    const int line_step = operand.is_transposed ? 8 : 1, k_step = operand.is_transposed ? 1 : 8;
    size_t at = 0;
    to.resize((size_t)operand.lines * K);
    if (operand.descriptor >> 49 & 7)
        fail("wgmma: a descriptor with a base offset, which is not modelled");
    for (int line = 0; line < operand.lines; line += line_step) {
        for (int k = 0; k < K; k += k_step, at += 8) {
            const uint32_t address = element_address(operand, operand.first_line + line, k);
            const unsigned char *from = shared_bytes(address, 16, 16, "wgmma");
            races_read_async(from, 16);
            memcpy(&to[at], from, 16);
        }
    }
}

template <Half TYPE> float float_of(uint16_t bits)
{
    return TYPE == Half::F16 ? float_of_half(bits) : float_of_bfloat(bits);
}

template <Half TYPE> void convert(const std::vector<uint16_t> &bits, float *to)
{
    for (size_t i = 0; i < bits.size(); i++)
        to[i] = float_of<TYPE>(bits[i]);
}

/* Where element i of a thread's sums is among the warp's rows. */
int row_of(int lane, int i)
{
    return lane / 4 + i % 4 / 2 * 8;
}

int column_of(int lane, int i)
{
    return i / 4 * 8 + lane % 4 * 2 + i % 2;
}

/* Takes the sums over from the threads' registers, unless a wgmma under way has them already. */
Sums *take_sums(WarpState &state, const Meeting &meeting)
{
    const Wgmma &first = *static_cast<Wgmma *>(meeting.operands[0]);
    std::unique_ptr<Sums> &sums = state.sums[first.d];
    if (sums != nullptr) {
        if (sums->n != first.n)
            fail("wgmma: %d columns of sums that another of %d columns is still at work on", first.n, sums->n);
        return sums.get();
    }
    sums = std::make_unique<Sums>();
    sums->n = first.n;
    for (int lane = 0; lane < WARP; lane++) {
        float *d = static_cast<Wgmma *>(meeting.operands[lane])->d;
        sums->d[lane] = d;
        for (int i = 0; i < first.n / 2; i++) {
            sums->value[row_of(lane, i)][column_of(lane, i)] = d[i];
            d[i] = NAN;
        }
    }
    return sums.get();
}

template <Half TYPE> void take_registers(Operation &operation, const Meeting &meeting)
{
    for (int lane = 0; lane < WARP; lane++) {
        const uint32_t *a = static_cast<Wgmma *>(meeting.operands[lane])->a_registers;
        for (int i = 0; i < 8; i++) {
            const int row = lane / 4 + i / 2 % 2 * 8, k = i / 4 * 8 + lane % 4 * 2 + i % 2;
            operation.a_values[row][k] = float_of<TYPE>((uint16_t)(a[i / 2] >> i % 2 * 16));
        }
    }
}

void execute_issue(Meeting &meeting)
{
    WarpState &state = own_state();
    const Wgmma &first = *static_cast<Wgmma *>(meeting.operands[0]);
    auto operation = std::make_unique<Operation>();
    for (const void *operands : meeting.operands) {
        const Wgmma &own = *static_cast<const Wgmma *>(operands);
        if (own.n != first.n || own.b != first.b || own.a != first.a || own.accumulates != first.accumulates)
            fail("wgmma: lanes disagree about its operands");
    }
    if (!state.is_fenced)
        fail("wgmma: no wgmma.fence since the last wait");
    if (first.is_a_transposed)
        fail("wgmma: a transposed a, which is not modelled");
    if (first.n % 8 != 0 || first.n > N_MAX)
        fail("wgmma: %d columns", first.n);
    operation->n = first.n;
    operation->type = first.type;
    operation->accumulates = first.accumulates;
    operation->group = state.group;
    operation->sums = take_sums(state, meeting);
    operation->sums->last_group = state.group;
    operation->b = {first.b, first.is_b_transposed, 0, first.n, {}};
    read_operand(operation->b, operation->b.bits);
    if (first.a_registers != nullptr) {
        (first.type == Half::F16 ? take_registers<Half::F16> : take_registers<Half::BF16>)(*operation, meeting);
    } else {
        operation->a = {first.a, first.is_a_transposed, thread_index() / WARP % 4 * ROWS, ROWS, {}};
        read_operand(operation->a, operation->a.bits);
    }
    state.operations.push_back(std::move(operation));
    state.count++;
}

void check_unchanged(const Operand &operand, const char *which)
{
    static std::vector<uint16_t> now;
    read_operand(operand, now);
    for (size_t i = 0; i < now.size() && memcmp(now.data(), operand.bits.data(), 2 * now.size()) != 0; i++) {
        const int eight = (int)i / 8, within = (int)i % 8;
        const int line = operand.is_transposed ? eight / K * 8 + within : eight / (K / 8);
        const int k = operand.is_transposed ? eight % K : eight % (K / 8) * 8 + within;
        if (now[i] != operand.bits[i])
            fail("wgmma: element (%d, %d) of %s changed in shared memory between the wgmma and its wait, %04x to %04x",
                 line + operand.first_line, k, which, operand.bits[i], now[i]);
    }
}

/* d += a b for a block of columns whose sums fit registers. */
void multiply_block(const float (&a)[ROWS][K], const float (*b)[N_MAX], float (*d)[N_MAX])
{
    for (int row = 0; row < ROWS; row++) {
        float sums[8];
        for (int column = 0; column < 8; column++)
            sums[column] = d[row][column];
        for (int k = 0; k < K; k++) {
            for (int column = 0; column < 8; column++)
                sums[column] += a[row][k] * b[k][column];
        }
        for (int column = 0; column < 8; column++)
            d[row][column] = sums[column];
    }
}

template <Half TYPE> void compute(Operation &operation)
{
    static float flat[K * N_MAX], b[K][N_MAX];
    float(*d)[N_MAX] = operation.sums->value;
    check_unchanged(operation.b, "b");
    if (operation.a.lines > 0) {
        check_unchanged(operation.a, "a");
        convert<TYPE>(operation.a.bits, &operation.a_values[0][0]);
    }
    convert<TYPE>(operation.b.bits, flat);
    for (int i = 0; i < operation.n * K; i++) {
        if (operation.b.is_transposed)
            b[i / 8 % K][i / 8 / K * 8 + i % 8] = flat[i];
        else
            b[i % K][i / K] = flat[i];
    }
    for (int row = 0; row < ROWS && !operation.accumulates; row++)
        std::fill(d[row], d[row] + operation.n, 0.0f);
    for (int column = 0; column < operation.n; column += 8)
        multiply_block(operation.a_values, reinterpret_cast<float(*)[N_MAX]>(&b[0][column]),
                       reinterpret_cast<float(*)[N_MAX]>(&d[0][column]));
}

void execute_wait(Meeting &meeting)
{
    WarpState &state = own_state();
    const int pending = *static_cast<int *>(meeting.operands[0]);
    const auto is_done = [&](unsigned group) { return (uint64_t)group + (uint64_t)pending < state.group; };
    size_t done = 0;
    while (done < state.operations.size() && is_done(state.operations[done]->group)) {
        Operation &operation = *state.operations[done++];
        (operation.type == Half::F16 ? compute<Half::F16> : compute<Half::BF16>)(operation);
    }
    state.operations.erase(state.operations.begin(), state.operations.begin() + (ptrdiff_t)done);
    for (auto entry = state.sums.begin(); entry != state.sums.end();) {
        const Sums &sums = *entry->second;
        if (!is_done(sums.last_group)) {
            ++entry;
            continue;
        }
        for (int lane = 0; lane < WARP; lane++) {
            for (int i = 0; i < sums.n / 2; i++)
                sums.d[lane][i] = sums.value[row_of(lane, i)][column_of(lane, i)];
        }
        entry = state.sums.erase(entry);
    }
    state.is_fenced = false;
    races_meet(meeting.mask); /* any lane may now say that the operands have been read */
}

void execute_fence(Meeting &)
{
    own_state().is_fenced = true;
}

void execute_commit(Meeting &)
{
    own_state().group++;
}

void execute_nothing(Meeting &)
{
}

} // namespace

void wgmmas_forget()
{
    for (WarpState &state : warps) {
        state.operations.clear();
        state.sums.clear();
        state.group = state.count = 0;
        state.is_fenced = false;
    }
}

bool wgmmas_are_even()
{
    for (int i = 0; i < WARPS_MAX; i++) {
        if (warps[i].count != warps[i / 4 * 4].count)
            return false;
    }
    return true;
}

void wgmma(const Wgmma &operands)
{
    Wgmma own = operands;
    warp_meet(FULL_MASK, "wgmma", &own, execute_issue);
}

void wgmma_fence()
{
    warp_meet(FULL_MASK, "wgmma.fence", nullptr, execute_fence);
}

void wgmma_commit()
{
    warp_meet(FULL_MASK, "wgmma.commit_group", nullptr, execute_commit);
}

void wgmma_wait(int pending)
{
    warp_meet(FULL_MASK, "wgmma.wait_group", &pending, execute_wait);
}

void set_registers(int count)
{
    if (count % 8 != 0 || count < 24 || count > 256)
        fail("setmaxnreg: %d registers", count);
    warp_meet(FULL_MASK, "setmaxnreg", nullptr, execute_nothing);
}

} // namespace emulate
