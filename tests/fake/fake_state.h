/* What the fake runtime's files share. */
#ifndef FAKE_STATE_H
#define FAKE_STATE_H

#include "kernels/attention.h"
#include "tests/faults/faults.h"

#include <cuda_runtime_api.h>

/* Puts a launch on the stream. FC_INTERNAL, with the last error set, where the runtime says no. */
fc_status fake_stream_launch(cudaStream_t stream, const fc_launch *launch);

/* Where the bytes behind a device pointer really are. NULL unless all `bytes` of them lie in one allocation. */
void *fake_device_bytes(const void *d_pointer, size_t bytes);

/* Every call, a row of tests/faults/cuda.def, begins with enter, which locks and says what the call fails with, and
 * ends with leave. */
cudaError_t fake_enter(fc_fault_row call);
cudaError_t fake_leave(cudaError_t error);

/* The same lock for who makes no call. */
void fake_lock(void);
void fake_unlock(void);

/* Under the lock: counts the call on the page of tests/faults, where there is one, and says what it is to fail with. */
cudaError_t fake_fault(fc_fault_row call);
void fake_fault_note_live(long live); /* what is live goes on that page, too */

/* Between the two. Something was made (1) or released (-1). */
void fake_count(long made);

/* Likewise: from now on every call fails with that. */
void fake_break(cudaError_t error);

/* Likewise: an order of that name is carried out here, if there is one (FAKE_CUDA_ORDERS in fake_cuda.h). The error
 * that every call fails with from now on; whether a launch is to hang, and whether hanging launches may end. wait lets
 * go of the lock for a moment. */
cudaError_t fake_broken(void); /* what every call fails with; cudaSuccess: it does not */
cudaError_t fake_order_error(const char *call);
bool fake_order_hangs(const char *call);
bool fake_order_is_over(void);
void fake_order_wait(void);

/* Likewise: streams as they were at first, but for what is on them; and what fake_cuda_pending() says. */
void fake_stream_reset(void);
void fake_stream_set_pending(unsigned queries);

/* Likewise: is that host memory a copy may use? */
bool fake_is_pinned(const void *bytes, size_t size);

/* Likewise: memory that lies at bytes, and is not the fake's to free, becomes device memory; and no longer is. The
 * device address is returned. NULL: no room for one more. */
void *fake_device_enter(char *bytes, size_t size_bytes);
char *fake_device_leave(const void *d_pointer);

/* Where fake_device_enter() puts memory that lies there. */
void *fake_device_address(char *bytes);

/* The UUID of the one device, and how its shared memory is rounded. */
#define FAKE_DEVICE_UUID "fake-gpu-number0"
enum { FAKE_GRANULE_BYTES = 64 << 10 };

/* Runs the launch on the host, with the reference. Device pointers throughout. */
cudaError_t fake_kernel_run(const fc_launch *launch);

/* A describer of the fake: says in each segment's descriptors whose they are, which the launch then looks up. */
fc_status fake_kernel_describe(const fc_launch *launch, void *out_descriptors);

/* A launch that failed: leaves its tickets as a kernel that was stopped would. */
void fake_kernel_abandon(const fc_launch *launch);

#endif
