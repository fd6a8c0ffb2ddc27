/* What the parts of the emulator know of each other and device code does not: the block that runs, its memory, reports.
 */
#ifndef FC_TESTS_EMULATE_BLOCK_H
#define FC_TESTS_EMULATE_BLOCK_H

#include <cstddef>
#include <cstdint>

namespace emulate
{

const void *block_kernel();
uint64_t block_progress(); /* grows with every switch between threads */

/* Gives the launch up. Only while a block runs. */
[[noreturn]] void block_abandon();

/* Fills shared memory with NaN for a block that has this many dynamic bytes, and drops copies under way. */
void shared_prepare(size_t dynamic_bytes);
/* Where in shared memory the pointer is; false: nowhere. */
bool shared_offset(const void *pointer, size_t *out_offset);
/* Has the block left what lies behind its dynamic shared memory alone? */
bool shared_is_intact();

/* Is it device memory that earlier launches of the stream may be at work on? That is all but what copies brought this
 * one. */
bool is_of_earlier_launches(const void *pointer);

/* Hopper's state of a block that is over. wgmmas_are_even: did all warps of each warpgroup do the same number? */
void mbarriers_forget();
void tensor_stores_forget();
void wgmmas_forget();
bool wgmmas_are_even();

} // namespace emulate

#endif
