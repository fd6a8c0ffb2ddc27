/* libFuzzer's way in: any bytes as a request. Built by `make fuzz` alone. */
#include "tests/fuzz/entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    fc_fuzz_request(bytes, size);
    return 0;
}
