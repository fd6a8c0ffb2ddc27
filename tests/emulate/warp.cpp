/* Warp intrinsics that move or combine values: see include/cuda_runtime.h. */
#include "tests/emulate/races.h"

#include "cuda_runtime.h"

#include <climits>

namespace emulate
{

namespace
{

struct ShuffleOperands {
    uint64_t own, result;
    Shuffle kind;
    unsigned by, width;
};

/* The lane that `lane` reads. */
unsigned source_lane(unsigned lane, const ShuffleOperands &own)
{
    const unsigned first = lane & ~(own.width - 1), last = first + own.width - 1;
    unsigned source = lane;
    switch (own.kind) {
    case Shuffle::INDEX:
        return first + (own.by & (own.width - 1));
    case Shuffle::UP:
        return lane - first >= own.by ? lane - own.by : lane;
    case Shuffle::DOWN:
        return lane + own.by <= last ? lane + own.by : lane;
    case Shuffle::XOR:
        source = lane ^ own.by;
        /* Lower segments can be read, higher ones not: the manual's rule. */
        return source <= last ? source : lane;
    }
    return lane;
}

void execute_shuffle(Meeting &meeting)
{
    for (uint32_t rest = meeting.mask; rest != 0; rest &= rest - 1) {
        const int lane = __builtin_ctz(rest);
        ShuffleOperands &own = *static_cast<ShuffleOperands *>(meeting.operands[lane]);
        const unsigned source = source_lane((unsigned)lane, own);
        if ((meeting.mask >> source & 1) == 0)
            fail("%s: lane %d reads lane %u, which mask %08x does not name", meeting.instruction, lane, source,
                 meeting.mask);
        own.result = static_cast<ShuffleOperands *>(meeting.operands[source])->own;
    }
}

/* What every lane brings and what all get. */
struct Vote {
    int64_t value, result;
};

template <typename Combine> void execute_vote(Meeting &meeting, int64_t start, Combine combine)
{
    int64_t result = start;
    for (uint32_t rest = meeting.mask; rest != 0; rest &= rest - 1) {
        const int lane = __builtin_ctz(rest);
        result = combine(result, static_cast<Vote *>(meeting.operands[lane])->value, lane);
    }
    for (uint32_t rest = meeting.mask; rest != 0; rest &= rest - 1)
        static_cast<Vote *>(meeting.operands[__builtin_ctz(rest)])->result = result;
}

void execute_ballot(Meeting &meeting)
{
    execute_vote(meeting, 0, [](int64_t a, int64_t b, int lane) { return a | (int64_t)(b != 0) << lane; });
}

void execute_add(Meeting &meeting)
{
    execute_vote(meeting, 0, [](int64_t a, int64_t b, int) { return a + b; });
}

void execute_max(Meeting &meeting)
{
    execute_vote(meeting, INT64_MIN, [](int64_t a, int64_t b, int) { return a < b ? b : a; });
}

void execute_and(Meeting &meeting)
{
    execute_vote(meeting, -1, [](int64_t a, int64_t b, int) { return a & b; });
}

void execute_or(Meeting &meeting)
{
    execute_vote(meeting, 0, [](int64_t a, int64_t b, int) { return a | b; });
}

int64_t vote(unsigned mask, const char *instruction, int64_t value, void (*execute)(Meeting &meeting))
{
    Vote operands = {value, 0};
    warp_meet(mask, instruction, &operands, execute);
    return operands.result;
}

void execute_sync(Meeting &meeting)
{
    races_meet(meeting.mask);
}

} // namespace

uint64_t shuffle(unsigned mask, uint64_t own, Shuffle kind, unsigned by, unsigned width)
{
    static const char *const NAMES[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync"};
    ShuffleOperands operands = {own, 0, kind, by, width};
    if (width == 0 || width > 32 || (width & (width - 1)) != 0)
        fail("%s: width %u", NAMES[(int)kind], width);
    warp_meet(mask, NAMES[(int)kind], &operands, execute_shuffle);
    return operands.result;
}

} // namespace emulate

using emulate::vote;

void __syncwarp(unsigned mask)
{
    emulate::warp_meet(mask, "__syncwarp", nullptr, emulate::execute_sync);
}

unsigned __ballot_sync(unsigned mask, int predicate)
{
    return (unsigned)vote(mask, "__ballot_sync", predicate != 0, emulate::execute_ballot);
}

int __any_sync(unsigned mask, int predicate)
{
    return vote(mask, "__any_sync", predicate != 0, emulate::execute_or) != 0;
}

int __all_sync(unsigned mask, int predicate)
{
    return vote(mask, "__all_sync", predicate != 0, emulate::execute_and) != 0;
}

unsigned __reduce_add_sync(unsigned mask, unsigned value)
{
    return (unsigned)vote(mask, "__reduce_add_sync", value, emulate::execute_add);
}

unsigned __reduce_max_sync(unsigned mask, unsigned value)
{
    return (unsigned)vote(mask, "__reduce_max_sync", value, emulate::execute_max);
}

int __reduce_add_sync(unsigned mask, int value)
{
    return (int)vote(mask, "__reduce_add_sync", value, emulate::execute_add);
}

int __reduce_max_sync(unsigned mask, int value)
{
    return (int)vote(mask, "__reduce_max_sync", value, emulate::execute_max);
}
