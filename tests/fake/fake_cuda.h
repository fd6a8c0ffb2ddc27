/* Controls of the fake CUDA runtime, exported by build/tests/flashcore-cuda-fake.so and found there with dlsym.
 *
 * The fake is one process-wide device. Work on a stream is put off until somebody waits for the stream or for an event
 * behind it, or has asked for the event often enough, so that whoever forgets to wait reads stale bytes. Device
 * pointers cannot be dereferenced by the host. Host memory of copies has to be pinned. Fresh memory is poisoned.
 * Kernels find tickets that are not 0, a workspace or descriptors that are too small or somebody else's, and spoil all
 * of the workspace; launches that fail leave tickets behind. Any thread.
 *
 * For programs that only open the shared object (the daemon), the environment variable FAKE_CUDA says the same as calls
 * before the first use would:  FAKE_CUDA="fail=12 error=700 sticky=1 devices=1 capability=75 driver=13000 pending=3"
 *
 * FAKE_CUDA_ORDERS names a file that a test writes while they run. Of the calls it may name the next one carries it out
 * and removes it:
 *
 *     copy 700       a copy to the device fails with that error, and so does everything from then on
 *     launch 700     likewise a launch,
 *     wait 700       a wait for a stream or an event,
 *     register 700   the registration of memory
 *     hang 0         a launch hangs, and what waits for its stream: until the same name with ".end" behind it exists
 */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

/* Makes the call-th CUDA call from now (the first is 1) return `error` (a cudaError_t) without doing its work; releases
 * do it all the same. Sticky: so does every later call until fake_cuda_reset(). 0: none fails. */
typedef void (*fake_cuda_fail_fn)(unsigned long call, int error, int is_sticky);
void fake_cuda_fail(unsigned long call, int error, int is_sticky);

/* Calls made since fake_cuda_fail() or fake_cuda_reset(). Asking for names, versions and the last error is no call. */
typedef unsigned long (*fake_cuda_calls_fn)(void);
unsigned long fake_cuda_calls(void);

/* Streams, events and memory that were made and not yet released. */
typedef long (*fake_cuda_live_fn)(void);
long fake_cuda_live(void);

/* What the machine is like. capability: 90 for 9.0. driver: 13000 for CUDA 13.0, 0: none installed. */
typedef void (*fake_cuda_machine_fn)(int devices, int capability, int driver);
void fake_cuda_machine(int devices, int capability, int driver);

/* How often an event that was recorded is said not to be ready, before its work is done all at once. */
typedef void (*fake_cuda_pending_fn)(unsigned queries);
void fake_cuda_pending(unsigned queries);

/* Copies put on streams since the reset, and their bytes. */
typedef struct fake_cuda_copies {
    unsigned long in, out, in_bytes, out_bytes;
} fake_cuda_copies;
typedef fake_cuda_copies (*fake_cuda_copied_fn)(void);
fake_cuda_copies fake_cuda_copied(void);

/* Device memory for tests that play a caller who has some. Returns its device address, and where the host finds its
 * bytes; both go with fake_cuda_release(). Counts as live, and not as a call. NULL: none left. */
typedef void *(*fake_cuda_allocate_fn)(unsigned long bytes, void **out_bytes);
void *fake_cuda_allocate(unsigned long bytes, void **out_bytes);
typedef void (*fake_cuda_release_fn)(void *d_pointer);
void fake_cuda_release(void *d_pointer);

/* No failure planned, no error remembered, one device of capability 9.0 under driver 13.0, two queries pending. */
typedef void (*fake_cuda_reset_fn)(void);
void fake_cuda_reset(void);

/* Kernel launches that ran, and the segments of the last one. */
typedef unsigned long (*fake_cuda_launches_fn)(unsigned *out_last_segments);
unsigned long fake_cuda_launches(unsigned *out_last_segments);

/* Live allocations of the runtime's own, device and pinned, that hold these bytes somewhere. */
typedef unsigned long (*fake_cuda_holders_fn)(const void *bytes, unsigned long size_bytes);
unsigned long fake_cuda_holders(const void *bytes, unsigned long size_bytes);

#endif
