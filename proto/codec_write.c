/* Values to bytes through msgpack-c's packer, which asks for nothing but a place to append to. */
#include "proto/codec_write.h"
#include "proto/codec_read.h"

#include <msgpack.h>
#include <string.h>

fc_writer fc_writer_over(void *buffer, size_t capacity_bytes)
{
    return (fc_writer){.buffer = buffer, .capacity_bytes = capacity_bytes};
}

fc_writer fc_writer_measuring(void)
{
    return (fc_writer){.capacity_bytes = SIZE_MAX};
}

fc_status fc_writer_finish(const fc_writer *writer, size_t *out_size_bytes)
{
    if (writer->status == FC_OK)
        *out_size_bytes = writer->used_bytes;
    return writer->status;
}

size_t fc_writer_bound(const fc_writer *writer)
{
    enum { SPARE = 64 };
    if (writer->status != FC_OK || writer->used_bytes > SIZE_MAX - SPARE)
        return SIZE_MAX;
    return writer->used_bytes + SPARE;
}

/* Takes room_bytes of the buffer, or fails for good. */
static bool take_room(fc_writer *writer, size_t room_bytes, uint8_t **out_room)
{
    if (writer->status != FC_OK)
        return false;
    if (room_bytes > writer->capacity_bytes - writer->used_bytes) {
        writer->status = FC_TOO_LARGE;
        return false;
    }
    *out_room = writer->buffer != NULL ? writer->buffer + writer->used_bytes : NULL;
    writer->used_bytes += room_bytes;
    return true;
}

/* msgpack-c's append callback. */
static int append(void *context, const char *bytes, size_t size_bytes)
{
    fc_writer *writer = context;
    uint8_t *room;
    if (!take_room(writer, size_bytes, &room))
        return -1;
    if (room != NULL && size_bytes > 0)
        memcpy(room, bytes, size_bytes);
    return 0;
}

static msgpack_packer packer(fc_writer *writer)
{
    return (msgpack_packer){.data = writer, .callback = append};
}

void fc_write_map(fc_writer *writer, uint32_t pair_count)
{
    msgpack_packer pk = packer(writer);
    msgpack_pack_map(&pk, pair_count);
}

void fc_write_array(fc_writer *writer, uint32_t count)
{
    msgpack_packer pk = packer(writer);
    msgpack_pack_array(&pk, count);
}

void fc_write_text(fc_writer *writer, fc_wire_text text)
{
    msgpack_packer pk = packer(writer);
    msgpack_pack_str_with_body(&pk, text.text, text.bytes);
}

void fc_write_key(fc_writer *writer, const char *key)
{
    fc_write_text(writer, fc_wire_text_make(key));
}

void fc_write_uint(fc_writer *writer, uint64_t value)
{
    msgpack_packer pk = packer(writer);
    msgpack_pack_uint64(&pk, value);
}

void fc_write_int(fc_writer *writer, int64_t value)
{
    msgpack_packer pk = packer(writer);
    msgpack_pack_int64(&pk, value);
}

void fc_write_double(fc_writer *writer, double value)
{
    msgpack_packer pk = packer(writer);
    msgpack_pack_double(&pk, value);
}

void fc_write_key_uint(fc_writer *writer, const char *key, uint64_t value)
{
    fc_write_key(writer, key);
    fc_write_uint(writer, value);
}

void fc_write_key_float(fc_writer *writer, const char *key, float value)
{
    fc_write_key(writer, key);
    msgpack_packer pk = packer(writer);
    msgpack_pack_float(&pk, value);
}

void fc_write_key_double(fc_writer *writer, const char *key, double value)
{
    fc_write_key(writer, key);
    fc_write_double(writer, value);
}

void fc_write_key_true(fc_writer *writer, const char *key)
{
    fc_write_key(writer, key);
    msgpack_packer pk = packer(writer);
    msgpack_pack_true(&pk);
}

void fc_write_key_text(fc_writer *writer, const char *key, const char *text)
{
    fc_write_key(writer, key);
    fc_write_key(writer, text);
}

void fc_write_key_bytes(fc_writer *writer, const char *key, fc_wire_text text)
{
    fc_write_key(writer, key);
    fc_write_text(writer, text);
}

void fc_write_key_bin(fc_writer *writer, const char *key, const uint8_t *bytes, size_t size_bytes)
{
    fc_write_key(writer, key);
    msgpack_packer pk = packer(writer);
    msgpack_pack_bin(&pk, size_bytes);
    msgpack_pack_bin_body(&pk, bytes, size_bytes);
}

static void write_place_keys(fc_writer *writer, const fc_wire_place *place)
{
    fc_write_key_uint(writer, "arena", place->arena);
    fc_write_key_uint(writer, "offset", place->offset);
}

void fc_write_place(fc_writer *writer, const char *key, const fc_wire_place *place)
{
    fc_write_key(writer, key);
    fc_write_map(writer, 2);
    write_place_keys(writer, place);
}

/* Writes a tensor up to its data's first byte and gives the data's size. False: nothing follows, because it lies in an
 * arena or does not fit. */
static bool begin_tensor(fc_writer *writer, const char *key, const fc_wire_tensor *tensor, size_t *out_data_bytes)
{
    uint64_t data_bytes;
    bool is_placed = tensor->place.is_set;
    if (!fc_tensor_bytes(tensor->dtype, tensor->shape, tensor->rank, &data_bytes) ||
        (!is_placed && data_bytes > UINT32_MAX)) {
        if (writer->status == FC_OK)
            writer->status = FC_TOO_LARGE; /* bin's length has 32 bits */
        return false;
    }
    fc_write_key(writer, key);
    fc_write_map(writer, is_placed ? 4 : 3);
    fc_write_key_text(writer, "dtype", fc_dtype_name(tensor->dtype));
    fc_write_key(writer, "shape");
    fc_write_array(writer, tensor->rank);
    for (uint32_t i = 0; i < tensor->rank; i++)
        fc_write_uint(writer, tensor->shape[i]);
    if (is_placed) {
        write_place_keys(writer, &tensor->place);
        return false;
    }
    fc_write_key(writer, "data");
    msgpack_packer pk = packer(writer);
    msgpack_pack_bin(&pk, (size_t)data_bytes);
    *out_data_bytes = (size_t)data_bytes;
    return true;
}

uint8_t *fc_write_tensor_space(fc_writer *writer, const char *key, const fc_wire_tensor *tensor)
{
    size_t data_bytes;
    uint8_t *room = NULL;
    if (begin_tensor(writer, key, tensor, &data_bytes))
        take_room(writer, data_bytes, &room);
    return room;
}

void fc_write_tensor(fc_writer *writer, const char *key, const fc_wire_tensor *tensor)
{
    uint8_t *room = fc_write_tensor_space(writer, key, tensor);
    if (room == NULL || writer->buffer == NULL || writer->status != FC_OK)
        return;
    size_t data_bytes = (size_t)(writer->buffer + writer->used_bytes - room);
    if (data_bytes != tensor->data_bytes)
        writer->status = FC_INVALID_ARGUMENT;
    else if (data_bytes > 0)
        memcpy(room, tensor->data, data_bytes);
}
