/* NumPy's .npy files, format versions 1 to 3 (numpy.lib.format): float16 and float32, C order, little-endian.
 *
 * Files come from anywhere: every length is checked against the bytes that are there before anything is allocated or
 * read. No state, any thread.
 */
#ifndef FC_CLIENT_TOOL_NPY_H
#define FC_CLIENT_TOOL_NPY_H

#include "proto/status.h"
#include "proto/vocab.h"

#include <stdint.h>

#define FC_NPY_RANK_MAX 8

/* What a file's header says, checked. */
typedef struct fc_npy_header {
    fc_dtype dtype; /* FC_F16 or FC_F32 */
    uint32_t rank;
    uint64_t shape[FC_NPY_RANK_MAX];
    size_t data_offset; /* bytes before the elements */
    size_t data_bytes;  /* product of shape times element size */
} fc_npy_header;

/* Reads the header in the first bytes_count bytes of a file of file_bytes bytes. FC_INVALID_ARGUMENT: not a .npy file,
 * or one whose header, dtype, order or length is not ours to read; the reason says what was expected and what found. */
fc_status fc_npy_parse(const void *bytes, size_t bytes_count, uint64_t file_bytes, fc_npy_header *out_header,
                       fc_reason *out_reason);

/* A file's elements in memory of their own. */
typedef struct fc_npy {
    fc_npy_header header;
    void *data; /* header.data_bytes bytes, free() it; never NULL after a load */
} fc_npy;

/* Loads a regular file. The reason begins with the path. FC_INVALID_ARGUMENT as above, FC_IO, FC_NO_MEMORY. On success
 * the caller owns out_npy->data. */
fc_status fc_npy_load(const char *path, fc_npy *out_npy, fc_reason *out_reason);

/* Writes an array whole or not at all (fc_file). dtype FC_F16 or FC_F32, rank <= FC_NPY_RANK_MAX. */
fc_status fc_npy_save(const char *path, fc_dtype dtype, uint32_t rank, const uint64_t *shape, const void *data,
                      fc_reason *out_reason);

/* "(1, 8, 512, 64)", cut to fit. */
void fc_npy_shape_text(uint32_t rank, const uint64_t *shape, char *out, size_t out_bytes);

#endif
