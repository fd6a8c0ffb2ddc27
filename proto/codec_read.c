/* Scanned items to checked values. */
#include "proto/codec_read.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define WORD_NAME(symbol, name, note) name,
static const char *const DTYPES[] = {
#define FC_DTYPE_WORD WORD_NAME
#include "proto/vocab.def"
#undef FC_DTYPE_WORD
};
static const char *const LAYOUTS[] = {
#define FC_LAYOUT_WORD WORD_NAME
#include "proto/vocab.def"
#undef FC_LAYOUT_WORD
};
static const char *const CAUSALS[] = {
#define FC_CAUSAL_WORD WORD_NAME
#include "proto/vocab.def"
#undef FC_CAUSAL_WORD
};
static const char *const OPS[] = {
#define FC_OP_WORD WORD_NAME
#include "proto/vocab.def"
#undef FC_OP_WORD
};

static const char *const ARENAS[] = {
#define FC_ARENA_WORD WORD_NAME
#include "proto/vocab.def"
#undef FC_ARENA_WORD
};

const fc_word_list FC_WORDS_DTYPE = {DTYPES, FC_DTYPE_COUNT};
const fc_word_list FC_WORDS_LAYOUT = {LAYOUTS, FC_LAYOUT_COUNT};
const fc_word_list FC_WORDS_CAUSAL = {CAUSALS, FC_CAUSAL_COUNT};
const fc_word_list FC_WORDS_OP = {OPS, FC_OP_COUNT};
const fc_word_list FC_WORDS_ARENA = {ARENAS, FC_ARENA_KIND_COUNT};

static fc_status fail_expected(const fc_reader *reader, const char *key, const char *expected, const char *got)
{
    return fc_fail(reader->failure, reader->reason, "%s%s%s: expected %s, got %s", reader->path,
                   reader->path[0] != '\0' ? "." : "", key, expected, got);
}

/* What a reason says of a value: the value itself where it is short, else its kind. */
static const char *describe(const fc_item *item, char *out, size_t out_bytes)
{
    switch (item->kind) {
    case FC_ITEM_UINT:
        snprintf(out, out_bytes, "%" PRIu64, item->uint);
        return out;
    case FC_ITEM_NEGATIVE:
        snprintf(out, out_bytes, "%" PRId64, item->negative);
        return out;
    case FC_ITEM_FLOAT:
        snprintf(out, out_bytes, "the float %g", item->number);
        return out;
    case FC_ITEM_TEXT:
        snprintf(out, out_bytes, "\"%s\"", fc_scan_quote(item->bytes, item->count).text);
        return out;
    default:
        return fc_scan_kind_name(item);
    }
}

static fc_status fail_item(const fc_reader *reader, const char *key, const char *expected, const fc_item *got)
{
    char text[64];
    return fail_expected(reader, key, expected, got != NULL ? describe(got, text, sizeof text) : "nothing");
}

bool fc_read_has(const fc_reader *reader, const char *key)
{
    return fc_scan_find(reader->scan, reader->map, key) != NULL;
}

fc_status fc_read_uint(const fc_reader *reader, const char *key, fc_need need, uint64_t max, uint64_t *out)
{
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    if (item == NULL && need == FC_OPTIONAL)
        return FC_OK;
    if (item == NULL || item->kind != FC_ITEM_UINT || item->uint > max) {
        char expected[48] = "a uint";
        if (max != UINT64_MAX)
            snprintf(expected, sizeof expected, "a uint up to %" PRIu64, max);
        return fail_item(reader, key, expected, item);
    }
    *out = item->uint;
    return FC_OK;
}

fc_status fc_read_bool(const fc_reader *reader, const char *key, fc_need need, bool *out)
{
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    if (item == NULL && need == FC_OPTIONAL)
        return FC_OK;
    if (item == NULL || item->kind != FC_ITEM_BOOL)
        return fail_item(reader, key, "a bool", item);
    *out = item->flag;
    return FC_OK;
}

static bool item_number(const fc_item *item, double *out)
{
    if (item->kind == FC_ITEM_UINT)
        *out = (double)item->uint;
    else if (item->kind == FC_ITEM_FLOAT && isfinite(item->number) && item->number >= 0)
        *out = item->number;
    else
        return false;
    return true;
}

fc_status fc_read_number(const fc_reader *reader, const char *key, double *out)
{
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    if (item == NULL || !item_number(item, out))
        return fail_item(reader, key, "a finite number >= 0", item);
    return FC_OK;
}

fc_status fc_read_float(const fc_reader *reader, const char *key, bool *out_has, float *out)
{
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    double number = 0;
    *out_has = item != NULL;
    if (item == NULL)
        return FC_OK;
    /* 0x1.ffffffp127 and above round to infinity. */
    if (!item_number(item, &number) || number >= 0x1.ffffffp127)
        return fail_item(reader, key, "a finite number >= 0 that a float32 holds", item);
    *out = (float)number;
    return FC_OK;
}

fc_status fc_read_text(const fc_reader *reader, const char *key, fc_need need, size_t max_bytes, fc_wire_text *out)
{
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    if (item == NULL && need == FC_OPTIONAL)
        return FC_OK;
    if (item == NULL || item->kind != FC_ITEM_TEXT || item->count == 0 || item->count > max_bytes) {
        char expected[48];
        snprintf(expected, sizeof expected, "text of 1 to %zu bytes", max_bytes);
        return fail_item(reader, key, expected, item);
    }
    *out = (fc_wire_text){(const char *)item->bytes, item->count};
    return FC_OK;
}

fc_status fc_read_bytes(const fc_reader *reader, const char *key, size_t size_bytes, uint8_t *out)
{
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    if (item == NULL || item->kind != FC_ITEM_BIN || item->count != size_bytes) {
        char expected[48];
        snprintf(expected, sizeof expected, "bin of %zu bytes", size_bytes);
        return fail_item(reader, key, expected, item);
    }
    memcpy(out, item->bytes, size_bytes);
    return FC_OK;
}

/* "f16, bf16 or f32" */
static void join_words(const fc_word_list *words, char *out, size_t out_bytes)
{
    size_t used = 0;
    for (int i = 0; i < words->count && used < out_bytes; i++) {
        const char *gap = i == 0 ? "" : i + 1 == words->count ? " or " : ", ";
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", gap, words->names[i]);
    }
}

fc_status fc_read_word(const fc_reader *reader, const char *key, fc_need need, const fc_word_list *words, int *out)
{
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    if (item == NULL && need == FC_OPTIONAL)
        return FC_OK;
    for (int i = 0; item != NULL && i < words->count; i++) {
        if (fc_scan_text_is(item, words->names[i])) {
            *out = i;
            return FC_OK;
        }
    }
    char expected[160];
    join_words(words, expected, sizeof expected);
    return fail_item(reader, key, expected, item);
}

static bool window_side(const fc_item *item, int64_t *out)
{
    if (item->kind == FC_ITEM_UINT && item->uint <= INT32_MAX)
        *out = (int64_t)item->uint;
    else if (item->kind == FC_ITEM_NEGATIVE && item->negative == -1)
        *out = -1;
    else
        return false;
    return true;
}

fc_status fc_read_window(const fc_reader *reader, const char *key, int64_t *out_left, int64_t *out_right)
{
    static const char EXPECTED[] = "[left, right], each -1 (open) or 0 to 2147483647";
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    if (item == NULL)
        return FC_OK;
    if (item->kind != FC_ITEM_ARRAY || item->count != 2)
        return fail_item(reader, key, EXPECTED, item);
    const fc_item *left = item + 1, *right = fc_scan_next(reader->scan, left);
    if (!window_side(left, out_left))
        return fail_item(reader, key, EXPECTED, left);
    if (!window_side(right, out_right))
        return fail_item(reader, key, EXPECTED, right);
    return FC_OK;
}

fc_status fc_read_names(const fc_reader *reader, const char *key, fc_wire_text *out_names, uint32_t *out_count)
{
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    if (item == NULL || item->kind != FC_ITEM_ARRAY)
        return fail_item(reader, key, "an array of text", item);
    const fc_item *name = item + 1;
    *out_count = 0;
    for (uint32_t i = 0; i < item->count; i++, name = fc_scan_next(reader->scan, name)) {
        if (name->kind != FC_ITEM_TEXT)
            return fail_item(reader, key, "an array of text", name);
        if (i < FC_NAME_LIST_MAX)
            out_names[(*out_count)++] = (fc_wire_text){(const char *)name->bytes, name->count};
    }
    return FC_OK;
}

fc_status fc_read_map(const fc_reader *reader, const char *key, fc_reader *out)
{
    const fc_item *item = fc_scan_find(reader->scan, reader->map, key);
    if (item == NULL || item->kind != FC_ITEM_MAP)
        return fail_item(reader, key, "a map", item);
    *out = (fc_reader){reader->scan, item, key, reader->failure, reader->reason};
    return FC_OK;
}

bool fc_tensor_bytes(fc_dtype dtype, const uint64_t *shape, uint32_t rank, uint64_t *out_bytes)
{
    uint64_t bytes = fc_dtype_bytes(dtype);
    bool fits = true;
    for (uint32_t i = 0; i < rank; i++) {
        if (shape[i] == 0) { /* whatever the others say */
            *out_bytes = 0;
            return true;
        }
        fits = !__builtin_mul_overflow(bytes, shape[i], &bytes) && fits;
    }
    if (fits)
        *out_bytes = bytes;
    return fits;
}

/* The shape, or an entry of it, is not what it should be. */
static fc_status fail_shape(const fc_reader *tensor, uint32_t rank, const fc_item *got)
{
    char expected[64];
    snprintf(expected, sizeof expected, "%u uints below 2147483648", rank);
    return fail_item(tensor, "shape", expected, got);
}

static fc_status read_shape(const fc_reader *tensor, uint32_t rank, uint64_t *out_shape)
{
    const fc_item *shape = fc_scan_find(tensor->scan, tensor->map, "shape");
    if (shape == NULL || shape->kind != FC_ITEM_ARRAY)
        return fail_shape(tensor, rank, shape);
    if (shape->count != rank) {
        const fc_item count = {.kind = FC_ITEM_UINT, .uint = shape->count};
        return fail_shape(tensor, rank, &count);
    }
    const fc_item *entry = shape + 1;
    for (uint32_t i = 0; i < rank; i++, entry = fc_scan_next(tensor->scan, entry)) {
        if (entry->kind != FC_ITEM_UINT || entry->uint > INT32_MAX)
            return fail_shape(tensor, rank, entry);
        out_shape[i] = entry->uint;
    }
    return FC_OK;
}

static fc_status read_place_keys(const fc_reader *map, fc_wire_place *out)
{
    fc_status st = fc_read_uint(map, "arena", FC_REQUIRED, UINT64_MAX, &out->arena);
    if (st == FC_OK)
        st = fc_read_uint(map, "offset", FC_REQUIRED, UINT64_MAX, &out->offset);
    out->is_set = st == FC_OK;
    return st;
}

fc_status fc_read_place(const fc_reader *reader, const char *key, fc_wire_place *out)
{
    fc_reader map;
    if (!fc_read_has(reader, key))
        return FC_OK;
    fc_status st = fc_read_map(reader, key, &map);
    return st == FC_OK ? read_place_keys(&map, out) : st;
}

static fc_status read_data(const fc_reader *tensor, fc_wire_tensor *out)
{
    uint64_t bytes;
    if (!fc_tensor_bytes(out->dtype, out->shape, out->rank, &bytes))
        return fail_expected(tensor, "shape", "a product that 64 bits hold", "more");
    out->data = NULL;
    out->data_bytes = bytes;
    out->place = (fc_wire_place){.is_set = false};
    if (fc_read_has(tensor, "arena") || fc_read_has(tensor, "offset")) {
        if (fc_read_has(tensor, "data"))
            return fail_expected(tensor, "data", "either data or arena and offset", "both");
        return read_place_keys(tensor, &out->place);
    }
    const fc_item *data = fc_scan_find(tensor->scan, tensor->map, "data");
    if (data == NULL || data->kind != FC_ITEM_BIN)
        return fail_item(tensor, "data", "bin", data);
    if (bytes != data->count) {
        char expected[48], got[16];
        snprintf(expected, sizeof expected, "%" PRIu64 " bytes", bytes);
        snprintf(got, sizeof got, "%u", data->count);
        return fail_expected(tensor, "data", expected, got);
    }
    out->data = data->bytes;
    return FC_OK;
}

fc_status fc_read_tensor(const fc_reader *reader, const char *key, uint32_t rank, fc_wire_tensor *out)
{
    fc_reader tensor;
    int dtype = 0;
    fc_status st = fc_read_map(reader, key, &tensor);
    if (st == FC_OK)
        st = fc_read_word(&tensor, "dtype", FC_REQUIRED, &FC_WORDS_DTYPE, &dtype);
    out->dtype = (fc_dtype)dtype;
    out->rank = rank;
    if (st == FC_OK)
        st = read_shape(&tensor, rank, out->shape);
    return st == FC_OK ? read_data(&tensor, out) : st;
}
