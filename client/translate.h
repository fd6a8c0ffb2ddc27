/* The public structs to wire structs, and replies back into the caller's memory. A server is not trusted: nothing is
 * written that the request did not make room for. Pure functions, any thread; they allocate nothing.
 */
#ifndef FC_CLIENT_TRANSLATE_H
#define FC_CLIENT_TRANSLATE_H

#include "client/flashcore.h"
#include "proto/codec.h"

typedef struct fc_counter {
    char name[64];
    double value;
} fc_counter;

typedef struct fc_counters {
    uint32_t count;
    fc_counter rows[FC_COUNTER_MAX];
} fc_counters;

/* What an arena_create brought. */
typedef struct fc_made_arena {
    uint64_t id, bytes;
    bool is_device;
    uint8_t uuid[FC_UUID_BYTES]; /* of the device */
    int fd, lifeline_fd;         /* the receiver's to close; -1: none came */
} fc_made_arena;

/* Where an answer goes: the members that the op fills; the others are NULL. */
typedef struct fc_sink {
    void *out;             /* attend: q's bytes */
    float *lse;            /* attend: [batch, q_heads, q_tokens]; NULL: not wanted */
    flashcore_info *info;  /* hello; NULL: not wanted */
    char *side_path;       /* hello: [FC_PATH_BYTES], the local channel's socket or ""; NULL: not wanted */
    fc_counters *counters; /* stats */
    fc_made_arena *made;   /* arena_create; its descriptors are the exchange's to bring */
    /* attend, of outputs placed in an arena: where they are, to be copied from there; NULL: they are where they belong.
     */
    const uint8_t *staged_out, *staged_lse;
} fc_sink;

/* Checks what memory safety needs (the server judges the rest) and fills out_attend, which borrows from request.
 * *out_kv_len: request->kv_len, with attend->kv_len_count entries. FC_INVALID_ARGUMENT with a reason. */
fc_status fc_translate_request(const flashcore_request *request, fc_wire_attend *out_attend,
                               const uint32_t **out_kv_len, fc_sink *out_sink, fc_reason *out_reason);

/* Reads the reply to asked: on FC_OK the sink is filled. Any other status is the server's, or FC_BAD_REPLY when the
 * reply is not one to this request; result->error then says why. Fills result's error, retry_after_us, kernel, device
 * and the server's times. */
fc_status fc_translate_reply(const void *bytes, size_t size_bytes, const fc_wire_request *asked, const fc_sink *sink,
                             flashcore_result *result);

#endif
