/* libnvidia-ml.so.1 as the daemon sees it, for tests: one device, with the UUID of the fake CUDA runtime's
 * (FAKE_DEVICE_UUID), whose answers a test can change through fake_nvml.
 */
#include "tests/fake/nvml/nvml.h"

#include <sched.h>
#include <string.h>

enum { NOT_FOUND = 6, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9 };

#define EXPORT __attribute__((visibility("default")))

EXPORT fake_nvml_state fake_nvml = {.uuid = "GPU-66616b65-2d67-7075-2d6e-756d62657230"};

int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int error);
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out_device);
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long out[3]);
int nvmlDeviceGetUtilizationRates(void *device, unsigned out[2]);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *out);
int nvmlDeviceGetPowerUsage(void *device, unsigned *out);
int nvmlDeviceGetClockInfo(void *device, int which, unsigned *out);

EXPORT int nvmlInit_v2(void)
{
    return fake_nvml.has_no_driver ? DRIVER_NOT_LOADED : 0;
}

EXPORT int nvmlShutdown(void)
{
    fake_nvml.shutdown_count++;
    return 0;
}

EXPORT const char *nvmlErrorString(int error)
{
    return error == NOT_FOUND ? "Not Found" : error == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Not Supported";
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **out_device)
{
    *out_device = &fake_nvml;
    return strcmp(uuid, fake_nvml.uuid) == 0 ? 0 : NOT_FOUND;
}

EXPORT int nvmlDeviceGetMemoryInfo(void *device, unsigned long long out[3])
{
    (void)device;
    fake_nvml.is_hanging = fake_nvml.hangs;
    while (fake_nvml.hangs)
        sched_yield();
    out[0] = 80ull << 30;
    out[1] = 68ull << 30;
    out[2] = 12ull << 30;
    return 0;
}

EXPORT int nvmlDeviceGetUtilizationRates(void *device, unsigned out[2])
{
    (void)device;
    out[0] = 93;
    out[1] = 40;
    return 0;
}

EXPORT int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *out)
{
    (void)device;
    *out = 67;
    return sensor == 0 ? 0 : NOT_SUPPORTED;
}

EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *out)
{
    (void)device;
    *out = 512300;
    return fake_nvml.has_no_power ? NOT_SUPPORTED : 0;
}

EXPORT int nvmlDeviceGetClockInfo(void *device, int which, unsigned *out)
{
    (void)device;
    *out = 1755;
    return which == 1 ? 0 : NOT_SUPPORTED;
}
