/* Values to bytes, in memory the caller provides. Internal to the codec, and the only file beside codec_write.c that a
 * change of the msgpack library would touch.
 *
 * A writer goes on after a failure, writing nothing more: the caller looks once, at fc_writer_finish(). A measuring
 * writer counts and copies nothing. No state beside the writer, any thread.
 */
#ifndef FC_PROTO_CODEC_WRITE_H
#define FC_PROTO_CODEC_WRITE_H

#include "proto/message.h"

typedef struct fc_writer {
    uint8_t *buffer; /* NULL: measuring */
    size_t capacity_bytes, used_bytes;
    fc_status status; /* the first failure */
} fc_writer;

fc_writer fc_writer_over(void *buffer, size_t capacity_bytes);
fc_writer fc_writer_measuring(void);
/* FC_TOO_LARGE: the buffer, or a tensor for its 32-bit length. FC_INVALID_ARGUMENT: a tensor whose data_bytes
 * contradict its shape. */
fc_status fc_writer_finish(const fc_writer *writer, size_t *out_size_bytes);
/* What was measured plus room for values that may still change (timings, batch); SIZE_MAX: too large to encode. */
size_t fc_writer_bound(const fc_writer *writer);

void fc_write_map(fc_writer *writer, uint32_t pair_count);
void fc_write_array(fc_writer *writer, uint32_t count);
void fc_write_key(fc_writer *writer, const char *key);
void fc_write_uint(fc_writer *writer, uint64_t value);
void fc_write_int(fc_writer *writer, int64_t value);
void fc_write_double(fc_writer *writer, double value);
void fc_write_text(fc_writer *writer, fc_wire_text text);

void fc_write_key_uint(fc_writer *writer, const char *key, uint64_t value);
void fc_write_key_float(fc_writer *writer, const char *key, float value);
void fc_write_key_double(fc_writer *writer, const char *key, double value);
void fc_write_key_true(fc_writer *writer, const char *key);
void fc_write_key_text(fc_writer *writer, const char *key, const char *text);
void fc_write_key_bytes(fc_writer *writer, const char *key, fc_wire_text text);

void fc_write_key_bin(fc_writer *writer, const char *key, const uint8_t *bytes, size_t size_bytes);

void fc_write_place(fc_writer *writer, const char *key, const fc_wire_place *place);

/* A tensor with its data copied in, or with its place in an arena; a measuring writer reads the shape alone. */
void fc_write_tensor(fc_writer *writer, const char *key, const fc_wire_tensor *tensor);
/* A tensor up to its data: leaves room for it and says where (NULL after a failure, and
 * for one in an arena). tensor->data is not read. */
uint8_t *fc_write_tensor_space(fc_writer *writer, const char *key, const fc_wire_tensor *tensor);

#endif
