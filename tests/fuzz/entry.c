/* See entry.h. */
#include "tests/fuzz/entry.h"

#include "proto/codec.h"
#include "proto/codec_scan.h"
#include "tests/fuzz/require.h"

#include <math.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

/* The message in a block of its own size, so that a read past it is seen. */
typedef struct message {
    uint8_t *bytes;
    size_t size;
} message;

static message message_of(const uint8_t *bytes, size_t size)
{
    message m = {malloc(size), size};
    REQUIRE(m.bytes != NULL || size == 0);
    if (size > 0)
        memcpy(m.bytes, bytes, size);
    return m;
}

static void require_inside(const message *m, const void *part, size_t part_bytes)
{
    const uint8_t *begin = part;
    REQUIRE(begin >= m->bytes && begin <= m->bytes + m->size);
    REQUIRE(part_bytes <= (size_t)(m->bytes + m->size - begin));
}

static void require_text(const message *m, fc_wire_text text)
{
    if (text.text != NULL)
        require_inside(m, text.text, text.bytes);
    else
        REQUIRE(text.bytes == 0);
}

static void require_tensor(const message *m, const fc_wire_tensor *tensor, uint32_t rank)
{
    uint64_t bytes = fc_dtype_bytes(tensor->dtype);
    REQUIRE(tensor->rank == rank && bytes > 0);
    for (uint32_t i = 0; i < rank; i++) {
        REQUIRE(tensor->shape[i] <= INT32_MAX);
        bytes *= tensor->shape[i]; /* may wrap, in which case data_bytes tells */
    }
    REQUIRE(tensor->data_bytes == bytes);
    if (tensor->place.is_set)
        REQUIRE(tensor->data == NULL);
    else
        require_inside(m, tensor->data, tensor->data_bytes);
}

static void require_reason(const fc_reason *reason)
{
    REQUIRE(reason->text[0] != '\0');
    REQUIRE(memchr(reason->text, '\0', sizeof reason->text) != NULL);
    for (const char *c = reason->text; *c != '\0'; c++)
        REQUIRE(*c >= ' ' && *c <= '~');
}

/* --- a second opinion about the bytes ----------------------------------------------------------------------------- */

static void require_same_list(const fc_item *list, const msgpack_object_array *theirs)
{
    uint32_t *values = malloc(sizeof *values * (list->count + 1));
    REQUIRE(values != NULL && list->count == theirs->size);
    fc_scan_list_values(list->bytes, list->list_bytes, list->count, values);
    for (uint32_t i = 0; i < list->count; i++)
        REQUIRE(theirs->ptr[i].type == MSGPACK_OBJECT_POSITIVE_INTEGER && theirs->ptr[i].via.u64 == values[i]);
    free(values);
}

static void require_same_value(const fc_scan *scan, const fc_item *item, const msgpack_object *theirs);

static void require_same_container(const fc_scan *scan, const fc_item *item, const msgpack_object *theirs)
{
    const fc_item *child = item + 1;
    if (item->kind == FC_ITEM_ARRAY) {
        REQUIRE(theirs->type == MSGPACK_OBJECT_ARRAY && theirs->via.array.size == item->count);
        for (uint32_t i = 0; i < item->count; i++, child = fc_scan_next(scan, child))
            require_same_value(scan, child, &theirs->via.array.ptr[i]);
        return;
    }
    REQUIRE(theirs->type == MSGPACK_OBJECT_MAP && theirs->via.map.size == item->count);
    for (uint32_t i = 0; i < item->count; i++, child = fc_scan_next(scan, child + 1)) {
        require_same_value(scan, child, &theirs->via.map.ptr[i].key);
        require_same_value(scan, child + 1, &theirs->via.map.ptr[i].val);
    }
}

static void require_same_value(const fc_scan *scan, const fc_item *item, const msgpack_object *theirs)
{
    switch ((fc_item_kind)item->kind) {
    case FC_ITEM_NIL:
        REQUIRE(theirs->type == MSGPACK_OBJECT_NIL);
        return;
    case FC_ITEM_BOOL:
        REQUIRE(theirs->type == MSGPACK_OBJECT_BOOLEAN && theirs->via.boolean == item->flag);
        return;
    case FC_ITEM_UINT:
        REQUIRE(theirs->type == MSGPACK_OBJECT_POSITIVE_INTEGER && theirs->via.u64 == item->uint);
        return;
    case FC_ITEM_NEGATIVE:
        REQUIRE(theirs->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && theirs->via.i64 == item->negative);
        return;
    case FC_ITEM_FLOAT:
        REQUIRE(theirs->type == MSGPACK_OBJECT_FLOAT32 || theirs->type == MSGPACK_OBJECT_FLOAT64);
        REQUIRE(theirs->via.f64 == item->number || (isnan(theirs->via.f64) && isnan(item->number)));
        return;
    case FC_ITEM_TEXT:
        REQUIRE(theirs->type == MSGPACK_OBJECT_STR && theirs->via.str.size == item->count);
        REQUIRE(item->count == 0 || theirs->via.str.ptr == (const char *)item->bytes);
        return;
    case FC_ITEM_BIN:
        REQUIRE(theirs->type == MSGPACK_OBJECT_BIN && theirs->via.bin.size == item->count);
        REQUIRE(item->count == 0 || theirs->via.bin.ptr == (const char *)item->bytes);
        return;
    case FC_ITEM_EXT:
        REQUIRE(theirs->type == MSGPACK_OBJECT_EXT && theirs->via.ext.size + 1 == item->count);
        return;
    case FC_ITEM_UINT_LIST:
        REQUIRE(theirs->type == MSGPACK_OBJECT_ARRAY);
        require_same_list(item, &theirs->via.array);
        return;
    case FC_ITEM_ARRAY:
    case FC_ITEM_MAP:
        require_same_container(scan, item, theirs);
        return;
    case FC_ITEM_KIND_COUNT:
        break;
    }
    abort();
}

static void require_same_as_msgpack(const message *m, const fc_scan_rules *rules)
{
    static fc_scan scan;
    msgpack_object object;
    msgpack_zone zone;
    size_t used = 0;
    if (fc_scan_message(m->bytes, m->size, rules, &scan, NULL) != FC_OK)
        return;
    REQUIRE(msgpack_zone_init(&zone, 8192));
    msgpack_unpack_return rc = msgpack_unpack((const char *)m->bytes, m->size, &used, &zone, &object);
    REQUIRE(rc == MSGPACK_UNPACK_SUCCESS && used == m->size);
    require_same_value(&scan, &scan.items[0], &object);
    msgpack_zone_destroy(&zone);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void require_attend(const message *m, const fc_wire_attend *attend)
{
    require_tensor(m, &attend->q, FC_TENSOR_RANK);
    require_tensor(m, &attend->k, FC_TENSOR_RANK);
    require_tensor(m, &attend->v, FC_TENSOR_RANK);
    require_text(m, attend->kernel);
    REQUIRE((unsigned)attend->layout < FC_LAYOUT_COUNT && (unsigned)attend->causal < FC_CAUSAL_COUNT);
    REQUIRE(attend->window_left >= -1 && attend->window_right >= -1);
    REQUIRE(isfinite(attend->scale) && attend->scale >= 0 && isfinite(attend->softcap) && attend->softcap >= 0);
    if (attend->has_kv_len) {
        require_inside(m, attend->kv_len_bytes, attend->kv_len_size_bytes);
        REQUIRE(attend->kv_len_count <= FC_SCAN_LIST_MAX && attend->kv_len_count == attend->q.shape[0]);
    }
}

static message encode_request(const fc_wire_request *request)
{
    uint32_t *kv_len = malloc(sizeof *kv_len * (request->attend.kv_len_count + 1));
    size_t bound = fc_codec_request_bound(request, request->attend.kv_len_count);
    message m = {malloc(bound), 0};
    REQUIRE(kv_len != NULL && m.bytes != NULL);
    fc_codec_kv_len(&request->attend, kv_len);
    REQUIRE(fc_codec_encode_request(request, kv_len, m.bytes, bound, &m.size) == FC_OK);
    REQUIRE(m.size <= bound && bound <= m.size + 512 + 9 * request->attend.kv_len_count);
    free(kv_len);
    return m;
}

void fc_fuzz_request(const uint8_t *bytes, size_t size)
{
    static const fc_scan_rules RULES = {FC_SCAN_REQUEST_ITEMS, "kv_len", FC_INVALID_ARGUMENT};
    message m = message_of(bytes, size);
    fc_wire_request request, again;
    fc_reason reason = {""};
    require_same_as_msgpack(&m, &RULES);
    fc_status st = fc_codec_decode_request(m.bytes, m.size, &request, &reason);
    if (st == FC_OK) {
        if (request.op == FC_OP_ATTEND)
            require_attend(&m, &request.attend);
        message first = encode_request(&request);
        REQUIRE(fc_codec_decode_request(first.bytes, first.size, &again, &reason) == FC_OK);
        message second = encode_request(&again);
        REQUIRE(first.size == second.size && memcmp(first.bytes, second.bytes, first.size) == 0);
        free(first.bytes);
        free(second.bytes);
    } else {
        REQUIRE(st == FC_INVALID_ARGUMENT || st == FC_UNSUPPORTED);
        require_reason(&reason);
    }
    free(m.bytes);
}

/* --- replies ------------------------------------------------------------------------------------------------------ */

static void require_hello(const message *m, const fc_wire_hello *hello)
{
    REQUIRE(hello->kernel_count <= FC_NAME_LIST_MAX && hello->feature_count <= FC_NAME_LIST_MAX);
    for (uint32_t i = 0; i < hello->kernel_count; i++)
        require_text(m, hello->kernels[i]);
    for (uint32_t i = 0; i < hello->feature_count; i++)
        require_text(m, hello->features[i]);
    require_text(m, hello->server);
    require_text(m, hello->version);
    require_text(m, hello->default_kernel);
    require_text(m, hello->device);
}

static void require_body(const message *m, const fc_wire_reply *reply)
{
    require_text(m, reply->error);
    REQUIRE(reply->body == FC_BODY_NONE || reply->status == FC_OK);
    if (reply->body == FC_BODY_ATTEND) {
        require_tensor(m, &reply->attend.out, FC_TENSOR_RANK);
        if (reply->attend.has_lse)
            require_tensor(m, &reply->attend.lse, FC_LSE_RANK);
        require_text(m, reply->attend.kernel);
        require_text(m, reply->attend.device);
    } else if (reply->body == FC_BODY_HELLO) {
        require_hello(m, &reply->hello);
    } else if (reply->body == FC_BODY_STATS) {
        REQUIRE(reply->stats.counter_count <= FC_COUNTER_MAX);
        for (uint32_t i = 0; i < reply->stats.counter_count; i++)
            require_text(m, reply->stats.counters[i].name);
    }
}

static message encode_reply(const fc_wire_reply *reply)
{
    size_t bound = fc_codec_reply_bound(reply);
    message m = {malloc(bound), 0};
    REQUIRE(m.bytes != NULL);
    REQUIRE(fc_codec_encode_reply(reply, m.bytes, bound, &m.size) == FC_OK);
    REQUIRE(m.size <= bound && bound <= m.size + 512);
    return m;
}

/* The same reply written in two steps has the same bytes. */
static void require_same_in_steps(const fc_wire_reply *reply, const message *whole)
{
    fc_codec_attend_reply writer;
    message steps = {malloc(whole->size), 0};
    REQUIRE(steps.bytes != NULL);
    REQUIRE(fc_codec_attend_reply_begin(reply, steps.bytes, whole->size, &writer) == FC_OK);
    memcpy(writer.out_data, reply->attend.out.data, reply->attend.out.data_bytes);
    if (reply->attend.has_lse)
        memcpy(writer.lse_data, reply->attend.lse.data, reply->attend.lse.data_bytes);
    REQUIRE(fc_codec_attend_reply_end(&writer, reply, &steps.size) == FC_OK);
    REQUIRE(steps.size == whole->size && memcmp(steps.bytes, whole->bytes, whole->size) == 0);
    free(steps.bytes);
}

void fc_fuzz_reply(const uint8_t *bytes, size_t size)
{
    static const fc_scan_rules RULES = {FC_SCAN_REPLY_ITEMS, NULL, FC_BAD_REPLY};
    static fc_wire_reply reply, again;
    message m = message_of(bytes, size);
    fc_reason reason = {""};
    require_same_as_msgpack(&m, &RULES);
    fc_status st = fc_codec_decode_reply(m.bytes, m.size, &reply, &reason);
    if (st == FC_OK) {
        require_body(&m, &reply);
        message first = encode_reply(&reply);
        if (reply.body == FC_BODY_ATTEND && reply.error.bytes == 0 && reply.retry_after_us == 0)
            require_same_in_steps(&reply, &first);
        REQUIRE(fc_codec_decode_reply(first.bytes, first.size, &again, &reason) == FC_OK);
        message second = encode_reply(&again);
        REQUIRE(first.size == second.size && memcmp(first.bytes, second.bytes, first.size) == 0);
        free(first.bytes);
        free(second.bytes);
    } else {
        REQUIRE(st == FC_BAD_REPLY);
        require_reason(&reason);
    }
    free(m.bytes);
}
