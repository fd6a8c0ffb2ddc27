/* See fiber.h. On x86-64 a switch saves the six registers a callee must keep; elsewhere ucontext does it. */
#include "tests/emulate/fiber.h"

#include <cstdint>

#if defined(__x86_64__)

extern "C" void emulate_switch(void **save, void *load);

__asm__(".text\n"
        ".globl emulate_switch\n"
        ".type emulate_switch, @function\n"
        "emulate_switch:\n"
        "    .cfi_startproc\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size emulate_switch, . - emulate_switch\n");

namespace emulate
{

void context_prepare(Context *context, char *stack, size_t bytes, void (*entry)())
{
    /* As emulate_switch leaves a stack: six registers, then where to return to. The ABI wants the stack 16-byte
     * aligned before the call, so 8 off on entry; the word above is the return address of entry(): none. */
    uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t{63};
    void **words = reinterpret_cast<void **>(top) - 8;
    for (int i = 0; i < 6; i++)
        words[i] = nullptr;
    words[6] = reinterpret_cast<void *>(entry);
    words[7] = nullptr;
    context->stack_pointer = words;
}

void context_switch(Context *from, Context *to)
{
    emulate_switch(&from->stack_pointer, to->stack_pointer);
}

} // namespace emulate

#else

#include <ucontext.h>

namespace emulate
{

struct ContextRecord {
    ucontext_t context;
};

void context_prepare(Context *context, char *stack, size_t bytes, void (*entry)())
{
    if (context->record == nullptr)
        context->record = new ContextRecord;
    getcontext(&context->record->context);
    context->record->context.uc_stack.ss_sp = stack;
    context->record->context.uc_stack.ss_size = bytes;
    context->record->context.uc_link = nullptr;
    makecontext(&context->record->context, entry, 0);
}

void context_switch(Context *from, Context *to)
{
    if (from->record == nullptr)
        from->record = new ContextRecord;
    swapcontext(&from->record->context, &to->record->context);
}

} // namespace emulate

#endif
