/* What a test can tell the fake NVML: found with dlsym() as "fake_nvml". */
#ifndef FC_TESTS_FAKE_NVML_H
#define FC_TESTS_FAKE_NVML_H

#include <stdatomic.h>
#include <stdbool.h>

typedef struct fake_nvml_state {
    const char *uuid; /* of the one device */
    atomic_bool has_no_driver, has_no_power;
    atomic_bool hangs, is_hanging; /* asking for its memory does not return */
    atomic_int shutdown_count;
} fake_nvml_state;

#endif
