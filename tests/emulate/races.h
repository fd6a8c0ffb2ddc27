/* Looks for accesses to shared memory that nothing orders: two threads, at least one writes, no barrier between; and
 * for accesses to device memory before the thread, or one it has heard from since, has waited for the stream's earlier
 * launches (fc_ptx_griddep_wait()).
 * On only in programs whose kernels were compiled with the compiler's instrumentation of accesses (-fsanitize=thread),
 * for which races.cpp is the runtime.
 *
 * And for reads by way of the async proxy, which is the copy engine's and wgmma's, of what a thread wrote to shared
 * memory with no fence.proxy.async since by anyone who knew of it, whatever barriers there are.
 *
 * Vector clocks, as in FastTrack (Flanagan and Freund, 2009): a thread's clock says of every other thread up to when it
 * knows what that one did. Barriers, __syncwarp, mbarriers and their copies carry clocks from thread to thread. Of a
 * place in memory the last write and two of its readers since are kept, so a race with a third reader is missed; and
 * two writes by lanes of one warp pass.
 */
#ifndef FC_TESTS_EMULATE_RACES_H
#define FC_TESTS_EMULATE_RACES_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulate
{

bool races_are_looked_for();

/* What a barrier knows; empty: nothing. */
typedef std::vector<uint32_t> Clock;

void races_start_block(int threads);

/* The running thread reads or writes; what is neither shared nor device memory is passed over. */
void races_read(const void *pointer, size_t bytes);
void races_write(const void *pointer, size_t bytes);
/* The same through the async proxy, on behalf of the running thread: a copy that it starts, an operand of its wgmma. */
void races_read_async(const void *pointer, size_t bytes);
void races_write_async(const void *pointer, size_t bytes);
/* fence.proxy.async by the running thread. */
void races_fence_async();
/* The same of another thread, as far as that has come. */
void races_read_by(int thread, const void *pointer, size_t bytes);

/* What the running thread did so far is known to whoever acquires the clock; and the other way, for any thread. */
void races_release(Clock *clock);
void races_acquire(int thread, const Clock &clock);
void races_join(Clock *clock, const Clock &more);
/* The running thread has waited for the launches before this one, and may touch what they may be at work on. */
void races_follow();
/* The lanes of the mask of the running thread's warp all know what each did. */
void races_meet(uint32_t mask);

} // namespace emulate

#endif
