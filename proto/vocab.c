/* Names of the wire's words, expanded from vocab.def. */
#include "proto/vocab.h"

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

static const char *const ARENA_NAMES[FC_ARENA_KIND_COUNT] = {
#define FC_ARENA_WORD FC_WORD_NAME
#include "proto/vocab.def"
#undef FC_ARENA_WORD
};

static const char *word_name(const char *const *names, int count, int word)
{
    return word >= 0 && word < count ? names[word] : "unknown";
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

const char *fc_arena_kind_name(fc_arena_kind kind)
{
    return word_name(ARENA_NAMES, FC_ARENA_KIND_COUNT, (int)kind);
}

size_t fc_dtype_bytes(fc_dtype dtype)
{
    return (unsigned)dtype < FC_DTYPE_COUNT ? DTYPE_BYTES[dtype] : 0;
}
