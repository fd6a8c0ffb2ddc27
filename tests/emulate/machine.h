/* A GPU's multiprocessor for one block at a time, in one OS thread: CUDA threads are fibers, a warp instruction is a
 * meeting of the fibers its mask names, a barrier a meeting of the block. See README.md for what is modelled.
 *
 * The device headers in include/ are the users. Everything runs in the thread that launches.
 */
#ifndef FC_TESTS_EMULATE_MACHINE_H
#define FC_TESTS_EMULATE_MACHINE_H

#include <cstddef>
#include <cstdint>

namespace emulate
{

constexpr int WARP = 32;
constexpr int THREADS_MAX = 1024;
constexpr uint32_t FULL_MASK = 0xffffffffu;

/* --- who runs --------------------------------------------------------------------------------------------------- */

int thread_index(); /* of the running fiber in its block */
int lane_index();

/* Ends the launch: prints the message with kernel, block, thread and the lines of code that led there. The launch
 * leaves its outputs as they are; the program's exit status becomes 1 whatever main() says. */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* --- meetings --------------------------------------------------------------------------------------------------- */

/* The lanes that met: operands[lane] is what each brought; others' are NULL. */
struct Meeting {
    uint32_t mask, arrived;
    const char *instruction;
    void *operands[WARP];
};

/* Waits until all lanes of the mask are at the same instruction; the last one does `execute`, then all go on. */
void warp_meet(uint32_t mask, const char *instruction, void *operands, void (*execute)(Meeting &meeting));

/* Waits for `count` threads at barrier `id` (0 to 15), as bar.sync; arrive does not wait, as bar.arrive. */
void barrier_wait(unsigned id, unsigned count, const char *instruction);
void barrier_arrive(unsigned id, unsigned count);
unsigned block_threads(); /* all of them */

/* Gives others a turn until is_over(argument) or nothing can happen any more, which is a deadlock. */
void wait_until(bool (*is_over)(void *argument), void *argument, const char *instruction);

/* Something under way that nobody computes (a bulk copy): done when it pleases the scheduler, at the latest when no
 * thread can run. */
void later(void (*happen)(void *event), void *event);

/* --- shared memory ---------------------------------------------------------------------------------------------- */

unsigned char *dynamic_shared();
uint32_t shared_address(const void *pointer, const char *instruction);
/* The bytes at an address of the shared window; fails when they are not all shared memory or not aligned. */
unsigned char *shared_bytes(uint32_t address, size_t bytes, size_t alignment, const char *instruction);

/* Fails unless the pointer is aligned to `bytes`. */
void check_global(const void *pointer, size_t bytes, const char *instruction);

/* --- cp.async --------------------------------------------------------------------------------------------------- */

/* The bytes arrive at the wait that covers them; until then the destination is NaN. */
void copy_async(uint32_t to, const void *from, uint32_t size, uint32_t bytes);
void copy_commit();
void copy_wait(unsigned pending);

/* --- launching (the runtime's side) ------------------------------------------------------------------------------ */

struct LaunchShape {
    unsigned blocks[3];
    unsigned threads;
    size_t dynamic_shared_bytes;
};

/* Calls the kernel with a copy of its argument, in each of its threads. */
typedef void (*KernelCall)(const void *kernel, const void *argument);

/* Runs every block to its end, in an order drawn from the seed. False: failed, and reported. */
bool run_grid(const void *kernel, const LaunchShape &shape, KernelCall call, const void *argument, uint64_t seed);

} // namespace emulate

#endif
