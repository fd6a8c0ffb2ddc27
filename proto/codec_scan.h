/* The first look at a message: one pass over bytes nobody has vouched for, into a flat table of items. Internal to the
 * codec.
 *
 * It allocates nothing and reads nothing outside the message: every count and length is held against the bytes that are
 * left before it is believed, nesting and the number of items have limits, all bytes must be used, map keys are text
 * and unique within their map. What it accepts is well-formed msgpack, so the rest of the codec works on items alone.
 * Items point into the message. No state, any thread.
 */
#ifndef FC_PROTO_CODEC_SCAN_H
#define FC_PROTO_CODEC_SCAN_H

#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FC_SCAN_DEPTH_MAX 8
#define FC_SCAN_REQUEST_ITEMS 256
#define FC_SCAN_REPLY_ITEMS 768 /* a stats reply holds up to FC_COUNTER_MAX pairs */
#define FC_SCAN_LIST_MAX 65536  /* entries of the uint list */

typedef enum fc_item_kind {
    FC_ITEM_NIL,
    FC_ITEM_BOOL,
    FC_ITEM_UINT,     /* any integer encoding of a value >= 0 */
    FC_ITEM_NEGATIVE, /* any integer encoding of a value < 0 */
    FC_ITEM_FLOAT,    /* either width */
    FC_ITEM_TEXT,
    FC_ITEM_BIN,
    FC_ITEM_EXT,
    FC_ITEM_ARRAY,
    FC_ITEM_MAP,
    FC_ITEM_UINT_LIST, /* the array under fc_scan_rules.list_key: its elements are no items of their own */
    FC_ITEM_KIND_COUNT
} fc_item_kind;

/* A value or a key. Children follow their container directly: a map's first key is the next item. */
typedef struct fc_item {
    uint8_t kind;   /* fc_item_kind */
    uint16_t next;  /* the first item behind this one and all it holds; 0 while the scan is inside it */
    uint32_t count; /* bytes of text or bin, elements of an array, pairs of a map */
    union {
        bool flag;
        uint64_t uint;
        int64_t negative;
        double number;
        const uint8_t *bytes; /* text, bin, the elements of a uint list */
        uint64_t keys;        /* of a map: fc_scan_find()'s alone, bits that stand for the keys read so far */
    };
    size_t list_bytes; /* encoded size of a uint list's elements */
} fc_item;

typedef struct fc_scan_rules {
    uint32_t item_max; /* <= FC_SCAN_REPLY_ITEMS */
    const char
        *list_key;     /* top-level key whose array is checked to be uints below 2^31 and kept as one item; or NULL */
    fc_status failure; /* what to return for bytes that break a rule */
} fc_scan_rules;

typedef struct fc_scan {
    uint32_t item_count;
    fc_item items[FC_SCAN_REPLY_ITEMS];
} fc_scan;

/* Scans a whole message, which must be one map. rules->failure with a reason that names the place; out_scan then holds
 * what was read up to there, and fc_scan_find() works on it. */
fc_status fc_scan_message(const void *bytes, size_t size_bytes, const fc_scan_rules *rules, fc_scan *out_scan,
                          fc_reason *out_reason);

/* The value under key in a map; NULL: there is none. */
const fc_item *fc_scan_find(const fc_scan *scan, const fc_item *map, const char *key);

/* The item behind this one and all it holds. */
static inline const fc_item *fc_scan_next(const fc_scan *scan, const fc_item *item)
{
    return &scan->items[item->next];
}

bool fc_scan_text_is(const fc_item *item, const char *text);

/* "nil", "text", ...: how a reason calls it. Static string. */
const char *fc_scan_kind_name(const fc_item *item);

/* A peer's text made fit for a reason: cut, and what is not printable ASCII replaced by '?'. */
#define FC_SCAN_QUOTE_BYTES 40
typedef struct fc_quote {
    char text[FC_SCAN_QUOTE_BYTES];
} fc_quote;
fc_quote fc_scan_quote(const void *text, size_t bytes);

/* Reads count uints that the scan has accepted as a list. */
void fc_scan_list_values(const uint8_t *bytes, size_t size_bytes, uint32_t count, uint32_t *out_values);

#endif
