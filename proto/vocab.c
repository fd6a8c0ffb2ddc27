/* Names of the wire's words, expanded from vocab.def. */
#include "proto/vocab.h"

#include <string.h>

#define FC_WORD_NAME(symbol, name, note) [symbol] = name,
#define FC_WORD_BYTES(symbol, name, bytes) [symbol] = bytes,

static const char *const DTYPE_NAMES[FC_DTYPE_COUNT] = {
#define FC_DTYPE_WORD FC_WORD_NAME
#include "proto/vocab.def"
#undef FC_DTYPE_WORD
};

static const size_t DTYPE_BYTES[FC_DTYPE_COUNT] = {
#define FC_DTYPE_WORD FC_WORD_BYTES
#include "proto/vocab.def"
#undef FC_DTYPE_WORD
};

static const char *const LAYOUT_NAMES[FC_LAYOUT_COUNT] = {
#define FC_LAYOUT_WORD FC_WORD_NAME
#include "proto/vocab.def"
#undef FC_LAYOUT_WORD
};

static const char *const CAUSAL_NAMES[FC_CAUSAL_COUNT] = {
#define FC_CAUSAL_WORD FC_WORD_NAME
#include "proto/vocab.def"
#undef FC_CAUSAL_WORD
};

static const char *const OP_NAMES[FC_OP_COUNT] = {
#define FC_OP_WORD FC_WORD_NAME
#include "proto/vocab.def"
#undef FC_OP_WORD
};

static const char *word_name(const char *const *names, int count, int word)
{
    return word >= 0 && word < count ? names[word] : "unknown";
}

/* The word's number, or -1. */
static int find_word(const char *const *names, int count, const char *name, size_t name_bytes)
{
    for (int i = 0; i < count; i++) {
        if (strlen(names[i]) == name_bytes && memcmp(names[i], name, name_bytes) == 0)
            return i;
    }
    return -1;
}

const char *fc_dtype_name(fc_dtype dtype)
{
    return word_name(DTYPE_NAMES, FC_DTYPE_COUNT, (int)dtype);
}

const char *fc_layout_name(fc_layout layout)
{
    return word_name(LAYOUT_NAMES, FC_LAYOUT_COUNT, (int)layout);
}

const char *fc_causal_name(fc_causal causal)
{
    return word_name(CAUSAL_NAMES, FC_CAUSAL_COUNT, (int)causal);
}

const char *fc_op_name(fc_op op)
{
    return word_name(OP_NAMES, FC_OP_COUNT, (int)op);
}

bool fc_dtype_from_name(const char *name, size_t name_bytes, fc_dtype *out_dtype)
{
    int word = find_word(DTYPE_NAMES, FC_DTYPE_COUNT, name, name_bytes);
    if (word >= 0)
        *out_dtype = (fc_dtype)word;
    return word >= 0;
}

bool fc_layout_from_name(const char *name, size_t name_bytes, fc_layout *out_layout)
{
    int word = find_word(LAYOUT_NAMES, FC_LAYOUT_COUNT, name, name_bytes);
    if (word >= 0)
        *out_layout = (fc_layout)word;
    return word >= 0;
}

bool fc_causal_from_name(const char *name, size_t name_bytes, fc_causal *out_causal)
{
    int word = find_word(CAUSAL_NAMES, FC_CAUSAL_COUNT, name, name_bytes);
    if (word >= 0)
        *out_causal = (fc_causal)word;
    return word >= 0;
}

bool fc_op_from_name(const char *name, size_t name_bytes, fc_op *out_op)
{
    int word = find_word(OP_NAMES, FC_OP_COUNT, name, name_bytes);
    if (word >= 0)
        *out_op = (fc_op)word;
    return word >= 0;
}

size_t fc_dtype_bytes(fc_dtype dtype)
{
    return (unsigned)dtype < FC_DTYPE_COUNT ? DTYPE_BYTES[dtype] : 0;
}
