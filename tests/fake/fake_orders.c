/* Failures at a moment the test chooses, for a daemon that has the fake loaded: see FAKE_CUDA_ORDERS in fake_cuda.h. */
#include "tests/fake/fake_cuda.h"
#include "tests/fake/fake_state.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 512
#define LOOK_AGAIN_MS 1

/* "" when there can be no orders. */
static void path_of(const char *ending, char path[PATH_BYTES])
{
    const char *orders = getenv("FAKE_CUDA_ORDERS");
    snprintf(path, PATH_BYTES, "%s%s", orders != NULL ? orders : "", orders != NULL ? ending : "");
}

/* Under the lock, so that one call takes an order. */
static bool take(const char *call, char what[16])
{
    char path[PATH_BYTES], name[32];
    path_of("", path);
    FILE *file = path[0] != '\0' ? fopen(path, "re") : NULL;
    if (file == NULL)
        return false;
    bool is_meant = fscanf(file, "%31s %15s", name, what) == 2 && strcmp(name, call) == 0;
    fclose(file);
    return is_meant && unlink(path) == 0;
}

cudaError_t fake_order_error(const char *call)
{
    char what[16];
    if (!take(call, what))
        return cudaSuccess;
    cudaError_t error = (cudaError_t)strtol(what, NULL, 10);
    fake_break(error);
    return error;
}

bool fake_order_hangs(const char *call)
{
    char what[16];
    return take(call, what);
}

bool fake_order_is_over(void)
{
    char path[PATH_BYTES];
    path_of(".end", path);
    return path[0] == '\0' || access(path, F_OK) == 0;
}

void fake_order_wait(void)
{
    fake_unlock();
    poll(NULL, 0, LOOK_AGAIN_MS);
    fake_lock();
}
