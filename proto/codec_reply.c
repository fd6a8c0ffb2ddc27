/* Replies: encode on the server, decode on the client. */
#include "proto/codec.h"
#include "proto/codec_read.h"
#include "proto/codec_scan.h"
#include "proto/codec_write.h"

#include <math.h>
#include <string.h>

static const fc_scan_rules REPLY_RULES = {FC_SCAN_REPLY_ITEMS, NULL, FC_BAD_REPLY};

static fc_status read_envelope(const fc_reader *reader, fc_wire_reply *reply)
{
    uint64_t proto = 0;
    fc_wire_text word = {NULL, 0};
    fc_status st = fc_read_uint(reader, "proto", FC_REQUIRED, UINT64_MAX, &proto);
    if (st == FC_OK && proto != FC_PROTO_VERSION)
        return fc_fail(FC_BAD_REPLY, reader->reason, "proto: expected %d, got %llu", FC_PROTO_VERSION,
                       (unsigned long long)proto);
    if (st == FC_OK)
        st = fc_read_uint(reader, "id", FC_REQUIRED, UINT64_MAX, &reply->id);
    if (st == FC_OK)
        st = fc_read_text(reader, "status", FC_REQUIRED, FC_NAME_BYTES - 1, &word);
    if (st == FC_OK && !fc_status_from_wire(word.text, word.bytes, &reply->status))
        return fc_fail(FC_BAD_REPLY, reader->reason, "status: expected a status of protocol %d, got \"%s\"",
                       FC_PROTO_VERSION, fc_scan_quote(word.text, word.bytes).text);
    if (st == FC_OK)
        st = fc_read_text(reader, "error", FC_OPTIONAL, UINT32_MAX, &reply->error);
    if (st == FC_OK)
        st = fc_read_uint(reader, "retry_after_us", FC_OPTIONAL, UINT64_MAX, &reply->retry_after_us);
    return st;
}

static fc_status read_timing(const fc_reader *reader, fc_wire_timing *timing)
{
    fc_reader map;
    uint64_t batch = 0;
    fc_status st = fc_read_map(reader, "timing", &map);
    if (st == FC_OK)
        st = fc_read_number(&map, "queue_us", &timing->queue_us);
    if (st == FC_OK)
        st = fc_read_number(&map, "copy_in_us", &timing->copy_in_us);
    if (st == FC_OK)
        st = fc_read_number(&map, "kernel_us", &timing->kernel_us);
    if (st == FC_OK)
        st = fc_read_number(&map, "copy_out_us", &timing->copy_out_us);
    if (st == FC_OK)
        st = fc_read_number(&map, "total_us", &timing->total_us);
    if (st == FC_OK)
        st = fc_read_uint(&map, "batch", FC_REQUIRED, UINT32_MAX, &batch);
    timing->batch = (uint32_t)batch;
    return st;
}

static fc_status read_attend(const fc_reader *reader, fc_wire_reply *reply)
{
    memset(&reply->attend, 0, sizeof reply->attend);
    fc_status st = fc_read_tensor(reader, "out", FC_TENSOR_RANK, &reply->attend.out);
    reply->attend.has_lse = fc_read_has(reader, "lse");
    if (st == FC_OK && reply->attend.has_lse)
        st = fc_read_tensor(reader, "lse", FC_LSE_RANK, &reply->attend.lse);
    if (st == FC_OK && reply->attend.has_lse && reply->attend.lse.dtype != FC_F32)
        return fc_fail(FC_BAD_REPLY, reader->reason, "lse.dtype: expected f32, got %s",
                       fc_dtype_name(reply->attend.lse.dtype));
    if (st == FC_OK)
        st = fc_read_text(reader, "kernel", FC_REQUIRED, FC_NAME_BYTES - 1, &reply->attend.kernel);
    if (st == FC_OK)
        st = fc_read_text(reader, "device", FC_REQUIRED, FC_DEVICE_BYTES - 1, &reply->attend.device);
    if (st == FC_OK)
        st = read_timing(reader, &reply->attend.timing);
    return st;
}

static fc_status read_limits(const fc_reader *reader, fc_wire_limits *limits)
{
    fc_reader map;
    fc_status st = fc_read_map(reader, "limits", &map);
#define READ_LIMIT(field)                                                                                              \
    if (st == FC_OK)                                                                                                   \
        st = fc_read_uint(&map, #field, FC_OPTIONAL, UINT64_MAX, &limits->field);
    FC_WIRE_LIMITS(READ_LIMIT)
    FC_WIRE_ARENA_LIMITS(READ_LIMIT)
    FC_WIRE_DEVICE_ARENA_LIMITS(READ_LIMIT)
#undef READ_LIMIT
    return st;
}

static fc_status read_hello(const fc_reader *reader, fc_wire_hello *hello)
{
    memset(hello, 0, sizeof *hello);
    fc_status st = fc_read_text(reader, "server", FC_REQUIRED, FC_DEVICE_BYTES - 1, &hello->server);
    if (st == FC_OK)
        st = fc_read_text(reader, "version", FC_REQUIRED, FC_DEVICE_BYTES - 1, &hello->version);
    if (st == FC_OK)
        st = fc_read_names(reader, "kernels", hello->kernels, &hello->kernel_count);
    if (st == FC_OK)
        st = fc_read_text(reader, "default_kernel", FC_REQUIRED, FC_NAME_BYTES - 1, &hello->default_kernel);
    if (st == FC_OK)
        st = fc_read_text(reader, "device", FC_REQUIRED, FC_DEVICE_BYTES - 1, &hello->device);
    if (st == FC_OK)
        st = read_limits(reader, &hello->limits);
    if (st == FC_OK)
        st = fc_read_names(reader, "features", hello->features, &hello->feature_count);
    if (st == FC_OK)
        st = fc_read_text(reader, "local", FC_OPTIONAL, FC_PATH_BYTES - 1, &hello->local);
    return st;
}

static fc_status read_stats(const fc_reader *reader, fc_wire_stats *stats)
{
    fc_reader map;
    stats->counter_count = 0;
    fc_status st = fc_read_map(reader, "stats", &map);
    if (st != FC_OK)
        return st;
    const fc_item *key = map.map + 1;
    for (uint32_t i = 0; i < map.map->count; i++, key = fc_scan_next(map.scan, key + 1)) {
        const fc_item *value = key + 1;
        bool is_uint = value->kind == FC_ITEM_UINT;
        if (!is_uint && value->kind != FC_ITEM_FLOAT)
            return fc_fail(FC_BAD_REPLY, reader->reason, "stats.%s: expected a number, got %s",
                           fc_scan_quote(key->bytes, key->count).text, fc_scan_kind_name(value));
        if (stats->counter_count < FC_COUNTER_MAX)
            stats->counters[stats->counter_count++] = (fc_wire_counter){
                .name = {(const char *)key->bytes, key->count},
                .value = is_uint ? (double)value->uint : value->number,
            };
    }
    return FC_OK;
}

static fc_status read_arena(const fc_reader *reader, fc_wire_reply *reply)
{
    memset(&reply->arena, 0, sizeof reply->arena);
    fc_status st = fc_read_uint(reader, "arena", FC_REQUIRED, UINT64_MAX, &reply->arena.id);
    if (st == FC_OK)
        st = fc_read_uint(reader, "bytes", FC_REQUIRED, UINT64_MAX, &reply->arena.bytes);
    reply->arena.is_device = fc_read_has(reader, "uuid");
    if (st == FC_OK && reply->arena.is_device)
        st = fc_read_bytes(reader, "uuid", FC_UUID_BYTES, reply->arena.uuid);
    return st;
}

bool fc_codec_reply_id(const void *bytes, size_t size_bytes, uint64_t *out_id)
{
    fc_scan scan;
    fc_reason reason;
    if (fc_scan_message(bytes, size_bytes, &REPLY_RULES, &scan, &reason) != FC_OK)
        return false;
    const fc_item *id = fc_scan_find(&scan, &scan.items[0], "id");
    if (id == NULL || id->kind != FC_ITEM_UINT)
        return false;
    *out_id = id->uint;
    return true;
}

fc_status fc_codec_decode_reply(const void *bytes, size_t size_bytes, fc_wire_reply *out_reply, fc_reason *out_reason)
{
    fc_scan scan;
    fc_reader reader = {&scan, &scan.items[0], "", FC_BAD_REPLY, out_reason};
    out_reply->id = 0;
    out_reply->status = FC_BAD_REPLY;
    out_reply->error = (fc_wire_text){NULL, 0};
    out_reply->retry_after_us = 0;
    out_reply->body = FC_BODY_NONE;
    fc_status st = fc_scan_message(bytes, size_bytes, &REPLY_RULES, &scan, out_reason);
    if (st == FC_OK)
        st = read_envelope(&reader, out_reply);
    if (st != FC_OK || out_reply->status != FC_OK)
        return st;
    if (fc_read_has(&reader, "out")) {
        out_reply->body = FC_BODY_ATTEND;
        return read_attend(&reader, out_reply);
    }
    if (fc_read_has(&reader, "server")) {
        out_reply->body = FC_BODY_HELLO;
        return read_hello(&reader, &out_reply->hello);
    }
    if (fc_read_has(&reader, "stats")) {
        out_reply->body = FC_BODY_STATS;
        return read_stats(&reader, &out_reply->stats);
    }
    if (fc_read_has(&reader, "arena")) {
        out_reply->body = FC_BODY_ARENA;
        return read_arena(&reader, out_reply);
    }
    return FC_OK;
}

static void write_envelope(fc_writer *writer, const fc_wire_reply *reply, uint32_t body_keys)
{
    bool has_error = reply->error.bytes > 0, has_retry = reply->retry_after_us != 0;
    fc_write_map(writer, 3 + has_error + has_retry + body_keys);
    fc_write_key_uint(writer, "proto", FC_PROTO_VERSION);
    fc_write_key_uint(writer, "id", reply->id);
    fc_write_key_text(writer, "status", fc_status_name(fc_status_on_wire(reply->status)));
    if (has_error)
        fc_write_key_bytes(writer, "error", reply->error);
    if (has_retry)
        fc_write_key_uint(writer, "retry_after_us", reply->retry_after_us);
}

static void write_attend_tail(fc_writer *writer, const fc_wire_reply *reply)
{
    const fc_wire_timing *timing = &reply->attend.timing;
    fc_write_key_bytes(writer, "kernel", reply->attend.kernel);
    fc_write_key_bytes(writer, "device", reply->attend.device);
    fc_write_key(writer, "timing");
    fc_write_map(writer, 6);
    fc_write_key_double(writer, "queue_us", timing->queue_us);
    fc_write_key_double(writer, "copy_in_us", timing->copy_in_us);
    fc_write_key_double(writer, "kernel_us", timing->kernel_us);
    fc_write_key_double(writer, "copy_out_us", timing->copy_out_us);
    fc_write_key_double(writer, "total_us", timing->total_us);
    fc_write_key_uint(writer, "batch", timing->batch);
}

static void write_names(fc_writer *writer, const char *key, const fc_wire_text *names, uint32_t count)
{
    fc_write_key(writer, key);
    fc_write_array(writer, count);
    for (uint32_t i = 0; i < count; i++)
        fc_write_text(writer, names[i]);
}

static void write_hello(fc_writer *writer, const fc_wire_hello *hello)
{
    fc_write_key_bytes(writer, "server", hello->server);
    fc_write_key_bytes(writer, "version", hello->version);
    write_names(writer, "kernels", hello->kernels, hello->kernel_count);
    fc_write_key_bytes(writer, "default_kernel", hello->default_kernel);
    fc_write_key_bytes(writer, "device", hello->device);
    fc_write_key(writer, "limits");
#define COUNT_LIMIT(field) +1
    bool has_arenas = hello->limits.arena_bytes != 0, has_device_arenas = hello->limits.device_arena_bytes != 0;
    fc_write_map(writer, 0 FC_WIRE_LIMITS(COUNT_LIMIT) + (has_arenas ? 0 FC_WIRE_ARENA_LIMITS(COUNT_LIMIT) : 0) +
                             (has_device_arenas ? 0 FC_WIRE_DEVICE_ARENA_LIMITS(COUNT_LIMIT) : 0));
#undef COUNT_LIMIT
#define WRITE_LIMIT(field) fc_write_key_uint(writer, #field, hello->limits.field);
    FC_WIRE_LIMITS(WRITE_LIMIT)
    if (has_arenas) {
        FC_WIRE_ARENA_LIMITS(WRITE_LIMIT)
    }
    if (has_device_arenas) {
        FC_WIRE_DEVICE_ARENA_LIMITS(WRITE_LIMIT)
    }
#undef WRITE_LIMIT
    write_names(writer, "features", hello->features, hello->feature_count);
    if (hello->local.bytes > 0)
        fc_write_key_bytes(writer, "local", hello->local);
}

static void write_stats(fc_writer *writer, const fc_wire_stats *stats)
{
    fc_write_key(writer, "stats");
    fc_write_map(writer, stats->counter_count);
    for (uint32_t i = 0; i < stats->counter_count; i++) {
        double value = stats->counters[i].value;
        fc_write_text(writer, stats->counters[i].name);
        if (value >= 0 && value <= 0x1p53 && value == floor(value))
            fc_write_uint(writer, (uint64_t)value);
        else
            fc_write_double(writer, value);
    }
}

enum { ATTEND_KEYS = 4, HELLO_KEYS = 7, STATS_KEYS = 1, ARENA_KEYS = 2 };

static void write_reply(fc_writer *writer, const fc_wire_reply *reply)
{
    switch (reply->body) {
    case FC_BODY_ATTEND:
        write_envelope(writer, reply, ATTEND_KEYS + reply->attend.has_lse);
        fc_write_tensor(writer, "out", &reply->attend.out);
        if (reply->attend.has_lse)
            fc_write_tensor(writer, "lse", &reply->attend.lse);
        write_attend_tail(writer, reply);
        return;
    case FC_BODY_HELLO:
        write_envelope(writer, reply, HELLO_KEYS + (reply->hello.local.bytes > 0));
        write_hello(writer, &reply->hello);
        return;
    case FC_BODY_STATS:
        write_envelope(writer, reply, STATS_KEYS);
        write_stats(writer, &reply->stats);
        return;
    case FC_BODY_ARENA:
        write_envelope(writer, reply, ARENA_KEYS + reply->arena.is_device);
        fc_write_key_uint(writer, "arena", reply->arena.id);
        fc_write_key_uint(writer, "bytes", reply->arena.bytes);
        if (reply->arena.is_device)
            fc_write_key_bin(writer, "uuid", reply->arena.uuid, sizeof reply->arena.uuid);
        return;
    case FC_BODY_NONE:
        write_envelope(writer, reply, 0);
        return;
    }
}

size_t fc_codec_reply_bound(const fc_wire_reply *reply)
{
    fc_writer writer = fc_writer_measuring();
    write_reply(&writer, reply);
    return fc_writer_bound(&writer);
}

fc_status fc_codec_encode_reply(const fc_wire_reply *reply, void *buffer, size_t capacity_bytes, size_t *out_size_bytes)
{
    fc_writer writer = fc_writer_over(buffer, capacity_bytes);
    write_reply(&writer, reply);
    return fc_writer_finish(&writer, out_size_bytes);
}

fc_status fc_codec_attend_reply_begin(const fc_wire_reply *reply, void *buffer, size_t capacity_bytes,
                                      fc_codec_attend_reply *out_writer)
{
    uint8_t *lse_data = NULL;
    fc_writer writer = fc_writer_over(buffer, capacity_bytes);
    write_envelope(&writer, reply, ATTEND_KEYS + reply->attend.has_lse);
    uint8_t *out_data = fc_write_tensor_space(&writer, "out", &reply->attend.out);
    if (reply->attend.has_lse)
        lse_data = fc_write_tensor_space(&writer, "lse", &reply->attend.lse);
    if (writer.status != FC_OK)
        return writer.status;
    *out_writer = (fc_codec_attend_reply){
        .buffer = buffer,
        .capacity_bytes = capacity_bytes,
        .used_bytes = writer.used_bytes,
        .out_data = out_data,
        .lse_data = lse_data,
    };
    return FC_OK;
}

fc_status fc_codec_attend_reply_end(fc_codec_attend_reply *writer, const fc_wire_reply *reply, size_t *out_size_bytes)
{
    fc_writer tail = fc_writer_over(writer->buffer, writer->capacity_bytes);
    tail.used_bytes = writer->used_bytes;
    write_attend_tail(&tail, reply);
    writer->used_bytes = tail.used_bytes;
    return fc_writer_finish(&tail, out_size_bytes);
}
