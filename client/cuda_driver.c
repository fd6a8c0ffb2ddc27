/* See cuda_driver.h. What is loaded once stays: nobody unloads a driver that has threads. */
#include "client/cuda_driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define LIBRARY "libcuda.so.1"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static fc_cuda_driver driver;
static char why[160];

typedef struct call_row {
    const char *symbol;
    size_t offset;
} call_row;

static const call_row CALLS[] = {
#define CALL_ROW(member, symbol, parameters) {symbol, offsetof(fc_cuda_driver, member)},
    FC_CUDA_DRIVER_CALLS(CALL_ROW)
#undef CALL_ROW
};

static void load(void)
{
    const char *name = NULL;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        snprintf(why, sizeof why, "no NVIDIA driver: %.120s", dlerror());
        return;
    }
    for (size_t i = 0; i < sizeof CALLS / sizeof CALLS[0]; i++) {
        void *found = dlsym(library, CALLS[i].symbol);
        if (found == NULL) {
            snprintf(why, sizeof why, "%s is too old: it has no %s", LIBRARY, CALLS[i].symbol);
            return;
        }
        memcpy((char *)&driver + CALLS[i].offset, &found, sizeof found);
    }
    fc_cu_result result = driver.init(0);
    if (result == 0)
        return;
    driver.error_name(result, &name);
    snprintf(why, sizeof why, "the NVIDIA driver does not start: %.60s", name != NULL ? name : "unknown error");
}

const fc_cuda_driver *fc_cuda_driver_get(const char **out_why)
{
    pthread_once(&once, load);
    *out_why = why;
    return why[0] == '\0' ? &driver : NULL;
}
