/* An engine: the thing behind a lane that owns a device, its streams, its staging memory, and runs requests on it.
 *
 * Two exist: `cpu`, linked into the daemon, and `cuda`, a shared object the daemon opens with dlopen. Both are reached
 * through one table of functions. Threads: open, close and describe on one thread; plan, staging_bytes and the memory
 * calls on any thread; a lane belongs to the one thread that opened it. Lifetime: close an engine after its lanes, and
 * after what was registered with it is unregistered.
 */
#ifndef FC_KERNELS_ENGINE_H
#define FC_KERNELS_ENGINE_H

#include "kernels/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised with every change to a struct or function below: a daemon refuses a shared object of another version. */
#define FC_ENGINE_ABI_VERSION 7

typedef struct fc_engine fc_engine;
typedef struct fc_engine_lane fc_engine_lane;

typedef struct fc_engine_config {
    int32_t device_index;      /* CUDA ordinal; ignored by the CPU */
    int32_t thread_count;      /* CPU threads of one launch; 0: all this process may use */
    size_t lane_staging_bytes; /* pinned and device bytes a lane sets aside for the inputs and outputs of one launch */
    uint32_t lane_segments;    /* batch entries one launch may hold */
    uint32_t lane_jobs;        /* jobs one launch may hold */
    uint32_t spin_us;          /* how long a lane waits awake for the device before it sleeps */
    bool scrubs;               /* after each launch, clear what it left in the lane's memory, before lane_run returns */
} fc_engine_config;

typedef struct fc_engine_info {
    fc_device device;
    char device_name[96];  /* "NVIDIA H100 80GB HBM3", "cpu: ... avx512 amx, 2 threads" */
    uint64_t device_bytes; /* device memory; 0 for the CPU */
    bool has_kernel[FC_KERNEL_COUNT];
    fc_kernel default_kernel;    /* what auto means on this engine; FC_KERNEL_AUTO: that depends on the problem */
    uint32_t lane_count;         /* the engine's own choice: CPU 1, CUDA 2 to 4 */
    size_t launch_bytes;         /* beyond so many staging bytes more jobs only make a launch longer; 0: never */
    size_t memory_granule_bytes; /* sizes of fc_engine_memory are multiples of it; 0: there is none to be had, */
    char memory_why[96];         /* and why */
    uint8_t device_uuid[16];     /* names the device in every process that sees it; zeroes for the CPU */
} fc_engine_info;

/* What kind of memory a tensor lies in. */
typedef enum fc_memory_kind {
    FC_MEMORY_HOST,       /* the process's, at any alignment */
    FC_MEMORY_REGISTERED, /* host memory inside a region of memory_register(): the device copies from and to it */
    FC_MEMORY_DEVICE      /* the engine's device: kernels use the address as it is. Aligned as fc_tensors says. */
} fc_memory_kind;

typedef struct fc_memory_place {
    fc_memory_kind kind;
    const void *region; /* REGISTERED: its base. Tensors of one may travel in one copy, with what lies between. */
} fc_memory_place;

/* Of the tensors of a job; {0}: all are plain host memory. */
typedef struct fc_memory_places {
    fc_memory_place q, k, v, out, lse; /* of an lse that is NULL: plain */
} fc_memory_places;

/* Device memory of its own that other processes can map, too: no neighbour shares its pages. */
typedef struct fc_engine_memory {
    void *d_base; /* its device address in this process; NULL: there is none */
    size_t size_bytes;
    int fd; /* stands for it where others are to map it; the holder's to close and then to set to -1 */
} fc_engine_memory;

/* One request as a lane runs it. Its memory is borrowed until lane_run returns. Somebody else may write to registered
 * and device memory meanwhile: answers then are whatever they are, and nobody else's suffer. */
typedef struct fc_engine_job {
    fc_problem problem;
    fc_plan plan;
    fc_tensors tensors; /* lse may be NULL here: then it is computed and dropped */
    fc_memory_places places;
} fc_engine_job;

/* Microseconds of one launch, the same for every request in it: kernel and copy_out as the device saw them (of a launch
 * like others before it, as it saw them on one of those), copy_in the rest of what it took. */
typedef struct fc_engine_timing {
    double copy_in_us, kernel_us, copy_out_us;
} fc_engine_timing;

typedef struct fc_engine_ops {
    uint32_t abi_version;
    const char *name; /* "cpu", "cuda" */

    /* FC_UNSUPPORTED: no such device or driver; FC_NO_MEMORY; FC_INTERNAL. The reason is one line for the log. */
    fc_status (*open)(const fc_engine_config *config, fc_engine **out_engine, fc_reason *out_reason);
    void (*close)(fc_engine *engine); /* NULL is fine */
    void (*describe)(const fc_engine *engine, fc_engine_info *out_info);

    /* fc_plan_make() for this engine's device. Any thread. */
    fc_status (*plan)(const fc_engine *engine, fc_kernel wanted, const fc_problem *problem, fc_plan *out_plan,
                      fc_reason *out_reason);

    /* Staging bytes a job needs of its lane; a launch's jobs must fit config.lane_staging_bytes together, and a job
     * that alone needs more is too large for this server. Tensors in device memory need none, nor does the CPU, which
     * stages nothing. places NULL: host memory throughout. Any thread. */
    size_t (*staging_bytes)(const fc_engine *engine, const fc_problem *problem, const fc_memory_places *places);

    /* Makes host memory, whole pages of it, fit for FC_MEMORY_REGISTERED. Takes a millisecond per some 10 MiB, during
     * which lanes may stall. Its pages stay as they are now: who maps other pages there later (or punches holes in the
     * file behind them) parts the device's view from the host's. FC_NO_MEMORY, FC_DEVICE_LOST, FC_INTERNAL: it is plain
     * host memory still. Regions do not overlap. Any thread. */
    fc_status (*memory_register)(fc_engine *engine, void *base, size_t size_bytes, fc_reason *out_reason);

    /* Before the memory is unmapped, and after every lane_run with a job in it has returned. A device that is lost does
     * not matter any more. Any thread. */
    void (*memory_unregister)(fc_engine *engine, void *base);

    /* Memory of size_bytes, at least 1, rounded up to the granule, and filled with zeroes. Takes a millisecond and
     * more: not for a lane's thread. NULL where info.memory_granule_bytes is 0. FC_NO_MEMORY: the device has not so
     * much; FC_DEVICE_LOST; FC_INTERNAL. Any thread. */
    fc_status (*memory_open)(fc_engine *engine, size_t size_bytes, fc_engine_memory *out_memory, fc_reason *out_reason);

    /* Lets go of it, once no launch uses it; it is free when whoever else mapped it has let go, too. Before the
     * engine is closed. Any thread. */
    void (*memory_close)(fc_engine *engine, fc_engine_memory *memory);

    fc_status (*lane_open)(fc_engine *engine, fc_engine_lane **out_lane, fc_reason *out_reason);
    void (*lane_close)(fc_engine_lane *lane); /* NULL is fine */

    /* Runs job_count >= 1 jobs that can share a launch, as one launch, and returns when every output is in host
     * memory. On failure outputs hold nothing of use. FC_DEVICE_LOST: the device is gone; every later call says so too.
     * FC_INTERNAL, FC_NO_MEMORY: this launch failed, the lane stays usable. */
    fc_status (*lane_run)(fc_engine_lane *lane, const fc_engine_job *jobs, uint32_t job_count,
                          fc_engine_timing *out_timing, fc_reason *out_reason);
} fc_engine_ops;

/* The engine linked in. */
const fc_engine_ops *fc_engine_cpu(void);

/* The one symbol a CUDA engine's shared object exports for the daemon, found with dlsym under this name. */
#define FC_ENGINE_SYMBOL "flashcore_engine_cuda"
typedef const fc_engine_ops *(*fc_engine_entry)(void);

#ifdef __cplusplus
}
#endif

#endif
