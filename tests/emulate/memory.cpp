/* Shared memory and copies into it: see machine.h.
 *
 * Dynamic shared memory lies in front of a page nobody may touch; what is left of its last page is watched. Static
 * shared memory is thread_local to the compiler (cuda_runtime.h) and nothing else in the program is, so it is the
 * program's thread-local segment. Both get addresses in a 32-bit window like the hardware's.
 */
#include "tests/emulate/block.h"
#include "tests/emulate/machine.h"
#include "tests/emulate/races.h"

#include <cstring>
#include <vector>

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cuda_runtime.h"

namespace emulate
{

namespace
{

constexpr size_t DYNAMIC_MAX = 227 << 10;
constexpr size_t REGION_BYTES = 256 << 10;
/* As on sm_90, where the system keeps the first 1024 bytes; wgmma's descriptors have 18 bits for an address. */
constexpr uint32_t DYNAMIC_WINDOW = 0x400;
constexpr uint32_t STATIC_WINDOW = 0x00100000;
constexpr uintptr_t ALIGNMENT = 1024;
constexpr unsigned char POISON = 0xff;

struct Copy {
    unsigned char *to;
    const void *from;
    uint32_t size, bytes, group;
};

struct Memory {
    unsigned char *dynamic;
    size_t dynamic_bytes, open_bytes;
    unsigned char *fixed; /* static shared memory */
    size_t fixed_bytes;
    std::vector<Copy> copies[THREADS_MAX];
    uint32_t group[THREADS_MAX]; /* the one that is open */
};

Memory memory;

int find_static(dl_phdr_info *info, size_t, void *)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_TLS)
            continue;
        memory.fixed = static_cast<unsigned char *>(info->dlpi_tls_data);
        memory.fixed_bytes = info->dlpi_phdr[i].p_memsz;
    }
    return 1; /* the first is the program itself */
}

void open_memory()
{
    void *region = mmap(nullptr, 2 * REGION_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    memory.dynamic = static_cast<unsigned char *>(region);
    dl_iterate_phdr(find_static, nullptr);
}

uint32_t static_window()
{
    return STATIC_WINDOW + (uint32_t)(reinterpret_cast<uintptr_t>(memory.fixed) % ALIGNMENT);
}

void land(const Copy &copy)
{
    races_write(copy.to, copy.size);
    memcpy(copy.to, copy.from, copy.bytes);
    memset(copy.to + copy.bytes, 0, copy.size - copy.bytes);
}

} // namespace

void shared_prepare(size_t dynamic_bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), open_bytes = (dynamic_bytes + page - 1) / page * page;
    if (memory.dynamic == nullptr)
        open_memory();
    if (open_bytes != memory.open_bytes) {
        mprotect(memory.dynamic, REGION_BYTES, PROT_NONE);
        mprotect(memory.dynamic, open_bytes, PROT_READ | PROT_WRITE);
    }
    memory.open_bytes = open_bytes;
    memory.dynamic_bytes = dynamic_bytes;
    memset(memory.dynamic, POISON, open_bytes);
    if (memory.fixed != nullptr)
        memset(memory.fixed, POISON, memory.fixed_bytes);
    mbarriers_forget();
    tensor_stores_forget();
    wgmmas_forget();
    for (unsigned t = 0; t < block_threads(); t++) {
        memory.copies[t].clear();
        memory.group[t] = 0;
    }
}

bool shared_offset(const void *pointer, size_t *out_offset)
{
    const unsigned char *byte = static_cast<const unsigned char *>(pointer);
    if (byte >= memory.dynamic && byte < memory.dynamic + memory.dynamic_bytes)
        *out_offset = (size_t)(byte - memory.dynamic);
    else if (byte >= memory.fixed && byte < memory.fixed + memory.fixed_bytes)
        *out_offset = REGION_BYTES + (size_t)(byte - memory.fixed);
    else
        return false;
    return true;
}

bool shared_is_intact()
{
    for (size_t i = memory.dynamic_bytes; i < memory.open_bytes; i++) {
        if (memory.dynamic[i] != POISON)
            return false;
    }
    return true;
}

unsigned char *dynamic_shared()
{
    return memory.dynamic;
}

uint32_t shared_address(const void *pointer, const char *instruction)
{
    const unsigned char *byte = static_cast<const unsigned char *>(pointer);
    if (byte >= memory.dynamic && byte < memory.dynamic + REGION_BYTES)
        return DYNAMIC_WINDOW + (uint32_t)(byte - memory.dynamic);
    if (byte >= memory.fixed && byte < memory.fixed + memory.fixed_bytes)
        return static_window() + (uint32_t)(byte - memory.fixed);
    fail("%s: %p is not in shared memory", instruction, pointer);
}

unsigned char *shared_bytes(uint32_t address, size_t bytes, size_t alignment, const char *instruction)
{
    const uint64_t end = (uint64_t)address + bytes;
    if (address % alignment != 0)
        fail("%s: shared address %#x is not a multiple of %zu", instruction, address, alignment);
    if (address >= DYNAMIC_WINDOW && end <= DYNAMIC_WINDOW + memory.dynamic_bytes)
        return memory.dynamic + (address - DYNAMIC_WINDOW);
    if (address >= static_window() && end <= static_window() + memory.fixed_bytes)
        return memory.fixed + (address - static_window());
    if (address >= DYNAMIC_WINDOW && address < DYNAMIC_WINDOW + REGION_BYTES)
        fail("%s: bytes %u to %u of dynamic shared memory, which has %zu", instruction, address - DYNAMIC_WINDOW,
             (unsigned)(end - DYNAMIC_WINDOW), memory.dynamic_bytes);
    fail("%s: shared address %#x is none that fc_ptx_shared_address() gave", instruction, address);
}

void check_global(const void *pointer, size_t bytes, const char *instruction)
{
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0)
        fail("%s: %p is not a multiple of %zu", instruction, pointer, bytes);
}

/* --- cp.async --------------------------------------------------------------------------------------------------- */

void copy_async(uint32_t to, const void *from, uint32_t size, uint32_t bytes)
{
    const int thread = thread_index();
    unsigned char *target = shared_bytes(to, size, size, "cp.async");
    check_global(from, size, "cp.async");
    if (bytes > size)
        fail("cp.async: %u bytes of %u", bytes, size);
    races_write(target, size);
    if (bytes > 0)
        races_read(from, bytes);
    memset(target, POISON, size);
    memory.copies[thread].push_back({target, from, size, bytes, memory.group[thread]});
}

void copy_commit()
{
    memory.group[thread_index()]++;
}

void copy_wait(unsigned pending)
{
    const int thread = thread_index();
    std::vector<Copy> &copies = memory.copies[thread];
    size_t landed = 0;
    /* Groups are closed in order: those below group - pending have to be there. */
    while (landed < copies.size() && (uint64_t)copies[landed].group + pending < memory.group[thread])
        land(copies[landed++]);
    copies.erase(copies.begin(), copies.begin() + (ptrdiff_t)landed);
}

} // namespace emulate
