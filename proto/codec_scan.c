/* Bytes to items: the only code that reads a message's raw bytes. See codec_scan.h for what it promises. */
#include "proto/codec_scan.h"

#include <stdio.h>
#include <string.h>

/* Tags 0xc0 to 0xdf: what they start and how many bytes of length or value follow, big-endian. */
typedef struct tag_row {
    uint8_t kind, operand_bytes, fixed_bytes;
} tag_row;

#define TAG_NEVER_USED FC_ITEM_KIND_COUNT

static const tag_row TAGS[32] = {
    [0x00] = {FC_ITEM_NIL, 0, 0},      [0x01] = {TAG_NEVER_USED, 0, 0},   [0x02] = {FC_ITEM_BOOL, 0, 0},
    [0x03] = {FC_ITEM_BOOL, 0, 0},     [0x04] = {FC_ITEM_BIN, 1, 0},      [0x05] = {FC_ITEM_BIN, 2, 0},
    [0x06] = {FC_ITEM_BIN, 4, 0},      [0x07] = {FC_ITEM_EXT, 1, 0},      [0x08] = {FC_ITEM_EXT, 2, 0},
    [0x09] = {FC_ITEM_EXT, 4, 0},      [0x0a] = {FC_ITEM_FLOAT, 4, 0},    [0x0b] = {FC_ITEM_FLOAT, 8, 0},
    [0x0c] = {FC_ITEM_UINT, 1, 0},     [0x0d] = {FC_ITEM_UINT, 2, 0},     [0x0e] = {FC_ITEM_UINT, 4, 0},
    [0x0f] = {FC_ITEM_UINT, 8, 0},     [0x10] = {FC_ITEM_NEGATIVE, 1, 0}, [0x11] = {FC_ITEM_NEGATIVE, 2, 0},
    [0x12] = {FC_ITEM_NEGATIVE, 4, 0}, [0x13] = {FC_ITEM_NEGATIVE, 8, 0}, [0x14] = {FC_ITEM_EXT, 0, 1},
    [0x15] = {FC_ITEM_EXT, 0, 2},      [0x16] = {FC_ITEM_EXT, 0, 4},      [0x17] = {FC_ITEM_EXT, 0, 8},
    [0x18] = {FC_ITEM_EXT, 0, 16},     [0x19] = {FC_ITEM_TEXT, 1, 0},     [0x1a] = {FC_ITEM_TEXT, 2, 0},
    [0x1b] = {FC_ITEM_TEXT, 4, 0},     [0x1c] = {FC_ITEM_ARRAY, 2, 0},    [0x1d] = {FC_ITEM_ARRAY, 4, 0},
    [0x1e] = {FC_ITEM_MAP, 2, 0},      [0x1f] = {FC_ITEM_MAP, 4, 0},
};

/* A container being read. */
typedef struct frame {
    uint32_t item;
    uint32_t key;  /* of a map: the key whose value is being read; 0: a key is being read */
    uint64_t left; /* items still to come, a pair of a map being two */
} frame;

typedef struct scanner {
    const uint8_t *at, *end;
    const fc_scan_rules *rules;
    fc_scan *scan;
    fc_reason *reason;
    uint32_t depth;
    frame frames[FC_SCAN_DEPTH_MAX];
} scanner;

fc_quote fc_scan_quote(const void *text, size_t bytes)
{
    fc_quote quote;
    size_t length = bytes < sizeof quote.text - 1 ? bytes : sizeof quote.text - 1;
    for (size_t i = 0; i < length; i++) {
        char c = ((const char *)text)[i];
        quote.text[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    quote.text[length] = '\0';
    return quote;
}

const char *fc_scan_kind_name(const fc_item *item)
{
    static const char *const NAMES[FC_ITEM_KIND_COUNT] = {
        [FC_ITEM_NIL] = "nil",
        [FC_ITEM_BOOL] = "a bool",
        [FC_ITEM_UINT] = "a uint",
        [FC_ITEM_FLOAT] = "a float",
        [FC_ITEM_TEXT] = "text",
        [FC_ITEM_NEGATIVE] = "a negative int",
        [FC_ITEM_BIN] = "bin",
        [FC_ITEM_EXT] = "ext",
        [FC_ITEM_ARRAY] = "an array",
        [FC_ITEM_MAP] = "a map",
        [FC_ITEM_UINT_LIST] = "an array",
    };
    return NAMES[item->kind];
}

static bool is_text(const fc_item *item, const char *text, size_t bytes)
{
    return item->kind == FC_ITEM_TEXT && item->count == bytes && memcmp(item->bytes, text, bytes) == 0;
}

bool fc_scan_text_is(const fc_item *item, const char *text)
{
    return is_text(item, text, strlen(text));
}

/* One of 64 bits that stands for a key. Keys may share one: it tells that a map has not got a key, never that it has.
 * The factors part the protocol's own keys; whatever others a peer sends only cost the search that follows. */
static uint64_t key_bit(const void *key, size_t bytes)
{
    const uint8_t *text = key;
    return bytes == 0 ? 1 : 1ull << ((text[0] + 3u * text[bytes - 1] + 2u * bytes) % 64);
}

const fc_item *fc_scan_find(const fc_scan *scan, const fc_item *map, const char *key)
{
    uint32_t at = (uint32_t)(map - scan->items) + 1;
    size_t key_bytes = strlen(key);
    if ((map->keys & key_bit(key, key_bytes)) == 0)
        return NULL;
    for (uint32_t pair = 0; pair < map->count && at + 1 < scan->item_count; pair++) {
        const fc_item *value = &scan->items[at + 1];
        if (is_text(&scan->items[at], key, key_bytes))
            return value;
        if (value->next == 0) /* the scan broke off inside it */
            return NULL;
        at = value->next;
    }
    return NULL;
}

/* Writes where the scan is, "q.shape[2]", or "message" at the top. */
static void describe_place(const scanner *s, char *out, size_t out_bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < s->depth && used < out_bytes; i++) {
        const frame *f = &s->frames[i];
        const fc_item *container = &s->scan->items[f->item];
        if (container->kind == FC_ITEM_ARRAY) {
            used += (size_t)snprintf(out + used, out_bytes - used, "[%llu]",
                                     (unsigned long long)(container->count - f->left - 1));
        } else if (f->key != 0) {
            const fc_item *key = &s->scan->items[f->key];
            fc_quote quote = fc_scan_quote(key->bytes, key->count);
            used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", used > 0 ? "." : "", quote.text);
        }
    }
    if (used == 0)
        snprintf(out, out_bytes, "message");
}

/* The failure every broken rule ends in. */
static fc_status refuse(const scanner *s, const char *what)
{
    char place[120];
    describe_place(s, place, sizeof place);
    return fc_fail(s->rules->failure, s->reason, "%s: %s", place, what);
}

static size_t bytes_left(const scanner *s)
{
    return (size_t)(s->end - s->at);
}

static uint64_t read_big_endian(const uint8_t *bytes, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

static void set_integer(fc_item *item, uint64_t value, unsigned value_bytes)
{
    unsigned shift = 64 - 8 * value_bytes;
    int64_t number = (int64_t)(value << shift) >> shift;
    if (number >= 0) {
        item->kind = FC_ITEM_UINT;
        item->uint = (uint64_t)number;
    } else {
        item->negative = number;
    }
}

static void set_float(fc_item *item, uint64_t bits, unsigned value_bytes)
{
    if (value_bytes == sizeof(float)) {
        uint32_t narrow_bits = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &narrow_bits, sizeof narrow);
        item->number = narrow;
    } else {
        memcpy(&item->number, &bits, sizeof item->number);
    }
}

/* Takes the bytes of a text, bin or ext. */
static fc_status take_payload(scanner *s, fc_item *item, uint64_t length)
{
    if (length > bytes_left(s)) {
        char what[96];
        snprintf(what, sizeof what, "claims %llu bytes, %zu are left", (unsigned long long)length, bytes_left(s));
        return refuse(s, what);
    }
    item->count = (uint32_t)length;
    item->bytes = s->at;
    s->at += length;
    return FC_OK;
}

/* A container's elements need a byte each at least, so a count the message cannot hold is refused here. */
static fc_status take_count(scanner *s, fc_item *item, uint64_t count)
{
    uint64_t children = item->kind == FC_ITEM_MAP ? 2 * count : count;
    if (children > bytes_left(s)) {
        char what[96];
        snprintf(what, sizeof what, "claims %llu entries, %zu bytes are left", (unsigned long long)count,
                 bytes_left(s));
        return refuse(s, what);
    }
    item->count = (uint32_t)count;
    item->keys = 0;
    return FC_OK;
}

/* Tags that hold their value or length themselves: 0x00-0xbf and 0xe0-0xff. */
static fc_status read_small(scanner *s, uint8_t tag, fc_item *item)
{
    if (tag <= 0x7f || tag >= 0xe0) {
        item->kind = FC_ITEM_NEGATIVE;
        set_integer(item, tag, 1);
        return FC_OK;
    }
    if (tag >= 0xa0) {
        item->kind = FC_ITEM_TEXT;
        return take_payload(s, item, tag & 0x1fu);
    }
    item->kind = tag <= 0x8f ? FC_ITEM_MAP : FC_ITEM_ARRAY;
    return take_count(s, item, tag & 0x0fu);
}

/* Reads one tag and what belongs to it, a container's elements excepted. */
static fc_status read_item(scanner *s, fc_item *item)
{
    if (s->at == s->end)
        return refuse(s, "the message ends where a value should begin");
    uint8_t tag = *s->at++;
    *item = (fc_item){0};
    if (tag < 0xc0 || tag >= 0xe0)
        return read_small(s, tag, item);
    const tag_row *row = &TAGS[tag - 0xc0];
    if (row->kind == TAG_NEVER_USED)
        return refuse(s, "byte 0xc1 starts no msgpack value");
    if (row->operand_bytes > bytes_left(s))
        return refuse(s, "the message ends inside a value");
    uint64_t operand = read_big_endian(s->at, row->operand_bytes);
    s->at += row->operand_bytes;
    item->kind = row->kind;
    switch (row->kind) {
    case FC_ITEM_BOOL:
        item->flag = tag == 0xc3;
        return FC_OK;
    case FC_ITEM_UINT:
        item->uint = operand;
        return FC_OK;
    case FC_ITEM_NEGATIVE:
        set_integer(item, operand, row->operand_bytes);
        return FC_OK;
    case FC_ITEM_FLOAT:
        set_float(item, operand, row->operand_bytes);
        return FC_OK;
    case FC_ITEM_TEXT:
    case FC_ITEM_BIN:
        return take_payload(s, item, operand);
    case FC_ITEM_EXT: /* one more byte: the application's type */
        return take_payload(s, item, operand + row->fixed_bytes + 1);
    case FC_ITEM_ARRAY:
    case FC_ITEM_MAP:
        return take_count(s, item, operand);
    default:
        return FC_OK;
    }
}

static fc_status check_key(const scanner *s, const fc_item *key)
{
    if (key->kind != FC_ITEM_TEXT)
        return refuse(s, "map keys must be text");
    fc_item *map = &s->scan->items[s->frames[s->depth - 1].item];
    uint64_t bit = key_bit(key->bytes, key->count);
    bool is_new = (map->keys & bit) == 0;
    map->keys |= bit;
    if (is_new)
        return FC_OK;
    for (const fc_item *other = map + 1; other < key; other = fc_scan_next(s->scan, other + 1)) {
        if (other->count == key->count && memcmp(other->bytes, key->bytes, key->count) == 0) {
            char what[80];
            snprintf(what, sizeof what, "key \"%s\" appears twice", fc_scan_quote(key->bytes, key->count).text);
            return refuse(s, what);
        }
    }
    return FC_OK;
}

/* The array under list_key: uints below 2^31, counted apart from the items. */
static fc_status scan_uint_list(scanner *s, fc_item *list)
{
    char what[80];
    if (list->count > FC_SCAN_LIST_MAX) {
        snprintf(what, sizeof what, "expected at most %d entries, got %u", FC_SCAN_LIST_MAX, list->count);
        return refuse(s, what);
    }
    list->bytes = s->at;
    for (uint32_t i = 0; i < list->count; i++) {
        fc_item entry;
        fc_status st = read_item(s, &entry);
        if (st != FC_OK)
            return st;
        if (entry.kind != FC_ITEM_UINT || entry.uint > INT32_MAX) {
            snprintf(what, sizeof what, "expected uints below 2147483648, entry %u is %s", i,
                     entry.kind == FC_ITEM_UINT ? "larger" : fc_scan_kind_name(&entry));
            return refuse(s, what);
        }
    }
    list->kind = FC_ITEM_UINT_LIST;
    list->list_bytes = (size_t)(s->at - list->bytes);
    return FC_OK;
}

static bool is_list_value(const scanner *s, const fc_item *item)
{
    return s->rules->list_key != NULL && s->depth == 1 && s->frames[0].key != 0 && item->kind == FC_ITEM_ARRAY &&
           fc_scan_text_is(&s->scan->items[s->frames[0].key], s->rules->list_key);
}

static bool is_container(const fc_item *item)
{
    return item->kind == FC_ITEM_MAP || item->kind == FC_ITEM_ARRAY;
}

/* Begins a container with elements; ends anything else, and every container whose last element it was. */
static void open_or_close(scanner *s, uint32_t index)
{
    fc_item *item = &s->scan->items[index];
    if (is_container(item) && item->count > 0) {
        uint64_t children = item->kind == FC_ITEM_MAP ? 2 * (uint64_t)item->count : item->count;
        s->frames[s->depth++] = (frame){.item = index, .left = children};
        return;
    }
    item->next = (uint16_t)s->scan->item_count;
    while (s->depth > 0 && s->frames[s->depth - 1].left == 0)
        s->scan->items[s->frames[--s->depth].item].next = (uint16_t)s->scan->item_count;
}

/* Adds one item: a key or a value. */
static fc_status scan_one(scanner *s)
{
    if (s->scan->item_count == s->rules->item_max)
        return refuse(s, "the message holds too many values");
    uint32_t index = s->scan->item_count;
    fc_item *item = &s->scan->items[index];
    frame *parent = s->depth > 0 ? &s->frames[s->depth - 1] : NULL;
    bool is_key = parent != NULL && s->scan->items[parent->item].kind == FC_ITEM_MAP && parent->left % 2 == 0;
    if (is_key)
        parent->key = 0;
    if (parent != NULL)
        parent->left--;
    fc_status st = read_item(s, item);
    if (st == FC_OK && is_key)
        st = check_key(s, item);
    if (st == FC_OK && is_list_value(s, item))
        st = scan_uint_list(s, item);
    if (st == FC_OK && is_container(item) && s->depth == FC_SCAN_DEPTH_MAX)
        st = refuse(s, "nested too deep");
    if (st != FC_OK)
        return st;
    s->scan->item_count++;
    if (is_key)
        parent->key = index;
    open_or_close(s, index);
    return FC_OK;
}

fc_status fc_scan_message(const void *bytes, size_t size_bytes, const fc_scan_rules *rules, fc_scan *out_scan,
                          fc_reason *out_reason)
{
    out_scan->item_count = 0;
    if (size_bytes == 0) /* bytes may be NULL, which has no end */
        return fc_fail(rules->failure, out_reason, "message: expected a map, got no bytes");
    scanner s = {.at = bytes, .end = (const uint8_t *)bytes + size_bytes, .rules = rules, .scan = out_scan};
    s.reason = out_reason;
    do {
        fc_status st = scan_one(&s);
        if (st != FC_OK)
            return st;
        if (out_scan->items[0].kind != FC_ITEM_MAP)
            return fc_fail(rules->failure, out_reason, "message: expected a map, got %s",
                           fc_scan_kind_name(&out_scan->items[0]));
    } while (s.depth > 0);
    if (s.at != s.end) {
        char what[64];
        snprintf(what, sizeof what, "%zu bytes follow the map", bytes_left(&s));
        return refuse(&s, what);
    }
    return FC_OK;
}

void fc_scan_list_values(const uint8_t *bytes, size_t size_bytes, uint32_t count, uint32_t *out_values)
{
    static const fc_scan_rules ANY = {.failure = FC_INTERNAL};
    if (count == 0) /* bytes may be NULL, which has no end */
        return;
    scanner s = {.at = bytes, .end = bytes + size_bytes, .rules = &ANY};
    for (uint32_t i = 0; i < count; i++) {
        fc_item entry;
        out_values[i] = read_item(&s, &entry) == FC_OK ? (uint32_t)entry.uint : 0;
    }
}
