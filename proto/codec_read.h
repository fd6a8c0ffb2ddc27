/* Scanned items to checked values: one function a type, all with the same kind of error text. Internal to the codec.
 *
 * Every function reads the value under key in the reader's map and fails with reader->failure and a reason of the form
 * "q.dtype: expected f16, bf16 or f32, got "f64"". An optional key that is absent leaves *out as it is, so that the
 * caller sets defaults beforehand. Values point into the message. No state, any thread.
 */
#ifndef FC_PROTO_CODEC_READ_H
#define FC_PROTO_CODEC_READ_H

#include "proto/codec_scan.h"
#include "proto/message.h"

typedef struct fc_reader {
    const fc_scan *scan;
    const fc_item *map;
    const char *path; /* "" or the key that led to this map */
    fc_status failure;
    fc_reason *reason;
} fc_reader;

typedef enum fc_need { FC_OPTIONAL, FC_REQUIRED } fc_need;

/* The closed word lists of the wire: names in the order of their enum. */
typedef struct fc_word_list {
    const char *const *names;
    int count;
} fc_word_list;
extern const fc_word_list FC_WORDS_DTYPE, FC_WORDS_LAYOUT, FC_WORDS_CAUSAL, FC_WORDS_OP, FC_WORDS_ARENA;

bool fc_read_has(const fc_reader *reader, const char *key);
fc_status fc_read_uint(const fc_reader *reader, const char *key, fc_need need, uint64_t max, uint64_t *out);
fc_status fc_read_bool(const fc_reader *reader, const char *key, fc_need need, bool *out);
/* A finite float >= 0, given as a float of either width or as a uint; required. */
fc_status fc_read_number(const fc_reader *reader, const char *key, double *out);
/* The like, rounded to float, which must stay finite; optional. *out_has tells whether the key was there. */
fc_status fc_read_float(const fc_reader *reader, const char *key, bool *out_has, float *out);
/* Text of 1 to max_bytes bytes. */
fc_status fc_read_text(const fc_reader *reader, const char *key, fc_need need, size_t max_bytes, fc_wire_text *out);
/* *out: the word's place in the list. */
fc_status fc_read_word(const fc_reader *reader, const char *key, fc_need need, const fc_word_list *words, int *out);
/* A bin of exactly size_bytes, copied. */
fc_status fc_read_bytes(const fc_reader *reader, const char *key, size_t size_bytes, uint8_t *out);
/* Two integers, each -1 or 0 to 2^31-1. */
fc_status fc_read_window(const fc_reader *reader, const char *key, int64_t *out_left, int64_t *out_right);
/* Up to FC_NAME_LIST_MAX texts; more are ignored. */
fc_status fc_read_names(const fc_reader *reader, const char *key, fc_wire_text *out_names, uint32_t *out_count);
/* A reader for the map under key. */
fc_status fc_read_map(const fc_reader *reader, const char *key, fc_reader *out);
/* A place in an arena; optional. */
fc_status fc_read_place(const fc_reader *reader, const char *key, fc_wire_place *out);
/* A tensor whose shape has rank entries, and whose data is as long as the shape says or lies in an arena. */
fc_status fc_read_tensor(const fc_reader *reader, const char *key, uint32_t rank, fc_wire_tensor *out);

/* The product of rank shape entries and the element size. False: 64 bits do not hold it. */
bool fc_tensor_bytes(fc_dtype dtype, const uint64_t *shape, uint32_t rank, uint64_t *out_bytes);

#endif
