/* Controls of the fake libcuda.so.1. Any thread. */
#ifndef FAKE_DRIVER_H
#define FAKE_DRIVER_H

#include <stddef.h>

/* Makes the call-th call from now (the first is 1) fail, releases excepted; 0: none. */
void fake_driver_fail(unsigned long call);

/* Contexts retained, handles, address ranges and mappings that were not released yet. */
long fake_driver_live(void);

/* How many devices this process sees; the server's is the second of two. */
void fake_driver_devices(int count);

#endif
