/* Fibers: a stack each, switched without a system call where we know how. One OS thread. */
#ifndef FC_TESTS_EMULATE_FIBER_H
#define FC_TESTS_EMULATE_FIBER_H

#include <cstddef>

namespace emulate
{

#if !defined(__x86_64__)
struct ContextRecord;
#endif

/* Where a fiber stopped. */
struct Context {
#if defined(__x86_64__)
    void *stack_pointer;
#else
    ContextRecord *record;
#endif
};

/* Makes `context` start in entry() on the stack [stack, stack + bytes); entry never returns. The same context may be
 * prepared again at any time it is not running. */
void context_prepare(Context *context, char *stack, size_t bytes, void (*entry)());

/* Stops here, goes on there. */
void context_switch(Context *from, Context *to);

} // namespace emulate

#endif
