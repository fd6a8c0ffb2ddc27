/* What a message says, decoded: plain structs that borrow from the bytes they were decoded from.
 *
 * Every pointer points into the received message (tensor data is not aligned) or into memory the encoder's caller
 * keeps alive during the call. Pure values, any thread. PROTOCOL.md is the normative text.
 */
#ifndef FC_PROTO_MESSAGE_H
#define FC_PROTO_MESSAGE_H

#include "proto/status.h"
#include "proto/vocab.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FC_PROTO_VERSION 1
#define FC_TENSOR_RANK 4
#define FC_LSE_RANK 3
#define FC_NAME_BYTES 32      /* a kernel's or feature's name, NUL included */
#define FC_DEVICE_BYTES 96    /* a device's name, NUL included */
#define FC_PATH_BYTES 108     /* a UNIX socket's path, NUL included */
#define FC_UUID_BYTES 16      /* what names a device in every process of a machine */
#define FC_ARENA_ALIGNMENT 64 /* of an offset in an arena */
#define FC_PACKET_BYTES 65536 /* longest message of the local channel, either way */
#define FC_NAME_LIST_MAX 32   /* kernels or features in a hello */

/* Text inside the message: not NUL-terminated. bytes 0 and text NULL: the key was absent. */
typedef struct fc_wire_text {
    const char *text;
    size_t bytes;
} fc_wire_text;

static inline fc_wire_text fc_wire_text_make(const char *text)
{
    return (fc_wire_text){text, strlen(text)};
}

/* A place in an arena of the connection. */
typedef struct fc_wire_place {
    bool is_set; /* false: absent */
    uint64_t arena, offset;
} fc_wire_place;

/* A contiguous little-endian tensor. The codec has checked: shape entries in [0, 2^31-1], data_bytes == product of
 * shape times element size. rank is 4 for q, k, v, out and 3 for lse. data: in the message, or NULL where the tensor
 * lies in an arena, of which the codec knows nothing. */
typedef struct fc_wire_tensor {
    fc_dtype dtype;
    uint32_t rank;
    uint64_t shape[FC_TENSOR_RANK];
    const uint8_t *data;
    size_t data_bytes;
    fc_wire_place place; /* unset: the data is in the message */
} fc_wire_tensor;

typedef struct fc_wire_attend {
    fc_wire_tensor q, k, v;
    fc_layout layout;                  /* default FC_BHSD */
    fc_causal causal;                  /* default FC_CAUSAL_NONE */
    int64_t window_left, window_right; /* default -1, -1: open */
    bool has_scale;                    /* false: 1/sqrt(head_dim) */
    float scale;
    float softcap; /* default 0: off */
    bool has_kv_len;
    uint32_t kv_len_count;       /* entries in the message's kv_len */
    const uint8_t *kv_len_bytes; /* the encoded array's elements; read with fc_codec_kv_len() */
    size_t kv_len_size_bytes;
    fc_wire_text kernel; /* absent or "auto": the server's default */
    bool wants_lse;
    fc_wire_place out_at, lse_at; /* unset: into the reply */
    uint64_t deadline_us;         /* from reception; 0: none */
} fc_wire_attend;

typedef struct fc_wire_request {
    uint64_t id;
    fc_op op;
    uint64_t cancel_target;   /* op cancel */
    uint64_t arena_bytes;     /* op arena_create: how large, */
    fc_arena_kind arena_kind; /* and where; default FC_ARENA_HOST */
    uint64_t arena;           /* op arena_destroy */
    fc_wire_text word;        /* op log_level: its `level`; op default_kernel: its `kernel` */
    fc_wire_attend attend;    /* op attend */
} fc_wire_request;

/* Microseconds. The parts lie inside total_us (reception to reply ready); batch: requests in the same launch. */
typedef struct fc_wire_timing {
    double queue_us, copy_in_us, kernel_us, copy_out_us, total_us;
    uint32_t batch;
} fc_wire_timing;

/* The limits a hello states, once; field and wire key are the same word. All uint; 0 in a decoded hello: not stated.
 * batch_entries: of one request (the engine's lane_segments). */
#define FC_WIRE_LIMITS(X)                                                                                              \
    X(message_bytes)                                                                                                   \
    X(tensor_bytes)                                                                                                    \
    X(tokens)                                                                                                          \
    X(head_dim)                                                                                                        \
    X(batch_entries)                                                                                                   \
    X(queue_requests)                                                                                                  \
    X(queue_bytes)                                                                                                     \
    X(inflight_per_peer)

/* Stated only by a server that has arenas. */
#define FC_WIRE_ARENA_LIMITS(X)                                                                                        \
    X(arena_bytes)                                                                                                     \
    X(arena_bytes_per_peer)

/* Stated only by a server that has device arenas. */
#define FC_WIRE_DEVICE_ARENA_LIMITS(X)                                                                                 \
    X(device_arena_bytes)                                                                                              \
    X(device_arena_bytes_per_peer)

typedef struct fc_wire_limits {
#define FC_WIRE_LIMIT_FIELD(field) uint64_t field;
    FC_WIRE_LIMITS(FC_WIRE_LIMIT_FIELD)
    FC_WIRE_ARENA_LIMITS(FC_WIRE_LIMIT_FIELD)
    FC_WIRE_DEVICE_ARENA_LIMITS(FC_WIRE_LIMIT_FIELD)
#undef FC_WIRE_LIMIT_FIELD
} fc_wire_limits;

typedef struct fc_wire_hello {
    fc_wire_text server, version, default_kernel, device;
    uint32_t kernel_count;
    fc_wire_text kernels[FC_NAME_LIST_MAX];
    uint32_t feature_count;
    fc_wire_text features[FC_NAME_LIST_MAX];
    fc_wire_limits limits;
    fc_wire_text local; /* path of the local channel's socket; absent: there is none */
} fc_wire_hello;

/* One number of a stats reply: a flat map of text to uint or float. */
typedef struct fc_wire_counter {
    fc_wire_text name;
    double value;
} fc_wire_counter;
#define FC_COUNTER_MAX 320

typedef struct fc_wire_stats {
    uint32_t counter_count;
    fc_wire_counter counters[FC_COUNTER_MAX];
} fc_wire_stats;

/* `body` names the member of the union that is filled; errors and pings have none. Some 8 KiB, most of it stats: where
 * time counts, fill in the head and the member in use, not the whole. */
typedef struct fc_wire_reply {
    uint64_t id;
    fc_status status;
    fc_wire_text error;
    uint64_t retry_after_us; /* with busy; 0: absent */
    enum { FC_BODY_NONE, FC_BODY_HELLO, FC_BODY_ATTEND, FC_BODY_STATS, FC_BODY_ARENA } body;
    union {
        fc_wire_hello hello;
        fc_wire_stats stats;
        struct {
            uint64_t id, bytes; /* its descriptors come with the packet */
            bool is_device;
            uint8_t uuid[FC_UUID_BYTES]; /* of that device */
        } arena;
        struct {
            fc_wire_tensor out;
            bool has_lse;
            fc_wire_tensor lse;
            fc_wire_text kernel, device;
            fc_wire_timing timing;
        } attend;
    };
} fc_wire_reply;

/* A reply without a body, without clearing room for one. */
static inline void fc_wire_reply_init(fc_wire_reply *out_reply, fc_status status)
{
    memset(out_reply, 0, offsetof(fc_wire_reply, hello));
    out_reply->status = status;
}

#endif
