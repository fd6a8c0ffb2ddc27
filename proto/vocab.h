/* The words the wire, the kernels and the client share: element types, layouts, causal modes, operations,
 * kinds of arenas.
 *
 * Pure values: no state, any thread. fc_<list>_name() gives the wire name ("unknown" outside the enum, static string).
 */
#ifndef FC_PROTO_VOCAB_H
#define FC_PROTO_VOCAB_H

#include <stdbool.h>
#include <stddef.h>

#define FC_VOCAB_ENUM(symbol, name, note) symbol,

typedef enum fc_dtype {
#define FC_DTYPE_WORD FC_VOCAB_ENUM
#include "proto/vocab.def"
#undef FC_DTYPE_WORD
    FC_DTYPE_COUNT
} fc_dtype;

typedef enum fc_layout {
#define FC_LAYOUT_WORD FC_VOCAB_ENUM
#include "proto/vocab.def"
#undef FC_LAYOUT_WORD
    FC_LAYOUT_COUNT
} fc_layout;

typedef enum fc_causal {
#define FC_CAUSAL_WORD FC_VOCAB_ENUM
#include "proto/vocab.def"
#undef FC_CAUSAL_WORD
    FC_CAUSAL_COUNT
} fc_causal;

typedef enum fc_op {
#define FC_OP_WORD FC_VOCAB_ENUM
#include "proto/vocab.def"
#undef FC_OP_WORD
    FC_OP_COUNT
} fc_op;

typedef enum fc_arena_kind {
#define FC_ARENA_WORD FC_VOCAB_ENUM
#include "proto/vocab.def"
#undef FC_ARENA_WORD
    FC_ARENA_KIND_COUNT
} fc_arena_kind;

#undef FC_VOCAB_ENUM

const char *fc_dtype_name(fc_dtype dtype);
const char *fc_layout_name(fc_layout layout);
const char *fc_causal_name(fc_causal causal);
const char *fc_op_name(fc_op op);
const char *fc_arena_kind_name(fc_arena_kind kind);

/* Bytes of one element: 2 or 4; 0 outside the enum. */
size_t fc_dtype_bytes(fc_dtype dtype);

#endif
