/* Requests: decode on the server, encode on the client. */
#include "proto/codec.h"
#include "proto/codec_read.h"
#include "proto/codec_scan.h"
#include "proto/codec_write.h"

#include <string.h>

static const fc_scan_rules REQUEST_RULES = {FC_SCAN_REQUEST_ITEMS, "kv_len", FC_INVALID_ARGUMENT};

/* The sender's id, from as much as could be scanned: a refusal must find its way back. */
static uint64_t find_id(const fc_scan *scan)
{
    if (scan->item_count == 0 || scan->items[0].kind != FC_ITEM_MAP)
        return 0;
    const fc_item *id = fc_scan_find(scan, &scan->items[0], "id");
    return id != NULL && id->kind == FC_ITEM_UINT ? id->uint : 0;
}

static fc_status read_envelope(const fc_reader *reader, fc_op *out_op)
{
    uint64_t proto = 0, id;
    int op = 0;
    fc_status st = fc_read_uint(reader, "proto", FC_REQUIRED, UINT64_MAX, &proto);
    if (st == FC_OK && proto != FC_PROTO_VERSION)
        return fc_fail(FC_UNSUPPORTED, reader->reason, "proto: expected %d, got %llu", FC_PROTO_VERSION,
                       (unsigned long long)proto);
    if (st == FC_OK)
        st = fc_read_uint(reader, "id", FC_REQUIRED, UINT64_MAX, &id);
    if (st != FC_OK)
        return st;
    fc_wire_text word;
    st = fc_read_text(reader, "op", FC_REQUIRED, FC_NAME_BYTES - 1, &word);
    if (st != FC_OK)
        return st;
    /* A word this server does not know may be a newer client's: not wrong, but unsupported. */
    fc_reader newer = *reader;
    newer.failure = FC_UNSUPPORTED;
    st = fc_read_word(&newer, "op", FC_REQUIRED, &FC_WORDS_OP, &op);
    *out_op = (fc_op)op;
    return st;
}

static fc_status read_kv_len(const fc_reader *reader, fc_wire_attend *attend)
{
    const fc_item *list = fc_scan_find(reader->scan, reader->map, "kv_len");
    if (list == NULL)
        return FC_OK;
    if (list->kind != FC_ITEM_UINT_LIST)
        return fc_fail(FC_INVALID_ARGUMENT, reader->reason, "kv_len: expected an array of uints, got %s",
                       fc_scan_kind_name(list));
    if (list->count != attend->q.shape[0])
        return fc_fail(FC_INVALID_ARGUMENT, reader->reason,
                       "kv_len: expected %llu uints, one a batch entry of q, got %u",
                       (unsigned long long)attend->q.shape[0], list->count);
    attend->has_kv_len = true;
    attend->kv_len_count = list->count;
    attend->kv_len_bytes = list->bytes;
    attend->kv_len_size_bytes = list->list_bytes;
    return FC_OK;
}

static fc_status read_masks(const fc_reader *reader, fc_wire_attend *attend)
{
    int layout = FC_BHSD, causal = FC_CAUSAL_NONE;
    fc_status st = fc_read_word(reader, "layout", FC_OPTIONAL, &FC_WORDS_LAYOUT, &layout);
    if (st == FC_OK)
        st = fc_read_word(reader, "causal", FC_OPTIONAL, &FC_WORDS_CAUSAL, &causal);
    attend->layout = (fc_layout)layout;
    attend->causal = (fc_causal)causal;
    attend->window_left = attend->window_right = -1;
    if (st == FC_OK)
        st = fc_read_window(reader, "window", &attend->window_left, &attend->window_right);
    return st == FC_OK ? read_kv_len(reader, attend) : st;
}

static fc_status read_attend(const fc_reader *reader, fc_wire_attend *attend)
{
    bool has_softcap;
    fc_status st = fc_read_tensor(reader, "q", FC_TENSOR_RANK, &attend->q);
    if (st == FC_OK)
        st = fc_read_tensor(reader, "k", FC_TENSOR_RANK, &attend->k);
    if (st == FC_OK)
        st = fc_read_tensor(reader, "v", FC_TENSOR_RANK, &attend->v);
    if (st == FC_OK)
        st = read_masks(reader, attend);
    if (st == FC_OK)
        st = fc_read_float(reader, "scale", &attend->has_scale, &attend->scale);
    if (st == FC_OK)
        st = fc_read_float(reader, "softcap", &has_softcap, &attend->softcap);
    if (st == FC_OK)
        st = fc_read_text(reader, "kernel", FC_OPTIONAL, FC_NAME_BYTES - 1, &attend->kernel);
    if (st == FC_OK)
        st = fc_read_bool(reader, "lse", FC_OPTIONAL, &attend->wants_lse);
    if (st == FC_OK)
        st = fc_read_place(reader, "out_at", &attend->out_at);
    if (st == FC_OK)
        st = fc_read_place(reader, "lse_at", &attend->lse_at);
    if (st == FC_OK)
        st = fc_read_uint(reader, "deadline_us", FC_OPTIONAL, UINT64_MAX, &attend->deadline_us);
    return st;
}

static fc_status read_arena_create(const fc_reader *reader, fc_wire_request *request)
{
    int kind = FC_ARENA_HOST;
    fc_status st = fc_read_uint(reader, "bytes", FC_REQUIRED, UINT64_MAX, &request->arena_bytes);
    if (st == FC_OK)
        st = fc_read_word(reader, "kind", FC_OPTIONAL, &FC_WORDS_ARENA, &kind);
    request->arena_kind = (fc_arena_kind)kind;
    return st;
}

/* The key of an operation's one word; NULL: it has none. */
static const char *word_key(fc_op op)
{
    return op == FC_OP_LOG_LEVEL ? "level" : op == FC_OP_DEFAULT_KERNEL ? "kernel" : NULL;
}

fc_status fc_codec_decode_request(const void *bytes, size_t size_bytes, fc_wire_request *out_request,
                                  fc_reason *out_reason)
{
    fc_scan scan;
    fc_reader reader = {&scan, &scan.items[0], "", FC_INVALID_ARGUMENT, out_reason};
    memset(out_request, 0, sizeof *out_request);
    fc_status st = fc_scan_message(bytes, size_bytes, &REQUEST_RULES, &scan, out_reason);
    out_request->id = find_id(&scan);
    if (st == FC_OK)
        st = read_envelope(&reader, &out_request->op);
    if (st != FC_OK)
        return st;
    if (out_request->op == FC_OP_CANCEL)
        return fc_read_uint(&reader, "target", FC_REQUIRED, UINT64_MAX, &out_request->cancel_target);
    if (out_request->op == FC_OP_ARENA_CREATE)
        return read_arena_create(&reader, out_request);
    if (out_request->op == FC_OP_ARENA_DESTROY)
        return fc_read_uint(&reader, "arena", FC_REQUIRED, UINT64_MAX, &out_request->arena);
    if (word_key(out_request->op) != NULL)
        return fc_read_text(&reader, word_key(out_request->op), FC_REQUIRED, FC_NAME_BYTES - 1, &out_request->word);
    if (out_request->op == FC_OP_ATTEND)
        return read_attend(&reader, &out_request->attend);
    return FC_OK;
}

void fc_codec_kv_len(const fc_wire_attend *attend, uint32_t *out_kv_len)
{
    fc_scan_list_values(attend->kv_len_bytes, attend->kv_len_size_bytes, attend->kv_len_count, out_kv_len);
}

/* Optional keys are written only where they differ from their default: one request has one encoding. */
static uint32_t attend_key_count(const fc_wire_attend *attend)
{
    return 3u + (attend->layout != FC_BHSD) + (attend->causal != FC_CAUSAL_NONE) +
           (attend->window_left != -1 || attend->window_right != -1) + attend->has_scale + (attend->softcap != 0) +
           attend->has_kv_len + (attend->kernel.bytes > 0) + attend->wants_lse + attend->out_at.is_set +
           attend->lse_at.is_set + (attend->deadline_us != 0);
}

static void write_kv_len(fc_writer *writer, const fc_wire_attend *attend, const uint32_t *kv_len)
{
    fc_write_key(writer, "kv_len");
    fc_write_array(writer, attend->kv_len_count);
    for (uint32_t i = 0; i < attend->kv_len_count; i++)
        fc_write_uint(writer, kv_len != NULL ? kv_len[i] : INT32_MAX);
}

static void write_attend(fc_writer *writer, const fc_wire_attend *attend, const uint32_t *kv_len)
{
    fc_write_tensor(writer, "q", &attend->q);
    fc_write_tensor(writer, "k", &attend->k);
    fc_write_tensor(writer, "v", &attend->v);
    if (attend->layout != FC_BHSD)
        fc_write_key_text(writer, "layout", fc_layout_name(attend->layout));
    if (attend->causal != FC_CAUSAL_NONE)
        fc_write_key_text(writer, "causal", fc_causal_name(attend->causal));
    if (attend->window_left != -1 || attend->window_right != -1) {
        fc_write_key(writer, "window");
        fc_write_array(writer, 2);
        fc_write_int(writer, attend->window_left);
        fc_write_int(writer, attend->window_right);
    }
    if (attend->has_scale)
        fc_write_key_float(writer, "scale", attend->scale);
    if (attend->softcap != 0)
        fc_write_key_float(writer, "softcap", attend->softcap);
    if (attend->has_kv_len)
        write_kv_len(writer, attend, kv_len);
    if (attend->kernel.bytes > 0)
        fc_write_key_bytes(writer, "kernel", attend->kernel);
    if (attend->wants_lse)
        fc_write_key_true(writer, "lse");
    if (attend->out_at.is_set)
        fc_write_place(writer, "out_at", &attend->out_at);
    if (attend->lse_at.is_set)
        fc_write_place(writer, "lse_at", &attend->lse_at);
    if (attend->deadline_us != 0)
        fc_write_key_uint(writer, "deadline_us", attend->deadline_us);
}

static void write_request(fc_writer *writer, const fc_wire_request *request, const uint32_t *kv_len)
{
    bool is_attend = request->op == FC_OP_ATTEND, is_cancel = request->op == FC_OP_CANCEL;
    bool is_create = request->op == FC_OP_ARENA_CREATE, is_destroy = request->op == FC_OP_ARENA_DESTROY;
    bool has_kind = is_create && request->arena_kind != FC_ARENA_HOST;
    const char *word = word_key(request->op);
    fc_write_map(writer, 3 + (is_attend ? attend_key_count(&request->attend) : 0) + is_cancel + is_create + has_kind +
                             is_destroy + (word != NULL));
    fc_write_key_uint(writer, "proto", FC_PROTO_VERSION);
    fc_write_key_uint(writer, "id", request->id);
    fc_write_key_text(writer, "op", fc_op_name(request->op));
    if (is_cancel)
        fc_write_key_uint(writer, "target", request->cancel_target);
    if (is_create)
        fc_write_key_uint(writer, "bytes", request->arena_bytes);
    if (has_kind)
        fc_write_key_text(writer, "kind", fc_arena_kind_name(request->arena_kind));
    if (is_destroy)
        fc_write_key_uint(writer, "arena", request->arena);
    if (word != NULL)
        fc_write_key_bytes(writer, word, request->word);
    if (is_attend)
        write_attend(writer, &request->attend, kv_len);
}

size_t fc_codec_request_bound(const fc_wire_request *request, uint32_t kv_len_count)
{
    fc_wire_request sized = *request;
    sized.attend.has_kv_len = kv_len_count > 0 || request->attend.has_kv_len;
    sized.attend.kv_len_count = kv_len_count;
    fc_writer writer = fc_writer_measuring();
    write_request(&writer, &sized, NULL);
    return fc_writer_bound(&writer);
}

fc_status fc_codec_encode_request(const fc_wire_request *request, const uint32_t *kv_len, void *buffer,
                                  size_t capacity_bytes, size_t *out_size_bytes)
{
    fc_writer writer = fc_writer_over(buffer, capacity_bytes);
    write_request(&writer, request, kv_len);
    return fc_writer_finish(&writer, out_size_bytes);
}
