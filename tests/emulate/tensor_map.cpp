/* Tensor maps and the copies they describe, both ways: see hopper.h. A map's 128 bytes hold what the caller gave, in a
 * layout of our own. */
#include "tests/emulate/block.h"
#include "tests/emulate/hopper.h"
#include "tests/emulate/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

namespace emulate
{

namespace
{

constexpr uint32_t MARK = 0x70616d74; /* "tmap" */
constexpr int RANK_MAX = 5;
constexpr unsigned char POISON = 0xff;
const char NAME[] = "cp.async.bulk.tensor";

struct Map {
    uint32_t mark;
    uint8_t rank, element_bytes, swizzle, steps[RANK_MAX];
    uint64_t address;
    uint32_t dims[RANK_MAX], box[RANK_MAX];
    uint64_t strides[RANK_MAX - 1]; /* of dimensions 1 and up, in bytes */
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap), "the map's size is the driver's");

/* What one copy moves: its place in the tensor, and in shared memory. */
struct Box {
    Map map;
    int32_t coordinates[RANK_MAX];
    uint32_t shared;
};

struct Load {
    Box box;
    uint32_t barrier;
    Clock clock; /* of who started it */
};

struct Store {
    Box box;
    int thread;
    std::vector<unsigned char>
        bytes; /* of shared memory when it was started: nobody may write there before it is read */
};

/* A thread's stores: those in no group yet, and all that are not done. */
struct Stores {
    int open, under_way;
};
Stores stores[THREADS_MAX];

uint32_t element_bytes(CUtensorMapDataType type)
{
    switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
        return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
        return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
        return 4;
    default:
        return 8;
    }
}

CUresult refuse(const char *why)
{
    fprintf(stderr, "emulator: cuTensorMapEncodeTiled: %s\n", why);
    return CUDA_ERROR_INVALID_VALUE;
}

/* Bytes of a row of the swizzle's atom; 0: no swizzle. */
uint32_t swizzle_bytes(uint32_t swizzle)
{
    return swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 0 : 16u << swizzle;
}

/* 16-byte pieces of a row stand at their number xor the row's number: address bits 4 and up xor bits 7 and up. */
uint32_t swizzled(uint32_t address, uint32_t swizzle)
{
    return address ^ ((address >> 7 & ((1u << swizzle) - 1)) << 4);
}

uint64_t box_bytes(const Map &map)
{
    uint64_t bytes = map.element_bytes;
    for (int i = 0; i < map.rank; i++)
        bytes *= map.box[i];
    return bytes;
}

/* Where a row of the box begins in memory, as if from element 0 of its dimension 0; NULL: outside the tensor. `row`
 * counts through the box's other dimensions. */
char *row_at(const Box &box, uint32_t row)
{
    const Map &map = box.map;
    uint64_t offset = 0;
    for (int i = 1; i < map.rank; i++) {
        const int64_t place = box.coordinates[i] + (int64_t)(row % map.box[i]);
        row /= map.box[i];
        if (place < 0 || place >= (int64_t)map.dims[i])
            return nullptr;
        offset += (uint64_t)place * map.strides[i - 1];
    }
    return reinterpret_cast<char *>(map.address + offset);
}

/* Calls move(in shared memory, in the tensor; NULL: outside) for every element of the box. */
template <typename Move> void for_elements(const Box &box, Move move)
{
    const Map &map = box.map;
    const uint32_t row_bytes = map.box[0] * map.element_bytes, rows = (uint32_t)(box_bytes(map) / row_bytes);
    const int64_t row_end = (int64_t)map.dims[0] * map.element_bytes;
    for (uint32_t row = 0; row < rows; row++) {
        char *begin = row_at(box, row);
        /* 16 bytes stay together under every swizzle. */
        for (uint32_t piece = 0; piece < row_bytes; piece += 16) {
            const uint32_t address = swizzled(box.shared + row * row_bytes + piece, map.swizzle);
            const int64_t place = (int64_t)box.coordinates[0] * map.element_bytes + piece;
            unsigned char *at = shared_bytes(address, 16, 16, NAME);
            for (int i = 0; i < 16; i += map.element_bytes) {
                const bool is_inside = begin != nullptr && place + i >= 0 && place + i < row_end;
                move(at + i, is_inside ? begin + place + i : nullptr);
            }
        }
    }
}

void finish_load(void *event)
{
    Load *load = static_cast<Load *>(event);
    const size_t bytes = load->box.map.element_bytes;
    for_elements(load->box, [bytes](unsigned char *shared, const char *element) {
        if (element != nullptr)
            memcpy(shared, element, bytes);
        else
            memset(shared, 0, bytes);
    });
    mbarrier_complete(load->barrier, (uint32_t)box_bytes(load->box.map), load->clock);
    delete load;
}

void finish_store(void *event)
{
    Store *store = static_cast<Store *>(event);
    const size_t bytes = store->box.map.element_bytes;
    if (memcmp(shared_bytes(store->box.shared, store->bytes.size(), 1, NAME), store->bytes.data(),
               store->bytes.size()) != 0)
        fail("%s: shared address %#x was written before the copy that thread %d started had read it", NAME,
             store->box.shared, store->thread);
    for_elements(store->box, [bytes](const unsigned char *shared, char *element) {
        if (element != nullptr)
            memcpy(element, shared, bytes);
    });
    stores[store->thread].under_way--;
    delete store;
}

bool are_stores_done(void *of_thread)
{
    return static_cast<Stores *>(of_thread)->under_way == 0;
}

/* The box of a copy that the running thread starts, and the bytes in shared memory. */
Box make_box(const void *map, uint32_t shared, const int32_t *coordinates, int rank, unsigned char **out_bytes)
{
    Box box;
    check_global(map, 64, NAME);
    memcpy(static_cast<void *>(&box.map), map, sizeof box.map);
    if (box.map.mark != MARK)
        fail("%s: %p holds no tensor map", NAME, map);
    if (box.map.rank != rank)
        fail("%s: %d coordinates for a map of %d dimensions", NAME, rank, box.map.rank);
    /* With a swizzle the atom repeats every 8 rows: an address that is no multiple of it would shift the pattern. */
    const uint32_t atom = 8 * swizzle_bytes(box.map.swizzle);
    *out_bytes = shared_bytes(shared, box_bytes(box.map), atom > 128 ? atom : 128, NAME);
    box.shared = shared;
    memcpy(box.coordinates, coordinates, (size_t)rank * sizeof *coordinates);
    return box;
}

} // namespace

void tensor_load(uint32_t to, const void *map, uint32_t barrier, const int32_t *coordinates, int rank)
{
    Load *load = new Load;
    unsigned char *target;
    load->box = make_box(map, to, coordinates, rank, &target);
    mbarrier_check_known(barrier, NAME);
    races_write_async(target, box_bytes(load->box.map));
    races_read(reinterpret_cast<const void *>(load->box.map.address), 1);
    races_release(&load->clock);
    memset(target, POISON, box_bytes(load->box.map));
    load->barrier = barrier;
    later(finish_load, load);
}

void tensor_store(const void *map, uint32_t from, const int32_t *coordinates, int rank)
{
    Store *store = new Store;
    unsigned char *source;
    store->box = make_box(map, from, coordinates, rank, &source);
    for (int i = 0; i < rank; i++) {
        if (coordinates[i] < 0) /* a GPU's "illegal instruction" */
            fail("%s: a store begins at %d of dimension %d", NAME, coordinates[i], i);
    }
    races_read_async(source, box_bytes(store->box.map));
    races_write(reinterpret_cast<void *>(store->box.map.address), 1);
    store->thread = thread_index();
    store->bytes.assign(source, source + box_bytes(store->box.map));
    stores[store->thread].open++;
    stores[store->thread].under_way++;
    later(finish_store, store);
}

void tensor_store_commit()
{
    stores[thread_index()].open = 0;
}

void tensor_store_wait()
{
    Stores &own = stores[thread_index()];
    if (own.open > 0)
        fail("cp.async.bulk.wait_group: %d stores are in no group", own.open);
    wait_until(are_stores_done, &own, "stores (cp.async.bulk.wait_group)");
}

void tensor_stores_forget()
{
    std::fill(stores, stores + block_threads(), Stores{});
}

CUresult tensor_map_encode(CUtensorMap *out_map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                           const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box,
                           const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                           CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill)
{
    Map map = {};
    if (rank < 1 || rank > RANK_MAX)
        return refuse("rank");
    if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
        return refuse("interleave and NaN fill are not modelled");
    if (reinterpret_cast<uintptr_t>(out_map) % 64 != 0)
        return refuse("the map has to be 64-byte aligned");
    map.mark = MARK;
    map.rank = (uint8_t)rank;
    map.element_bytes = (uint8_t)element_bytes(type);
    map.swizzle = (uint8_t)swizzle;
    map.address = reinterpret_cast<uint64_t>(address);
    if (map.address % 16 != 0)
        return refuse("the address is not a multiple of 16");
    for (cuuint32_t i = 0; i < rank; i++) {
        if (dims[i] == 0 || dims[i] > (cuuint64_t)1 << 32 || box[i] == 0 || box[i] > 256 || steps[i] != 1)
            return refuse("a dimension of 0, a box of 0 or more than 256, or a step that is not 1");
        if (i > 0 && (strides[i - 1] % 16 != 0 || strides[i - 1] >= (cuuint64_t)1 << 40))
            return refuse("a stride that is no multiple of 16, or 2^40 and more");
        map.dims[i] = (uint32_t)dims[i];
        map.box[i] = box[i];
        map.steps[i] = 1;
        if (i > 0)
            map.strides[i - 1] = strides[i - 1];
    }
    if (box[0] * map.element_bytes % 16 != 0)
        return refuse("the box's rows are no multiple of 16 bytes");
    if (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && box[0] * map.element_bytes > swizzle_bytes(map.swizzle))
        return refuse("the box's rows are longer than the swizzle's");
    memset(out_map, 0, sizeof *out_map);
    memcpy(static_cast<void *>(out_map), &map, sizeof map);
    return CUDA_SUCCESS;
}

} // namespace emulate
