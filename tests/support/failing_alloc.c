/* See failing_alloc.h. */
#include "tests/support/failing_alloc.h"

#include <errno.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)

bool failing_alloc_is_available(void)
{
    return false;
}

void failing_alloc_arm(unsigned number)
{
    (void)number;
}

bool failing_alloc_disarm(void)
{
    return false;
}

#else

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);

static _Thread_local unsigned countdown;
static _Thread_local bool has_failed;

/* The program's own code, as the linker laid it out. */
extern const char __executable_start[];
extern const char etext[];

static bool fails_now(const void *caller)
{
    if ((const char *)caller < __executable_start || (const char *)caller >= etext)
        return false;
    if (countdown == 0 || --countdown > 0)
        return false;
    has_failed = true;
    errno = ENOMEM;
    return true;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

__attribute__((visibility("default"))) void *realloc(void *block, size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_realloc(block, size);
}

bool failing_alloc_is_available(void)
{
    return true;
}

void failing_alloc_arm(unsigned number)
{
    has_failed = false;
    countdown = number;
}

bool failing_alloc_disarm(void)
{
    countdown = 0;
    return has_failed;
}

#endif
