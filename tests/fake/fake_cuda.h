/* Controls of the fake CUDA runtime, exported by build/tests/flashcore-cuda-fake.so and found there with dlsym.
 *
 * The fake is one process-wide device. Work on a stream is put off until somebody waits for the stream, so that whoever
 * forgets to wait reads stale bytes. Device pointers cannot be dereferenced by the host. Host memory of copies has to
 * be pinned. Fresh memory is poisoned. Kernels find tickets that are not 0, a workspace or descriptors that are too
 * small or somebody else's, and spoil all of the workspace; launches that fail leave tickets behind. Any thread.
 *
 * For programs that only open the shared object (the daemon), the environment variable FAKE_CUDA says the same as calls
 * before the first use would:  FAKE_CUDA="fail=12 error=700 sticky=1 devices=1 capability=75 driver=13000"
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

/* No failure planned, no error remembered, one device of capability 9.0 under driver 13.0. */
typedef void (*fake_cuda_reset_fn)(void);
void fake_cuda_reset(void);

/* Kernel launches that ran, and the segments of the last one. */
typedef unsigned long (*fake_cuda_launches_fn)(unsigned *out_last_segments);
unsigned long fake_cuda_launches(unsigned *out_last_segments);

#endif
