/* See failing_alloc.h. */
#include "tests/support/failing_alloc.h"

#include <errno.h>
#include <stddef.h>

static _Thread_local unsigned countdown;
static _Thread_local bool has_failed;

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

static bool fails_now(void)
{
    if (countdown == 0 || --countdown > 0)
        return false;
    has_failed = true;
    errno = ENOMEM;
    return true;
}

/* The linker's --wrap fixes these names. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    return fails_now() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails_now() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *block, size_t bytes)
{
    return fails_now() ? NULL : __real_realloc(block, bytes);
}
