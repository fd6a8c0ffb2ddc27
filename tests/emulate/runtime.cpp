/* The CUDA runtime of the emulator: device memory is host memory between pages nobody may touch, streams do nothing, a
 * launch runs to its end at once.
 *
 * A launch that fails under the emulator still answers success, as a GPU would at that point, so that a test goes on
 * to say which case it was; the program's exit status is 1 whatever it finds.
 *
 * The device is made up: EMULATE_CAPABILITY (90), EMULATE_PROCESSORS (132), EMULATE_SEED (1: the order of blocks and
 * threads) in the environment change it.
 */
#include "tests/emulate/hopper.h"
#include "tests/emulate/machine.h"

#include "cuda_runtime.h"
#include "kernels/attention_tile.h"
#include "kernels/enqueue.cuh"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include <sys/mman.h>
#include <unistd.h>

namespace
{

constexpr size_t SHARED_OPTIN = 227 << 10, SHARED_DEFAULT = 48 << 10;

cudaError_t last_error;
std::map<void *, std::pair<void *, size_t>> allocations;
const fc_device_launch *running;
std::map<const void *, size_t> shared_limits;
uint64_t launches;

int setting(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text != nullptr ? (int)strtol(text, nullptr, 10) : otherwise;
}

cudaError_t answer(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

} // namespace

namespace emulate
{

bool is_of_earlier_launches(const void *pointer)
{
    const auto after = allocations.upper_bound(const_cast<void *>(pointer));
    const char *place = static_cast<const char *>(pointer);
    if (running == nullptr || after == allocations.begin())
        return false;
    const auto &region = std::prev(after)->second;
    const auto is_among = [place](const void *from, size_t bytes) {
        return place >= static_cast<const char *>(from) && place < static_cast<const char *>(from) + bytes;
    };
    const uint32_t count = running->segment_count;
    return is_among(region.first, region.second) && !is_among(running->segments, count * sizeof(fc_segment)) &&
           !is_among(running->descriptors, count * (size_t)FC_HOPPER_DESCRIPTOR_BYTES);
}

cudaError_t launch(const cudaLaunchConfig_t &config, const void *function, KernelCall call, const void *argument)
{
    const auto limit = shared_limits.find(function);
    const size_t most = limit != shared_limits.end() ? limit->second : SHARED_DEFAULT;
    const size_t shared_bytes = config.dynamicSmemBytes;
    const dim3 grid = config.gridDim, block = config.blockDim;
    const unsigned threads = block.x * block.y * block.z;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0 || threads > THREADS_MAX || block.y * block.z != 1 ||
        grid.y > 65535 || grid.z > 65535 || shared_bytes > most) {
        fprintf(stderr, "emulator: launch of %u x %u x %u blocks of %u threads, %zu bytes of shared memory (%zu set)\n",
                grid.x, grid.y, grid.z, threads, shared_bytes, most);
        return answer(cudaErrorInvalidConfiguration);
    }
    const uint64_t seed = (uint64_t)setting("EMULATE_SEED", 1) * 1000003 + launches++;
    running = static_cast<const fc_device_launch *>(argument);
    run_grid(function, {{grid.x, grid.y, grid.z}, threads, shared_bytes}, call, argument, seed);
    running = nullptr;
    return cudaSuccess;
}

} // namespace emulate

extern "C" {

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return answer(device == 0 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int)
{
    const int capability = setting("EMULATE_CAPABILITY", 90);
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "emulated sm_%d", capability);
    properties->totalGlobalMem = size_t{16} << 30;
    properties->sharedMemPerBlock = SHARED_DEFAULT;
    properties->sharedMemPerBlockOptin = SHARED_OPTIN;
    properties->sharedMemPerMultiprocessor = SHARED_OPTIN + 1024;
    properties->major = capability / 10;
    properties->minor = capability % 10;
    properties->multiProcessorCount = setting("EMULATE_PROCESSORS", 132);
    properties->l2CacheSize = 50 << 20;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp p;
    cudaGetDeviceProperties(&p, device);
    switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)p.sharedMemPerBlock;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        break;
    case cudaDevAttrL2CacheSize:
        *value = p.l2CacheSize;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        break;
    default:
        return answer(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorName(cudaError_t error)
{
    return cudaGetErrorString(error);
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "success";
    case cudaErrorInvalidValue:
        return "invalid value";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration of a launch";
    case cudaErrorNotSupported:
        return "not supported by the emulator";
    case cudaErrorLaunchFailure:
        return "launch failure";
    }
    return "unknown error";
}

cudaError_t cudaDeviceSynchronize(void)
{
    return cudaSuccess;
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

/* Ends where a page ends (to 256 bytes, what CUDA aligns to), so that the first bytes behind it are out of bounds. */
cudaError_t cudaMalloc(void **d_pointer, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), rounded = (bytes + 255) / 256 * 256;
    const size_t open = (rounded + page - 1) / page * page;
    char *region = static_cast<char *>(
        mmap(nullptr, open + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (region == MAP_FAILED || mprotect(region + page, open, PROT_READ | PROT_WRITE) != 0)
        return answer(cudaErrorMemoryAllocation);
    *d_pointer = region + page + (open - rounded);
    allocations[*d_pointer] = {region, open + 2 * page};
    return cudaSuccess;
}

cudaError_t cudaFree(void *d_pointer)
{
    const auto found = allocations.find(d_pointer);
    if (d_pointer == nullptr)
        return cudaSuccess;
    if (found == allocations.end())
        return answer(cudaErrorInvalidValue);
    munmap(found->second.first, found->second.second);
    allocations.erase(found);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes)
{
    *pointer = malloc(bytes);
    return *pointer != nullptr ? cudaSuccess : answer(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *pointer)
{
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind)
{
    if (bytes > 0)
        memmove(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t)
{
    return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    if (bytes > 0)
        memset(to, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t)
{
    return cudaMemset(to, value, bytes);
}

/* --- streams --------------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    *stream = nullptr;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    return cudaStreamCreate(stream);
}

cudaError_t cudaStreamDestroy(cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || (size_t)value > SHARED_OPTIN)
        return answer(cudaErrorInvalidValue);
    shared_limits[function] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads, size_t shared_bytes)
{
    const size_t by_shared = (SHARED_OPTIN + 1024) / (shared_bytes + 1024), by_threads = 2048 / (size_t)threads;
    *blocks = (int)(by_shared < by_threads ? by_shared : by_threads);
    return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPoint(const char *symbol, void **function, unsigned long long,
                                    enum cudaDriverEntryPointQueryResult *result)
{
    const bool is_known = strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
    *function = is_known ? reinterpret_cast<void *>(emulate::tensor_map_encode) : nullptr;
    if (result != nullptr)
        *result = is_known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *result)
{
    return cudaGetDriverEntryPoint(symbol, function, flags, result);
}
}
