/* Tensors for kernel tests: a host copy and a device copy, with guard bands before and behind. Whatever is not an
 * element (guards, gaps between rows) is NaN, so a kernel that reads there shows it, and one that writes there is found
 * out.
 *
 * One thread. */
#ifndef FC_TESTS_GPU_TENSOR_H
#define FC_TESTS_GPU_TENSOR_H

#include "kernels/attention.h"
#include "tests/gpu/device.h"

typedef enum arrangement { ARRANGED_BHSD, ARRANGED_BSHD, ARRANGED_WITH_GAPS } arrangement;

typedef struct tensor {
    fc_dtype dtype;
    int64_t batch, heads, tokens, head_dim;
    fc_strides strides;
    size_t bytes; /* guards included */
    char *host, *device;
} tensor;

enum { TENSOR_GUARD_BYTES = 4096 };

/* All NaN on the host, nothing on the device yet. */
void tensor_init(tensor *t, device_arena *arena, fc_dtype dtype, arrangement how, const int64_t shape[4]);
void tensor_fini(tensor *t);

void *tensor_elements(const tensor *t);   /* on the host */
void *tensor_d_elements(const tensor *t); /* on the device */

/* Sets one row of head_dim elements to one value. */
void tensor_set_row(tensor *t, int64_t batch, int64_t head, int64_t token, float value);

/* Normal numbers of the given spread; one in `outlier_every` is 10 times as large, N(0, 100) beside N(0, 1) (0: none).
 */
void tensor_fill(tensor *t, float spread, unsigned outlier_every, uint64_t seed);

void tensor_upload(const tensor *t);
void tensor_poison(const tensor *t); /* the device copy, every byte */
void tensor_download(const tensor *t, char *to);

/* How many bytes outside the elements were written. bytes: a download of a tensor that had been poisoned. */
int64_t tensor_stray_bytes(const tensor *t, const char *bytes);

#endif
